/**
 * Deployment: ReplicaSets per revision, moved from old to new within maxSurge and maxUnavailable. Pure.
 *
 * Follows the documented behaviour that clients rely on: pod-template-hash, the revision annotation, revisionHistoryLimit, paused,
 * Recreate, and the Available and Progressing conditions with the reasons `kubectl rollout status` reads. Each call moves one step;
 * the ReplicaSets' status brings the next.
 *
 * Left out: proportional scaling of old ReplicaSets when a rollout is resized midway (the new one gets the difference).
 */
import type { Action } from "../kube/actions.ts";
import {
  type Condition,
  conditionOf,
  type Deployment,
  isTerminating,
  type Labels,
  type ReplicaSet,
} from "../kube/objects.ts";
import { timestamp } from "../kube/timestamp.ts";
import { HASH_LABEL, ownerReference, sameTemplate, scaledValue, stableJson, templateHash } from "./pod-template.ts";

export interface DeploymentWorld {
  readonly deployment: Deployment;
  /** ReplicaSets it controls. */
  readonly replicaSets: readonly ReplicaSet[];
  /** ReplicaSets of its namespace that match its selector and that nobody controls. */
  readonly orphans: readonly ReplicaSet[];
  /** Names of controlled ReplicaSets that still have pods of any state: Recreate waits for them. */
  readonly withPods: ReadonlySet<string>;
  readonly nowMs: number;
}

const REVISION = "deployment.kubernetes.io/revision";
const DESIRED = "deployment.kubernetes.io/desired-replicas";
const MAX = "deployment.kubernetes.io/max-replicas";

export function reconcileDeployment(world: DeploymentWorld): readonly Action[] {
  const { deployment } = world;
  if (isTerminating(deployment)) return [];
  const actions: Action[] = world.orphans.map((orphan) => adopt(deployment, orphan));
  const all = world.replicaSets.toSorted(byAge);
  const current =
    all.find((each) => sameTemplate(each.spec.template, deployment.spec.template)) ??
    // A server that defaults the two templates differently must not make us create the same name for ever.
    all.find((each) => each.metadata.labels?.[HASH_LABEL] === hashOf(deployment));
  const old = all.filter((each) => each !== current);
  if (deployment.spec.paused === true) {
    const only = activeOf(all);
    if (only.length <= 1) actions.push(...scale(deployment, only[0] ?? current, replicasOf(deployment)));
  } else {
    actions.push(...revise(deployment, current, old));
    actions.push(...rollOut(world, current, old));
    actions.push(...forgetHistory(deployment, old));
  }
  actions.push(...statusActions(world, current, old));
  return actions;
}

const byAge = (a: ReplicaSet, b: ReplicaSet): number => {
  const difference = Date.parse(a.metadata.creationTimestamp ?? "") - Date.parse(b.metadata.creationTimestamp ?? "");
  return difference !== 0 && !Number.isNaN(difference) ? difference : a.metadata.name < b.metadata.name ? -1 : 1;
};

const replicasOf = (object: Deployment | ReplicaSet): number => object.spec.replicas ?? 1;
const activeOf = (all: readonly ReplicaSet[]): readonly ReplicaSet[] => all.filter((each) => replicasOf(each) > 0);
const sum = (all: readonly ReplicaSet[], of: (each: ReplicaSet) => number): number =>
  all.reduce((total, each) => total + of(each), 0);
const revisionOf = (object: Deployment | ReplicaSet): number =>
  Number(object.metadata.annotations?.[REVISION] ?? 0) || 0;

function adopt(deployment: Deployment, orphan: ReplicaSet): Action {
  const owners = [...(orphan.metadata.ownerReferences ?? []), ownerReference("apps/v1", "Deployment", deployment)];
  const patch = { metadata: { uid: orphan.metadata.uid, ownerReferences: owners } };
  return { do: "patch", kind: "ReplicaSet", name: orphan.metadata, patch };
}

interface Limits {
  readonly surge: number;
  readonly unavailable: number;
}

