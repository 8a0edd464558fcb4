/**
 * Best routes into the kernel's main table, with several next hops where several are as good. Routes found at the start are kept until the speaker has converged, so
 * forwarding goes on across a restart of the daemon. A route's metric is what the peer's LOCAL_PREF says (filters.ts of the configuration), else the normal priority.
 *
 * A place in the table that somebody else holds is left to them, and ours waits. What the kernel refuses waits until something in the kernel has changed.
 */
import { addressKey, PrefixMap, prefixOfKey, type RouteAction, type RoutePath } from "@calico-ts/bgp";
import type { Kernel } from "@calico-ts/linux";
import {
  containsAddress,
  type Family,
  formatPrefix,
  type IpAddress,
  isLinkLocal,
  type Prefix,
  PrefixTrie,
  sameAddress,
} from "@calico-ts/net";
import type { NextHop, Route, RouteWrite } from "@calico-ts/netlink";
import type { Logger } from "@calico-ts/runtime";
import { type CalicoError, errorText } from "@calico-ts/std";
import { metricOf } from "../priority.ts";
import { type KernelView, prefixId, ROUTE_PROTOCOL } from "./kernel-view.ts";
import type { NextHopTable } from "./next-hops.ts";
import { RouteGap, type Slot } from "./route-gap.ts";
import type { HostRoute, TunnelTerms } from "./terms.ts";
import { type Way, WaysTable } from "./ways.ts";

const EEXIST = 17;
/** Refusals told one by one in a row; of more only the number is told. */
const TOLD_REFUSALS = 5;

export interface ExportTerms {
  readonly metric: Readonly<Record<Family, number>>;
  readonly notProgrammed: readonly Prefix[];
  readonly notVia: readonly IpAddress[];
  readonly tunnels: readonly TunnelTerms[];
  readonly hostRoutes: readonly HostRoute[];
}

export interface ExporterOptions {
  readonly kernel: Pick<Kernel, "routes">;
  readonly log: Logger;
  readonly view: Pick<KernelView, "routesTo" | "linkNamed">;
  readonly nextHops: Pick<NextHopTable, "resolve">;
  /** The interface that a peer with a link-local address is on. */
  readonly interfaceOf: (peer: string) => string | undefined;
}

interface Op {
  readonly write: RouteWrite;
  /** The route it is about, and what it has become; undefined: a leftover, named so in `#leftovers`. */
  readonly slot: Slot | undefined;
  readonly way: Way | undefined;
  readonly leftover?: string;
}

/** A route of ours beside the one that counts. */
interface Leftover {
  readonly prefix: Prefix;
  readonly metric: number;
}

export class RouteExporter {
  readonly #options: ExporterOptions;
  readonly #gap = new RouteGap();
  /** Routes of ours beside the one that counts: the same prefix with another metric. */
  readonly #leftovers = new Map<string, Leftover>();
  /** Of what was held back: refused because something is there, although nothing was known to be. */
  readonly #puzzling = new Set<string>();
  readonly #ways = new WaysTable();
  #terms: ExportTerms;
  #others = new PrefixTrie<true>();
  #fixed = new PrefixMap<Prefix>();
  #mayRemove = false;
  #refusals = 0;

  constructor(options: ExporterOptions, terms: ExportTerms) {
    this.#options = options;
    this.#terms = terms;
    this.configure(terms);
  }

