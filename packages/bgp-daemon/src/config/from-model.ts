/**
 * Calico's resources → the daemon's configuration, as a function: the node-to-node mesh, global and node peers, selectors with reverse peering, route reflectors,
 * AS numbers, filters, and the node's own blocks. What cannot be honoured safely is left out and said: a peer with a password or TTL security is not peered with
 * without them.
 */
import type { PeerConfig } from "@calico-ts/bgp";
import type { BGPConfiguration, BGPPeer, CalicoNode } from "@calico-ts/model";
import { type Family, formatAddress, type IpAddress, parsePrefix, tryParseAddress } from "@calico-ts/net";
import { parseSelector } from "@calico-ts/selector";
import { errorText } from "@calico-ts/std";
import type { DaemonConfig } from "../daemon.ts";
import type { ConnectTo } from "../session/connections.ts";
import { exportFilter, importFilter } from "./filters.ts";
import type { ModelInput, ModelResult, Problem } from "./model-input.ts";

const DEFAULT_AS = 64_512;
const DEFAULT_PORT = 179;
const DEFAULT_RESTART_SECONDS = 120;
const DEFAULT_METRIC = 1024;

interface Context extends ModelInput {
  readonly self: CalicoNode;
  readonly cluster: BGPConfiguration["spec"];
  readonly problems: Problem[];
}

/** A session that somebody wants, before names and duplicates are settled. */
interface Session {
  readonly name: string;
  readonly address: IpAddress;
  readonly port: number;
  readonly remoteAs: number;
  /** The peer, when it is one of our nodes. */
  readonly node: CalicoNode | undefined;
  readonly peer: BGPPeer | undefined;
}

export function configFromModel(input: ModelInput): ModelResult {
  const self = input.nodes.find((node) => node.name === input.nodeName);
  const problems: Problem[] = [];
  const none = (object: string, why: string, whatToDo: string): ModelResult => ({
    config: undefined,
    problems: [{ object, field: "", why, whatToDo }],
    secrets: [],
    lastGood: new Map(),
  });
  if (self === undefined) return none(`Node ${input.nodeName}`, "it is not in the datastore yet", "Wait for it");
  const address4 = addressOf(self, 4);
  const routerId = Number((tryParseAddress(input.routerId ?? "") ?? address4)?.value ?? 0n);
  if (routerId === 0)
    return none(`Node ${self.name}`, "it has no IPv4 address to take as router id", "Set CALICO_ROUTER_ID");
  const cluster = input.configurations.find((one) => one.metadata.name === "default")?.spec ?? {};
  const context: Context = { ...input, self, cluster, problems };
  const sessions = unique([...explicitSessions(context), ...meshSessions(context)]);
  const peers = sessions.flatMap((session) => peerConfig(context, session));
  const names = new Set(peers.map((peer) => peer.name));
  const clusterId = tryParseAddress(self.routeReflectorClusterId ?? "");
  return {
    config: {
      speaker: {
        as: asOf(context, self),
        routerId,
        ...(clusterId?.family === 4 && { clusterId: Number(clusterId.value) }),
        peers,
        maxPaths: 64,
      },
      listen: listenPlaces(context),
      reach: new Map(
        sessions.filter(({ name }) => names.has(name)).map((session) => [session.name, reach(context, session)]),
      ),
      routes: input.affinities
        .filter(({ spec }) => spec.node === self.name && spec.state === "confirmed" && spec.type !== "virtual")
        .map(({ spec }) => ({ prefix: parsePrefix(spec.cidr, "mask"), attributes: {} })),
      notProgrammed: notProgrammed(context),
      routeMetric: cluster.ipv4NormalRoutePriority ?? DEFAULT_METRIC,
    },
    problems,
    secrets: [],
    lastGood: new Map(),
  };
}

/** Every node of the family except reflectors; a reflector has no mesh. */
function meshSessions(context: Context): Session[] {
  const { self, nodes, cluster } = context;
  if (cluster.nodeToNodeMeshEnabled === false || self.routeReflectorClusterId !== undefined) return [];
  return nodes
    .filter((node) => node.name !== self.name && node.routeReflectorClusterId === undefined)
    .flatMap((node) => toNode(context, node, { prefix: "Mesh", peer: undefined }));
}

/** Global peers first: of two that want the same session, the first is taken. */
function explicitSessions(context: Context): Session[] {
  const isGlobal = ({ spec }: BGPPeer): boolean => !given(spec.node) && !given(spec.nodeSelector);
  const ordered = [...context.peers.filter(isGlobal), ...context.peers.filter((peer) => !isGlobal(peer))];
  return ordered.flatMap((peer) => {
    try {
      return sessionsOf(context, peer, isGlobal(peer) ? "Global" : "Node");
    } catch (error) {
      context.problems.push(note(`BGPPeer ${peer.metadata.name}`, `${errorText(error)}`));
      return [];
    }
  });
}

