/** What the daemon watches, and how much of it is kept: services and pods change often, and little of them says where they can be reached. */
import type { EndpointSlice, Node, Pod, Service } from "@calico-ts/model";
import type { SyncKind } from "@calico-ts/sync";

export const syncKinds = (nodeName: string): readonly SyncKind[] => [
  "BGPConfiguration",
  "BGPFilter",
  "BGPPeer",
  "BlockAffinity",
  "CalicoNodeStatus",
  "ClusterInformation",
  "IPPool",
  { kind: "Node", project: projectNode },
  { kind: "Service", project: projectService },
  { kind: "EndpointSlice", project: projectSlice },
  // For peers by localWorkloadSelector: only pods of this node can be. They inherit labels.
  { kind: "Namespace", project: projectLabels },
  { kind: "ServiceAccount", project: projectLabels },
  { kind: "Pod", fieldSelector: `spec.nodeName=${nodeName}`, project: projectPod },
];

type Meta = Node["metadata"];

function projectLabels<T extends { readonly metadata: Meta }>(resource: T): T {
  const { name, namespace, labels } = resource.metadata;
  const metadata = { name, ...(namespace !== undefined && { namespace }), ...(labels !== undefined && { labels }) };
  return { ...resource, metadata };
}

function projectMeta({ name, namespace, uid, labels, annotations }: Meta): Meta {
  const ours = Object.entries(annotations ?? {}).filter(([key]) => key.includes("projectcalico.org/"));
  return {
    name,
    ...(namespace !== undefined && { namespace }),
    ...(uid !== undefined && { uid }),
    ...(labels !== undefined && { labels }),
    ...(ours.length > 0 && { annotations: Object.fromEntries(ours) }),
  };
}

/** Heartbeats are in the status, which says nothing of routes. */
export function projectNode({ apiVersion, kind, metadata, spec }: Node): Node {
  const { podCIDR, podCIDRs } = spec ?? {};
  return {
    apiVersion,
    kind,
    metadata: projectMeta(metadata),
    spec: { ...(podCIDR !== undefined && { podCIDR }), ...(podCIDRs !== undefined && { podCIDRs }) },
  };
}

const projectService = (service: Service): Service => ({ ...service, metadata: projectMeta(service.metadata) });
const projectSlice = (slice: EndpointSlice): EndpointSlice => ({ ...slice, metadata: projectMeta(slice.metadata) });

function projectPod({ apiVersion, kind, metadata, spec, status }: Pod): Pod {
  const { nodeName, hostNetwork, serviceAccountName } = spec;
  const { phase, podIP, podIPs } = status ?? {};
  return {
    apiVersion,
    kind,
    metadata: projectMeta(metadata),
    spec: {
      containers: [],
      ...(nodeName !== undefined && { nodeName }),
      ...(hostNetwork !== undefined && { hostNetwork }),
      ...(serviceAccountName !== undefined && { serviceAccountName }),
    },
    status: {
      ...(phase !== undefined && { phase }),
      ...(podIP !== undefined && { podIP }),
      ...(podIPs !== undefined && { podIPs }),
    },
  };
}
