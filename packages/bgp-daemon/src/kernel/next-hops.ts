/**
 * How the kernel would reach a next hop: the longest match among routes that are not ours. A next hop behind a gateway is replaced by the gateway, which is what
 * the kernel needs to be told (RFC 4271 section 5.1.3, recursive lookup; one level, as routes of others are already resolved).
 */
import { type IpAddress, prefixAddress, PrefixTrie } from "@calico-ts/net";
import type { Route } from "@calico-ts/netlink";

export interface ResolvedHop {
  readonly gateway: IpAddress;
  readonly link: number;
  /** Metric of the route that leads there, for the decision process. */
  readonly metric: number;
}

export class NextHopTable {
  readonly #trie = new PrefixTrie<Route>();

  /** `ours` is the protocol number whose routes do not count. */
  constructor(routes: Iterable<Route>, ours: number) {
    for (const route of routes) {
      if (route.protocol === ours || route.type !== "unicast" || route.table !== MAIN_TABLE) continue;
      if (route.link === undefined && route.nextHops === undefined) continue;
      const known = this.#trie.longestMatch(prefixAddress(route.destination));
      const rival = known?.[0].length === route.destination.length ? known[1] : undefined;
      if (rival === undefined || (route.metric ?? 0) < (rival.metric ?? 0)) this.#trie.set(route.destination, route);
    }
  }

  resolve(address: IpAddress): ResolvedHop | undefined {
    const route = this.#trie.longestMatch(address)?.[1];
    const [first] = route?.nextHops ?? [];
    const link = route?.link ?? first?.link;
    if (route === undefined || link === undefined) return undefined;
    return { gateway: route.gateway ?? first?.gateway ?? address, link, metric: route.metric ?? 0 };
  }
}

const MAIN_TABLE = 254;
