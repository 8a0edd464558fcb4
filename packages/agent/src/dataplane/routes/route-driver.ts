/**
 * Makes the main routing table hold the routes that managers want, and no others of ours (`isOurRoute`).
 *
 * Managers speak for a *class* (in order of precedence: `ROUTE_CLASSES`) and always give its whole set; where two classes want the
 * same destination, the first wins. A route is identified by destination and metric, as in the kernel. Where a
 * foreign route has that identity it is left alone, and ours waits (`conflicts`). A route whose interface is missing or down waits
 * for it without being a failure.
 *
 * A route of ours that nobody wants is removed at once if this process wanted it earlier; one found in the kernel is left
 * for `graceMs` after it was first seen when it leads to a workload interface that exists: a CNI ADD may be under way.
 *
 * Not here: tables other than main, multipath routes (never ours; seen as different and replaced).
 */
import type { Logger } from "@calico-ts/runtime";
import { DeltaTracker, hasCode } from "@calico-ts/std";
import type { RouteOwnership } from "../ownership.ts";
import { isOurRoute, isWorkloadInterface, ROUTE_PROTOCOL } from "../ownership.ts";

export interface RouteSpec {
  /** Canonical prefix text. */
  readonly destination: string;
  readonly metric: number;
  readonly type: "unicast" | "blackhole";
  readonly interfaceName?: string;
  readonly gateway?: string;
  /** The gateway is reachable on the interface whatever the addresses say. */
  readonly onlink?: boolean;
  readonly scope: "link" | "global";
}

export interface KernelRoute extends Omit<RouteSpec, "type" | "scope"> {
  readonly type: string;
  readonly scope: string;
  readonly protocol: number;
  readonly multipath?: boolean;
}

/** What this driver needs of a kernel; the main table only. */
export interface RouteKernel {
  listRoutes(): readonly KernelRoute[];
  /** Creates; fails with KERNEL/EEXIST when destination and metric are taken. */
  addRoute(route: RouteSpec & { readonly protocol: number }): void;
  /** Creates or replaces whatever has the destination and metric. */
  replaceRoute(route: RouteSpec & { readonly protocol: number }): void;
  deleteRoute(route: KernelRoute): void;
  /** True when the interface exists and is up. */
  isUp(interfaceName: string): boolean;
}

/** Order of precedence when two want one destination. */
export const ROUTE_CLASSES = [
  "local-workload",
  "same-subnet",
  "vxlan",
  "ipip",
  "no-encapsulation",
  "blackhole",
] as const;
export type RouteClass = (typeof ROUTE_CLASSES)[number];

export interface RouteDriverOptions {
  readonly kernel: RouteKernel;
  readonly ownership: RouteOwnership;
  readonly log: Logger;
  readonly now: () => number;
  readonly graceMs?: number;
  /** A route through a workload interface was taken away. */
  readonly onWithdrawn?: (destination: string) => void;
  /** Routes that could not be removed yet ask for another pass when their time has come. */
  readonly wakeAfter?: (ms: number) => void;
}

const DEFAULT_GRACE_MS = 10_000;

export class RouteDriver {
  readonly #options: RouteDriverOptions;
  readonly #tracker = new DeltaTracker<RouteSpec>(sameRoute);
  readonly #classes = new Map<RouteClass, Map<string, RouteSpec>>();
  readonly #ours = new Map<string, KernelRoute>();
  readonly #foreign = new Map<string, KernelRoute>();
  readonly #firstSeen = new Map<string, number>();
  readonly #wantedBefore = new Set<string>();
  readonly #conflicts = new Map<string, string>();
  readonly #held = new Set<string>();
  #resyncNeeded = true;

  constructor(options: RouteDriverOptions) {
    this.#options = options;
  }

  /** A CNI ADD is building this interface: its routes are left alone until the result is disposed. */
  hold(interfaceName: string): Disposable {
    this.#held.add(interfaceName);
    return {
      [Symbol.dispose]: () => {
        this.#held.delete(interfaceName);
        this.#options.wakeAfter?.(0);
      },
    };
  }

