/**
 * What calico-node keeps true while it runs: the node's addresses (detected again every AUTODETECT_POLL_INTERVAL), its tunnel addresses
 * (whenever pools change), and the condition NetworkUnavailable=False once the agent, and BGP where it runs, are ready.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { Clock, Logger } from "@calico-ts/runtime";
import { TaskGroup } from "@calico-ts/runtime";
import { openSyncer } from "@calico-ts/sync";
import { allocateTunnelAddresses } from "./allocate-tunnel-addresses.ts";
import { writeNodeAddresses } from "./node-addresses.ts";
import { checkProbes } from "./probes.ts";
import { setNetworkAvailable } from "./network-available.ts";
import type { NodeSettings } from "./settings.ts";

export interface MonitorOptions {
  readonly client: DatastoreClient;
  readonly settings: NodeSettings;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly log: Logger;
}

export async function monitorNode(options: MonitorOptions, signal: AbortSignal): Promise<void> {
  await using tasks: TaskGroup = new TaskGroup({ parent: signal, onError: () => tasks.abort() });
  tasks.start((stop) => pollAddresses(options, stop));
  tasks.start((stop) => keepTunnelAddresses(options, stop));
  tasks.start((stop) => announceNetwork(options, stop));
  await tasks.join();
}

async function pollAddresses(options: MonitorOptions, signal: AbortSignal): Promise<void> {
  if (options.settings.ip === "none") return;
  while (!signal.aborted) {
    await options.clock.sleep(options.settings.pollIntervalMs, signal).catch(() => undefined);
    if (signal.aborted) return;
    try {
      await writeNodeAddresses(options);
    } catch (error) {
      options.log.error("node.address_check_failed", { error });
    }
  }
}

/** Every change of a pool, or of this node's labels, may change which tunnel addresses are needed. */
export async function keepTunnelAddresses(
  options: Omit<MonitorOptions, "settings">,
  signal: AbortSignal,
): Promise<void> {
  const { client, log, clock, nodeName } = options;
  const syncer = openSyncer({
    client,
    kinds: ["IPPool", { kind: "Node", fieldSelector: `metadata.name=${nodeName}` }],
    signal,
    log: log.child("sync"),
  });
  let synced = false;
  for await (const batch of syncer) {
    synced ||= batch.inSync;
    if (!synced) continue;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await allocateTunnelAddresses(options);
        break;
      } catch (error) {
        log.error("node.tunnel_addresses_failed", { error, attempt });
        await clock.sleep(Math.min(10_000, 200 * 2 ** attempt), signal).catch(() => undefined);
      }
    }
  }
}

async function announceNetwork(options: MonitorOptions, signal: AbortSignal): Promise<void> {
  const { clock, settings, log } = options;
  for (let waitMs = 100; !signal.aborted; waitMs = Math.min(waitMs * 2, 5000)) {
    try {
      await checkProbes(settings.backend === "bird" ? ["felix-ready", "bird-ready"] : ["felix-ready"], settings);
      await setNetworkAvailable(options, true);
      return;
    } catch (error) {
      log.debug("node.not_ready_yet", { error });
    }
    await clock.sleep(waitMs, signal).catch(() => undefined);
  }
}
