/**
 * Best routes into the kernel's main table, with several next hops where several are as good. Routes found at the start are kept until the speaker has converged, so
 * forwarding goes on across a restart of the daemon. A route's metric is what the peer's LOCAL_PREF says (filters.ts of the configuration), else the normal priority.
 *
 * A place in the table that somebody else holds is left to them, and ours waits. What the kernel refuses waits until something in the kernel has changed.
 */
import type { RouteAction, RoutePath } from "@calico-ts/bgp";
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
import { type CalicoError, DeltaTracker, errorText } from "@calico-ts/std";
import { type KernelView, prefixId, ROUTE_PROTOCOL } from "./kernel-view.ts";
import { hopText, isLinkLocal, type NextHopTable } from "./next-hops.ts";
import type { HostRoute, TunnelTerms } from "./terms.ts";

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

interface Wanted {
  readonly prefix: Prefix;
  readonly metric: number;
  readonly hops: readonly NextHop[];
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
  readonly id: string;
  readonly op: TableOp<RouteSpec>;
  readonly done: () => void;
  readonly refused?: () => void;
}

export class RouteExporter {
  readonly #options: ExporterOptions;
  readonly #tracker = new DeltaTracker<Wanted>(sameWanted);
  /** Routes of ours beside the one that counts: the same prefix with another metric. */
  readonly #leftovers = new Map<string, Wanted>();
  /** What cannot be had for now. */
  readonly #held = new Set<string>();
  /** Of those, what was refused because something is there, although nothing was known to be. */
  readonly #puzzling = new Set<string>();
  #terms: ExportTerms;
  #others = new PrefixTrie<true>();
  #fixed = new Map<string, Prefix>();
  /** During a pass: what nobody has wanted again so far. */
  #stale: Set<string> | undefined;
  #mayRemove = false;
  /** False: nothing has changed since there was nothing to write. */
  #mayWrite = true;
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
    this.#fixed = new Map(terms.hostRoutes.map(({ destination }) => [prefixId(destination), destination]));
    for (const id of before.keys()) if (!this.#fixed.has(id)) this.#tracker.unwant(id);
    this.#fix();
  }

