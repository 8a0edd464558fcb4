import { describe, expect, test } from "vitest";
import type { SessionConfig, SessionEvent, SessionState, SessionStep } from "../../src/fsm/session.ts";
import { step } from "../../src/fsm/step.ts";
import { dueTimer, nextDeadline } from "../../src/fsm/timers.ts";
import { NOTIFY, notification } from "../../src/wire/notification.ts";
import { negotiatedIpv4 } from "../support/negotiated.ts";
import type { EventName, Row, StateName } from "./fsm-table.ts";
import { FSM_TABLE } from "./fsm-table.ts";

const NOW = 1_000_000;
const config: SessionConfig = {
  passive: false,
  connectRetryMs: 5000,
  delayOpenMs: 0,
  idleHoldMinMs: 5000,
  idleHoldMaxMs: 30_000,
  jitter: 1,
};
const past = { connectRetryCounter: 2, failures: 1, attempts: 0 };
const agreed = { negotiated: negotiatedIpv4(), holdAt: NOW + 90_000, keepaliveAt: NOW + 30_000 };

const STATES: Readonly<Record<StateName, SessionState>> = {
  idle: { at: "idle", ...past },
  connect: { at: "connect", ...past, connectRetryAt: NOW + 5000 },
  "connect-delaying": { at: "connect", ...past, delayOpenAt: NOW + 1000 },
  active: { at: "active", ...past, connectRetryAt: NOW + 5000 },
  "active-delaying": { at: "active", ...past, delayOpenAt: NOW + 1000 },
  "open-sent": { at: "open-sent", ...past, holdAt: NOW + 240_000 },
  "open-confirm": { at: "open-confirm", ...past, ...agreed },
  established: { at: "established", ...past, ...agreed, since: NOW - 1000 },
};

const EVENTS: Readonly<Record<EventName, SessionEvent>> = {
  "1 ManualStart": { kind: "start" },
  "2 ManualStop": { kind: "stop" },
  "3, 6 AutomaticStart": { kind: "start" },
  "4 ManualStart_with_PassiveTcpEstablishment": { kind: "start" },
  "5, 7 AutomaticStart_with_PassiveTcpEstablishment": { kind: "start" },
  "8 AutomaticStop": { kind: "automatic-stop", notification: notification(NOTIFY.maximumPrefixes) },
  "9 ConnectRetryTimer_Expires": { kind: "timer", timer: "connect-retry" },
  "10 HoldTimer_Expires": { kind: "timer", timer: "hold" },
  "11 KeepaliveTimer_Expires": { kind: "timer", timer: "keepalive" },
  "12 DelayOpenTimer_Expires": { kind: "timer", timer: "delay-open" },
  "13 IdleHoldTimer_Expires": { kind: "timer", timer: "idle-hold" },
  "16, 17 Tcp_CR_Acked, TcpConnectionConfirmed": { kind: "connected" },
  "18 TcpConnectionFails": { kind: "disconnected", reason: "reset by peer" },
  "19, 20 BGPOpen": { kind: "open", negotiated: negotiatedIpv4() },
  "21 BGPHeaderErr": { kind: "header-error", notification: notification(NOTIFY.notSynchronized) },
  "22 BGPOpenMsgErr": { kind: "open-error", notification: notification(NOTIFY.badPeerAs) },
  "23 OpenCollisionDump": { kind: "collision" },
  "24 NotifMsgVerErr": { kind: "notification", notification: notification(NOTIFY.unsupportedVersion) },
  "25 NotifMsg": { kind: "notification", notification: notification(NOTIFY.administrativeReset) },
  "26 KeepAliveMsg": { kind: "keepalive" },
  "27 UpdateMsg": { kind: "update" },
  "28 UpdateMsgErr": { kind: "update-error", notification: notification(NOTIFY.malformedAttributeList) },
};

const nameOf = ({ state }: SessionStep): StateName =>
  (state.at === "connect" || state.at === "active") && state.delayOpenAt !== undefined
    ? `${state.at}-delaying`
    : state.at;

function sent({ actions }: SessionStep): string[] {
  return actions.flatMap((action) => {
    if (action.do === "send-open") return ["open"];
    if (action.do === "send-keepalive") return ["keepalive"];
    return action.do === "send-notification" ? [`${action.notification.code}/${action.notification.subcode}`] : [];
  });
}

function connection({ actions }: SessionStep): Row["connection"] {
  const closes = actions.some((action) => action.do === "close");
  const opens = actions.some((action) => action.do === "connect");
  return closes ? (opens ? "reopened" : "dropped") : opens ? "opened" : undefined;
}

const configOf = (event: EventName): SessionConfig => ({ ...config, passive: event.includes("Passive") });

const rows = FSM_TABLE.flatMap((row) => row.events.map((event) => ({ ...row, event })));

describe("RFC 4271 section 8.2.2", () => {
  test.each(rows)("$from, event $event → $to", ({ from, event, to, sends = [], connection: wanted, counter }) => {
    const result = step(STATES[from], EVENTS[event], configOf(event), NOW);
    expect({
      to: nameOf(result),
      sends: sent(result),
      connection: connection(result),
      counter: result.state.connectRetryCounter,
    }).toEqual({ to, sends, connection: wanted, counter });
    expect(step(STATES[from], EVENTS[event], configOf(event), NOW)).toEqual(result);
  });

  test("every state meets every event that can happen in it", () => {
    const covered = new Set(rows.map(({ from, event }) => `${from}: ${event}`));
    const missing = (Object.keys(STATES) as StateName[]).flatMap((state) =>
      (Object.keys(EVENTS) as EventName[])
        .filter((event) => !covered.has(`${state}: ${event}`))
        .map((event) => `${state}: ${event}`),
    );
    // A connection is not made twice, and a passive Active state has no ConnectRetryTimer.
    expect(missing.toSorted()).toEqual([
      "active-delaying: 16, 17 Tcp_CR_Acked, TcpConnectionConfirmed",
      "active-delaying: 9 ConnectRetryTimer_Expires",
      "connect-delaying: 16, 17 Tcp_CR_Acked, TcpConnectionConfirmed",
    ]);
  });

  test("from Established every end says that routes are concerned, and every other state that none are", () => {
    const claims = rows.flatMap(({ from, event }) =>
      step(STATES[from], EVENTS[event], configOf(event), NOW).actions.flatMap((action) =>
        action.do === "ended" ? [[from === "established", action.wasUp]] : [],
      ),
    );
    expect(claims.filter(([expected, found]) => expected !== found)).toEqual([]);
  });
});

