/**
 * Kubernetes Node ↔ Calico's view of a node. What Calico knows about a node that Kubernetes does not is kept in annotations
 * of the Node; an annotation that cannot be read counts as absent.
 */
import { formatMac, parseMac, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import type { Node } from "../kubernetes/core.ts";
import { parseAsNumber } from "./as-number.ts";

export interface NodeAddress {
  readonly address: string;
  readonly type: "CalicoNodeIP" | "InternalIP" | "ExternalIP";
}

export interface NodeInterface {
  readonly name: string;
  readonly addresses: readonly string[];
}

/** What is stored in annotations, in the form it is stored: addresses as text. */
export interface NodeNetwork {
  /** `address/length`: the address and the subnet it is in. */
  readonly ipv4Address?: string;
  readonly ipv6Address?: string;
  readonly asNumber?: number;
  readonly ipv4IpipTunnelAddress?: string;
  readonly ipv4VxlanTunnelAddress?: string;
  readonly vxlanTunnelMac?: string;
  readonly ipv6VxlanTunnelAddress?: string;
  readonly vxlanTunnelMacV6?: string;
  readonly ipv4WireguardAddress?: string;
  readonly ipv6WireguardAddress?: string;
  readonly wireguardPublicKey?: string;
  readonly wireguardPublicKeyV6?: string;
  readonly routeReflectorClusterId?: string;
  readonly interfaces?: readonly NodeInterface[];
}

export interface CalicoNode extends NodeNetwork {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Calico's own addresses first, then Kubernetes' internal and external ones; no duplicates. */
  readonly addresses: readonly NodeAddress[];
  readonly podCidrs: readonly string[];
}

/** A change: undefined leaves a field as it is, null removes it. */
export type NodeNetworkChange = { readonly [K in keyof NodeNetwork]: NodeNetwork[K] | null | undefined };

interface Field {
  readonly key: string;
  /** The value in its usual spelling; undefined when it cannot be read. */
  readonly read: (text: string) => unknown;
}

const v4 = (text: string): string | undefined => (tryParseAddress(text)?.family === 4 ? text : undefined);
const v6 = (text: string): string | undefined => (tryParseAddress(text)?.family === 6 ? text : undefined);
const text = (value: string): string | undefined => (value === "" ? undefined : value);

/** A bare address is in a subnet of its own. */
const inSubnet =
  (family: 4 | 6) =>
  (value: string): string | undefined => {
    if (tryParsePrefix(value, "mask")?.family !== family) return undefined;
    return value.includes("/") ? value : `${value}/${family === 4 ? 32 : 128}`;
  };

function mac(value: string): string | undefined {
  try {
    return formatMac(parseMac(value));
  } catch {
    return undefined;
  }
}

function clusterId(value: string): string | undefined {
  return v4(value);
}

function interfaces(value: string): NodeInterface[] | undefined {
  try {
    const parsed: unknown = JSON.parse(value);
    return Array.isArray(parsed) ? parsed.filter(isInterface) : undefined;
  } catch {
    return undefined;
  }
}

function isInterface(value: unknown): value is NodeInterface {
  if (typeof value !== "object" || value === null || !("name" in value) || !("addresses" in value)) return false;
  const { name, addresses } = value;
  return typeof name === "string" && Array.isArray(addresses) && addresses.every((item) => typeof item === "string");
}

const FIELDS: { readonly [K in keyof Required<NodeNetwork>]: Field } = {
  ipv4Address: { key: "IPv4Address", read: inSubnet(4) },
  ipv6Address: { key: "IPv6Address", read: inSubnet(6) },
  asNumber: { key: "ASNumber", read: parseAsNumber },
  ipv4IpipTunnelAddress: { key: "IPv4IPIPTunnelAddr", read: v4 },
  ipv4VxlanTunnelAddress: { key: "IPv4VXLANTunnelAddr", read: v4 },
  vxlanTunnelMac: { key: "VXLANTunnelMACAddr", read: mac },
  ipv6VxlanTunnelAddress: { key: "IPv6VXLANTunnelAddr", read: v6 },
  vxlanTunnelMacV6: { key: "VXLANTunnelMACAddrV6", read: mac },
  ipv4WireguardAddress: { key: "IPv4WireguardInterfaceAddr", read: v4 },
  ipv6WireguardAddress: { key: "IPv6WireguardInterfaceAddr", read: v6 },
  wireguardPublicKey: { key: "WireguardPublicKey", read: text },
  wireguardPublicKeyV6: { key: "WireguardPublicKeyV6", read: text },
  routeReflectorClusterId: { key: "RouteReflectorClusterID", read: clusterId },
  interfaces: { key: "Interfaces", read: interfaces },
};

const PREFIX = "projectcalico.org/";

/** The annotation that holds a field. */
export const nodeAnnotationKey = (field: keyof NodeNetwork): string => PREFIX + FIELDS[field].key;

export function calicoNodeFromKubernetes(node: Node): CalicoNode {
  const network = nodeNetwork(node.metadata.annotations ?? {});
  return {
    name: node.metadata.name,
    labels: node.metadata.labels ?? {},
    addresses: nodeAddresses(node, network),
    podCidrs: node.spec?.podCIDRs ?? (node.spec?.podCIDR === undefined ? [] : [node.spec.podCIDR]),
    ...network,
  };
}

export function nodeNetwork(annotations: Readonly<Record<string, string>>): NodeNetwork {
  const entries = Object.entries(FIELDS).flatMap(([name, { key, read }]): [string, unknown][] => {
    const value = annotations[PREFIX + key];
    const parsed = value === undefined ? undefined : read(value.trim());
    return parsed === undefined ? [] : [[name, parsed]];
  });
  return Object.fromEntries(entries);
}

/** Annotations for a merge patch: null removes one. */
export function nodeAnnotations(change: Partial<NodeNetworkChange>): Record<string, string | null> {
  const annotations: Record<string, string | null> = {};
  for (const [name, value] of Object.entries(change)) {
    const field = Object.entries(FIELDS).find(([known]) => known === name)?.[1];
    if (field === undefined || value === undefined) continue;
    annotations[PREFIX + field.key] =
      value === null ? null : typeof value === "object" ? JSON.stringify(value) : String(value);
  }
  return annotations;
}

function nodeAddresses(node: Node, network: NodeNetwork): NodeAddress[] {
  const own = [network.ipv4Address, network.ipv6Address].flatMap((address): NodeAddress[] =>
    address === undefined ? [] : [{ address, type: "CalicoNodeIP" }],
  );
  const kubernetes = (node.status?.addresses ?? []).flatMap(({ type, address }): NodeAddress[] =>
    (type === "InternalIP" || type === "ExternalIP") && tryParseAddress(address) !== undefined
      ? [{ address, type }]
      : [],
  );
  const seen = new Set<string>();
  return [...own, ...kubernetes].filter(({ address, type }) => {
    const id = `${type} ${address}`;
    return seen.has(id) ? false : seen.add(id);
  });
}
