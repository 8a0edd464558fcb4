/**
 * What the policy compiler tells a dataplane. Every message carries the latest state of one object, never a step:
 * a dataplane that missed all earlier messages for an id can act on the last one.
 *
 * Order inside a flush is a contract (see `FLUSH_PHASES`): referents before what refers to them, removals after.
 */
import type { Family, PortRange } from "@calico-ts/net";

/** Where a policy came from: the provenance in every kernel rule, and the key of its chains. */
export interface PolicyId {
  readonly kind:
    | "GlobalNetworkPolicy"
    | "NetworkPolicy"
    | "KubernetesNetworkPolicy"
    | "KubernetesClusterNetworkPolicy"
    | "StagedGlobalNetworkPolicy"
    | "StagedNetworkPolicy"
    | "StagedKubernetesNetworkPolicy";
  /** "" for cluster-scoped kinds. */
  readonly namespace: string;
  readonly name: string;
}

export const policyIdText = (id: PolicyId): string =>
  id.namespace === "" ? `${id.kind}/${id.name}` : `${id.kind}/${id.namespace}/${id.name}`;

/** `orchestrator` is `k8s`, `workload` is `<namespace>/<pod>`, `endpoint` is the interface in the pod (`eth0`). */
export interface WorkloadEndpointId {
  readonly orchestrator: string;
  readonly workload: string;
  readonly endpoint: string;
}

export const workloadIdText = (id: WorkloadEndpointId): string => `${id.orchestrator}/${id.workload}/${id.endpoint}`;

/**
 * `ip`: bare addresses. `net`: prefixes (may overlap; members arrive without ones contained in another member).
 * `ip-port`: `10.0.0.1,tcp:80` (upstream's spelling: address, lower-case protocol, port).
 * A set may hold both families; the dataplane splits by family.
 */
export type IpSetType = "ip" | "net" | "ip-port";

export interface RuleMatch {
  readonly family?: Family;
  readonly protocol?: number;
  readonly notProtocol?: number;
  readonly icmp?: { readonly type: number; readonly code?: number };
  readonly notIcmp?: { readonly type: number; readonly code?: number };
  /** Prefixes in text; any one matches. */
  readonly sourceNets: readonly string[];
  readonly notSourceNets: readonly string[];
  readonly destinationNets: readonly string[];
  readonly notDestinationNets: readonly string[];
  /** Numeric ports or a named-port set; any one matches. */
  readonly sourcePorts: readonly PortRange[];
  readonly notSourcePorts: readonly PortRange[];
  readonly destinationPorts: readonly PortRange[];
  readonly notDestinationPorts: readonly PortRange[];
  /** Ids of `ip` / `net` sets; every one must match. */
  readonly sourceSets: readonly string[];
  readonly notSourceSets: readonly string[];
  readonly destinationSets: readonly string[];
  readonly notDestinationSets: readonly string[];
  /** Ids of `ip-port` sets for named ports; ORed with the numeric ports of the same side. */
  readonly sourceNamedPortSets: readonly string[];
  readonly notSourceNamedPortSets: readonly string[];
  readonly destinationNamedPortSets: readonly string[];
  readonly notDestinationNamedPortSets: readonly string[];
  /** `ip-port` sets of a service match: address, protocol and port together. */
  readonly destinationServiceSets: readonly string[];
}

/** Every packet: no criterion. Rules are written as what differs from it. */
export const MATCH_ANYTHING: RuleMatch = {
  sourceNets: [],
  notSourceNets: [],
  destinationNets: [],
  notDestinationNets: [],
  sourcePorts: [],
  notSourcePorts: [],
  destinationPorts: [],
  notDestinationPorts: [],
  sourceSets: [],
  notSourceSets: [],
  destinationSets: [],
  notDestinationSets: [],
  sourceNamedPortSets: [],
  notSourceNamedPortSets: [],
  destinationNamedPortSets: [],
  notDestinationNamedPortSets: [],
  destinationServiceSets: [],
};

export interface Rule {
  readonly action: "allow" | "deny" | "log" | "pass";
  readonly match: RuleMatch;
  /** Index in the policy's ingress or egress list as the user wrote it. Several rules may share one. */
  readonly index: number;
}

export interface ActivePolicy {
  readonly tier: string;
  /** undefined: last. */
  readonly order?: number;
  readonly ingress: readonly Rule[];
  readonly egress: readonly Rule[];
  readonly untracked: boolean;
  readonly preDnat: boolean;
  readonly staged: boolean;
}