describe("timers", () => {
  test("a passive peer waits in Active without a timer", () => {
    const { state, actions } = step(STATES.idle, EVENTS["1 ManualStart"], { ...config, passive: true }, NOW);
    expect([state.at, nextDeadline(state), actions]).toEqual(["active", undefined, []]);
  });

  test("DelayOpen holds our OPEN back", () => {
    const delayed = { ...config, delayOpenMs: 2000 };
    const waiting = step(STATES.connect, EVENTS["16, 17 Tcp_CR_Acked, TcpConnectionConfirmed"], delayed, NOW);
    expect([nameOf(waiting), nextDeadline(waiting.state)]).toEqual(["connect-delaying", NOW + 2000]);
    expect(dueTimer(waiting.state, NOW + 1999)).toBeUndefined();
    expect(dueTimer(waiting.state, NOW + 2000)).toBe("delay-open");
  });

  test("a hold time of zero needs no timers", () => {
    const negotiated = { ...negotiatedIpv4(), holdSeconds: 0 };
    const confirmed = step(STATES["open-sent"], { kind: "open", negotiated }, config, NOW).state;
    const up = step(confirmed, EVENTS["26 KeepAliveMsg"], config, NOW).state;
    expect([up.at, nextDeadline(up)]).toEqual(["established", undefined]);
  });

  test("messages push the hold timer, our own updates the keepalive timer", () => {
    const heard = step(STATES.established, EVENTS["27 UpdateMsg"], config, NOW + 10_000).state;
    expect(heard).toMatchObject({ holdAt: NOW + 100_000, keepaliveAt: NOW + 30_000 });
    const spoke = step(STATES.established, { kind: "update-sent" }, config, NOW + 10_000).state;
    expect(spoke).toMatchObject({ holdAt: NOW + 90_000, keepaliveAt: NOW + 40_000 });
  });

  test("a peer that flaps is waited for longer and longer, up to the limit; one that stood is not", () => {
    const waits: number[] = [];
    let state: SessionState = { ...STATES["open-sent"], failures: 0 };
    for (let round = 0; round < 5; round++) {
      const failed = step(
        { ...STATES["open-sent"], failures: state.failures },
        EVENTS["22 BGPOpenMsgErr"],
        config,
        NOW,
      ).state;
      waits.push((nextDeadline(failed) ?? 0) - NOW);
      state = failed;
    }
    expect(waits).toEqual([5000, 10_000, 20_000, 30_000, 30_000]);
    const stood = step(
      { ...STATES.established, failures: 9, since: NOW - 60_000 } as SessionState,
      EVENTS["28 UpdateMsgErr"],
      config,
      NOW,
    );
    expect(nextDeadline(stood.state)).toBe(NOW + 5000);
  });

  test("a session that just broke off, or was reset, is tried again at once; not if it keeps doing so", () => {
    const wait = (event: EventName, stoodMs: number, failures = 0): number => {
      const established = { ...STATES.established, failures, since: NOW - stoodMs } as SessionState;
      return (nextDeadline(step(established, EVENTS[event], config, NOW).state) ?? 0) - NOW;
    };
    expect(wait("18 TcpConnectionFails", 60_000)).toBe(500);
    expect(wait("18 TcpConnectionFails", 6000, 3)).toBe(500);
    expect(wait("18 TcpConnectionFails", 1000)).toBe(500);
    expect(wait("18 TcpConnectionFails", 1000, 1)).toBe(10_000);
    expect(wait("25 NotifMsg", 60_000)).toBe(500);
    expect(wait("28 UpdateMsgErr", 60_000)).toBe(5000);
    expect(wait("10 HoldTimer_Expires", 60_000)).toBe(5000);
  });

  test("attempts that nobody answers come less and less often, up to the connect-retry interval", () => {
    const waits: number[] = [];
    let state: SessionState = STATES.connect;
    for (let round = 0; round < 18; round++) {
      state = step(state, EVENTS["18 TcpConnectionFails"], config, NOW).state;
      waits.push((nextDeadline(state) ?? 0) - NOW);
      state = step(state, EVENTS["13 IdleHoldTimer_Expires"], config, NOW).state;
    }
    const four = [0, 0, 0, 0];
    expect(waits).toEqual([500, 1000, 2000, 4000].flatMap((wait) => four.map(() => wait)).concat(5000, 5000));
    const answered = step(state, EVENTS["16, 17 Tcp_CR_Acked, TcpConnectionConfirmed"], config, NOW).state;
    expect([state.attempts, answered.attempts]).toEqual([18, 0]);
  });

  test("an automatic stop may say when to try again", () => {
    const stop: SessionEvent = {
      kind: "automatic-stop",
      notification: notification(NOTIFY.maximumPrefixes),
      restartAfterSeconds: 600,
    };
    expect(nextDeadline(step(STATES.established, stop, config, NOW).state)).toBe(NOW + 600_000);
  });
});
