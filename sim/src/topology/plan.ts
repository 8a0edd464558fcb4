/**
 * A topology with nothing left open: every node named, every address chosen, every route worked out. Pure data; the fabric
 * builds exactly this, and `status` shows it.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";
import type { Manifest } from "../manifests/manifest-files.ts";

export interface TopologyPlan {
  readonly subnets: readonly SubnetPlan[];
  readonly routers: readonly RouterPlan[];
  readonly controlPlane: ControlPlanePlan;
  readonly nodes: readonly NodePlan[];
  readonly pools: readonly PoolPlan[];
  /** IPv4 first. */
  readonly serviceCidrs: readonly Prefix[];
  /** Undefined: nodes speak no BGP. */
  readonly bgp: ClusterBgpPlan | undefined;
  /** Written in the file as they are: there before the product starts. */
  readonly resources: readonly Manifest[];
}

export interface ClusterBgpPlan {
  readonly as: number;
  readonly mesh: boolean;
  /** Routers as nodes see them. */
  readonly peers: readonly NodePeerPlan[];
}

/** Becomes a BGPPeer. */
export interface NodePeerPlan {
  readonly name: string;
  readonly nodeSelector: string;
  readonly address: IpAddress;
  readonly as: number;
}

export interface SubnetPlan {
  readonly name: string;
  readonly prefixes: readonly Prefix[];
  readonly mtu: number;
}

/** An attachment to a subnet's switch. */
export interface Leg {
  readonly subnet: string;
  readonly addresses: readonly IpAddress[];
}

export interface Route {
  /** Undefined: the default route. */
  readonly to: Prefix | undefined;
  readonly family: 4 | 6;
  readonly via: IpAddress;
}

export interface RouterPlan {
  readonly name: string;
  readonly legs: readonly Leg[];
  readonly routes: readonly Route[];
  readonly bgp: SpeakerPlan | undefined;
}

export type SpeakerKind = "bird" | "frr" | "gobgp" | "calico-ts";

/** A BGP speaker in a router, complete: what its configuration is written from. */
export interface SpeakerPlan {
  readonly kind: SpeakerKind;
  readonly as: number;
  /** IPv4. */
  readonly routerId: IpAddress;
  /** IPv4; a route reflector has one. */
  readonly clusterId: IpAddress | undefined;
  /** Each carries the routes of the family it runs over. */
  readonly sessions: readonly SessionPlan[];
  readonly originate: readonly Prefix[];
}

export interface SessionPlan {
  readonly with: "node" | "router";
  readonly name: string;
  readonly local: IpAddress;
  readonly remote: IpAddress;
  readonly remoteAs: number;
  /** The neighbour is a client of this route reflector. */
  readonly client: boolean;
  readonly password: string | undefined;
}

/** Where the API server listens. It is also the end of the world: default routes lead here, and nothing leaves. */
export interface ControlPlanePlan extends Leg {
  readonly routes: readonly Route[];
}

export interface NodePlan extends Leg {
  readonly name: string;
  readonly routes: readonly Route[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
}

export interface PoolPlan {
  readonly name: string;
  readonly cidr: Prefix;
  readonly blockSize: number;
  readonly encapsulation: "none" | "ipip" | "vxlan";
  readonly mode: "always" | "crossSubnet";
  readonly natOutgoing: boolean;
  readonly nodeSelector: string;
  readonly disabled: boolean;
}
