/**
 * Import and export filters as data: an ordered list of rules, the first that matches decides, and changes the attributes if it accepts. A rule is compared
 * and remembered by identity, so the attributes it makes of one shared set are worked out once. `because` names the rule in explanations.
 */
import type { AttributeSet } from "../rib/attribute-set.ts";
import type { NextHops } from "../rib/next-hop.ts";
import type { PrefixKey } from "../rib/prefix-map.ts";
import type { Source } from "../rib/route.ts";
import { prependAs } from "../wire/attributes/as-path.ts";
import type { IpAddress } from "@calico-ts/net";
import { unreachable } from "@calico-ts/std";
import type { LargeCommunity, PathAttributes } from "../wire/attributes/values.ts";
import { matchesName } from "./name-pattern.ts";
import type { PrefixMatch } from "./prefix-match.ts";
import { matchesPrefix } from "./prefix-match.ts";

/** All that is given has to hold. */
export interface FilterMatch {
  readonly prefix?: PrefixMatch;
  /** Heard from a peer, or one of our own: any, configured, or found in a routing table. */
  readonly source?: "peer" | "local" | "configured" | "found";
  /** Interface that the route leads through: for routes of peers, their next hop. `*` stands for anything. */
  readonly interface?: string;
  /** A route of our own leads to a gateway. */
  readonly gateway?: boolean;
  /** Each has to be there. */
  readonly communities?: readonly number[];
  readonly largeCommunities?: readonly LargeCommunity[];
  /** The AS_PATH begins with these. */
  readonly asPathPrefix?: readonly number[];
  /** Kind of the peer the filter works for. */
  readonly peerType?: "internal" | "external";
  readonly localPref?: number;
  /** LOCAL_PREF is greater than this. */
  readonly localPrefAbove?: number;
}

export type FilterOperation =
  | { readonly do: "add-community"; readonly community: number }
  | { readonly do: "remove-community"; readonly community: number }
  | { readonly do: "add-large-community"; readonly community: LargeCommunity }
  /** Put in front, so that the path begins with them in this order. */
  | { readonly do: "prepend-as-path"; readonly ases: readonly number[] }
  | { readonly do: "set-local-pref"; readonly value: number }
  | { readonly do: "set-med"; readonly value: number }
  | { readonly do: "set-next-hop"; readonly address: IpAddress };

/** `continue`: the operations apply, and the next rules see the result. */
export interface FilterRule {
  readonly action: "accept" | "reject" | "continue";
  readonly match?: FilterMatch;
  readonly operations?: readonly FilterOperation[];
  readonly because?: string;
}

export interface Filter {
  readonly name: string;
  readonly rules: readonly FilterRule[];
  /** When no rule matches. */
  readonly otherwise: "accept" | "reject";
}

export interface FilterInput {
  readonly key: PrefixKey;
  readonly set: AttributeSet;
  readonly source: Source;
  readonly peerType: "internal" | "external";
  /** For filters that ask through which interface a route leads. */
  readonly nextHops?: Pick<NextHops, "interfaceOf">;
}

export type FilterResult =
  | { readonly accept: true; readonly set: AttributeSet; readonly by: string }
  | { readonly accept: false; readonly by: string };

/** `heard`: told of every rule that matches, and of what stands for it when none decided (for explanations). */
export function runFilter(
  filter: Filter,
  input: FilterInput,
  heard?: (by: string, rule: Pick<FilterRule, "action" | "operations">) => void,
): FilterResult {
  let { set } = input;
  let at = -1;
  for (const rule of filter.rules) {
    at++;
    if (rule.match !== undefined && !matches(rule.match, input, set)) continue;
    const by = rule.because ?? `${filter.name}[${at}]`;
    heard?.(by, rule);
    if (rule.action === "reject") return { accept: false, by };
    const { operations } = rule;
    if (operations !== undefined && operations.length > 0) {
      set = set.derive(operations, (attributes) => operations.reduce(applyOperation, attributes)) ?? set;
    }
    if (rule.action === "accept") return { accept: true, set, by };
  }
  const by = `${filter.name}: no rule matched`;
  heard?.(by, { action: filter.otherwise });
  return filter.otherwise === "accept" ? { accept: true, set, by } : { accept: false, by };
}

