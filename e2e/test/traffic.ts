/** Echo requests that never stop, from pod to pod, and what became of them. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { namespacePath, ping } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import type { Run } from "./simulator.ts";

export interface TrafficPod {
  readonly name: string;
  readonly node: string;
  readonly netns: string;
  readonly addresses: readonly string[];
}

interface PodList {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly spec: { readonly nodeName: string };
    readonly status: { readonly podIPs: readonly { readonly ip: string }[] };
  }[];
}

/** The pods of fixtures/everywhere.yaml, one on each node, by node's name. */
export async function podsEverywhere(run: Run): Promise<TrafficPod[]> {
  const { items } = JSON.parse(await run.must("-n", "traffic", "get", "pods", "-o", "json")) as PodList;
  const names = execFileSync("ip", ["-o", "netns"], { encoding: "utf8" })
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter((name) => name.startsWith(`cs-${run.name}-pod-`));
  const byAddress = new Map(
    names.flatMap((name) => {
      const addresses = execFileSync("ip", ["-n", name, "-o", "address", "show", "dev", "eth0"], { encoding: "utf8" });
      return [...addresses.matchAll(/inet6? ([0-9a-f.:]+)\/(?:32|128)/g)].map(([, address = ""]) => [address, name]);
    }),
  );
  return items
    .map(({ metadata, spec, status }) => {
      const addresses = status.podIPs.map(({ ip }) => ip);
      const netns = byAddress.get(addresses[0] ?? "") ?? "";
      return { name: metadata.name, node: spec.nodeName, netns: namespacePath(netns), addresses };
    })
    .toSorted((a, b) => (a.node < b.node ? -1 : 1));
}

/** A request is sent once, so patience finds no packet that was lost; it is for a machine that has everything else to do. */
const TIMEOUT_MS = 10_000;
const PAUSE_MS = 20;

/** From the first pod to all others and back, one request at a time for each pair and family, until it is ended. */
export class Traffic {
  readonly #life = new AbortController();
  readonly #loops: Promise<void>[] = [];
  readonly lost: string[] = [];
  sent = 0;

  constructor(pods: readonly TrafficPod[]) {
    const [first, ...others] = pods;
    for (const other of others) {
      if (first === undefined) break;
      for (const [from, to] of [
        [first, other],
        [other, first],
      ] as const) {
        for (const address of to.addresses) this.#loops.push(this.#keepAsking(from, to, address));
      }
    }
  }

  async end(): Promise<void> {
    this.#life.abort();
    await Promise.all(this.#loops);
  }

  async #keepAsking(from: TrafficPod, to: TrafficPod, address: string): Promise<void> {
    while (!this.#life.signal.aborted) {
      const at = new Date().toISOString();
      try {
        this.sent++;
        await ping({ netns: from.netns, address: parseAddress(address), timeoutMs: TIMEOUT_MS });
      } catch (error) {
        this.lost.push(`${at} ${from.node} → ${to.node} (${address}): ${String(error)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}

/** Processes of a run in a namespace, by a part of their command line. */
export function processesIn(run: Run, namespace: string, part: string): number[] {
  const pids = execFileSync("ip", ["netns", "pids", `cs-${run.name}-${namespace}`], { encoding: "utf8" });
  return pids
    .split("\n")
    .filter((pid) => pid !== "")
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").includes(part);
      } catch {
        return false; // ended meanwhile
      }
    });
}
