/**
 * Where a pod may run and where it runs best: pure, one pod at a time against a view of the nodes.
 *
 * Filters, in the order a refusal is reported: spec.unschedulable, nodeSelector and required node affinity, taints of effect
 * NoSchedule and NoExecute, host ports, required pod (anti-)affinity. Among the rest: highest preferred node affinity, then fewest
 * pods of the same owner, then fewest pods, then fewest tolerated PreferNoSchedule taints left out, then name.
 *
 * Not here: resource requests (the simulator runs no containers that would use them), volumes, preemption, topology spread
 * constraints beyond the spreading above.
 */
import { labelSelectorOf, matchesLabels } from "@calico-ts/schema";
import { hasLabels, matchesSelector } from "../kube/label-selector.ts";
import type {
  Labels,
  LabelSelectorRequirement,
  Node,
  NodeSelectorTerm,
  Pod,
  PodAffinityTerm,
  Taint,
  Toleration,
} from "../kube/objects.ts";
import { controllerOf } from "../kube/objects.ts";

/** What the scheduler knows of one node. */
export interface NodeLoad {
  readonly node: Node;
  /** Pods bound to it that still occupy it. */
  readonly pods: ReadonlyMap<string, Pod>;
}

export type Placement =
  | { readonly kind: "bind"; readonly node: string }
  | { readonly kind: "unschedulable"; readonly message: string };

export function placePod(pod: Pod, nodes: readonly NodeLoad[], allPods: Iterable<Pod>): Placement {
  if (nodes.length === 0) return { kind: "unschedulable", message: "no nodes available to schedule pods" };
  const reasons = new Map<string, number>();
  const affinityPods = needsPodAffinity(pod) ? [...allPods] : [];
  const nodeLabels = new Map(nodes.map((load) => [load.node.metadata.name, load.node.metadata.labels ?? {}]));
  let best: { readonly name: string; readonly score: readonly number[] } | undefined;
  for (const load of nodes) {
    const refusal = whyNot(pod, load) ?? podAffinityRefusal(pod, load, affinityPods, nodeLabels);
    if (refusal !== undefined) {
      reasons.set(refusal, (reasons.get(refusal) ?? 0) + 1);
      continue;
    }
    const score = scoreNode(pod, load);
    const name = load.node.metadata.name;
    if (
      best === undefined ||
      compareScores(score, best.score) < 0 ||
      (compareScores(score, best.score) === 0 && name < best.name)
    ) {
      best = { name, score };
    }
  }
  if (best !== undefined) return { kind: "bind", node: best.name };
  const why = [...reasons]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([reason, count]) => `${count} ${reason}`)
    .join(", ");
  return { kind: "unschedulable", message: `0/${nodes.length} nodes are available: ${why}.` };
}

const NOT_READY = "node.kubernetes.io/not-ready";
/** How long a new node is waited for. */
export const STARTING_MS = 10_000;

/**
 * True when a node that has just been registered would take the pod, were it ready. Waiting for it for a moment spreads the pods of a
 * cluster that comes up, where the first node to be ready would otherwise get them all. Ends by itself when the node is ready or no
 * longer new.
 */
export function worthWaitingFor(pod: Pod, nodes: readonly NodeLoad[], nowMs: number): boolean {
  return nodes.some((load) => {
    const { node } = load;
    const taints = node.spec?.taints ?? [];
    if (!taints.some((taint) => taint.key === NOT_READY)) return false;
    const age = nowMs - Date.parse(node.metadata.creationTimestamp ?? "");
    if (!(age < STARTING_MS)) return false;
    if (untoleratedTaint(node, pod.spec.tolerations ?? [])?.key !== NOT_READY) return false;
    const ready = { ...node, spec: { ...node.spec, taints: taints.filter((taint) => taint.key !== NOT_READY) } };
    return whyNot(pod, { ...load, node: ready }) === undefined;
  });
}

