/**
 * The decision process: RFC 4271 section 9.1.2, with RFC 4456 section 9 (ORIGINATOR_ID, CLUSTER_LIST), RFC 9494 (long-lived stale routes come last) and
 * the customary preference for our own routes (and against those that we only found). Each step removes candidates from a set, so the result never depends on the order of arrival; MED in
 * particular is "deterministic" in the usual sense. No step looks at the age of a route.
 */
import { compareAddresses } from "@calico-ts/net";
import type { AttributeSet } from "./attribute-set.ts";
import type { AddressKey } from "./prefix-map.ts";
import type { Route } from "./route.ts";

export interface Candidate {
  readonly route: Route;
  readonly set: AttributeSet;
  /** Distance to the next hop (RFC 4271 section 9.1.2.2 e). */
  readonly metric: number;
}

export interface DecisionOptions {
  /** Compare MED between routes of different neighbouring ASes too. */
  readonly alwaysCompareMed: boolean;
}

interface Step {
  readonly name: string;
  readonly because: string;
  readonly keep: (candidates: readonly Candidate[], options: DecisionOptions) => readonly Candidate[];
}

/** Keeps the candidates with the smallest value. */
function smallest(of: (candidate: Candidate) => number): (candidates: readonly Candidate[]) => readonly Candidate[] {
  return (candidates) => {
    let least = Number.POSITIVE_INFINITY;
    let equal = 0;
    for (const candidate of candidates) {
      const value = of(candidate);
      if (value > least) continue;
      equal = value === least ? equal + 1 : 1;
      least = value;
    }
    // Most steps find nothing to choose by.
    return equal === candidates.length ? candidates : candidates.filter((candidate) => of(candidate) === least);
  };
}

const identifierOf = ({ route, set }: Candidate): number => set.reflected?.originatorId ?? route.source.identifier;

/** In order. What is left after `metric` is equally good for multipath; the rest only has to be the same everywhere. */
export const DECISION_STEPS: readonly Step[] = [
  {
    name: "long-lived-stale",
    because: "a route kept long after its peer went away is the last choice (RFC 9494 section 4.3)",
    keep: smallest(({ set }) => (set.longLivedStale ? 1 : 0)),
  },
  {
    name: "found-route",
    because: "a route found in a routing table is taken while no peer has one (its distance is the greatest)",
    keep: smallest(({ set }) => (set.facts?.yields === "always" ? 1 : 0)),
  },
  {
    name: "local-pref",
    because: "highest LOCAL_PREF (RFC 4271 section 9.1.1)",
    keep: smallest(({ set }) => -set.localPref),
  },
  {
    name: "local-route",
    because: "a route of our own before one we heard of, unless it says that it yields",
    keep: smallest(({ route, set }) => (set.facts?.yields !== undefined ? 2 : route.source.kind === "local" ? 0 : 1)),
  },
  {
    name: "as-path-length",
    because: "shortest AS_PATH (RFC 4271 section 9.1.2.2 a)",
    keep: smallest(({ set }) => set.pathLength),
  },
  {
    name: "origin",
    because: "lowest ORIGIN: IGP, EGP, incomplete (RFC 4271 section 9.1.2.2 b)",
    keep: smallest(({ set }) => set.originRank),
  },
  {
    name: "med",
    because: "lowest MULTI_EXIT_DISC among routes of one neighbouring AS (RFC 4271 section 9.1.2.2 c)",
    keep: (candidates, { alwaysCompareMed }) =>
      candidates.filter(
        ({ set }) =>
          !candidates.some(
            (other) => other.set.med < set.med && (alwaysCompareMed || other.set.neighbourAs === set.neighbourAs),
          ),
      ),
  },
  {
    name: "external",
    because: "learned from an external peer before an internal one (RFC 4271 section 9.1.2.2 d)",
    keep: smallest(({ route }) => (route.source.kind === "internal" ? 1 : 0)),
  },
  {
    name: "metric",
    because: "nearest next hop (RFC 4271 section 9.1.2.2 e)",
    keep: smallest(({ metric }) => metric),
  },
  {
    name: "router-id",
    because: "lowest ORIGINATOR_ID or BGP identifier (RFC 4271 section 9.1.2.2 f, RFC 4456 section 9)",
    keep: smallest(identifierOf),
  },
  {
    name: "cluster-list",
    because: "shortest CLUSTER_LIST (RFC 4456 section 9)",
    keep: smallest(({ set }) => set.reflected?.clusters ?? 0),
  },
  { name: "peer-address", because: "lowest peer address (RFC 4271 section 9.1.2.2 g)", keep: lowestAddress },
  {
    name: "next-hop",
    because: "lowest next hop, before path identifiers: those are arbitrary (RFC 7911 section 3)",
    keep: lowestNextHop,
  },
  { name: "path-id", because: "lowest path identifier (RFC 7911)", keep: smallest(({ route }) => route.pathId) },
];

