import type { DataplaneMessage, Route } from "@calico-ts/dataplane-api";
import { silentLogger } from "@calico-ts/runtime";
import { describe, expect, test } from "vitest";
import { FakeNodeKernel } from "../../../testing/fake-node-kernel.ts";
import { resolveConfig } from "../../config/resolve.ts";
import { TunnelDriver } from "../links/tunnel-driver.ts";
import { NeighbourDriver } from "../neighbours/neighbour-driver.ts";
import { RouteDriver } from "../routes/route-driver.ts";
import { ClusterRouteManager } from "./cluster-routes.ts";

const remote = (changes: Partial<Route> = {}): DataplaneMessage => ({
  kind: "route-update",
  route: {
    destination: "10.0.2.0/26",
    types: ["remote-workload"],
    encapsulation: "none",
    mode: "never",
    natOutgoing: false,
    node: "n2",
    nodeAddress: "192.168.0.2",
    sameSubnet: true,
    borrowed: false,
    ...changes,
  },
});
const localBlock = (encapsulation: Route["encapsulation"]): DataplaneMessage =>
  remote({
    destination: "10.0.1.0/26",
    types: ["local-workload"],
    node: "n1",
    nodeAddress: "192.168.0.1",
    encapsulation,
  });
const pool = (
  ipip: "never" | "always" | "cross-subnet",
  vxlan: "never" | "always" | "cross-subnet",
): DataplaneMessage => ({
  kind: "pool-update",
  id: "p",
  pool: { cidr: "10.0.0.0/16", natOutgoing: true, ipip, vxlan },
});
const vtep = (n: number): DataplaneMessage => ({
  kind: "vtep-update",
  vtep: {
    node: `n${n}`,
    family: 4,
    mac: `66:AA:00:00:00:0${n}`,
    tunnelAddress: `10.0.${n}.1`,
    nodeAddress: `192.168.0.${n}`,
  },
});
const self: DataplaneMessage = { kind: "host-update", node: "n1", addresses: { ipv4: "192.168.0.1" } };

function world(text: Record<string, string>, messages: readonly DataplaneMessage[]) {
  const kernel = new FakeNodeKernel();
  kernel.up.add("eth0");
  const log = silentLogger;
  const { config } = resolveConfig(text);
  const routes = new RouteDriver({
    kernel,
    ownership: { workloadPrefixes: ["cali"], removeExternal: true },
    log,
    now: () => 0,
  });
  const tunnels = new TunnelDriver({ kernel, log });
  const neighbours = new NeighbourDriver({ kernel, devices: ["vxlan.calico", "vxlan-v6.calico"], log });
  const manager = new ClusterRouteManager({
    node: "n1",
    config,
    routes,
    neighbours,
    tunnels,
    interfaceWith: (address) => (address === "192.168.0.1" ? { name: "eth0", mtu: 1500 } : undefined),
    hostMtu: () => 1500,
  });
  const send = (more: readonly DataplaneMessage[]): void => {
    for (const message of more) manager.receive(message);
    manager.settle();
    tunnels.apply();
    routes.withdraw();
    neighbours.apply();
    routes.install("cluster");
  };
  send(messages);
  const shown = (): string[] =>
    [...kernel.routes.values()]
      .map((r) => [r.type, r.destination, r.gateway ?? "-", r.interfaceName ?? "-"].join(" "))
      .toSorted();
  return { kernel, manager, send, shown };
}

