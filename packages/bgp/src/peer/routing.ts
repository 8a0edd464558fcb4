/**
 * Between sessions and tables: what a session's beginning, end and messages do to routes, and what changed routes do to sessions. Owns the tables, the export
 * groups, the import policy of each peer and the staleness of routes whose peer is away.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";
import type { PeerEvent, RouteAction, RoutePath, SpeakerAction } from "../actions.ts";
import type { PeerConfig, SpeakerConfig } from "../config.ts";
import { sameValue } from "../config-diff.ts";
import type { Negotiated } from "../fsm/negotiate.ts";
import type { SessionEnd } from "../fsm/session.ts";
import { ExportGroup } from "../rib/adj-out.ts";
import type { EmitFrames } from "../rib/adj-out.ts";
import { asksForInterface } from "../policy/filter.ts";
import type { AttributeSet, OwnRouteFacts } from "../rib/attribute-set.ts";
import { AttributeStore } from "../rib/attribute-set.ts";
import type { ExportTerms } from "../rib/export-policy.ts";
import { ImportPolicy } from "../rib/import-policy.ts";
import type { IntakeContext, IntakeResult, IntakeSink } from "../rib/intake.ts";
import { takeUpdate } from "../rib/intake.ts";
import type { InterfaceResolver, NextHopResolver } from "../rib/next-hop.ts";
import { NextHops } from "../rib/next-hop.ts";
import type { AddressKey } from "../rib/prefix-map.ts";
import { addressKey, prefixOfKey } from "../rib/prefix-map.ts";
import type { Destination, Source } from "../rib/route.ts";
import { STALE } from "../rib/route.ts";
import { RibTable } from "../rib/table.ts";
import type { PathAttributes } from "../wire/attributes/values.ts";
import type { RoutedFamily } from "../wire/family.ts";
import { ROUTED_FAMILIES } from "../wire/family.ts";
import type { StaleFamily } from "./restart.ts";
import { keptFamilies, STALE_PATH_MS, stillForwards } from "./restart.ts";

/** While we restart: how long a peer that restarts as well may be silent before we go on without it. */
const RESTARTING_PEER_QUIET_MS = 10_000;

/** What routing knows of a peer. */
export interface PeerRouting {
  readonly source: Source;
  config: PeerConfig;
  session:
    | { readonly negotiated: Negotiated; readonly localAddress: IpAddress | undefined; readonly context: IntakeContext }
    | undefined;
  policy: ImportPolicy;
  groups: ExportGroup[];
  readonly stale: Map<RoutedFamily, StaleFamily>;
  /** Families the peer has told completely since it came up. */
  readonly complete: Set<RoutedFamily>;
  /** When it came up or sent its last UPDATE; milliseconds. */
  heardAt: number;
  /** Families it is telling again (RFC 7313), and when what it has not told by then goes. */
  readonly refreshing: Map<RoutedFamily, number>;
}

export interface RefreshOf {
  readonly family: RoutedFamily;
  readonly kind: "request" | "begin" | "end";
}

export interface RoutingDeps {
  readonly act: (action: SpeakerAction) => void;
  readonly send: EmitFrames;
}

export class Routing {
  readonly nextHops = new NextHops();
  readonly store = new AttributeStore();
  readonly tables: ReadonlyMap<RoutedFamily, RibTable>;
  readonly local: Source = {
    peer: undefined,
    address: undefined,
    kind: "local",
    reflectorClient: false,
    identifier: 0,
    bit: 1,
  };
  #sources = 1;
  readonly #deps: RoutingDeps;
  readonly #groups = new Map<RoutedFamily, ExportGroup[]>();
  #config: SpeakerConfig;
  /** While we restart (RFC 4724 section 4.1): no route is chosen or told before this moment. */
  #deferredUntil: number | undefined;

  constructor(config: SpeakerConfig, deps: RoutingDeps, now: number) {
    this.#config = config;
    this.#deps = deps;
    this.local.identifier = config.routerId;
    const parts = { store: this.store, nextHops: this.nextHops };
    this.tables = new Map(ROUTED_FAMILIES.map((family) => [family, new RibTable(family, parts, tableOptions(config))]));
    for (const family of ROUTED_FAMILIES) this.#groups.set(family, []);
    if (config.restarting !== undefined) this.#deferredUntil = now + config.restarting.deferralSeconds * 1000;
  }

  get deferring(): boolean {
    return this.#deferredUntil !== undefined;
  }

