/**
 * Whether BGP of this node is ready, by upstream's rule (inventory §9.1, `node/pkg/health`): no peers is ready; shortly after the start every session has to be up and
 * the graceful restart over, so that a rolling update waits; later one session is enough, so that some dead nodes do not make all others unready. What is said is
 * ours: the peer, where its session is, and the likely cause.
 */
import type { DaemonReport, PeerReport, ReadinessReport } from "@calico-ts/bgp";

export interface ReadinessInput {
  readonly daemon: DaemonReport;
  readonly peers: readonly PeerReport[];
  readonly family: 4 | 6;
  /** Calico has only just started on the node. */
  readonly strict: boolean;
}

export function readiness({ daemon, peers, family, strict }: ReadinessInput): ReadinessReport {
  if (daemon.reconfiguredAt === undefined) {
    return { ready: false, detail: `BGP is not configured: ${daemon.problems.join("; ")}` };
  }
  const mine = peers.filter(({ address }) => (address.includes(":") ? 6 : 4) === family);
  const down = mine.filter(({ state }) => state !== "Established");
  const notes = [...down.map(describePeer), ...daemon.problems];
  const detail = notes.join("; ");
  if (mine.length === 0) return { ready: true, detail };
  const established = mine.length - down.length;
  if (strict ? down.length > 0 : established === 0) {
    return { ready: false, detail: `BGP not established with ${detail}` };
  }
  if (strict && daemon.restarting) {
    return {
      ready: false,
      detail: "graceful restart in progress: routes are not chosen before all peers have told theirs",
    };
  }
  return { ready: true, detail };
}

const describePeer = ({ address, cause, name, remoteAs, state }: PeerReport): string =>
  `${address} (${name}, AS ${remoteAs}): ${state}${cause === undefined ? "" : `, ${cause}`}`;
