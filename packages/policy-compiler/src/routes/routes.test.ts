import type { DataplaneMessage, Route } from "@calico-ts/dataplane-api";
import { expect, test } from "vitest";
import { block, node, pool } from "../testing/resources.ts";
import type { CompilerUpdate } from "../index.ts";
import { createCompiler, vtepMac } from "../index.ts";

function compile(...updates: readonly CompilerUpdate[]): DataplaneMessage[] {
  const messages: DataplaneMessage[] = [];
  const compiler = createCompiler({ node: "n1", emit: (message) => messages.push(message) });
  for (const update of updates) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  return messages;
}

const routes = (...updates: readonly CompilerUpdate[]): Record<string, Route> =>
  Object.fromEntries(
    compile(...updates).flatMap((message) =>
      message.kind === "route-update" ? [[message.route.destination, message.route]] : [],
    ),
  );

const n1 = node("n1", { ipv4: "192.168.0.1/24", vxlan: "10.0.0.60" });
const near = node("n2", { ipv4: "192.168.0.2/24", vxlan: "10.0.1.60" });
const far = node("n3", { ipv4: "192.168.9.3/24", vxlan: "10.0.2.60" });
const crossSubnet = pool("p", { cidr: "10.0.0.0/16", vxlanMode: "CrossSubnet", natOutgoing: true });

test("a pool that is disabled is routed, tunnelled and translated as before: its pods are still there", () => {
  const disabled = pool("p", { cidr: "10.0.0.0/16", vxlanMode: "CrossSubnet", natOutgoing: true, disabled: true });
  const others = [n1, near, far, block("10.0.2.0/26", { node: "n3" })];
  expect(compile(...others, disabled)).toEqual(compile(...others, crossSubnet));
});

test("a cross-subnet pool is encapsulated towards other subnets only", () => {
  const found = routes(
    n1,
    near,
    far,
    crossSubnet,
    block("10.0.1.0/26", { node: "n2" }),
    block("10.0.2.0/26", { node: "n3" }),
  );
  expect(found["10.0.1.0/26"]).toEqual({
    destination: "10.0.1.0/26",
    types: ["remote-workload"],
    encapsulation: "none",
    mode: "cross-subnet",
    natOutgoing: true,
    node: "n2",
    nodeAddress: "192.168.0.2",
    sameSubnet: true,
    borrowed: false,
  });
  expect(found["10.0.2.0/26"]).toMatchObject({ encapsulation: "vxlan", mode: "cross-subnet", sameSubnet: false });
});

test("nearness is judged by this node's own subnet, whatever length the other node says", () => {
  const long = node("n2", { ipv4: "192.168.0.2/32" });
  expect(routes(n1, long, crossSubnet, block("10.0.1.0/26", { node: "n2" }))["10.0.1.0/26"]?.sameSubnet).toBe(true);
  const self = node("n1", { ipv4: "192.168.0.1/32" });
  expect(routes(self, near, crossSubnet, block("10.0.1.0/26", { node: "n2" }))["10.0.1.0/26"]?.sameSubnet).toBe(false);
});

test("own blocks are local; the most specific pool decides", () => {
  const inner = pool("inner", { cidr: "10.0.3.0/24", ipipMode: "Always" });
  const found = routes(
    n1,
    near,
    crossSubnet,
    inner,
    block("10.0.0.0/26", { node: "n1" }),
    block("10.0.3.0/26", { node: "n2" }),
  );
  expect(found["10.0.0.0/26"]).toMatchObject({ types: ["local-workload"], node: "n1" });
  expect(found["10.0.3.0/26"]).toMatchObject({ encapsulation: "ipip", mode: "always", natOutgoing: false });
  expect(found["10.0.0.0/16"]).toMatchObject({ types: ["cidr-info"] });
});

test("an address taken from another node's block has a route of its own", () => {
  const found = routes(
    n1,
    near,
    far,
    crossSubnet,
    block("10.0.1.0/26", { node: "n2", held: { 4: "n3", 5: "n2", 6: "n1" } }),
  );
  expect(found["10.0.1.4/32"]).toMatchObject({ types: ["remote-workload"], node: "n3", borrowed: true });
  expect(found["10.0.1.6/32"]).toMatchObject({ types: ["local-workload"], node: "n1", borrowed: true });
  expect(found["10.0.1.5/32"]).toBeUndefined();
});

test("node and tunnel addresses have routes; a tunnel address names the tunnel's owner", () => {
  const found = routes(n1, near, crossSubnet, block("10.0.1.0/26", { node: "n2" }));
  expect(found["192.168.0.2/32"]).toMatchObject({
    types: ["remote-host"],
    node: "n2",
    encapsulation: "none",
    mode: "never",
  });
  expect(found["10.0.1.60/32"]).toMatchObject({ types: ["remote-tunnel"], node: "n2" });
  expect(found["10.0.0.60/32"]).toMatchObject({ types: ["local-tunnel"], node: "n1" });
});

test("a node becomes a VTEP when it has a tunnel address; its MAC follows from its name", () => {
  const messages = compile(n1, near, node("n4", { ipv4: "192.168.0.4/24" }));
  const vteps = messages.flatMap((message) => (message.kind === "vtep-update" ? [message.vtep] : []));
  expect(vteps.map((vtep) => vtep.node).toSorted()).toEqual(["n1", "n2"]);
  expect(vteps.find((vtep) => vtep.node === "n2")).toEqual({
    node: "n2",
    family: 4,
    mac: vtepMac("n2", 4),
    tunnelAddress: "10.0.1.60",
    nodeAddress: "192.168.0.2",
  });
  // printf n2 | sha1sum
  expect(vtepMac("n2", 4)).toBe("66:40:24:34:76:fc");
});

test("a node without Calico's annotation is known by its internal address", () => {
  const bare: CompilerUpdate = {
    kind: "Node",
    key: { name: "n5" },
    resource: {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "n5" },
      status: { addresses: [{ type: "InternalIP", address: "192.168.0.5" }] },
    },
  };
  expect(compile(n1, bare)).toContainEqual({ kind: "host-update", node: "n5", addresses: { ipv4: "192.168.0.5" } });
});