export function rolloutLimits(deployment: Deployment): Limits {
  const replicas = replicasOf(deployment);
  const rolling = deployment.spec.strategy?.rollingUpdate;
  const surge = scaledValue(rolling?.maxSurge ?? "25%", replicas, "up");
  const unavailable = scaledValue(rolling?.maxUnavailable ?? "25%", replicas, "down");
  // Both zero (a small percentage of few) would never move.
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : Math.min(unavailable, replicas) };
}

function scaleAnnotations(deployment: Deployment): Labels {
  const replicas = replicasOf(deployment);
  return { [DESIRED]: String(replicas), [MAX]: String(replicas + rolloutLimits(deployment).surge) };
}

/** The newest ReplicaSet carries the highest revision, and the Deployment repeats it. */
function revise(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
): readonly Action[] {
  const actions: Action[] = [];
  const highest = Math.max(0, ...old.map(revisionOf));
  const revision = String(current === undefined || revisionOf(current) <= highest ? highest + 1 : revisionOf(current));
  const annotate = (kind: "ReplicaSet" | "Deployment", object: ReplicaSet | Deployment): void => {
    if (object.metadata.annotations?.[REVISION] === revision) return;
    actions.push({
      do: "patch",
      kind,
      name: object.metadata,
      patch: { metadata: { annotations: { [REVISION]: revision } } },
    });
  };
  if (current !== undefined) annotate("ReplicaSet", current);
  annotate("Deployment", deployment);
  return actions;
}

function rollOut(
  world: DeploymentWorld,
  current: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
): readonly Action[] {
  const { deployment } = world;
  if (deployment.spec.strategy?.type === "Recreate") {
    const down = activeOf(old).flatMap((each) => scale(deployment, each, 0));
    if (down.length > 0 || old.some((each) => world.withPods.has(each.metadata.name))) return down;
    if (current === undefined) return [createReplicaSet(world, old, replicasOf(deployment))];
    return scale(deployment, current, replicasOf(deployment));
  }
  const { surge } = rolloutLimits(deployment);
  const total = sum(old, replicasOf) + (current === undefined ? 0 : replicasOf(current));
  const room = Math.max(0, replicasOf(deployment) + surge - total);
  if (current === undefined) return [createReplicaSet(world, old, Math.min(room, replicasOf(deployment)))];
  const have = replicasOf(current);
  const wanted = have > replicasOf(deployment) ? replicasOf(deployment) : Math.min(have + room, replicasOf(deployment));
  const up = scale(deployment, current, wanted);
  return have !== wanted ? up : [...up, ...scaleDownOld(deployment, current, old)];
}

/** Old pods go as far as enough pods stay available: first those that are not available anyway. */
function scaleDownOld(deployment: Deployment, current: ReplicaSet, old: readonly ReplicaSet[]): readonly Action[] {
  const active = activeOf(old);
  if (active.length === 0) return [];
  const { unavailable } = rolloutLimits(deployment);
  const total = sum(active, replicasOf) + replicasOf(current);
  const newUnavailable = replicasOf(current) - (current.status?.availableReplicas ?? 0);
  const minimum = replicasOf(deployment) - unavailable;
  let budget = total - minimum - newUnavailable;
  const wanted = new Map(active.map((each) => [each, replicasOf(each)]));
  for (const each of active) {
    const have = wanted.get(each) ?? 0;
    const unhealthy = Math.min(have - (each.status?.availableReplicas ?? 0), Math.max(budget, 0));
    if (unhealthy <= 0) continue;
    wanted.set(each, have - unhealthy);
    budget -= unhealthy;
  }
  let spare = Math.max(0, sum([...active, current], (each) => each.status?.availableReplicas ?? 0) - minimum);
  for (const each of active) {
    const have = wanted.get(each) ?? 0;
    const less = Math.min(have, spare, Math.max(budget, 0));
    wanted.set(each, have - less);
    spare -= less;
    budget -= less;
  }
  return active.flatMap((each) => scale(deployment, each, wanted.get(each) ?? 0));
}

function hashOf(deployment: Deployment): string {
  const collisions = deployment.status?.collisionCount ?? 0;
  return templateHash(deployment.spec.template, collisions === 0 ? "" : String(collisions));
}

