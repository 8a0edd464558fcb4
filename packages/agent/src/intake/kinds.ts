/**
 * What the agent watches, and how much of it is kept: the compiler's kinds, less what it never reads. A pod weighs ten kilobytes on the
 * wire; what policy and routes need of it are two hundred bytes, and every node holds every pod.
 */
import type { EndpointSlice, Node, Pod } from "@calico-ts/model";
import type { SyncKind } from "@calico-ts/sync";

export const SYNC_KINDS: readonly SyncKind[] = [
  "ClusterInformation",
  "FelixConfiguration",
  "BGPConfiguration",
  "BGPPeer",
  "Tier",
  "GlobalNetworkPolicy",
  "NetworkPolicy",
  "KubernetesNetworkPolicy",
  "ClusterNetworkPolicy",
  // Not enforced; flow logs tell of tiers that have no others.
  "StagedGlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
  "GlobalNetworkSet",
  "NetworkSet",
  "HostEndpoint",
  "IPPool",
  "IPAMBlock",
  { kind: "Namespace", project: withoutManagedFields },
  { kind: "ServiceAccount", project: withoutManagedFields },
  { kind: "Node", project: projectNode },
  { kind: "Pod", project: projectPod },
  { kind: "EndpointSlice", project: projectEndpointSlice },
];

type Meta = Pod["metadata"];

/** Server-side bookkeeping, often larger than the object. */
function projectMeta(metadata: Meta, keepAnnotation: (key: string) => boolean): Meta {
  const { managedFields: _managedFields, annotations, ...rest } = metadata as Meta & { managedFields?: unknown };
  if (annotations === undefined) return rest;
  return {
    ...rest,
    annotations: Object.fromEntries(Object.entries(annotations).filter(([key]) => keepAnnotation(key))),
  };
}

const ALSO_KEPT: ReadonlySet<string> = new Set([
  "vpc.amazonaws.com/pod-ips",
  "kubernetes.io/ingress-bandwidth",
  "kubernetes.io/egress-bandwidth",
]);
const ofCalico = (key: string): boolean => key.includes("projectcalico.org/") || ALSO_KEPT.has(key);

export function projectPod(pod: Pod): Pod {
  const { hostNetwork, nodeName, serviceAccountName } = pod.spec;
  const ports = (containers: Pod["spec"]["containers"]): Pod["spec"]["containers"] =>
    containers.flatMap(({ name, ports }) => (ports === undefined ? [] : [{ name, ports }]));
  const initContainers = pod.spec.initContainers === undefined ? [] : ports(pod.spec.initContainers);
  const { phase, podIP, podIPs } = pod.status ?? {};
  return {
    apiVersion: pod.apiVersion,
    kind: pod.kind,
    metadata: projectMeta(pod.metadata, ofCalico),
    spec: {
      ...(nodeName === undefined ? {} : { nodeName }),
      ...(hostNetwork === undefined ? {} : { hostNetwork }),
      ...(serviceAccountName === undefined ? {} : { serviceAccountName }),
      containers: ports(pod.spec.containers),
      ...(initContainers.length === 0 ? {} : { initContainers }),
    },
    status: {
      ...(phase === undefined ? {} : { phase }),
      ...(podIP === undefined ? {} : { podIP }),
      ...(podIPs === undefined ? {} : { podIPs }),
    },
  };
}

export function projectNode(node: Node): Node {
  const { addresses } = node.status ?? {};
  return {
    apiVersion: node.apiVersion,
    kind: node.kind,
    metadata: projectMeta(node.metadata, ofCalico),
    ...(node.spec === undefined ? {} : { spec: node.spec }),
    status: addresses === undefined ? {} : { addresses },
  };
}

function projectEndpointSlice(slice: EndpointSlice): EndpointSlice {
  return { ...slice, metadata: projectMeta(slice.metadata, () => false) };
}

function withoutManagedFields<T extends { readonly metadata: Meta }>(resource: T): T {
  return { ...resource, metadata: projectMeta(resource.metadata, () => true) };
}
