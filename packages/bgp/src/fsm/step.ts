/**
 * RFC 4271 section 8.2.2 as a function: (state, event, config, now) → (state, actions). No sockets and no clock: connections and messages come out
 * as actions, timers are deadlines in the state.
 *
 * Three deliberate departures, each what deployed speakers do: a NOTIFICATION is never answered with one (the text asks for a Finite State Machine
 * Error in OpenSent); a broken header or OPEN in Established is reported as such (section 6.1), not as a state machine error; every failure leads to an
 * automatic start after a back-off (the optional attributes AllowAutomaticStart, DampPeerOscillations and SendNOTIFICATIONwithoutOPEN are on).
 */
import { unreachable } from "@calico-ts/std";
import type { Notification } from "../wire/notification.ts";
import { describeNotification, NOTIFY, notification } from "../wire/notification.ts";
import type { Negotiated } from "./negotiate.ts";
import type {
  SessionAction,
  SessionConfig,
  SessionEnd,
  SessionEvent,
  SessionHistory,
  SessionState,
  SessionStep,
} from "./session.ts";
import { ATTEMPTS_PER_DOUBLING, INITIAL_SESSION, OPEN_HOLD_MS, QUICK_RETRY_MS } from "./session.ts";

export function step(state: SessionState, event: SessionEvent, config: SessionConfig, now: number): SessionStep {
  const machine: Machine = { state, config, now };
  if (state.at !== "idle" && event.kind === "start") return stay(state);
  if (event.kind === "update-sent") return afterUpdateSent(machine);
  switch (state.at) {
    case "idle":
      return inIdle(machine, event);
    case "connect":
    case "active":
      return inConnectOrActive(machine, event);
    case "open-sent":
      return inOpenSent(machine, event);
    case "open-confirm":
      return inOpenConfirm(machine, event);
    case "established":
      return inEstablished(machine, event);
    default:
      return unreachable(state);
  }
}

interface Machine {
  readonly state: SessionState;
  readonly config: SessionConfig;
  readonly now: number;
}

const stay = (state: SessionState, ...actions: SessionAction[]): SessionStep => ({ state, actions });

const history = ({ connectRetryCounter, failures, attempts }: SessionState): SessionHistory => ({
  connectRetryCounter,
  failures,
  attempts,
});

function inIdle({ state, config, now }: Machine, event: SessionEvent): SessionStep {
  const begins = event.kind === "start" || (event.kind === "timer" && event.timer === "idle-hold");
  if (event.kind === "stop") return stay(INITIAL_SESSION);
  if (!begins) return stay(state);
  const attempts = event.kind === "start" ? 0 : state.attempts;
  const past = { connectRetryCounter: 0, failures: state.failures, attempts };
  if (config.passive) return stay({ at: "active", ...past });
  return stay({ at: "connect", ...past, connectRetryAt: retryAt(config, now) }, { do: "connect" });
}

function inConnectOrActive(machine: Machine, event: SessionEvent): SessionStep {
  const { state, config, now } = machine;
  const delaying = "delayOpenAt" in state && state.delayOpenAt !== undefined;
  switch (event.kind) {
    case "stop":
      return shutDown(machine, event.notification, delaying);
    case "timer":
      if (event.timer === "connect-retry") {
        const next: SessionState = { at: "connect", ...history(state), connectRetryAt: retryAt(config, now) };
        return state.at === "connect" ? stay(next, { do: "close" }, { do: "connect" }) : stay(next, { do: "connect" });
      }
      return event.timer === "delay-open" ? sendOpen(machine) : fail(machine, unexpected(event));
    case "connected":
      if (config.delayOpenMs === 0) return sendOpen(machine);
      return stay({
        at: state.at === "connect" ? "connect" : "active",
        ...history(state),
        delayOpenAt: now + config.delayOpenMs,
      });
    case "disconnected":
      return connectionFailed(machine, event.reason, delaying);
    case "open":
      if (!delaying) return fail(machine, unexpected(event));
      return confirm(machine, event.negotiated, [{ do: "send-open" }]);
    case "header-error":
    case "open-error":
      return fail(machine, errorFound(event.notification), { answer: event.notification });
    case "notification":
      return fail(machine, received(event.notification), { counts: !(isVersionError(event.notification) && delaying) });
    case "automatic-stop":
      return fail(machine, stopped(event.notification), { restartAfterSeconds: event.restartAfterSeconds });
    case "collision":
      return fail(machine, { cause: "collision", detail: "another connection to this peer was kept" });
    default:
      return fail(machine, unexpected(event));
  }
}

