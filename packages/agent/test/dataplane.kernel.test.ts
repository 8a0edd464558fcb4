/**
 * The dataplane against a real kernel, fed with messages: rules, routes, tunnels and sysctls appear, a fresh process recognises
 * them, and what is changed behind its back is repaired.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DataplaneMessage, Route, WorkloadEndpoint } from "@calico-ts/dataplane-api";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DataplaneNode } from "../testing/dataplane-node.ts";
import { eventually, Lab, type LabPod } from "../testing/lab.ts";
import { openProfile, workload } from "../testing/messages.ts";

let lab: Lab;
beforeEach(() => {
  lab = new Lab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

const CONFIG = { programClusterRoutes: "Enabled", ipv6Support: "false" };

class Node extends DataplaneNode {
  constructor(namespace: string, node: string, text: Record<string, string> = {}) {
    super({ netns: lab.path(namespace), node, folder: lab.folder, config: { ...CONFIG, ...text }, routeGraceMs: 200 });
  }
}

const config: DataplaneMessage = { kind: "config-update", config: CONFIG };
const endpointOf = (pod: LabPod, changes: Partial<WorkloadEndpoint> = {}): DataplaneMessage =>
  workload(pod.interfaceName, pod.address, changes);

const host = (n: number): DataplaneMessage => ({
  kind: "host-update",
  node: `n${n}`,
  addresses: { ipv4: `192.168.0.${n}` },
});
const blockOf = (n: number, self: number, encapsulation: Route["encapsulation"]): DataplaneMessage => ({
  kind: "route-update",
  route: {
    destination: `10.65.${n}.0/26`,
    types: [n === self ? "local-workload" : "remote-workload"],
    encapsulation,
    mode: encapsulation === "none" ? "never" : "always",
    natOutgoing: false,
    node: `n${n}`,
    nodeAddress: `192.168.0.${n}`,
    sameSubnet: true,
    borrowed: false,
  },
});
const vtep = (n: number): DataplaneMessage => ({
  kind: "vtep-update",
  vtep: {
    node: `n${n}`,
    family: 4,
    mac: `66:00:00:00:00:0${n}`,
    tunnelAddress: `10.65.${n}.1`,
    nodeAddress: `192.168.0.${n}`,
  },
});
const pool = (vxlan: "never" | "always"): DataplaneMessage => ({
  kind: "pool-update",
  id: "pool",
  pool: { cidr: "10.65.0.0/16", natOutgoing: false, ipip: "never", vxlan },
});
const cluster = (self: number, encapsulation: "none" | "vxlan"): DataplaneMessage[] => [
  ...[host(1), host(2), pool(encapsulation === "vxlan" ? "always" : "never")],
  ...(encapsulation === "vxlan" ? [vtep(1), vtep(2)] : []),
  ...[blockOf(1, self, encapsulation), blockOf(2, self, encapsulation)],
];

/** What the witnesses say about the tunnel of n1 to n2, in the words that matter. */
function vxlanOf(node: string): readonly string[] {
  const device = /vxlan id \d+ local \S+ dev \S+ |dstport \d+|nolearning/g;
  return [
    ...(lab.ip(node, "-d link show vxlan.calico").match(device) ?? []),
    lab.ip(node, "address show dev vxlan.calico").match(/inet \S+/)?.[0] ?? "",
    lab.exec(node, "bridge", "fdb", "show", "dev", "vxlan.calico").match(/\S+ dst \S+/)?.[0] ?? "",
    lab.ip(node, "neigh show dev vxlan.calico").trim(),
    lab.ip(node, "route show 10.65.2.0/26").trim(),
  ];
}

const VXLAN_OF_N1 = [
  "vxlan id 4096 local 192.168.0.1 dev eth0 ",
  "dstport 4789",
  "nolearning",
  "inet 10.65.1.1/32",
  "66:00:00:00:00:02 dst 192.168.0.2",
  "10.65.2.1 lladdr 66:00:00:00:00:02 PERMANENT",
  "10.65.2.0/26 via 10.65.2.1 dev vxlan.calico proto 80 metric 1024 onlink",
];

