/**
 * One peer: up to two connections, each with its state machine, and the messages on them. The outgoing machine lives as long as the peer; an incoming one
 * exists while there is an incoming connection. When both get far enough, one is dropped (`fsm/collision.ts`).
 */
import type { IpAddress } from "@calico-ts/net";
import { unreachable } from "@calico-ts/std";
import type { PeerEvent, SpeakerAction } from "../actions.ts";
import type { PeerConfig, PeerTimers, SpeakerConfig } from "../config.ts";
import { DEFAULT_TIMERS } from "../config.ts";
import type { ConnectionSide } from "../fsm/collision.ts";
import { otherSide, survivingSide } from "../fsm/collision.ts";
import type { LocalTerms } from "../fsm/negotiate.ts";
import { localCapabilities, negotiate } from "../fsm/negotiate.ts";
import type { SessionAction, SessionConfig, SessionEnd, SessionEvent, SessionState } from "../fsm/session.ts";
import { INITIAL_SESSION, OPEN_HOLD_MS } from "../fsm/session.ts";
import { step } from "../fsm/step.ts";
import { dueTimer, nextDeadline } from "../fsm/timers.ts";
import { familyNumbers, routedFamily } from "../wire/family.ts";
import type { RoutedFamily } from "../wire/family.ts";
import type { Frame } from "../wire/message.ts";
import { encodeMessage, EXTENDED_MAX, MessageFramer } from "../wire/message.ts";
import type { Notification } from "../wire/notification.ts";
import { decodeNotification, encodeNotificationBody, hardReset, NOTIFY, notification } from "../wire/notification.ts";
import { decodeOpen, encodeOpenBody } from "../wire/open.ts";
import { decodeRouteRefresh, encodeRouteRefresh } from "../wire/route-refresh.ts";
import { WireWriter } from "../wire/writer.ts";
import type { PeerRouting, Routing } from "./routing.ts";

interface Connection {
  readonly framer: MessageFramer;
  readonly localAddress: IpAddress | undefined;
}

export interface PeerCounters {
  updatesReceived: number;
  updatesSent: number;
  messagesReceived: number;
  messagesSent: number;
  timesUp: number;
}

export interface PeerDeps {
  readonly speaker: () => SpeakerConfig;
  readonly routing: Routing;
  readonly act: (action: SpeakerAction) => void;
  /** Between 0.75 and 1, another each time. */
  readonly jitter: () => number;
}

