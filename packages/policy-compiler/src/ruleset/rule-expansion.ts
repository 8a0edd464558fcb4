/**
 * One policy rule as rules of a chain.
 *
 * A rule is a conjunction of criteria; most are one match, some are a choice: an address is in the set's hash of single
 * addresses or in its interval set of prefixes, a port is in a numeric range or in a named-port set. Choices become one
 * rule per combination while there are few; many (or a Log, which must speak once per packet) become a ladder of block
 * chains: each choice is a chain whose alternatives `goto` the next, so a packet walks through at most once.
 *
 * IPv4 and IPv6 are separate rules as soon as a criterion has a family. A rule whose prefixes (negated ones too) are all
 * of the other family does not apply to a family: upstream filters rules per IP version in the same way.
 */
import type { Rule, RuleMatch } from "@calico-ts/dataplane-api";
import type { Family, PortRange, Prefix } from "@calico-ts/net";
import { hasPorts, mergePortRanges, PROTOCOL_NUMBERS, parsePrefix } from "@calico-ts/net";
import { maximalPrefixes } from "./prefixes.ts";
import type { Action, Chain, ChainRule, KeyField, KeyPart, KeyType, Match, Side } from "./values.ts";
import { addressField, familyMatch, keyType, RETURN } from "./values.ts";

/** One kernel set of an IP set: single addresses, prefixes or address-and-port, of one family. */
export interface SetPart {
  readonly family: Family;
  readonly name: string;
}

export interface ExpansionContext {
  /** The kernel sets of an IP set that hold members now. undefined: there is no such IP set. */
  setParts(id: string): readonly SetPart[] | undefined;
  /** The name of a set with exactly these elements, shared by everybody who asks for the same. */
  inlineSet(key: KeyType, elements: readonly (readonly KeyPart[])[]): string;
}

export interface ActionStyle {
  readonly allow: readonly Action[];
  readonly deny: readonly Action[];
  /** Must end with `return`. */
  readonly pass: readonly Action[];
  readonly log: readonly Action[];
  /** True of a packet on which `pass` was done. */
  readonly passed: Match;
}

export interface ExpandedRules {
  readonly rules: readonly ChainRule[];
  readonly blocks: readonly Chain[];
}

type Alternative = readonly Match[];
interface Criteria {
  readonly fixed: Match[];
  readonly choices: (readonly Alternative[])[];
}

const MOST_COMBINATIONS = 8;
const PORT_PROTOCOLS = Object.values(PROTOCOL_NUMBERS).filter(hasPorts);

/** `blockName` must be unique to this rule. undefined: the rule names an IP set that does not exist. */
export function expandRule(
  rule: Rule,
  style: ActionStyle,
  context: ExpansionContext,
  place: { readonly blockName: string; readonly comment: string },
): ExpandedRules | undefined {
  const ids = setIds(rule.match);
  if (ids.some((id) => context.setParts(id) === undefined)) return undefined;
  const families: readonly (Family | undefined)[] = ids.length > 0 || hasFamily(rule.match) ? [4, 6] : [undefined];
  const rules: ChainRule[] = [];
  const blocks: Chain[] = [];
  for (const family of families) {
    const criteria = criteriaOf(rule.match, family, context);
    if (criteria === undefined) continue;
    const name = family === undefined ? place.blockName : `${place.blockName}-v${family}`;
    const expanded = emit(criteria, actionsOf(rule, style), style, { name, comment: place.comment, rule });
    rules.push(...expanded.rules);
    blocks.push(...expanded.blocks);
  }
  return { rules, blocks };
}

export function setIds(match: RuleMatch): readonly string[] {
  const ids: string[] = [];
  for (const list of [
    match.sourceSets,
    match.notSourceSets,
    match.destinationSets,
    match.notDestinationSets,
    match.sourceNamedPortSets,
    match.notSourceNamedPortSets,
    match.destinationNamedPortSets,
    match.notDestinationNamedPortSets,
    match.destinationServiceSets,
  ])
    if (list.length > 0) ids.push(...list);
  return ids;
}

/** IP sets apart. */
function hasFamily(match: RuleMatch): boolean {
  const nets = [match.sourceNets, match.notSourceNets, match.destinationNets, match.notDestinationNets];
  const icmp = match.icmp !== undefined || match.notIcmp !== undefined;
  return match.family !== undefined || nets.some((list) => list.length > 0) || (icmp && match.protocol === undefined);
}

function actionsOf(rule: Rule, style: ActionStyle): readonly Action[] {
  return style[rule.action];
}

