/**
 * What others have in the kernel's main table, and the links and addresses it depends on: read once, then kept by notifications, because listing a full table for every
 * pod that comes or goes would cost more than everything else. What the kernel changes without a word (routes of a link that goes down, routes that prefer an
 * address that goes) is either worked out or asked for again (`reload`).
 *
 * Ours are routes of protocol 12 (RTPROT_BIRD, what operators of Calico know); everybody else's are "foreign". Tables other than main are nobody's business here.
 */
import { addressKey, PrefixMap } from "@calico-ts/bgp";
import type { Kernel, KernelEvent } from "@calico-ts/linux";
import { type IpAddress, type Prefix, PrefixTrie } from "@calico-ts/net";
import type { LinkAddress, Route } from "@calico-ts/netlink";

export const ROUTE_PROTOCOL = 12;
export const MAIN_TABLE = 254;
/** RTNH_F_DEAD (linux/rtnetlink.h). */
const DEAD = 1;
const GLOBAL_SCOPE = 0;

/** Names a prefix in maps; cheaper than text for people. */
export const prefixId = ({ family, value, length }: Prefix): string => `${family === 4 ? "" : ":"}${value}/${length}`;

export function prefixOfId(id: string): Prefix {
  const [value = "0", length = "0"] = id.replace(":", "").split("/");
  return { family: id.startsWith(":") ? 6 : 4, value: BigInt(value), length: Number(length) };
}

/** `reload`: the view may be wrong; list everything again. */
export type Effect = "nothing" | "changed" | "reload";

export interface LinkFacts {
  readonly name: string;
  readonly up: boolean;
}

export class KernelView {
  readonly #kernel: Pick<Kernel, "routes" | "links" | "addresses">;
  readonly #links = new Map<number, LinkFacts>();
  #addresses: readonly LinkAddress[] = [];
  /** By prefix; several metrics may be there. */
  readonly #foreign = new PrefixMap<readonly Route[]>();
  readonly #trie = new PrefixTrie<Route>();
  readonly #changed = new Set<string>();
  #addressesChanged = true;

  constructor(kernel: Pick<Kernel, "routes" | "links" | "addresses">) {
    this.#kernel = kernel;
  }