  createPeer(config: PeerConfig): PeerRouting {
    const source: Source = {
      peer: config.name,
      address: config.address,
      kind: "external",
      reflectorClient: false,
      identifier: 0,
      bit: 1 << (this.#sources++ % 30),
    };
    this.#describeSource(source, config);
    const policy = new ImportPolicy(this.#importTerms(config, undefined), source);
    return {
      source,
      config,
      session: undefined,
      policy,
      groups: [],
      stale: new Map(),
      complete: new Set(),
      heardAt: 0,
      refreshing: new Map(),
    };
  }

  /** The peer has been removed from the configuration. */
  removePeer(peer: PeerRouting): void {
    for (const table of this.tables.values()) table.withdrawWhere(peer.source, () => true);
    for (const groups of this.#groups.values()) for (const group of groups) group.policy.forget(peer.source);
    // Its filters have left their traces on the attributes of others.
    this.store.forgetDerived();
    peer.stale.clear();
  }

  up(peer: PeerRouting, negotiated: Negotiated, localAddress: IpAddress | undefined, now: number): void {
    const { source } = peer;
    peer.heardAt = now;
    if (source.identifier !== negotiated.remoteIdentifier) this.#identifierChanged(source, negotiated.remoteIdentifier);
    const context: IntakeContext = {
      fourOctetAs: negotiated.fourOctetAs,
      addPath: negotiated.addPathReceive,
      internal: negotiated.internal,
      families: negotiated.families,
    };
    peer.session = { negotiated, localAddress, context };
    peer.policy = new ImportPolicy(this.#importTerms(peer.config, localAddress), source);
    peer.complete.clear();
    for (const [family, { phase, longLivedMs }] of peer.stale) {
      if (negotiated.families.includes(family) && stillForwards(negotiated, family, phase)) {
        peer.stale.set(family, { phase: "awaiting-end-of-rib", until: now + STALE_PATH_MS, longLivedMs });
      } else this.#dropStale(peer, family);
    }
    for (const family of negotiated.families) this.#join(peer, family).join(source);
  }

  /** True when the peer's routes stay for a while. */
  down(peer: PeerRouting, end: SessionEnd, now: number): boolean {
    const { session, source } = peer;
    if (session === undefined) return false;
    peer.refreshing.clear();
    this.#leaveAll(peer);
    peer.session = undefined;
    const kept = keptFamilies(session.negotiated, end, now);
    for (const [family, table] of this.tables) {
      const stay = kept.get(family);
      // What was stale before and was not told again since has had its chance.
      table.withdrawWhere(source, (route) => stay === undefined || (route.stale & ~STALE.refresh) !== 0);
      peer.stale.delete(family);
      if (stay === undefined || table.count(source) === 0) continue;
      table.markStale(source, STALE.restart);
      peer.stale.set(family, stay);
    }
    return peer.stale.size > 0;
  }

  /** An UPDATE's body. */
  update(peer: PeerRouting, body: Uint8Array, now: number): IntakeResult {
    const learnedAt = Math.trunc(now / 1000);
    const { session, source, policy } = peer;
    if (session === undefined) return { problems: [] };
    peer.heardAt = now;
    let table: RibTable | undefined;
    let set: AttributeSet | undefined;
    // One for all: the table keeps what is in it, not the thing itself.
    const route: { address: AddressKey; length: number; pathId: number; readonly learnedAt: number } = {
      address: 0,
      length: 0,
      pathId: 0,
      learnedAt,
    };
    const sink: IntakeSink = {
      begin: (family, attributes) => {
        table = this.tables.get(family);
        set = attributes;
      },
      announce: (address, length, pathId) => {
        if (table === undefined || set === undefined) return;
        route.address = address;
        route.length = length;
        route.pathId = pathId;
        table.announce(source, route, set, policy.judge(route, set, 0));
      },
      withdraw: (family, { address, length, pathId }) =>
        this.tables.get(family)?.withdraw(source, address, length, pathId),
      endOfRib: (family) => this.#endOfRib(peer, family),
    };
    return takeUpdate(body, session.context, this.store, sink);
  }

  /** ROUTE-REFRESH with its demarcation (RFC 2918, RFC 7313). */
  refresh(peer: PeerRouting, { family, kind }: RefreshOf, now: number): void {
    const table = this.tables.get(family);
    if (table === undefined || peer.session?.negotiated.families.includes(family) !== true) return;
    if (kind === "begin") {
      table.markStale(peer.source, STALE.refresh);
      peer.refreshing.set(family, now + STALE_PATH_MS);
    } else if (kind === "end") this.#endRefresh(peer, family);
    else {
      const group = peer.groups.find((one) => one.terms.family === family);
      group?.resend(peer.source, peer.session.negotiated.enhancedRefresh, this.#deps.send);
    }
  }

  /** Every destination that has a best route, as it was reported. */
  *bestRoutes(): IterableIterator<RouteAction> {
    for (const [family, table] of this.tables) {
      for (const destination of table.destinations()) {
        if (destination.best !== undefined) yield routeAction(family, destination);
      }
    }
  }

  /** Routes of a peer, over all families. */
  count(peer: PeerRouting): number {
    let sum = 0;
    for (const table of this.tables.values()) sum += table.count(peer.source);
    return sum;
  }

  originate(prefix: Prefix, attributes: PathAttributes, facts: OwnRouteFacts, now: number): void {
    const table = this.#tableOf(prefix);
    const key = { address: addressKey(prefix), length: prefix.length };
    const set = this.store.intern(attributes, facts);
    for (let route = table?.find(key.address, key.length)?.routes; route !== undefined; route = route.next) {
      if (route.source === this.local && route.received === set) return;
    }
    table?.announce(this.local, { ...key, pathId: 0, learnedAt: Math.trunc(now / 1000) }, set, {
      accepted: set,
      rejected: undefined,
    });
  }

  withdrawLocal(prefix: Prefix): void {
    this.#tableOf(prefix)?.withdraw(this.local, addressKey(prefix), prefix.length, 0);
  }

  setResolver(
    peers: readonly PeerRouting[],
    resolve: NextHopResolver | undefined,
    interfaceOf?: InterfaceResolver,
  ): void {
    this.nextHops.setResolver(resolve, interfaceOf);
    for (const table of this.tables.values()) table.markAll();
    for (const peer of peers) {
      const { importFilter } = peer.config;
      if (importFilter !== undefined && asksForInterface(importFilter)) this.#judgeAgain(peer);
    }
  }

  setCongested(peer: PeerRouting, congested: boolean): void {
    for (const group of peer.groups) group.setCongested(peer.source, congested);
  }

  /** Speaker-wide settings that only concern routes. */
  reconfigure(config: SpeakerConfig): void {
    this.#config = config;
    this.local.identifier = config.routerId;
    for (const table of this.tables.values()) {
      table.options = tableOptions(config);
      table.markAll();
    }
    this.store.forgetDerived();
  }

  /** New policy for a peer whose session stays. */
  repolicy(peer: PeerRouting, config: PeerConfig): void {
    peer.config = config;
    this.#describeSource(peer.source, config);
    // What the old rules made of shared attributes is of no use any more.
    this.store.forgetDerived();
    this.#judgeAgain(peer);
    this.#regroup(peer);
  }

  nextDeadline(peers: readonly PeerRouting[]): number | undefined {
    let first = this.#deferralEnd(peers);
    for (const peer of peers) {
      for (const { until } of peer.stale.values()) if (first === undefined || until < first) first = until;
      for (const until of peer.refreshing.values()) if (first === undefined || until < first) first = until;
    }
    return first;
  }

  tick(peers: readonly PeerRouting[], now: number): void {
    for (const peer of peers) {
      for (const [family, state] of peer.stale) if (state.until <= now) this.#staleTimeOver(peer, family, state);
      for (const [family, until] of peer.refreshing) if (until <= now) this.#endRefresh(peer, family);
    }
    const end = this.#deferralEnd(peers);
    if (end !== undefined && now >= end) this.#deferredUntil = undefined;
  }

  get hasWork(): boolean {
    if (this.deferring) return false;
    for (const table of this.tables.values()) if (table.dirtyCount > 0) return true;
    for (const groups of this.#groups.values()) if (groups.some((group) => group.hasWork)) return true;
    return false;
  }

  /** Chooses and tells, for up to `limit` destinations per table and member. */
  flush(limit: number): void {
    if (this.deferring) return;
    for (const [family, table] of this.tables) {
      const groups = this.#groups.get(family) ?? [];
      table.decide(limit, (destination, changed) => {
        if (changed) this.#deps.act(routeAction(family, destination));
        for (const group of groups) group.update(destination);
      });
      for (const group of groups) {
        group.flush(this.#deps.send);
        group.pump(limit, this.#deps.send);
        group.flush(this.#deps.send);
      }
    }
  }

  #judgeAgain(peer: PeerRouting): void {
    peer.policy = new ImportPolicy(this.#importTerms(peer.config, peer.session?.localAddress), peer.source);
    for (const table of this.tables.values()) {
      for (const [destination, route] of table.routesFrom(peer.source)) {
        table.setVerdict(destination, route, peer.policy.judge(destination, route.received, route.stale));
      }
    }
  }

  #endOfRib(peer: PeerRouting, family: RoutedFamily): void {
    peer.complete.add(family);
    if (peer.stale.has(family)) this.#dropStale(peer, family);
    this.#report(peer, { kind: "end-of-rib", family });
  }

  /** The peer has told all again, or has had time enough to (RFC 7313 section 4): what it has not told goes. */
  #endRefresh(peer: PeerRouting, family: RoutedFamily): void {
    peer.refreshing.delete(family);
    this.tables.get(family)?.withdrawWhere(peer.source, (route) => (route.stale & STALE.refresh) !== 0);
  }

  #dropStale(peer: PeerRouting, family: RoutedFamily): void {
    peer.stale.delete(family);
    const table = this.tables.get(family);
    const before = table?.count(peer.source) ?? 0;
    table?.withdrawWhere(peer.source, (route) => (route.stale & (STALE.restart | STALE.longLived)) !== 0);
    if ((table?.count(peer.source) ?? 0) < before) this.#report(peer, { kind: "stale-routes-dropped", family });
  }

  #staleTimeOver(peer: PeerRouting, family: RoutedFamily, { phase, until, longLivedMs }: StaleFamily): void {
    const table = this.tables.get(family);
    if (phase !== "restart" || longLivedMs === 0 || table === undefined) {
      this.#dropStale(peer, family);
      return;
    }
    peer.stale.set(family, { phase: "long-lived", until: until + longLivedMs, longLivedMs });
    table.markStale(peer.source, STALE.longLived);
    for (const [destination, route] of table.routesFrom(peer.source)) {
      table.setVerdict(destination, route, peer.policy.judge(destination, route.received, route.stale));
    }
    this.#report(peer, { kind: "routes-long-lived-stale", family });
  }

  /**
   * Every peer that can say End-of-RIB has said it, those included that restart themselves: what has not been heard by now is gone. Before that, routes of an
   * earlier life of ours that are still in the kernel may yet be confirmed. Some speakers say for a while after any start that they restart.
   */
  allHeard(peers: readonly PeerRouting[]): boolean {
    return !peers.some((peer) => this.#isOutstanding(peer));
  }

  /**
   * When routes may be chosen although we restart, if nothing is heard until then: 0 once every peer has told all. A peer that says that it restarts too may wait for us, so
   * RFC 4724 section 4.1 does not wait for it; but some say so for minutes after any start (FRR) and tell everything at once, and what is chosen without that would
   * take their routes from our other peers. So such a peer has a few seconds from the last thing it told: two that do wait for each other lose those and no route.
   */
  #deferralEnd(peers: readonly PeerRouting[]): number | undefined {
    const latest = this.#deferredUntil;
    if (latest === undefined) return undefined;
    let end = 0;
    for (const peer of peers) {
      if (!this.#isOutstanding(peer)) continue;
      const restarts = peer.session?.negotiated.restart?.restarted === true;
      end = Math.max(end, restarts ? peer.heardAt + RESTARTING_PEER_QUIET_MS : latest);
    }
    return Math.min(end, latest);
  }

  /** A peer that can say End-of-RIB, is up or expected, and has not said it. */
  #isOutstanding({ config, session, complete }: PeerRouting): boolean {
    if (config.gracefulRestart === undefined || config.shutdown !== undefined) return false;
    if (session === undefined) return true;
    const { restart, families } = session.negotiated;
    return restart !== undefined && families.some((family) => !complete.has(family));
  }

  #join(peer: PeerRouting, family: RoutedFamily): ExportGroup {
    const terms = this.#exportTerms(peer, family);
    const groups = this.#groups.get(family) ?? [];
    let group = groups.find((one) => sameValue(one.terms, terms));
    const table = this.tables.get(family);
    if (group === undefined && table !== undefined) {
      group = new ExportGroup(terms, table);
      groups.push(group);
    }
    if (group === undefined) throw new RangeError(`no table for ${family}`);
    peer.groups.push(group);
    return group;
  }

  #leaveAll(peer: PeerRouting): void {
    for (const group of peer.groups) this.#leave(peer, group);
    peer.groups = [];
  }

  #leave(peer: PeerRouting, group: ExportGroup): void {
    if (!group.leave(peer.source)) return;
    this.store.forgetDerived(group.policy.forget());
    const { family } = group.terms;
    this.#groups.set(
      family,
      (this.#groups.get(family) ?? []).filter((one) => one !== group),
    );
  }

  /** The terms of a session that stays may have put it into another group: it is told the difference. */
  #regroup(peer: PeerRouting): void {
    if (peer.session === undefined) return;
    const before = peer.groups;
    for (const group of before) {
      const { family } = group.terms;
      if (sameValue(group.terms, this.#exportTerms(peer, family))) continue;
      const rest = group.handOver(peer.source);
      peer.groups = peer.groups.filter((one) => one !== group);
      this.#leave(peer, group);
      this.#join(peer, family).takeOver(peer.source, rest);
    }
  }

  #describeSource(source: Source, config: PeerConfig): void {
    const localAs = config.localAs ?? this.#config.as;
    source.kind = localAs === config.remoteAs ? "internal" : "external";
    source.reflectorClient = config.reflectorClient === true && source.kind === "internal";
  }

  /** Routes refer to the identifier in decisions and in what is reflected. */
  #identifierChanged(source: Source, identifier: number): void {
    source.identifier = identifier;
    for (const groups of this.#groups.values()) {
      for (const group of groups) this.store.forgetDerived(group.policy.forget(source));
    }
    for (const table of this.tables.values()) {
      for (const [destination] of table.routesFrom(source)) table.mark(destination);
    }
  }

  #importTerms(config: PeerConfig, localAddress: IpAddress | undefined): ImportPolicy["terms"] {
    const { as, routerId, clusterId } = this.#config;
    const localAs = config.localAs ?? as;
    const internal = localAs === config.remoteAs;
    const { nextHops } = this;
    return { peer: config, localAs, routerId, clusterId: clusterId ?? routerId, internal, localAddress, nextHops };
  }

