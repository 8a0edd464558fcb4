/** What the daemon says about itself, as values: the answers of the status socket, the rows of CalicoNodeStatus, the numbers of the metrics. */
import {
  type BgpSpeaker,
  type DaemonReport,
  explainAddress,
  explainPrefix,
  explanationReport,
  formatRouterId,
  type PeerReport,
  type ReadinessReport,
  type RoutedFamily,
  type RouteReport,
  routeReport,
  showAdvertisedRoutes,
  showBestRoutes,
  showPeers,
  showReceivedRoutes,
  showUsableRoutes,
  type StatusRequest,
  type StatusResults,
  type UsableRoute,
} from "@calico-ts/bgp";
import type { Kernel } from "@calico-ts/linux";
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import type { Clock } from "@calico-ts/runtime";
import { CalicoError, unreachable } from "@calico-ts/std";
import type { ConfiguredDaemon } from "../configured-daemon.ts";
import { MAIN_TABLE } from "../kernel/kernel-view.ts";
import type { RouteRow } from "./node-status.ts";
import { readiness } from "./readiness.ts";

export interface StatusSourceOptions {
  readonly configured: ConfiguredDaemon;
  readonly kernel: Pick<Kernel, "links" | "routes">;
  readonly clock: Clock;
  readonly node: string;
  readonly version: string;
}

const FAMILIES: readonly RoutedFamily[] = ["ipv4-unicast", "ipv6-unicast"];

export class StatusSource {
  readonly #options: StatusSourceOptions;
  readonly #startedAt: number;
  /** From monotonic to epoch milliseconds; taken once, so that what has happened does not move when the clock is set. */
  readonly #wallOffset: number;

  constructor(options: StatusSourceOptions) {
    this.#options = options;
    this.#startedAt = options.clock.now();
    this.#wallOffset = options.clock.now() - options.clock.monotonic();
  }

  /** @throws CalicoError NOT_FOUND (a peer), BAD_INPUT (what to explain), UNAVAILABLE (there is no configuration yet) */
  answer(request: StatusRequest): StatusResults[StatusRequest["command"]] {
    switch (request.command) {
      case "status":
        return this.daemon();
      case "peers":
        return this.peers();
      case "routes":
        return this.routes(request.family);
      case "received":
      case "advertised":
        return this.routesOf(request.command, request.peer, request.family);
      case "explain":
        return this.#explain(request.destination);
      case "readiness":
        return this.readiness(request.family, request.strict);
      default:
        return unreachable(request);
    }
  }