/** undefined: nothing of this family can match. */
function criteriaOf(match: RuleMatch, family: Family | undefined, context: ExpansionContext): Criteria | undefined {
  const criteria: Criteria = { fixed: [], choices: [] };
  if (family !== undefined) {
    if (match.family !== undefined && match.family !== family) return undefined;
    criteria.fixed.push(familyMatch(family));
  }
  addProtocol(criteria, match, family);
  const possible = (["source", "destination"] as const).every(
    (side) =>
      addNets(criteria, side, netsOf(match, side), { family, context }) &&
      addSets(criteria, side, setsOf(match, side), { family, context }) &&
      addPorts(criteria, side, portsOf(match, side), { family, context }),
  );
  if (!possible) return undefined;
  for (const id of match.destinationServiceSets) {
    const parts = partsOf(id, { family, context });
    if (parts.length === 0) return undefined;
    criteria.choices.push(parts.map((part) => [portSetLookup(part, "destination", false)]));
  }
  return criteria;
}

function addProtocol(criteria: Criteria, match: RuleMatch, family: Family | undefined): void {
  const icmp = match.icmp ?? match.notIcmp;
  if (match.protocol !== undefined) criteria.fixed.push({ kind: "protocol", protocol: match.protocol });
  else if (icmp !== undefined) criteria.fixed.push({ kind: "protocol", protocol: family === 4 ? 1 : 58 });
  else if (hasNumericPorts(match)) {
    criteria.choices.push(PORT_PROTOCOLS.map((protocol) => [{ kind: "protocol", protocol }]));
  }
  if (match.notProtocol !== undefined) {
    criteria.fixed.push({ kind: "protocol", protocol: match.notProtocol, not: true });
  }
  if (match.icmp !== undefined) criteria.fixed.push({ kind: "icmp", ...match.icmp });
  if (match.notIcmp !== undefined) criteria.fixed.push({ kind: "icmp", ...match.notIcmp, not: true });
}

const hasNumericPorts = (match: RuleMatch): boolean =>
  [match.sourcePorts, match.notSourcePorts, match.destinationPorts, match.notDestinationPorts].some(
    (ranges) => ranges.length > 0,
  );

interface Lists<T> {
  readonly positive: readonly T[];
  readonly negated: readonly T[];
}
interface Scope {
  readonly family: Family | undefined;
  readonly context: ExpansionContext;
}

const netsOf = (match: RuleMatch, side: Side): Lists<string> =>
  side === "source"
    ? { positive: match.sourceNets, negated: match.notSourceNets }
    : { positive: match.destinationNets, negated: match.notDestinationNets };

const setsOf = (match: RuleMatch, side: Side): Lists<string> =>
  side === "source"
    ? { positive: match.sourceSets, negated: match.notSourceSets }
    : { positive: match.destinationSets, negated: match.notDestinationSets };

interface Ports {
  readonly ranges: Lists<PortRange>;
  readonly named: Lists<string>;
}

const portsOf = (match: RuleMatch, side: Side): Ports =>
  side === "source"
    ? {
        ranges: { positive: match.sourcePorts, negated: match.notSourcePorts },
        named: { positive: match.sourceNamedPortSets, negated: match.notSourceNamedPortSets },
      }
    : {
        ranges: { positive: match.destinationPorts, negated: match.notDestinationPorts },
        named: { positive: match.destinationNamedPortSets, negated: match.notDestinationNamedPortSets },
      };

/** These return false when nothing can match any more. */
function addNets(criteria: Criteria, side: Side, nets: Lists<string>, scope: Scope): boolean {
  for (const [texts, not] of [
    [nets.positive, false],
    [nets.negated, true],
  ] as const) {
    if (texts.length === 0) continue;
    const prefixes = maximalPrefixes(texts.map((text) => parsePrefix(text, "mask"))).filter(
      (prefix) => prefix.family === scope.family,
    );
    const [only] = prefixes;
    if (only === undefined) return false;
    criteria.fixed.push(prefixes.length === 1 ? prefixMatch(side, only, not) : netsLookup(side, prefixes, not, scope));
  }
  return true;
}

const prefixMatch = (side: Side, prefix: Prefix, not: boolean): Match =>
  not ? { kind: "prefix", side, prefix, not } : { kind: "prefix", side, prefix };

function netsLookup(side: Side, prefixes: readonly Prefix[], not: boolean, scope: Scope): Match {
  const family = scope.family ?? 4;
  const set = scope.context.inlineSet(
    keyType(family),
    prefixes.map((prefix) => [prefix]),
  );
  return lookup(set, [addressField(family, side)], not);
}

