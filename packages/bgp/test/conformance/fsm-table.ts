/**
 * RFC 4271 section 8.2.2 as data: for each state and event, the state that follows, what is sent, and what becomes of the connection and the
 * counters. Event numbers are those of section 8.1; of two with one name the state tells which it is (20 is 19 with a DelayOpenTimer), or it makes no difference.
 * 14 and 15 are of the optional attribute TrackTcpState, which we have not. Rows marked `departs` say where we do otherwise, and why.
 */
import type { SessionState } from "../../src/fsm/session.ts";

export type StateName = SessionState["at"] | "connect-delaying" | "active-delaying";

export interface Row {
  readonly from: StateName;
  readonly events: readonly EventName[];
  readonly to: StateName;
  /** Messages, in order: open, keepalive, or the NOTIFICATION as code/subcode. */
  readonly sends?: readonly string[];
  readonly connection?: "opened" | "dropped" | "reopened";
  /** ConnectRetryCounter afterwards; it is 2 before. */
  readonly counter?: number;
  readonly departs?: string;
}

export type EventName =
  | "1 ManualStart"
  | "2 ManualStop"
  | "3, 6 AutomaticStart"
  | "4 ManualStart_with_PassiveTcpEstablishment"
  | "5, 7 AutomaticStart_with_PassiveTcpEstablishment"
  | "8 AutomaticStop"
  | "9 ConnectRetryTimer_Expires"
  | "10 HoldTimer_Expires"
  | "11 KeepaliveTimer_Expires"
  | "12 DelayOpenTimer_Expires"
  | "13 IdleHoldTimer_Expires"
  | "16, 17 Tcp_CR_Acked, TcpConnectionConfirmed"
  | "18 TcpConnectionFails"
  | "19, 20 BGPOpen"
  | "21 BGPHeaderErr"
  | "22 BGPOpenMsgErr"
  | "23 OpenCollisionDump"
  | "24 NotifMsgVerErr"
  | "25 NotifMsg"
  | "26 KeepAliveMsg"
  | "27 UpdateMsg"
  | "28 UpdateMsgErr";

const ACTIVE_STARTS: readonly EventName[] = ["1 ManualStart", "3, 6 AutomaticStart"];
const PASSIVE_STARTS: readonly EventName[] = [
  "4 ManualStart_with_PassiveTcpEstablishment",
  "5, 7 AutomaticStart_with_PassiveTcpEstablishment",
];
const STARTS = [...ACTIVE_STARTS, ...PASSIVE_STARTS];
const HEADER = "1/1";
const OPEN_ERROR = "2/2";
const UPDATE_ERROR = "3/1";
const CEASE_SHUTDOWN = "6/2";
const CEASE_LIMIT = "6/1";
const CEASE_COLLISION = "6/7";
const HOLD = "4/0";

/** Connect and Active answer most events alike. */
const beforeOpen = (from: StateName): readonly Row[] => [
  { from, events: STARTS, to: from, counter: 2 },
  {
    from,
    events: [
      "8 AutomaticStop",
      "10 HoldTimer_Expires",
      "11 KeepaliveTimer_Expires",
      "13 IdleHoldTimer_Expires",
      "23 OpenCollisionDump",
      "25 NotifMsg",
      "26 KeepAliveMsg",
      "27 UpdateMsg",
      "28 UpdateMsgErr",
    ],
    to: "idle",
    connection: "dropped",
    counter: 3,
  },
  { from, events: ["21 BGPHeaderErr"], to: "idle", sends: [HEADER], connection: "dropped", counter: 3 },
  { from, events: ["22 BGPOpenMsgErr"], to: "idle", sends: [OPEN_ERROR], connection: "dropped", counter: 3 },
  { from, events: ["12 DelayOpenTimer_Expires"], to: "open-sent", sends: ["open"], counter: 2 },
];

/** OpenSent, OpenConfirm and Established: how a session ends. */
const afterOpen = (from: StateName): readonly Row[] => [
  { from, events: STARTS, to: from, counter: 2 },
  { from, events: ["2 ManualStop"], to: "idle", sends: [CEASE_SHUTDOWN], connection: "dropped", counter: 0 },
  { from, events: ["8 AutomaticStop"], to: "idle", sends: [CEASE_LIMIT], connection: "dropped", counter: 3 },
  { from, events: ["10 HoldTimer_Expires"], to: "idle", sends: [HOLD], connection: "dropped", counter: 3 },
  { from, events: ["16, 17 Tcp_CR_Acked, TcpConnectionConfirmed"], to: from, counter: 2 },
  { from, events: ["23 OpenCollisionDump"], to: "idle", sends: [CEASE_COLLISION], connection: "dropped", counter: 3 },
];

