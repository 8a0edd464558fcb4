/**
 * rtnetlink objects as values: links, addresses, routes, policy rules, neighbours and bridge forwarding entries.
 *
 * `X` is what a kernel dump decodes to; `XSpec` is what one asks for, with the kernel's or `ip`'s defaults for what is
 * left out. Numbers of protocols, tables and scopes stay numbers: other programs own some of them and we must not lose any.
 */
import type { Family, IpAddress, Prefix } from "@calico-ts/net";

export interface Link {
  readonly index: number;
  readonly name: string;
  /** ARPHRD_* (linux/if_arp.h): 1 Ethernet, 772 loopback, 768 IPIP, 65534 none. */
  readonly hardwareType: number;
  /** IFF_* as the kernel has them. */
  readonly flags: number;
  /** IFF_UP: somebody switched it on. */
  readonly up: boolean;
  /** IFF_LOWER_UP: the other end is there and on. */
  readonly carrier: boolean;
  /** IF_OPER_*: 2 down, 3 lower layer down, 6 up, 0 unknown. */
  readonly operState: number;
  readonly mtu: number;
  readonly mac?: string;
  /** Index of the bridge (or bond) this link is a port of. */
  readonly master?: number;
  /** IFLA_LINK: the other end of a veth or the underlay of a tunnel; in another namespace when `linkNamespace` is set. */
  readonly link?: number;
  /** Namespace id (not inode) that `link` counts in. */
  readonly linkNamespace?: number;
  readonly group: number;
  readonly txQueueLength: number;
  readonly alias?: string;
  readonly info: LinkInfo;
  /** Present when the link is a port of a bridge. */
  readonly bridgePort?: BridgePort;
}

export type LinkInfo =
  | { readonly kind: "veth" }
  | ({ readonly kind: "bridge" } & BridgeOptions)
  | ({ readonly kind: "vxlan" } & VxlanOptions)
  | ({ readonly kind: "ipip" } & IpipOptions)
  | ({ readonly kind: "tun" } & TunInfo)
  /** A kind without options we read; "" for real hardware and loopback. */
  | { readonly kind: "other"; readonly name: string };

export interface BridgeOptions {
  readonly stp?: boolean;
  /** Hundredths of a second. */
  readonly forwardDelay?: number;
  readonly ageingTime?: number;
  readonly vlanFiltering?: boolean;
  readonly multicastSnooping?: boolean;
}

export interface VxlanOptions {
  /** The network identifier (VNI). */
  readonly id: number;
  readonly port?: number;
  readonly local?: IpAddress;
  /** Multicast group or the only peer. */
  readonly remote?: IpAddress;
  /** Index of the underlay. */
  readonly underlay?: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly learning?: boolean;
  readonly ageing?: number;
  readonly proxy?: boolean;
  readonly l2miss?: boolean;
  readonly l3miss?: boolean;
  readonly udpChecksum?: boolean;
  readonly udpZeroChecksum6Tx?: boolean;
  readonly udpZeroChecksum6Rx?: boolean;
  readonly collectMetadata?: boolean;
  readonly gbp?: boolean;
}

export interface IpipOptions {
  readonly local?: IpAddress;
  readonly remote?: IpAddress;
  readonly underlay?: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly pmtuDiscovery?: boolean;
}

export interface TunInfo {
  readonly owner?: number;
  readonly group?: number;
  readonly tap?: boolean;
  readonly persistent?: boolean;
}

export interface BridgePort {
  /** 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking. */
  readonly state?: number;
  readonly cost?: number;
  readonly priority?: number;
  readonly hairpin?: boolean;
  readonly guard?: boolean;
  readonly learning?: boolean;
  readonly unicastFlood?: boolean;
  readonly multicastFlood?: boolean;
  readonly broadcastFlood?: boolean;
  readonly proxyArp?: boolean;
  readonly neighbourSuppress?: boolean;
  /** Ports that are isolated do not talk to each other. */
  readonly isolated?: boolean;
}

interface CommonLinkSpec {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly up?: boolean;
  readonly master?: number;
  readonly txQueueLength?: number;
  readonly group?: number;
  readonly alias?: string;
  /** Put the new link here: an open file descriptor of a namespace. */
  readonly namespaceFd?: number;
  /** Absent: the kernel's choice; for a veth one for each CPU. */
  readonly txQueues?: number;
  readonly rxQueues?: number;
}

export interface VethPeerSpec {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Not part of the creating message: whoever sends it switches the peer on afterwards. */
  readonly up?: boolean;
  /** Where the peer goes: an open file descriptor of a namespace. */
  readonly namespaceFd?: number;
  /** Absent: the kernel's choice; for a veth one for each CPU. */
  readonly txQueues?: number;
  readonly rxQueues?: number;
}

export type LinkSpec =
  | (CommonLinkSpec & { readonly kind: "veth"; readonly peer: VethPeerSpec })
  | (CommonLinkSpec & { readonly kind: "bridge" } & BridgeOptions)
  | (CommonLinkSpec & { readonly kind: "vxlan" } & VxlanOptions)
  | (CommonLinkSpec & { readonly kind: "ipip" } & IpipOptions)
  /** Kinds without options we write: `dummy`, `vrf` and so on, by the kernel's name. */
  | (CommonLinkSpec & { readonly kind: "other"; readonly type: string });

/** What can be changed on an existing link. `master: 0` takes it out of its bridge. */
export interface LinkChange {
  readonly name?: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly up?: boolean;
  readonly master?: number;
  readonly txQueueLength?: number;
  readonly group?: number;
  readonly alias?: string;
  readonly namespaceFd?: number;
  readonly promiscuous?: boolean;
  readonly bridgePort?: BridgePort;
  readonly bridge?: BridgeOptions;
  readonly vxlan?: VxlanOptions;
  readonly ipip?: IpipOptions;
}