export class Peer {
  readonly routing: PeerRouting;
  readonly counters: PeerCounters = {
    updatesReceived: 0,
    updatesSent: 0,
    messagesReceived: 0,
    messagesSent: 0,
    timesUp: 0,
  };
  config: PeerConfig;
  lastEnd: { readonly end: SessionEnd; readonly at: number } | undefined;
  /** The last end that says what is wrong: one with a NOTIFICATION other than "not now". Attempts that follow do not hide it. */
  lastError: { readonly end: SessionEnd; readonly at: number } | undefined;
  readonly #deps: PeerDeps;
  readonly #sessions: { outgoing: SessionState; incoming: SessionState | undefined } = {
    outgoing: INITIAL_SESSION,
    incoming: undefined,
  };
  readonly #connections: { outgoing: Connection | undefined; incoming: Connection | undefined } = {
    outgoing: undefined,
    incoming: undefined,
  };
  /** A peer whose connections keep failing is not let in again at once. */
  #incomingPast: { failures: number; refusedUntil: number; againAt: number | undefined } = {
    failures: 0,
    refusedUntil: 0,
    againAt: undefined,
  };
  /** We have been asked for a connection that has neither come nor failed. */
  #attempting = false;
  #limitReported = false;
  /** While a new incoming connection takes the place of an old one: there is nothing left to close. */
  #replaced = false;

  constructor(config: PeerConfig, deps: PeerDeps) {
    this.config = config;
    this.#deps = deps;
    this.routing = deps.routing.createPeer(config);
  }

  session(side: ConnectionSide): SessionState | undefined {
    return this.#sessions[side];
  }

  /** The side whose session is established. */
  get upSide(): ConnectionSide | undefined {
    if (this.#sessions.outgoing.at === "established") return "outgoing";
    return this.#sessions.incoming?.at === "established" ? "incoming" : undefined;
  }

  start(now: number): void {
    if (this.config.shutdown === undefined && this.upSide === undefined)
      this.#dispatch("outgoing", { kind: "start" }, now);
  }

  stop(what: Notification, now: number): void {
    for (const side of ["incoming", "outgoing"] as const) this.#end(side, { kind: "stop", notification: what }, now);
  }

  /** Ends the session to begin again soon, under other terms or to get out of trouble. */
  reset(what: Notification, now: number, restartAfterSeconds = 0): void {
    const event: SessionEvent = { kind: "automatic-stop", notification: what, restartAfterSeconds };
    for (const side of ["incoming", "outgoing"] as const) this.#end(side, event, now);
    if (this.#sessions.outgoing.at === "idle") this.#resumeAt(now + restartAfterSeconds * 1000);
  }

  /** Whether a connection from the peer is welcome now; if not, what to tell it before closing. Asked before `connected`. */
  admit(now: number): Uint8Array | undefined {
    const refuse = (why: readonly [number, number]): Uint8Array =>
      encodeMessage("notification", encodeNotificationBody(notification(why)));
    if (this.config.shutdown !== undefined || now < this.#incomingPast.refusedUntil)
      return refuse(NOTIFY.connectionRejected);
    const up = this.upSide;
    const state = up === undefined ? undefined : this.#sessions[up];
    if (state?.at !== "established") return undefined;
    // A peer that restarts comes back before its old connection has died (RFC 4724 section 4.2). But right after a session has come up this is rather the other
    // half of two connections opened at once, and giving way to it would end the session that both sides have just agreed on.
    const restarts = state.negotiated.restart !== undefined && now - state.since > SIMULTANEOUS_MS;
    return restarts ? undefined : refuse(NOTIFY.collision);
  }

  connected(side: ConnectionSide, localAddress: IpAddress | undefined, now: number): void {
    if (side === "incoming") this.#makeRoom(now);
    const { at } = this.#sessions.outgoing;
    if (side === "outgoing" && at !== "connect" && at !== "active") {
      this.#deps.act({ do: "close", peer: this.config.name, side });
      return;
    }
    if (side === "outgoing") this.#attempting = false;
    this.#connections[side] = { framer: new MessageFramer(), localAddress };
    this.#dispatch(side, { kind: "connected" }, now);
  }

  disconnected(side: ConnectionSide, reason: string, now: number): void {
    this.#dispatch(side, { kind: "disconnected", reason }, now);
  }

  receive(side: ConnectionSide, bytes: Uint8Array, now: number): void {
    const connection = this.#connections[side];
    if (connection === undefined) return;
    const { frames, failure } = connection.framer.push(bytes);
    let updates = 0;
    for (const frame of frames) {
      // An earlier frame may have ended the connection.
      if (this.#connections[side] !== connection) return;
      this.counters.messagesReceived++;
      if (frame.type === "update" && this.#sessions[side]?.at === "established") {
        updates++;
        this.#update(side, frame.body, now);
      } else this.#message(side, frame, now);
    }
    if (this.#connections[side] !== connection) return;
    if (updates > 0) {
      this.#dispatch(side, { kind: "update" }, now);
      this.#checkPrefixLimit(side, now);
    }
    if (failure !== undefined) this.#dispatch(side, { kind: "header-error", notification: failure }, now);
  }

  /** Frames for the established session, from the Adj-RIB-Out. */
  sendUpdates(frames: readonly Uint8Array[]): void {
    const side = this.upSide;
    if (side === undefined) return;
    for (const bytes of frames) this.#deps.act({ do: "send", peer: this.config.name, side, bytes });
    this.counters.updatesSent += frames.length;
    this.counters.messagesSent += frames.length;
  }

  /** The keepalive timer starts over when updates were sent. */
  noteSent(now: number): void {
    const side = this.upSide;
    if (side !== undefined) this.#dispatch(side, { kind: "update-sent" }, now);
  }

  /** Asks the peer to tell everything again. False when it cannot. */
  requestRefresh(family: RoutedFamily): boolean {
    const side = this.upSide;
    const negotiated = this.routing.session?.negotiated;
    if (side === undefined || negotiated?.routeRefresh !== true || !negotiated.families.includes(family)) return false;
    this.#send(side, encodeMessage("route-refresh", encodeRouteRefresh({ ...familyNumbers(family), kind: "request" })));
    return true;
  }

  nextDeadline(): number | undefined {
    const [a, b] = [
      nextDeadline(this.#sessions.outgoing),
      this.#sessions.incoming && nextDeadline(this.#sessions.incoming),
    ];
    return a === undefined ? b : b === undefined ? a : Math.min(a, b);
  }

  tick(now: number): void {
    for (const side of ["outgoing", "incoming"] as const) {
      // Each timer that runs out is stopped or moved ahead, so this ends; the bound is for a clock that jumped.
      for (let round = 0; round < 8; round++) {
        const state = this.#sessions[side];
        const timer = state === undefined ? undefined : dueTimer(state, now);
        if (timer === undefined) break;
        this.#dispatch(side, { kind: "timer", timer }, now);
      }
    }
  }

  /** The peer opens one connection at a time, so an older incoming one is dead; whoever owns the sockets has dropped it already. */
  #makeRoom(now: number): void {
    const up = this.upSide;
    this.#replaced = true;
    if (this.#sessions.incoming !== undefined)
      this.disconnected("incoming", "replaced by a newer connection of the peer", now);
    this.#replaced = false;
    if (up === "outgoing") {
      this.disconnected("outgoing", "the peer has restarted and connects again", now);
      this.#suspendOutgoing();
    }
    this.#sessions.incoming = { ...INITIAL_SESSION, at: "active", failures: this.#incomingPast.failures };
  }

  #message(side: ConnectionSide, { type, body }: Frame, now: number): void {
    switch (type) {
      case "open":
        this.#open(side, body, now);
        return;
      case "keepalive":
        this.#dispatch(side, { kind: "keepalive" }, now);
        return;
      case "notification": {
        const said = decodeNotification(body) ?? notification([0, 0]);
        this.#dispatch(side, { kind: "notification", notification: said }, now);
        return;
      }
      case "update":
        this.#dispatch(side, { kind: "update" }, now);
        return;
      case "route-refresh":
        this.#routeRefresh(side, body, now);
        return;
      default:
        unreachable(type);
    }
  }

  #open(side: ConnectionSide, body: Uint8Array, now: number): void {
    const decoded = decodeOpen(body);
    if (!decoded.ok) {
      this.#dispatch(side, { kind: "open-error", notification: decoded.notify }, now);
      return;
    }
    const terms = this.#terms();
    const result = negotiate(terms, decoded.open);
    if (!result.ok) {
      this.#dispatch(side, { kind: "open-error", notification: result.notify }, now, result.reason);
      return;
    }
    const other = otherSide(side);
    if (this.#isRival(this.#sessions[other], now)) {
      const remote = { identifier: decoded.open.identifier, as: decoded.open.as };
      const loser = otherSide(survivingSide({ identifier: terms.identifier, as: terms.as }, remote));
      this.#dispatch(loser, { kind: "collision" }, now);
      if (loser === side) return;
    } else if (this.#sessions[other]?.at === "established") {
      this.#dispatch(side, { kind: "collision" }, now);
      return;
    }
    const connection = this.#connections[side];
    if (connection !== undefined && result.negotiated.maxMessage === EXTENDED_MAX)
      connection.framer.maxMessage = EXTENDED_MAX;
    this.#dispatch(side, { kind: "open", negotiated: result.negotiated }, now);
  }

  /**
   * A connection that the peer's OPEN on the other one is weighed against: one that the peer has said OPEN on (RFC 4271 section 6.8), or may any moment. Who wins is known by now, and
   * to end one later, when the other is up already, is what some speakers (FRR) answer by ending both and forgetting all routes. One long without OPEN is rather dead.
   */
  #isRival(state: SessionState | undefined, now: number): boolean {
    if (state?.at !== "open-sent") return state?.at === "open-confirm";
    return now - (state.holdAt - OPEN_HOLD_MS) <= SIMULTANEOUS_MS;
  }

  #update(side: ConnectionSide, body: Uint8Array, now: number): void {
    this.counters.updatesReceived++;
    const { failure, problems } = this.#deps.routing.update(this.routing, body, now);
    for (const { reason } of problems) this.#report({ kind: "malformed-attribute", reason });
    if (failure !== undefined)
      this.#dispatch(side, { kind: "update-error", notification: failure.notify }, now, failure.reason);
  }

  #routeRefresh(side: ConnectionSide, body: Uint8Array, now: number): void {
    const state = this.#sessions[side];
    this.#dispatch(side, { kind: "update" }, now);
    // We announce that we understand it, so a peer may send it whatever it announces itself (RFC 2918 section 4).
    if (state?.at !== "established") return;
    const refresh = decodeRouteRefresh(body, state.negotiated.enhancedRefresh);
    if (refresh === "ignore") return;
    if (refresh === "bad-length") {
      const data = encodeMessage("route-refresh", body);
      const wrong = notification(NOTIFY.refreshBadLength, data);
      if (state.negotiated.enhancedRefresh) this.#dispatch(side, { kind: "update-error", notification: wrong }, now);
      return;
    }
    const family = routedFamily(refresh);
    if (family !== undefined) this.#deps.routing.refresh(this.routing, { family, kind: refresh.kind }, now);
  }

  #checkPrefixLimit(side: ConnectionSide, now: number): void {
    const { prefixLimit } = this.config;
    if (prefixLimit === undefined) return;
    const routes = this.#deps.routing.count(this.routing);
    if (routes <= prefixLimit.routes) {
      this.#limitReported = false;
      return;
    }
    if (!this.#limitReported) this.#report({ kind: "prefix-limit", routes, limit: prefixLimit.routes });
    this.#limitReported = true;
    if (prefixLimit.action === "warn") return;
    const [family = "ipv4-unicast"] = this.config.families;
    const { afi, safi } = familyNumbers(family);
    const data = new WireWriter().u16(afi).u8(safi).u32(prefixLimit.routes).finish();
    const { restartAfterSeconds } = prefixLimit;
    this.#end(
      side,
      {
        kind: "automatic-stop",
        notification: notification(NOTIFY.maximumPrefixes, data),
        ...(restartAfterSeconds !== undefined && { restartAfterSeconds }),
      },
      now,
    );
  }

  /** A stop that means it: towards a peer that keeps routes across NOTIFICATION it has to be a Hard Reset (RFC 8538 section 3). */
  #end(side: ConnectionSide, event: Extract<SessionEvent, { kind: "stop" | "automatic-stop" }>, now: number): void {
    const state = this.#sessions[side];
    if (state === undefined) return;
    const keeps = state.at === "established" && state.negotiated.restart?.notification === true;
    const meant = event.notification;
    this.#dispatch(side, keeps && meant !== undefined ? { ...event, notification: hardReset(meant) } : event, now);
  }

  #dispatch(side: ConnectionSide, event: SessionEvent, now: number, detail?: string): void {
    const before = this.#sessions[side];
    if (before === undefined) return;
    const { state, actions } = step(before, event, this.#sessionConfig(), now);
    if (side === "outgoing") this.#sessions.outgoing = state;
    else {
      const over = state.at === "idle" || (state.at === "active" && before.at !== "active");
      this.#sessions.incoming = over ? undefined : state;
      if (state.at === "idle") this.#incomingPast.againAt = state.idleHoldAt;
    }
    this.#noteFailure(before, state, event);
    for (const action of actions) this.#perform(side, action, now, detail);
  }

  /** After an error of the peer's, or a stop of our own, it is not let in before we would try again ourselves. */
  #noteFailure(before: SessionState, { at, failures, ...after }: SessionState, event: SessionEvent): void {
    if (at !== "idle" || failures <= before.failures || event.kind === "collision") return;
    const blames = event.kind === "header-error" || event.kind === "open-error" || event.kind === "update-error";
    const restarts = event.kind === "automatic-stop" && event.restartAfterSeconds !== 0;
    const again = "idleHoldAt" in after ? after.idleHoldAt : undefined;
    const until = (blames || restarts) && again !== undefined ? again : 0;
    this.#incomingPast = {
      ...this.#incomingPast,
      failures,
      refusedUntil: Math.max(until, this.#incomingPast.refusedUntil),
    };
  }

  #perform(side: ConnectionSide, action: SessionAction, now: number, detail: string | undefined): void {
    const { name } = this.config;
    switch (action.do) {
      case "connect":
        this.#attempting = true;
        this.#deps.act({ do: "connect", peer: name });
        return;
      case "close": {
        const there = this.#connections[side] !== undefined || (side === "outgoing" && this.#attempting);
        this.#connections[side] = undefined;
        if (side === "outgoing") this.#attempting = false;
        if (there && (side === "outgoing" || !this.#replaced)) this.#deps.act({ do: "close", peer: name, side });
        return;
      }
      case "send-open":
        this.#send(side, encodeMessage("open", encodeOpenBody(this.#openMessage())));
        return;
      case "send-keepalive":
        this.#send(side, encodeMessage("keepalive"));
        return;
      case "send-notification":
        this.#send(side, encodeMessage("notification", encodeNotificationBody(action.notification)));
        return;
      case "up":
        this.#up(side, now);
        return;
      case "ended":
        this.#ended(
          side,
          detail === undefined ? action.end : { ...action.end, detail: `${action.end.detail}: ${detail}` },
          action.wasUp,
          now,
        );
        return;
      default:
        unreachable(action);
    }
  }

  #up(side: ConnectionSide, now: number): void {
    const state = this.#sessions[side];
    if (state?.at !== "established") return;
    this.counters.timesUp++;
    this.#limitReported = false;
    const other = otherSide(side);
    if (other === "incoming") this.#dispatch("incoming", { kind: "collision" }, now);
    else this.#suspendOutgoing(now);
    this.#deps.routing.up(this.routing, state.negotiated, this.#connections[side]?.localAddress, now);
    this.#report({ kind: "up", families: state.negotiated.families });
  }

  /** While the incoming session stands, the outgoing machine rests. */
  #suspendOutgoing(now?: number): void {
    const { at } = this.#sessions.outgoing;
    if (now !== undefined && at !== "idle") this.#dispatch("outgoing", { kind: "collision" }, now);
    this.#sessions.outgoing = INITIAL_SESSION;
  }

  #ended(side: ConnectionSide, end: SessionEnd, wasUp: boolean, now: number): void {
    if (end.cause !== "collision") this.lastEnd = { end, at: now };
    if (end.cause !== "collision" && end.notification !== undefined && !isRejection(end.notification)) {
      this.lastError = { end, at: now };
    }
    if (wasUp) {
      const routesKept = this.#deps.routing.down(this.routing, end, now);
      this.#report({ kind: "down", end, routesKept });
    } else if (end.cause !== "collision") this.#report({ kind: "attempt-failed", end });
    const stopped = end.cause === "stopped" && this.config.shutdown !== undefined;
    if (side === "incoming" && !stopped && this.#sessions.outgoing.at === "idle") {
      // As long after a session that the peer had opened as after one of our own.
      const wait = now + this.#sessionConfig().idleHoldMinMs * this.#deps.jitter();
      this.#resumeAt(wasUp ? (this.#incomingPast.againAt ?? wait) : wait);
    }
  }

  #resumeAt(at: number): void {
    const { outgoing } = this.#sessions;
    if (outgoing.at !== "idle" || this.config.shutdown !== undefined || this.upSide !== undefined) return;
    const soonest = Math.min(outgoing.idleHoldAt ?? Number.POSITIVE_INFINITY, at);
    this.#sessions.outgoing = { ...outgoing, idleHoldAt: Math.max(soonest, this.#incomingPast.refusedUntil) };
  }

  #send(side: ConnectionSide, bytes: Uint8Array): void {
    this.counters.messagesSent++;
    this.#deps.act({ do: "send", peer: this.config.name, side, bytes });
  }

  #report(event: PeerEvent): void {
    this.#deps.act({ do: "report", peer: this.config.name, event });
  }

  #openMessage(): Parameters<typeof encodeOpenBody>[0] {
    const terms = this.#terms();
    const { as, holdSeconds, identifier } = terms;
    return { version: 4, as, holdSeconds, identifier, capabilities: localCapabilities(terms) };
  }

  #timers(): PeerTimers {
    return { ...DEFAULT_TIMERS, ...this.config.timers };
  }

  #sessionConfig(): SessionConfig {
    const timers = this.#timers();
    return {
      passive: this.config.passive === true,
      connectRetryMs: timers.connectRetrySeconds * 1000,
      delayOpenMs: timers.delayOpenSeconds * 1000,
      idleHoldMinMs: timers.idleHoldMinSeconds * 1000,
      idleHoldMaxMs: timers.idleHoldMaxSeconds * 1000,
      jitter: this.#deps.jitter(),
    };
  }

  #terms(): LocalTerms {
    const { as, routerId } = this.#deps.speaker();
    const { config } = this;
    const { holdSeconds, keepaliveSeconds } = this.#timers();
    const { gracefulRestart } = config;
    return {
      as: config.localAs ?? as,
      remoteAs: config.remoteAs,
      identifier: routerId,
      holdSeconds,
      ...(keepaliveSeconds !== undefined && { keepaliveSeconds }),
      families: config.families,
      addPathReceive: config.addPath?.receive === true,
      addPathSend: config.addPath?.send === true,
      extendedMessages: config.extendedMessages !== false,
      extendedNextHop: config.extendedNextHop === true,
      ...(config.role !== undefined && { role: config.role }),
      strictRole: config.strictRole === true,
      ...(config.hostName !== undefined && { hostName: config.hostName }),
      ...(gracefulRestart !== undefined && {
        gracefulRestart: {
          restartSeconds: gracefulRestart.restartSeconds,
          restarted: this.#deps.routing.deferring,
          forwardingPreserved: true,
          longLivedSeconds: gracefulRestart.longLivedSeconds ?? 0,
        },
      }),
    };
  }
}

/** How long after the beginning of a session, or of the wait for OPEN, another connection of the peer still counts as opened at the same time. */
const SIMULTANEOUS_MS = 10_000;

const isRejection = ({ code, subcode }: Notification): boolean =>
  code === NOTIFY.connectionRejected[0] && subcode === NOTIFY.connectionRejected[1];
