/**
 * Node lifecycle: conditions turn into taints, and a node whose heartbeat stopped counts as gone. Pure.
 *
 * - Lease older than `graceMs`: Ready (and the other conditions) become Unknown, its pods lose their Ready condition, so that
 *   Services stop using them.
 * - Ready False: taint not-ready:NoSchedule; Unknown: unreachable:NoSchedule; unschedulable: its taint. Cleared when over.
 *
 * Not here: NoExecute taints and eviction; a simulated node that is down comes back or is deleted by the user.
 */
import type { Action } from "../kube/actions.ts";
import {
  type Condition,
  conditionOf,
  isPodReady,
  isTerminating,
  type Lease,
  type Node,
  type Pod,
  type Taint,
} from "../kube/objects.ts";
import { timestamp } from "../kube/timestamp.ts";
import { stableJson } from "./pod-template.ts";

export interface NodeWorld {
  readonly node: Node;
  readonly lease: Lease | undefined;
  /** Pods bound to it. */
  readonly pods: readonly Pod[];
  readonly nowMs: number;
  readonly graceMs: number;
}

const NOT_READY = "node.kubernetes.io/not-ready";
const UNREACHABLE = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE = "node.kubernetes.io/unschedulable";

export function reconcileNode(world: NodeWorld): readonly Action[] {
  const { node, nowMs } = world;
  if (isTerminating(node)) return [];
  const actions: Action[] = [];
  const silentFor = silence(world);
  let ready = conditionOf(node.status?.conditions, "Ready")?.status ?? "False";
  if (silentFor > world.graceMs) {
    if (ready !== "Unknown") actions.push(markUnknown(node, nowMs));
    ready = "Unknown";
    for (const pod of world.pods) if (isPodReady(pod)) actions.push(markNotReady(pod, nowMs));
  } else {
    actions.push({ do: "again", afterMs: world.graceMs - silentFor + 100 });
  }
  const taints = wantedTaints(node, ready, nowMs);
  if (stableJson(taints) !== stableJson(node.spec?.taints ?? [])) {
    // The version makes a lost race a conflict: taints are also the operator's.
    const patch = { metadata: { resourceVersion: node.metadata.resourceVersion }, spec: { taints } };
    actions.unshift({ do: "patch", kind: "Node", name: node.metadata, patch });
  }
  return actions;
}

/** Since the last heartbeat; a node that never had one counts from its creation. */
function silence({ node, lease, nowMs }: NodeWorld): number {
  const beat = Date.parse(lease?.spec?.renewTime ?? node.metadata.creationTimestamp ?? "");
  return Number.isNaN(beat) ? 0 : nowMs - beat;
}

function wantedTaints(node: Node, ready: string, nowMs: number): readonly Taint[] {
  const keys = new Set<string>();
  if (ready === "False") keys.add(NOT_READY);
  if (ready === "Unknown") keys.add(UNREACHABLE);
  if (node.spec?.unschedulable === true) keys.add(UNSCHEDULABLE);
  const mine = (taint: Taint): boolean =>
    taint.effect === "NoSchedule" && [NOT_READY, UNREACHABLE, UNSCHEDULABLE].includes(taint.key);
  const kept = (node.spec?.taints ?? []).filter((taint) => !mine(taint) || keys.has(taint.key));
  const missing = [...keys].filter((key) => !kept.some((taint) => taint.key === key && taint.effect === "NoSchedule"));
  return [...kept, ...missing.map((key) => ({ key, effect: "NoSchedule", timeAdded: timestamp(nowMs) }))];
}

function markUnknown(node: Node, nowMs: number): Action {
  const conditions: Condition[] = (node.status?.conditions ?? []).map((condition) =>
    condition.type === "NetworkUnavailable"
      ? condition
      : {
          ...condition,
          status: "Unknown",
          reason: "NodeStatusUnknown",
          message: "Kubelet stopped posting node status.",
          lastTransitionTime: timestamp(nowMs),
        },
  );
  return { do: "patch", kind: "Node", name: node.metadata, patch: { status: { conditions } }, status: true };
}

function markNotReady(pod: Pod, nowMs: number): Action {
  const conditions: Condition[] = (pod.status?.conditions ?? []).map((condition) =>
    condition.type === "Ready" ? { ...condition, status: "False", lastTransitionTime: timestamp(nowMs) } : condition,
  );
  return { do: "patch", kind: "Pod", name: pod.metadata, patch: { status: { conditions } }, status: true };
}