function createReplicaSet(world: DeploymentWorld, old: readonly ReplicaSet[], replicas: number): Action {
  const { deployment } = world;
  const hash = hashOf(deployment);
  const labels = { ...deployment.spec.template.metadata?.labels, [HASH_LABEL]: hash };
  const revision = Math.max(0, ...old.map(revisionOf)) + 1;
  const { [LAST_APPLIED]: _, ...annotations } = deployment.metadata.annotations ?? {};
  return {
    do: "create",
    kind: "ReplicaSet",
    object: {
      metadata: {
        name: `${deployment.metadata.name}-${hash}`,
        ...(deployment.metadata.namespace === undefined ? {} : { namespace: deployment.metadata.namespace }),
        labels,
        annotations: { ...annotations, ...scaleAnnotations(deployment), [REVISION]: String(revision) },
        ownerReferences: [ownerReference("apps/v1", "Deployment", deployment)],
      },
      spec: {
        replicas,
        minReadySeconds: deployment.spec.minReadySeconds ?? 0,
        selector: {
          ...deployment.spec.selector,
          matchLabels: { ...deployment.spec.selector.matchLabels, [HASH_LABEL]: hash },
        },
        template: { ...deployment.spec.template, metadata: { ...deployment.spec.template.metadata, labels } },
      },
    } as ReplicaSet,
  };
}

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

function scale(deployment: Deployment, replicaSet: ReplicaSet | undefined, replicas: number): readonly Action[] {
  if (replicaSet === undefined || replicasOf(replicaSet) === replicas) return [];
  const annotations = scaleAnnotations(deployment);
  const direction = replicas > replicasOf(replicaSet) ? "up" : "down";
  const message = `Scaled ${direction} replica set ${replicaSet.metadata.name} from ${replicasOf(replicaSet)} to ${replicas}`;
  return [
    {
      do: "patch",
      kind: "ReplicaSet",
      name: replicaSet.metadata,
      patch: { metadata: { annotations }, spec: { replicas } },
    },
    {
      do: "event",
      kind: "Deployment",
      about: deployment,
      event: { type: "Normal", reason: "ScalingReplicaSet", message },
    },
  ];
}

function forgetHistory(deployment: Deployment, old: readonly ReplicaSet[]): readonly Action[] {
  const keep = deployment.spec.revisionHistoryLimit ?? 10;
  const idle = old.filter(
    (each) => replicasOf(each) === 0 && (each.status?.replicas ?? 0) === 0 && !isTerminating(each),
  );
  return idle
    .toSorted((a, b) => revisionOf(a) - revisionOf(b))
    .slice(0, Math.max(0, idle.length - keep))
    .map((each) => ({ do: "delete", kind: "ReplicaSet", object: each }) as const);
}

function statusActions(
  world: DeploymentWorld,
  current: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
): readonly Action[] {
  const { deployment, nowMs } = world;
  const all = current === undefined ? old : [...old, current];
  const count = (of: keyof NonNullable<ReplicaSet["status"]>) => (each: ReplicaSet) => Number(each.status?.[of] ?? 0);
  const available = sum(all, count("availableReplicas"));
  const replicas = sum(all, count("replicas"));
  const counts = {
    replicas,
    updatedReplicas: current === undefined ? 0 : count("replicas")(current),
    readyReplicas: sum(all, count("readyReplicas")),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, sum(all, replicasOf) - available),
  };
  const before = deployment.status ?? {};
  const minimum =
    replicasOf(deployment) -
    (deployment.spec.strategy?.type === "Recreate" ? 0 : rolloutLimits(deployment).unavailable);
  const conditions = [
    availableCondition(before.conditions, available >= minimum, nowMs),
    progressingCondition(world, current, counts),
  ].filter((condition) => condition !== undefined);
  const status = { observedGeneration: deployment.metadata.generation ?? 0, ...counts, conditions };
  const actions: Action[] = [];
  const { collisionCount: _collisions, ...known } = before;
  const zeroes = { replicas: 0, updatedReplicas: 0, readyReplicas: 0, availableReplicas: 0, unavailableReplicas: 0 };
  if (stableJson(status) !== stableJson({ ...zeroes, ...known })) {
    actions.push({ do: "patch", kind: "Deployment", name: deployment.metadata, patch: { status }, status: true });
  }
  const deadline = deadlineIn(world, conditionOf(conditions, "Progressing"));
  if (deadline !== undefined) actions.push({ do: "again", afterMs: deadline });
  return actions;
}

