/**
 * START HERE. calico-node, top to bottom: make this node known in the datastore, then keep its agent running, and its BGP daemon where
 * CALICO_NETWORKING_BACKEND is `bird`.
 *
 * Start-up can be repeated at any point and converges; nothing here touches the kernel. The programs are child processes: the last rules and
 * routes stay in force when they die, and they are started again.
 */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { DatastoreClient } from "@calico-ts/datastore";
import { Ipam } from "@calico-ts/ipam";
import type { Clock, Logger } from "@calico-ts/runtime";
import { TaskGroup, withRetry } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import { removeBgpLeftovers } from "./bgp-leftovers.ts";
import { createDefaultPools } from "./create-default-pools.ts";
import { initialiseDatastore } from "./initialise.ts";
import { monitorNode } from "./monitor.ts";
import { writeNodeAddresses } from "./node-addresses.ts";
import type { NodeSettings } from "./settings.ts";
import { supervise } from "./supervisor.ts";

export interface RunNodeOptions {
  readonly client: DatastoreClient;
  readonly settings: NodeSettings;
  readonly nodeName: string;
  readonly version: string;
  readonly agentCommand: readonly [string, ...string[]];
  readonly bgpCommand: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly newGuid: () => string;
  readonly randomBytes: (count: number) => Uint8Array;
  readonly clock: Clock;
  readonly log: Logger;
}

export async function runNode(options: RunNodeOptions, signal: AbortSignal): Promise<void> {
  await startUp(options, signal);
  const { clock, log, settings } = options;
  await using tasks: TaskGroup = new TaskGroup({ parent: signal, onError: () => tasks.abort() });
  tasks.start((stop) => monitorNode(options, stop));
  const env = { ...options.env, NODENAME: options.nodeName };
  const keep = (name: string, command: readonly [string, ...string[]]): void =>
    tasks.start((stop) => supervise({ name, command, env, clock, log }, stop));
  if (!settings.disableAgent) keep("agent", options.agentCommand);
  if (settings.backend === "bird") keep("bgp", options.bgpCommand);
  else tasks.start((stop) => removeBgpLeftovers(options, stop));
  await tasks.join();
}

/** Everything that has to be there before an agent can work. */
export async function startUp(options: RunNodeOptions, signal: AbortSignal): Promise<void> {
  const { client, settings, nodeName, log, clock } = options;
  writeNodeName(options);
  const waits = (error: unknown): boolean =>
    settings.waitForDatastore &&
    // The node object is the kubelet's to create, and CRDs and roles are being applied when a cluster is made: all of these pass.
    (["UNAVAILABLE", "TIMEOUT", "NOT_FOUND", "FORBIDDEN", "UNAUTHORIZED", "CONFLICT"] as const).some((code) =>
      hasCode(error, code),
    );
  const step = async <T>(name: string, run: () => Promise<T>): Promise<T> =>
    withRetry(run, {
      clock,
      signal,
      retryable: waits,
      backoff: { firstMs: 100, maxMs: 2000 },
      onRetry: (error, delayMs) =>
        log.warning("startup.waiting", { step: name, retryInMs: Math.round(delayMs), error }),
    });

  const clusterTypes = ["k8s", ...settings.clusterType.split(","), "kdd"]
    .map((type) => type.trim())
    .filter((type) => type !== "");
  await step("initialise", () =>
    initialiseDatastore({ client, version: options.version, clusterTypes, newGuid: options.newGuid }),
  );
  const addresses = await step("addresses", () => writeNodeAddresses({ client, nodeName, settings, log }));
  await step("pools", () => createDefaultPools(options, addresses.ipv6 !== undefined));
  // Before anybody asks for this node's blocks: those of older versions are not found otherwise.
  await step("affinities", () => new Ipam({ client, clock }).upgradeHost(nodeName));
  log.info("startup.done", { node: nodeName, ipv4: addresses.ipv4 ?? "none", ipv6: addresses.ipv6 ?? "none" });
}

/** For the CNI plugin and for people: this node's name as the cluster knows it. */
function writeNodeName(options: RunNodeOptions): void {
  const path = join(options.settings.hostRoot, options.settings.nodenameFile);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.partial`, options.nodeName, { mode: 0o644 });
  renameSync(`${path}.partial`, path);
}
