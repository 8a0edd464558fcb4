/**
 * Rules that never decide because of another policy: an earlier one, of the same tier or of a tier before, selects every endpoint
 * that this one selects here and has a rule that takes every packet this rule could match.
 *
 * What "selects here" means depends on the world at hand, so a finding of this kind is about these endpoints, not about all there could
 * be. Rules are compared from their fields alone and on the safe side (`rule-cover.ts`).
 */
import type { Rule } from "@calico-ts/model";
import type { SourcedResource } from "../explain/manifest-world.ts";
import { isOf } from "../explain/manifest-world.ts";
import { objectText } from "../explain/words.ts";
import type { Tier } from "../oracle/endpoint-walks.ts";
import { amongTiers, inTier } from "../oracle/endpoint-walks.ts";
import type { OraclePolicy } from "../oracle/oracle-policy.ts";
import type { Entity } from "../oracle/world.ts";
import type { Report } from "./policy-checks.ts";
import { calicoSpec } from "./policy-checks.ts";
import { clusterRule, kubernetesRule, peersCover, ruleCovers } from "./rule-cover.ts";

export interface ReadPolicy {
  readonly item: SourcedResource;
  readonly policy: OraclePolicy;
  /** The pods and host endpoints it selects. */
  readonly selected: ReadonlySet<Entity>;
}

type Direction = "ingress" | "egress";
type Form =
  | { readonly of: "calico"; readonly rule: Rule }
  | { readonly of: "kubernetes" | "cluster"; readonly rule: Parameters<typeof peersCover>[0] };

/** A rule with what it takes to compare it. */
interface Candidate {
  readonly form: Form;
  readonly action: string;
  readonly index: number;
  readonly owner: Placed;
}

interface Placed extends ReadPolicy {
  readonly tier: Tier;
}

export class ShadowedPolicies {
  /** In the order in which they are asked. */
  readonly #placed: readonly Placed[];
  readonly #rules = new Map<string, Candidate[]>();
  readonly #overlaps = new Map<Placed, readonly Placed[]>();
  /** In order. */
  readonly #byEntity = new Map<Entity, Placed[]>();

  constructor(policies: readonly ReadPolicy[], tiers: ReadonlyMap<string, Tier>) {
    const unknown = (name: string): Tier => ({ name, exists: false, order: Number.POSITIVE_INFINITY, pass: false });
    this.#placed = policies
      .map((read) => ({ ...read, tier: tiers.get(read.policy.tier) ?? unknown(read.policy.tier) }))
      .toSorted((a, b) => amongTiers(a.tier, b.tier) || inTier(a.policy, b.policy));
    for (const placed of this.#placed) {
      for (const entity of placed.selected) {
        const list = this.#byEntity.get(entity);
        if (list === undefined) this.#byEntity.set(entity, [placed]);
        else list.push(placed);
      }
    }
  }

  check(item: SourcedResource, report: Report): void {
    const later = this.#placed.find((each) => each.item === item);
    const [first] = later?.selected ?? [];
    if (later === undefined || first === undefined) return;
    // What selects all of them selects the first.
    const candidates = this.#byEntity.get(first) ?? [];
    const before = candidates.slice(0, candidates.indexOf(later)).filter((each) => covers(each, later));
    if (before.length === 0) return;
    for (const direction of ["ingress", "egress"] as const) this.#checkDirection(later, before, direction, report);
  }

