/**
 * Best routes into the kernel's main table, with several next hops where several are as good. Ours are those with protocol 12 (RTPROT_BIRD, what operators
 * of Calico know); routes found at the start are kept until the speaker has converged, so forwarding goes on across a restart of the daemon.
 */
import type { RouteAction, RoutePath } from "@calico-ts/bgp";
import type { Kernel, TableOp } from "@calico-ts/linux";
import { containsPrefix, formatAddress, formatPrefix, parsePrefix, type Prefix } from "@calico-ts/net";
import type { NextHop, Route, RouteSpec } from "@calico-ts/netlink";
import type { Logger } from "@calico-ts/runtime";
import { DeltaTracker, errorText } from "@calico-ts/std";
import { NextHopTable } from "./next-hops.ts";

export const ROUTE_PROTOCOL = 12;
const MAIN_TABLE = 254;

interface Wanted {
  readonly prefix: Prefix;
  readonly hops: readonly NextHop[];
}

export class RouteExporter {
  readonly #kernel: Pick<Kernel, "routes">;
  readonly #log: Logger;
  readonly #metric: number;
  readonly #tracker = new DeltaTracker<Wanted>((a, b) => textOf(a) === textOf(b));
  #nextHops: NextHopTable;
  /** Prefixes whose routes somebody else programs. */
  #others: readonly Prefix[] = [];
  #mayRemove = false;

  constructor(options: { readonly kernel: Pick<Kernel, "routes">; readonly log: Logger; readonly metric: number }) {
    this.#kernel = options.kernel;
    this.#log = options.log;
    this.#metric = options.metric;
    this.#nextHops = this.#readNextHops();
    this.refresh();
  }

  get nextHops(): NextHopTable {
    return this.#nextHops;
  }

  set({ prefix, paths }: Pick<RouteAction, "prefix" | "paths">): void {
    if (this.#isOthers(prefix)) return;
    const wanted = this.#wanted(prefix, paths);
    if (wanted === undefined) this.#tracker.unwant(this.#idOf(prefix));
    else this.#tracker.want(this.#idOf(prefix), wanted);
  }

  /** All best routes, in place of what was set before; routes inside `others` are left to others from now on. */
  setAll(routes: Iterable<RouteAction>, others: readonly Prefix[]): void {
    this.#others = others;
    const entries: (readonly [string, Wanted])[] = [];
    for (const { prefix, paths } of routes) {
      const wanted = this.#isOthers(prefix) ? undefined : this.#wanted(prefix, paths);
      if (wanted !== undefined) entries.push([this.#idOf(prefix), wanted]);
    }
    this.#tracker.wantAll(entries);
  }

  /** From now on routes that nobody wants are removed, those of an earlier run included. */
  converged(): void {
    this.#mayRemove = true;
  }

  /** Routes, links or addresses have changed: next hops may lead elsewhere, and our routes may have gone with a link. `setAll` has to follow. */
  refresh(): void {
    this.#nextHops = this.#readNextHops();
    const ours = this.#kernel.routes.list({ protocol: ROUTE_PROTOCOL }).filter((route) => route.table === MAIN_TABLE);
    this.#tracker.observed(ours.map(observedRoute));
  }

  /** Programs the difference. */
  apply(): void {
    const writes = [...this.#tracker.toWrite()];
    const removals = this.#mayRemove ? [...this.#tracker.toRemove()] : [];
    const ops: TableOp<RouteSpec>[] = [
      ...writes.map(([, wanted]) => ({ do: "replace" as const, value: this.#spec(wanted) })),
      ...removals.map((id) => ({ do: "delete" as const, value: deletionOf(id) })),
    ];
    if (ops.length === 0) return;
    const results = this.#kernel.routes.many(ops);
    for (const [at, error] of results.entries()) {
      const write = writes[at];
      const removal = removals[at - writes.length];
      if (error !== undefined) {
        this.#log.warning("bgp.route.refused", { prefix: write?.[0] ?? removal ?? "", error: errorText(error) });
      } else if (write !== undefined) this.#tracker.wrote(write[0], write[1]);
      else if (removal !== undefined) this.#tracker.removed(removal);
    }
  }

  #isOthers(prefix: Prefix): boolean {
    return this.#others.some((other) => containsPrefix(other, prefix));
  }

  /** Undefined: no route is needed, because it is one of our own that the kernel has already, or no next hop leads anywhere. */
  #wanted(prefix: Prefix, paths: readonly RoutePath[]): Wanted | undefined {
    const hops = new Map<string, NextHop>();
    for (const { attributes, peer } of paths) {
      if (peer === undefined) return undefined;
      const resolved = attributes.nextHop === undefined ? undefined : this.#nextHops.resolve(attributes.nextHop);
      if (resolved === undefined) continue;
      const { gateway, link } = resolved;
      hops.set(`${formatAddress(gateway)} ${link}`, { gateway, link, weight: 1 });
    }
    return hops.size === 0 ? undefined : { prefix, hops: [...hops.values()] };
  }

  #spec({ prefix, hops }: Wanted): RouteSpec {
    const base = { destination: prefix, protocol: ROUTE_PROTOCOL, metric: this.#metric };
    const [first] = hops;
    if (hops.length > 1) return { ...base, nextHops: hops };
    return {
      ...base,
      ...(first?.gateway !== undefined && { gateway: first.gateway }),
      ...(first?.link !== undefined && { link: first.link }),
    };
  }

  /** The metric is part of a route's identity in the kernel, so it is part of ours. */
  #idOf(prefix: Prefix): string {
    return `${formatPrefix(prefix)} ${this.#metric}`;
  }

  #readNextHops(): NextHopTable {
    return new NextHopTable(this.#kernel.routes.list(), ROUTE_PROTOCOL);
  }
}

function observedRoute(route: Route): readonly [string, Wanted] {
  const { gateway, link } = route;
  const single: NextHop = { weight: 1, ...(gateway !== undefined && { gateway }), ...(link !== undefined && { link }) };
  return [
    `${formatPrefix(route.destination)} ${route.metric ?? 0}`,
    { prefix: route.destination, hops: route.nextHops ?? [single] },
  ];
}

const textOf = ({ hops }: Wanted): string =>
  hops
    .map(({ gateway, link }) => `${gateway === undefined ? "" : formatAddress(gateway)}@${link ?? 0}`)
    .toSorted()
    .join(" ");

function deletionOf(id: string): RouteSpec {
  const [prefix = "", metric = ""] = id.split(" ");
  return { destination: parsePrefix(prefix), protocol: ROUTE_PROTOCOL, metric: Number(metric) };
}
