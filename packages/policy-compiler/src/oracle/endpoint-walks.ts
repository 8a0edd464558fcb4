/**
 * One endpoint, one direction, one form: the walk through tiers and profiles.
 *
 * Pods and normal policy of hosts are decided in the end, by a tier's default or by profiles. Forwarding through a host is
 * decided by applyOnForward policies and the defaults of their tiers; what those pass on is allowed. Untracked and preDNAT policies
 * decide only what a rule of theirs matches.
 */
import type { Resources, Entity, World } from "./world.ts";
import type { Tier as TierResource } from "@calico-ts/model";
import { defaultAllowProfile } from "@calico-ts/model";
import { calicoPolicy, profileRules } from "./calico-rules.ts";
import { clusterPolicy, kubernetesPolicy } from "./kubernetes-rules.ts";
import type { OraclePolicy, OracleRule } from "./oracle-policy.ts";
import { ruleOf, SelectorNumbers } from "./oracle-policy.ts";
import { RuleIndex } from "./rule-index.ts";
import type { PacketView } from "./packet-view.ts";
import type { Bystander, DirectionTrace, ProfileTrace, TierTrace } from "./trace.ts";
import { policyTrace, rulesTrace } from "./trace.ts";
import type { Decision, Direction, DirectionVerdict, Form, PolicyStep, TierStep } from "./verdict.ts";

export interface Tier {
  readonly name: string;
  readonly exists: boolean;
  readonly order: number;
  readonly pass: boolean;
}

interface TierPolicies {
  readonly tier: Tier;
  readonly policies: readonly { readonly policy: OraclePolicy; readonly rules: RuleIndex }[];
}

interface Plan {
  readonly tiers: readonly TierPolicies[];
  readonly profiles: readonly { readonly name: string; readonly rules: RuleIndex | undefined }[];
}

/** Elsewhere a tier's default Deny does not count. */
const ENDS_TIERS: ReadonlySet<Form> = new Set(["normal", "forward"]);

export class EndpointWalks {
  readonly #world: World;
  readonly #selectors = new SelectorNumbers();
  readonly #policies: readonly OraclePolicy[];
  readonly #tiers: ReadonlyMap<string, Tier>;
  readonly #profiles: ReadonlyMap<string, Readonly<Record<Direction, RuleIndex>>>;
  readonly #plans = new Map<string, Plan>();
  readonly #indexes = new Map<readonly OracleRule[], RuleIndex>();

