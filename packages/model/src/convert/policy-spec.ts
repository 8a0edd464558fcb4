/**
 * Policies of all kinds in one form, which is what a policy compiler reads: tiers and order explicit, directions decided,
 * rules in v3 form. Selectors are still texts of v3 policies; `@calico-ts/selector` turns them into selectors over endpoint
 * labels, given the policy's namespace.
 */
import type { Rule } from "../resources/policy-rules.ts";

export type PolicyKind =
  | "GlobalNetworkPolicy"
  | "NetworkPolicy"
  | "KubernetesNetworkPolicy"
  | "KubernetesClusterNetworkPolicy"
  | "StagedGlobalNetworkPolicy"
  | "StagedNetworkPolicy"
  | "StagedKubernetesNetworkPolicy";

export type Direction = "Ingress" | "Egress";

/** A v3 rule, and the place of the rule the user wrote in its list: one Kubernetes rule can become several. */
export type PolicyRule = Rule & { readonly index: number };

export interface PolicySpec {
  readonly tier: string;
  /** undefined: last. */
  readonly order?: number;
  /** "" selects everything in scope. */
  readonly selector: string;
  readonly namespaceSelector?: string;
  readonly serviceAccountSelector?: string;
  readonly types: readonly Direction[];
  readonly ingress: readonly PolicyRule[];
  readonly egress: readonly PolicyRule[];
  readonly doNotTrack: boolean;
  readonly preDNAT: boolean;
  readonly applyOnForward: boolean;
  readonly assumeNeededOnEveryNode: boolean;
}

export interface ConvertedPolicy {
  readonly kind: PolicyKind;
  /** "" for policies of the whole cluster. */
  readonly namespace: string;
  readonly name: string;
  /** Evaluated and reported, not enforced. */
  readonly staged: boolean;
  readonly spec: PolicySpec;
  /** Parts that could not be understood and what became of them, for people. Never silently more permissive. */
  readonly problems: readonly string[];
}

/** What every policy that came from Kubernetes has in common. */
export const KUBERNETES_POLICY_FLAGS = {
  doNotTrack: false,
  preDNAT: false,
  applyOnForward: false,
  assumeNeededOnEveryNode: false,
} as const;