const MULTIPATH_AFTER = DECISION_STEPS.findIndex((step) => step.name === "metric");

function lowestAddress(candidates: readonly Candidate[]): readonly Candidate[] {
  const addresses = candidates.map(({ route }) => route.source.address).filter((address) => address !== undefined);
  const [first] = addresses.toSorted(compareAddresses);
  if (first === undefined) return candidates;
  return candidates.filter(({ route }) => {
    const { address } = route.source;
    return address !== undefined && compareAddresses(address, first) === 0;
  });
}

function lowestNextHop(candidates: readonly Candidate[]): readonly Candidate[] {
  let least: AddressKey | undefined;
  for (const { set } of candidates) least = lower(least, set.nextHop);
  return least === undefined ? candidates : candidates.filter(({ set }) => set.nextHop === least);
}

function lower(a: AddressKey | undefined, b: AddressKey | undefined): AddressKey | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return unsigned(b) < unsigned(a) ? b : a;
}

const unsigned = (key: AddressKey): AddressKey => (typeof key === "number" ? key >>> 0 : key);

export interface Choice {
  readonly best: Candidate;
  /** As good as the best up to the distance of the next hop, the best included, in the order of preference among them. */
  readonly equal: readonly Candidate[];
}

export function choose(
  candidates: readonly Candidate[],
  options: DecisionOptions,
  multipath: boolean,
): Choice | undefined {
  let left = candidates;
  let equal: readonly Candidate[] = [];
  for (const [at, one] of DECISION_STEPS.entries()) {
    if (left.length <= 1) break;
    left = one.keep(left, options);
    if (at === MULTIPATH_AFTER && multipath) equal = left;
  }
  const [best] = left;
  if (best === undefined) return undefined;
  if (equal.length <= 1) return { best, equal: [best] };
  const others = equal.filter((candidate) => candidate !== best).toSorted(byTieBreak);
  return { best, equal: [best, ...others] };
}

function byTieBreak(a: Candidate, b: Candidate): number {
  const [left, right] = [a.route.source.address, b.route.source.address];
  const byAddress = left === undefined || right === undefined ? 0 : compareAddresses(left, right);
  const [hopA, hopB] = [a.set.nextHop, b.set.nextHop];
  const byNextHop = hopA === hopB ? 0 : lower(hopA, hopB) === hopA ? -1 : 1;
  return identifierOf(a) - identifierOf(b) || byAddress || byNextHop || a.route.pathId - b.route.pathId;
}

/** For people: which candidates each step removed. Ends with the best alone. */
export interface DecisionTrace {
  readonly best: Candidate | undefined;
  readonly steps: readonly {
    readonly name: string;
    readonly because: string;
    readonly removed: readonly Candidate[];
  }[];
}

export function traceDecision(candidates: readonly Candidate[], options: DecisionOptions): DecisionTrace {
  let left = candidates;
  const steps: { name: string; because: string; removed: readonly Candidate[] }[] = [];
  for (const { name, because, keep } of DECISION_STEPS) {
    if (left.length <= 1) break;
    const kept = keep(left, options);
    const removed = left.filter((candidate) => !kept.includes(candidate));
    if (removed.length > 0) steps.push({ name, because, removed });
    left = kept;
  }
  return { best: left[0], steps };
}