  set({ prefix, paths }: Pick<RouteAction, "prefix" | "paths">): void {
    const id = prefixId(prefix);
    if (this.#fixed.has(id)) return;
    this.#stale?.delete(id);
    const wanted = this.#others.covering(prefix).length > 0 ? undefined : this.#wanted(prefix, paths);
    this.#held.delete(id);
    if (wanted === undefined) {
      this.#tracker.unwant(id);
      return;
    }
    this.#mayWrite = true;
    this.#tracker.want(id, wanted);
  }

  /** Judges all best routes again, a portion for each `next`; what is not among them goes at the end. Routes may be `set` meanwhile. */
  *pass(routes: Iterable<RouteAction>, portion: number): Generator<void, void, void> {
    this.#stale = new Set();
    for (const [id] of this.#tracker.desiredEntries()) if (!this.#fixed.has(id)) this.#stale.add(id);
    this.#fix();
    let count = 0;
    for (const route of routes) {
      this.set(route);
      count++;
      if (count % portion === 0) yield;
    }
    for (const id of this.#stale) this.#tracker.unwant(id);
    this.#stale = undefined;
  }

  /** From now on routes that nobody wants are removed, those of an earlier run included. */
  converged(): void {
    this.#mayRemove = true;
  }

  /** All routes of ours that the kernel has. */
  observe(routes: readonly Route[]): void {
    const found = new Map<string, Wanted>();
    this.#leftovers.clear();
    for (const route of routes) {
      const seen = wantedFrom(route);
      const id = prefixId(seen.prefix);
      const known = found.get(id);
      const metric = this.#tracker.desired(id)?.metric;
      if (known === undefined) found.set(id, seen);
      else if (seen.metric === metric) {
        this.#leftovers.set(`${id} ${known.metric}`, known);
        found.set(id, seen);
      } else this.#leftovers.set(`${id} ${seen.metric}`, seen);
    }
    this.#tracker.observed(found);
    this.#held.clear();
    this.#mayWrite = true;
  }

  /** A route of ours has gone, or another has taken its place. True when it should not have. */
  lost(route: Route): boolean {
    const { prefix, metric } = wantedFrom(route);
    const id = prefixId(prefix);
    this.#leftovers.delete(`${id} ${metric}`);
    if (this.#tracker.seen(id)?.metric !== metric) return false;
    this.#tracker.removed(id);
    this.#mayWrite = true;
    return this.#tracker.desired(id) !== undefined;
  }

  /** Something in the kernel has changed: what was refused may be had now. */
  retry(): void {
    this.#held.clear();
    this.#puzzling.clear();
    this.#mayWrite = true;
    this.#refusals = 0;
  }

  /**
   * Programs up to `limit` changes. `more`: call again. `unsure`: the kernel has something that we did not know of: `observe` what it has.
   */
  apply(limit: number): { readonly more: boolean; readonly unsure: boolean } {
    const ops = this.#nextOps(limit);
    if (ops.length === 0) return { more: false, unsure: false };
    const results = this.#options.kernel.routes.many(ops.map(({ op }) => op));
    let unsure = false;
    for (const [at, one] of ops.entries()) {
      const error = results[at];
      if (error === undefined) one.done();
      else if (this.#refused(one, error)) unsure = true;
    }
    return { more: ops.length >= limit || (this.#mayRemove && this.#leftovers.size > 0), unsure };
  }

  /** Writes first: a route whose metric changes is never missing. */
  #nextOps(limit: number): Op[] {
    const ops: Op[] = [];
    if (this.#mayWrite) {
      for (const [id, wanted] of this.#tracker.toWrite()) {
        if (ops.length >= limit) return ops;
        if (!this.#held.has(id)) this.#write(id, wanted, ops);
      }
      this.#mayWrite = ops.length > 0;
    }
    if (!this.#mayRemove) return ops;
    for (const id of this.#tracker.toRemove()) {
      if (ops.length >= limit) return ops;
      const seen = this.#tracker.seen(id);
      if (seen === undefined || this.#held.has(id)) continue;
      ops.push({ id, op: { do: "delete", value: placeOf(seen) }, done: () => this.#tracker.removed(id) });
    }
    for (const [id, seen] of this.#leftovers) {
      if (ops.length >= limit) return ops;
      const done = (): void => void this.#leftovers.delete(id);
      ops.push({ id, op: { do: "delete", value: placeOf(seen) }, done, refused: done });
    }
    return ops;
  }

  #write(id: string, wanted: Wanted, ops: Op[]): void {
    const { prefix, metric } = wanted;
    if (this.#options.view.routesTo(id).some((route) => (route.metric ?? 0) === metric)) {
      this.#held.add(id);
      this.#tell("bgp.route.conflict", prefix, `a route of somebody else has its place (metric ${metric})`);
      return;
    }
    const seen = this.#tracker.seen(id);
    const value = specOf(wanted);
    const moved = seen !== undefined && seen.metric !== metric;
    const done = (): void => {
      if (moved) this.#leftovers.set(`${id} ${seen.metric}`, seen);
      this.#leftovers.delete(`${id} ${metric}`);
      this.#tracker.wrote(id, wanted);
    };
    ops.push({ id, op: { do: seen === undefined || moved ? "add" : "replace", value }, done });
  }

  /** True when it was refused because something is there. */
  #refused({ id, op, refused }: Op, error: CalicoError): boolean {
    this.#held.add(id);
    refused?.();
    if (op.do === "add" && error.detail?.["errno"] === EEXIST && !this.#puzzling.has(id)) {
      this.#puzzling.add(id);
      return true;
    }
    this.#tell("bgp.route.refused", op.value.destination, errorText(error));
    return false;
  }

  #tell(event: string, prefix: Prefix, why: string): void {
    this.#refusals++;
    const { log } = this.#options;
    if (this.#refusals <= TOLD_REFUSALS) log.warning(event, { prefix: formatPrefix(prefix), why });
    else if (this.#refusals === TOLD_REFUSALS + 1)
      log.warning("bgp.routes.refused", { why: "more than can be told one by one" });
  }

  #fix(): void {
    this.#mayWrite = true;
    for (const { destination, gateway } of this.#terms.hostRoutes) {
      const id = prefixId(destination);
      const hops = this.#options.nextHops.resolve(gateway)?.hops ?? [];
      this.#held.delete(id);
      if (hops.length === 0) this.#tracker.unwant(id);
      else this.#tracker.want(id, { prefix: destination, metric: this.#terms.metric[destination.family], hops });
    }
  }

  /** Undefined: no route is needed, because it is one of our own that the kernel has already, or no next hop leads anywhere. */
  #wanted(prefix: Prefix, paths: readonly RoutePath[]): Wanted | undefined {
    const [first] = paths;
    if (first === undefined || paths.some(({ peer }) => peer === undefined)) return undefined;
    const found = paths.map((path) => this.#hopsOf(prefix, path)).filter((hops) => hops.length > 0);
    const [hops, ...others] = found;
    if (hops === undefined) return undefined;
    const { localPref } = first.attributes;
    const normal = this.#terms.metric[prefix.family];
    const metric = localPref === undefined ? normal : Math.max(1, METRIC_BASE - localPref);
    if (others.length === 0) return { prefix, metric, hops };
    const distinct = new Map(found.flat().map((hop) => [hopText({ ...hop, weight: 1 }), { ...hop, weight: 1 }]));
    return { prefix, metric, hops: [...distinct.values()] };
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

function wantedFrom({ destination, metric = 0, gateway, link, onlink, nextHops }: Route): Wanted {
  const single: NextHop = {
    weight: 1,
    ...(gateway !== undefined && { gateway }),
    ...(link !== undefined && { link }),
    ...(onlink === true && { onlink }),
  };
  return { prefix: destination, metric, hops: nextHops ?? [single] };
}

function specOf({ prefix, metric, hops }: Wanted): RouteSpec {
  const base = { destination: prefix, protocol: ROUTE_PROTOCOL, metric };
  const [first] = hops;
  if (hops.length > 1) return { ...base, nextHops: hops };
  return {
    ...base,
    ...(first?.gateway !== undefined && { gateway: first.gateway }),
    ...(first?.link !== undefined && { link: first.link }),
    ...(first?.onlink === true && { onlink: true }),
  };
}

const placeOf = ({ prefix, metric }: Wanted): RouteSpec => ({ destination: prefix, protocol: ROUTE_PROTOCOL, metric });

function sameWanted(a: Wanted, b: Wanted): boolean {
  if (a.metric !== b.metric) return false;
  if (a.hops === b.hops) return true;
  return a.hops.length === b.hops.length && hopsText(a.hops) === hopsText(b.hops);
}

const hopsText = (hops: readonly NextHop[]): string => hops.map(hopText).toSorted().join(" ");