  daemon(): DaemonReport {
    const { configured, node, version } = this.#options;
    const { changedAt, daemon, problems } = configured;
    const { as, routerId } = daemon?.speaker.config ?? {};
    return {
      node,
      version,
      startedAt: isoTime(this.#startedAt),
      reconfiguredAt: changedAt === undefined ? undefined : isoTime(changedAt),
      as,
      routerId: routerId === undefined ? undefined : formatRouterId(routerId),
      restarting: daemon?.speaker.routing.deferring === true,
      problems,
    };
  }

  /** `refusals`: with what import policy refused, which takes a look at every route. */
  peers({ refusals: counted = true } = {}): PeerReport[] {
    const { daemon } = this.#options.configured;
    if (daemon === undefined) return [];
    const refusals = counted ? refusalsByPeer(daemon.speaker) : new Map<string, never>();
    return showPeers(daemon.speaker).map(({ peerRouterId, since, ...peer }) => {
      const refused = refusals.get(peer.name);
      return {
        ...peer,
        since: isoTime((since ?? daemon.peerChangedAt(peer.name)) + this.#wallOffset),
        ...(peerRouterId !== undefined && { peerRouterId: formatRouterId(peerRouterId) }),
        ...(refused !== undefined && { refused }),
      };
    });
  }

  /** How many destinations each table has. */
  destinations(): (readonly [RoutedFamily, number])[] {
    const tables = this.#options.configured.daemon?.speaker.routing.tables;
    return FAMILIES.map((family) => [family, tables?.get(family)?.size ?? 0]);
  }

  routes(family?: RoutedFamily): RouteReport[] {
    const { speaker } = this.#daemon();
    return familiesOf(family).flatMap((one) => showBestRoutes(speaker, one).map(routeReport));
  }

  /** @throws CalicoError NOT_FOUND */
  routesOf(what: "received" | "advertised", name: string, family?: RoutedFamily): RouteReport[] {
    const { speaker } = this.#daemon();
    const peer = findPeer(speaker, name);
    const show = what === "received" ? showReceivedRoutes : showAdvertisedRoutes;
    return familiesOf(family).flatMap((one) => show(speaker, peer, one).map(routeReport));
  }

  readiness(family: 4 | 6, strict: boolean): ReadinessReport {
    return readiness({ daemon: this.daemon(), peers: this.peers({ refusals: false }), family, strict });
  }

  /** Every route that may be used, the best of each destination first. */
  routeRows(): RouteRow[] {
    const { configured, kernel } = this.#options;
    const { daemon } = configured;
    if (daemon === undefined) return [];
    const ways = waysByDestination(kernel);
    const addresses = new Map(daemon.speaker.config.peers.map(({ address, name }) => [name, formatAddress(address)]));
    return FAMILIES.flatMap((family) => showUsableRoutes(daemon.speaker, family)).map((route) => {
      const { nextHop, own, peer, prefix, used } = route;
      const way = ways.get(prefix);
      const name = own?.interface ?? (used ? way?.interface : undefined);
      const gateway = own?.gateway === true ? way?.gateway : nextHop;
      return {
        destination: prefix,
        ...(gateway !== undefined && { gateway }),
        ...(name !== undefined && { interface: name }),
        from: peer === undefined ? originOf(route) : { peer, address: addresses.get(peer) ?? "" },
        used,
      };
    });
  }

  #explain(destination: string): StatusResults["explain"] {
    const { speaker } = this.#daemon();
    const explanation = destination.includes("/")
      ? explainPrefix(speaker, parsePrefix(destination, "mask"))
      : explainAddress(speaker, parseAddress(destination));
    return explanation === undefined
      ? null
      : explanationReport(explanation, kernelRoutes(this.#options.kernel, explanation.prefix));
  }

  #daemon(): NonNullable<ConfiguredDaemon["daemon"]> {
    const { daemon, problems } = this.#options.configured;
    if (daemon === undefined) throw new CalicoError("UNAVAILABLE", `BGP is not configured: ${problems.join("; ")}`);
    return daemon;
  }
}

/** What yields to no peer's route is the prefix of an interface (`learned-routes.ts` of the kernel). */
function originOf({ own }: UsableRoute): "kernel" | "direct" | "static" {
  if (own?.found !== true) return "static";
  return own.yields === undefined ? "direct" : "kernel";
}

interface Way {
  readonly interface: string;
  readonly gateway?: string;
}

/** Where the kernel's main table sends packets, by exact prefix; of several metrics the smallest. */
function waysByDestination({ links, routes }: StatusSourceOptions["kernel"]): Map<string, Way> {
  const names = new Map(links.list().map(({ index, name }) => [index, name]));
  const ways = new Map<string, Way>();
  const main = routes.list().filter(({ table }) => table === MAIN_TABLE);
  for (const { destination, gateway, link, nextHops } of main.toSorted((a, b) => (b.metric ?? 0) - (a.metric ?? 0))) {
    const name = names.get(link ?? nextHops?.[0]?.link ?? 0);
    const via = gateway ?? nextHops?.[0]?.gateway;
    if (name === undefined) continue;
    ways.set(formatPrefix(destination), {
      interface: name,
      ...(via !== undefined && { gateway: formatAddress(via) }),
    });
  }
  return ways;
}

function kernelRoutes({ links, routes }: StatusSourceOptions["kernel"], prefix: string): string[] {
  const names = new Map(links.list().map(({ index, name }) => [index, name]));
  return routes
    .list()
    .filter(({ destination, table }) => table === MAIN_TABLE && formatPrefix(destination) === prefix)
    .map(({ gateway, link, metric = 0, nextHops, protocol, type }) => {
      const hops = (nextHops ?? [{ gateway, link }]).map((hop) =>
        [
          hop.gateway === undefined ? "" : `via ${formatAddress(hop.gateway)}`,
          hop.link === undefined ? "" : `dev ${names.get(hop.link) ?? hop.link}`,
        ]
          .filter((part) => part !== "")
          .join(" "),
      );
      return [type === "unicast" ? "" : type, hops.join(", "), `proto ${protocol}`, `metric ${metric}`]
        .filter((part) => part !== "")
        .join(" ");
    });
}

const isoTime = (epochMs: number): string => new Date(epochMs).toISOString();
const familiesOf = (family: RoutedFamily | undefined): readonly RoutedFamily[] =>
  family === undefined ? FAMILIES : [family];

/** By name, or by address when one session has it. @throws CalicoError NOT_FOUND */
function findPeer(speaker: BgpSpeaker, wanted: string): string {
  if (speaker.peers.has(wanted)) return wanted;
  const peers = showPeers(speaker);
  const [first, second] = peers.filter(({ address }) => address === wanted);
  if (first !== undefined && second === undefined) return first.name;
  const known = peers.map(({ address, name }) => `${name} (${address})`).join(", ");
  throw new CalicoError(
    "NOT_FOUND",
    second === undefined
      ? `no BGP peer is named "${wanted}" or has this address; there are: ${known === "" ? "none" : known}`
      : `several BGP peers have the address ${wanted}; name one of: ${known}`,
  );
}

/** What import policy refused, per peer. */
function refusalsByPeer(speaker: BgpSpeaker): Map<string, NonNullable<PeerReport["refused"]>> {
  const counts = new Map<string, Map<string, number>>();
  for (const table of speaker.routing.tables.values()) {
    for (const destination of table.destinations()) {
      for (let route = destination.routes; route !== undefined; route = route.next) {
        if (route.rejected === undefined || route.source.peer === undefined) continue;
        const ofPeer = counts.get(route.source.peer) ?? new Map<string, number>();
        counts.set(route.source.peer, ofPeer);
        ofPeer.set(route.rejected, (ofPeer.get(route.rejected) ?? 0) + 1);
      }
    }
  }
  return new Map(
    [...counts].map(([peer, reasons]) => {
      const [reason = ""] = [...reasons].toSorted(([, a], [, b]) => b - a)[0] ?? [];
      return [peer, { routes: [...reasons.values()].reduce((sum, count) => sum + count, 0), reason }];
    }),
  );
}
