/**
 * START HERE for the kernel. What the daemon has to do with it, in portions that leave room for sessions:
 *
 *   notifications ──▶ kernel-view.ts ──▶ learned-routes.ts ──▶ the speaker originates
 *                           │
 *                           └──▶ next-hops.ts ──▶ the speaker decides ──▶ route-exporter.ts ──▶ kernel
 *
 * Changes in the kernel are gathered for a moment; then only what depends on them is done again: prefixes that changed, next hops that now lead elsewhere. `work`
 * does a portion and says whether there is more.
 */
import type { RouteAction } from "@calico-ts/bgp";
import type { Kernel, KernelEvent } from "@calico-ts/linux";
import type { Family, IpAddress, Prefix } from "@calico-ts/net";
import type { Link } from "@calico-ts/netlink";
import type { Logger } from "@calico-ts/runtime";
import { errorText } from "@calico-ts/std";
import { KernelView, MAIN_TABLE, ROUTE_PROTOCOL } from "./kernel-view.ts";
import { LearnedRoutes, type LearnedRoute } from "./learned-routes.ts";
import { NextHopTable } from "./next-hops.ts";
import { RouteExporter } from "./route-exporter.ts";
import type { ForwardingTerms } from "./terms.ts";

/** Changes in the kernel come in bursts. */
const QUIET_MS = 50;
/** After the kernel refused to be read or written at all. */
const RETRY_MS = 1000;
/** Everything is looked at again, for what the kernel did without a word. */
const AUDIT_MS = 60_000;
/** Best routes judged, and routes handed to the kernel, between two looks at the event loop: a few milliseconds each. */
const JUDGED_PER_TURN = 4096;
const WRITTEN_PER_TURN = 2048;

export interface KernelTerms {
  readonly notProgrammed: readonly Prefix[];
  readonly routeMetric: number;
  readonly forwarding?: ForwardingTerms;
}

export interface KernelHooks {
  /** Every best route, now. */
  readonly bestRoutes: () => Iterable<RouteAction>;
  /** Next hops lead elsewhere: decisions have to be made again. */
  readonly nextHopsChanged: () => void;
  /** The route of that id (`prefixId`) that others have put into the kernel has changed; undefined: there is none any more. */
  readonly learned: (id: string, route: LearnedRoute | undefined) => void;
  /** The interface that a peer with a link-local address is on. */
  readonly interfaceOf: (peer: string) => string | undefined;
  /** There is `work` to do. */
  readonly wake: () => void;
}

export interface KernelSideOptions {
  readonly kernel: Kernel;
  readonly log: Logger;
  readonly hooks: KernelHooks;
  /** Time between two complete comparisons with the kernel. Default: a minute. */
  readonly auditMs?: number;
}

export class KernelSide implements Disposable {
  readonly #options: KernelSideOptions;
  readonly #view: KernelView;
  readonly #nextHops: NextHopTable;
  readonly #exporter: RouteExporter;
  readonly #learned: LearnedRoutes;
  readonly #watch: Disposable;
  #terms: KernelTerms;
  readonly #audit: NodeJS.Timeout;
  #timer: NodeJS.Timeout | undefined;
  #mustReload = false;
  #reloadNotBefore = 0;
  #mustJudge = false;
  #pass: Generator<void, void, void> | undefined;
  /** While the kernel is being written on another thread: what it says meanwhile is heard after, as it may speak of what was written. */
  #writing = false;
  #unheard: KernelEvent[] = [];
  #mustSettle = false;
  #closed = false;