function addSets(criteria: Criteria, side: Side, sets: Lists<string>, scope: Scope): boolean {
  for (const id of sets.positive) {
    const parts = partsOf(id, scope);
    if (parts.length === 0) return false;
    criteria.choices.push(parts.map((part) => [lookup(part.name, [addressField(part.family, side)], false)]));
  }
  for (const id of sets.negated) {
    for (const part of partsOf(id, scope)) {
      criteria.fixed.push(lookup(part.name, [addressField(part.family, side)], true));
    }
  }
  return true;
}

function addPorts(criteria: Criteria, side: Side, ports: Ports, scope: Scope): boolean {
  const { ranges, named } = ports;
  if (ranges.positive.length > 0 || named.positive.length > 0) {
    const alternatives: Alternative[] = named.positive.flatMap((id) =>
      partsOf(id, scope).map((part): Alternative => [portSetLookup(part, side, false)]),
    );
    if (ranges.positive.length > 0) alternatives.unshift([portMatch(side, ranges.positive, false, scope)]);
    if (alternatives.length === 0) return false;
    criteria.choices.push(alternatives);
  }
  if (ranges.negated.length > 0) criteria.fixed.push(portMatch(side, ranges.negated, true, scope));
  for (const id of named.negated) {
    for (const part of partsOf(id, scope)) criteria.fixed.push(portSetLookup(part, side, true));
  }
  return true;
}

function portMatch(side: Side, ranges: readonly PortRange[], not: boolean, scope: Scope): Match {
  const merged = mergePortRanges(ranges);
  const [only] = merged;
  if (merged.length === 1 && only !== undefined) {
    return not ? { kind: "port", side, range: only, not } : { kind: "port", side, range: only };
  }
  const set = scope.context.inlineSet(
    "port",
    merged.map((range) => [range]),
  );
  return lookup(set, [{ kind: "port", side }], not);
}

const partsOf = (id: string, scope: Scope): readonly SetPart[] =>
  (scope.context.setParts(id) ?? []).filter((part) => part.family === scope.family);

const portSetLookup = (part: SetPart, side: Side, not: boolean): Match =>
  lookup(part.name, [addressField(part.family, side), { kind: "protocol" }, { kind: "port", side }], not);

const lookup = (set: string, fields: readonly KeyField[], not: boolean): Match =>
  not ? { kind: "lookup", set, fields, not } : { kind: "lookup", set, fields };

interface Place {
  readonly name: string;
  readonly comment: string;
  readonly rule: Rule;
}

function emit(criteria: Criteria, actions: readonly Action[], style: ActionStyle, place: Place): ExpandedRules {
  const fixed = [
    ...criteria.fixed,
    ...criteria.choices.flatMap((choice) => (choice.length === 1 ? choice.flat() : [])),
  ];
  const choices = criteria.choices.filter((choice) => choice.length > 1);
  const combinations = choices.reduce((product, choice) => product * choice.length, 1);
  const { comment, rule } = place;
  if (combinations === 1 || (combinations <= MOST_COMBINATIONS && rule.action !== "log")) {
    const rules = combine(choices).map((matches) => ({ matches: [...fixed, ...matches], actions, comment }));
    return { rules, blocks: [] };
  }
  const blocks = choices.map((choice, at): Chain => {
    const last = at === choices.length - 1;
    const next: readonly Action[] = last
      ? ending(actions, place)
      : [{ kind: "goto", chain: `${place.name}-${at + 1}` }];
    return {
      name: `${place.name}-${at}`,
      rules: choice.map((matches) => ({ matches, actions: next, comment })),
    };
  });
  const entry: ChainRule = { matches: fixed, actions: [{ kind: "jump", chain: `${place.name}-0` }], comment };
  // A pass returns from the block chain only; this carries it out of the policy chain.
  const onward: ChainRule = { matches: [style.passed], actions: [RETURN], comment };
  // One place that speaks, with one rate limit, whichever alternatives the packet came through.
  if (rule.action === "log") blocks.push({ name: `${place.name}-log`, rules: [{ matches: [], actions, comment }] });
  return { rules: rule.action === "pass" ? [entry, onward] : [entry], blocks };
}

const ending = (actions: readonly Action[], { name, rule }: Place): readonly Action[] =>
  rule.action === "log" ? [{ kind: "goto", chain: `${name}-log` }] : actions;

function combine(choices: readonly (readonly Alternative[])[]): Alternative[] {
  return choices.reduce<Alternative[]>(
    (rows, choice) => rows.flatMap((row) => choice.map((alternative) => [...row, ...alternative])),
    [[]],
  );
}
