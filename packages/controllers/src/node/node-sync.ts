/**
 * With etcd a node exists twice: Kubernetes' Node, and Calico's in etcd. Calico's goes when Kubernetes' has gone, and its labels follow Kubernetes'. Labels that
 * somebody put on Calico's node stay: which ones were copied is noted in an annotation, upstream's.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { Node } from "@calico-ts/model";
import { type Clock, DirtyLoop, type Logger } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import { openSyncer } from "@calico-ts/sync";
import { isDeepStrictEqual } from "node:util";

export interface NodeSyncOptions {
  /** Calico's nodes. */
  readonly client: DatastoreClient;
  /** Kubernetes' nodes. */
  readonly kubernetes: DatastoreClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly syncLabels: boolean;
  readonly reconcileMs: number;
  readonly passGapMs: number;
}

type Labels = Readonly<Record<string, string>>;

const COPIED_ANNOTATION = "projectcalico.org/kube-labels";

/** Runs until the signal aborts. */
export async function keepNodes(options: NodeSyncOptions, signal: AbortSignal): Promise<void> {
  const { clock, kubernetes, log, passGapMs, reconcileMs } = options;
  const labels = new Map<string, Labels>();
  let complete = false;
  await using loop = new DirtyLoop({
    clock,
    run: async () => {
      if (complete) await reconcile(options, labels);
    },
    minGapMs: passGapMs,
    maxGapMs: reconcileMs,
    onError: (error, retryMs) => log.warning("nodes.sync_failed", { error, retryMs }),
  });
  for await (const { updates, inSync } of openSyncer({ client: kubernetes, kinds: ["Node"], signal, clock, log })) {
    let changed = inSync && !complete;
    complete = inSync;
    for (const { kind, key, resource } of updates) {
      if (kind !== "Node") continue;
      const next = resource === undefined ? undefined : (resource.metadata.labels ?? {});
      // Kubelets say every few seconds that they are alive.
      changed ||= !isDeepStrictEqual(next, labels.get(key.name));
      if (next === undefined) labels.delete(key.name);
      else labels.set(key.name, next);
    }
    if (changed) loop.mark();
  }
}

async function reconcile(options: NodeSyncOptions, labels: ReadonlyMap<string, Labels>): Promise<void> {
  const { client, kubernetes, log, syncLabels } = options;
  for (const node of (await client.list("Node")).items) {
    const { name } = node.metadata;
    const wanted = labels.get(name);
    if (wanted === undefined) {
      if (await exists(kubernetes, name)) continue;
      await client.delete("Node", { name }, { resourceVersion: node.metadata.resourceVersion });
      log.info("nodes.removed", { node: name, because: "Kubernetes has no such node" });
    } else if (syncLabels) {
      const next = withLabels(node, wanted);
      if (next !== node) await client.update("Node", next);
    }
  }
}

async function exists(kubernetes: DatastoreClient, name: string): Promise<boolean> {
  try {
    await kubernetes.get("Node", { name });
    return true;
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return false;
    throw error;
  }
}

/** The same object when nothing has to change. Pure. */
export function withLabels(node: Node, wanted: Labels): Node {
  const { annotations = {}, labels: present = {} } = node.metadata;
  const copied = copiedBefore(annotations[COPIED_ANNOTATION]);
  const own = Object.entries(present).filter(([key, value]) => copied[key] !== value);
  const labels = { ...Object.fromEntries(own), ...wanted };
  if (isDeepStrictEqual(labels, present) && isDeepStrictEqual(copied, wanted)) return node;
  return {
    ...node,
    metadata: {
      ...node.metadata,
      labels,
      annotations: { ...annotations, [COPIED_ANNOTATION]: JSON.stringify(wanted) },
    },
  };
}

function copiedBefore(text: string | undefined): Labels {
  try {
    const parsed: unknown = JSON.parse(text ?? "{}");
    return typeof parsed === "object" && parsed !== null ? (parsed as Labels) : {};
  } catch {
    return {};
  }
}
