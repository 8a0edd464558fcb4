/** Policies written otherwise, so that one thing about their peers can be asked of the oracle. */
import type { ClusterNetworkPolicy, EntityRule, KubernetesNetworkPolicy, Rule } from "@calico-ts/model";
import type { SourcedResource } from "../explain/manifest-world.ts";
import { isOf } from "../explain/manifest-world.ts";

/** Where a rule stands: of which rule, and which of its peers it has. */
export interface PeerPlace {
  readonly index: number;
  readonly at: number;
}

export interface SpreadPolicy {
  readonly item: SourcedResource;
  /** Of each of its rules. */
  readonly places: { readonly ingress: readonly PeerPlace[]; readonly egress: readonly PeerPlace[] };
}

/** Kubernetes' rules have many peers: each in a rule of its own. undefined: the kind's rules have one. */
export function spreadPeers(item: SourcedResource): SpreadPolicy | undefined {
  if (!isOf(item, "KubernetesNetworkPolicy") && !isOf(item, "ClusterNetworkPolicy")) return undefined;
  const { ingress, egress } = (item.resource.spec ?? {}) as { ingress?: readonly object[]; egress?: readonly object[] };
  const [into, out] = [spreadRules(ingress, "from"), spreadRules(egress, "to")];
  return {
    item: withSpec(item, { ...item.resource.spec, ingress: into.rules, egress: out.rules }),
    places: { ingress: into.places, egress: out.places },
  };
}

function spreadRules(
  rules: readonly object[] = [],
  field: "from" | "to",
): { readonly rules: readonly object[]; readonly places: readonly PeerPlace[] } {
  const spread = rules.flatMap((rule, index) => {
    const peers = ((rule as Record<string, unknown>)[field] ?? []) as readonly object[];
    if (peers.length === 0) return [{ rule, place: { index, at: 0 } }];
    return peers.map((peer, at) => ({ rule: { ...rule, [field]: [peer] }, place: { index, at } }));
  });
  return { rules: spread.map(({ rule }) => rule), places: spread.map(({ place }) => place) };
}

/** Peers told by their namespaces alone: whether anything was given of the places that a rule is about. */
export function onlyNamespaces(item: SourcedResource): SourcedResource {
  if (isOf(item, "NetworkPolicy")) return withSpec(item, calicoRules(item.resource.spec));
  if (isOf(item, "GlobalNetworkPolicy")) return withSpec(item, calicoRules(item.resource.spec));
  if (isOf(item, "KubernetesNetworkPolicy")) return withSpec(item, kubernetesRules(item.resource.spec ?? {}));
  return isOf(item, "ClusterNetworkPolicy") ? withSpec(item, clusterRules(item.resource.spec)) : item;
}

const withSpec = (item: SourcedResource, spec: object): SourcedResource => {
  const resource = { ...item.resource, spec } as SourcedResource["resource"];
  return { ...item, resource };
};

function calicoRules(spec: { readonly ingress?: readonly Rule[]; readonly egress?: readonly Rule[] }): object {
  const side = ({ namespaceSelector = "" }: EntityRule = {}): EntityRule =>
    namespaceSelector === "" ? {} : { namespaceSelector };
  const rules = (list: readonly Rule[] = []): object[] =>
    list.map((rule) => ({ ...rule, source: side(rule.source), destination: side(rule.destination) }));
  return { ...spec, ingress: rules(spec.ingress), egress: rules(spec.egress) };
}

type KubernetesPeer = NonNullable<
  NonNullable<NonNullable<KubernetesNetworkPolicy["spec"]>["ingress"]>[number]["from"]
>[number];

function kubernetesRules(spec: NonNullable<KubernetesNetworkPolicy["spec"]>): object {
  const peer = ({ ipBlock, namespaceSelector }: KubernetesPeer): KubernetesPeer =>
    ipBlock !== undefined ? { ipBlock } : namespaceSelector === undefined ? { podSelector: {} } : { namespaceSelector };
  return {
    ...spec,
    ingress: spec.ingress?.map((rule) => ({ ...rule, from: rule.from?.map(peer) })),
    egress: spec.egress?.map((rule) => ({ ...rule, to: rule.to?.map(peer) })),
  };
}

type ClusterPeer = NonNullable<ClusterNetworkPolicy["spec"]["ingress"]>[number]["from"][number];

function clusterRules(spec: ClusterNetworkPolicy["spec"]): object {
  const peer = (each: object): object => {
    const { pods } = each as ClusterPeer;
    return pods === undefined ? each : { namespaces: pods.namespaceSelector };
  };
  return {
    ...spec,
    ingress: spec.ingress?.map((rule) => ({ ...rule, from: rule.from.map(peer) })),
    egress: spec.egress?.map((rule) => ({ ...rule, to: rule.to.map(peer) })),
  };
}
