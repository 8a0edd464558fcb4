/**
 * A node in etcd is Calico's own Node resource; above the datastore it is a Kubernetes Node whose annotations hold what only Calico
 * knows. The table says which field is which annotation. Pure.
 */
import { CALICO_API_VERSION, type NodeNetwork, nodeAnnotationKey, parseAsNumber } from "@calico-ts/model";
import type { AnyResource } from "../resource.ts";

type Plain = Readonly<Record<string, unknown>>;

const FIELDS: Readonly<Record<keyof Required<NodeNetwork>, readonly string[]>> = {
  ipv4Address: ["spec", "bgp", "ipv4Address"],
  ipv6Address: ["spec", "bgp", "ipv6Address"],
  asNumber: ["spec", "bgp", "asNumber"],
  ipv4IpipTunnelAddress: ["spec", "bgp", "ipv4IPIPTunnelAddr"],
  routeReflectorClusterId: ["spec", "bgp", "routeReflectorClusterID"],
  ipv4VxlanTunnelAddress: ["spec", "ipv4VXLANTunnelAddr"],
  vxlanTunnelMac: ["spec", "vxlanTunnelMACAddr"],
  ipv6VxlanTunnelAddress: ["spec", "ipv6VXLANTunnelAddr"],
  vxlanTunnelMacV6: ["spec", "vxlanTunnelMACAddrV6"],
  ipv4WireguardAddress: ["spec", "wireguard", "interfaceIPv4Address"],
  ipv6WireguardAddress: ["spec", "wireguard", "interfaceIPv6Address"],
  interfaces: ["spec", "interfaces"],
  wireguardPublicKey: ["status", "wireguardPublicKey"],
  wireguardPublicKeyV6: ["status", "wireguardPublicKeyV6"],
};

const isObject = (value: unknown): value is Plain =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const at = (value: unknown, path: readonly string[]): unknown =>
  path.reduce<unknown>((found, step) => (isObject(found) ? found[step] : undefined), value);

function put(target: Record<string, unknown>, [first = "", ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    target[first] = value;
    return;
  }
  const inner: Record<string, unknown> = { ...(isObject(target[first]) ? target[first] : {}) };
  target[first] = inner;
  put(inner, rest, value);
}

const keyOf = (field: string): string => nodeAnnotationKey(field as keyof NodeNetwork);

export function nodeFromStored(name: string, value: Plain): AnyResource {
  const metadata = isObject(value["metadata"]) ? value["metadata"] : {};
  const annotations: Record<string, unknown> = {
    ...(isObject(metadata["annotations"]) ? metadata["annotations"] : {}),
  };
  for (const [field, path] of Object.entries(FIELDS)) {
    const found = at(value, path);
    if (found === undefined || found === null) continue;
    annotations[keyOf(field)] = typeof found === "string" ? found : JSON.stringify(found);
  }
  const addresses = at(value, ["spec", "addresses"]);
  const podCIDRs = at(value, ["status", "podCIDRs"]);
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { ...metadata, name, annotations } as AnyResource["metadata"],
    spec: podCIDRs === undefined ? {} : { podCIDRs },
    status: {
      addresses: Array.isArray(addresses)
        ? addresses.filter((item) => isObject(item) && (item["type"] === "InternalIP" || item["type"] === "ExternalIP"))
        : [],
    },
  };
}

export function nodeToStored(node: AnyResource): AnyResource {
  const { annotations: all = {}, ...metadata } = node.metadata as Plain & { annotations?: Record<string, string> };
  const annotations = { ...all };
  const stored: Record<string, unknown> = {
    apiVersion: CALICO_API_VERSION,
    kind: "Node",
    spec: { orchRefs: [{ nodeName: node.metadata.name, orchestrator: "k8s" }] },
    status: {},
  };
  for (const [field, path] of Object.entries(FIELDS)) {
    const text = annotations[keyOf(field)];
    if (text === undefined) continue;
    delete annotations[keyOf(field)];
    put(stored, path, field === "asNumber" ? parseAsNumber(text) : field === "interfaces" ? JSON.parse(text) : text);
  }
  const addresses = at(node, ["status", "addresses"]);
  const calico = ["ipv4Address", "ipv6Address"].flatMap((field) => {
    const address = all[keyOf(field)];
    return address === undefined ? [] : [{ address, type: "CalicoNodeIP" }];
  });
  put(stored, ["spec", "addresses"], [...calico, ...(Array.isArray(addresses) ? addresses : [])]);
  const podCIDRs = at(node, ["spec", "podCIDRs"]);
  if (podCIDRs !== undefined) put(stored, ["status", "podCIDRs"], podCIDRs);
  return { ...stored, metadata: { ...metadata, annotations } } as AnyResource;
}