/** True when the verdict on a peer's route depends on where its next hop leads. */
export const asksForInterface = (filter: Filter): boolean =>
  filter.rules.some((rule) => rule.match?.interface !== undefined);

/** True when the verdict is the same for every prefix with the same attributes and source. */
export const ignoresPrefix = (filter: Filter): boolean =>
  filter.rules.every((rule) => rule.match?.prefix === undefined);

function matches(match: FilterMatch, input: FilterInput, set: AttributeSet): boolean {
  const { key, source, peerType } = input;
  const { attributes } = set;
  if (match.peerType !== undefined && match.peerType !== peerType) return false;
  if (match.source !== undefined && !isFrom(match.source, source, set)) return false;
  if (match.localPref !== undefined && match.localPref !== set.localPref) return false;
  if (match.localPrefAbove !== undefined && set.localPref <= match.localPrefAbove) return false;
  if (match.prefix !== undefined && !matchesPrefix(match.prefix, key)) return false;
  if (match.interface !== undefined && !matchesName(match.interface, interfaceOf(input) ?? "")) return false;
  if (match.gateway !== undefined && (source.kind !== "local" || match.gateway !== (set.facts?.gateway === true)))
    return false;
  if (match.communities?.some((one) => attributes.communities?.includes(one) !== true) === true) return false;
  const large = attributes.largeCommunities ?? [];
  if (match.largeCommunities?.some((one) => !large.some((other) => sameLarge(one, other))) === true) return false;
  return match.asPathPrefix === undefined || beginsWith(attributes, match.asPathPrefix);
}

/** The next hop as the route came: an operation may have set another one for the peer. */
const interfaceOf = ({ set, nextHops }: FilterInput): string | undefined =>
  set.facts?.interface ?? nextHops?.interfaceOf(set);

function isFrom(wanted: NonNullable<FilterMatch["source"]>, { kind }: Source, { facts }: AttributeSet): boolean {
  if (wanted === "peer" || wanted === "local") return (wanted === "local") === (kind === "local");
  return kind === "local" && (wanted === "found") === (facts?.found === true);
}

function beginsWith({ asPath }: PathAttributes, wanted: readonly number[]): boolean {
  const path: number[] = [];
  for (const segment of asPath ?? []) {
    if (segment.kind !== "sequence") break;
    path.push(...segment.ases);
  }
  return wanted.every((as, at) => path[at] === as);
}

const sameLarge = (a: LargeCommunity, b: LargeCommunity): boolean =>
  a.global === b.global && a.local1 === b.local1 && a.local2 === b.local2;

function applyOperation(attributes: PathAttributes, operation: FilterOperation): PathAttributes {
  switch (operation.do) {
    case "add-community":
      return withCommunity(attributes, operation.community);
    case "remove-community": {
      const { communities, ...others } = attributes;
      const left = communities?.filter((one) => one !== operation.community) ?? [];
      return left.length === 0 ? others : { ...others, communities: left };
    }
    case "add-large-community": {
      const before = attributes.largeCommunities ?? [];
      if (before.some((one) => sameLarge(one, operation.community))) return attributes;
      const all = [...before, operation.community];
      const sorted = all.toSorted((a, b) => a.global - b.global || a.local1 - b.local1 || a.local2 - b.local2);
      return { ...attributes, largeCommunities: sorted };
    }
    case "prepend-as-path": {
      const asPath = operation.ases.toReversed().reduce((path, as) => prependAs(path, as), attributes.asPath ?? []);
      return { ...attributes, asPath };
    }
    case "set-local-pref":
      return { ...attributes, localPref: operation.value };
    case "set-med":
      return { ...attributes, med: operation.value };
    case "set-next-hop":
      return { ...attributes, nextHop: operation.address };
    default:
      return unreachable(operation);
  }
}

export function withCommunity(attributes: PathAttributes, community: number): PathAttributes {
  const before = attributes.communities ?? [];
  if (before.includes(community)) return attributes;
  return { ...attributes, communities: [...before, community].toSorted((a, b) => a - b) };
}
