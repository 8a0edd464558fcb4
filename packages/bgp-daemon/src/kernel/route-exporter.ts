/**
 * Best routes into the kernel's main table, with several next hops where several are as good. Routes found at the start are kept until the speaker has converged, so
 * forwarding goes on across a restart of the daemon. A route's metric is what the peer's LOCAL_PREF says (filters.ts of the configuration), else the normal priority.
 *
 * A place in the table that somebody else holds is left to them, and ours waits. What the kernel refuses waits until something in the kernel has changed.
 */
import { addressKey, PrefixMap, prefixOfKey, type RouteAction, type RoutePath } from "@calico-ts/bgp";
import type { Kernel, TableOp } from "@calico-ts/linux";
import {
  containsAddress,
  type Family,
  formatPrefix,
  type IpAddress,
  type Prefix,
  PrefixTrie,
  sameAddress,
} from "@calico-ts/net";
import type { NextHop, Route, RouteSpec } from "@calico-ts/netlink";
import type { Logger } from "@calico-ts/runtime";
import { type CalicoError, errorText } from "@calico-ts/std";
import { type KernelView, prefixId, ROUTE_PROTOCOL } from "./kernel-view.ts";
import { isLinkLocal, type NextHopTable } from "./next-hops.ts";
import { RouteGap, type Slot } from "./route-gap.ts";
import type { HostRoute, TunnelTerms } from "./terms.ts";
import { type Way, WaysTable } from "./ways.ts";

/** Kernel metric = this − LOCAL_PREF, as upstream carries priorities between nodes. */
const METRIC_BASE = 2_147_483_647;
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
  readonly op: TableOp<RouteSpec>;
  /** The route it is about; undefined: a leftover, named so in `#leftovers`. */
  readonly slot: Slot | undefined;
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
   * Programs up to `limit` changes. `more`: call again. `unsure`: the kernel has something that we did not know of: `observe` what it has.
   */
  apply(limit: number): { readonly more: boolean; readonly unsure: boolean } {
    const ops = this.#nextOps(limit);
    let unsure = false;
    if (ops.length > 0) {
      const refusals = this.#options.kernel.routes.many(ops.map(({ op }) => op));
      for (const [at, one] of ops.entries()) {
        const error = refusals.get(at);
        if (error === undefined) this.#done(one);
        else if (this.#refused(one, error)) unsure = true;
      }
    }
    const surplus = this.#mayRemove && (this.#gap.hasSurplus || this.#leftovers.size > 0);
    return { more: this.#gap.hasChanges || surplus, unsure };
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
      const { metric } = slot.seen;
      ops.push({ op: { do: "delete", value: placeOf({ prefix: prefixOfKey(slot), metric }) }, slot });
    }
    for (const [leftover, route] of this.#leftovers) {
      if (ops.length >= limit) break;
      ops.push({ op: { do: "delete", value: placeOf(route) }, slot: undefined, leftover });
    }
    return ops;
  }

  #write(slot: Slot & { readonly wanted: Way }, ops: Op[]): void {
    const { wanted, seen } = slot;
    const prefix = prefixOfKey(slot);
    const { metric } = wanted;
    if (this.#options.view.routesTo(prefix).some((route) => (route.metric ?? 0) === metric)) {
      this.#gap.hold(slot);
      this.#tell("bgp.route.conflict", prefix, `a route of somebody else has its place (metric ${metric})`);
      return;
    }
    const stays = seen?.metric === metric;
    ops.push({ op: { do: stays ? "replace" : "add", value: specOf(prefix, wanted) }, slot });
  }

  #done({ op, slot, leftover }: Op): void {
    if (leftover !== undefined) this.#leftovers.delete(leftover);
    if (slot === undefined) return;
    if (op.do === "delete") {
      this.#gap.saw(slot, undefined);
      return;
    }
    const { seen, wanted } = slot;
    if (wanted === undefined) return;
    const { destination: prefix } = op.value;
    if (seen !== undefined && seen.metric !== wanted.metric) {
      this.#leftovers.set(leftoverId(prefix, seen.metric), { prefix, metric: seen.metric });
    }
    if (this.#leftovers.size > 0) this.#leftovers.delete(leftoverId(prefix, wanted.metric));
    this.#gap.saw(slot, wanted);
  }

  /** True when it was refused because something is there. */
  #refused({ op, slot, leftover }: Op, error: CalicoError): boolean {
    if (leftover !== undefined) this.#leftovers.delete(leftover);
    if (slot !== undefined) this.#gap.hold(slot);
    const { destination } = op.value;
    const id = prefixId(destination);
    if (op.do === "add" && error.detail?.["errno"] === EEXIST && !this.#puzzling.has(id)) {
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
    const metric = localPref === undefined ? normal : Math.max(1, METRIC_BASE - localPref);
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

function specOf(destination: Prefix, { metric, hops }: Way): RouteSpec {
  const [first] = hops;
  if (hops.length !== 1 || first === undefined)
    return { destination, protocol: ROUTE_PROTOCOL, metric, nextHops: hops };
  const { gateway, link, onlink } = first;
  return {
    destination,
    protocol: ROUTE_PROTOCOL,
    metric,
    ...(gateway !== undefined && { gateway }),
    ...(link !== undefined && { link }),
    ...(onlink === true && { onlink }),
  };
}

const placeOf = ({ prefix, metric }: Leftover): RouteSpec => ({
  destination: prefix,
  protocol: ROUTE_PROTOCOL,
  metric,
});

const leftoverId = (prefix: Prefix, metric: number): string => `${prefixId(prefix)} ${metric}`;
