/** Tiers, policies of both scopes, their staged forms, and profiles. */
import { bool, cel, checks, number, object, opt, set, stringMap, text, word } from "../schema/builders.ts";
import { isTrue, noGlobal } from "../schema/cel-terms.ts";
import type { CalicoResource, CalicoResourceWithStatus } from "../schema/declare.ts";
import { calicoKind, column } from "../schema/declare.ts";
import { conditionsSchema } from "../schema/meta.ts";
import { ACTIONS, rulesSchema } from "./policy-rules.ts";
import { Type } from "typebox";

const GLOBAL = "global() can be used in the namespaceSelector of a rule only";

const selectorText = (description: string) => opt(text({ maxLength: 1024, description }));

const common = {
  tier: opt(text({ default: "default", description: "The tier the policy belongs to." })),
  order: opt(number({ description: "Place in the tier, lowest first; without it the policy comes last." })),
  selector: selectorText("Endpoints the policy applies to; empty: all."),
  serviceAccountSelector: selectorText("Only pods whose service account matches."),
  types: opt(
    set(word(["Ingress", "Egress"]), {
      minItems: 1,
      maxItems: 2,
      description: "Directions the policy applies to. Default: the directions it has rules for, at least Ingress.",
    }),
  ),
  ingress: rulesSchema("incoming"),
  egress: rulesSchema("outgoing"),
  performanceHints: opt(
    set(word(["AssumeNeededOnEveryNode"]), {
      description: "AssumeNeededOnEveryNode: prepare it everywhere in advance.",
    }),
  ),
};

const clusterWide = {
  namespaceSelector: selectorText("Only pods in namespaces that match."),
  doNotTrack: opt(bool({ description: "Applies before connection tracking, to host endpoints." })),
  preDNAT: opt(bool({ description: "Applies before destination NAT, to host endpoints, incoming only." })),
  applyOnForward: opt(bool({ description: "Applies to packets forwarded through host endpoints too." })),
};

const staged = {
  stagedAction: opt(
    word(["Set", "Delete", "Learn", "Ignore"], {
      default: "Set",
      description: "What to do to the policy of the same name when this one is put in force.",
    }),
  ),
};

const namespacedRules = checks(cel(noGlobal("selector"), GLOBAL), cel(noGlobal("serviceAccountSelector"), GLOBAL));

const clusterRules = checks(
  cel(
    `!(${isTrue("doNotTrack")} && ${isTrue("preDNAT")})`,
    "preDNAT and doNotTrack exclude each other",
    "FieldValueForbidden",
  ),
  cel(
    `!${isTrue("preDNAT")} || !has(self.egress) || size(self.egress) == 0`,
    "a preDNAT policy cannot have egress rules",
    "FieldValueForbidden",
  ),
  cel(
    `!${isTrue("preDNAT")} || !has(self.types) || !('Egress' in self.types)`,
    "a preDNAT policy cannot have type Egress",
    "FieldValueForbidden",
  ),
  cel(
    `${isTrue("applyOnForward")} || !(${isTrue("doNotTrack")} || ${isTrue("preDNAT")})`,
    "preDNAT and doNotTrack need applyOnForward: true",
  ),
  cel(noGlobal("selector"), GLOBAL),
  cel(noGlobal("serviceAccountSelector"), GLOBAL),
  cel(noGlobal("namespaceSelector"), GLOBAL),
);

const globalPolicySpec = object({ ...common, ...clusterWide }, clusterRules);
const policySpec = object(common, namespacedRules);
const stagedGlobalPolicySpec = object({ ...common, ...clusterWide, ...staged }, clusterRules);
const stagedPolicySpec = object({ ...common, ...staged }, namespacedRules);

export type GlobalNetworkPolicy = CalicoResource<"GlobalNetworkPolicy", typeof globalPolicySpec>;
export type NetworkPolicy = CalicoResource<"NetworkPolicy", typeof policySpec>;
export type StagedGlobalNetworkPolicy = CalicoResource<"StagedGlobalNetworkPolicy", typeof stagedGlobalPolicySpec>;
export type StagedNetworkPolicy = CalicoResource<"StagedNetworkPolicy", typeof stagedPolicySpec>;

const TIER_COLUMN = column("Tier", "string", ".spec.tier");
const ORDER_COLUMN = column("Order", "number", ".spec.order");

