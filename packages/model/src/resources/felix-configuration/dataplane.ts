/** FelixConfiguration keys about links, routes, rules and tunnels. */
import { anyCase, bool, integer, intOrString, opt, plainList, text, word } from "../../schema/builders.ts";
import { duration, fractionalDuration, protoPort, routeTableIdRange, routeTableRange } from "./terms.ts";

export const dataplaneFields = {
  // Common
  allowIPIPPacketsFromWorkloads: opt(bool({ description: "Whether pods may send IPIP packets. Default: false." })),
  allowVXLANPacketsFromWorkloads: opt(bool({ description: "Whether pods may send VXLAN packets. Default: false." })),
  cgroupV2Path: opt(text({ description: "Where the cgroup v2 hierarchy is; found when absent." })),
  chainInsertMode: opt(
    anyCase(["Insert", "Append"], {
      description:
        "Whether our rules come before or after those of others. Append needs care: others may accept first. Default: insert.",
    }),
  ),
  dataplaneDriver: opt(text({ description: "Executable of an external dataplane. Default: calico-iptables-plugin." })),
  dataplaneWatchdogTimeout: opt(
    text({ description: "How long the dataplane may be busy before the process counts as dead. Default: 90s." }),
  ),
  defaultEndpointToHostAction: opt(
    anyCase(["Drop", "Accept", "Return"], {
      description: "What happens to packets from pods to their own host after policy. Default: DROP.",
    }),
  ),
  deviceRouteProtocol: opt(integer({ description: "Protocol number of our routes. Default: 3." })),
  deviceRouteSourceAddress: opt(text({ maxLength: 45, description: "Source address of IPv4 routes to pods." })),
  deviceRouteSourceAddressIPv6: opt(text({ maxLength: 45, description: "Source address of IPv6 routes to pods." })),
  disableConntrackInvalidCheck: opt(
    bool({ description: "Do not drop packets that connection tracking calls invalid. Default: false." }),
  ),
  endpointStatusPathPrefix: opt(
    text({ description: "Folder under which the state of endpoints is written. Default: /var/run/calico." }),
  ),
  externalNodesList: opt(plainList(text(), { description: "Addresses of tunnel endpoints outside the cluster." })),
  failsafeInboundHostPorts: opt(
    plainList(protoPort, {
      description:
        "Ports of hosts that stay reachable whatever policy says. Default: tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667.",
    }),
  ),
  failsafeOutboundHostPorts: opt(
    plainList(protoPort, {
      description:
        "Ports that hosts reach whatever policy says. Default: udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667.",
    }),
  ),
  floatingIPs: opt(
    word(["Enabled", "Disabled"], { description: "Whether pods may have floating addresses. Default: Disabled." }),
  ),
  interfaceExclude: opt(
    text({
      description:
        "Interfaces that are no host endpoints, comma-separated; regular expressions between slashes. Default: kube-ipvs0.",
    }),
  ),
  interfacePrefix: opt(
    text({ description: "What names of pods' host interfaces begin with, comma-separated. Default: cali." }),
  ),
  interfaceRefreshInterval: opt(
    duration({ description: "How often interfaces are listed again; 0 turns it off. Default: 90s." }),
  ),
  ipv6Support: opt(bool({ description: "Whether IPv6 is handled. Default: true." })),
  istioAmbientMode: opt(
    word(["Enabled", "Disabled"], { description: "Whether Istio's ambient mode is accommodated. Default: Disabled." }),
  ),
  istioDSCPMark: opt(intOrString({ description: "DSCP that marks packets of the mesh. Default: 23." })),
  liveMigrationRouteConvergenceTime: opt(
    fractionalDuration({
      description: "How long routes of a moving virtual machine keep their raised priority. Default: 30s.",
    }),
  ),
  localSubnetL2Reachability: opt(
    word(["Disabled", "PodsAndLoadBalancers"], {
      description:
        "Whether the node answers ARP and NDP for pods and load-balancer addresses in its own subnet. Default: Disabled.",
    }),
  ),
  localSubnetL2ReachabilityRefreshInterval: opt(
    text({ description: "How often those answers are announced again. Default: 120s." }),
  ),
  netlinkTimeout: opt(duration({ description: "How long to wait for the kernel's answer. Default: 10s." })),
  policySyncPathPrefix: opt(text({ description: "Folder of the socket that application-layer policy is served on." })),
  programClusterRoutes: opt(
    word(["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"], {
      description: "Which routes to pods the agent programs; the rest is the BGP daemon's. Default: EnabledIPIPOnly.",
    }),
  ),
  removeExternalRoutes: opt(
    bool({ description: "Whether routes of others to pods' interfaces are removed. Default: true." }),
  ),
  requireMTUFile: opt(bool({ description: "Whether network set-up of pods waits for the MTU file. Default: false." })),
  routeRefreshInterval: opt(
    duration({ description: "How often routes are listed again; 0 turns it off. Default: 90s." }),
  ),
  routeSource: opt(
    anyCase(["WorkloadIPs", "CalicoIPAM"], { description: "Where routes come from. Default: CalicoIPAM." }),
  ),
  routeSyncDisabled: opt(bool({ description: "Leave routes alone altogether. Default: false." })),
  routeTableRange: opt(routeTableRange),
  routeTableRanges: opt(plainList(routeTableIdRange, { description: "Route table indices the agent may use." })),
  serviceLoopPrevention: opt(
    anyCase(["Drop", "Reject", "Disabled"], {
      description: "What happens to packets for service addresses that no service takes. Default: Drop.",
    }),
  ),
  sidecarAccelerationEnabled: opt(
    bool({ description: "Whether packets between a pod and its sidecar take a short cut. Default: false." }),
  ),
  useInternalDataplaneDriver: opt(bool({ description: "Whether the built-in dataplane is used. Default: true." })),
  workloadSourceSpoofing: opt(
    anyCase(["Disabled", "Any"], {
      description: "Any: pods may ask by annotation to use other source addresses. Default: Disabled.",
    }),
  ),
  ipForwarding: opt(
    word(["Enabled", "Disabled"], { description: "Whether the agent turns forwarding on. Default: Enabled." }),
  ),
  ipv4ElevatedRoutePriority: opt(
    integer({ description: "Metric of IPv4 routes while a virtual machine moves. Default: 512." }),
  ),
  ipv4NormalRoutePriority: opt(integer({ description: "Metric of IPv4 routes to pods. Default: 1024." })),
  ipv6ElevatedRoutePriority: opt(
    integer({ description: "Metric of IPv6 routes while a virtual machine moves. Default: 512." }),
  ),
  ipv6NormalRoutePriority: opt(integer({ description: "Metric of IPv6 routes to pods. Default: 1024." })),
  mtuIfacePattern: opt(
    text({
      description:
        "Interfaces whose MTU decides that of pods. Default: ^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*).",
    }),
  ),
  natOutgoingAddress: opt(
    text({
      maxLength: 45,
      description: "Source address of masqueraded packets; the outgoing interface's when absent.",
    }),
  ),
  natOutgoingExclusions: opt(
    word(["IPPoolsOnly", "IPPoolsAndHostIPs"], {
      description:
        "Destinations that are not masqueraded: other pools, or other pools and hosts. Default: IPPoolsOnly.",
    }),
  ),
  natPortRange: opt(
    intOrString({ description: "Source ports of masqueraded packets; 0: the kernel's choice. Default: 0." }),
  ),
  nftablesFlowTableDataIfacePattern: opt(text({ description: "Interfaces that take part in the flow table." })),
  nftablesFlowTableOffload: opt(
    word(["All", "Disabled"], {
      default: "Disabled",
      description: "Whether established connections take the flow table. Default: Disabled.",
    }),
  ),
  nftablesMode: opt(
    word(["Disabled", "Enabled", "Auto"], {
      default: "Auto",
      description: "Whether rules are nf_tables. Auto: when kube-proxy's are. Default: Auto.",
    }),
  ),
  // iptables
  ipsetsRefreshInterval: opt(
    duration({ description: "How often sets are listed again; 0 turns it off. Default: 90s." }),
  ),
  iptablesBackend: opt(
    word(["Legacy", "NFT", "Auto"], {
      pattern: "^(?i)(Auto|Legacy|NFT)?$",
      description: "Which iptables is used. Default: auto.",
    }),
  ),
  iptablesFilterAllowAction: opt(
    anyCase(["Accept", "Return"], {
      description: "What happens to allowed packets in the filter table. Default: ACCEPT.",
    }),
  ),
  iptablesFilterDenyAction: opt(
    anyCase(["Drop", "Reject"], { description: "What happens to denied packets. Default: DROP." }),
  ),
  iptablesLockProbeInterval: opt(
    duration({ description: "How often to try for the lock of iptables. Default: 50ms." }),
  ),
  iptablesMangleAllowAction: opt(
    anyCase(["Accept", "Return"], {
      description: "What happens to allowed packets in the mangle table. Default: ACCEPT.",
    }),
  ),
  iptablesMarkMask: opt(
    integer({
      format: "int64",
      maximum: 4294967295,
      minimum: 0,
      description: "Bits of packet marks the agent may use. Default: 0xffff0000.",
    }),
  ),
  iptablesNATOutgoingInterfaceFilter: opt(
    text({ description: "Masquerade only packets that leave by this interface." }),
  ),
  iptablesPostWriteCheckInterval: opt(
    duration({ description: "How soon after a write rules are checked. Default: 5s." }),
  ),
  iptablesRefreshInterval: opt(
    duration({ description: "How often rules are checked; 0 turns it off. Default: 180s." }),
  ),
  kubeNodePortRanges: opt(
    plainList(intOrString(), {
      maxItems: 7,
      description: "Ports that Kubernetes uses for NodePort services. Default: 30000:32767.",
    }),
  ),
  maxIpsetSize: opt(integer({ description: "Most members of a set. Default: 1048576." })),
  // nftables
  nftablesFilterAllowAction: opt(
    anyCase(["Accept", "Return"], {
      description: "What happens to allowed packets in filter chains. Default: ACCEPT.",
    }),
  ),
  nftablesFilterDenyAction: opt(
    anyCase(["Drop", "Reject"], { description: "What happens to denied packets. Default: DROP." }),
  ),
  nftablesMangleAllowAction: opt(
    anyCase(["Accept", "Return"], {
      description: "What happens to allowed packets in mangle chains. Default: ACCEPT.",
    }),
  ),
  nftablesMarkMask: opt(
    integer({
      format: "int64",
      maximum: 4294967295,
      minimum: 0,
      description: "Bits of packet marks the agent may use. Default: 0xffff0000.",
    }),
  ),
  nftablesRefreshInterval: opt(
    text({ description: "How often rules are listed again; 0 turns it off. Default: 180s." }),
  ),
  // XDP acceleration for iptables dataplane
  genericXDPEnabled: opt(
    bool({ description: "Whether XDP may run without the driver's help (slow; for tests). Default: false." }),
  ),
  xdpEnabled: opt(bool({ description: "Whether XDP drops what untracked policies deny. Default: true." })),
  xdpRefreshInterval: opt(duration({ description: "How often XDP state is checked; 0 turns it off. Default: 90s." })),
  // VXLAN overlay
  vxlanEnabled: opt(bool({ description: "Whether the VXLAN tunnel is set up; by default when a pool uses it." })),
  vxlanMTU: opt(integer({ description: "MTU of the IPv4 tunnel; 0: worked out. Default: 0." })),
  vxlanMTUV6: opt(integer({ description: "MTU of the IPv6 tunnel; 0: worked out. Default: 0." })),
  vxlanPort: opt(integer({ description: "UDP port. Default: 4789." })),
  vxlanVNI: opt(integer({ description: "Network identifier. Default: 4096." })),
  // IP-in-IP
  ipipEnabled: opt(bool({ description: "Whether the IPIP tunnel is set up; by default when a pool uses it." })),
  ipipMTU: opt(integer({ description: "MTU of the IPIP tunnel; 0: worked out. Default: 0." })),
  // Wireguard
  wireguardEnabled: opt(bool({ description: "Whether IPv4 between nodes is encrypted. Default: false." })),
  wireguardEnabledV6: opt(bool({ description: "Whether IPv6 between nodes is encrypted. Default: false." })),
  wireguardHostEncryptionEnabled: opt(
    bool({ description: "Whether traffic of hosts is encrypted too. Default: false." }),
  ),
  wireguardInterfaceName: opt(text({ description: "Interface for IPv4. Default: wireguard.cali." })),
  wireguardInterfaceNameV6: opt(text({ description: "Interface for IPv6. Default: wg-v6.cali." })),
  wireguardListeningPort: opt(integer({ description: "UDP port for IPv4. Default: 51820." })),
  wireguardListeningPortV6: opt(integer({ description: "UDP port for IPv6. Default: 51821." })),
  wireguardMTU: opt(integer({ description: "MTU for IPv4; 0: worked out. Default: 0." })),
  wireguardMTUV6: opt(integer({ description: "MTU for IPv6; 0: worked out. Default: 0." })),
  wireguardKeepAlive: opt(duration({ description: "Interval of keep-alive packets; 0: none. Default: 0s." })),
  wireguardRoutingRulePriority: opt(integer({ description: "Priority of the routing rule. Default: 99." })),
  wireguardThreadingEnabled: opt(
    bool({ description: "Whether each peer is handled in a thread of its own. Default: false." }),
  ),
};
