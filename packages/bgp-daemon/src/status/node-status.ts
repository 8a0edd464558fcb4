/**
 * What a CalicoNodeStatus says of this node, as a function of what the daemon says of itself (inventory §1.4): upstream asks BIRD, and there are two of them; here one
 * daemon stands for both families. A class that was not asked for is left out.
 */
import type { DaemonReport, PeerReport } from "@calico-ts/bgp";
import type { CalicoNodeStatus } from "@calico-ts/model";

export type NodeStatusClass = "Agent" | "BGP" | "Routes";
type Status = NonNullable<CalicoNodeStatus["status"]>;
type Peer = NonNullable<NonNullable<Status["bgp"]>["peersV4"]>[number];
type RouteEntry = NonNullable<NonNullable<Status["routes"]>["routesV4"]>[number];

/** A route of the tables, as far as a report goes. */
export interface RouteRow {
  readonly destination: string;
  /** Absent: it leads to hosts on a link, or nowhere. */
  readonly gateway?: string;
  /** Absent: the kernel has no route for the destination. */
  readonly interface?: string;
  /** Name of the peer it is from; `kernel`: found in the kernel; `direct`: the prefix of an interface; `static`: one of our own. */
  readonly from: { readonly peer: string; readonly address: string } | "kernel" | "direct" | "static";
  /** Packets take it. */
  readonly used: boolean;
}

export interface NodeFacts {
  readonly daemon: DaemonReport;
  readonly peers: readonly PeerReport[];
  /** Asked for only when routes are to be reported. */
  readonly routes: () => readonly RouteRow[];
}

/** Without `lastUpdated`. */
export function nodeStatus(classes: readonly NodeStatusClass[], facts: NodeFacts): Omit<Status, "lastUpdated"> {
  return {
    ...(classes.includes("Agent") && { agent: agentStatus(facts.daemon) }),
    ...(classes.includes("BGP") && { bgp: bgpStatus(facts.peers) }),
    ...(classes.includes("Routes") && { routes: routesStatus(facts.routes()) }),
  };
}

function agentStatus({
  reconfiguredAt,
  restarting,
  routerId,
  startedAt,
  version,
}: DaemonReport): NonNullable<Status["agent"]> {
  const bird = {
    state: reconfiguredAt === undefined || restarting ? ("NotReady" as const) : ("Ready" as const),
    version,
    routerID: routerId ?? "",
    lastBootTime: timeText(startedAt),
    lastReconfigurationTime: reconfiguredAt === undefined ? "" : timeText(reconfiguredAt),
  };
  return { birdV4: bird, birdV6: bird };
}

function bgpStatus(peers: readonly PeerReport[]): NonNullable<Status["bgp"]> {
  const [v4, v6] = ([4, 6] as const).map((family) => peers.filter(({ address }) => familyOf(address) === family));
  const up = (some: readonly PeerReport[] = []): number => some.filter(({ state }) => state === "Established").length;
  return {
    numberEstablishedV4: up(v4),
    numberNotEstablishedV4: (v4?.length ?? 0) - up(v4),
    numberEstablishedV6: up(v6),
    numberNotEstablishedV6: (v6?.length ?? 0) - up(v6),
    peersV4: v4?.map(peerEntry) ?? [],
    peersV6: v6?.map(peerEntry) ?? [],
  };
}

const peerEntry = ({ address, name, since, state }: PeerReport): Peer => ({
  peerIP: address,
  type: name.startsWith("Mesh_") ? "NodeMesh" : name.startsWith("Node_") ? "NodePeer" : "GlobalPeer",
  state,
  since: timeText(since),
});

function routesStatus(routes: readonly RouteRow[]): NonNullable<Status["routes"]> {
  const of = (family: 4 | 6): RouteEntry[] =>
    routes.filter(({ destination }) => familyOf(destination) === family).map(routeEntry);
  return { routesV4: of(4), routesV6: of(6) };
}

const routeEntry = ({ destination, from, gateway = "N/A", interface: name = "", used }: RouteRow): RouteEntry => ({
  type: used ? "FIB" : "RIB",
  destination,
  gateway,
  interface: from === "static" ? "blackhole" : name,
  learnedFrom: sourceOf(from),
});

const OWN_SOURCES = { static: "Static", kernel: "Kernel", direct: "Direct" } as const;

function sourceOf(from: RouteRow["from"]): NonNullable<RouteEntry["learnedFrom"]> {
  if (typeof from === "string") return { sourceType: OWN_SOURCES[from] };
  return { sourceType: from.peer.startsWith("Mesh_") ? "NodeMesh" : "BGPPeer", peerIP: from.address };
}

const familyOf = (text: string): 4 | 6 => (text.includes(":") ? 6 : 4);

/** `2026-01-02 03:04:05`, UTC, as BIRD writes it. */
const timeText = (iso: string): string => iso.slice(0, 19).replace("T", " ");