export const globalNetworkPolicy = calicoKind({
  kind: "GlobalNetworkPolicy",
  plural: "globalnetworkpolicies",
  shortNames: ["gnp", "cgnp"],
  description: "A policy for pods in every namespace and for hosts.",
  spec: globalPolicySpec,
  selectableFields: [".spec.tier"],
  printerColumns: [TIER_COLUMN, ORDER_COLUMN, column("Age", "date", ".metadata.creationTimestamp")],
});

export const networkPolicy = calicoKind({
  kind: "NetworkPolicy",
  plural: "networkpolicies",
  shortNames: ["cnp", "caliconetworkpolicy"],
  namespaced: true,
  description: "A policy for pods of its namespace.",
  spec: policySpec,
  selectableFields: [".spec.tier"],
  printerColumns: [TIER_COLUMN, ORDER_COLUMN],
});

export const stagedGlobalNetworkPolicy = calicoKind({
  kind: "StagedGlobalNetworkPolicy",
  plural: "stagedglobalnetworkpolicies",
  shortNames: ["sgnp"],
  description: "A GlobalNetworkPolicy that is evaluated and reported but not enforced.",
  spec: stagedGlobalPolicySpec,
  selectableFields: [".spec.tier"],
  printerColumns: [TIER_COLUMN, ORDER_COLUMN],
});

export const stagedNetworkPolicy = calicoKind({
  kind: "StagedNetworkPolicy",
  plural: "stagednetworkpolicies",
  shortNames: ["scnp", "snp"],
  namespaced: true,
  description: "A NetworkPolicy that is evaluated and reported but not enforced.",
  spec: stagedPolicySpec,
  selectableFields: [".spec.tier"],
  printerColumns: [TIER_COLUMN, ORDER_COLUMN],
});

const tierSpec = object({
  order: opt(number({ description: "Place among the tiers, lowest first; without it the tier comes last." })),
  defaultAction: opt(
    // Both lists stand in upstream's schema too: the API type's own values, and the two a tier may use.
    Type.Unsafe<"Deny" | "Pass">({
      type: "string",
      allOf: [{ enum: [...ACTIONS] }, { enum: ["Pass", "Deny"] }],
      default: "Deny",
      description: "What happens to packets that a policy of the tier applies to and no rule decides.",
    }),
  ),
});

const tierStatus = object({ conditions: opt(conditionsSchema) });

export type Tier = CalicoResourceWithStatus<"Tier", typeof tierSpec, typeof tierStatus>;

export interface BuiltInTier {
  readonly name: string;
  readonly order: number;
  readonly defaultAction: "Deny" | "Pass";
}

/** Always there; their order and default action cannot be changed. */
export const BUILT_IN_TIERS: readonly BuiltInTier[] = [
  { name: "kube-admin", order: 1_000, defaultAction: "Pass" },
  { name: "default", order: 1_000_000, defaultAction: "Deny" },
  { name: "kube-baseline", order: 10_000_000, defaultAction: "Pass" },
];

export const tier = calicoKind({
  kind: "Tier",
  plural: "tiers",
  description: "A set of policies that is evaluated together; tiers are evaluated in order.",
  spec: tierSpec,
  status: tierStatus,
  rules: BUILT_IN_TIERS.flatMap(({ name, order, defaultAction }) => [
    cel(
      `self.metadata.name != '${name}' || (has(self.spec.defaultAction) && self.spec.defaultAction == '${defaultAction}')`,
      `the built-in tier ${name} has defaultAction ${defaultAction}`,
    ),
    cel(
      `self.metadata.name != '${name}' || (has(self.spec.order) && self.spec.order == ${order}.0)`,
      `the built-in tier ${name} has order ${order}`,
    ),
  ]),
  printerColumns: [
    column("Order", "integer", ".spec.order", "Place among the tiers"),
    column("DefaultAction", "string", ".spec.defaultAction", "What happens when no rule decides"),
    column("Status", "string", ".status.conditions[?(@.type=='Ready')].reason", "State of the tier"),
  ],
});

const profileSpec = object({
  ingress: rulesSchema("incoming"),
  egress: rulesSchema("outgoing"),
  labelsToApply: opt(stringMap({ description: "Labels that endpoints with this profile inherit." })),
});

export type Profile = CalicoResource<"Profile", typeof profileSpec>;

export const profile = calicoKind({
  kind: "Profile",
  plural: "profiles",
  storage: "derived",
  description:
    "Rules and labels of endpoints no policy applies to. On Kubernetes: from namespaces and service accounts.",
  spec: profileSpec,
});