export interface LinkAddress {
  /** Index of the link. */
  readonly link: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
  /** Point-to-point links: the other end; absent when the same as `address`. */
  readonly peer?: IpAddress;
  readonly broadcast?: IpAddress;
  readonly label?: string;
  /** RT_SCOPE_*: 0 global, 253 link, 254 host. */
  readonly scope: number;
  /** IFA_F_*: 0x80 permanent, 0x40 tentative, 0x08 duplicate, 0x02 nodad, 0x200 noprefixroute. */
  readonly flags: number;
}

export interface LinkAddressSpec {
  readonly link: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
  readonly peer?: IpAddress;
  readonly broadcast?: IpAddress;
  readonly label?: string;
  readonly scope?: number;
  /** IPv6: usable at once, no duplicate address detection. */
  readonly noDad?: boolean;
  /** The kernel makes no route to the prefix. */
  readonly noPrefixRoute?: boolean;
}

export type RouteType =
  | "unspecified"
  | "unicast"
  | "local"
  | "broadcast"
  | "anycast"
  | "multicast"
  | "blackhole"
  | "unreachable"
  | "prohibit"
  | "throw"
  | "nat";

export interface NextHop {
  readonly gateway?: IpAddress;
  /** Index of the link. */
  readonly link?: number;
  /** 1–256. */
  readonly weight: number;
  readonly onlink?: boolean;
}

export interface Route {
  readonly destination: Prefix;
  readonly type: RouteType;
  /** 254 main, 255 local, 253 default. */
  readonly table: number;
  /** RTPROT_*: 2 kernel, 3 boot, 4 static, 12 BIRD; Calico's own is 80. */
  readonly protocol: number;
  /** RT_SCOPE_*: 0 universe, 253 link, 254 host. IPv6 is always 0. */
  readonly scope: number;
  readonly tos?: number;
  readonly metric?: number;
  readonly gateway?: IpAddress;
  /** Index of the outgoing link. */
  readonly link?: number;
  readonly onlink?: boolean;
  readonly preferredSource?: IpAddress;
  readonly mtu?: number;
  /** Several next hops: then `gateway` and `link` are absent. */
  readonly nextHops?: readonly NextHop[];
  /** RTNH_F_* and RTM_F_* without onlink: 1 dead, 16 link down. */
  readonly flags?: number;
}

/** Defaults: unicast, main table, protocol static, scope as `ip route` chooses it. */
export type RouteSpec = Pick<Route, "destination"> & Partial<Omit<Route, "destination" | "flags">>;

export type RuleAction = "lookup" | "goto" | "nop" | "blackhole" | "unreachable" | "prohibit";

export interface RoutingRule {
  readonly family: Family;
  readonly priority: number;
  readonly action: RuleAction;
  /** For `lookup`. */
  readonly table?: number;
  /** For `goto`: the priority to go on with. */
  readonly goto?: number;
  readonly source?: Prefix;
  readonly destination?: Prefix;
  readonly mark?: number;
  readonly mask?: number;
  readonly iif?: string;
  readonly oif?: string;
  readonly invert?: boolean;
  readonly ipProtocol?: number;
  readonly protocol?: number;
  readonly suppressPrefixLength?: number;
}

export interface NeighbourEntry {
  readonly kind: "neighbour";
  /** Index of the link. */
  readonly link: number;
  readonly address: IpAddress;
  readonly mac?: string;
  /** NUD_*: 0x80 permanent, 0x40 noarp, 0x02 reachable, 0x04 stale, 0x20 failed. */
  readonly state: number;
  /** NTF_*: 0x08 proxy, 0x80 router, 0x10 learned by an outside program. */
  readonly flags: number;
}

/** An entry of a bridge's or VXLAN device's forwarding database. */
export interface FdbEntry {
  readonly kind: "fdb";
  readonly link: number;
  readonly mac: string;
  /** VXLAN: the node that has this MAC. */
  readonly destination?: IpAddress;
  readonly vlan?: number;
  readonly vni?: number;
  readonly port?: number;
  /** Index of the bridge, when the bridge holds it. */
  readonly master?: number;
  readonly state: number;
  /** NTF_*: 0x02 self (held by the device), 0x04 master (held by the bridge). */
  readonly flags: number;
}

export type Neighbour = NeighbourEntry | FdbEntry;

/** Defaults: permanent; FDB entries are held by the device itself (`self`). */
export type NeighbourSpec =
  | (Pick<NeighbourEntry, "kind" | "link" | "address"> & Partial<NeighbourEntry>)
  | (Pick<FdbEntry, "kind" | "link" | "mac"> & Partial<Omit<FdbEntry, "master">>);

/** A shaper: `rate` bytes a second, `burst` bytes at once, `limit` bytes that may wait; beyond that packets are dropped (tc-tbf(8)). */
export interface TokenBucket {
  readonly rate: number;
  readonly burst: number;
  readonly limit: number;
  /** Bytes a second within a burst, above `rate`. */
  readonly peakRate?: number;
  /** Bytes, for `peakRate`: at least the MTU. Absent: `burst`. */
  readonly minBurst?: number;
}

/** A queueing discipline at a link's root, or the place for filters of what enters it. */
export interface Qdisc {
  readonly link: number;
  /** Its major number; ffff at the ingress. */
  readonly handle: number;
  readonly place: "root" | "ingress";
  /** `tbf`, `noqueue`, `ingress`, … */
  readonly kind: string;
  /** What the kernel tells of a token bucket: its bursts only as times. */
  readonly bucket?: Pick<TokenBucket, "rate" | "limit" | "peakRate">;
}
