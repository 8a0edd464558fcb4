/**
 * DaemonSet: one pod on every node that takes it. Pure.
 *
 * Pods are bound by the scheduler, through a node affinity on metadata.name, and tolerate what a daemon must bear (API
 * documentation of DaemonSet). RollingUpdate deletes outdated pods while fewer than maxUnavailable are unavailable; maxSurge is not
 * supported and counts as maxUnavailable 1.
 */
import type { Action } from "../kube/actions.ts";
import {
  type DaemonSet,
  isPodAvailable,
  isPodFinished,
  isPodReady,
  isTerminating,
  type Node,
  type Pod,
  type Toleration,
} from "../kube/objects.ts";
import { matchesNode, untoleratedTaint } from "../scheduler/schedule.ts";
import { isActive, ownerReference, podFromTemplate, scaledValue, stableJson, templateHash } from "./pod-template.ts";
import { availableLater } from "./replica-set.ts";

export interface DaemonSetWorld {
  readonly daemonSet: DaemonSet;
  readonly nodes: readonly Node[];
  /** Pods it controls. */
  readonly pods: readonly Pod[];
  readonly nowMs: number;
}

const HASH = "controller-revision-hash";

const DAEMON_TOLERATIONS: readonly Toleration[] = [
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/disk-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/memory-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/pid-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/unschedulable", operator: "Exists", effect: "NoSchedule" },
];

const HOST_NETWORK_TOLERATIONS: readonly Toleration[] = [
  { key: "node.kubernetes.io/network-unavailable", operator: "Exists", effect: "NoSchedule" },
];

export function reconcileDaemonSet(world: DaemonSetWorld): readonly Action[] {
  const { daemonSet, nodes } = world;
  if (isTerminating(daemonSet)) return [];
  const hash = templateHash(daemonSet.spec.template);
  const perNode = podsPerNode(world.pods);
  const actions: Action[] = [];
  const wanted = new Set<string>();
  for (const node of nodes) {
    const name = node.metadata.name;
    if (!shouldRun(daemonSet, node)) continue;
    wanted.add(name);
    const here = perNode.get(name) ?? [];
    const living = here.filter((pod) => !isPodFinished(pod));
    // The replacement waits for the old one to be gone: both want the same host ports.
    if (here.length === 0) actions.push(createPod(daemonSet, name, hash));
    for (const extra of living.toSorted(oldestFirst).slice(1)) if (!isTerminating(extra)) actions.push(remove(extra));
    for (const pod of here) if (isPodFinished(pod) && !isTerminating(pod)) actions.push(remove(pod));
  }
  for (const [node, pods] of perNode) {
    if (!wanted.has(node)) for (const pod of pods) if (!isTerminating(pod)) actions.push(remove(pod));
  }
  actions.push(...replaceOutdated(world, wanted, perNode, hash));
  actions.push(...daemonSetStatus(world, wanted, perNode, hash));
  const again = availableLater(world.pods, daemonSet.spec.minReadySeconds ?? 0, world.nowMs);
  if (again !== undefined) actions.push({ do: "again", afterMs: again });
  // Creations after deletions, side by side each.
  return actions.toSorted((a, b) => ORDER.indexOf(a.do) - ORDER.indexOf(b.do));
}

const ORDER: readonly Action["do"][] = ["delete", "create", "patch", "event", "again"];

const remove = (pod: Pod): Action => ({ do: "delete", kind: "Pod", object: pod });

function oldestFirst(a: Pod, b: Pod): number {
  const created = (pod: Pod): string => pod.metadata.creationTimestamp ?? "";
  return created(a) < created(b) || (created(a) === created(b) && a.metadata.name < b.metadata.name) ? -1 : 1;
}

function tolerationsOf(daemonSet: DaemonSet): readonly Toleration[] {
  const { spec } = daemonSet.spec.template;
  return [
    ...(spec.tolerations ?? []),
    ...DAEMON_TOLERATIONS,
    ...(spec.hostNetwork === true ? HOST_NETWORK_TOLERATIONS : []),
  ];
}

function shouldRun(daemonSet: DaemonSet, node: Node): boolean {
  if (isTerminating(node)) return false;
  return matchesNode(daemonSet.spec.template, node) && untoleratedTaint(node, tolerationsOf(daemonSet)) === undefined;
}