function sessionsOf(context: Context, peer: BGPPeer, prefix: string): Session[] {
  const { self, nodes } = context;
  const { spec } = peer;
  if (given(spec.localWorkloadSelector)) {
    context.problems.push(note(`BGPPeer ${peer.metadata.name}`, `peering with local workloads is not supported`));
    return [];
  }
  const sessions: Session[] = [];
  const applies = selectsNode(peer, self);
  const wanted = given(spec.peerSelector) ? parseSelector(spec.peerSelector) : undefined;
  const others = nodes.filter((node) => node.name !== self.name);
  if (applies && wanted !== undefined) {
    sessions.push(
      ...others
        .filter((node) => wanted.matches(labelsOf(node)))
        .flatMap((node) => toNode(context, node, { prefix, peer })),
    );
  }
  if (applies && given(spec.peerIP)) sessions.push(...toAddress(context, peer, spec.peerIP, prefix));
  // A node that is selected as a peer gets the session back without a resource of its own.
  if (wanted?.matches(labelsOf(self)) === true && spec.reversePeering !== "Manual") {
    sessions.push(
      ...others.filter((node) => selectsNode(peer, node)).flatMap((node) => toNode(context, node, { prefix, peer })),
    );
  }
  return sessions;
}

function toNode(
  context: Context,
  node: CalicoNode,
  via: { readonly prefix: string; readonly peer: BGPPeer | undefined },
): Session[] {
  return ([4, 6] as const).flatMap((family) => {
    const address = addressOf(node, family);
    if (address === undefined || addressOf(context.self, family) === undefined) return [];
    const remoteAs = asOf(context, node);
    return [
      { name: nameOf(via.prefix, address), address, port: portOf(context, node), remoteAs, node, peer: via.peer },
    ];
  });
}

function toAddress(context: Context, peer: BGPPeer, peerIP: string, prefix: string): Session[] {
  const { address, port } = parsePeerIp(peerIP);
  if (address === undefined) {
    context.problems.push(note(`BGPPeer ${peer.metadata.name}`, `peerIP "${peerIP}" is not an address`));
    return [];
  }
  const mine = addressOf(context.self, address.family);
  if (mine !== undefined && mine.value === address.value) return [];
  const node = context.nodes.find((one) => addressOf(one, address.family)?.value === address.value);
  const suffix = port === undefined ? "" : `_port_${port}`;
  return [
    {
      name: `${nameOf(prefix, address)}${suffix}`,
      address,
      port: port ?? (node === undefined ? DEFAULT_PORT : portOf(context, node)),
      remoteAs: peer.spec.asNumber ?? (node === undefined ? clusterAs(context) : asOf(context, node)),
      node,
      peer,
    },
  ];
}

function peerConfig(context: Context, session: Session): PeerConfig[] {
  const { self, cluster, problems } = context;
  const { name, address, remoteAs, node, peer } = session;
  const spec = peer?.spec ?? {};
  const missing = unsupported(context, session);
  if (missing !== undefined) {
    problems.push(note(name, `no session, because ${missing} is not supported and going without it would not be safe`));
    return [];
  }
  const { family } = address;
  const localAs = spec.localASNumber ?? asOf(context, self);
  const mine = addressOf(self, family);
  const reflects = self.routeReflectorClusterId !== undefined && localAs === remoteAs;
  const filters = (spec.filters ?? []).flatMap((wanted) => {
    const found = context.filters.find((filter) => filter.metadata.name === wanted);
    if (found === undefined)
      problems.push(note(`BGPPeer ${peer?.metadata.name ?? ""}`, `there is no BGPFilter ${wanted}`));
    return found ?? [];
  });
  const restart = durationSeconds(peer === undefined ? cluster.nodeMeshMaxRestartTime : spec.maxRestartTime);
  const keepalive = durationSeconds(spec.keepaliveTime);
  const keeps = spec.nextHopMode === "Keep" || (spec.keepOriginalNextHop === true && localAs !== remoteAs);
  const input = {
    pools: context.pools,
    configuration: cluster,
    filters,
    family,
    isReflector: self.routeReflectorClusterId !== undefined,
  };
  return [
    {
      name,
      address,
      remoteAs,
      ...(spec.localASNumber !== undefined && { localAs }),
      families: [family === 4 ? "ipv4-unicast" : "ipv6-unicast"],
      // The mesh is dialled from one side only; of the two, the one with the greater address in text.
      ...(peer === undefined && mine !== undefined && { passive: formatAddress(address) > formatAddress(mine) }),
      ...(reflects && node?.routeReflectorClusterId !== self.routeReflectorClusterId && { reflectorClient: true }),
      ...(keepalive !== undefined && { timers: { keepaliveSeconds: keepalive } }),
      gracefulRestart: { restartSeconds: restart ?? DEFAULT_RESTART_SECONDS },
      addPath: { receive: true, send: true },
      ...(spec.numAllowedLocalASNumbers !== undefined && { allowedLocalAs: spec.numAllowedLocalASNumbers }),
      nextHop: spec.nextHopMode === "Self" ? "self" : keeps ? "keep" : "auto",
      ...(mine !== undefined && { nextHopSelf: family === 4 ? { ipv4: mine } : { ipv6: mine } }),
      importFilter: importFilter(filters, family),
      exportFilter: exportFilter(input),
    },
  ];
}

