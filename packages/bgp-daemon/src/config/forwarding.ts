/**
 * Who programs which routes (decision 0008). VXLAN pools are the agent's, near and far halves alike. `programClusterRoutes` of BGPConfiguration says whether the
 * daemon has un-encapsulated pools (by default it has) and IPIP pools (by default the agent has them); the agent's parameter of that name has to say the opposite.
 * Routes outside pools are always the daemon's.
 */
import type { IPPool } from "@calico-ts/model";
import { type Prefix, tryParsePrefix } from "@calico-ts/net";
import type { ForwardingTerms, HostRoute, TunnelTerms } from "../kernel/terms.ts";
import { addressOf, FAMILIES, given, priorityOf, subnetOf, type World } from "./world.ts";

export const IPIP_DEVICE = "tunl0";

type Encapsulation = "vxlan" | "ipip" | "none";

function encapsulationOf({ spec }: IPPool): Encapsulation {
  if ((spec.vxlanMode ?? "Never") !== "Never") return "vxlan";
  return (spec.ipipMode ?? "Never") === "Never" ? "none" : "ipip";
}

/** Does the daemon program IPIP routes? */
export function tunnelDevices({ cluster }: World): boolean {
  return cluster.programClusterRoutes === "Enabled" || cluster.programClusterRoutes === "EnabledIPIPOnly";
}

/** Does the daemon program routes to other nodes' addresses in the pool? */
export function routesPool(world: World, pool: IPPool): boolean {
  const { programClusterRoutes = "EnabledNoEncapOnly" } = world.cluster;
  switch (encapsulationOf(pool)) {
    case "vxlan":
      return false;
    case "ipip":
      return tunnelDevices(world);
    case "none":
      return programClusterRoutes === "Enabled" || programClusterRoutes === "EnabledNoEncapOnly";
  }
}

const prefixOfPool = ({ spec }: IPPool): Prefix[] => {
  const prefix = tryParsePrefix(spec.cidr, "mask");
  return prefix === undefined ? [] : [prefix];
};

export const notProgrammed = (world: World): Prefix[] =>
  world.input.pools.filter((pool) => !routesPool(world, pool)).flatMap(prefixOfPool);

export function forwardingTerms(world: World, hostRoutes: readonly HostRoute[]): ForwardingTerms {
  const { input, self, cluster } = world;
  const subnet = subnetOf(self, 4);
  const tunnels = input.pools
    .filter((pool) => encapsulationOf(pool) === "ipip" && routesPool(world, pool))
    .flatMap((pool) =>
      prefixOfPool(pool).map((prefix): TunnelTerms => {
        const near = pool.spec.ipipMode === "CrossSubnet" && subnet !== undefined ? { exceptNextHops: subnet } : {};
        return { prefix, device: IPIP_DEVICE, ...near };
      }),
    );
  return {
    routeMetricV6: priorityOf(world, 6),
    notVia: wireguardPeers(world),
    tunnels,
    hostRoutes,
    learn: {
      ignoredInterfaces: cluster.ignoredInterfaces ?? [],
      priority: { 4: priorityOf(world, 4), 6: priorityOf(world, 6) },
    },
  };
}

/** Nodes that the agent reaches through WireGuard, when this node has it too. */
function wireguardPeers({ input, self }: World): ForwardingTerms["notVia"] {
  return FAMILIES.flatMap((family) => {
    const key = family === 4 ? "ipv4WireguardAddress" : "ipv6WireguardAddress";
    if (!given(self[key])) return [];
    return input.nodes
      .filter((node) => node.name !== self.name && given(node[key]))
      .flatMap((node) => addressOf(node, family) ?? []);
  });
}