  #checkDirection(later: Placed, before: readonly Placed[], direction: Direction, report: Report): void {
    const earlier = this.#deciding(before, later, direction);
    if (earlier.length === 0) return;
    for (const rule of this.#rulesOf(later, direction)) {
      const first = earlier.find((each) => candidateCovers(each, rule));
      if (first === undefined) continue;
      const { policy, tier } = first.owner;
      const isSame = first.action === rule.action;
      const where =
        policy.tier === later.policy.tier ? "earlier in the tier" : `in tier ${tier.name}, which comes before`;
      report("shadowed-rule", isSame ? "note" : "warning", `spec.${direction}[${rule.index}]`, {
        message: `rule ${rule.index} (${rule.action}) never decides: ${direction} rule ${first.index} (${first.action}) of ${objectText(policy.id)}, ${where}, selects every endpoint this policy selects here and matches every packet it could match`,
        fix: isSame
          ? "Remove it, unless the policy is meant for endpoints that are not here."
          : "Give this policy a lower order, or narrow that rule.",
      });
    }
  }

  /**
   * Rules that certainly decide before any of `later`. Whoever passes a packet on ends the tier, so in tiers before `later`'s only rules
   * in front of the first Pass count; within its own tier a Pass takes the packet away just as well.
   */
  #deciding(before: readonly Placed[], later: Placed, direction: Direction): Candidate[] {
    const found: Candidate[] = [];
    const leftBy = new Set<string>();
    for (const placed of this.#overlapping(later)) {
      if (placed === later) break;
      if (placed.policy[direction] === undefined) continue;
      const isOwnTier = placed.policy.tier === later.policy.tier;
      const counts = before.includes(placed);
      for (const rule of this.#rulesOf(placed, direction)) {
        if (rule.action === "Pass" && !isOwnTier) leftBy.add(placed.policy.tier);
        else if (counts && rule.action !== "Log" && !leftBy.has(placed.policy.tier)) found.push(rule);
      }
    }
    return found;
  }

  /** Those that select one of its endpoints, in order. */
  #overlapping(later: Placed): readonly Placed[] {
    const known = this.#overlaps.get(later);
    if (known !== undefined) return known;
    const seen = new Set<Placed>();
    for (const entity of later.selected) for (const placed of this.#byEntity.get(entity) ?? []) seen.add(placed);
    const found = this.#placed.filter((placed) => seen.has(placed));
    this.#overlaps.set(later, found);
    return found;
  }

  #rulesOf(owner: Placed, direction: Direction): readonly Candidate[] {
    if (owner.policy[direction] === undefined) return [];
    const { kind, namespace, name } = owner.policy.id;
    const key = `${kind}/${namespace}/${name} ${direction}`;
    const known =
      this.#rules.get(key) ?? formsOf(owner.item, direction).map((rule, index) => ({ ...rule, index, owner }));
    this.#rules.set(key, known);
    return known;
  }
}

/** Whatever packet meets `later` has met `earlier`. */
function covers(earlier: Placed, later: Placed): boolean {
  if (earlier.policy.use !== "normal" || later.policy.use !== "normal") return false;
  if (later.policy.onForward && !earlier.policy.onForward && [...later.selected].some(({ kind }) => kind === "host")) {
    return false;
  }
  return (
    later.selected.size <= earlier.selected.size && [...later.selected].every((entity) => earlier.selected.has(entity))
  );
}

function formsOf(item: SourcedResource, direction: Direction): { form: Form; action: string }[] {
  if (isOf(item, "KubernetesNetworkPolicy")) {
    return (item.resource.spec?.[direction] ?? []).map((rule) => ({
      form: { of: "kubernetes", rule: kubernetesRule(rule) },
      action: "Allow",
    }));
  }
  if (isOf(item, "ClusterNetworkPolicy")) {
    return (item.resource.spec[direction] ?? []).map((rule) => ({
      form: { of: "cluster", rule: clusterRule(rule) },
      action: rule.action === "Accept" ? "Allow" : rule.action,
    }));
  }
  return (calicoSpec(item)?.[direction] ?? []).map((rule) => ({ form: { of: "calico", rule }, action: rule.action }));
}

function candidateCovers(earlier: Candidate, later: Candidate): boolean {
  if (matchesAll(earlier.form)) return true;
  // Peers and selectors of a namespaced policy mean its own namespace.
  const sameScope = earlier.owner.policy.id.namespace === later.owner.policy.id.namespace;
  const [a, b] = [earlier.form, later.form];
  if (a.of === "calico" && b.of === "calico") return (sameScope || !isScoped(a.rule)) && ruleCovers(a.rule, b.rule);
  if (a.of === "calico" || b.of === "calico" || a.of !== b.of) return false;
  return (sameScope || a.rule.peers.length === 0) && peersCover(a.rule, b.rule);
}

const matchesAll = (form: Form): boolean =>
  form.of === "calico"
    ? ruleCovers(form.rule, { action: "Allow" })
    : form.rule.peers.length === 0 && form.rule.ports.length === 0;

/** Does what it selects depend on the namespace of its policy? */
const isScoped = ({ source, destination }: Rule): boolean =>
  [source, destination].some(
    (entity) =>
      entity !== undefined &&
      [entity.selector, entity.notSelector, entity.namespaceSelector, entity.serviceAccounts, entity.services].some(
        (field) => field !== undefined && field !== "",
      ),
  );
