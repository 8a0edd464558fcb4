/**
 * `calico-node health`: asks the agent's health server (inventory §2.8) and the BGP daemon, as the DaemonSet's exec probes do. Flags are
 * upstream's, in both spellings (`--felix-ready`, `-felix-ready`). Exit code 0 when everything asked for is well, 1 with the reason otherwise.
 */
import { lookup } from "node:dns";
import http from "node:http";
import type { LookupFunction } from "node:net";
import { CalicoError, errorText } from "@calico-ts/std";
import { type BgpProbe, checkBgp } from "./bgp-probe.ts";

const PROBES = ["felix-live", "felix-ready", "bird-live", "bird-ready", "bird6-live", "bird6-ready"] as const;
export type Probe = (typeof PROBES)[number];

/** Upstream has daemons of their own for the two families; here one serves both. */
const BGP_PROBES: { readonly [name in Probe]?: BgpProbe } = {
  "bird-live": { family: 4, wants: "live" },
  "bird-ready": { family: 4, wants: "ready" },
  "bird6-live": { family: 6, wants: "live" },
  "bird6-ready": { family: 6, wants: "ready" },
};
const TIMEOUT_MS = 4000;

export interface ProbePlace {
  readonly healthHost: string;
  readonly healthPort: number;
  readonly hostRoot: string;
  readonly nodenameFile: string;
}

/** @throws CalicoError BAD_INPUT */
export function parseProbes(args: readonly string[]): Probe[] {
  const names = args.map((arg) => arg.replace(/^--?/, ""));
  for (const name of names) {
    if (!PROBES.some((probe) => probe === name)) {
      throw new CalicoError(
        "BAD_INPUT",
        `unknown probe "${name}"; known: ${PROBES.map((probe) => `--${probe}`).join(", ")}`,
      );
    }
  }
  const probes = PROBES.filter((probe) => names.includes(probe));
  if (probes.length === 0)
    throw new CalicoError("BAD_INPUT", `name at least one probe: ${PROBES.map((probe) => `--${probe}`).join(", ")}`);
  return probes;
}

/** Resolves when every probe passes. @throws CalicoError UNAVAILABLE with what the agent or the BGP daemon said */
export async function checkProbes(probes: readonly Probe[], place: ProbePlace): Promise<void> {
  const { healthHost: host, healthPort: port } = place;
  for (const probe of probes) {
    const bgp = BGP_PROBES[probe];
    if (bgp !== undefined) {
      await checkBgp(bgp, { ...place, now: Date.now() });
      continue;
    }
    const path = probe === "felix-live" ? "liveness" : "readiness";
    const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}/${path}`;
    let answer: Answer;
    try {
      answer = await ask(url);
    } catch (error) {
      throw new CalicoError("UNAVAILABLE", `${probe}: the agent does not answer at ${url} (${errorText(error)})`);
    }
    const { status, body } = answer;
    if (status < 200 || status > 299) throw new CalicoError("UNAVAILABLE", `${probe}: ${url} says ${status}: ${body}`);
  }
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** As the agent looks its name up. Node's own way for clients finds no 127.0.0.1 on a node whose interfaces have IPv6 addresses alone. */
const plainLookup: LookupFunction = (name, options, done) => lookup(name, { ...options, hints: 0 }, done);

/** Not `fetch`, which takes longer to load than this program to run. */
function ask(url: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { agent: false, signal: AbortSignal.timeout(TIMEOUT_MS), lookup: plainLookup };
    const request = http.get(url, options, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => (body += chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: body.trim() }));
    });
    request.on("error", reject);
  });
}
