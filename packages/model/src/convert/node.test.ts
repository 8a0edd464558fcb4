import { describe, expect, test } from "vitest";
import type { Node } from "../kubernetes/core.ts";
import { parseAsNumber } from "./as-number.ts";
import { calicoNodeFromKubernetes, nodeAnnotationKey, nodeAnnotations, nodeNetwork } from "./node.ts";

const P = "projectcalico.org/";
const node = (annotations: Record<string, string>, rest: Partial<Node> = {}): Node => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "n1", labels: { zone: "a" }, annotations },
  ...rest,
});

describe("a node", () => {
  test("in full", () => {
    const annotations = {
      [`${P}IPv4Address`]: "10.1.0.1/24",
      [`${P}IPv6Address`]: "fd01::1/64",
      [`${P}ASNumber`]: "64512",
      [`${P}IPv4IPIPTunnelAddr`]: "10.0.0.1",
      [`${P}IPv4VXLANTunnelAddr`]: "10.0.0.2",
      [`${P}VXLANTunnelMACAddr`]: "66:AA:bb:cc:dd:ee",
      [`${P}IPv6VXLANTunnelAddr`]: "fd00::2",
      [`${P}VXLANTunnelMACAddrV6`]: "66:aa:bb:cc:dd:ef",
      [`${P}IPv4WireguardInterfaceAddr`]: "10.0.0.3",
      [`${P}IPv6WireguardInterfaceAddr`]: "fd00::3",
      [`${P}WireguardPublicKey`]: "key4",
      [`${P}WireguardPublicKeyV6`]: "key6",
      [`${P}RouteReflectorClusterID`]: "244.0.0.1",
      [`${P}Interfaces`]: '[{"name":"eth0","addresses":["10.1.0.1"]}]',
      "other.example/x": "y",
    };
    const status = {
      addresses: [
        { type: "InternalIP", address: "10.1.0.1" },
        { type: "InternalIP", address: "10.1.0.1" },
        { type: "ExternalIP", address: "192.0.2.1" },
        { type: "Hostname", address: "n1" },
        { type: "InternalIP", address: "n1" },
      ],
    };
    expect(calicoNodeFromKubernetes(node(annotations, { status, spec: { podCIDRs: ["10.9.0.0/24"] } }))).toEqual({
      name: "n1",
      labels: { zone: "a" },
      addresses: [
        { address: "10.1.0.1/24", type: "CalicoNodeIP" },
        { address: "fd01::1/64", type: "CalicoNodeIP" },
        { address: "10.1.0.1", type: "InternalIP" },
        { address: "192.0.2.1", type: "ExternalIP" },
      ],
      podCidrs: ["10.9.0.0/24"],
      ipv4Address: "10.1.0.1/24",
      ipv6Address: "fd01::1/64",
      asNumber: 64_512,
      ipv4IpipTunnelAddress: "10.0.0.1",
      ipv4VxlanTunnelAddress: "10.0.0.2",
      vxlanTunnelMac: "66:aa:bb:cc:dd:ee",
      ipv6VxlanTunnelAddress: "fd00::2",
      vxlanTunnelMacV6: "66:aa:bb:cc:dd:ef",
      ipv4WireguardAddress: "10.0.0.3",
      ipv6WireguardAddress: "fd00::3",
      wireguardPublicKey: "key4",
      wireguardPublicKeyV6: "key6",
      routeReflectorClusterId: "244.0.0.1",
      interfaces: [{ name: "eth0", addresses: ["10.1.0.1"] }],
    });
  });

  test("that Calico has not seen yet", () => {
    const bare: Node = { apiVersion: "v1", kind: "Node", metadata: { name: "n1" } };
    expect(calicoNodeFromKubernetes(bare)).toEqual({ name: "n1", labels: {}, addresses: [], podCidrs: [] });
    expect(calicoNodeFromKubernetes({ ...bare, spec: { podCIDR: "10.9.0.0/24" } }).podCidrs).toEqual(["10.9.0.0/24"]);
  });

  test("an address without a length is in a subnet of its own", () => {
    expect(nodeNetwork({ [`${P}IPv4Address`]: "10.1.0.1", [`${P}IPv6Address`]: " fd01::1 " })).toEqual({
      ipv4Address: "10.1.0.1/32",
      ipv6Address: "fd01::1/128",
    });
  });

  test.each([
    ["IPv4Address", "fd00::1/64"],
    ["IPv4Address", "10.0.0.1/33"],
    ["IPv6Address", "10.0.0.1/24"],
    ["ASNumber", "-1"],
    ["ASNumber", "4294967296"],
    ["IPv4VXLANTunnelAddr", "10.0.0.1/24"],
    ["VXLANTunnelMACAddr", "66:aa"],
    ["WireguardPublicKey", ""],
    ["Interfaces", "{"],
    ["Interfaces", "{}"],
    ["RouteReflectorClusterID", "x"],
  ])("%s: %j counts as absent", (key, value) => {
    expect(nodeNetwork({ [P + key]: value })).toEqual({});
  });

  test("interfaces that cannot be read are left out", () => {
    const text =
      '[{"name":"eth0","addresses":["10.1.0.1"]},{"name":1,"addresses":[]},{"name":"x","addresses":[1]},null]';
    expect(nodeNetwork({ [`${P}Interfaces`]: text }).interfaces).toEqual([{ name: "eth0", addresses: ["10.1.0.1"] }]);
  });
});

describe("back to annotations", () => {
  test("only what changes; null removes", () => {
    expect(
      nodeAnnotations({
        ipv4Address: "10.1.0.1/24",
        ipv6Address: undefined,
        asNumber: 64_512,
        ipv4VxlanTunnelAddress: null,
        interfaces: [{ name: "eth0", addresses: [] }],
      }),
    ).toEqual({
      [`${P}IPv4Address`]: "10.1.0.1/24",
      [`${P}ASNumber`]: "64512",
      [`${P}IPv4VXLANTunnelAddr`]: null,
      [`${P}Interfaces`]: '[{"name":"eth0","addresses":[]}]',
    });
  });

  test("and forth again", () => {
    const network = {
      ipv4Address: "10.1.0.1/24",
      asNumber: 7,
      interfaces: [{ name: "eth0", addresses: ["10.1.0.1"] }],
    };
    const annotations = nodeAnnotations(network) as Record<string, string>;
    expect(nodeNetwork(annotations)).toEqual(network);
    expect(Object.keys(annotations)).toContain(nodeAnnotationKey("asNumber"));
  });
});

test.each([
  ["64512", 64_512],
  ["4294967295", 4_294_967_295],
  ["4294967296", undefined],
  ["1.10", 65_546],
  ["65535.65535", 4_294_967_295],
  ["65536.1", undefined],
  ["1.65536", undefined],
  ["1.", undefined],
  ["", undefined],
  ["0x10", undefined],
])("AS number %j is %s", (text, expected) => {
  expect(parseAsNumber(text)).toBe(expected);
});