function connectionFailed(machine: Machine, reason: string, delaying: boolean): SessionStep {
  const { state, config, now } = machine;
  const end: SessionEnd = { cause: "connect-failed", detail: reason };
  if (state.at === "active") return fail(machine, end);
  if (delaying) {
    const retry = config.passive ? {} : { connectRetryAt: retryAt(config, now) };
    return stay({ at: "active", ...history(state), ...retry }, { do: "close" }, { do: "ended", end, wasUp: false });
  }
  // Nobody answered: that is no oscillation, so the retry interval applies and not the back-off; at first less of it.
  const doublings = Math.min(Math.floor(state.attempts / ATTEMPTS_PER_DOUBLING), 20);
  const wait = Math.min(QUICK_RETRY_MS * 2 ** doublings, config.connectRetryMs) * config.jitter;
  const idle: SessionState = { at: "idle", ...history(state), attempts: state.attempts + 1, idleHoldAt: now + wait };
  return stay(idle, { do: "close" }, { do: "ended", end, wasUp: false });
}

function inOpenSent(machine: Machine, event: SessionEvent): SessionStep {
  const { state, config, now } = machine;
  switch (event.kind) {
    case "open":
      return confirm(machine, event.negotiated, []);
    case "disconnected": {
      const retry = config.passive ? {} : { connectRetryAt: retryAt(config, now) };
      const why = "our OPEN was not answered: the peer may have no neighbour with our address, or not want us now";
      const end: SessionEnd = { cause: "connection-lost", detail: `${event.reason}; ${why}` };
      return stay({ at: "active", ...history(state), ...retry }, { do: "close" }, { do: "ended", end, wasUp: false });
    }
    case "notification":
      return fail(machine, received(event.notification), { counts: !isVersionError(event.notification) });
    default:
      return common(machine, event, NOTIFY.unexpectedInOpenSent);
  }
}

function inOpenConfirm(machine: Machine, event: SessionEvent): SessionStep {
  const { state, now } = machine;
  if (state.at !== "open-confirm") return stay(state);
  if (event.kind === "keepalive") {
    const { negotiated } = state;
    const next: SessionState = { ...state, at: "established", since: now, ...hold(negotiated, now) };
    return stay(next, { do: "up", negotiated });
  }
  if (event.kind === "timer" && event.timer === "keepalive") return sendKeepalive(machine);
  if (event.kind === "notification") {
    return fail(machine, received(event.notification), { counts: !isVersionError(event.notification) });
  }
  return common(machine, event, NOTIFY.unexpectedInOpenConfirm);
}

function inEstablished(machine: Machine, event: SessionEvent): SessionStep {
  const { state, now } = machine;
  if (state.at !== "established") return stay(state);
  switch (event.kind) {
    case "keepalive":
    case "update":
      return stay({ ...state, ...hold(state.negotiated, now) });
    case "timer":
      if (event.timer === "keepalive") return sendKeepalive(machine);
      return common(machine, event, NOTIFY.unexpectedInEstablished);
    case "notification":
      return fail(machine, received(event.notification));
    case "update-error":
      return fail(machine, errorFound(event.notification), { answer: event.notification });
    default:
      return common(machine, event, NOTIFY.unexpectedInEstablished);
  }
}

/** What OpenSent, OpenConfirm and Established have in common. Anything that does not belong there is a state machine error (RFC 6608 subcodes). */
function common(machine: Machine, event: SessionEvent, surprise: readonly [number, number]): SessionStep {
  switch (event.kind) {
    case "stop":
      return shutDown(machine, event.notification, true);
    case "automatic-stop":
      return fail(machine, stopped(event.notification), {
        answer: event.notification,
        restartAfterSeconds: event.restartAfterSeconds,
      });
    case "timer":
      if (event.timer === "hold") {
        const answer = notification(NOTIFY.holdTimerExpired);
        const end: SessionEnd = {
          cause: "hold-expired",
          detail: "no message within the hold time",
          notification: answer,
        };
        return fail(machine, end, { answer });
      }
      return fail(machine, unexpected(event), { answer: notification(surprise) });
    case "disconnected":
      return fail(machine, { cause: "connection-lost", detail: event.reason });
    // A second connection of the peer is another machine's; `collision.ts` decides between the two.
    case "connected":
      return stay(machine.state);
    case "header-error":
    case "open-error":
      return fail(machine, errorFound(event.notification), { answer: event.notification });
    case "collision": {
      const answer = notification(NOTIFY.collision);
      return fail(
        machine,
        { cause: "collision", detail: "another connection to this peer was kept", notification: answer },
        { answer },
      );
    }
    default:
      return fail(machine, unexpected(event), { answer: notification(surprise) });
  }
}

function afterUpdateSent({ state, config, now }: Machine): SessionStep {
  if (state.at !== "established" || state.keepaliveAt === undefined) return stay(state);
  return stay({ ...state, ...keepalive(state.negotiated, config, now) });
}

function sendOpen({ state, now }: Machine): SessionStep {
  return stay({ at: "open-sent", ...history(state), attempts: 0, holdAt: now + OPEN_HOLD_MS }, { do: "send-open" });
}

