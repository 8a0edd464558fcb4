/**
 * A topology with nothing left open: every node named, every address chosen, every route worked out. Pure data; the fabric
 * builds exactly this, and `status` shows it.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";

export interface TopologyPlan {
  readonly subnets: readonly SubnetPlan[];
  readonly routers: readonly RouterPlan[];
  readonly controlPlane: ControlPlanePlan;
  readonly nodes: readonly NodePlan[];
  readonly pools: readonly PoolPlan[];
  /** IPv4 first. */
  readonly serviceCidrs: readonly Prefix[];
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
}

/** Where the API server listens. It is also the end of the world: default routes lead here, and nothing leaves. */
export interface ControlPlanePlan extends Leg {
  readonly routes: readonly Route[];
}

export interface NodePlan extends Leg {
  readonly name: string;
  readonly routes: readonly Route[];
  readonly labels: Readonly<Record<string, string>>;
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