  constructor(terms: KernelTerms, options: KernelSideOptions) {
    const { kernel, log, hooks } = options;
    this.#options = options;
    this.#terms = terms;
    // Before anything is read: what changes meanwhile must not be missed.
    this.#watch = kernel.watch(["route", "address", "link"], (event) => this.#heard(event), {
      exceptRoutesBy: ROUTE_PROTOCOL,
    });
    this.#view = new KernelView(kernel);
    this.#nextHops = new NextHopTable(this.#view);
    this.#learned = new LearnedRoutes(this.#view);
    const { interfaceOf } = hooks;
    const ours = this.#view.reload();
    this.#exporter = new RouteExporter(
      { kernel, log, view: this.#view, nextHops: this.#nextHops, interfaceOf },
      exportTerms(terms),
    );
    this.#exporter.observe(ours);
    this.#audit = setInterval(() => this.#lookAgain(QUIET_MS), options.auditMs ?? AUDIT_MS);
    this.#audit.unref();
  }

  /** Learned routes are told from now on. */
  start(): void {
    this.#applyTerms();
  }

  /** @param terms in place of the last ones */
  configure(terms: KernelTerms): void {
    if (sameTerms(terms, this.#terms)) return;
    this.#terms = terms;
    this.#exporter.configure(exportTerms(terms));
    this.#applyTerms();
    this.#judgeAgain();
  }

  /** Distance to a next hop, or undefined: there is no way. */
  distance(address: IpAddress): number | undefined {
    return this.#nextHops.resolve(address)?.metric;
  }

  /** The interface through which a next hop is reached, if that is known and it is one. */
  interfaceTo(address: IpAddress): string | undefined {
    const [first] = this.#nextHops.resolve(address)?.hops ?? [];
    return first?.link === undefined ? undefined : this.#view.link(first.link)?.name;
  }

  /** A best route, to be programmed by `work`. */
  route(action: RouteAction): void {
    this.#exporter.set(action);
    this.#options.hooks.wake();
  }

  learnedRoute(id: string): LearnedRoute | undefined {
    return this.#learned.routes.get(id);
  }

  /** Routes of an earlier run that nobody told again may go. */
  converged(): void {
    this.#exporter.converged();
    this.#options.hooks.wake();
  }

  /** A portion of what there is to do; one call at a time. True: there is more. */
  async work(): Promise<boolean> {
    if (this.#pass?.next().done === true) this.#pass = undefined;
    this.#writing = true;
    let failed = false;
    try {
      if (await this.#exporter.apply(WRITTEN_PER_TURN)) this.#lookAgain(QUIET_MS);
    } catch (error) {
      failed = true;
      if (!this.#closed) this.#options.log.error("bgp.kernel.unwritable", { error: errorText(error) });
      this.#lookAgain(RETRY_MS);
    } finally {
      this.#writing = false;
    }
    this.#hearUnheard();
    return !failed && (!this.#exporter.idle || this.#pass !== undefined);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#audit);
    this.#watch[Symbol.dispose]();
  }

  #hearUnheard(): void {
    const events = this.#unheard;
    this.#unheard = [];
    for (const event of events) this.#heard(event);
    if (!this.#mustSettle || this.#closed) return;
    this.#mustSettle = false;
    this.#trySettle();
  }

  #heard(event: KernelEvent): void {
    if (event.kind === "nftables" || event.kind === "neighbour") return;
    if (this.#writing) {
      this.#unheard.push(event);
      return;
    }
    if (event.kind === "route" && event.route.table === MAIN_TABLE) {
      const isOurs = event.route.protocol === ROUTE_PROTOCOL;
      // What we write ourselves is not told; what others take away of it, or put in its place, is.
      if (isOurs === event.gone && this.#exporter.lost(event.route)) this.#settleSoon();
      if (isOurs) return;
    }
    if (event.kind === "link") this.#heardOfLink(event.link, event.gone || !event.link.up);
    const effect = this.#view.note(event);
    if (effect === "reload") this.#mustReload = true;
    if (effect !== "nothing") this.#settleSoon();
  }

  /** Routes through a link go with it, without a word; routes through a tunnel device wait for it. */
  #heardOfLink({ index, name }: Link, away: boolean): void {
    const isTunnel = this.#terms.forwarding?.tunnels.some(({ device }) => device === name) === true;
    if (away && (isTunnel || this.#nextHops.uses(index))) this.#mustReload = true;
    else if (isTunnel) this.#mustJudge ||= this.#view.link(index)?.up !== true;
    if (this.#mustReload || this.#mustJudge) this.#settleSoon();
  }

  #settleSoon(afterMs = QUIET_MS): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      if (this.#writing) this.#mustSettle = true;
      else this.#trySettle();
    }, afterMs);
  }

  #trySettle(): void {
    try {
      this.#settle();
    } catch (error) {
      this.#options.log.error("bgp.kernel.unreadable", { error: errorText(error) });
      this.#lookAgain(RETRY_MS);
    }
  }

  /** What we believe the kernel holds may be wrong. */
  #lookAgain(afterMs: number): void {
    this.#mustReload = true;
    this.#settleSoon(afterMs);
  }

  #settle(): void {
    if (this.#mustReload && performance.now() >= this.#reloadNotBefore) this.#reload();
    else if (this.#mustReload) this.#settleSoon();
    for (const id of this.#learned.update(this.#view.takeChanges())) {
      this.#options.hooks.learned(id, this.#learned.routes.get(id));
    }
    this.#exporter.retry();
    if (this.#nextHops.refresh()) {
      this.#options.hooks.nextHopsChanged();
      this.#mustJudge = true;
    }
    if (this.#mustJudge) this.#judgeAgain();
    this.#options.hooks.wake();
  }

  /** Listing a full table takes long: at most a tenth of the time. */
  #reload(): void {
    const began = performance.now();
    this.#exporter.observe(this.#view.reload());
    this.#mustReload = false;
    const ended = performance.now();
    this.#reloadNotBefore = ended + 9 * (ended - began);
  }

  #applyTerms(): void {
    const { forwarding } = this.#terms;
    this.#nextHops.setHostRoutes(forwarding?.hostRoutes ?? []);
    if (this.#nextHops.refresh()) this.#options.hooks.nextHopsChanged();
    const { prefixes } = this.#view.takeChanges();
    for (const id of this.#learned.configure(forwarding?.learn, [...prefixes, ...this.#view.prefixes()])) {
      this.#options.hooks.learned(id, this.#learned.routes.get(id));
    }
    this.#options.hooks.wake();
  }

  #judgeAgain(): void {
    this.#mustJudge = false;
    this.#pass = this.#exporter.pass(this.#options.hooks.bestRoutes(), JUDGED_PER_TURN);
    this.#options.hooks.wake();
  }
}

function exportTerms({
  notProgrammed,
  routeMetric,
  forwarding,
}: KernelTerms): ConstructorParameters<typeof RouteExporter>[1] {
  const metric: Readonly<Record<Family, number>> = { 4: routeMetric, 6: forwarding?.routeMetricV6 ?? routeMetric };
  const { hostRoutes = [], notVia = [], tunnels = [] } = forwarding ?? {};
  return { metric, notProgrammed, notVia, tunnels, hostRoutes };
}

/** Terms are plain data. */
const sameTerms = (a: KernelTerms, b: KernelTerms): boolean => textOf(a) === textOf(b);

const textOf = ({ notProgrammed, routeMetric, forwarding }: KernelTerms): string =>
  JSON.stringify([notProgrammed, routeMetric, forwarding ?? null], (_key, value: unknown) =>
    typeof value === "bigint" ? value.toString() : value,
  );
