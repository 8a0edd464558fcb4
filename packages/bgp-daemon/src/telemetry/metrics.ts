/**
 * Every metric of the daemon. Upstream's open build has none for BGP; `bgp_peers`, `bgp_routes_imported` and `bgp_route_updates_received` have the names that its
 * commercial builds document, the others follow them. Values are taken when somebody asks.
 */
import type { PeerReport } from "@calico-ts/bgp";
import { createMetricsRegistry, registerMetrics } from "@calico-ts/runtime/metrics";
import type { StatusSource } from "../status/status-source.ts";

const OF_PEER = ["ip_version", "peer", "peer_ip"] as const;

export const BGP_METRICS = {
  bgp_peers: {
    kind: "gauge",
    help: "Number of peers by the state of their session.",
    labels: ["ip_version", "status"],
  },
  bgp_session_established: { kind: "gauge", help: "1 while the session with the peer stands.", labels: OF_PEER },
  bgp_session_changed_timestamp_seconds: {
    kind: "gauge",
    help: "When the session came up or went down last.",
    labels: OF_PEER,
  },
  bgp_session_ups: { kind: "counter", help: "How often a session with the peer has come up.", labels: OF_PEER },
  bgp_routes_imported: { kind: "gauge", help: "Routes heard from the peer, refused ones included.", labels: OF_PEER },
  bgp_routes_refused: { kind: "gauge", help: "Of these, routes that import policy refused.", labels: OF_PEER },
  bgp_routes_advertised: {
    kind: "gauge",
    help: "Routes told to the peer, or about to be.",
    labels: OF_PEER,
  },
  bgp_route_updates_received: { kind: "counter", help: "UPDATE messages from the peer.", labels: OF_PEER },
  bgp_route_updates_sent: { kind: "counter", help: "UPDATE messages to the peer.", labels: OF_PEER },
  bgp_messages_received: { kind: "counter", help: "Messages of all kinds from the peer.", labels: OF_PEER },
  bgp_messages_sent: { kind: "counter", help: "Messages of all kinds to the peer.", labels: OF_PEER },
  bgp_destinations: { kind: "gauge", help: "Destinations with any route.", labels: ["ip_version"] },
  bgp_restarting: { kind: "gauge", help: "1 during a graceful restart of our own." },
  bgp_configuration_problems: { kind: "gauge", help: "Parts of the configuration that are not in force." },
} as const;

const COUNTERS = {
  bgp_session_ups: "timesUp",
  bgp_route_updates_received: "updatesReceived",
  bgp_route_updates_sent: "updatesSent",
  bgp_messages_received: "messagesReceived",
  bgp_messages_sent: "messagesSent",
} as const;
const STATES = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"] as const;
const VERSIONS = ["IPv4", "IPv6"] as const;

export class BgpMetrics {
  readonly registry = createMetricsRegistry();
  readonly #metrics = registerMetrics(this.registry, BGP_METRICS);
  readonly #source: Pick<StatusSource, "daemon" | "destinations" | "peers">;
  /** What was counted at the last scrape, by peer. */
  #counted = new Map<string, PeerReport>();

  constructor(source: Pick<StatusSource, "daemon" | "destinations" | "peers">) {
    this.#source = source;
  }

  /** In the Prometheus text format. */
  text(): Promise<string> {
    this.#refresh();
    return this.registry.metrics();
  }

  #refresh(): void {
    const metrics = this.#metrics;
    const { problems, restarting } = this.#source.daemon();
    metrics.bgp_restarting.set(restarting ? 1 : 0);
    metrics.bgp_configuration_problems.set(problems.length);
    for (const [family, count] of this.#source.destinations()) {
      metrics.bgp_destinations.labels(family === "ipv4-unicast" ? "IPv4" : "IPv6").set(count);
    }
    const peers = this.#source.peers();
    for (const version of VERSIONS) {
      for (const state of STATES) {
        const count = peers.filter((peer) => peer.state === state && versionOf(peer) === version).length;
        metrics.bgp_peers.labels(version, state).set(count);
      }
    }
    const names = new Set(peers.map(({ name }) => name));
    for (const [name, peer] of this.#counted) if (!names.has(name)) this.#forget(peer);
    for (const peer of peers) this.#setPeer(peer);
    this.#counted = new Map(peers.map((peer) => [peer.name, peer]));
  }

  #setPeer(peer: PeerReport): void {
    const metrics = this.#metrics;
    const labels = labelsOf(peer);
    metrics.bgp_session_established.labels(...labels).set(peer.state === "Established" ? 1 : 0);
    metrics.bgp_session_changed_timestamp_seconds.labels(...labels).set(Date.parse(peer.since) / 1000);
    metrics.bgp_routes_imported.labels(...labels).set(peer.routes.reduce((sum, { received }) => sum + received, 0));
    metrics.bgp_routes_advertised.labels(...labels).set(peer.routes.reduce((sum, one) => sum + one.advertised, 0));
    metrics.bgp_routes_refused.labels(...labels).set(peer.refused?.routes ?? 0);
    const before = this.#counted.get(peer.name)?.counters;
    for (const [name, field] of entriesOf(COUNTERS)) {
      const now = peer.counters[field];
      const then = before?.[field] ?? 0;
      // A peer that was removed and is back has begun again.
      metrics[name].labels(...labels).inc(now < then ? now : now - then);
    }
  }

  #forget(peer: PeerReport): void {
    const labels = labelsOf(peer);
    for (const [name, spec] of entriesOf(BGP_METRICS)) {
      if ("labels" in spec && spec.labels === OF_PEER) this.#metrics[name].remove(...labels);
    }
  }
}

const versionOf = ({ address }: PeerReport): "IPv4" | "IPv6" => (address.includes(":") ? "IPv6" : "IPv4");
const labelsOf = (peer: PeerReport): [string, string, string] => [versionOf(peer), peer.name, peer.address];

const entriesOf = <T extends object>(table: T): [keyof T, T[keyof T]][] =>
  Object.entries(table) as [keyof T, T[keyof T]][];
