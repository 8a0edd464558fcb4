/**
 * Rule sets as values that no packet filter owns: chains of rules, matches and actions by meaning. A renderer
 * (`render/nft`; iptables and eBPF later) turns them into its own objects. What a backend may assume:
 *
 * - A chain with `attach` is entered by packets. `accept` ends that attached chain only: the packet still visits the
 *   attached chains that come after it. This is how egress policy of one pod and ingress policy of another both apply
 *   to one packet without a mark that says "accepted so far".
 * - Any other chain is entered by jump, goto or dispatch. Running off its end, or `return`, goes back to the jump.
 * - Matches of a rule are ANDed. Address, port and ICMP matches come after the family and protocol matches they need.
 */
import type { Family, PortRange, Prefix } from "@calico-ts/net";

export type Side = "source" | "destination";
export type ConntrackState = "established" | "related" | "new" | "invalid" | "untracked";

/** What a set is keyed by, and what a lookup reads from the packet. Several make a concatenation. */
export type KeyField =
  | { readonly kind: "address"; readonly family: Family; readonly side: Side }
  | { readonly kind: "protocol" }
  | { readonly kind: "port"; readonly side: Side }
  | { readonly kind: "interface"; readonly direction: "in" | "out" }
  /** The group of the link (`ip link set … group`): a number that can be changed without touching rules. */
  | { readonly kind: "interface-group"; readonly direction: "in" | "out" };

export type Match =
  | { readonly kind: "family"; readonly family: Family }
  | { readonly kind: "protocol"; readonly protocol: number; readonly not?: boolean }
  | { readonly kind: "icmp"; readonly type: number; readonly code?: number; readonly not?: boolean }
  | { readonly kind: "prefix"; readonly side: Side; readonly prefix: Prefix; readonly not?: boolean }
  | { readonly kind: "port"; readonly side: Side; readonly range: PortRange; readonly not?: boolean }
  | { readonly kind: "lookup"; readonly set: string; readonly fields: readonly KeyField[]; readonly not?: boolean }
  /** `name` may end in `*`. */
  | { readonly kind: "interface"; readonly direction: "in" | "out"; readonly name: string; readonly not?: boolean }
  | { readonly kind: "conntrack"; readonly states: readonly ConntrackState[] }
  /** The connection's destination was rewritten (by kube-proxy, for example). */
  | { readonly kind: "destination-rewritten"; readonly not?: boolean }
  | { readonly kind: "mark"; readonly mask: number; readonly value: number; readonly not?: boolean }
  /** The address belongs to this node; `onInterface`: to the interface the packet leaves by. */
  | { readonly kind: "local-address"; readonly side: Side; readonly onInterface?: "out"; readonly not?: boolean }
  /** The way back to the source is the interface the packet came by. */
  | { readonly kind: "routed-back" }
  // These two count the packets that come to them. They stand after all other matches.
  | { readonly kind: "over-packet-rate"; readonly perSecond: number; readonly burst: number }
  /** Its connection is one more than the number of those that have come here and still live. */
  | { readonly kind: "over-connections"; readonly count: number };

export type Action =
  | { readonly kind: "accept" | "drop" | "reject" | "return" | "no-track" | "count" }
  /** Answers a TCP packet with a reset. */
  | { readonly kind: "tcp-reset" }
  | { readonly kind: "jump" | "goto"; readonly chain: string }
  /** Looks the fields up and goes to the chain found; the next rule when there is none. */
  | { readonly kind: "dispatch"; readonly map: string; readonly fields: readonly KeyField[] }
  /** mark = (mark & ~mask) | value */
  | { readonly kind: "set-mark"; readonly mask: number; readonly value: number }
  | { readonly kind: "log"; readonly prefix: string; readonly rate?: LogRate }
  /** Hands a copy to a flow-log collector. */
  | { readonly kind: "flow-log"; readonly group: number; readonly prefix: string }
  | { readonly kind: "masquerade"; readonly ports?: PortRange }
  | { readonly kind: "source-nat"; readonly address: Prefix; readonly ports?: PortRange }
  /** Gives the connection the address that the map has for the fields; the next rule when it has none. */
  | {
      readonly kind: "translate";
      readonly side: Side;
      readonly family: Family;
      readonly map: string;
      readonly fields: readonly KeyField[];
    }
  /** Six bits (RFC 2474). */
  | { readonly kind: "set-dscp"; readonly family: Family; readonly value: number };