  /** Lists everything; returns our own routes. */
  reload(): Route[] {
    this.#links.clear();
    for (const { index, name, up } of this.#kernel.links.list()) this.#links.set(index, { name, up });
    this.#addresses = this.#kernel.addresses.list();
    this.#addressesChanged = true;
    const ours: Route[] = [];
    const foreign = new Map<string, Route[]>();
    for (const route of this.#kernel.routes.list()) {
      if (route.table !== MAIN_TABLE) continue;
      if (route.protocol === ROUTE_PROTOCOL) ours.push(route);
      else {
        const id = prefixId(route.destination);
        const known = foreign.get(id);
        if (known === undefined) foreign.set(id, [route]);
        else known.push(route);
      }
    }
    for (const [gone] of this.#foreign.values())
      if (gone !== undefined && !foreign.has(prefixId(gone.destination))) this.#put(gone.destination, []);
    for (const routes of foreign.values()) {
      const [first] = routes;
      if (first !== undefined) this.#put(first.destination, routes);
    }
    return ours;
  }

  note(event: Exclude<KernelEvent, { readonly kind: "nftables" | "neighbour" }>): Effect {
    switch (event.kind) {
      case "overrun":
        return "reload";
      case "route":
        return this.#noteRoute(event.route, event.gone);
      case "link":
        return this.#noteLink(event.link.index, event.gone ? undefined : { name: event.link.name, up: event.link.up });
      case "address":
        return this.#noteAddress(event.address, event.gone);
    }
  }

  link(index: number): LinkFacts | undefined {
    return this.#links.get(index);
  }

  linkNamed(name: string): number | undefined {
    for (const [index, link] of this.#links) if (link.name === name) return index;
    return undefined;
  }

  get addresses(): readonly LinkAddress[] {
    return this.#addresses;
  }

  /** Foreign routes to exactly this prefix, the preferred one first. */
  routesTo(prefix: Prefix): readonly Route[] {
    return this.#foreign.get(addressKey(prefix), prefix.length) ?? [];
  }

  /** Ids of all prefixes that have foreign routes. */
  *prefixes(): Iterable<string> {
    for (const [first] of this.#foreign.values()) if (first !== undefined) yield prefixId(first.destination);
  }

  /** The foreign route that an address takes. */
  lookup(address: IpAddress): Route | undefined {
    return this.#trie.longestMatch(address)?.[1];
  }

  /** Prefixes whose foreign routes have changed since the last call, and whether links or addresses have. */
  takeChanges(): { readonly prefixes: ReadonlySet<string>; readonly addresses: boolean } {
    const prefixes = new Set(this.#changed);
    const addresses = this.#addressesChanged;
    this.#changed.clear();
    this.#addressesChanged = false;
    return { prefixes, addresses };
  }

  #noteRoute(route: Route, gone: boolean): Effect {
    if (route.table !== MAIN_TABLE || route.protocol === ROUTE_PROTOCOL) return "nothing";
    const known = this.routesTo(route.destination);
    const same = known.filter((one) => sameSlot(one, route));
    const others = known.filter((one) => !sameSlot(one, route));
    // A slot holds one route, but for IPv4 routes that were appended: which of them went, or came, is for the kernel to say.
    if (same.length > 1 || (gone && same.some((one) => one.gateway?.value !== route.gateway?.value))) return "reload";
    if (gone && same.length === 0) return "nothing";
    this.#put(route.destination, gone ? others : [...others, route]);
    return "changed";
  }

  #noteLink(index: number, now: LinkFacts | undefined): Effect {
    const before = this.#links.get(index);
    if (now === undefined) this.#links.delete(index);
    else this.#links.set(index, now);
    if (before === undefined || (before.name === now?.name && before.up === now.up)) return "nothing";
    this.#addressesChanged = true;
    const wentDown = before.up && now?.up !== true;
    const renamed = now !== undefined && now.name !== before.name;
    let effect: Effect = "changed";
    for (const routes of this.#foreign.values()) {
      for (const route of routes) {
        if (route.nextHops?.some((hop) => hop.link === index) === true) effect = "reload";
        if (route.link !== index) continue;
        // The kernel takes IPv4 routes of such a link away without telling.
        if (wentDown)
          this.#put(
            route.destination,
            this.routesTo(route.destination).filter((one) => one.link !== index),
          );
        else if (renamed) this.#changed.add(prefixId(route.destination));
      }
    }
    return effect;
  }

  #noteAddress(address: LinkAddress, gone: boolean): Effect {
    const others = this.#addresses.filter((one) => !sameAddressOnLink(one, address));
    this.#addresses = gone ? others : [...others, address];
    // With the last IPv4 address of a link all its IPv4 routes go, without a word.
    const family = address.address.family;
    const last = gone && family === 4 && !others.some((one) => one.link === address.link && one.address.family === 4);
    if (address.scope !== GLOBAL_SCOPE) return last ? "reload" : "nothing";
    this.#addressesChanged = true;
    // Routes that prefer the address as source go with it, without a word.
    return gone ? "reload" : "changed";
  }

  #put(destination: Prefix, routes: readonly Route[]): void {
    const id = prefixId(destination);
    const before = this.routesTo(destination);
    if (routes.length === before.length && routes.every((route, at) => sameRoute(route, before[at]))) return;
    this.#changed.add(id);
    const sorted = routes.toSorted((a, b) => (a.metric ?? 0) - (b.metric ?? 0));
    const [best] = sorted;
    if (best === undefined) {
      this.#foreign.delete(addressKey(destination), destination.length);
      this.#trie.delete(destination);
    } else {
      this.#foreign.set(addressKey(destination), destination.length, sorted);
      const usable = sorted.find(isAlive);
      if (usable === undefined) this.#trie.delete(destination);
      else this.#trie.set(destination, usable);
    }
  }
}

export const isAlive = ({ flags = 0 }: Pick<Route, "flags">): boolean => (flags & DEAD) === 0;

/** The kernel's identity of a route in a table. */
const sameSlot = (a: Route, b: Route): boolean => (a.metric ?? 0) === (b.metric ?? 0) && (a.tos ?? 0) === (b.tos ?? 0);

const sameAddressOnLink = (a: LinkAddress, b: LinkAddress): boolean =>
  a.link === b.link &&
  a.address.family === b.address.family &&
  a.address.value === b.address.value &&
  a.prefixLength === b.prefixLength;

function sameRoute(a: Route, b: Route | undefined): boolean {
  return (
    b !== undefined &&
    sameSlot(a, b) &&
    a.type === b.type &&
    a.protocol === b.protocol &&
    a.link === b.link &&
    a.gateway?.value === b.gateway?.value &&
    (a.flags ?? 0) === (b.flags ?? 0) &&
    hopsText(a) === hopsText(b)
  );
}

const hopsText = ({ nextHops }: Route): string =>
  nextHops === undefined ? "" : nextHops.map(({ gateway, link }) => `${gateway?.value ?? ""}@${link ?? 0}`).join(" ");
