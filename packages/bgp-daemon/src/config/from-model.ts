/**
 * START HERE for the configuration. Calico's resources → the daemon's configuration, as a function of values:
 *
 *   checked.ts     which versions of BGPConfiguration, BGPPeer and BGPFilter count
 *   sessions.ts    which sessions this node has: mesh, global and node peers, reverse peering, pods
 *   peer-terms.ts  the terms of each: AS numbers, timers, passwords, TTL security, addresses, filters
 *   services.ts    service addresses that this node announces
 *   filters.ts     what is told and taken: BGPFilters, pools, blocks, communities
 *   forwarding.ts  what of it the kernel gets, and what is taken from the kernel
 *
 * What cannot be honoured safely is left out and said: a session that needs a password is not opened without it, a filter that is wrong lets nothing through.
 */
import type { FilterRule } from "@calico-ts/bgp";
import { addressBits, type Family, type IpAddress, type Prefix, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { sha256Hex } from "@calico-ts/std";
import type { DaemonConfig, OwnRoute } from "../daemon.ts";
import { localPrefOf } from "../priority.ts";
import { exportRules } from "./filters.ts";
import { forwardingTerms, notProgrammed, routesPool, tunnelDevices } from "./forwarding.ts";
import type { ModelInput, ModelResult } from "./model-input.ts";
import { FilterShop, peerTerms } from "./peer-terms.ts";
import { EXCLUDE_LABEL, serviceRoutes, type ServiceRoutes } from "./services.ts";
import { sessionsOf } from "./sessions.ts";
import {
  addressOf,
  asOf,
  configuredPort,
  DEFAULT_PORT,
  FAMILIES,
  given,
  priorityOf,
  type World,
  worldOf,
} from "./world.ts";

const MAX_PATHS = 64;

export function configFromModel(input: ModelInput): ModelResult {
  const self = input.nodes.find((node) => node.name === input.nodeName);
  const object = `Node ${input.nodeName}`;
  const none = (why: string, whatToDo: string): ModelResult => ({
    config: undefined,
    problems: [{ object, field: "", why, whatToDo }],
    secrets: input.previous?.secrets ?? [],
    lastGood: input.previous?.lastGood ?? new Map(),
  });
  if (self === undefined) return none("it is not in the datastore", "BGP waits for it");
  const routerId = routerIdOf(input, addressOf(self, 4));
  if (routerId === undefined) {
    const why = given(input.routerId)
      ? `CALICO_ROUTER_ID is "${input.routerId}", which is neither an IPv4 address nor "hash"`
      : "it has no IPv4 address to take as router id";
    return none(why, "Set CALICO_ROUTER_ID to an IPv4 address, or to hash");
  }
  const world = worldOf(input, self);
  const clusterId = clusterIdOf(world);
  const config = world.settingsUnknown ? undefined : daemonConfig(world, routerId, clusterId);
  return { config, problems: world.problems, secrets: [...world.secrets.values()], lastGood: world.lastGood };
}

function daemonConfig(world: World, routerId: number, clusterId: number | undefined): DaemonConfig {
  const { input, self, cluster } = world;
  const services = serviceRoutes({
    configuration: cluster,
    clusterOverride: input.advertiseClusterIps,
    services: input.services,
    slices: input.slices,
    node: given(input.kubernetesNodeName) ? input.kubernetesNodeName : self.name,
    excluded: self.labels[EXCLUDE_LABEL] === "true",
  });
  const blocks = ownBlocks(world);
  const filters = new FilterShop(world, {
    4: exportsOf(world, { family: 4, blocks, services }),
    6: exportsOf(world, { family: 6, blocks, services }),
  });
  const terms = sessionsOf(world).map((session) => peerTerms(world, session, filters));
  const own = [...blocks.filter((block) => block.length < addressBits(block.family)), ...services.routes];
  return {
    speaker: {
      as: asOf(world, self),
      routerId,
      ...(clusterId !== undefined && { clusterId }),
      peers: terms.map(({ peer }) => peer),
      maxPaths: MAX_PATHS,
    },
    listen: listenPlaces(world),
    reach: new Map(terms.map(({ peer, reach }) => [peer.name, reach])),
    routes: own.map(
      (prefix): OwnRoute => ({ prefix, attributes: { localPref: localPrefOf(priorityOf(world, prefix.family)) } }),
    ),
    notProgrammed: [...services.ranges, ...notProgrammed(world)],
    routeMetric: priorityOf(world, 4),
    forwarding: forwardingTerms(
      world,
      terms.flatMap(({ hostRoute }) => hostRoute ?? []),
    ),
  };
}

/** CALICO_ROUTER_ID, or the node's IPv4 address: a number of 32 bits, not 0. */
function routerIdOf({ routerId, nodeName }: ModelInput, address: IpAddress | undefined): number | undefined {
  if (routerId === "hash") return hashedRouterId(nodeName);
  const chosen = given(routerId) ? tryParseAddress(routerId) : address;
  return chosen?.family === 4 && chosen.value > 0n ? Number(chosen.value) : undefined;
}

/** As upstream hashes: the first four bytes of the name's SHA-256, moved out of the range that is not for hosts. */
function hashedRouterId(name: string): number {
  const hash = Number.parseInt(sha256Hex(name).slice(0, 8), 16);
  const first = hash >>> 24;
  return first > 223 ? hash - 32 * 0x1000000 : hash;
}

function clusterIdOf({ self, problems }: World): number | undefined {
  if (!given(self.routeReflectorClusterId)) return undefined;
  const address = tryParseAddress(self.routeReflectorClusterId);
  if (address?.family === 4 && address.value > 0n) return Number(address.value);
  problems.push({
    object: `Node ${self.name}`,
    field: "spec.bgp.routeReflectorClusterID",
    why: `"${self.routeReflectorClusterId}" is no cluster id (RFC 4456)`,
    whatToDo: "The router id is used; write it like an IPv4 address other than 0.0.0.0",
  });
  return undefined;
}

/** Blocks that are certainly this node's: what is being claimed or given back may be another's by now. */
function ownBlocks({ input, self }: World): Prefix[] {
  return input.affinities
    .filter(({ spec }) => {
      const confirmed = spec.state === "confirmed" || spec.state === "";
      return spec.node === self.name && confirmed && spec.type !== "virtual" && !spec.deleted;
    })
    .flatMap(({ spec }) => tryParsePrefix(spec.cidr, "mask") ?? [])
    .toSorted((a, b) => a.family - b.family || (a.value < b.value ? -1 : 1));
}

function exportsOf(
  world: World,
  of: { readonly family: Family; readonly blocks: readonly Prefix[]; readonly services: ServiceRoutes },
): readonly FilterRule[] {
  const { input, self, own, cluster } = world;
  return exportRules({
    family: of.family,
    pools: input.pools
      .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
      .flatMap((pool) => {
        const prefix = tryParsePrefix(pool.spec.cidr, "mask");
        if (prefix === undefined) return [];
        const hidden = pool.spec.disableBGPExport === true;
        return [{ name: pool.metadata.name, prefix, hidden, routedByOthers: !routesPool(world, pool) }];
      }),
    blocks: of.blocks,
    services: of.services.prefixes,
    reflected: given(self.routeReflectorClusterId) ? of.services.reflected : [],
    configurations: [own, cluster],
    priority: priorityOf(world, of.family),
    ipipByOthers: !tunnelDevices(world),
  });
}

function listenPlaces(world: World): DaemonConfig["listen"] {
  const { self, cluster } = world;
  const port = configuredPort(world, self) ?? DEFAULT_PORT;
  return FAMILIES.flatMap((family) => {
    const address = addressOf(self, family);
    if (address === undefined) return [];
    if (cluster.bindMode !== "NodeIP") return [{ address: { family, value: 0n }, port }];
    const forPods = tryParseAddress(
      (family === 4 ? cluster.localWorkloadPeeringIPV4 : cluster.localWorkloadPeeringIPV6) ?? "",
    );
    // The agent puts this one on pods' interfaces.
    return [{ address, port }, ...(forPods === undefined ? [] : [{ address: forPods, port, freeBind: true }])];
  });
}