describe("two nodes", () => {
  for (const encapsulation of ["none", "vxlan"] as const) {
    test(`pods reach each other across nodes: ${encapsulation}`, async () => {
      const [n1 = "", n2 = ""] = lab.nodes(2);
      const p1 = lab.pod(n1, "default/p1", "10.65.1.2");
      const p1b = lab.pod(n1, "default/p1b", "10.65.1.3");
      const p2 = lab.pod(n2, "default/p2", "10.65.2.2");
      await using one = new Node(n1, "n1");
      await using two = new Node(n2, "n2");
      await one.send(config, openProfile, endpointOf(p1), endpointOf(p1b), ...cluster(1, encapsulation));
      await two.send(config, openProfile, endpointOf(p2), ...cluster(2, encapsulation));

      expect(lab.pings(p1.namespace, p1b.address), "same node").toBe(true);
      expect(lab.pings(p1.namespace, p2.address), "across").toBe(true);
      expect(lab.pings(p2.namespace, p1.address), "and back").toBe(true);
      expect(lab.ip(n1, "route show proto 80")).toContain("blackhole 10.65.1.0/26");
      expect(readFileSync(join(lab.folder, "n1-mtu"), "utf8")).toBe(encapsulation === "vxlan" ? "1450" : "1500");
      expect(encapsulation === "vxlan" ? vxlanOf(n1) : []).toEqual(encapsulation === "vxlan" ? VXLAN_OF_N1 : []);
      expect(lab.exec(n1, "conntrack", "-L", "-p", "icmp"), "the pods' own are tracked").toContain("src=10.65.1.2");
      expect(lab.exec(n1, "conntrack", "-L", "-p", "udp", "--dport", "4789"), "the tunnel's are not").toBe("");
    });
  }

  test("IPv6 pods reach each other through VXLAN over IPv6", async () => {
    const [n1 = "", n2 = ""] = lab.nodes(2);
    const v6 = { ipv6Support: "true" };
    const six = (self: number): DataplaneMessage[] =>
      [1, 2].flatMap((n): DataplaneMessage[] => [
        { kind: "host-update", node: `n${n}`, addresses: { ipv4: `192.168.0.${n}`, ipv6: `fd00:10::${n}` } },
        {
          kind: "vtep-update",
          vtep: {
            node: `n${n}`,
            family: 6,
            mac: `66:00:00:00:00:0${n}`,
            tunnelAddress: `fd00:65:${n}::1`,
            nodeAddress: `fd00:10::${n}`,
          },
        },
        {
          kind: "route-update",
          route: {
            destination: `fd00:65:${n}::/122`,
            types: [n === self ? "local-workload" : "remote-workload"],
            encapsulation: "vxlan",
            mode: "always",
            natOutgoing: false,
            node: `n${n}`,
            nodeAddress: `fd00:10::${n}`,
            sameSubnet: true,
            borrowed: false,
          },
        },
      ]);
    const pool6: DataplaneMessage = {
      kind: "pool-update",
      id: "pool6",
      pool: { cidr: "fd00:65::/32", natOutgoing: false, ipip: "never", vxlan: "always" },
    };
    const p1 = lab.pod(n1, "default/p1", "10.65.1.2", "fd00:65:1::2");
    const p2 = lab.pod(n2, "default/p2", "10.65.2.2", "fd00:65:2::2");
    const both = (pod: LabPod, address6: string): DataplaneMessage =>
      endpointOf(pod, { addresses: [`${pod.address}/32`, `${address6}/128`] });
    await using one = new Node(n1, "n1", v6);
    await using two = new Node(n2, "n2", v6);
    const newConfig: DataplaneMessage = { kind: "config-update", config: { ...CONFIG, ...v6 } };
    await one.send(newConfig, openProfile, both(p1, "fd00:65:1::2"), pool6, ...six(1));
    await two.send(newConfig, openProfile, both(p2, "fd00:65:2::2"), pool6, ...six(2));
    // Link-local addresses are tentative for two seconds after a link comes up.
    await eventually("an answer over IPv6", () => lab.pings(p1.namespace, "fd00:65:2::2"), 10_000);
    expect(lab.exec(n1, "conntrack", "-L", "-f", "ipv6", "-p", "udp", "--dport", "4789")).toBe("");
    expect(lab.ip(n1, "-6 route show fd00:65:2::/122")).toContain("via fd00:65:2::1 dev vxlan-v6.calico proto 80");
    expect(lab.ip(n1, "-6 route show proto 80")).toContain("blackhole fd00:65:1::/122");
    expect(lab.ip(n1, "link show vxlan-v6.calico")).toContain("mtu 1430");
    expect(readFileSync(join(lab.folder, "n1-mtu"), "utf8")).toBe("1430");
    await using again = new Node(n1, "n1", v6);
    await again.send(newConfig, openProfile, both(p1, "fd00:65:1::2"), pool6, ...six(1));
    expect(again.dataplane.table.counts.transactions).toBe(0);
    expect(again.dataplane.routes.dump()).toMatchObject({ toWrite: [], toRemove: [] });
    await two.send(
      { kind: "route-remove", destination: "fd00:65:1::/122" },
      { kind: "route-remove", destination: "fd00:65:2::/122" },
      {
        kind: "workload-endpoint-remove",
        id: { orchestrator: "k8s", workload: `default/${p2.interfaceName}`, endpoint: "eth0" },
      },
    );
    expect(lab.ip(n2, "-6 route show proto 80")).toBe("");
    expect(lab.ip(n2, "-4 route show proto 80")).toBe("");
  });

  test("a pod without a known endpoint is dropped, and one without a profile too", async () => {
    const [n1 = ""] = lab.nodes(1);
    const known = lab.pod(n1, "default/known", "10.65.1.2");
    const unknown = lab.pod(n1, "default/unknown", "10.65.1.3");
    lab.ip(n1, `route add 10.65.1.3 dev ${unknown.interfaceName} scope link`);
    await using one = new Node(n1, "n1");
    await one.send(config, openProfile, endpointOf(known));
    expect(lab.pings(unknown.namespace, known.address)).toBe(false);
    expect(lab.pings(known.namespace, unknown.address)).toBe(false);
    await one.send(endpointOf(unknown, { profiles: [] }));
    expect(lab.pings(known.namespace, unknown.address)).toBe(false);
    await one.send(endpointOf(unknown));
    expect(lab.pings(known.namespace, unknown.address)).toBe(true);
  });
});