  /** The whole set of one class. */
  want(routeClass: RouteClass, routes: Iterable<RouteSpec>): void {
    const before = this.#classOf(routeClass);
    const next = new Map<string, RouteSpec>();
    for (const route of routes) next.set(routeKey(route), route);
    this.#classes.set(routeClass, next);
    for (const key of new Set([...before.keys(), ...next.keys()])) this.#settle(key);
  }

  /** One route of a class; what else the class wants stays. */
  wantOne(routeClass: RouteClass, route: RouteSpec): void {
    const key = routeKey(route);
    this.#classOf(routeClass).set(key, route);
    this.#settle(key);
  }

  unwantOne(routeClass: RouteClass, key: string): void {
    if (this.#classOf(routeClass).delete(key)) this.#settle(key);
  }

  /** The next pass reads the table again. */
  markForResync(): void {
    this.#resyncNeeded = true;
  }

  /**
   * The kernel says that a route came (or went). True when that is news, and a pass may have something to do: our
   * own writes come back here too.
   */
  seen(route: KernelRoute, gone: boolean): boolean {
    if (this.#resyncNeeded) return true;
    const key = routeKey(route);
    const ours = this.#ours.get(key);
    const isOurs = isOurRoute(route, this.#options.ownership);
    if (gone) {
      if (!isOurs) return this.#foreign.delete(key) && this.#conflicts.has(key);
      if (ours === undefined || !sameRoute(asSpec(ours), asSpec(route))) return false;
      this.#forget(key);
      return true;
    }
    if (isOurs) {
      if (ours !== undefined && sameRoute(asSpec(ours), asSpec(route))) return false;
      this.#ours.set(key, route);
      if (!this.#firstSeen.has(key)) this.#firstSeen.set(key, this.#options.now());
      this.#tracker.observedOne(key, asSpec(route));
      return true;
    }
    this.#foreign.set(key, route);
    // A foreign route in the place of ours may have replaced it without a word about the old one.
    if (ours !== undefined) this.#resyncNeeded = true;
    return ours !== undefined;
  }

  /** The kernel drops an interface's routes when it goes down, IPv4 ones silently. */
  interfaceDown(interfaceName: string): void {
    for (const [key, route] of Array.from(this.#ours)) if (route.interfaceName === interfaceName) this.#forget(key);
    for (const [key, route] of Array.from(this.#foreign))
      if (route.interfaceName === interfaceName) this.#foreign.delete(key);
  }

  /** Removes what is ours and unwanted, or leads to the wrong place. Reads the table first when that is due. */
  withdraw(): void {
    this.#resyncIfNeeded();
    const failures: unknown[] = [];
    let nextWakeMs = Number.POSITIVE_INFINITY;
    for (const key of Array.from(this.#tracker.toRemove())) {
      const route = this.#ours.get(key);
      if (route === undefined) continue;
      const waitMs = this.#graceLeft(key, route);
      if (waitMs > 0) nextWakeMs = Math.min(nextWakeMs, waitMs);
      else attempt(failures, () => this.#remove(key, route));
    }
    // An address that moves to another interface leaves the old one here, so that conntrack is flushed in between.
    for (const [key, wanted] of Array.from(this.#tracker.toWrite())) {
      const have = this.#ours.get(key);
      if (have !== undefined && have.interfaceName !== wanted.interfaceName && this.#isWorkload(have)) {
        attempt(failures, () => this.#remove(key, have));
      }
    }
    if (nextWakeMs < Number.POSITIVE_INFINITY) this.#options.wakeAfter?.(nextWakeMs);
    if (failures.length > 0) throw failures[0];
  }

  /** Installs missing and wrong routes: of the class `local-workload`, or all others. */
  install(which: "workload" | "cluster"): void {
    this.#resyncIfNeeded();
    const failures: unknown[] = [];
    for (const [key, route] of Array.from(this.#tracker.toWrite())) {
      const isWorkload = this.#classes.get("local-workload")?.get(key) === route;
      if (isWorkload !== (which === "workload")) continue;
      if (route.interfaceName !== undefined && !this.#options.kernel.isUp(route.interfaceName)) continue;
      attempt(failures, () => this.#write(key, route));
    }
    if (failures.length > 0) throw failures[0];
  }

  /** True when every route of the list is in the kernel as wanted. */
  hasAll(routes: Iterable<RouteSpec>): boolean {
    for (const route of routes) {
      const seen = this.#tracker.seen(routeKey(route));
      if (seen === undefined || !sameRoute(seen, route)) return false;
    }
    return true;
  }

  /** Wanted routes that a foreign route keeps out, and that route. */
  conflicts(): ReadonlyMap<string, string> {
    return this.#conflicts;
  }

  get size(): number {
    return this.#ours.size;
  }

  dump(): unknown {
    return {
      desired: [...this.#tracker.desiredEntries()].map(([, route]) => describe(route)),
      observed: [...this.#ours.values()].map(describe),
      toWrite: [...this.#tracker.toWrite()].map(([key]) => key),
      toRemove: [...this.#tracker.toRemove()],
      conflicts: Object.fromEntries(this.#conflicts),
    };
  }

  #classOf(routeClass: RouteClass): Map<string, RouteSpec> {
    const routes = this.#classes.get(routeClass) ?? new Map<string, RouteSpec>();
    this.#classes.set(routeClass, routes);
    return routes;
  }

  #winner(key: string): RouteSpec | undefined {
    for (const name of ROUTE_CLASSES) {
      const route = this.#classes.get(name)?.get(key);
      if (route !== undefined) return route;
    }
    return undefined;
  }

  #settle(key: string): void {
    const winner = this.#winner(key);
    if (winner === undefined) {
      this.#tracker.unwant(key);
      return;
    }
    this.#wantedBefore.add(key);
    this.#tracker.want(key, winner);
  }

  #resyncIfNeeded(): void {
    if (!this.#resyncNeeded) return;
    const { kernel, ownership, now } = this.#options;
    this.#ours.clear();
    this.#foreign.clear();
    for (const route of kernel.listRoutes()) {
      const key = routeKey(route);
      // Two routes may share destination and metric (IPv6 siblings); ours is then the one to look at.
      if (isOurRoute(route, ownership)) this.#ours.set(key, route);
      else this.#foreign.set(key, route);
    }
    for (const key of Array.from(this.#firstSeen.keys())) if (!this.#ours.has(key)) this.#firstSeen.delete(key);
    for (const key of this.#ours.keys()) if (!this.#firstSeen.has(key)) this.#firstSeen.set(key, now());
    for (const key of this.#wantedBefore) {
      if (!this.#ours.has(key) && this.#tracker.desired(key) === undefined) this.#wantedBefore.delete(key);
    }
    this.#tracker.observed([...this.#ours].map(([key, route]) => [key, asSpec(route)] as const));
    this.#resyncNeeded = false;
  }

  #graceLeft(key: string, route: KernelRoute): number {
    if (route.interfaceName !== undefined && this.#held.has(route.interfaceName)) return Number.POSITIVE_INFINITY;
    if (this.#wantedBefore.has(key) || !this.#isWorkload(route)) return 0;
    const seen = this.#firstSeen.get(key) ?? 0;
    return Math.max(0, seen + (this.#options.graceMs ?? DEFAULT_GRACE_MS) - this.#options.now());
  }

  #isWorkload(route: KernelRoute): boolean {
    const { workloadPrefixes } = this.#options.ownership;
    return route.interfaceName !== undefined && isWorkloadInterface(route.interfaceName, workloadPrefixes);
  }

  #remove(key: string, route: KernelRoute): void {
    try {
      this.#options.kernel.deleteRoute(route);
      this.#options.log.debug("route.removed", { route: describe(route) });
    } catch (error) {
      // Gone already, with its interface for example: that is what was wanted.
      if (!isErrno(error, "ESRCH", "ENOENT", "ENODEV")) {
        this.#resyncNeeded = true;
        throw error;
      }
    }
    if (this.#isWorkload(route)) this.#options.onWithdrawn?.(route.destination);
    this.#forget(key);
  }

  #forget(key: string): void {
    this.#ours.delete(key);
    this.#firstSeen.delete(key);
    if (this.#tracker.desired(key) === undefined) this.#wantedBefore.delete(key);
    this.#tracker.removed(key);
  }

  #write(key: string, route: RouteSpec): void {
    if (this.#tryWrite(key, route)) return;
    // Somebody was faster, or a notification about the past misled us. Look, and try once more.
    this.#resyncNeeded = true;
    this.#resyncIfNeeded();
    const seen = this.#tracker.seen(key);
    if (seen !== undefined && sameRoute(seen, route)) return;
    if (!this.#tryWrite(key, route)) this.#resyncNeeded = true;
  }

  /** False: the place is taken by a route we did not know of. */
  #tryWrite(key: string, route: RouteSpec): boolean {
    const { kernel, log } = this.#options;
    const foreign = this.#foreign.get(key);
    const ours = this.#ours.get(key);
    if (foreign !== undefined && ours === undefined) {
      if (!this.#conflicts.has(key))
        log.warning("route.conflict", { wanted: describe(route), kept: describe(foreign) });
      this.#conflicts.set(key, describe(foreign));
      return true;
    }
    this.#conflicts.delete(key);
    try {
      if (ours === undefined) kernel.addRoute({ ...route, protocol: ROUTE_PROTOCOL });
      else kernel.replaceRoute({ ...route, protocol: ROUTE_PROTOCOL });
    } catch (error) {
      if (ours === undefined && isErrno(error, "EEXIST")) return false;
      // The interface went a moment ago; its notification is on the way, and so is the next one's.
      if (isErrno(error, "ENODEV", "ENETDOWN")) return true;
      this.#resyncNeeded = true;
      throw error;
    }
    log.debug("route.written", { route: describe(route) });
    this.#ours.set(key, { ...route, protocol: ROUTE_PROTOCOL });
    this.#tracker.wrote(key, route);
    return true;
  }
}

export const routeKey = (route: { readonly destination: string; readonly metric: number }): string =>
  `${route.destination} metric ${route.metric}`;

function asSpec(route: KernelRoute): RouteSpec {
  const { destination, metric, interfaceName, gateway, onlink, scope } = route;
  const rest = {
    ...(interfaceName === undefined ? {} : { interfaceName }),
    ...(gateway === undefined ? {} : { gateway }),
    ...(onlink === undefined ? {} : { onlink }),
  };
  // What cannot be ours keeps its own words, so that it differs from anything wanted and is replaced.
  const type = (route.multipath === true || route.protocol !== ROUTE_PROTOCOL ? "other" : route.type) as "unicast";
  return { destination, metric, type, scope: scope as "link", ...rest };
}

/** IPv6 has no scopes (the kernel reports `global` for all) and blackholes there sit on `lo`. */
function sameRoute(a: RouteSpec, b: RouteSpec): boolean {
  if (a.destination !== b.destination || a.metric !== b.metric || a.type !== b.type) return false;
  if (a.type === "blackhole") return true;
  const isV6 = a.destination.includes(":");
  return (
    a.interfaceName === b.interfaceName &&
    a.gateway === b.gateway &&
    (a.onlink ?? false) === (b.onlink ?? false) &&
    (isV6 || a.scope === b.scope)
  );
}

function describe(route: RouteSpec | KernelRoute): string {
  const parts = [
    route.type === "unicast" ? route.destination : `${route.type} ${route.destination}`,
    route.gateway === undefined ? "" : `via ${route.gateway}`,
    route.interfaceName === undefined ? "" : `dev ${route.interfaceName}`,
    "protocol" in route ? `proto ${route.protocol}` : "",
    `metric ${route.metric}`,
    route.onlink === true ? "onlink" : "",
  ];
  return parts.filter((part) => part !== "").join(" ");
}

function attempt(failures: unknown[], step: () => void): void {
  try {
    step();
  } catch (error) {
    failures.push(error);
  }
}

export function isErrno(error: unknown, ...names: readonly string[]): boolean {
  if (!hasCode(error, "KERNEL")) return false;
  const detail = (error as { readonly detail?: Readonly<Record<string, unknown>> }).detail;
  return names.includes(String(detail?.["errnoName"]));
}