  /** `pass` has to follow, as what was set before was judged by other terms. */
  configure(terms: ExportTerms): void {
    this.#terms = terms;
    this.#others = new PrefixTrie();
    for (const prefix of terms.notProgrammed) this.#others.set(prefix, true);
    const before = this.#fixed;
    this.#fixed = new PrefixMap();
    for (const { destination } of terms.hostRoutes) {
      this.#fixed.set(addressKey(destination), destination.length, destination);
    }
    for (const prefix of before.values()) if (!this.#isFixed(prefix)) this.#gap.want(prefix, undefined);
    this.#fix();
  }

  set({ prefix, paths }: Pick<RouteAction, "prefix" | "paths">): void {
    if (this.#isFixed(prefix)) return;
    const isOthers = this.#others.size > 0 && this.#others.covering(prefix).length > 0;
    this.#gap.want(prefix, isOthers ? undefined : this.#wayOf(prefix, paths));
  }

  /** Judges all best routes again, a portion for each `next`; what is not among them goes at the end. Routes may be `set` meanwhile. */
  *pass(routes: Iterable<RouteAction>, portion: number): Generator<void, void, void> {
    this.#gap.markStale();
    this.#fix();
    let count = 0;
    for (const route of routes) {
      this.set(route);
      count++;
      if (count % portion === 0) yield;
    }
    this.#gap.dropStale();
  }

  /** From now on routes that nobody wants are removed, those of an earlier run included. */
  converged(): void {
    this.#mayRemove = true;
  }

  /** All routes of ours that the kernel has. */
  observe(routes: readonly Route[]): void {
    const found = new PrefixMap<readonly [Prefix, Way]>();
    this.#leftovers.clear();
    for (const route of routes) {
      const { destination: prefix } = route;
      const seen = this.#ways.seen(route);
      const key = addressKey(prefix);
      const known = found.get(key, prefix.length)?.[1];
      if (known !== undefined) {
        const counts = seen.metric === this.#gap.get(prefix)?.wanted?.metric;
        const metric = counts ? known.metric : seen.metric;
        this.#leftovers.set(leftoverId(prefix, metric), { prefix, metric });
        if (!counts) continue;
      }
      found.set(key, prefix.length, [prefix, seen]);
    }
    this.#gap.sawAll(found.values());
  }

  /** A route of ours has gone, or another has taken its place. True when it should not have. */
  lost({ destination: prefix, metric = 0 }: Route): boolean {
    this.#leftovers.delete(leftoverId(prefix, metric));
    const slot = this.#gap.get(prefix);
    if (slot?.seen?.metric !== metric) return false;
    this.#gap.saw(slot, undefined);
    return slot.wanted !== undefined;
  }

  /** Something in the kernel has changed: what was refused may be had now. */
  retry(): void {
    this.#gap.retry();
    this.#puzzling.clear();
    this.#refusals = 0;
  }

  /**
   * Programs up to `limit` changes. One call at a time; until it is over nothing else that speaks of the kernel's routes (`observe`, `lost`) may be called. True: the
   * kernel has something that we did not know of: `observe` what it has.
   */
  async apply(limit: number): Promise<boolean> {
    const ops = this.#nextOps(limit);
    if (ops.length === 0) return false;
    const refusals = await this.#options.kernel.routes.program(ops.map(({ write }) => write));
    let unsure = false;
    for (const [at, one] of ops.entries()) {
      const error = refusals.get(at);
      if (error === undefined) this.#done(one);
      else if (this.#refused(one, error)) unsure = true;
    }
    return unsure;
  }

  /** Nothing would come of `apply`. */
  get idle(): boolean {
    return !this.#gap.hasChanges && !(this.#mayRemove && (this.#gap.hasSurplus || this.#leftovers.size > 0));
  }

  /** Writes first: a route whose metric changes is never missing. */
  #nextOps(limit: number): Op[] {
    const ops: Op[] = [];
    while (ops.length < limit) {
      const slot = this.#gap.nextToWrite();
      if (slot === undefined) break;
      this.#write(slot, ops);
    }
    if (!this.#mayRemove) return ops;
    while (ops.length < limit) {
      const slot = this.#gap.nextToRemove();
      if (slot === undefined) break;
      ops.push({ write: removal(prefixOfKey(slot), slot.seen.metric), slot, way: undefined });
    }
    for (const [leftover, { prefix, metric }] of this.#leftovers) {
      if (ops.length >= limit) break;
      ops.push({ write: removal(prefix, metric), slot: undefined, way: undefined, leftover });
    }
    return ops;
  }

  #write(slot: Slot & { readonly wanted: Way }, ops: Op[]): void {
    const { wanted: way, seen } = slot;
    const destination = prefixOfKey(slot);
    const { metric, terms } = way;
    if (this.#options.view.routesTo(destination).some((route) => (route.metric ?? 0) === metric)) {
      this.#gap.hold(slot);
      this.#tell("bgp.route.conflict", destination, `a route of somebody else has its place (metric ${metric})`);
      return;
    }
    ops.push({ write: { do: seen?.metric === metric ? "replace" : "add", destination, terms }, slot, way });
  }

  #done({ write, slot, way, leftover }: Op): void {
    if (leftover !== undefined) this.#leftovers.delete(leftover);
    if (slot === undefined) return;
    const { seen } = slot;
    if (way !== undefined) {
      const { destination: prefix } = write;
      if (seen !== undefined && seen.metric !== way.metric) {
        this.#leftovers.set(leftoverId(prefix, seen.metric), { prefix, metric: seen.metric });
      }
      if (this.#leftovers.size > 0) this.#leftovers.delete(leftoverId(prefix, way.metric));
    }
    this.#gap.saw(slot, way);
  }

  /** True when it was refused because something is there. */
  #refused({ write, slot, way, leftover }: Op, error: CalicoError): boolean {
    if (leftover !== undefined) this.#leftovers.delete(leftover);
    // What has been wanted in place of it meanwhile is another matter.
    if (slot !== undefined) {
      if (slot.wanted === way) this.#gap.hold(slot);
      else this.#gap.saw(slot, slot.seen);
    }
    const { destination } = write;
    const id = prefixId(destination);
    if (write.do === "add" && error.detail?.["errno"] === EEXIST && !this.#puzzling.has(id)) {
      this.#puzzling.add(id);
      return true;
    }
    this.#tell("bgp.route.refused", destination, errorText(error));
    return false;
  }

  #tell(event: string, prefix: Prefix, why: string): void {
    this.#refusals++;
    const { log } = this.#options;
    if (this.#refusals <= TOLD_REFUSALS) log.warning(event, { prefix: formatPrefix(prefix), why });
    else if (this.#refusals === TOLD_REFUSALS + 1)
      log.warning("bgp.routes.refused", { why: "more than can be told one by one" });
  }

  #isFixed({ length, ...address }: Prefix): boolean {
    return this.#fixed.size > 0 && this.#fixed.get(addressKey(address), length) !== undefined;
  }

  #fix(): void {
    for (const { destination, gateway } of this.#terms.hostRoutes) {
      const hops = this.#options.nextHops.resolve(gateway)?.hops ?? [];
      const metric = this.#terms.metric[destination.family];
      this.#gap.want(destination, hops.length === 0 ? undefined : this.#ways.along(hops, metric));
    }
  }

