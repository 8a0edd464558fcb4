/** A policy whose peers are told by their namespaces alone: whether anything was given of the places that a rule is about. */
import type { ClusterNetworkPolicy, EntityRule, KubernetesNetworkPolicy, Rule } from "@calico-ts/model";
import type { SourcedResource } from "../explain/manifest-world.ts";
import { isOf } from "../explain/manifest-world.ts";

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