export interface LogRate {
  readonly packets: number;
  readonly perSeconds: number;
  readonly burst: number;
}

export interface ChainRule {
  readonly matches: readonly Match[];
  readonly actions: readonly Action[];
  /** Where it came from: at most 127 bytes (see `provenance.ts`). */
  readonly comment?: string;
}

/** Places where packets enter, in the order one packet meets them. */
export type Attachment =
  | "raw-prerouting" // before connection tracking: what pods send, tunnel packets
  | "raw-prerouting-host" // before connection tracking: untracked policy of hosts
  | "raw-output" // both for what this node sends
  | "mangle-prerouting" // before the destination is rewritten
  | "nat-prerouting" // rewriting it, before the service proxy does
  | "nat-output" // the same for what this node sends
  | "input-limits" // to this node: what a pod may send at all
  | "input-from-workload" // to this node: egress policy of the pod it comes from
  | "input-to-host" // to this node: DefaultEndpointToHostAction
  | "input-host-endpoint" // to this node: policy of the interface it came by
  | "forward-from-host" // through this node: policy of the interface it came by
  | "forward-limits-from-workload" // through this node: what a pod may send at all
  | "forward-from-workload" // through this node: egress policy of the pod it comes from
  | "forward-limits-to-workload" // through this node: what a pod may get at all
  | "forward-to-workload" // through this node: ingress policy of the pod it goes to
  | "forward-to-host" // through this node: policy of the interface it leaves by
  | "forward-last" // through this node: whatever policy has said
  | "output-host-endpoint" // from this node: policy of the interface it leaves by
  | "dscp-postrouting" // whatever leaves, before its source is rewritten
  | "mangle-postrouting" // from this node, after the destination was rewritten
  | "nat-postrouting-first" // rewriting the source, before NAT outgoing
  | "nat-postrouting";

export interface Chain {
  readonly name: string;
  readonly attach?: Attachment;
  readonly rules: readonly ChainRule[];
}

export type KeyType = "ipv4" | "ipv6" | "protocol" | "port" | "interface" | "interface-group";

export interface SetDeclaration {
  readonly name: string;
  readonly key: readonly KeyType[];
  /** Elements may be prefixes or port ranges; without it they are single values, in a hash. */
  readonly ranges: boolean;
  /** A dispatch map: every element leads to a chain. */
  readonly chains?: boolean;
  /** A map to addresses. */
  readonly addresses?: Family;
}

/** One part per key field, in order: a prefix for addresses (a full-length one in a hash set), a number for a protocol or a group. */
export type KeyPart = Prefix | PortRange | number | string;

export interface SetElement {
  readonly key: readonly KeyPart[];
  /** For dispatch maps. */
  readonly chain?: string;
  /** For maps to addresses: a full-length prefix. */
  readonly address?: Prefix;
  readonly comment?: string;
}

export const ACCEPT: Action = { kind: "accept" };
export const DROP: Action = { kind: "drop" };
export const RETURN: Action = { kind: "return" };
export const COUNT: Action = { kind: "count" };

// One of each is enough for all rules.
const ADDRESS_FIELDS = {
  4: {
    source: { kind: "address", family: 4, side: "source" },
    destination: { kind: "address", family: 4, side: "destination" },
  },
  6: {
    source: { kind: "address", family: 6, side: "source" },
    destination: { kind: "address", family: 6, side: "destination" },
  },
} as const;
const FAMILY_MATCHES = { 4: { kind: "family", family: 4 }, 6: { kind: "family", family: 6 } } as const;

export const addressField = (family: Family, side: Side): KeyField => ADDRESS_FIELDS[family][side];
export const familyMatch = (family: Family): Match => FAMILY_MATCHES[family];
export const keyType = (family: Family): "ipv4" | "ipv6" => (family === 4 ? "ipv4" : "ipv6");
