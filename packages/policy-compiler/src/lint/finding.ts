/** What the linter can find, as a table: identity, weight and the words that do not depend on the case. */
import type { SourcePosition } from "@calico-ts/schema";

export type Severity = "error" | "warning" | "note";

export interface LintRule {
  /** Said of the rule as a whole. */
  readonly title: string;
  readonly why: string;
}

export const LINT_RULES = {
  "bad-yaml": { title: "The file is no YAML", why: "Nothing in it can be applied." },
  "not-an-object": { title: "A document is no Kubernetes object", why: "An API server refuses it." },
  "unknown-kind": {
    title: "No such kind in this API group",
    why: "An API server refuses it, and the policy never exists.",
  },
  "unknown-field": {
    title: "The kind has no such field",
    why: "An API server drops unknown fields silently: what the field was meant to restrict is not restricted, or the other way round.",
  },
  invalid: {
    title: "A value the kind does not allow",
    why: "An API server that knows all rules refuses the object; one that took it left it to the dataplane to make sense of it.",
  },
  duplicate: { title: "Two objects with one identity", why: "The one applied last silently replaces the other." },
  "negated-catch-all": {
    title: "Everything is excluded",
    why: "Excluding every address, port or endpoint leaves a match that can never be met: the rule does nothing.",
  },
  "ports-without-protocol": {
    title: "Ports without a protocol",
    why: "Only TCP, UDP and SCTP have ports, so a port says nothing until the protocol is known.",
  },
  "log-only": {
    title: "A policy that only logs drops as well",
    why: "Log decides nothing. A policy that selects an endpoint puts it under the tier's default action, so what no other rule allows is denied.",
  },
  "shadowed-rule": {
    title: "A rule that never decides",
    why: "Rules are read in order and the first match decides; an earlier rule takes every packet this one could match.",
  },
  "dead-rule": { title: "A rule that cannot match", why: "Its conditions exclude each other." },
  "selector-matches-nothing": {
    title: "A selector that matches nothing here",
    why: "Usually a label that is spelled differently in the pods: the policy protects nobody, or the rule lets nobody in.",
  },
  "unknown-tier": {
    title: "The tier is not defined",
    why: "A policy of a tier nobody defined is evaluated after all others, and what reaches the end of its tier is denied.",
  },
  "staged-only-tier": {
    title: "A tier of staged policies only",
    why: "Staged policies are not enforced, so the tier decides nothing.",
  },
  "types-do-nothing": {
    title: "Rules of a direction the policy does not have",
    why: "The policy's types leave the direction out, so these rules are never looked at.",
  },
  "changes-traffic": {
    title: "Traffic that is decided otherwise afterwards",
    why: "This is what applying the files does to the pods that are there. Connections that exist go on until they end.",
  },
  "lock-out": {
    title: "A node is cut off from what it needs",
    why: "Policies on host endpoints apply to the node itself: without this traffic it cannot be managed, or drops out of the cluster.",
  },
} as const satisfies Readonly<Record<string, LintRule>>;

export type LintRuleId = keyof typeof LINT_RULES;

export interface Finding {
  readonly rule: LintRuleId;
  readonly severity: Severity;
  readonly object: { readonly kind: string; readonly namespace: string; readonly name: string };
  readonly position?: SourcePosition;
  /** Of files against a cluster: `new`, not so before they are applied; `gone`, not so any more afterwards. */
  readonly change?: "new" | "gone";
  /** What is wrong here. */
  readonly message: string;
  readonly why: string;
  /** What to do. */
  readonly fix: string;
}

export const describeObject = ({ kind, namespace, name }: Finding["object"]): string =>
  [kind, namespace === "" ? name : `${namespace}/${name}`].join(" ").trim();
