/** What one asks the oracle and what it answers. */
import type { PolicyId } from "@calico-ts/dataplane-api";
import type { Family } from "@calico-ts/net";

/** `pod` is `namespace/name`; `host` is a node by name, speaking from itself. */
export type Party = { readonly pod: string } | { readonly address: string } | { readonly host: string };

export interface Query {
  readonly from: Party;
  readonly to: Party;
  /** IANA protocol number. */
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  /** Which of their addresses pods and hosts use; IPv4 unless said or forced by an address. */
  readonly family?: Family;
  /** Of the connection; `new` unless said. */
  readonly state?: "new" | "established" | "invalid";
}

export type Direction = "ingress" | "egress";

/** Pods have normal policy only; `forward` is normal policy with applyOnForward, asked about what passes through a host. */
export type Form = "normal" | "forward" | "pre-dnat" | "untracked";

/** Why it came out that way. */
export type Decision =
  | { readonly by: "rule"; readonly policy: PolicyId; readonly direction: Direction; readonly index: number }
  | { readonly by: "tier-default"; readonly tier: string; readonly direction: Direction }
  | { readonly by: "profile"; readonly profile: string; readonly direction: Direction; readonly index: number }
  | { readonly by: "missing-profile"; readonly profile: string; readonly direction: Direction }
  | { readonly by: "no-profile"; readonly direction: Direction }
  /** Every tier of applyOnForward policies passed it on: it is let through. */
  | { readonly by: "passed-on"; readonly direction: Direction }
  | { readonly by: "connection-state"; readonly state: "established" | "invalid" }
  | { readonly by: "failsafe"; readonly direction: Direction }
  /** Between a node and its neighbours, pods among them. */
  | { readonly by: "neighbour-discovery" }
  | { readonly by: "encapsulation"; readonly what: "vxlan" | "ipip" }
  | { readonly by: "endpoint-to-host"; readonly action: string }
  /** No policy is consulted: the node to its own pods, or nobody policed on either side. */
  | { readonly by: "not-policed" };

export interface PolicyStep {
  readonly policy: PolicyId;
  readonly outcome: "no-match" | "allow" | "deny" | "pass";
  readonly index?: number;
}

export interface TierStep {
  readonly tier: string;
  readonly policies: readonly PolicyStep[];
  readonly outcome: "allow" | "deny" | "pass" | "default-deny" | "default-pass";
}

export interface DirectionVerdict {
  /** `namespace/pod` or `host-endpoint/<name>`. */
  readonly endpoint: string;
  readonly form: Form;
  readonly direction: Direction;
  readonly allowed: boolean;
  readonly tiers: readonly TierStep[];
  readonly decision: Decision;
}

export interface Verdict {
  readonly allowed: boolean;
  readonly decision: Decision;
  /** In the order they were walked, node by node. */
  readonly walk: readonly DirectionVerdict[];
}
