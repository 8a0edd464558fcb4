/** A whole table as values, and the difference between two of them. */
import type { NftElement, NftSet, NftTable } from "@calico-ts/netlink";
import { elementIdentity, ruleIdentity } from "./identity.ts";
import type { Move } from "../../ruleset/workload-dispatch.ts";
import type { RenderedChain } from "./render-chain.ts";
import { movesBetween } from "./moves.ts";

export interface RenderedSet {
  readonly set: NftSet;
  /** By `elementKey`. */
  readonly elements: ReadonlyMap<string, NftElement>;
}

export interface Ruleset {
  readonly table: NftTable;
  /** Every chain of the table, base chains included. */
  readonly chains: ReadonlyMap<string, RenderedChain>;
  readonly sets: ReadonlyMap<string, RenderedSet>;
  /** Interface → the group its link has, or shall have. */
  readonly groups: ReadonlyMap<string, number>;
}

export type ChainChange =
  /** `replaces`: it is there with another hook, or without: it goes first. */
  | {
      readonly kind: "replace";
      readonly rendered: RenderedChain;
      readonly isNew: boolean;
      readonly replaces?: boolean;
    }
  | { readonly kind: "remove"; readonly name: string };

export type SetChange =
  /** `previous`: it is there with another declaration: that one goes first. */
  | {
      readonly kind: "replace";
      readonly set: NftSet;
      readonly elements: readonly NftElement[];
      readonly previous?: NftSet;
    }
  | {
      readonly kind: "delta";
      readonly set: NftSet;
      readonly added: readonly NftElement[];
      readonly removed: readonly NftElement[];
    }
  | { readonly kind: "remove"; readonly set: NftSet };

export interface RulesetChange {
  readonly table: NftTable;
  readonly chains: ReadonlyMap<string, ChainChange>;
  readonly sets: ReadonlyMap<string, SetChange>;
  /** What the groups of links shall be after it, all of them. */
  readonly groups: ReadonlyMap<string, number>;
  /** Interfaces whose links may have another group until they are set. */
  readonly moves: readonly Move[];
  /** Rules, or sets that the walks of `moves` ask, change as well: packets of the moving interfaces must see both at once. */
  readonly together: boolean;
}

export const isEmptyChange = (change: RulesetChange): boolean => change.chains.size === 0 && change.sets.size === 0;

/**
 * What makes `observed` equal `desired`. What is already right is not touched: counters stay, nothing flaps. Which groups the links have
 * is not asked: every interface whose elements differ counts as one that moves.
 */
export function diffRulesets(observed: Ruleset, desired: Ruleset): RulesetChange {
  const sets = new Map<string, SetChange>();
  const redeclared = new Set<string>();
  for (const [name, want] of desired.sets) {
    const change = setChange(observed.sets.get(name), want);
    if (change === undefined) continue;
    if (change.kind === "replace" && change.previous !== undefined) redeclared.add(name);
    sets.set(name, change);
  }
  for (const [name, have] of observed.sets)
    if (!desired.sets.has(name)) sets.set(name, { kind: "remove", set: have.set });

  const chains = new Map<string, ChainChange>();
  for (const [name, want] of desired.chains) {
    const have = observed.chains.get(name);
    if (have === undefined) chains.set(name, { kind: "replace", rendered: want, isNew: true });
    else if (chainIdentity(have) !== chainIdentity(want)) {
      chains.set(name, { kind: "replace", rendered: want, isNew: false, replaces: true });
    } else if (!sameRules(have, want) || usesAny(want, redeclared)) {
      chains.set(name, { kind: "replace", rendered: want, isNew: false });
    }
  }
  for (const name of observed.chains.keys()) if (!desired.chains.has(name)) chains.set(name, { kind: "remove", name });
  const { groups, table } = desired;
  return { table, chains, sets, groups, moves: movesBetween(sets, desired), together: true };
}

function setChange(have: RenderedSet | undefined, want: RenderedSet): SetChange | undefined {
  if (have === undefined || setIdentity(have.set) !== setIdentity(want.set)) {
    const whole = { kind: "replace", set: want.set, elements: [...want.elements.values()] } as const;
    return have === undefined ? whole : { ...whole, previous: have.set };
  }
  const added: NftElement[] = [];
  const removed: NftElement[] = [];
  for (const [key, element] of want.elements) {
    const other = have.elements.get(key);
    if (other !== undefined && elementIdentity(other) === elementIdentity(element)) continue;
    if (other !== undefined) removed.push(other);
    added.push(element);
  }
  for (const [key, element] of have.elements) if (!want.elements.has(key)) removed.push(element);
  return added.length + removed.length === 0 ? undefined : { kind: "delta", set: want.set, added, removed };
}

const setIdentity = (set: NftSet): string =>
  [...set.keyTypes, set.interval === true ? "interval" : "hash", set.mapTo ?? "set"].join(" ");

function chainIdentity({ chain: { base } }: RenderedChain): string {
  return base === undefined ? "" : `${base.type} ${base.hook} ${base.priority} ${base.policy}`;
}

const sameRules = (have: RenderedChain, want: RenderedChain): boolean =>
  have.rules.length === want.rules.length &&
  want.rules.every((rule, at) => {
    const other = have.rules[at];
    return other !== undefined && ruleIdentity(other) === ruleIdentity(rule);
  });

const usesAny = (rendered: RenderedChain, sets: ReadonlySet<string>): boolean =>
  sets.size > 0 &&
  rendered.rules.some((rule) => rule.exprs.some((expr) => expr.kind === "lookup" && sets.has(expr.set)));