  constructor(resources: Resources, world: World) {
    this.#world = world;
    const context = { world, selectors: this.#selectors };
    this.#policies = [
      ...resources.of("NetworkPolicy").map((policy) => calicoPolicy(policy, context)),
      ...resources.of("GlobalNetworkPolicy").map((policy) => calicoPolicy(policy, context)),
      ...resources.of("KubernetesNetworkPolicy").map((policy) => kubernetesPolicy(policy, context)),
      ...resources.of("ClusterNetworkPolicy").map((policy) => clusterPolicy(policy, context)),
    ].filter((policy) => policy !== undefined);
    this.#tiers = tiersOf(resources.of("Tier"));
    this.#profiles = new Map(
      [defaultAllowProfile, ...resources.of("Profile")].map((profile) => [
        profile.metadata.name,
        {
          ingress: new RuleIndex(profileRules(profile, "ingress", context)),
          egress: new RuleIndex(profileRules(profile, "egress", context)),
        },
      ]),
    );
  }

  /** Of all rules: they have been read. */
  get selectors(): SelectorNumbers {
    return this.#selectors;
  }

  /** undefined: nothing here decides about the packet. */
  walk(entity: Entity, direction: Direction, form: Form, packet: PacketView): DirectionVerdict | undefined {
    const { tiers, profiles } = this.#plan(entity, direction, form);
    const steps: TierStep[] = [];
    const result = (allowed: boolean, decision: Decision): DirectionVerdict => ({
      endpoint: entity.id,
      direction,
      form,
      allowed,
      tiers: steps,
      decision,
    });
    for (const { tier, policies } of tiers) {
      const { step, decision } = walkTier(tier, policies, direction, packet);
      if (step.outcome === "default-deny" && !ENDS_TIERS.has(form)) {
        steps.push({ ...step, outcome: "default-pass" });
        continue;
      }
      steps.push(step);
      if (decision !== undefined) return result(step.outcome === "allow", decision);
    }
    // Only normal policy asks profiles; elsewhere what the tiers pass on goes on.
    if (form === "forward" && tiers.length > 0) return result(true, { by: "passed-on", direction });
    if (form !== "normal") return undefined;
    for (const { name: profile, rules } of profiles) {
      if (rules === undefined) return result(false, { by: "missing-profile", profile, direction });
      const rule = rules.first(packet);
      if (rule === undefined || rule.action === "pass") continue;
      return result(rule.action === "allow", { by: "profile", profile, direction, index: rule.index });
    }
    return result(false, { by: "no-profile", direction });
  }

  /** `verdict` is what `walk` said. `reached`: the packet came this far. */
  trace(entity: Entity, verdict: DirectionVerdict, packet: PacketView, reached: boolean): DirectionTrace {
    const { endpoint, direction, form, allowed, decision } = verdict;
    const plan = this.#plan(entity, direction, form);
    const tiers = plan.tiers.map(({ tier, policies }): TierTrace => {
      const step = verdict.tiers.find((each) => each.tier === tier.name);
      return {
        tier: tier.name,
        exists: tier.exists,
        defaultAction: tier.pass ? "Pass" : "Deny",
        policies: policies.map(({ policy, rules }) => {
          const policyStep = step?.policies.find((each) => each.policy === policy.id);
          return policyTrace({ policy, rules: rules.all }, policyStep, packet);
        }),
        outcome: step?.outcome ?? "not-reached",
      };
    });
    const profiles = profilesTrace(plan.profiles, verdict, packet);
    const applying = new Set(plan.tiers.flatMap(({ policies }) => policies.map(({ policy }) => policy)));
    const bystanders = this.#policies
      .filter((policy) => !applying.has(policy) && isOfForm(policy, form) && isOfScope(policy, entity))
      .map(
        ({ id, subject, applies }): Bystander => ({
          policy: id,
          because: applies(entity) ? "direction" : "selector",
          subject,
        }),
      );
    return { endpoint, form, direction, reached, allowed, decision, tiers, profiles, bystanders };
  }

  #plan(entity: Entity, direction: Direction, form: Form): Plan {
    const key = `${form} ${direction} ${entity.id}`;
    const known = this.#plans.get(key);
    if (known !== undefined) return known;
    const byTier = new Map<string, TierPolicies["policies"][number][]>();
    for (const policy of this.#policies) {
      const rules = this.#index(policy, direction);
      if (rules === undefined || !isOfForm(policy, form) || !policy.applies(entity)) continue;
      const list = byTier.get(policy.tier);
      if (list === undefined) byTier.set(policy.tier, [{ policy, rules }]);
      else list.push({ policy, rules });
    }
    const tiers = Array.from(byTier, ([name, policies]) => ({
      tier: this.#tiers.get(name) ?? { name, exists: false, order: Number.POSITIVE_INFINITY, pass: false },
      policies: policies.toSorted((a, b) => inTier(a.policy, b.policy)),
    })).toSorted((a, b) => amongTiers(a.tier, b.tier));
    const profiles = entity.profiles.map((name) => ({ name, rules: this.#profile(name, direction) }));
    const plan = { tiers, profiles };
    this.#plans.set(key, plan);
    return plan;
  }

  /** Shared by all endpoints the policy applies to. */
  #index(policy: OraclePolicy, direction: Direction): RuleIndex | undefined {
    const rules = policy[direction];
    if (rules === undefined) return undefined;
    const known = this.#indexes.get(rules) ?? new RuleIndex(rules);
    this.#indexes.set(rules, known);
    return known;
  }

  /** undefined: there is no such profile. */
  #profile(name: string, direction: Direction): RuleIndex | undefined {
    const world = this.#world;
    if (name.startsWith("kns.") && world.namespaces.has(name.slice(4))) {
      return ALLOW_ALL;
    }
    const account = /^ksa\.([^.]+)\.(.+)$/.exec(name);
    if (account !== null && world.accounts.has(`${account[1]}/${account[2]}`)) return NO_RULES;
    return this.#profiles.get(name)?.[direction];
  }
}