export interface Profile {
  readonly ingress: readonly Rule[];
  readonly egress: readonly Rule[];
}

/**
 * One tier as it applies to one endpoint: policies in evaluation order, per direction. An empty direction does not apply.
 * Staged policies are left out: they are not enforced.
 */
export interface EndpointTier {
  readonly name: string;
  readonly defaultAction: "deny" | "pass";
  readonly ingress: readonly PolicyId[];
  readonly egress: readonly PolicyId[];
  /** Directions in which nothing but staged policies applies: the tier passes, and a flow log says so. */
  readonly stagedOnly?: readonly ("ingress" | "egress")[];
}

export interface WorkloadEndpoint {
  readonly active: boolean;
  /** Host side, `cali…`. */
  readonly interfaceName: string;
  readonly mac?: string;
  /** /32 and /128 prefixes. */
  readonly addresses: readonly string[];
  readonly tiers: readonly EndpointTier[];
  readonly profiles: readonly string[];
  readonly allowedSourcePrefixes: readonly string[];
  /** The BGPPeer by which the pod speaks BGP with this node. */
  readonly bgpPeer?: string;
  /** Seen from the workload; absent: no limit. */
  readonly ingressBandwidth?: BandwidthLimit;
  readonly egressBandwidth?: BandwidthLimit;
  readonly ingressPackets?: PacketLimit;
  readonly egressPackets?: PacketLimit;
  /** TCP connections at a time. */
  readonly ingressConnections?: number;
  readonly egressConnections?: number;
  /** Six bits (RFC 2474) that mark what it sends out of the cluster; absent: left as they are. */
  readonly dscp?: number;
  readonly floatingAddresses?: readonly FloatingAddress[];
}

/** An address that leads to one of the endpoint's own, of the same family. Both as text, canonical. */
export interface FloatingAddress {
  readonly external: string;
  readonly internal: string;
}

export interface PacketLimit {
  /** Packets per second. */
  readonly rate: number;
  /** Packets. */
  readonly burst: number;
}

export interface BandwidthLimit {
  /** Bits per second. */
  readonly bandwidth: number;
  /** Bits. */
  readonly burst: number;
  /** Bits per second, above `bandwidth`. */
  readonly peakRate?: number;
  /** Bytes, for `peakRate`. */
  readonly minBurst?: number;
}

export interface HostEndpoint {
  /** An interface name, `*`, or "" when matched by address. */
  readonly interfaceName: string;
  readonly expectedAddresses: readonly string[];
  readonly tiers: readonly EndpointTier[];
  readonly untrackedTiers: readonly EndpointTier[];
  readonly preDnatTiers: readonly EndpointTier[];
  readonly forwardTiers: readonly EndpointTier[];
  readonly profiles: readonly string[];
  /** As a workload's, for what the host sends from `expectedAddresses`. */
  readonly dscp?: number;
}

export type Encapsulation = "none" | "ipip" | "vxlan";
export type EncapsulationMode = "never" | "always" | "cross-subnet";

/** One destination in the cluster's address plan, as seen from this node (upstream's RouteUpdate). */
export interface Route {
  readonly destination: string;
  readonly types: readonly (
    | "cidr-info" // a pool
    | "remote-workload"
    | "local-workload"
    | "remote-host"
    | "local-host"
    | "remote-tunnel"
    | "local-tunnel"
  )[];
  /** How to get there from this node: a cross-subnet pool's is `none` when `sameSubnet`, else the pool's own. */
  readonly encapsulation: Encapsulation;
  /** The pool's own. */
  readonly mode: EncapsulationMode;
  readonly natOutgoing: boolean;
  /** The node that owns it, and that node's address of the family. */
  readonly node?: string;
  readonly nodeAddress?: string;
  /** True when the owning node's address is in one of this node's own subnets. */
  readonly sameSubnet: boolean;
  /** A single address taken from a block that another node owns. */
  readonly borrowed: boolean;
}

export interface Vtep {
  readonly node: string;
  readonly family: Family;
  readonly mac: string;
  /** Tunnel address of the VTEP, and the node address packets are sent to. */
  readonly tunnelAddress: string;
  readonly nodeAddress: string;
}