/** The refusal in the wording of kube-scheduler, which people search for; undefined when the pod may run there. */
export function whyNot(pod: Pod, { node, pods }: NodeLoad): string | undefined {
  const tolerations = pod.spec.tolerations ?? [];
  const unschedulable: Taint = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };
  if (node.spec?.unschedulable === true && !tolerates(tolerations, unschedulable)) {
    return "node(s) were unschedulable";
  }
  if (!matchesNode(pod, node)) return "node(s) didn't match Pod's node affinity/selector";
  const taint = untoleratedTaint(node, tolerations);
  if (taint !== undefined) return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`;
  const ports = hostPorts(pod);
  if (ports.size > 0) {
    for (const other of pods.values()) {
      for (const port of hostPorts(other)) {
        if (ports.has(port)) return "node(s) didn't have free ports for the requested pod ports";
      }
    }
  }
  return undefined;
}

/** nodeSelector and required node affinity, which DaemonSet pods use to name their node. */
export function matchesNode(pod: { readonly spec: Pod["spec"] }, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  if (pod.spec.nodeSelector !== undefined && !hasLabels(pod.spec.nodeSelector, labels)) return false;
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return required === undefined || required.nodeSelectorTerms.some((term) => matchesTerm(term, node));
}

export function untoleratedTaint(node: Node, tolerations: readonly Toleration[]): Taint | undefined {
  return (node.spec?.taints ?? []).find(
    (taint) => (taint.effect === "NoSchedule" || taint.effect === "NoExecute") && !tolerates(tolerations, taint),
  );
}

export function tolerates(tolerations: readonly Toleration[], taint: Taint): boolean {
  return tolerations.some((toleration) => {
    if (toleration.effect !== undefined && toleration.effect !== "" && toleration.effect !== taint.effect) return false;
    if (toleration.key === undefined || toleration.key === "") return toleration.operator === "Exists";
    if (toleration.key !== taint.key) return false;
    return toleration.operator === "Exists" || (toleration.value ?? "") === (taint.value ?? "");
  });
}

/** A term without any expression matches nothing (API documentation of NodeSelectorTerm). */
function matchesTerm(term: NodeSelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length === 0 && fields.length === 0) return false;
  const labels = node.metadata.labels ?? {};
  const fieldValues: Labels = { "metadata.name": node.metadata.name };
  const all = (requirements: readonly LabelSelectorRequirement[], values: Labels): boolean =>
    matchesLabels(labelSelectorOf({ matchExpressions: requirements }) ?? [], values);
  return all(expressions, labels) && all(fields, fieldValues);
}

function hostPorts(pod: Pod): ReadonlySet<string> {
  const ports = new Set<string>();
  for (const container of pod.spec.containers) {
    for (const port of container.ports ?? []) {
      const hostPort = port.hostPort ?? (pod.spec.hostNetwork === true ? port.containerPort : 0);
      if (hostPort > 0) ports.add(`${port.protocol ?? "TCP"}/${hostPort}`);
    }
  }
  return ports;
}

function needsPodAffinity(pod: Pod): boolean {
  const { podAffinity, podAntiAffinity } = pod.spec.affinity ?? {};
  return (
    (podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []).length > 0 ||
    (podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []).length > 0
  );
}

function podAffinityRefusal(
  pod: Pod,
  { node }: NodeLoad,
  others: readonly Pod[],
  nodeLabels: ReadonlyMap<string, Labels>,
): string | undefined {
  const here = node.metadata.labels ?? {};
  const near = (term: PodAffinityTerm): boolean => {
    const domain = here[term.topologyKey];
    if (domain === undefined) return false;
    return others.some(
      (other) =>
        other.spec.nodeName !== undefined &&
        nodeLabels.get(other.spec.nodeName)?.[term.topologyKey] === domain &&
        isMeant(term, pod, other),
    );
  };
  const anti = pod.spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  if (anti.some(near)) return "node(s) didn't match pod anti-affinity rules";
  for (const term of pod.spec.affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []) {
    // The first pod of a group that wants to be near itself may go anywhere, or none ever could.
    const first =
      isMeant(term, pod, pod) &&
      !others.some((other) => other.spec.nodeName !== undefined && isMeant(term, pod, other));
    if (!near(term) && !(first && here[term.topologyKey] !== undefined))
      return "node(s) didn't match pod affinity rules";
  }
  return undefined;
}

function isMeant(term: PodAffinityTerm, pod: Pod, other: Pod): boolean {
  const namespaces = term.namespaces ?? [];
  const inNamespace =
    namespaces.length === 0
      ? other.metadata.namespace === pod.metadata.namespace
      : namespaces.includes(other.metadata.namespace ?? "");
  return inNamespace && matchesSelector(term.labelSelector, other.metadata.labels);
}

/** Lower is better, first difference decides. */
function scoreNode(pod: Pod, { node, pods }: NodeLoad): readonly number[] {
  let preferred = 0;
  for (const { weight, preference } of pod.spec.affinity?.nodeAffinity
    ?.preferredDuringSchedulingIgnoredDuringExecution ?? []) {
    if (matchesTerm(preference, node)) preferred += weight;
  }
  const avoided = (node.spec?.taints ?? []).filter(
    (taint) => taint.effect === "PreferNoSchedule" && !tolerates(pod.spec.tolerations ?? [], taint),
  ).length;
  const owner = controllerOf(pod)?.uid;
  let siblings = 0;
  if (owner !== undefined) for (const other of pods.values()) if (controllerOf(other)?.uid === owner) siblings += 1;
  return [-preferred, avoided, siblings, pods.size];
}

function compareScores(a: readonly number[], b: readonly number[]): number {
  for (let at = 0; at < a.length; at++) {
    const difference = (a[at] ?? 0) - (b[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
