/**
 * The routes of one address family: the Adj-RIBs-In of all peers and the Loc-RIB in one table. A destination holds every route heard for it, before and
 * after import policy; changes mark it dirty, and `decide` picks again. A peer's Adj-RIB-In is the routes whose source it is.
 */
import type { RoutedFamily } from "../wire/family.ts";
import type { AttributeSet, AttributeStore } from "./attribute-set.ts";
import type { Candidate, DecisionOptions } from "./decision.ts";
import { choose } from "./decision.ts";
import type { NextHops } from "./next-hop.ts";
import type { AddressKey } from "./prefix-map.ts";
import { PrefixMap } from "./prefix-map.ts";
import type { Destination, Route, Source } from "./route.ts";

/** What import policy makes of a received route. */
export interface Verdict {
  readonly accepted: AttributeSet | undefined;
  readonly rejected: string | undefined;
}

export interface TableOptions extends DecisionOptions {
  /** 1: no multipath. */
  readonly maxPaths: number;
}

export class RibTable {
  readonly family: RoutedFamily;
  readonly #destinations = new PrefixMap<Destination>();
  readonly #store: AttributeStore;
  readonly #nextHops: NextHops;
  readonly #counts = new Map<Source, number>();
  #dirty: Destination[] = [];
  options: TableOptions;

  constructor(
    family: RoutedFamily,
    deps: { readonly store: AttributeStore; readonly nextHops: NextHops },
    options: TableOptions,
  ) {
    this.family = family;
    this.#store = deps.store;
    this.#nextHops = deps.nextHops;
    this.options = options;
  }

  get size(): number {
    return this.#destinations.size;
  }

  get dirtyCount(): number {
    return this.#dirty.length;
  }

  /** Routes heard from a source, accepted or not. */
  count(source: Source): number {
    return this.#counts.get(source) ?? 0;
  }

  find(address: AddressKey, length: number): Destination | undefined {
    return this.#destinations.get(address, length);
  }

  destinations(): IterableIterator<Destination> {
    return this.#destinations.values();
  }

  longestMatch(...args: Parameters<PrefixMap<Destination>["longestMatch"]>): Destination | undefined {
    return this.#destinations.longestMatch(...args);
  }

  announce(
    source: Source,
    route: {
      readonly address: AddressKey;
      readonly length: number;
      readonly pathId: number;
      readonly learnedAt: number;
    },
    received: AttributeSet,
    verdict: Verdict,
  ): void {
    let destination = this.#destinations.get(route.address, route.length);
    if (destination === undefined) {
      destination = newDestination(route.address, route.length);
      this.#destinations.set(route.address, route.length, destination);
    }
    const known = (destination.heardFrom & source.bit) === 0 ? undefined : findRoute(destination, source, route.pathId);
    received.retain();
    if (known === undefined) {
      destination.heardFrom |= source.bit;
      destination.routes = {
        source,
        pathId: route.pathId,
        received,
        accepted: verdict.accepted,
        rejected: verdict.rejected,
        stale: 0,
        exportId: 0,
        learnedAt: route.learnedAt,
        next: destination.routes,
      };
      this.#counts.set(source, this.count(source) + 1);
      this.#mark(destination);
      return;
    }
    this.#store.release(known.received);
    if (known.received !== received) known.learnedAt = route.learnedAt;
    known.received = received;
    known.stale = 0;
    this.setVerdict(destination, known, verdict);
  }

  /** Import policy has changed its mind about a route that stays. */
  setVerdict(destination: Destination, route: Route, verdict: Verdict): void {
    route.rejected = verdict.rejected;
    if (route.accepted === verdict.accepted) return;
    route.accepted = verdict.accepted;
    this.#mark(destination);
  }

  withdraw(source: Source, address: AddressKey, length: number, pathId: number): void {
    const destination = this.#destinations.get(address, length);
    if (destination === undefined) return;
    this.#remove(destination, (route) => route.source === source && route.pathId === pathId);
  }

  /** Removes a source's routes that satisfy `gone`. */
  withdrawWhere(source: Source, gone: (route: Route) => boolean): void {
    if (this.count(source) === 0) return;
    for (const destination of this.#destinations.values()) {
      this.#remove(destination, (route) => route.source === source && gone(route));
    }
  }