/** The node a daemon pod is for: where it is bound, or what its affinity names. */
export function targetNode(pod: Pod): string | undefined {
  if (pod.spec.nodeName !== undefined) return pod.spec.nodeName;
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  for (const term of required?.nodeSelectorTerms ?? []) {
    for (const field of term.matchFields ?? []) {
      if (field.key === "metadata.name" && field.operator === "In") return field.values?.[0];
    }
  }
  return undefined;
}

function podsPerNode(pods: readonly Pod[]): ReadonlyMap<string, readonly Pod[]> {
  const perNode = new Map<string, Pod[]>();
  for (const pod of pods) {
    const node = targetNode(pod) ?? "";
    const here = perNode.get(node);
    if (here === undefined) perNode.set(node, [pod]);
    else here.push(pod);
  }
  return perNode;
}

function createPod(daemonSet: DaemonSet, node: string, hash: string): Action {
  const { template } = daemonSet.spec;
  const byName = { matchFields: [{ key: "metadata.name", operator: "In", values: [node] }] };
  const affinity = template.spec.affinity ?? {};
  const required = affinity.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const terms = (required?.nodeSelectorTerms ?? [{}]).map((term) => ({ ...term, ...byName }));
  const pod = podFromTemplate(template, {
    owner: ownerReference("apps/v1", "DaemonSet", daemonSet),
    namespace: daemonSet.metadata.namespace,
    labels: { [HASH]: hash, "pod-template-generation": String(daemonSet.metadata.generation ?? 1) },
    spec: {
      tolerations: tolerationsOf(daemonSet),
      affinity: {
        ...affinity,
        nodeAffinity: {
          ...affinity.nodeAffinity,
          requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms },
        },
      },
    },
  });
  return { do: "create", kind: "Pod", object: pod };
}

const isCurrent = (pod: Pod, hash: string): boolean => pod.metadata.labels?.[HASH] === hash;

function replaceOutdated(
  { daemonSet, nowMs }: DaemonSetWorld,
  wanted: ReadonlySet<string>,
  perNode: ReadonlyMap<string, readonly Pod[]>,
  hash: string,
): readonly Action[] {
  const strategy = daemonSet.spec.updateStrategy;
  if (strategy?.type === "OnDelete") return [];
  const minReady = daemonSet.spec.minReadySeconds ?? 0;
  const limit = Math.max(1, scaledValue(strategy?.rollingUpdate?.maxUnavailable ?? 1, wanted.size, "up"));
  let unavailable = 0;
  const working: Pod[] = [];
  const broken: Pod[] = [];
  for (const node of wanted) {
    const pod = (perNode.get(node) ?? []).find(isActive);
    const available = pod !== undefined && isPodAvailable(pod, minReady, nowMs);
    if (!available) unavailable += 1;
    if (pod !== undefined && !isCurrent(pod, hash)) (available ? working : broken).push(pod);
  }
  // What does not work anyway costs nothing to replace.
  return [...broken, ...working.slice(0, Math.max(0, limit - unavailable))].map(remove);
}

function daemonSetStatus(
  { daemonSet, nowMs }: DaemonSetWorld,
  wanted: ReadonlySet<string>,
  perNode: ReadonlyMap<string, readonly Pod[]>,
  hash: string,
): readonly Action[] {
  const minReady = daemonSet.spec.minReadySeconds ?? 0;
  let scheduled = 0;
  let ready = 0;
  let available = 0;
  let updated = 0;
  for (const node of wanted) {
    const pod = (perNode.get(node) ?? []).find(isActive);
    if (pod === undefined) continue;
    scheduled += 1;
    if (isPodReady(pod)) ready += 1;
    if (isPodAvailable(pod, minReady, nowMs)) available += 1;
    if (isCurrent(pod, hash)) updated += 1;
  }
  const misscheduled = [...perNode].filter(([node, pods]) => !wanted.has(node) && pods.some(isActive)).length;
  const status = {
    currentNumberScheduled: scheduled,
    numberMisscheduled: misscheduled,
    desiredNumberScheduled: wanted.size,
    numberReady: ready,
    updatedNumberScheduled: updated,
    numberAvailable: available,
    numberUnavailable: wanted.size - available,
    observedGeneration: daemonSet.metadata.generation ?? 0,
  };
  const zeroes = { updatedNumberScheduled: 0, numberAvailable: 0, numberUnavailable: 0 };
  if (stableJson(status) === stableJson({ ...zeroes, ...daemonSet.status })) return [];
  return [{ do: "patch", kind: "DaemonSet", name: daemonSet.metadata, patch: { status }, status: true }];
}