/** Whether it is disabled is the allocator's business: pods that have addresses from it are reached as before. */
export interface Pool {
  readonly cidr: string;
  readonly natOutgoing: boolean;
  readonly ipip: EncapsulationMode;
  readonly vxlan: EncapsulationMode;
  /** Its addresses are those of load balancers: nothing in the cluster has one. */
  readonly loadBalancersOnly?: boolean;
}

export interface HostAddresses {
  readonly ipv4?: string;
  readonly ipv6?: string;
}

/** What the cluster's BGPConfiguration (`default`) says to a dataplane. */
export interface BgpSettings {
  /** Prefixes of services that are announced over BGP, canonical, sorted, each once; both families. */
  readonly servicePrefixes: readonly string[];
  /** The address this node has on the interfaces of pods that are BGP peers (`WorkloadEndpoint.bgpPeer`). */
  readonly peeringAddresses: Readonly<Partial<Record<Family, string>>>;
}

export type DataplaneMessage =
  | { readonly kind: "config-update"; readonly config: Readonly<Record<string, string>> }
  | { readonly kind: "in-sync" }
  | {
      readonly kind: "ip-set-update";
      readonly id: string;
      readonly type: IpSetType;
      readonly members: readonly string[];
    }
  | {
      readonly kind: "ip-set-delta";
      readonly id: string;
      readonly added: readonly string[];
      readonly removed: readonly string[];
    }
  | { readonly kind: "ip-set-remove"; readonly id: string }
  | { readonly kind: "policy-update"; readonly id: PolicyId; readonly policy: ActivePolicy }
  | { readonly kind: "policy-remove"; readonly id: PolicyId }
  | { readonly kind: "profile-update"; readonly name: string; readonly profile: Profile }
  | { readonly kind: "profile-remove"; readonly name: string }
  | { readonly kind: "workload-endpoint-update"; readonly id: WorkloadEndpointId; readonly endpoint: WorkloadEndpoint }
  | { readonly kind: "workload-endpoint-remove"; readonly id: WorkloadEndpointId }
  | { readonly kind: "host-endpoint-update"; readonly name: string; readonly endpoint: HostEndpoint }
  | { readonly kind: "host-endpoint-remove"; readonly name: string }
  | { readonly kind: "route-update"; readonly route: Route }
  | { readonly kind: "route-remove"; readonly destination: string }
  | { readonly kind: "vtep-update"; readonly vtep: Vtep }
  | { readonly kind: "vtep-remove"; readonly node: string; readonly family: Family }
  | { readonly kind: "host-update"; readonly node: string; readonly addresses: HostAddresses }
  | { readonly kind: "host-remove"; readonly node: string }
  | { readonly kind: "pool-update"; readonly id: string; readonly pool: Pool }
  | { readonly kind: "pool-remove"; readonly id: string }
  | { readonly kind: "bgp-settings-update"; readonly settings: BgpSettings }
  | { readonly kind: "bgp-settings-remove" };

export type MessageKind = DataplaneMessage["kind"];

/** The order of messages inside one flush. */
export const FLUSH_PHASES: readonly { readonly kinds: readonly MessageKind[]; readonly because: string }[] = [
  { kinds: ["config-update"], because: "everything below may depend on it" },
  { kinds: ["ip-set-update", "ip-set-delta"], because: "rules may only name sets that exist" },
  { kinds: ["policy-update"], because: "endpoints may only name policies that exist" },
  { kinds: ["profile-update"], because: "endpoints may only name profiles that exist" },
  { kinds: ["host-endpoint-update", "workload-endpoint-update"], because: "last of the additions" },
  { kinds: ["workload-endpoint-remove", "host-endpoint-remove"], because: "they refer to everything else" },
  { kinds: ["profile-remove"], because: "no endpoint names it any more" },
  { kinds: ["policy-remove"], because: "no endpoint names it any more" },
  { kinds: ["ip-set-remove"], because: "no rule names it any more" },
  { kinds: ["route-remove"], because: "a route may not outlive its VTEP" },
  { kinds: ["vtep-remove"], because: "no route uses it any more" },
  { kinds: ["vtep-update"], because: "routes go through VTEPs that exist" },
  { kinds: ["route-update"], because: "last of the routing messages" },
  { kinds: ["host-update", "host-remove", "pool-update", "pool-remove"], because: "independent of the rest" },
  { kinds: ["bgp-settings-update", "bgp-settings-remove"], because: "independent of the rest" },
  { kinds: ["in-sync"], because: "says that everything known so far has been sent" },
];