  /** Every route of a source. */
  *routesFrom(source: Source): IterableIterator<readonly [Destination, Route]> {
    if (this.count(source) === 0) return;
    for (const destination of this.#destinations.values()) {
      for (let route = destination.routes; route !== undefined; route = route.next) {
        if (route.source === source) yield [destination, route];
      }
    }
  }

  markStale(source: Source, mark: number): void {
    for (const [, route] of this.routesFrom(source)) route.stale |= mark;
  }

  markAll(): void {
    for (const destination of this.#destinations.values()) this.#mark(destination);
  }

  mark(destination: Destination): void {
    this.#mark(destination);
  }

  /** Decides for up to `limit` dirty destinations and reports each, with whether its best routes changed. */
  decide(limit: number, report: (destination: Destination, changed: boolean) => void): void {
    const batch = this.#dirty.length <= limit ? this.#dirty : this.#dirty.slice(0, limit);
    this.#dirty = batch === this.#dirty ? [] : this.#dirty.slice(limit);
    for (const destination of batch) {
      destination.dirty = false;
      report(destination, this.#decideOne(destination));
      if (destination.routes === undefined && destination.exports === undefined) {
        this.#destinations.delete(destination.address, destination.length);
      }
    }
  }

  /** Eligible routes, in the order they are kept. */
  candidates(destination: Destination): Candidate[] {
    const out: Candidate[] = [];
    for (let route = destination.routes; route !== undefined; route = route.next) {
      if (route.accepted === undefined) continue;
      const metric = this.#nextHops.metric(route.accepted);
      if (metric !== undefined) out.push({ route, set: route.accepted, metric });
    }
    return out;
  }

  #decideOne(destination: Destination): boolean {
    const { routes } = destination;
    if (routes === undefined) return settle(destination, undefined, undefined);
    if (routes.next === undefined) {
      const usable = routes.accepted !== undefined && this.#nextHops.metric(routes.accepted) !== undefined;
      return settle(destination, usable ? routes : undefined, undefined);
    }
    const { maxPaths } = this.options;
    const choice = choose(this.candidates(destination), this.options, maxPaths > 1);
    if (choice === undefined) return settle(destination, undefined, undefined);
    const equal = choice.equal.length > 1 ? choice.equal.slice(0, maxPaths) : undefined;
    return settle(destination, choice.best.route, equal);
  }

  #remove(destination: Destination, gone: (route: Route) => boolean): void {
    let before: Route | undefined;
    for (let route = destination.routes; route !== undefined; route = route.next) {
      if (!gone(route)) {
        before = route;
        continue;
      }
      if (before === undefined) destination.routes = route.next;
      else before.next = route.next;
      this.#store.release(route.received);
      const left = this.count(route.source) - 1;
      if (left === 0) this.#counts.delete(route.source);
      else this.#counts.set(route.source, left);
      this.#mark(destination);
    }
    if (destination.routes === undefined) destination.heardFrom = 0;
  }

  #mark(destination: Destination): void {
    if (destination.dirty) return;
    destination.dirty = true;
    this.#dirty.push(destination);
  }
}

const newDestination = (address: AddressKey, length: number): Destination => ({
  address,
  length,
  routes: undefined,
  heardFrom: 0,
  best: undefined,
  bestSet: undefined,
  equal: undefined,
  exports: undefined,
  dirty: false,
});

function findRoute(destination: Destination, source: Source, pathId: number): Route | undefined {
  for (let route = destination.routes; route !== undefined; route = route.next) {
    if (route.source === source && route.pathId === pathId) return route;
  }
  return undefined;
}

/** True when the outcome differs from the one before. */
function settle(destination: Destination, best: Route | undefined, equal: Destination["equal"]): boolean {
  const set = best?.accepted;
  const before = destination.equal;
  const samePaths =
    before === undefined || equal === undefined
      ? before === equal
      : before.length === equal.length &&
        before.every((one, at) => one.route === equal[at]?.route && one.set === equal[at]?.set);
  if (destination.best === best && destination.bestSet === set && samePaths) return false;
  destination.best = best;
  destination.bestSet = set;
  destination.equal = equal?.map(({ route, set: chosen }) => ({ route, set: chosen }));
  return true;
}
