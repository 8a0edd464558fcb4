/**
 * What calico-node keeps true while it runs: the node's addresses (detected again every AUTODETECT_POLL_INTERVAL), its tunnel addresses
 * (whenever pools, the node or the records of these addresses change), and the condition NetworkUnavailable=False once the agent, and BGP
 * where it runs, are ready. A Node object that was deleted and made again has nothing of this: it gets it at once.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import { handleName } from "@calico-ts/ipam";
import type { Clock, Logger } from "@calico-ts/runtime";
import { TaskGroup, withRetry } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import type { SyncKind } from "@calico-ts/sync";
import { openSyncer } from "@calico-ts/sync";
import { allocateTunnelAddresses } from "./allocate-tunnel-addresses.ts";
import { writeNodeAddresses } from "./node-addresses.ts";
import { checkProbes } from "./probes.ts";
import { setNetworkAvailable } from "./network-available.ts";
import type { NodeSettings } from "./settings.ts";
import { TUNNELS } from "./tunnel-addresses.ts";

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
  tasks.start((stop) => keepNodeObject(options, stop));
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

/** What the Node object says of this node, now and for each object that takes the place of the one before. */
export async function keepNodeObject(options: MonitorOptions, signal: AbortSignal): Promise<void> {
  const { client, clock, log, nodeName } = options;
  const kinds = [{ kind: "Node", fieldSelector: `metadata.name=${nodeName}` }] as const;
  await using tasks: TaskGroup = new TaskGroup({ parent: signal, onError: () => tasks.abort() });
  let known: string | undefined;
  let announcing = new AbortController();
  for await (const { updates } of openSyncer({ client, kinds, signal, log: log.child("sync") })) {
    const uid = updates.findLast((update) => update.resource !== undefined)?.resource?.metadata.uid;
    if (uid === undefined || uid === known) continue;
    if (known !== undefined) {
      log.warning("node.made_again", { node: nodeName, uid });
      await withRetry(() => writeNodeAddresses(options), {
        clock,
        signal,
        // It may be gone again: then there will be another one.
        retryable: (error) => !hasCode(error, "NOT_FOUND"),
        onRetry: (error) => log.error("node.address_check_failed", { error }),
      }).catch(() => undefined);
    }
    known = uid;
    announcing.abort();
    announcing = new AbortController();
    const { signal: superseded } = announcing;
    tasks.start((stop) => announceNetwork(options, AbortSignal.any([stop, superseded])));
  }
}

/** Every change of a pool, of this node, or of the records of its tunnel addresses, may change which it needs. */
export async function keepTunnelAddresses(
  options: Omit<MonitorOptions, "settings">,
  signal: AbortSignal,
): Promise<void> {
  const { client, log, clock, nodeName } = options;
  const syncer = openSyncer({
    client,
    kinds: [
      "IPPool",
      { kind: "Node", fieldSelector: `metadata.name=${nodeName}` },
      // Garbage collection frees the addresses of a node that is gone, also when it comes back in that moment.
      ...Object.values(TUNNELS).map(({ handle }): SyncKind => {
        return { kind: "IPAMHandle", fieldSelector: `metadata.name=${handleName(`${handle}-${nodeName}`)}` };
      }),
    ],
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
        // There is no such Node: the next batch says when there is.
        if (hasCode(error, "NOT_FOUND") && !(await nodeExists(options))) break;
        log.error("node.tunnel_addresses_failed", { error, attempt });
        await clock.sleep(Math.min(10_000, 200 * 2 ** attempt), signal).catch(() => undefined);
      }
    }
  }
}

async function nodeExists({ client, nodeName }: Pick<MonitorOptions, "client" | "nodeName">): Promise<boolean> {
  try {
    await client.get("Node", { name: nodeName });
    return true;
  } catch (error) {
    return !hasCode(error, "NOT_FOUND");
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