describe("cluster routes", () => {
  test("un-encapsulated: via the node on its own subnet, and only when it is ours to do", () => {
    const messages = [self, pool("never", "never"), remote(), localBlock("none")];
    expect(world({ programClusterRoutes: "Enabled" }, messages).shown()).toEqual([
      "blackhole 10.0.1.0/26 - -",
      "unicast 10.0.2.0/26 192.168.0.2 eth0",
    ]);
    expect(world({ programClusterRoutes: "EnabledNoEncapOnly" }, messages).shown()).toHaveLength(2);
    expect(world({}, messages).shown()).toEqual(["blackhole 10.0.1.0/26 - -"]); // its own block is, whoever routes to others
    const far = [self, pool("never", "never"), remote({ sameSubnet: false })];
    expect(world({ programClusterRoutes: "Enabled" }, far).shown()).toEqual([]);
  });

  test("VXLAN: device, neighbour, FDB entry and route; no parameter can switch it off here", () => {
    const vxlanRoute = remote({ encapsulation: "vxlan", mode: "always" });
    const { kernel, send, shown } = world({ programClusterRoutes: "Disabled" }, [
      ...[self, pool("never", "always"), vtep(1), vtep(2), vxlanRoute, localBlock("vxlan")],
    ]);
    expect(shown()).toEqual(["blackhole 10.0.1.0/26 - -", "unicast 10.0.2.0/26 10.0.2.1 vxlan.calico"]);
    expect(kernel.tunnels.get("vxlan.calico")).toEqual({
      name: "vxlan.calico",
      up: true,
      mtu: 1450,
      mac: "66:aa:00:00:00:01",
      vxlan: { vni: 4096, port: 4789, local: "192.168.0.1", underlay: "eth0" },
      addresses: ["10.0.1.1"],
    });
    expect([...kernel.neighbours.keys()].toSorted()).toEqual([
      "fdb vxlan.calico 66:aa:00:00:00:02",
      "neighbour vxlan.calico 10.0.2.1",
    ]);
    send([
      { kind: "vtep-remove", node: "n2", family: 4 },
      { kind: "route-remove", destination: "10.0.2.0/26" },
    ]);
    expect(kernel.neighbours.size).toBe(0);
    expect(shown()).toEqual(["blackhole 10.0.1.0/26 - -"]);
    send([{ kind: "pool-remove", id: "p" }]);
    expect(kernel.tunnels.size).toBe(0);
  });

  test("cross-subnet: direct to a neighbour on our subnet, tunnelled elsewhere", () => {
    const both = [
      remote({ encapsulation: "none", mode: "cross-subnet", sameSubnet: true }),
      remote({
        destination: "10.0.3.0/26",
        node: "n3",
        nodeAddress: "192.168.0.3",
        encapsulation: "vxlan",
        mode: "cross-subnet",
        sameSubnet: false,
      }),
    ];
    for (const programClusterRoutes of ["EnabledIPIPOnly", "Disabled"]) {
      const messages = [self, pool("never", "cross-subnet"), vtep(1), vtep(2), vtep(3), ...both];
      expect(world({ programClusterRoutes }, messages).shown()).toEqual([
        "unicast 10.0.2.0/26 192.168.0.2 eth0",
        "unicast 10.0.3.0/26 10.0.3.1 vxlan.calico",
      ]);
    }
  });

  test("a route whose VTEP is unknown waits for it", () => {
    const { send, shown } = world({}, [
      self,
      pool("never", "always"),
      vtep(1),
      remote({ encapsulation: "vxlan", mode: "always" }),
    ]);
    expect(shown()).toEqual([]);
    send([vtep(2)]);
    expect(shown()).toEqual(["unicast 10.0.2.0/26 10.0.2.1 vxlan.calico"]);
  });

  test("IPIP through tunl0, with the node's tunnel address", () => {
    const own = remote({
      destination: "10.0.1.9/32",
      types: ["local-tunnel"],
      node: "n1",
      encapsulation: "ipip",
      mode: "always",
    });
    const { kernel, shown } = world({}, [
      self,
      pool("always", "never"),
      own,
      remote({ encapsulation: "ipip", mode: "always" }),
    ]);
    expect(shown()).toEqual(["unicast 10.0.2.0/26 192.168.0.2 tunl0"]);
    expect(kernel.tunnels.get("tunl0")).toMatchObject({ mtu: 1480, addresses: ["10.0.1.9"], up: true });
  });

  test.each([
    ["Disabled", []],
    ["EnabledNoEncapOnly", []],
    ["EnabledIPIPOnly", ["unicast 10.0.2.0/26 192.168.0.2 eth0", "unicast 10.0.3.0/26 192.168.0.3 tunl0"]],
    ["Enabled", ["unicast 10.0.2.0/26 192.168.0.2 eth0", "unicast 10.0.3.0/26 192.168.0.3 tunl0"]],
  ])(
    "both halves of an IPIP pool across subnets are the BGP daemon's where it has IPIP: %s",
    (programClusterRoutes, expected) => {
      const far = { destination: "10.0.3.0/26", node: "n3", nodeAddress: "192.168.0.3", sameSubnet: false };
      const { shown } = world({ programClusterRoutes }, [
        self,
        pool("cross-subnet", "never"),
        remote({ destination: "10.0.1.9/32", types: ["local-tunnel"], node: "n1", mode: "cross-subnet" }),
        remote({ encapsulation: "none", mode: "cross-subnet" }),
        remote({ ...far, encapsulation: "ipip", mode: "cross-subnet" }),
      ]);
      expect(shown()).toEqual(expected);
    },
  );

  test("IPIP across subnets only: tunl0 stays as it is, though the way to our own tunnel address needs no encapsulation", () => {
    const near = { node: "n1", encapsulation: "none", mode: "cross-subnet" } as const;
    const { kernel, shown } = world({}, [
      self,
      pool("cross-subnet", "never"),
      remote({ destination: "10.0.1.9/32", types: ["local-tunnel"], ...near }),
      remote({ encapsulation: "none", mode: "cross-subnet" }),
      remote({ destination: "10.0.3.0/26", encapsulation: "ipip", mode: "cross-subnet", sameSubnet: false }),
    ]);
    expect(shown()).toEqual(["unicast 10.0.2.0/26 192.168.0.2 eth0", "unicast 10.0.3.0/26 192.168.0.2 tunl0"]);
    expect(kernel.tunnels.get("tunl0")).toMatchObject({ mtu: 1480, addresses: ["10.0.1.9"], up: true });
  });

  test("a single address borrowed from our block goes to the node that has it", () => {
    const { shown } = world({ programClusterRoutes: "Enabled" }, [
      ...[self, pool("never", "never"), localBlock("none"), remote({ destination: "10.0.1.7/32", borrowed: true })],
    ]);
    expect(shown()).toEqual(["blackhole 10.0.1.0/26 - -", "unicast 10.0.1.7/32 192.168.0.2 eth0"]);
  });
});