const ONE_ANSWER = "a NOTIFICATION is never answered with a NOTIFICATION";
const NEVER_CALLED = "no ConnectRetryTimer is started: a passive peer is not called when it runs out either";
const AS_FOUND = "section 6.1 and 6.2 name the error better than Finite State Machine Error does";

export const FSM_TABLE: readonly Row[] = [
  { from: "idle", events: ACTIVE_STARTS, to: "connect", connection: "opened", counter: 0 },
  { from: "idle", events: PASSIVE_STARTS, to: "active", counter: 0, departs: NEVER_CALLED },
  { from: "idle", events: ["13 IdleHoldTimer_Expires"], to: "connect", connection: "opened", counter: 0 },
  { from: "idle", events: ["2 ManualStop"], to: "idle", counter: 0 },
  {
    from: "idle",
    events: [
      "8 AutomaticStop",
      "9 ConnectRetryTimer_Expires",
      "10 HoldTimer_Expires",
      "11 KeepaliveTimer_Expires",
      "12 DelayOpenTimer_Expires",
      "16, 17 Tcp_CR_Acked, TcpConnectionConfirmed",
      "18 TcpConnectionFails",
      "19, 20 BGPOpen",
      "21 BGPHeaderErr",
      "22 BGPOpenMsgErr",
      "23 OpenCollisionDump",
      "24 NotifMsgVerErr",
      "25 NotifMsg",
      "26 KeepAliveMsg",
      "27 UpdateMsg",
      "28 UpdateMsgErr",
    ],
    to: "idle",
    counter: 2,
  },

  ...beforeOpen("connect"),
  { from: "connect", events: ["2 ManualStop"], to: "idle", connection: "dropped", counter: 0 },
  { from: "connect", events: ["9 ConnectRetryTimer_Expires"], to: "connect", connection: "reopened", counter: 2 },
  {
    from: "connect",
    events: ["16, 17 Tcp_CR_Acked, TcpConnectionConfirmed"],
    to: "open-sent",
    sends: ["open"],
    counter: 2,
  },
  { from: "connect", events: ["18 TcpConnectionFails"], to: "idle", connection: "dropped", counter: 2 },
  { from: "connect", events: ["19, 20 BGPOpen"], to: "idle", connection: "dropped", counter: 3 },
  { from: "connect", events: ["24 NotifMsgVerErr"], to: "idle", connection: "dropped", counter: 3 },

  ...beforeOpen("connect-delaying"),
  {
    from: "connect-delaying",
    events: ["2 ManualStop"],
    to: "idle",
    sends: [CEASE_SHUTDOWN],
    connection: "dropped",
    counter: 0,
  },
  {
    from: "connect-delaying",
    events: ["9 ConnectRetryTimer_Expires"],
    to: "connect",
    connection: "reopened",
    counter: 2,
  },
  { from: "connect-delaying", events: ["18 TcpConnectionFails"], to: "active", connection: "dropped", counter: 2 },
  {
    from: "connect-delaying",
    events: ["19, 20 BGPOpen"],
    to: "open-confirm",
    sends: ["open", "keepalive"],
    counter: 2,
  },
  { from: "connect-delaying", events: ["24 NotifMsgVerErr"], to: "idle", connection: "dropped", counter: 2 },

  ...beforeOpen("active"),
  { from: "active", events: ["2 ManualStop"], to: "idle", connection: "dropped", counter: 0 },
  { from: "active", events: ["9 ConnectRetryTimer_Expires"], to: "connect", connection: "opened", counter: 2 },
  {
    from: "active",
    events: ["16, 17 Tcp_CR_Acked, TcpConnectionConfirmed"],
    to: "open-sent",
    sends: ["open"],
    counter: 2,
  },
  { from: "active", events: ["18 TcpConnectionFails"], to: "idle", connection: "dropped", counter: 3 },
  { from: "active", events: ["19, 20 BGPOpen"], to: "idle", connection: "dropped", counter: 3 },
  { from: "active", events: ["24 NotifMsgVerErr"], to: "idle", connection: "dropped", counter: 3 },

  ...beforeOpen("active-delaying"),
  {
    from: "active-delaying",
    events: ["2 ManualStop"],
    to: "idle",
    sends: [CEASE_SHUTDOWN],
    connection: "dropped",
    counter: 0,
  },
  { from: "active-delaying", events: ["18 TcpConnectionFails"], to: "idle", connection: "dropped", counter: 3 },
  { from: "active-delaying", events: ["19, 20 BGPOpen"], to: "open-confirm", sends: ["open", "keepalive"], counter: 2 },
  { from: "active-delaying", events: ["24 NotifMsgVerErr"], to: "idle", connection: "dropped", counter: 2 },

  ...afterOpen("open-sent"),
  { from: "open-sent", events: ["18 TcpConnectionFails"], to: "active", connection: "dropped", counter: 2 },
  { from: "open-sent", events: ["19, 20 BGPOpen"], to: "open-confirm", sends: ["keepalive"], counter: 2 },
  { from: "open-sent", events: ["21 BGPHeaderErr"], to: "idle", sends: [HEADER], connection: "dropped", counter: 3 },
  {
    from: "open-sent",
    events: ["22 BGPOpenMsgErr"],
    to: "idle",
    sends: [OPEN_ERROR],
    connection: "dropped",
    counter: 3,
  },
  { from: "open-sent", events: ["24 NotifMsgVerErr"], to: "idle", connection: "dropped", counter: 2 },
  { from: "open-sent", events: ["25 NotifMsg"], to: "idle", connection: "dropped", counter: 3, departs: ONE_ANSWER },
  {
    from: "open-sent",
    events: [
      "9 ConnectRetryTimer_Expires",
      "11 KeepaliveTimer_Expires",
      "12 DelayOpenTimer_Expires",
      "13 IdleHoldTimer_Expires",
      "26 KeepAliveMsg",
      "27 UpdateMsg",
      "28 UpdateMsgErr",
    ],
    to: "idle",
    sends: ["5/1"],
    connection: "dropped",
    counter: 3,
  },

  ...afterOpen("open-confirm"),
  { from: "open-confirm", events: ["11 KeepaliveTimer_Expires"], to: "open-confirm", sends: ["keepalive"], counter: 2 },
  {
    from: "open-confirm",
    events: ["18 TcpConnectionFails", "25 NotifMsg"],
    to: "idle",
    connection: "dropped",
    counter: 3,
  },
  { from: "open-confirm", events: ["24 NotifMsgVerErr"], to: "idle", connection: "dropped", counter: 2 },
  { from: "open-confirm", events: ["21 BGPHeaderErr"], to: "idle", sends: [HEADER], connection: "dropped", counter: 3 },
  {
    from: "open-confirm",
    events: ["22 BGPOpenMsgErr"],
    to: "idle",
    sends: [OPEN_ERROR],
    connection: "dropped",
    counter: 3,
  },
  { from: "open-confirm", events: ["26 KeepAliveMsg"], to: "established", counter: 2 },
  {
    from: "open-confirm",
    events: [
      "9 ConnectRetryTimer_Expires",
      "12 DelayOpenTimer_Expires",
      "13 IdleHoldTimer_Expires",
      "19, 20 BGPOpen", // a second OPEN on the same connection
      "27 UpdateMsg",
      "28 UpdateMsgErr",
    ],
    to: "idle",
    sends: ["5/2"],
    connection: "dropped",
    counter: 3,
  },

  ...afterOpen("established"),
  { from: "established", events: ["11 KeepaliveTimer_Expires"], to: "established", sends: ["keepalive"], counter: 2 },
  {
    from: "established",
    events: ["18 TcpConnectionFails", "24 NotifMsgVerErr", "25 NotifMsg"],
    to: "idle",
    connection: "dropped",
    counter: 3,
  },
  { from: "established", events: ["26 KeepAliveMsg", "27 UpdateMsg"], to: "established", counter: 2 },
  {
    from: "established",
    events: ["28 UpdateMsgErr"],
    to: "idle",
    sends: [UPDATE_ERROR],
    connection: "dropped",
    counter: 3,
  },
  {
    from: "established",
    events: ["21 BGPHeaderErr"],
    to: "idle",
    sends: [HEADER],
    connection: "dropped",
    counter: 3,
    departs: AS_FOUND,
  },
  {
    from: "established",
    events: ["22 BGPOpenMsgErr"],
    to: "idle",
    sends: [OPEN_ERROR],
    connection: "dropped",
    counter: 3,
    departs: AS_FOUND,
  },
  {
    from: "established",
    events: ["9 ConnectRetryTimer_Expires", "12 DelayOpenTimer_Expires", "13 IdleHoldTimer_Expires", "19, 20 BGPOpen"],
    to: "idle",
    sends: ["5/3"],
    connection: "dropped",
    counter: 3,
  },
];