export const tiersOf = (tiers: readonly TierResource[]): Map<string, Tier> =>
  new Map(
    tiers.map(({ metadata: { name }, spec: { order, defaultAction } }) => [
      name,
      { name, exists: true, order: order ?? Number.POSITIVE_INFINITY, pass: defaultAction === "Pass" },
    ]),
  );

const ALLOW_ALL = new RuleIndex([ruleOf("allow", 0, [])]);
const NO_RULES = new RuleIndex([]);

function profilesTrace(plan: Plan["profiles"], verdict: DirectionVerdict, packet: PacketView): ProfileTrace[] {
  const { decision, form } = verdict;
  const decidedByProfiles = ["profile", "missing-profile", "no-profile"].includes(decision.by);
  let reached = decidedByProfiles && form === "normal";
  return plan.map(({ name, rules }) => {
    const isLast = "profile" in decision && decision.profile === name;
    const decided = isLast && decision.by === "profile" ? decision.index : undefined;
    const outcome = !reached ? "not-reached" : isLast ? (verdict.allowed ? "allow" : "deny") : "no-match";
    const trace: ProfileTrace = {
      profile: name,
      exists: rules !== undefined,
      outcome,
      rules: rulesTrace(rules?.all ?? [], packet, { decided, reached }),
    };
    if (isLast) reached = false;
    return trace;
  });
}

/** Could somebody have meant this endpoint? Policies of other namespaces could not. */
const isOfScope = ({ id }: OraclePolicy, entity: Entity): boolean =>
  id.namespace === "" || id.namespace === entity.namespace;

function isOfForm(policy: OraclePolicy, form: Form): boolean {
  if (form === "untracked" || form === "pre-dnat") return policy.use === form;
  return policy.use === "normal" && (form === "normal" || policy.onForward);
}

/** Orders are compared as numbers, names as text: `name/namespace/kind` decides ties. */
export function inTier(a: OraclePolicy, b: OraclePolicy): number {
  if (a.order !== b.order) return a.order < b.order ? -1 : 1;
  const [left, right] = [a, b].map(({ id }) => `${id.name}/${id.namespace}/${id.kind}`);
  return left === right ? 0 : (left ?? "") < (right ?? "") ? -1 : 1;
}

export function amongTiers(a: Tier, b: Tier): number {
  if (a.exists !== b.exists) return a.exists ? -1 : 1;
  if (a.order !== b.order) return a.order < b.order ? -1 : 1;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

function walkTier(
  tier: Tier,
  policies: TierPolicies["policies"],
  direction: Direction,
  packet: PacketView,
): { step: TierStep; decision?: Decision } {
  const steps: PolicyStep[] = [];
  for (const { policy, rules } of policies) {
    const rule = rules.first(packet);
    if (rule === undefined || rule.action === "log") {
      steps.push({ policy: policy.id, outcome: "no-match" });
      continue;
    }
    const { action, index } = rule;
    steps.push({ policy: policy.id, outcome: action, index });
    const step: TierStep = { tier: tier.name, policies: steps, outcome: action };
    if (action === "pass") return { step };
    return { step, decision: { by: "rule", policy: policy.id, direction, index } };
  }
  if (tier.pass) return { step: { tier: tier.name, policies: steps, outcome: "default-pass" } };
  return {
    step: { tier: tier.name, policies: steps, outcome: "default-deny" },
    decision: { by: "tier-default", tier: tier.name, direction },
  };
}
