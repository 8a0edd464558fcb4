/**
 * START HERE. A BGP speaker without sockets and clock: tell it what happened and when, do what it says.
 *
 *     connections, bytes, time ──▶ peer/peer.ts ──▶ fsm/step.ts          sessions: who may say what when
 *                                      │
 *                                      ▼
 *                               peer/routing.ts ──▶ rib/intake.ts        UPDATE → routes
 *                                      │            rib/import-policy.ts  may we have it?
 *                                      │            rib/table.ts          all routes; rib/decision.ts picks
 *                                      ▼            rib/export-policy.ts  may they have it?
 *                  actions ◀──── rib/adj-out.ts                          UPDATEs, once per group of peers
 *
 * Each method returns the actions it led to, in order. Changed routes gather until `tick`, which chooses best routes and tells peers; `nextDeadline` says
 * when to call it: at once when there is such work.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { SpeakerAction } from "./actions.ts";
import type { PeerConfig, SpeakerConfig } from "./config.ts";
import { checkConfig, peerChange, sameValue } from "./config-diff.ts";
import type { ConnectionSide } from "./fsm/collision.ts";
import { Peer } from "./peer/peer.ts";
import { Routing } from "./peer/routing.ts";
import type { OwnRouteFacts } from "./rib/attribute-set.ts";
import type { InterfaceResolver, NextHopResolver } from "./rib/next-hop.ts";
import type { PathAttributes } from "./wire/attributes/values.ts";
import type { RoutedFamily } from "./wire/family.ts";
import { NOTIFY, notification, shutdownNotification } from "./wire/notification.ts";

/** Destinations handled per table and tick, so that no tick keeps timers waiting. */
const TICK_LIMIT = 4096;

export interface ConnectionOf {
  readonly peer: string;
  readonly side: ConnectionSide;
}

export class BgpSpeaker {
  readonly routing: Routing;
  readonly #peers = new Map<string, Peer>();
  readonly #sent = new Set<Peer>();
  #config: SpeakerConfig;
  #actions: SpeakerAction[] = [];
  #noise: number;

  /** @throws CalicoError BAD_INPUT. Call `start` next. */
  constructor(config: SpeakerConfig, now: number) {
    checkConfig(config);
    this.#config = config;
    this.#noise = config.routerId;
    this.routing = new Routing(
      config,
      {
        act: (action) => void this.#actions.push(action),
        send: (to, frames) => {
          const peer = to.peer === undefined ? undefined : this.#peers.get(to.peer);
          if (peer === undefined) return;
          peer.sendUpdates(frames);
          this.#sent.add(peer);
        },
      },
      now,
    );
    for (const peer of config.peers) this.#add(peer);
  }

  get config(): SpeakerConfig {
    return this.#config;
  }

  get peers(): ReadonlyMap<string, Peer> {
    return this.#peers;
  }

