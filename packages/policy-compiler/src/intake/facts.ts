/**
 * What the graph works on: resources after conversion, stripped to what policy and routing need, with every selector
 * parsed and every number a number. Nothing below `intake/` looks at a Kubernetes or Calico object again.
 */
import type {
  Encapsulation,
  HostEndpoint,
  PolicyId,
  Rule,
  WorkloadEndpoint,
  WorkloadEndpointId,
} from "@calico-ts/dataplane-api";
import type { Family, IpAddress, PortRange, Prefix } from "@calico-ts/net";
import type { Selector } from "@calico-ts/selector";

export interface NamedPort {
  readonly name: string;
  readonly protocol: number;
  readonly port: number;
}

/** An endpoint or a network set as rules see it. */
export interface MemberFacts {
  readonly labels: ReadonlyMap<string, string>;
  /** Profile names, in order: labels are inherited from them. */
  readonly profiles: readonly string[];
  /** Canonical prefixes, /32 and /128 for endpoints. */
  readonly nets: readonly string[];
  readonly ports: readonly NamedPort[];
}

export type LocalEndpoint =
  | {
      readonly kind: "workload";
      readonly id: WorkloadEndpointId;
      readonly endpoint: Omit<WorkloadEndpoint, "tiers" | "profiles">;
    }
  | {
      readonly kind: "host";
      readonly name: string;
      readonly endpoint: Pick<HostEndpoint, "interfaceName" | "expectedAddresses" | "dscp">;
    };

export interface EndpointFacts {
  readonly member: MemberFacts;
  /** Present on this node only. */
  readonly local?: LocalEndpoint;
}

/** One side of a rule. */
export interface EntityFacts {
  readonly nets: readonly string[];
  readonly notNets: readonly string[];
  readonly selector?: Selector;
  readonly notSelector?: Selector;
  readonly ports: readonly PortRange[];
  readonly notPorts: readonly PortRange[];
  readonly namedPorts: readonly string[];
  readonly notNamedPorts: readonly string[];
  /** `namespace/name` */
  readonly service?: string;
}

export interface RuleFacts {
  readonly index: number;
  readonly action: Rule["action"];
  readonly family?: Family;
  readonly protocol?: number;
  readonly notProtocol?: number;
  readonly icmp?: { readonly type: number; readonly code?: number };
  readonly notIcmp?: { readonly type: number; readonly code?: number };
  readonly source: EntityFacts;
  readonly destination: EntityFacts;
}

export interface PolicyFacts {
  readonly id: PolicyId;
  readonly tier: string;
  readonly order?: number;
  readonly selector: Selector;
  readonly ingress: readonly RuleFacts[];
  readonly egress: readonly RuleFacts[];
  readonly appliesIngress: boolean;
  readonly appliesEgress: boolean;
  readonly untracked: boolean;
  readonly preDnat: boolean;
  readonly applyOnForward: boolean;
  readonly staged: boolean;
  readonly neededEverywhere: boolean;
}

export interface ProfileFacts {
  readonly labels: ReadonlyMap<string, string>;
  readonly ingress: readonly RuleFacts[];
  readonly egress: readonly RuleFacts[];
}

export interface TierFacts {
  readonly order?: number;
  readonly defaultAction: "deny" | "pass";
}

export interface NodeFacts {
  readonly labels: ReadonlyMap<string, string>;
  /** Address and the subnet it is in. */
  readonly addresses: Readonly<Partial<Record<Family, { readonly address: IpAddress; readonly subnet: Prefix }>>>;
  readonly vxlan: Readonly<Partial<Record<Family, { readonly tunnelAddress: string; readonly mac?: string }>>>;
  /** VXLAN, IPIP and WireGuard tunnel addresses. */
  readonly tunnelAddresses: readonly { readonly address: string; readonly via: Encapsulation }[];
}

export interface BlockFacts {
  readonly cidr: string;
  /** The node the block is affine to. */
  readonly node?: string;
  /** Addresses other nodes hold in it. */
  readonly borrowed: readonly { readonly address: string; readonly node: string }[];
}

export const NO_ENTITY: EntityFacts = {
  nets: [],
  notNets: [],
  ports: [],
  notPorts: [],
  namedPorts: [],
  notNamedPorts: [],
};
