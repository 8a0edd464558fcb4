/** Peers for people and metrics: where each session is and, when it is not up, the likely cause in words an operator can act on. */
import { formatAddress } from "@calico-ts/net";
import { unreachable } from "@calico-ts/std";
import type { SessionEnd, SessionState } from "../fsm/session.ts";
import type { Peer, PeerCounters } from "../peer/peer.ts";
import type { BgpSpeaker } from "../speaker.ts";
import type { RoutedFamily } from "../wire/family.ts";

export type PeerStateName = "Idle" | "Connect" | "Active" | "OpenSent" | "OpenConfirm" | "Established";

export interface FamilyRoutes {
  readonly family: RoutedFamily;
  readonly received: number;
  /** What the peer has been told, or is about to be. */
  readonly advertised: number;
  readonly stale: boolean;
}

export interface PeerStatus {
  readonly name: string;
  readonly address: string;
  readonly remoteAs: number;
  readonly type: "internal" | "external";
  readonly state: PeerStateName;
  /** Of the standing session; milliseconds, as `now` was given. */
  readonly since: number | undefined;
  readonly families: readonly RoutedFamily[];
  readonly routes: readonly FamilyRoutes[];
  readonly counters: Readonly<PeerCounters>;
  readonly holdSeconds: number | undefined;
  readonly peerRouterId: number | undefined;
  /** Why it is not up; undefined when it is, or nothing has been tried yet. */
  readonly cause: string | undefined;
}

const NAMES: Readonly<Record<SessionState["at"], PeerStateName>> = {
  idle: "Idle",
  connect: "Connect",
  active: "Active",
  "open-sent": "OpenSent",
  "open-confirm": "OpenConfirm",
  established: "Established",
};
const PROGRESS: readonly PeerStateName[] = ["Idle", "Active", "Connect", "OpenSent", "OpenConfirm", "Established"];

export const showPeers = (speaker: BgpSpeaker): PeerStatus[] =>
  [...speaker.peers.values()].map((peer) => showPeer(speaker, peer));

function showPeer(speaker: BgpSpeaker, peer: Peer): PeerStatus {
  const { config, routing } = peer;
  const side = peer.upSide;
  const session = side === undefined ? undefined : peer.session(side);
  const negotiated = routing.session?.negotiated;
  const families = negotiated?.families ?? config.families;
  return {
    name: config.name,
    address: formatAddress(config.address),
    remoteAs: config.remoteAs,
    type: (config.localAs ?? speaker.config.as) === config.remoteAs ? "internal" : "external",
    state: stateOf(peer),
    since: session?.at === "established" ? session.since : undefined,
    families,
    routes: families.map((family) => ({
      family,
      received: speaker.routing.tables.get(family)?.count(routing.source) ?? 0,
      advertised: routing.groups.find(({ terms }) => terms.family === family)?.count(routing.source) ?? 0,
      stale: routing.stale.has(family),
    })),
    counters: { ...peer.counters },
    holdSeconds: negotiated?.holdSeconds,
    peerRouterId: negotiated?.remoteIdentifier,
    cause: side === undefined ? likelyCause(peer) : undefined,
  };
}

/** Of the connection that has come furthest. */
function stateOf(peer: Peer): PeerStateName {
  const names = (["outgoing", "incoming"] as const).map((side) => NAMES[peer.session(side)?.at ?? "idle"]);
  return names.reduce((best, name) => (PROGRESS.indexOf(name) > PROGRESS.indexOf(best) ? name : best), "Idle");
}

function likelyCause(peer: Peer): string | undefined {
  const { config, lastEnd, lastError } = peer;
  if (config.shutdown !== undefined)
    return `shut down by configuration${config.shutdown === "" ? "" : `: ${config.shutdown}`}`;
  const where = `${formatAddress(config.address)} (AS ${config.remoteAs})`;
  const silent = peer.session("outgoing")?.at === "connect";
  const silence =
    "wrong address, peer down, a password or TTL security that the two sides do not share, or a firewall in between";
  if (lastEnd === undefined) {
    if (silent) return `no answer on TCP from ${where} yet: ${silence}`;
    return config.passive === true ? `waiting for ${where} to connect; we are passive` : undefined;
  }
  // A peer that refuses connections after an error says less than the error did.
  const end = lastError !== undefined && lastError.at >= lastEnd.at - 120_000 ? lastError.end : lastEnd.end;
  const then = describeEnd(end, where);
  return silent && end === lastEnd.end && end.cause !== "connect-failed"
    ? `${then}; now no answer on TCP: ${silence}`
    : then;
}

function describeEnd({ cause, detail, notification }: SessionEnd, where: string): string {
  switch (cause) {
    case "connect-failed":
      return `cannot connect to ${where}: ${detail}`;
    case "connection-lost":
      return `connection with ${where} lost: ${detail}`;
    case "hold-expired":
      return `${where} fell silent for longer than the hold time: overload, packet loss, an MTU too small for full updates, or a password or TTL security that has changed on one side only`;
    case "notification-received":
      return `${where} ended the session: ${detail}${hint(notification)}`;
    case "error-found":
      return `we refused ${where}: ${detail}${hint(notification)}`;
    case "unexpected-message":
      return `${where} broke the protocol: ${detail}`;
    case "stopped":
      return `we ended the session with ${where}: ${detail}`;
    case "collision":
      return `another connection with ${where} was kept`;
    default:
      return unreachable(cause);
  }
}

function hint(notification: SessionEnd["notification"]): string {
  if (notification?.code !== 2) return "";
  const hints: Readonly<Record<number, string>> = {
    2: "; check the AS number configured on each side",
    3: "; two speakers of one AS must not have the same router id",
    7: "; the two sides have no address family in common",
    11: "; check the roles configured on each side (RFC 9234)",
  };
  return hints[notification.subcode] ?? "";
}