  #exportTerms({ config, session }: PeerRouting, family: RoutedFamily): ExportTerms {
    const { as, routerId, clusterId } = this.#config;
    const negotiated = session?.negotiated;
    const extendedNextHop = negotiated?.extendedNextHop.has(family) === true;
    return {
      family,
      internal: negotiated?.internal === true,
      reflectorClient: config.reflectorClient === true,
      localAs: config.localAs ?? as,
      clusterId: clusterId ?? routerId,
      nextHop: config.nextHop ?? "auto",
      self: selfAddress(config, session?.localAddress, family, extendedNextHop),
      filter: config.exportFilter,
      requireFilters: config.requireFilters === true,
      role: config.role,
      gracefulShutdown: config.gracefulShutdown === true,
      longLived: negotiated?.longLived.has(family) === true,
      extendedNextHop,
      addPath: negotiated?.addPathSend.has(family) === true,
      fourOctetAs: negotiated?.fourOctetAs === true,
      maxMessage: negotiated?.maxMessage ?? 4096,
      nextHops: this.nextHops,
    };
  }

  #tableOf({ family }: Prefix): RibTable | undefined {
    return this.tables.get(family === 4 ? "ipv4-unicast" : "ipv6-unicast");
  }

  #report(peer: PeerRouting, event: PeerEvent): void {
    this.#deps.act({ do: "report", peer: peer.config.name, event });
  }
}

