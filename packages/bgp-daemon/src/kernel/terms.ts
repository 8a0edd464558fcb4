/** What the kernel side of the daemon is told besides best routes. */
import type { IpAddress, Prefix } from "@calico-ts/net";

/** A route to one host, programmed with ours; next hops and peers may be reached through it. */
export interface HostRoute {
  readonly destination: Prefix;
  readonly gateway: IpAddress;
}

/** Routes inside a prefix leave through a tunnel device, with the BGP next hop as its other end. */
export interface TunnelTerms {
  readonly prefix: Prefix;
  readonly device: string;
  /** Next hops in here are reached without the tunnel. */
  readonly exceptNextHops?: Prefix;
}

export interface LearnTerms {
  /** Interfaces (`*` stands for anything) whose own prefixes are not taken. */
  readonly ignoredInterfaces: readonly string[];
  /** Metric at which a pod's route is elevated when it is smaller, and which a route without a metric counts as; by family. */
  readonly priority: Readonly<Record<4 | 6, number>>;
}

export interface ForwardingTerms {
  /** Metric of IPv6 routes. */
  readonly routeMetricV6: number;
  /** Routes to these next hops are not programmed: the agent takes them through WireGuard. */
  readonly notVia: readonly IpAddress[];
  readonly tunnels: readonly TunnelTerms[];
  readonly hostRoutes: readonly HostRoute[];
  readonly learn: LearnTerms;
}
