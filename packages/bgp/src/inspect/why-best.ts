/** Why a prefix goes where it goes: every route heard for it, which step of the decision removed which, and who was told what, or why not. */
import type { IpAddress, Prefix } from "@calico-ts/net";
import { formatPrefix } from "@calico-ts/net";
import type { OwnRouteFacts } from "../rib/attribute-set.ts";
import type { Candidate } from "../rib/decision.ts";
import { traceDecision } from "../rib/decision.ts";
import type { FilterClause } from "./filter-clauses.ts";
import { filterClauses } from "./filter-clauses.ts";
import { prefixKey, prefixOfKey } from "../rib/prefix-map.ts";
import type { Destination, Route } from "../rib/route.ts";
import { routesOf } from "../rib/route.ts";
import type { RibTable } from "../rib/table.ts";
import type { BgpSpeaker } from "../speaker.ts";
import type { PathAttributes } from "../wire/attributes/values.ts";

export interface RouteName {
  /** "local" for one of our own. */
  readonly peer: string;
  readonly pathId?: number;
}

export interface Explanation {
  readonly prefix: string;
  /** Asked about an address: a longer prefix that has it, of which no route can be used. */
  readonly passedOver?: string;
  readonly best: RouteName | undefined;
  readonly routes: readonly (RouteName & {
    readonly attributes: PathAttributes;
    /** candidate: took part in the decision. */
    readonly verdict: "candidate" | "rejected" | "next hop unreachable";
    readonly reason?: string;
    readonly stale: boolean;
    /** Of one of our own. */
    readonly own?: OwnRouteFacts;
    /** What the peer's import filter did to it; none: it did not get that far, or there is no filter. */
    readonly clauses: readonly FilterClause[];
  })[];
  /** The steps that removed candidates, in order. */
  readonly steps: readonly {
    readonly step: string;
    readonly because: string;
    readonly removed: readonly RouteName[];
  }[];
  readonly told: readonly {
    readonly peer: string;
    readonly attributes?: PathAttributes;
    /** Why the peer was not told. */
    readonly reason?: string;
    /** What the export filter did to the best route; none: it was not asked. */
    readonly clauses: readonly FilterClause[];
  }[];
}

/** Undefined: nobody ever told us about this prefix. */
export function explainPrefix(speaker: BgpSpeaker, prefix: Prefix): Explanation | undefined {
  const table = speaker.routing.tables.get(prefix.family === 4 ? "ipv4-unicast" : "ipv6-unicast");
  const { address, length } = prefixKey(prefix);
  const destination = table?.find(address, length);
  return table === undefined || destination === undefined ? undefined : explain(speaker, table, destination);
}

/** The prefix packets to the address take, explained. */
export function explainAddress(speaker: BgpSpeaker, address: IpAddress): Explanation | undefined {
  const table = speaker.routing.tables.get(address.family === 4 ? "ipv4-unicast" : "ipv6-unicast");
  const longest = table?.longestMatch(address, () => true);
  const destination = table?.longestMatch(address, (one) => one.best !== undefined) ?? longest;
  if (table === undefined || destination === undefined || longest === undefined) return undefined;
  const explanation = explain(speaker, table, destination);
  return longest === destination ? explanation : { ...explanation, passedOver: formatPrefix(prefixOfKey(longest)) };
}

function explain(speaker: BgpSpeaker, table: RibTable, destination: Destination): Explanation {
  const candidates = table.candidates(destination);
  const { best, steps } = traceDecision(candidates, table.options);
  return {
    prefix: formatPrefix(prefixOfKey(destination)),
    best: best && nameOf(best.route),
    routes: routesOf(destination).map((route) => ({
      ...nameOf(route),
      attributes: (route.accepted ?? route.received).attributes,
      ...verdictOf(route, candidates),
      stale: route.stale !== 0,
      ...(route.source.kind === "local" && route.received.facts !== undefined && { own: route.received.facts }),
      clauses: importClauses(speaker, destination, route),
    })),
    steps: steps.map(({ name, because, removed }) => ({
      step: name,
      because,
      removed: removed.map(({ route }) => nameOf(route)),
    })),
    told: [...speaker.peers.keys()].map((peer) => toldTo(speaker, peer, table, destination)),
  };
}

const nameOf = ({ source, pathId }: Route): RouteName => ({
  peer: source.peer ?? "local",
  ...(pathId !== 0 && { pathId }),
});

function verdictOf(
  route: Route,
  candidates: readonly Candidate[],
): Pick<Explanation["routes"][number], "verdict" | "reason"> {
  if (route.accepted === undefined) return { verdict: "rejected", reason: route.rejected ?? "import policy" };
  return { verdict: candidates.some((one) => one.route === route) ? "candidate" : "next hop unreachable" };
}

function toldTo(
  speaker: BgpSpeaker,
  peer: string,
  table: RibTable,
  destination: Destination,
): Explanation["told"][number] {
  const routing = speaker.peers.get(peer)?.routing;
  const group = routing?.groups.find((one) => one.terms.family === table.family);
  const not = (reason: string): Explanation["told"][number] => ({ peer, reason, clauses: [] });
  if (routing === undefined || group === undefined) return not("no session for this address family");
  const [record] = group.advertised(routing.source, destination);
  const { best, bestSet } = destination;
  if (best === undefined || bestSet === undefined) return not("there is no best route");
  const { filter, internal, nextHops } = group.terms;
  const peerType = internal ? "internal" : "external";
  const clauses = filterClauses(filter, { key: destination, set: bestSet, source: best.source, peerType, nextHops });
  if (record !== undefined) return { peer, attributes: record.set.attributes, clauses };
  if (best.source === routing.source) return not("the best route came from this peer");
  const verdict = group.policy.judge(destination, bestSet, best.source);
  if (verdict.accept) return { peer, reason: "not told yet", clauses };
  return { peer, reason: verdict.by, clauses: rejects(clauses) ? clauses : [] };
}

function importClauses(speaker: BgpSpeaker, key: Destination, { accepted, received, source }: Route): FilterClause[] {
  const peer = source.peer === undefined ? undefined : speaker.peers.get(source.peer);
  const peerType = source.kind === "internal" ? "internal" : "external";
  const { nextHops } = speaker.routing;
  const clauses = filterClauses(peer?.config.importFilter, { key, set: received, source, peerType, nextHops });
  return accepted !== undefined || rejects(clauses) ? clauses : [];
}

/** A route that was refused for another reason never met the filter. */
const rejects = (clauses: readonly FilterClause[]): boolean => clauses.at(-1)?.does === "rejects";
