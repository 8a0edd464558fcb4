/**
 * The vocabulary of the session state machine (RFC 4271 section 8): states with only the data valid in them, events, actions. Timers are absolute
 * times in milliseconds inside the state; nothing here reads a clock. One machine is one connection; a peer has up to two (`collision.ts`).
 */
import type { Notification } from "../wire/notification.ts";
import type { Negotiated } from "./negotiate.ts";

/** What every state carries. */
export interface SessionHistory {
  /** RFC 4271 section 8 attribute 2. */
  readonly connectRetryCounter: number;
  /** Failures since the session last stood long enough: the back-off of RFC 4271 section 8.1.1 (DampPeerOscillations) grows with them. */
  readonly failures: number;
  /** Attempts to connect, one after the other, that came to nothing. */
  readonly attempts: number;
}

export interface IdleState extends SessionHistory {
  readonly at: "idle";
  /** When to start again; absent: only a start event does. */
  readonly idleHoldAt?: number;
}

/** `delayOpenAt` is present exactly while a connection is up and our OPEN is held back (DelayOpen). */
export interface ConnectState extends SessionHistory {
  readonly at: "connect";
  readonly connectRetryAt?: number;
  readonly delayOpenAt?: number;
}

export interface ActiveState extends SessionHistory {
  readonly at: "active";
  /** Absent on a passive peer: it waits for the other side. */
  readonly connectRetryAt?: number;
  readonly delayOpenAt?: number;
}

export interface OpenSentState extends SessionHistory {
  readonly at: "open-sent";
  readonly holdAt: number;
}

interface Agreed extends SessionHistory {
  readonly negotiated: Negotiated;
  /** Absent when the agreed hold time is zero. */
  readonly holdAt?: number;
  readonly keepaliveAt?: number;
}

export interface OpenConfirmState extends Agreed {
  readonly at: "open-confirm";
}

export interface EstablishedState extends Agreed {
  readonly at: "established";
  readonly since: number;
}

export type SessionState = IdleState | ConnectState | ActiveState | OpenSentState | OpenConfirmState | EstablishedState;

export type SessionTimer = "idle-hold" | "connect-retry" | "delay-open" | "hold" | "keepalive";

/** Numbers are those of RFC 4271 section 8.1. Passive (4, 5, 7) is a matter of configuration, damping (6, 7) of the idle-hold timer. */
export type SessionEvent =
  /** 1, 3: manual or automatic. */
  | { readonly kind: "start" }
  /** 2. `notification` says what to tell the peer; absent: a plain administrative shutdown. */
  | { readonly kind: "stop"; readonly notification?: Notification }
  /** 8: the system ends the session by itself (prefix limit, configuration change). Starts again after `restartAfterSeconds`, or after the back-off. */
  | { readonly kind: "automatic-stop"; readonly notification: Notification; readonly restartAfterSeconds?: number }
  /** 9 to 13. */
  | { readonly kind: "timer"; readonly timer: SessionTimer }
  /** 16, 17: a connection we asked for, or one that came in. */
  | { readonly kind: "connected" }
  /** 18. */
  | { readonly kind: "disconnected"; readonly reason: string }
  /** 19, 20: a valid OPEN and what it agrees to. */
  | { readonly kind: "open"; readonly negotiated: Negotiated }
  /** 21, 22, 28: a message that is wrong, and the answer it deserves. */
  | { readonly kind: "header-error" | "open-error" | "update-error"; readonly notification: Notification }
  /** 23. */
  | { readonly kind: "collision" }
  /** 24 (OPEN error, unsupported version), 25. */
  | { readonly kind: "notification"; readonly notification: Notification }
  /** 26, 27; ROUTE-REFRESH (RFC 2918) counts as UPDATE. */
  | { readonly kind: "keepalive" }
  | { readonly kind: "update" }
  /** We sent an UPDATE: the keepalive timer starts over (RFC 4271 section 8.2.2, Established). */
  | { readonly kind: "update-sent" };

/** Why a session is no longer what it was. `notification` is the one sent or received. */
export interface SessionEnd {
  readonly cause:
    | "stopped"
    | "connect-failed"
    | "connection-lost"
    | "hold-expired"
    | "notification-received"
    | "error-found"
    | "collision"
    | "unexpected-message";
  readonly detail: string;
  readonly notification?: Notification;
}

export type SessionAction =
  | { readonly do: "connect" }
  | { readonly do: "close" }
  | { readonly do: "send-open" }
  | { readonly do: "send-keepalive" }
  | { readonly do: "send-notification"; readonly notification: Notification }
  | { readonly do: "up"; readonly negotiated: Negotiated }
  /** The session has ended, from whatever state; `wasUp` says routes are concerned. */
  | { readonly do: "ended"; readonly end: SessionEnd; readonly wasUp: boolean };

export interface SessionConfig {
  readonly passive: boolean;
  readonly connectRetryMs: number;
  /** 0: send OPEN at once. */
  readonly delayOpenMs: number;
  /** Back-off after failures doubles from the first to the second. */
  readonly idleHoldMinMs: number;
  readonly idleHoldMaxMs: number;
  /** Between 0.75 and 1 (RFC 4271 section 10): timers that start now are multiplied by it. */
  readonly jitter: number;
}

export interface SessionStep {
  readonly state: SessionState;
  readonly actions: readonly SessionAction[];
}

export const INITIAL_SESSION: IdleState = { at: "idle", connectRetryCounter: 0, failures: 0, attempts: 0 };

/**
 * A peer whose daemon was started again is back in a moment, and waits for us if it is passive: the first attempt after the loss of a session comes so soon. Every fourth
 * attempt that nobody answers doubles this, up to the connect-retry interval: so the wait adds less than half to the time that the peer was away.
 */
export const QUICK_RETRY_MS = 500;
export const ATTEMPTS_PER_DOUBLING = 4;

/** RFC 4271 section 8.2.2: "a large value", while the peer's OPEN is awaited. */
export const OPEN_HOLD_MS = 240_000;
