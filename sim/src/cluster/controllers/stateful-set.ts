/**
 * StatefulSet: pods with stable names, one after the other. Pure.
 *
 * OrderedReady creates the next ordinal when all lower ones are ready and removes from the top, one at a time; Parallel does not wait.
 * RollingUpdate replaces from the highest ordinal down to `partition`. Volume claims are not made: the simulator has no storage.
 */
import type { Action } from "../kube/actions.ts";
import {
  isPodAvailable,
  isPodFinished,
  isPodReady,
  isTerminating,
  type Pod,
  type StatefulSet,
} from "../kube/objects.ts";
import { isActive, ownerReference, podFromTemplate, stableJson, templateHash } from "./pod-template.ts";
import { availableLater } from "./replica-set.ts";

export interface StatefulSetWorld {
  readonly statefulSet: StatefulSet;
  /** Pods it controls. */
  readonly pods: readonly Pod[];
  readonly nowMs: number;
}

const HASH = "controller-revision-hash";

export function reconcileStatefulSet(world: StatefulSetWorld): readonly Action[] {
  const { statefulSet } = world;
  if (isTerminating(statefulSet)) return [];
  const revision = `${statefulSet.metadata.name}-${templateHash(statefulSet.spec.template)}`;
  const byOrdinal = new Map<number, Pod>();
  for (const pod of world.pods) {
    const ordinal = ordinalOf(statefulSet, pod);
    if (ordinal !== undefined) byOrdinal.set(ordinal, pod);
  }
  const actions: Action[] = [...(step(world, byOrdinal, revision) ?? []), ...status(world, revision)];
  const again = availableLater(world.pods, statefulSet.spec.minReadySeconds ?? 0, world.nowMs);
  if (again !== undefined) actions.push({ do: "again", afterMs: again });
  return actions;
}

function step(world: StatefulSetWorld, byOrdinal: ReadonlyMap<number, Pod>, revision: string): readonly Action[] {
  const { statefulSet, nowMs } = world;
  const replicas = statefulSet.spec.replicas ?? 1;
  const parallel = statefulSet.spec.podManagementPolicy === "Parallel";
  const minReady = statefulSet.spec.minReadySeconds ?? 0;
  const actions: Action[] = [];
  for (let ordinal = 0; ordinal < replicas; ordinal++) {
    const pod = byOrdinal.get(ordinal);
    if (pod === undefined) actions.push(createPod(statefulSet, ordinal, revision));
    else if (isPodFinished(pod) && !isTerminating(pod)) actions.push(remove(pod));
    const settled = pod !== undefined && isActive(pod) && isPodAvailable(pod, minReady, nowMs);
    if (!parallel && !settled) return actions;
  }
  const surplus = [...byOrdinal].filter(([ordinal]) => ordinal >= replicas).toSorted(([a], [b]) => b - a);
  for (const [, pod] of surplus) {
    if (!isTerminating(pod)) actions.push(remove(pod));
    if (!parallel) return actions;
  }
  if (actions.length > 0 || statefulSet.spec.updateStrategy?.type === "OnDelete") return actions;
  const partition = statefulSet.spec.updateStrategy?.rollingUpdate?.partition ?? 0;
  for (let ordinal = replicas - 1; ordinal >= partition; ordinal--) {
    const pod = byOrdinal.get(ordinal);
    if (pod === undefined || isTerminating(pod)) return actions;
    if (pod.metadata.labels?.[HASH] !== revision) return [remove(pod)];
    if (!isPodAvailable(pod, minReady, nowMs)) return actions;
  }
  return actions;
}

const remove = (pod: Pod): Action => ({ do: "delete", kind: "Pod", object: pod });

function ordinalOf(statefulSet: StatefulSet, pod: Pod): number | undefined {
  const prefix = `${statefulSet.metadata.name}-`;
  const text = pod.metadata.name.startsWith(prefix) ? pod.metadata.name.slice(prefix.length) : "";
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

function createPod(statefulSet: StatefulSet, ordinal: number, revision: string): Action {
  const name = `${statefulSet.metadata.name}-${ordinal}`;
  const pod = podFromTemplate(statefulSet.spec.template, {
    owner: ownerReference("apps/v1", "StatefulSet", statefulSet),
    namespace: statefulSet.metadata.namespace,
    name,
    labels: {
      [HASH]: revision,
      "statefulset.kubernetes.io/pod-name": name,
      "apps.kubernetes.io/pod-index": String(ordinal),
    },
    spec: {
      hostname: name,
      ...(statefulSet.spec.serviceName === undefined || statefulSet.spec.serviceName === ""
        ? {}
        : { subdomain: statefulSet.spec.serviceName }),
    },
  });
  return { do: "create", kind: "Pod", object: pod };
}

function status({ statefulSet, pods, nowMs }: StatefulSetWorld, revision: string): readonly Action[] {
  const active = pods.filter(isActive);
  const minReady = statefulSet.spec.minReadySeconds ?? 0;
  const updated = active.filter((pod) => pod.metadata.labels?.[HASH] === revision).length;
  const ready = active.filter(isPodReady).length;
  const before = statefulSet.status ?? {};
  const replicas = statefulSet.spec.replicas ?? 1;
  // The update revision becomes the current one when every pod carries it and works.
  const complete = updated === replicas && active.length === replicas && ready === replicas;
  const currentRevision = complete || before.currentRevision === undefined ? revision : before.currentRevision;
  const next = {
    observedGeneration: statefulSet.metadata.generation ?? 0,
    replicas: active.length,
    readyReplicas: ready,
    availableReplicas: active.filter((pod) => isPodAvailable(pod, minReady, nowMs)).length,
    currentReplicas: active.filter((pod) => pod.metadata.labels?.[HASH] === currentRevision).length,
    updatedReplicas: updated,
    currentRevision,
    updateRevision: revision,
    collisionCount: before.collisionCount ?? 0,
  };
  const zeroes = { readyReplicas: 0, availableReplicas: 0, currentReplicas: 0, updatedReplicas: 0, collisionCount: 0 };
  if (stableJson(next) === stableJson({ ...zeroes, ...before })) return [];
  return [{ do: "patch", kind: "StatefulSet", name: statefulSet.metadata, patch: { status: next }, status: true }];
}