/** What the peer asks for and the daemon does not have; undefined: nothing. */
function unsupported({ cluster }: Context, { peer }: Session): string | undefined {
  if (peer === undefined) return cluster.nodeMeshPassword === undefined ? undefined : "a mesh password";
  if (peer.spec.password !== undefined) return "a password";
  if (peer.spec.ttlSecurity !== undefined) return "TTL security";
  return given(peer.spec.reachableBy) ? "reachableBy" : undefined;
}

function reach({ self }: Context, { address, port, peer }: Session): ConnectTo {
  const source = peer?.spec.sourceAddress === "None" ? undefined : addressOf(self, address.family);
  return { address, port, ...(source !== undefined && { sourceAddress: source }) };
}

function listenPlaces(context: Context): DaemonConfig["listen"] {
  const { self, cluster } = context;
  const port = portOf(context, self);
  return ([4, 6] as const).flatMap((family) => {
    const address = addressOf(self, family);
    if (address === undefined) return [];
    return [{ address: cluster.bindMode === "NodeIP" ? address : { family, value: 0n }, port }];
  });
}

/** Encapsulated pools are the agent's unless the configuration says that we program them, which only un-encapsulated ones can be. */
function notProgrammed({ pools, cluster }: Context): DaemonConfig["notProgrammed"] {
  const none = cluster.programClusterRoutes === "Disabled" || cluster.programClusterRoutes === "EnabledIPIPOnly";
  return pools
    .filter(({ spec }) => none || (spec.vxlanMode ?? "Never") !== "Never" || (spec.ipipMode ?? "Never") !== "Never")
    .map(({ spec }) => parsePrefix(spec.cidr, "mask"));
}

const note = (object: string, why: string): Problem => ({ object, field: "", why, whatToDo: "Mend it" });

const given = (text: string | undefined): text is string => text !== undefined && text !== "";

function selectsNode({ spec }: BGPPeer, node: CalicoNode): boolean {
  if (given(spec.node)) return spec.node === node.name;
  return !given(spec.nodeSelector) || parseSelector(spec.nodeSelector).matches(labelsOf(node));
}

const labelsOf = ({ labels }: CalicoNode): ReadonlyMap<string, string> => new Map(Object.entries(labels));

function addressOf(node: CalicoNode, family: Family): IpAddress | undefined {
  const text = family === 4 ? node.ipv4Address : node.ipv6Address;
  return tryParseAddress(text?.replace(/\/.*$/, "") ?? "");
}

const clusterAs = ({ cluster }: Context): number => cluster.asNumber ?? DEFAULT_AS;
const asOf = (context: Context, node: CalicoNode): number => node.asNumber ?? clusterAs(context);

function portOf({ configurations, cluster }: Context, node: CalicoNode): number {
  const own = configurations.find((one) => one.metadata.name === `node.${node.name}`)?.spec.listenPort;
  return own ?? cluster.listenPort ?? DEFAULT_PORT;
}

const nameOf = (prefix: string, address: IpAddress): string =>
  `${prefix}_${formatAddress(address).replaceAll(/[.:]/g, "_")}`;

/** `10.0.0.1`, `10.0.0.1:1790`, `fd00::1`, `[fd00::1]:1790`. */
function parsePeerIp(text: string): { readonly address: IpAddress | undefined; readonly port: number | undefined } {
  const match = /^\[(.+)\]:(\d+)$/.exec(text) ?? /^([^:]+):(\d+)$/.exec(text);
  return {
    address: tryParseAddress(match?.[1] ?? text),
    port: match?.[2] === undefined ? undefined : Number(match[2]),
  };
}

/** `90s`, `2m`, `1m30s`, as Kubernetes writes durations. */
function durationSeconds(text: string | undefined): number | undefined {
  if (!given(text)) return undefined;
  const units: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 0.001 };
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)];
  if (parts.length === 0) return undefined;
  return Math.max(
    1,
    Math.round(parts.reduce((sum, [, value, unit]) => sum + Number(value) * (units[unit ?? ""] ?? 0), 0)),
  );
}

/** One session per address and port. */
function unique(sessions: readonly Session[]): Session[] {
  const seen = new Map<string, Session>();
  for (const session of sessions) {
    const key = `${formatAddress(session.address)} ${session.port}`;
    if (!seen.has(key)) seen.set(key, session);
  }
  return [...seen.values()];
}
