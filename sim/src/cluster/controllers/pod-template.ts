/** What the workload controllers share: pods from templates, hashes of templates, and which pod to delete first. */
import { sha256Hex } from "@calico-ts/std";
import {
  conditionOf,
  isPodFinished,
  isPodReady,
  isTerminating,
  type KubeObject,
  type Labels,
  type OwnerReference,
  type Pod,
  type PodTemplate,
  uidOf,
} from "../kube/objects.ts";

export function ownerReference(apiVersion: string, kind: string, owner: KubeObject): OwnerReference {
  return {
    apiVersion,
    kind,
    name: owner.metadata.name,
    uid: uidOf(owner),
    controller: true,
    blockOwnerDeletion: true,
  };
}

export interface PodIdentity {
  readonly owner: OwnerReference;
  readonly namespace: string | undefined;
  readonly name?: string;
  readonly labels?: Labels;
  readonly spec?: Partial<Pod["spec"]>;
}

/** Without a name the server picks one: owner's name, dash, five characters. */
export function podFromTemplate(template: PodTemplate, identity: PodIdentity): Pod {
  const { owner, namespace, name } = identity;
  return {
    metadata: {
      // An empty name counts as absent: the server fills it in from generateName.
      name: name ?? "",
      generateName: `${owner.name}-`,
      ...(namespace === undefined ? {} : { namespace }),
      labels: { ...template.metadata?.labels, ...identity.labels },
      ...(template.metadata?.annotations === undefined ? {} : { annotations: template.metadata.annotations }),
      ownerReferences: [owner],
    },
    spec: { ...template.spec, ...identity.spec },
  };
}

// The alphabet of Kubernetes' generated names: no vowels, so no words, and nothing that reads like another character.
const SAFE = "bcdfghjklmnpqrstvwxz2456789";

/** Ten characters that change when the template does. `salt` tells apart objects whose templates are the same. */
export function templateHash(template: PodTemplate, salt = ""): string {
  const digest = sha256Hex(stableJson(withoutHash(template)) + salt);
  let hash = "";
  for (let at = 0; at < 10; at++) {
    hash += SAFE[Number.parseInt(digest.slice(at * 4, at * 4 + 4), 16) % SAFE.length] ?? "";
  }
  return hash;
}

export const HASH_LABEL = "pod-template-hash";

export const sameTemplate = (a: PodTemplate, b: PodTemplate): boolean =>
  stableJson(withoutHash(a)) === stableJson(withoutHash(b));

function withoutHash(template: PodTemplate): PodTemplate {
  if (template.metadata?.labels?.[HASH_LABEL] === undefined) return template;
  const { [HASH_LABEL]: _, ...labels } = template.metadata.labels;
  return { ...template, metadata: { ...template.metadata, labels } };
}

/** JSON with sorted keys and without nulls: equal for objects that mean the same. */
export function stableJson(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) => {
    if (each === null) return undefined;
    if (typeof each !== "object" || Array.isArray(each)) return each;
    return Object.fromEntries(Object.entries(each).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/** Neither finished nor on its way out: counts as a replica. */
export const isActive = (pod: Pod): boolean => !isPodFinished(pod) && !isTerminating(pod);

/**
 * The order in which surplus pods go (API documentation of ReplicaSet): without a node, then pending, then not ready, then on the node
 * with most of their siblings, then the youngest.
 */
export function deletionOrder(pods: readonly Pod[]): readonly Pod[] {
  const perNode = new Map<string, number>();
  for (const pod of pods) {
    const node = pod.spec.nodeName ?? "";
    perNode.set(node, (perNode.get(node) ?? 0) + 1);
  }
  const rank = (pod: Pod): readonly number[] => [
    pod.spec.nodeName === undefined ? 0 : 1,
    pod.status?.phase === "Running" ? 1 : 0,
    isPodReady(pod) ? 1 : 0,
    -(perNode.get(pod.spec.nodeName ?? "") ?? 0),
    -Date.parse(
      conditionOf(pod.status?.conditions, "Ready")?.lastTransitionTime ?? pod.metadata.creationTimestamp ?? "",
    ),
  ];
  const ranked = pods.map((pod) => ({ pod, rank: rank(pod) }));
  ranked.sort((a, b) => {
    for (let at = 0; at < a.rank.length; at++) {
      const difference = (a.rank[at] ?? 0) - (b.rank[at] ?? 0);
      if (difference !== 0 && !Number.isNaN(difference)) return difference;
    }
    return a.pod.metadata.name < b.pod.metadata.name ? -1 : 1;
  });
  return ranked.map((each) => each.pod);
}

/** "25%" of a total, or a number. Surge rounds up, unavailability down. */
export function scaledValue(value: number | string | undefined, total: number, round: "up" | "down"): number {
  if (value === undefined) return 0;
  if (typeof value === "number") return value;
  const percent = /^(\d+)%$/.exec(value)?.[1];
  if (percent === undefined) return Number.parseInt(value, 10) || 0;
  const exact = (Number(percent) * total) / 100;
  return round === "up" ? Math.ceil(exact) : Math.floor(exact);
}