  /** Undefined: no route is needed, because it is one of our own that the kernel has already, or no next hop leads anywhere. */
  #wayOf(prefix: Prefix, paths: readonly RoutePath[]): Way | undefined {
    const [first] = paths;
    if (first === undefined) return undefined;
    const { localPref } = first.attributes;
    const normal = this.#terms.metric[prefix.family];
    const metric = localPref === undefined ? normal : metricOf(localPref);
    if (paths.length === 1) {
      const hops = first.peer === undefined ? [] : this.#hopsOf(prefix, first);
      return hops.length === 0 ? undefined : this.#ways.along(hops, metric);
    }
    if (paths.some(({ peer }) => peer === undefined)) return undefined;
    const [hops, ...others] = paths.map((path) => this.#hopsOf(prefix, path)).filter((found) => found.length > 0);
    return hops === undefined ? undefined : this.#ways.along(this.#ways.together(hops, others), metric);
  }

  #hopsOf(prefix: Prefix, { attributes, peer = "" }: RoutePath): readonly NextHop[] {
    const { nextHop } = attributes;
    const { notVia, tunnels } = this.#terms;
    if (nextHop === undefined || notVia.some((address) => sameAddress(address, nextHop))) return [];
    if (isLinkLocal(nextHop)) {
      const link = this.#options.view.linkNamed(this.#options.interfaceOf(peer) ?? "");
      return link === undefined ? [] : [{ gateway: nextHop, link, weight: 1 }];
    }
    const tunnel = tunnels.find((one) => containsAddress(one.prefix, prefix));
    const near = tunnel?.exceptNextHops !== undefined && containsAddress(tunnel.exceptNextHops, nextHop);
    if (tunnel === undefined || near) return this.#options.nextHops.resolve(nextHop)?.hops ?? [];
    const link = this.#options.view.linkNamed(tunnel.device);
    return link === undefined ? [] : [{ gateway: nextHop, link, weight: 1, onlink: true }];
  }
}

const removal = (destination: Prefix, metric: number): RouteWrite => ({
  do: "delete",
  destination,
  terms: { protocol: ROUTE_PROTOCOL, metric },
});

const leftoverId = (prefix: Prefix, metric: number): string => `${prefixId(prefix)} ${metric}`;