const tableOptions = ({ maxPaths, alwaysCompareMed }: SpeakerConfig): RibTable["options"] => ({
  maxPaths: maxPaths ?? 1,
  alwaysCompareMed: alwaysCompareMed ?? false,
});

function selfAddress(
  { nextHopSelf }: PeerConfig,
  localAddress: IpAddress | undefined,
  family: RoutedFamily,
  extendedNextHop: boolean,
): IpAddress | undefined {
  const local = (version: 4 | 6): IpAddress | undefined =>
    localAddress?.family === version ? localAddress : undefined;
  const ipv6 = nextHopSelf?.ipv6 ?? local(6);
  if (family === "ipv6-unicast") return ipv6;
  return nextHopSelf?.ipv4 ?? local(4) ?? (extendedNextHop ? ipv6 : undefined);
}

function routeAction(family: RoutedFamily, destination: Destination): RouteAction {
  const { best, bestSet, equal } = destination;
  const chosen = equal ?? (best !== undefined && bestSet !== undefined ? [{ route: best, set: bestSet }] : []);
  const paths = chosen.map(
    ({ route, set }): RoutePath => ({ attributes: set.attributes, peer: route.source.peer, stale: route.stale !== 0 }),
  );
  return { do: "route", family, prefix: prefixOfKey(destination), paths };
}