function availableCondition(before: readonly Condition[] | undefined, available: boolean, nowMs: number): Condition {
  const known = conditionOf(before, "Available");
  const status = available ? "True" : "False";
  if (known?.status === status) return known;
  return {
    type: "Available",
    status,
    reason: available ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
    message: available ? "Deployment has minimum availability." : "Deployment does not have minimum availability.",
    lastTransitionTime: timestamp(nowMs),
    lastUpdateTime: timestamp(nowMs),
  };
}

interface Counts {
  readonly replicas: number;
  readonly updatedReplicas: number;
  readonly readyReplicas: number;
  readonly availableReplicas: number;
}

function progressingCondition(
  world: DeploymentWorld,
  current: ReplicaSet | undefined,
  counts: Counts,
): Condition | undefined {
  const { deployment, nowMs } = world;
  const before = deployment.status ?? {};
  const known = conditionOf(before.conditions, "Progressing");
  const name = current?.metadata.name ?? "";
  const make = (status: string, reason: string, message: string): Condition => ({
    type: "Progressing",
    status,
    reason,
    message,
    lastTransitionTime: known?.status === status ? (known.lastTransitionTime ?? timestamp(nowMs)) : timestamp(nowMs),
    lastUpdateTime: timestamp(nowMs),
  });
  const wanted = replicasOf(deployment);
  const complete =
    current !== undefined &&
    counts.updatedReplicas === wanted &&
    counts.replicas === wanted &&
    counts.availableReplicas === wanted;
  if (complete) {
    if (known?.reason === "NewReplicaSetAvailable" && known.message?.includes(`"${name}"`) === true) return known;
    return make("True", "NewReplicaSetAvailable", `ReplicaSet "${name}" has successfully progressed.`);
  }
  if (deployment.spec.paused === true) {
    return known?.reason === "DeploymentPaused" ? known : make("Unknown", "DeploymentPaused", "Deployment is paused");
  }
  if (current === undefined) {
    const created = `${deployment.metadata.name}-${hashOf(deployment)}`;
    return make("True", "NewReplicaSetCreated", `Created new replica set "${created}"`);
  }
  const moved =
    counts.updatedReplicas > (before.updatedReplicas ?? 0) ||
    counts.readyReplicas > (before.readyReplicas ?? 0) ||
    counts.availableReplicas > (before.availableReplicas ?? 0) ||
    counts.replicas - counts.updatedReplicas < (before.replicas ?? 0) - (before.updatedReplicas ?? 0);
  const settled = known?.reason === "NewReplicaSetAvailable" && known.message?.includes(`"${name}"`) === true;
  if (
    known === undefined ||
    moved ||
    (known.reason === "NewReplicaSetAvailable" && !settled) ||
    known.reason === "DeploymentPaused"
  ) {
    return make("True", "ReplicaSetUpdated", `ReplicaSet "${name}" is progressing.`);
  }
  const left = deadlineIn(world, known);
  if (!settled && known.status === "True" && left !== undefined && left <= 0) {
    return make("False", "ProgressDeadlineExceeded", `ReplicaSet "${name}" has timed out progressing.`);
  }
  return known;
}

/** Milliseconds until a rollout that does not move counts as stuck. */
function deadlineIn({ deployment, nowMs }: DeploymentWorld, progressing: Condition | undefined): number | undefined {
  const seconds = deployment.spec.progressDeadlineSeconds ?? 600;
  if (progressing?.status !== "True" || progressing.reason === "NewReplicaSetAvailable") return undefined;
  const since = Date.parse(progressing.lastUpdateTime ?? "");
  return Number.isNaN(since) ? undefined : since + seconds * 1000 - nowMs;
}