describe("what is changed behind its back", () => {
  test("rules, sets, routes, neighbours, FDB entries, devices and sysctls are repaired; what is foreign stays", async () => {
    const [n1 = ""] = lab.nodes(2);
    const pod = lab.pod(n1, "default/p1", "10.65.1.2");
    lab.ip(n1, "route add 10.99.0.0/16 via 192.168.0.2 proto 4");
    lab.nft(n1, "add", "table", "inet", "operator");
    lab.nft(n1, "add", "chain", "inet", "operator", "mine");
    await using one = new Node(n1, "n1", { interfaceRefreshInterval: "1" });
    await one.send(config, openProfile, endpointOf(pod), ...cluster(1, "vxlan"));
    const table = (): string => lab.nft(n1, "-s", "list", "table", "inet", "calico");
    const right = table();
    expect(right).toContain(pod.interfaceName);
    const routes = (): string => lab.ip(n1, "route show proto 80").split("\n").toSorted().join("\n");
    const rightRoutes = routes();
    const neighbours = (): string =>
      lab.ip(n1, "neigh show nud permanent dev vxlan.calico") +
      lab
        .exec(n1, "bridge", "fdb", "show", "dev", "vxlan.calico")
        .split("\n")
        .filter((line) => line.includes("dst"))
        .join("\n");
    const rightNeighbours = neighbours();
    const isRight = (): boolean =>
      safely(table) === right && safely(routes) === rightRoutes && safely(neighbours) === rightNeighbours;
    expect(isRight()).toBe(true);

    const chain = /chain (\S*forward\S*) \{/i.exec(right)?.[1] ?? "";
    const tampering: Readonly<Record<string, () => void>> = {
      "a chain emptied": () => lab.nft(n1, "flush", "chain", "inet", "calico", chain),
      "a rule added": () => lab.nft(n1, "insert", "rule", "inet", "calico", chain, "accept"),
      "a chain added": () => lab.nft(n1, "add", "chain", "inet", "calico", "intruder"),
      "the table deleted": () => lab.nft(n1, "delete", "table", "inet", "calico"),
      "the table emptied": () => lab.nft(n1, "flush", "table", "inet", "calico"),
      "a pod's route deleted": () => lab.ip(n1, "route del 10.65.1.2"),
      "a pod's route redirected": () =>
        lab.ip(n1, "route replace 10.65.1.2/32 dev eth0 scope link proto 80 metric 1024"),
      "a tunnel route deleted": () => lab.ip(n1, "route del 10.65.2.0/26"),
      "a route of ours added": () => lab.ip(n1, "route add 10.65.7.0/26 via 192.168.0.2 proto 80"),
      "a neighbour deleted": () => lab.ip(n1, "neigh del 10.65.2.1 dev vxlan.calico"),
      "a FDB entry deleted": () =>
        lab.exec(n1, "bridge", "fdb", "del", "66:00:00:00:00:02", "dev", "vxlan.calico", "dst", "192.168.0.2"),
      "the device deleted": () => lab.ip(n1, "link del vxlan.calico"),
      "the device down": () => lab.ip(n1, "link set vxlan.calico down"),
    };
    const took: Record<string, number> = {};
    for (const [what, tamper] of Object.entries(tampering)) {
      tamper();
      expect(isRight(), `${what}: noticed by the test`).toBe(false);
      took[what] = Math.round(await eventually(`repaired: ${what}`, isRight));
    }
    // The witness itself takes 20–40 ms a look.
    expect(Object.values(took).every((ms) => ms < 2000)).toBe(true);

    lab.exec(n1, "sysctl", "-qw", `net.ipv4.conf.${pod.interfaceName}.proxy_arp=0`);
    lab.exec(n1, "sysctl", "-qw", "net.ipv4.ip_forward=0");
    await eventually("sysctls", () => {
      const values = lab.exec(
        n1,
        "sysctl",
        "-n",
        `net.ipv4.conf.${pod.interfaceName}.proxy_arp`,
        "net.ipv4.ip_forward",
      );
      return values === "1\n1\n";
    });
    expect(lab.ip(n1, "route show 10.99.0.0/16")).toContain("via 192.168.0.2");
    expect(lab.nft(n1, "list", "table", "inet", "operator")).toContain("chain mine");
  });

  test("a fresh process finds everything right and writes nothing; leftovers go", async () => {
    const [n1 = ""] = lab.nodes(2);
    const pod = lab.pod(n1, "default/p1", "10.65.1.2");
    const messages = [config, openProfile, endpointOf(pod), ...cluster(1, "vxlan")];
    {
      await using first = new Node(n1, "n1");
      await first.send(...messages);
    }
    lab.ip(n1, "route add 10.65.9.0/26 via 192.168.0.2 proto 80");
    lab.ip(n1, `route add 10.65.1.77/32 dev ${pod.interfaceName} scope link`);
    lab.ip(n1, "neigh add 10.65.9.1 lladdr 66:00:00:00:00:09 nud permanent dev vxlan.calico");
    lab.nft(n1, "add", "chain", "inet", "calico", "leftover");
    lab.nft(n1, "add", "set", "inet", "calico", "leftover", "{ type ipv4_addr; }");
    await using second = new Node(n1, "n1");
    await second.send(...messages);
    expect(lab.nft(n1, "list", "table", "inet", "calico")).not.toContain("leftover");
    expect(lab.ip(n1, "route show")).not.toContain("10.65.9.0/26");
    expect(lab.ip(n1, "neigh show dev vxlan.calico")).not.toContain("10.65.9.1");
    await eventually(
      "the stranger's route through the pod's interface goes after the grace period",
      () => !lab.ip(n1, "route show").includes("10.65.1.77"),
    );
    {
      await using third = new Node(n1, "n1");
      await third.send(...messages);
      expect(third.dataplane.table.counts).toMatchObject({ transactions: 0, readings: 1 });
    }
  });

  test("nothing is touched before the first snapshot is complete", async () => {
    const [n1 = ""] = lab.nodes(1);
    lab.nft(n1, "add", "table", "inet", "calico");
    lab.nft(n1, "add", "chain", "inet", "calico", "old");
    lab.ip(n1, "route add blackhole 10.65.9.0/26 proto 80");
    await using one = new Node(n1, "n1");
    one.dataplane.receive(config);
    one.dataplane.receive(openProfile);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(lab.nft(n1, "list", "ruleset")).toContain("chain old");
    expect(lab.ip(n1, "route show")).toContain("10.65.9.0/26");
    expect(existsSync(join(lab.folder, "n1-mtu"))).toBe(false);
    await one.send();
    expect(lab.nft(n1, "list", "ruleset")).not.toContain("chain old");
    expect(lab.ip(n1, "route show")).not.toContain("10.65.9.0/26");
  });
});

function safely(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}
