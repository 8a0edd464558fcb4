/** ReplicaSet: as many active pods as asked for. Pure: the world in, writes out. */
import type { Action } from "../kube/actions.ts";
import {
  type Condition,
  conditionOf,
  isPodAvailable,
  isPodReady,
  isTerminating,
  type Pod,
  type ReplicaSet,
} from "../kube/objects.ts";
import { hasLabels } from "../kube/label-selector.ts";
import { timestamp } from "../kube/timestamp.ts";
import { deletionOrder, isActive, ownerReference, podFromTemplate, stableJson } from "./pod-template.ts";

export interface ReplicaSetWorld {
  readonly replicaSet: ReplicaSet;
  /** Pods it controls. */
  readonly pods: readonly Pod[];
  /** Pods of its namespace that match its selector and that nobody controls. */
  readonly orphans: readonly Pod[];
  readonly nowMs: number;
  /** Why the last attempt to create pods failed, for the ReplicaFailure condition. */
  readonly createError?: string;
}

/** Creations in one go; the rest follows when these are in the cache. */
const BURST = 500;

export function reconcileReplicaSet(world: ReplicaSetWorld): readonly Action[] {
  const { replicaSet, nowMs } = world;
  const actions: Action[] = [];
  const adopted = isTerminating(replicaSet) ? [] : world.orphans.filter(isActive);
  for (const pod of adopted) {
    const owners = [...(pod.metadata.ownerReferences ?? []), ownerReference("apps/v1", "ReplicaSet", replicaSet)];
    const patch = { metadata: { uid: pod.metadata.uid, ownerReferences: owners } };
    actions.push({ do: "patch", kind: "Pod", name: pod.metadata, patch });
  }
  const active = [...world.pods.filter(isActive), ...adopted];
  const wanted = replicaSet.spec.replicas ?? 1;
  if (!isTerminating(replicaSet)) {
    for (let missing = Math.min(wanted - active.length, BURST); missing > 0; missing--) {
      const owner = ownerReference("apps/v1", "ReplicaSet", replicaSet);
      const { namespace } = replicaSet.metadata;
      actions.push({
        do: "create",
        kind: "Pod",
        object: podFromTemplate(replicaSet.spec.template, { owner, namespace }),
      });
    }
    for (const pod of deletionOrder(active).slice(0, Math.max(0, active.length - wanted))) {
      actions.push({ do: "delete", kind: "Pod", object: pod });
    }
  }
  const again = availableLater(active, replicaSet.spec.minReadySeconds ?? 0, nowMs);
  if (again !== undefined) actions.push({ do: "again", afterMs: again });
  return actions;
}

/** Apart from the pods, so that a failing creation still leaves an honest status. */
export function replicaSetStatus(world: ReplicaSetWorld): readonly Action[] {
  const { replicaSet, nowMs, createError } = world;
  const active = world.pods.filter(isActive);
  const minReady = replicaSet.spec.minReadySeconds ?? 0;
  const templateLabels = replicaSet.spec.template.metadata?.labels ?? {};
  const before = replicaSet.status ?? {};
  const failure = conditionOf(before.conditions, "ReplicaFailure");
  const conditions: Condition[] = (before.conditions ?? []).filter((condition) => condition.type !== "ReplicaFailure");
  if (createError !== undefined) {
    const lastTransitionTime = failure?.lastTransitionTime ?? timestamp(nowMs);
    conditions.push({
      type: "ReplicaFailure",
      status: "True",
      reason: "FailedCreate",
      message: createError,
      lastTransitionTime,
    });
  }
  const status = {
    replicas: active.length,
    fullyLabeledReplicas: active.filter((pod) => hasLabels(templateLabels, pod.metadata.labels)).length,
    readyReplicas: active.filter(isPodReady).length,
    availableReplicas: active.filter((pod) => isPodAvailable(pod, minReady, nowMs)).length,
    observedGeneration: replicaSet.metadata.generation ?? 0,
    ...(conditions.length > 0 || failure !== undefined ? { conditions } : {}),
  };
  const known = {
    replicas: before.replicas ?? 0,
    fullyLabeledReplicas: before.fullyLabeledReplicas ?? 0,
    readyReplicas: before.readyReplicas ?? 0,
    availableReplicas: before.availableReplicas ?? 0,
    observedGeneration: before.observedGeneration ?? 0,
    ...(conditions.length > 0 || failure !== undefined ? { conditions: before.conditions ?? [] } : {}),
  };
  if (stableJson(status) === stableJson(known)) return [];
  return [{ do: "patch", kind: "ReplicaSet", name: replicaSet.metadata, patch: { status }, status: true }];
}

/** When the next ready pod becomes available, if minReadySeconds make it wait. */
export function availableLater(pods: readonly Pod[], minReadySeconds: number, nowMs: number): number | undefined {
  if (minReadySeconds === 0) return undefined;
  let soonest: number | undefined;
  for (const pod of pods) {
    if (!isPodReady(pod) || isPodAvailable(pod, minReadySeconds, nowMs)) continue;
    const since = Date.parse(conditionOf(pod.status?.conditions, "Ready")?.lastTransitionTime ?? "");
    if (Number.isNaN(since)) continue;
    const waitMs = since + minReadySeconds * 1000 - nowMs;
    soonest = Math.min(soonest ?? waitMs, waitMs);
  }
  return soonest;
}
