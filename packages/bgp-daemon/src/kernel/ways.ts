/** Next hops and a metric: what routes of a full table have in common. There is one object for each, as long as its next hops are in use. */
import type { NextHop, Route, RouteTerms } from "@calico-ts/netlink";
import { ROUTE_PROTOCOL } from "./kernel-view.ts";
import { hopText } from "./next-hops.ts";

/** How a route leads somewhere, and with which priority. */
export interface Way {
  readonly metric: number;
  readonly hops: readonly NextHop[];
  /** The same for the kernel. */
  readonly terms: RouteTerms;
}

type Hops = readonly NextHop[];

export class WaysTable {
  /** By next hops, which are compared by identity: one way per metric. */
  readonly #ways = new WeakMap<Hops, Way[]>();
  /** By the first next hops: what they are together with others. */
  readonly #together = new WeakMap<Hops, { readonly others: readonly Hops[]; readonly all: Hops }[]>();

  along(hops: Hops, metric: number): Way {
    let ways = this.#ways.get(hops);
    if (ways === undefined) {
      ways = [];
      this.#ways.set(hops, ways);
    }
    for (const way of ways) if (way.metric === metric) return way;
    const way = { metric, hops, terms: termsOf(metric, hops) };
    ways.push(way);
    return way;
  }

  /** Next hops of routes that are equally good, each once, with equal weights. */
  together(first: Hops, others: readonly Hops[]): Hops {
    if (others.length === 0) return first;
    let known = this.#together.get(first);
    if (known === undefined) {
      known = [];
      this.#together.set(first, known);
    }
    const same = known.find(
      (one) => one.others.length === others.length && one.others.every((o, at) => o === others[at]),
    );
    if (same !== undefined) return same.all;
    const each = [first, ...others].flat().map((hop): NextHop => ({ ...hop, weight: 1 }));
    const all = [...new Map(each.map((hop) => [hopText(hop), hop])).values()];
    known.push({ others, all });
    return all;
  }

  /** As the kernel says it. */
  seen({ metric = 0, gateway, link, onlink, nextHops }: Route): Way {
    const single: NextHop = {
      weight: 1,
      ...(gateway !== undefined && { gateway }),
      ...(link !== undefined && { link }),
      ...(onlink === true && { onlink }),
    };
    const hops = nextHops ?? [single];
    return { metric, hops, terms: termsOf(metric, hops) };
  }
}

function termsOf(metric: number, hops: Hops): RouteTerms {
  const [first] = hops;
  if (hops.length !== 1 || first === undefined) return { protocol: ROUTE_PROTOCOL, metric, nextHops: hops };
  const { gateway, link, onlink } = first;
  return {
    protocol: ROUTE_PROTOCOL,
    metric,
    ...(gateway !== undefined && { gateway }),
    ...(link !== undefined && { link }),
    ...(onlink === true && { onlink }),
  };
}

/** The order of next hops does not matter. */
export function sameWay(a: Way, b: Way): boolean {
  if (a === b) return true;
  if (a.metric !== b.metric) return false;
  if (a.hops === b.hops) return true;
  return a.hops.length === b.hops.length && hopsText(a.hops) === hopsText(b.hops);
}

const hopsText = (hops: Hops): string => hops.map(hopText).toSorted().join(" ");
