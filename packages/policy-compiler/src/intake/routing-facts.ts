/** Pools, blocks and nodes as facts and messages. */
import type { EncapsulationMode, HostAddresses, Pool } from "@calico-ts/dataplane-api";
import type { CalicoNode, IPAMBlock, IPPool } from "@calico-ts/model";
import type { Family } from "@calico-ts/net";
import { addressAt, formatAddress, formatPrefix, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import type { BlockFacts, NodeFacts } from "./facts.ts";

const MODES: Readonly<Record<string, EncapsulationMode>> = {
  Never: "never",
  Always: "always",
  CrossSubnet: "cross-subnet",
};

/** undefined: the CIDR is not one. */
export function poolMessage({ spec }: IPPool): Pool | undefined {
  const prefix = tryParsePrefix(spec.cidr, "mask");
  if (prefix === undefined) return undefined;
  const uses = spec.allowedUses ?? [];
  return {
    cidr: formatPrefix(prefix),
    ...(uses.length > 0 && uses.every((use) => use === "LoadBalancer") ? { loadBalancersOnly: true } : {}),
    natOutgoing: spec.natOutgoing === true,
    ipip: MODES[spec.ipipMode ?? "Never"] ?? "never",
    vxlan: MODES[spec.vxlanMode ?? "Never"] ?? "never",
  };
}

/** Addresses that a node other than the block's own holds are borrowed: they need routes of their own. */
export function blockFacts({ spec }: IPAMBlock): BlockFacts | undefined {
  const prefix = tryParsePrefix(spec.cidr, "mask");
  if (prefix === undefined || spec.deleted === true) return undefined;
  const affinity = spec.affinity ?? "";
  const owner = affinity.startsWith("host:") ? affinity.slice("host:".length) : undefined;
  const borrowed = spec.allocations.flatMap((index, ordinal) => {
    const attribute = index === null ? undefined : spec.attributes[index];
    const node = attribute?.releasedAt === undefined ? attribute?.secondary?.["node"] : undefined;
    if (node === undefined || node === owner) return [];
    return [{ address: formatAddress(addressAt(prefix, ordinal)), node }];
  });
  return { cidr: formatPrefix(prefix), ...(owner === undefined ? {} : { node: owner }), borrowed };
}

export function nodeFacts(node: CalicoNode): NodeFacts {
  const vxlan4 = vxlan(node.ipv4VxlanTunnelAddress, node.vxlanTunnelMac);
  const vxlan6 = vxlan(node.ipv6VxlanTunnelAddress, node.vxlanTunnelMacV6);
  const v4 = nodeAddress(node, 4);
  const v6 = nodeAddress(node, 6);
  const tunnels = [
    [node.ipv4IpipTunnelAddress, "ipip"],
    [node.ipv4VxlanTunnelAddress, "vxlan"],
    [node.ipv6VxlanTunnelAddress, "vxlan"],
    [node.ipv4WireguardAddress, "none"],
    [node.ipv6WireguardAddress, "none"],
  ] as const;
  return {
    labels: new Map(Object.entries(node.labels)),
    addresses: { ...(v4 === undefined ? {} : { 4: v4 }), ...(v6 === undefined ? {} : { 6: v6 }) },
    vxlan: { ...(vxlan4 === undefined ? {} : { 4: vxlan4 }), ...(vxlan6 === undefined ? {} : { 6: vxlan6 }) },
    tunnelAddresses: tunnels.flatMap(([address, via]) => (address === undefined ? [] : [{ address, via }])),
  };
}

export function hostAddresses(facts: NodeFacts): HostAddresses {
  const v4 = facts.addresses[4];
  const v6 = facts.addresses[6];
  return {
    ...(v4 === undefined ? {} : { ipv4: formatAddress(v4.address) }),
    ...(v6 === undefined ? {} : { ipv6: formatAddress(v6.address) }),
  };
}

/** Calico's own annotation; without it Kubernetes' internal address, which says nothing about a subnet. */
function nodeAddress(node: CalicoNode, family: Family): NodeFacts["addresses"][Family] {
  const own = family === 4 ? node.ipv4Address : node.ipv6Address;
  const texts = [
    ...(own === undefined ? [] : [own]),
    ...node.addresses.filter(({ type }) => type === "InternalIP").map(({ address }) => address),
  ];
  for (const text of texts) {
    const address = tryParseAddress(text.split("/", 1)[0] ?? "");
    const subnet = tryParsePrefix(text, "mask");
    if (address?.family === family && subnet !== undefined) return { address, subnet };
  }
  return undefined;
}

function vxlan(tunnelAddress: string | undefined, mac: string | undefined): NodeFacts["vxlan"][Family] {
  if (tunnelAddress === undefined) return undefined;
  return mac === undefined ? { tunnelAddress } : { tunnelAddress, mac };
}
