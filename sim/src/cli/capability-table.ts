/**
 * What each thing the kernel may have or lack means for a cluster on this host: the one table behind `doctor` and the checks of
 * `up`. A capability that is not listed here costs nothing today.
 */
import type { TopologyPlan } from "../topology/plan.ts";

export type Importance =
  /** No cluster without it. */
  | "needed"
  /** Some clusters, or some commands, do not work without it. */
  | "used"
  /** Not used yet; listed because scenarios of the product need it on real nodes. */
  | "later";

export interface CapabilityMeaning {
  readonly importance: Importance;
  readonly what: string;
  /** What does not work without it. */
  readonly cost: string;
  readonly remedy?: string;
  /** Topologies that cannot do without it. */
  readonly neededBy?: (plan: TopologyPlan) => boolean;
}

const encapsulates = (how: "ipip" | "vxlan") => (plan: TopologyPlan) =>
  plan.pools.some((pool) => pool.encapsulation === how);
const isIpv6 = (plan: TopologyPlan): boolean =>
  plan.subnets.some(({ prefixes }) => prefixes.some(({ family }) => family === 6));

const AS_ROOT = "run as root, for example with sudo";
const NEWER_KERNEL = "use a kernel that has it; Debian 12's and later do";
const nft = (what: string, cost: string): CapabilityMeaning => ({
  importance: "needed",
  what,
  cost,
  remedy: NEWER_KERNEL,
});

export const CAPABILITY_TABLE: Readonly<Record<string, CapabilityMeaning>> = {
  root: { importance: "needed", what: "the rights of root", cost: "nothing can be created", remedy: AS_ROOT },
  "cap:net_admin": {
    importance: "needed",
    what: "CAP_NET_ADMIN",
    cost: "no links, routes or rules",
    remedy: "in a container: --cap-add NET_ADMIN or --privileged",
  },
  "cap:sys_admin": {
    importance: "needed",
    what: "CAP_SYS_ADMIN",
    cost: "no network namespaces",
    remedy: "in a container: --cap-add SYS_ADMIN or --privileged",
  },
  "cap:net_raw": { importance: "used", what: "CAP_NET_RAW", cost: "`probe --protocol icmp` fails" },
  namespaces: {
    importance: "needed",
    what: "network namespaces",
    cost: "no nodes, no pods",
    remedy: `a kernel with CONFIG_NET_NS; in a container: --privileged`,
  },
  "link:veth": {
    importance: "needed",
    what: "veth links",
    cost: "nothing can be plugged together",
    remedy: "modprobe veth",
  },
  "link:bridge": {
    importance: "needed",
    what: "bridges",
    cost: "no switches between nodes",
    remedy: "modprobe bridge",
  },
  "link:vxlan": {
    importance: "used",
    what: "VXLAN devices",
    cost: "pools with encapsulation vxlan cannot be used",
    remedy: "modprobe vxlan, or a topology with encapsulation none",
    neededBy: encapsulates("vxlan"),
  },
  "link:ipip": {
    importance: "used",
    what: "IPIP tunnels",
    cost: "pools with encapsulation ipip cannot be used",
    remedy: "modprobe ipip, or a topology with encapsulation vxlan or none",
    neededBy: encapsulates("ipip"),
  },
  sysctl: {
    importance: "needed",
    what: "writing net.* sysctls",
    cost: "nodes cannot forward packets",
    remedy: "mount /proc/sys writable",
  },
  ipv6: {
    importance: "used",
    what: "IPv6",
    cost: "dual-stack topologies cannot be used",
    remedy: "boot without ipv6.disable=1",
    neededBy: isIpv6,
  },
  "nft:inet": nft("nftables, family inet", "no policy can be enforced"),
  "nft:ip": nft("nftables, family ip", "ClusterIPs and NodePorts do not work"),
  "nft:ip6": { importance: "used", what: "nftables, family ip6", cost: "IPv6 Services do not work", neededBy: isIpv6 },
  "nft:interval-set": nft("nftables interval sets", "policies with ipBlock cannot be enforced"),
  "nft:concat-set": nft("nftables concatenated sets", "policies with named ports cannot be enforced"),
  "nft:verdict-map": nft("nftables verdict maps", "pods' chains cannot be dispatched"),
  "nft:ct": nft("connection tracking in nftables", "answers to allowed connections would be dropped"),
  "nft:fib": nft("nftables fib expressions", "NodePorts do not work"),
  "nft:nat": nft("NAT in nftables", "ClusterIPs do not work"),
  "nft:masquerade": nft("masquerading in nftables", "pools with natOutgoing cannot be used"),
  "nft:numgen": nft("nftables number generators", "Services with several backends do not work"),
  conntrack: {
    importance: "used",
    what: "the connection tracking table over netlink",
    cost: "connections of removed pods linger in the table",
  },
  "nft:flowtable": {
    importance: "later",
    what: "nftables flow tables",
    cost: "no fast path for established connections",
  },
  "link:wireguard": { importance: "later", what: "WireGuard", cost: "no encryption between nodes" },
  "link:dummy": { importance: "later", what: "dummy links", cost: "scenarios that want one use loopback addresses" },
  "link:vrf": { importance: "later", what: "VRF links", cost: "no scenarios with several routing tables for hosts" },
  "tc:netem": { importance: "later", what: "netem", cost: "no simulated delay and loss on links" },
  "tc:clsact": { importance: "later", what: "the clsact queueing discipline", cost: "no eBPF dataplane" },
  bpf: { importance: "later", what: "loading eBPF programs", cost: "no eBPF dataplane" },
  btf: { importance: "later", what: "kernel type information (BTF)", cost: "no eBPF dataplane" },
  ipvs: { importance: "later", what: "IPVS", cost: "no kube-proxy in IPVS mode" },
  ipset: { importance: "later", what: "ipset", cost: "no iptables dataplane" },
};