  start(now: number): SpeakerAction[] {
    for (const peer of this.#peers.values()) peer.start(now);
    return this.#take();
  }

  /** Ends every session. Peers that agreed to graceful restart keep our routes if `graceful`: then connections just end. */
  stop(now: number, options: { readonly graceful: boolean; readonly message?: string }): SpeakerAction[] {
    const farewell = shutdownNotification(NOTIFY.administrativeShutdown, options.message ?? "");
    for (const peer of this.#peers.values()) {
      const keeps = options.graceful && peer.routing.session?.negotiated.restart !== undefined;
      const side = peer.upSide;
      if (keeps && side !== undefined) this.#actions.push({ do: "close", peer: peer.config.name, side });
      else peer.stop(farewell, now);
    }
    return this.#take();
  }

  /**
   * Asked about every connection a peer opens, before `connected`. Undefined: welcome, and an older incoming connection of the peer is to be dropped without
   * a word. Otherwise: send these bytes, close, and leave any other connection of the peer alone.
   */
  admit(peer: string, now: number): Uint8Array | undefined {
    return this.#peer(peer).admit(now);
  }

  /** A connection stands: one we were asked to open, or one the peer opened. */
  connected(of: ConnectionOf, now: number, localAddress?: IpAddress): SpeakerAction[] {
    this.#peer(of.peer).connected(of.side, localAddress, now);
    return this.#take();
  }

  /** A connection failed or was closed by the other side. */
  disconnected(of: ConnectionOf, reason: string, now: number): SpeakerAction[] {
    this.#peers.get(of.peer)?.disconnected(of.side, reason, now);
    return this.#take();
  }

  /** Bytes from a connection, in any portions. */
  receive(of: ConnectionOf, bytes: Uint8Array, now: number): SpeakerAction[] {
    this.#peers.get(of.peer)?.receive(of.side, bytes, now);
    return this.#take();
  }

  /** The connection takes no more bytes for now, or takes them again. Routes meant for it wait; they do not pile up. */
  setCongested(peer: string, congested: boolean): void {
    const found = this.#peers.get(peer);
    if (found !== undefined) this.routing.setCongested(found.routing, congested);
  }

  /** Every peer that can say that it has told all has said so. */
  get allHeard(): boolean {
    return this.routing.allHeard([...this.#peers.values()].map((peer) => peer.routing));
  }

  /** When to call `tick`; undefined: never, as things are. */
  nextDeadline(): number | undefined {
    if (this.routing.hasWork) return 0;
    let first = this.routing.nextDeadline([...this.#peers.values()].map((peer) => peer.routing));
    for (const peer of this.#peers.values()) {
      const at = peer.nextDeadline();
      if (at !== undefined && (first === undefined || at < first)) first = at;
    }
    return first;
  }

  tick(now: number): SpeakerAction[] {
    for (const peer of this.#peers.values()) peer.tick(now);
    this.routing.tick(
      [...this.#peers.values()].map((peer) => peer.routing),
      now,
    );
    this.routing.flush(TICK_LIMIT);
    for (const peer of this.#sent) peer.noteSent(now);
    this.#sent.clear();
    return this.#take();
  }

  /** A route of our own, in place of an earlier one for the prefix. Without a next hop peers are told ourselves. `facts`: for filters and the decision. */
  originate(prefix: Prefix, attributes: PathAttributes, now: number, facts: OwnRouteFacts = {}): void {
    this.routing.originate(prefix, { origin: "igp", ...attributes }, facts, now);
  }

  withdraw(prefix: Prefix): void {
    this.routing.withdrawLocal(prefix);
  }

  /** How far next hops are, and through which interfaces, from now on; call again whenever that changes. */
  setNextHopResolver(resolve: NextHopResolver | undefined, interfaceOf?: InterfaceResolver): void {
    const peers = [...this.#peers.values()].map((peer) => peer.routing);
    this.routing.setResolver(peers, resolve, interfaceOf);
  }

  /** Asks a peer to tell its routes again. False when there is no session or the peer cannot. */
  requestRefresh(peer: string, family: RoutedFamily): { readonly asked: boolean; readonly actions: SpeakerAction[] } {
    const asked = this.#peer(peer).requestRefresh(family);
    return { asked, actions: this.#take() };
  }

  /**
   * Replaces the configuration. Sessions whose terms are the same stay, with new policy if that changed.
   * @throws CalicoError BAD_INPUT: nothing has changed then.
   */
  configure(config: SpeakerConfig, now: number): SpeakerAction[] {
    checkConfig(config);
    const before = this.#config;
    this.#config = config;
    const identityChanged = before.as !== config.as || before.routerId !== config.routerId;
    const { peers: _old, ...globalBefore } = before;
    const { peers: _new, ...globalAfter } = config;
    const globalChanged = !sameValue(globalBefore, globalAfter);
    if (globalChanged) this.routing.reconfigure(config);
    const wanted = new Map(config.peers.map((peer) => [peer.name, peer]));
    for (const [name, peer] of this.#peers) if (!wanted.has(name)) this.#remove(name, peer, now);
    for (const next of config.peers) {
      const peer = this.#peers.get(next.name);
      if (peer === undefined) this.#add(next).start(now);
      else this.#change(peer, next, { identityChanged, globalChanged }, now);
    }
    return this.#take();
  }

  #change(
    peer: Peer,
    next: PeerConfig,
    speaker: { readonly identityChanged: boolean; readonly globalChanged: boolean },
    now: number,
  ): void {
    const change = peerChange(peer.config, next);
    if (change === "none" && !speaker.globalChanged) return;
    if (change === "shutdown") {
      peer.config = next;
      peer.stop(shutdownNotification(NOTIFY.administrativeShutdown, next.shutdown ?? ""), now);
    } else if (change === "session" || speaker.identityChanged) {
      peer.reset(notification(NOTIFY.configurationChange), now);
    }
    peer.config = next;
    this.routing.repolicy(peer.routing, next);
    if (change === "start") peer.start(now);
  }

  #add(config: PeerConfig): Peer {
    const peer = new Peer(config, {
      speaker: () => this.#config,
      routing: this.routing,
      act: (action) => void this.#actions.push(action),
      jitter: () => this.#jitter(),
    });
    this.#peers.set(config.name, peer);
    return peer;
  }

  #remove(name: string, peer: Peer, now: number): void {
    peer.config = { ...peer.config, shutdown: "removed from the configuration" };
    peer.stop(notification(NOTIFY.peerDeconfigured), now);
    this.routing.removePeer(peer.routing);
    this.#peers.delete(name);
  }

  /** A linear congruential generator: timers of many peers must not run in step, and two runs of a test must. */
  #jitter(): number {
    this.#noise = (Math.imul(this.#noise, 1_664_525) + 1_013_904_223) >>> 0;
    return 0.75 + this.#noise / 2 ** 34;
  }

  #peer(name: string): Peer {
    const peer = this.#peers.get(name);
    if (peer === undefined) throw new CalicoError("NOT_FOUND", `no BGP peer is named "${name}"`);
    return peer;
  }

  #take(): SpeakerAction[] {
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }
}
