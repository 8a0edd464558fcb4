/**
 * Which sessions this node has, from whom and why. Peers are settled in this order, and of two that want the same address and port the first is taken:
 * peers of all nodes, peers of this node, sessions back to nodes that chose this one, pods of this node, the mesh.
 */
import type { BGPPeer, CalicoNode } from "@calico-ts/model";
import { type Family, formatAddress, type IpAddress, sameAddress, tryParseAddress } from "@calico-ts/net";
import { parseSelector } from "@calico-ts/selector";
import {
  addressOf,
  asOf,
  clusterAs,
  configuredPort,
  DEFAULT_PORT,
  FAMILIES,
  given,
  labelsOf,
  type World,
} from "./world.ts";

export type SessionKind = "Mesh" | "Global" | "Node" | "Local_Workload";

/** A session that somebody wants. */
export interface Session {
  readonly kind: SessionKind;
  /** `Mesh_10_0_0_2`, `Node_10_0_0_2_port_1790`: what operators of Calico know. */
  readonly name: string;
  readonly address: IpAddress;
  /** Of a link-local address. */
  readonly interface: string | undefined;
  readonly port: number;
  readonly remoteAs: number;
  /** The peer, when it is one of our nodes and was chosen as such. */
  readonly node: CalicoNode | undefined;
  readonly peer: BGPPeer | undefined;
  /** Wait for the other side. */
  readonly passive: boolean;
}

export function sessionsOf(world: World): Session[] {
  const isGlobal = ({ spec }: BGPPeer): boolean => !given(spec.node) && !given(spec.nodeSelector);
  const { peers } = world;
  const others = peers.filter((peer) => !isGlobal(peer));
  return unique([
    ...peers.filter(isGlobal).flatMap((peer) => forwards(world, peer, "Global")),
    ...others.filter((peer) => isOf(peer, world.self)).flatMap((peer) => forwards(world, peer, "Node")),
    ...peers.flatMap((peer) => backwards(world, peer)),
    ...peers.filter((peer) => isOf(peer, world.self)).flatMap((peer) => workloads(world, peer)),
    ...mesh(world),
  ]);
}

/** Is the node one that the resource makes peer? */
function isOf({ spec }: BGPPeer, node: CalicoNode): boolean {
  if (given(spec.node)) return spec.node === node.name;
  return !given(spec.nodeSelector) || parseSelector(spec.nodeSelector).matches(labelsOf(node));
}

/** Every node except reflectors; a reflector has no mesh. */
function mesh(world: World): Session[] {
  const { cluster, input, self } = world;
  if (cluster.nodeToNodeMeshEnabled === false || given(self.routeReflectorClusterId)) return [];
  return input.nodes
    .filter((node) => node.name !== self.name && !given(node.routeReflectorClusterId))
    .flatMap((node) => FAMILIES.flatMap((family) => toNode(world, node, { kind: "Mesh", family })));
}

function forwards(world: World, peer: BGPPeer, kind: "Global" | "Node"): Session[] {
  const { peerIP, peerSelector } = peer.spec;
  if (given(peerIP)) return toAddress(world, peer, { kind, peerIP });
  if (!given(peerSelector)) return [];
  const chosen = parseSelector(peerSelector);
  return world.input.nodes
    .filter((node) => node.name !== world.self.name && chosen.matches(labelsOf(node)))
    .flatMap((node) => FAMILIES.flatMap((family) => toNode(world, node, { kind, family, peer })));
}

/** A node that is somebody's peer gets the session back without a resource of its own. */
function backwards(world: World, peer: BGPPeer): Session[] {
  const { self, input } = world;
  if (peer.spec.reversePeering === "Manual") return [];
  const families = chosenFamilies(world, peer);
  if (families.length === 0) return [];
  const as = given(peer.spec.peerIP) && peer.spec.localASNumber ? { remoteAs: peer.spec.localASNumber } : {};
  return input.nodes
    .filter((node) => node.name !== self.name && isOf(peer, node))
    .flatMap((node) => families.flatMap((family) => toNode(world, node, { kind: "Node", family, peer, ...as })));
}

/** Over which families this node is the peer that the resource names. */
function chosenFamilies(world: World, { spec }: BGPPeer): readonly Family[] {
  const { self } = world;
  if (given(spec.peerSelector)) return parseSelector(spec.peerSelector).matches(labelsOf(self)) ? FAMILIES : [];
  if (!given(spec.peerIP)) return [];
  const { address, port } = parsePeerIp(spec.peerIP);
  const mine = address === undefined ? undefined : addressOf(self, address.family);
  if (address === undefined || mine === undefined || !sameAddress(mine, address)) return [];
  const remoteAs = spec.asNumber || clusterAs(world);
  return isReversed(world, { node: self, port, remoteAs }) ? [address.family] : [];
}

