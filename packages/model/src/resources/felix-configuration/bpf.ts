/** FelixConfiguration keys of the eBPF dataplane. */
import {
  anyCase,
  bool,
  integer,
  intOrString,
  object,
  opt,
  plainList,
  stringMap,
  text,
  word,
} from "../../schema/builders.ts";
import { conntrackTimeout, duration } from "./terms.ts";

export const bpfFields = {
  // eBPF
  bpfConntrackMode: opt(
    word(["Auto", "Userspace", "BPFProgram"], { description: "Who removes old connections. Default: Auto." }),
  ),
  bpfAttachType: opt(word(["TC", "TCX", "Netkit"], { description: "How programs are attached. Default: Netkit." })),
  bpfCTLBLogFilter: opt(text({ description: "all: programs of connect-time load balancing log as bpfLogLevel says." })),
  bpfConnectTimeLoadBalancing: opt(
    word(["TCP", "Enabled", "Disabled"], {
      description: "Connections that are balanced when they are made. Default: TCP.",
    }),
  ),
  bpfConnectTimeLoadBalancingEnabled: opt(
    bool({ description: "Deprecated: use bpfConnectTimeLoadBalancing. Default: false." }),
  ),
  bpfConntrackLogLevel: opt(
    word(["Off", "Debug"], { description: "Log level of the connection cleaner. Default: off." }),
  ),
  bpfConntrackTimeouts: opt(
    object(
      {
        creationGracePeriod: conntrackTimeout(),
        genericTimeout: conntrackTimeout(),
        icmpTimeout: conntrackTimeout(),
        tcpEstablished: conntrackTimeout(),
        tcpFinsSeen: conntrackTimeout(),
        tcpResetSeen: conntrackTimeout(),
        tcpSynSent: conntrackTimeout(),
        udpTimeout: conntrackTimeout(),
      },
      {
        description:
          "After how long connections are forgotten; Auto: as the kernel. Default: CreationGracePeriod=10s,TCPSynSent=20s,TCPEstablished=1h,TCPFinsSeen=Auto,TCPResetSeen=40s,UDPTimeout=60s,Gene.",
      },
    ),
  ),
  bpfDSROptoutCIDRs: opt(plainList(text(), { description: "Clients that do not get direct server return." })),
  bpfDataIfacePattern: opt(
    text({
      description: "Interfaces towards other hosts. Default: ^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*).",
    }),
  ),
  bpfDisableGROForIfaces: opt(text({ description: "Interfaces on which receive offload is turned off." })),
  bpfDisableUnprivileged: opt(
    bool({ description: "Whether users without privileges lose access to BPF. Default: true." }),
  ),
  bpfEnabled: opt(bool({ description: "Whether the eBPF dataplane is used. Default: false." })),
  bpfEnforceRPF: opt(
    anyCase(["Disabled", "Strict", "Loose"], {
      description: "How strictly the reverse path is checked. Default: Loose.",
    }),
  ),
  bpfExcludeCIDRsFromNAT: opt(plainList(text(), { description: "Service addresses that others handle." })),
  bpfExportBufferSizeMB: opt(integer({ description: "Size of the event buffer in MiB. Default: 1." })),
  bpfExtToServiceConnmark: opt(
    integer({ description: "Connection mark of packets from outside to services; 0: none. Default: 0." }),
  ),
  bpfExternalServiceMode: opt(
    anyCase(["Tunnel", "DSR"], { description: "How replies of services reach clients outside. Default: tunnel." }),
  ),
  bpfForceTrackPacketsFromIfaces: opt(
    plainList(text(), {
      description: "Interfaces whose packets the kernel's connection tracking sees too. Default: docker+.",
    }),
  ),
  bpfHostConntrackBypass: opt(
    bool({ description: "Whether packets of pods pass by the kernel's connection tracking. Default: false." }),
  ),
  bpfHostNetworkedNATWithoutCTLB: opt(
    word(["Enabled", "Disabled"], {
      description: "Whether hosts reach services without connect-time load balancing. Default: Enabled.",
    }),
  ),
  bpfIPFragTimeout: opt(duration({ description: "How long fragments wait for each other. Default: 0s." })),
  bpfIPFragmentReassemblyEnabled: opt(bool({ description: "Whether fragments are put together. Default: true." })),
  bpfJITHardening: opt(
    word(["Auto", "Strict"], {
      description: "Whether hardening of the compiler is relaxed where it costs too much. Default: Auto.",
    }),
  ),
  bpfKubeProxyHealthzPort: opt(
    integer({ description: "Port on which the health of services is served. Default: 10256." }),
  ),
  bpfKubeProxyIptablesCleanupEnabled: opt(
    bool({ description: "Whether what kube-proxy left is removed. Default: true." }),
  ),
  bpfKubeProxyMinSyncPeriod: opt(
    duration({ description: "Shortest time between two updates of services. Default: 1s." }),
  ),
  bpfL3IfacePattern: opt(text({ description: "Interfaces without link-layer headers." })),
  bpfLogFilters: opt(
    stringMap({ description: "By interface (or all): which packets programs log, as a packet filter expression." }),
  ),
  bpfLogLevel: opt(anyCase(["Off", "Info", "Debug"], { description: "Log level of programs. Default: off." })),
  bpfMaglevMaxEndpointsPerService: opt(
    integer({ description: "Most backends of a service with consistent hashing. Default: 100." }),
  ),
  bpfMaglevMaxServices: opt(integer({ description: "Most services with consistent hashing. Default: 100." })),
  bpfMapSizeConntrack: opt(integer({ description: "Most connections. Default: 512000." })),
  bpfMapSizeConntrackCleanupQueue: opt(
    integer({ minimum: 1, description: "Most connections waiting for removal. Default: 100000." }),
  ),
  bpfMapSizeConntrackScaling: opt(
    anyCase(["Disabled", "DoubleIfFull"], { description: "Whether the connection map grows. Default: DoubleIfFull." }),
  ),
  bpfMapSizeIPSets: opt(integer({ description: "Most members of sets. Default: 1048576." })),
  bpfMapSizeIfState: opt(integer({ description: "Most interfaces. Default: 1000." })),
  bpfMapSizeNATAffinity: opt(integer({ description: "Most clients with session affinity. Default: 65536." })),
  bpfMapSizeNATBackend: opt(integer({ description: "Most backends. Default: 262144." })),
  bpfMapSizeNATFrontend: opt(integer({ description: "Most services. Default: 65536." })),
  bpfMapSizePerCpuConntrack: opt(
    integer({
      description: "Most connections per processor, in place of bpfMapSizeConntrack; 0: not used. Default: 0.",
    }),
  ),
  bpfMapSizeRoute: opt(integer({ description: "Most routes. Default: 262144." })),
  bpfOverlayHostSourceIP: opt(
    word(["TunnelAddress", "HostAddress"], {
      description: "Source address of hosts towards pods of other nodes. Default: TunnelAddress.",
    }),
  ),
  bpfPSNATPorts: opt(
    intOrString({ description: "Source ports for connections that would otherwise collide. Default: 20000:29999." }),
  ),
  bpfPolicyDebugEnabled: opt(bool({ description: "Whether which rules matched can be looked up. Default: true." })),
  bpfProfiling: opt(
    word(["Enabled", "Disabled"], { description: "Whether programs measure themselves. Default: Disabled." }),
  ),
  bpfRedirectToPeer: opt(
    word(["Enabled", "Disabled"], {
      description: "Whether packets go straight to the pod's end of a pair. Default: Enabled.",
    }),
  ),
};