function sendKeepalive({ state, config, now }: Machine): SessionStep {
  if (state.at !== "open-confirm" && state.at !== "established") return stay(state);
  return stay({ ...state, ...keepalive(state.negotiated, config, now) }, { do: "send-keepalive" });
}

function confirm(
  { state, config, now }: Machine,
  negotiated: Negotiated,
  first: readonly SessionAction[],
): SessionStep {
  const next: SessionState = {
    at: "open-confirm",
    ...history(state),
    negotiated,
    ...hold(negotiated, now),
    ...keepalive(negotiated, config, now),
  };
  return stay(next, ...first, { do: "send-keepalive" });
}

const hold = ({ holdSeconds }: Negotiated, now: number): { readonly holdAt?: number } =>
  holdSeconds === 0 ? {} : { holdAt: now + holdSeconds * 1000 };

const keepalive = (
  { holdSeconds, keepaliveSeconds }: Negotiated,
  { jitter }: SessionConfig,
  now: number,
): { readonly keepaliveAt?: number } =>
  holdSeconds === 0 ? {} : { keepaliveAt: now + keepaliveSeconds * 1000 * jitter };

const retryAt = ({ connectRetryMs, jitter }: SessionConfig, now: number): number => now + connectRetryMs * jitter;

/** ManualStop: no way back but a start event. */
function shutDown({ state }: Machine, answer: Notification | undefined, tell: boolean): SessionStep {
  const said = answer ?? notification(NOTIFY.administrativeShutdown);
  const end: SessionEnd = { cause: "stopped", detail: describeNotification(said), notification: said };
  return stay(
    INITIAL_SESSION,
    ...(tell ? [{ do: "send-notification" as const, notification: said }] : []),
    { do: "close" },
    { do: "ended", end, wasUp: state.at === "established" },
  );
}

interface FailOptions {
  readonly answer?: Notification;
  /** False: the peer only speaks another version, which is no oscillation. */
  readonly counts?: boolean;
  readonly restartAfterSeconds?: number | undefined;
}

/**
 * To Idle, with a start after a back-off that doubles with every failure. A session that stood longer than the longest back-off was no oscillation, nor was one that
 * stood for a moment and just broke off or was reset: then the first attempt comes at once.
 */
function fail({ state, config, now }: Machine, end: SessionEnd, options: FailOptions = {}): SessionStep {
  const { answer, counts = true, restartAfterSeconds } = options;
  const wasUp = state.at === "established";
  const harmless = wasUp && isHarmless(end);
  const stood = wasUp && now - state.since > (harmless ? config.idleHoldMinMs : config.idleHoldMaxMs);
  const failures = stood ? 0 : state.failures;
  const doubled = Math.min(config.idleHoldMinMs * 2 ** Math.min(failures, 20), config.idleHoldMaxMs);
  const backOff = (harmless && failures === 0 ? Math.min(QUICK_RETRY_MS, doubled) : doubled) * config.jitter;
  const wait = restartAfterSeconds === undefined ? backOff : restartAfterSeconds * 1000;
  return stay(
    {
      at: "idle",
      connectRetryCounter: state.connectRetryCounter + (counts ? 1 : 0),
      failures: failures + (counts ? 1 : 0),
      attempts: 0,
      idleHoldAt: now + wait,
    },
    ...(answer === undefined ? [] : [{ do: "send-notification" as const, notification: answer }]),
    { do: "close" },
    { do: "ended", end, wasUp },
  );
}

/** The other side's daemon ended, or it said that the same session may come again at once (RFC 4486 section 4). */
function isHarmless({ cause, notification: said }: SessionEnd): boolean {
  if (cause === "connection-lost") return true;
  return cause === "notification-received" && said?.code === 6 && COME_AGAIN.has(said.subcode);
}

/** Administrative Reset, Other Configuration Change, Connection Collision Resolution. */
const COME_AGAIN: ReadonlySet<number> = new Set([4, 6, 7]);

const isVersionError = ({ code, subcode }: Notification): boolean =>
  code === NOTIFY.unsupportedVersion[0] && subcode === NOTIFY.unsupportedVersion[1];

const received = (one: Notification): SessionEnd => ({
  cause: "notification-received",
  detail: describeNotification(one),
  notification: one,
});

const errorFound = (one: Notification): SessionEnd => ({
  cause: "error-found",
  detail: describeNotification(one),
  notification: one,
});

const stopped = (one: Notification): SessionEnd => ({
  cause: "stopped",
  detail: describeNotification(one),
  notification: one,
});

const unexpected = (event: SessionEvent): SessionEnd => ({
  cause: "unexpected-message",
  detail:
    event.kind === "timer"
      ? `the ${event.timer} timer ran out in a state that has none`
      : `${event.kind} is not expected here`,
});