/** Whether a node that is named by its address makes the session back: the AS and the port have to be its own. */
function isReversed(
  world: World,
  of: { readonly node: CalicoNode | undefined; readonly port: number | undefined; readonly remoteAs: number },
): boolean {
  const { node, port, remoteAs } = of;
  if (node === undefined || remoteAs !== asOf(world, node)) return false;
  return port === undefined || port === (configuredPort(world, node) ?? DEFAULT_PORT);
}

interface NodeSession {
  readonly kind: SessionKind;
  readonly family: Family;
  readonly peer?: BGPPeer;
  /** Absent: the node's. */
  readonly remoteAs?: number;
}

function toNode(world: World, node: CalicoNode, of: NodeSession): Session[] {
  const { kind, family, peer, remoteAs = asOf(world, node) } = of;
  const address = addressOf(node, family);
  const mine = addressOf(world.self, family);
  if (address === undefined || mine === undefined || sameAddress(address, mine)) return [];
  const port = configuredPort(world, node);
  return [
    {
      kind,
      name: nameOf(kind, address, kind === "Mesh" ? undefined : port),
      address,
      interface: undefined,
      port: port ?? DEFAULT_PORT,
      remoteAs,
      node,
      peer,
      // The mesh is dialled from one side only: of the two, the one with the greater address in text.
      passive: kind === "Mesh" && formatAddress(address) > formatAddress(mine),
    },
  ];
}

function toAddress(
  world: World,
  peer: BGPPeer,
  { kind, peerIP }: { readonly kind: "Global" | "Node"; readonly peerIP: string },
): Session[] {
  const { address, port, zone } = parsePeerIp(peerIP);
  if (address === undefined) return [];
  const mine = addressOf(world.self, address.family);
  if (mine !== undefined && sameAddress(mine, address)) return [];
  const node = world.input.nodes.find((one) => isAt(one, address));
  const chosenPort = port ?? (node === undefined ? undefined : configuredPort(world, node));
  const remoteAs = peer.spec.asNumber || (node === undefined ? clusterAs(world) : asOf(world, node));
  const dialledBack =
    kind === "Global" && peer.spec.reversePeering !== "Manual" && isReversed(world, { node, port, remoteAs });
  return [
    {
      kind,
      name: nameOf(kind, address, chosenPort, zone),
      address,
      interface: zone,
      port: chosenPort ?? DEFAULT_PORT,
      remoteAs,
      node: undefined,
      peer,
      passive: dialledBack && mine !== undefined && formatAddress(address) > formatAddress(mine),
    },
  ];
}

const isAt = (node: CalicoNode, address: IpAddress): boolean => {
  const its = addressOf(node, address.family);
  return its !== undefined && sameAddress(its, address);
};

/** Pods of this node; they connect to us, at localWorkloadPeeringIPV4 and V6. */
function workloads({ input, self }: World, peer: BGPPeer): Session[] {
  const { localWorkloadSelector, asNumber } = peer.spec;
  if (!given(localWorkloadSelector) || !asNumber) return [];
  const chosen = parseSelector(localWorkloadSelector);
  return input.endpoints
    .filter((endpoint) => endpoint.node === self.name && chosen.matches(labelsOf(endpoint)))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(({ addresses }) =>
      FAMILIES.flatMap((family): Session[] => {
        const address = addresses
          .map((text) => tryParseAddress(text.replace(/\/.*$/, "")))
          .find((one) => one?.family === family);
        if (address === undefined) return [];
        const kind = "Local_Workload";
        const name = nameOf(kind, address, undefined);
        const common = { interface: undefined, port: DEFAULT_PORT, node: undefined, peer, passive: true };
        return [{ kind, name, address, remoteAs: asNumber, ...common }];
      }),
    );
}

/** Of a link-local address with its interface: the same one may be on several. */
function nameOf(kind: SessionKind, address: IpAddress, port: number | undefined, zone?: string): string {
  const text = formatAddress(address).replaceAll(/[.:]/g, "_");
  return [kind, text, ...(zone === undefined ? [] : [zone]), ...(port === undefined ? [] : ["port", port])].join("_");
}

interface PeerIp {
  readonly address: IpAddress | undefined;
  readonly port: number | undefined;
  /** The interface of a link-local address. */
  readonly zone: string | undefined;
}

/** `10.0.0.1`, `10.0.0.1:1790`, `fd00::1`, `[fd00::1]:1790`, `fe80::1%eth0`. */
export function parsePeerIp(text: string): PeerIp {
  const match = /^\[(.+)\]:(\d+)$/.exec(text) ?? /^([^:]+):(\d+)$/.exec(text);
  const [host = "", zone] = (match?.[1] ?? text).split("%");
  return { address: tryParseAddress(host), port: match?.[2] === undefined ? undefined : Number(match[2]), zone };
}

/** One session per address and port. */
function unique(sessions: readonly Session[]): Session[] {
  const seen = new Map<string, Session>();
  for (const session of sessions) {
    const key = `${formatAddress(session.address)} ${session.interface ?? ""} ${session.port}`;
    if (!seen.has(key)) seen.set(key, session);
  }
  return [...seen.values()];
}
