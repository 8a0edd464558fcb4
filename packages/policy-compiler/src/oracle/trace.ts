/**
 * A verdict with everything that was looked at on the way: each policy that applies, each rule, each condition, with what the
 * packet had instead. Costs words per rule, so it is made for one packet at a time, on request.
 *
 * The trace never decides: it is put around a verdict the oracle has given, from the same rules.
 */
import type { PolicyId } from "@calico-ts/dataplane-api";
import type { OraclePolicy, OracleRule } from "./oracle-policy.ts";
import type { PacketView } from "./packet-view.ts";
import type { Decision, Direction, Form, PolicyStep, TierStep } from "./verdict.ts";

export interface CriterionTrace {
  /** As in the resource: `protocol`, `source.selector`, `from`. */
  readonly field: string;
  readonly wanted: string;
  /** What the packet has. */
  readonly seen: string;
  readonly matched: boolean;
}

export interface RuleTrace {
  readonly index: number;
  readonly action: OracleRule["action"];
  /** A Log rule that matches decides nothing. `not-reached`: an earlier rule decided. */
  readonly outcome: "match" | "no-match" | "not-reached";
  /** Empty: the rule matches everything. Of rules that were not reached: empty. */
  readonly criteria: readonly CriterionTrace[];
}

export interface PolicyTrace {
  readonly policy: PolicyId;
  /** To whom it applies, in words. */
  readonly subject: string;
  readonly outcome: PolicyStep["outcome"] | "not-reached";
  readonly rules: readonly RuleTrace[];
}

export interface TierTrace {
  readonly tier: string;
  /** A tier that policies name and nobody defined comes last and denies. */
  readonly exists: boolean;
  readonly defaultAction: "Deny" | "Pass";
  readonly policies: readonly PolicyTrace[];
  readonly outcome: TierStep["outcome"] | "not-reached";
}

export interface ProfileTrace {
  readonly profile: string;
  readonly exists: boolean;
  readonly outcome: "allow" | "deny" | "no-match" | "not-reached";
  readonly rules: readonly RuleTrace[];
}

/** A policy of the endpoint's scope that does not apply to it. */
export interface Bystander {
  readonly policy: PolicyId;
  readonly because: "selector" | "direction";
  readonly subject: string;
}

export interface DirectionTrace {
  /** `namespace/pod` or `host-endpoint/<name>`. */
  readonly endpoint: string;
  readonly form: Form;
  readonly direction: Direction;
  /** False: the packet was denied before; this is what would have happened. */
  readonly reached: boolean;
  readonly allowed: boolean;
  readonly decision: Decision;
  readonly tiers: readonly TierTrace[];
  readonly profiles: readonly ProfileTrace[];
  readonly bystanders: readonly Bystander[];
}

export interface Trace {
  readonly allowed: boolean;
  readonly decision: Decision;
  readonly walk: readonly DirectionTrace[];
  readonly source: EndTrace;
  readonly destination: EndTrace;
}

/** Who has the address. */
export interface EndTrace {
  readonly address: string;
  readonly owners: readonly string[];
}

/** `decided`: index of the rule that decided, undefined when none did; `reached` is false when nobody asked. */
export function rulesTrace(
  rules: readonly OracleRule[],
  packet: PacketView,
  { decided, reached = true }: { readonly decided?: number | undefined; readonly reached?: boolean },
): RuleTrace[] {
  const last = decided === undefined ? -1 : rules.findIndex((rule) => rule.index === decided && rule.action !== "log");
  return rules.map((rule, at) => {
    const { index, action } = rule;
    if (!reached || (last !== -1 && at > last)) return { index, action, outcome: "not-reached", criteria: [] };
    const criteria = rule.criteria.map((criterion) => ({
      field: criterion.field,
      wanted: criterion.wanted(),
      seen: criterion.seen(packet),
      matched: criterion.test(packet),
    }));
    return { index, action, outcome: rule.matches(packet) ? "match" : "no-match", criteria };
  });
}

export function policyTrace(
  { policy, rules }: { readonly policy: OraclePolicy; readonly rules: readonly OracleRule[] },
  step: PolicyStep | undefined,
  packet: PacketView,
): PolicyTrace {
  return {
    policy: policy.id,
    subject: policy.subject,
    outcome: step?.outcome ?? "not-reached",
    rules: rulesTrace(rules, packet, { decided: step?.index, reached: step !== undefined }),
  };
}
