import { type DatastoreClient, intercept } from "@calico-ts/datastore";
import { formatAddress, parseAddress, parsePrefix } from "@calico-ts/net";
import { beforeEach, describe, expect, test } from "vitest";
import { addNode, holders, makeWorld, type World, worldProblems } from "../testing/world.ts";
import { Collector } from "./collector.ts";

const MINUTE = 60_000;
let world: World;
let collector: Collector;
beforeEach(async () => {
  world = await makeWorld({
    pools: { v4: { cidr: "10.0.0.0/24", blockSize: 30 }, v6: { cidr: "fd00::/112", blockSize: 126 } },
  });
  collector = new Collector({ client: world.store, clock: world.clock });
});

interface PodSpec {
  readonly name: string;
  readonly node?: string;
  readonly ips?: readonly string[];
  readonly phase?: string;
}

async function putPod({ name, node = "a", ips = [], phase = "Running" }: PodSpec): Promise<void> {
  await world.store.create("Pod", {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: { nodeName: node, containers: [{ name: "main", image: "pod" }] },
  });
  const status = { phase, podIPs: ips.map((ip) => ({ ip })) };
  await world.store.patch("Pod", { namespace: "default", name }, { status }, { status: true });
}

const removePod = (name: string): Promise<void> => world.store.delete("Pod", { namespace: "default", name });

/** What ADD does, as far as addresses go. */
async function assign(
  pod: string,
  options: { node?: string; handle?: string; want6?: boolean } = {},
): Promise<string[]> {
  const { node = "a", handle = `net.${pod}`, want6 = false } = options;
  const assigned = await world
    .host(node)
    .assign({ handle, attributes: { pod, namespace: "default", node }, want4: true, want6 });
  return assigned.map(({ address }) => formatAddress(address));
}

const assignTunnel = async (node: string): Promise<string> => {
  const { assigned } = await world.ipam.autoAssign(node, {
    family: 4,
    count: 1,
    handle: `vxlan-tunnel-addr-${node}`,
    attributes: { node, type: "vxlanTunnelAddress" },
    use: "Tunnel",
    pools: [],
  });
  return assigned.map(({ address }) => formatAddress(address)).join();
};

/** Passes a minute apart, for as long as the grace and a little more. */
async function passes(count = 18, gc = collector): Promise<void> {
  for (let at = 0; at < count; at++) {
    expect((await gc.pass()).failures).toEqual([]);
    await world.clock.advance(MINUTE);
  }
}

const inUse = async (): Promise<string[]> =>
  [...(await holders(world.store)).keys()].toSorted((a, b) => (a < b ? -1 : 1));

describe("pods' addresses", () => {
  test("of a pod that is gone go back after the grace period, not before", async () => {
    const [address = ""] = await assign("web");
    await passes(14);
    expect(await inUse()).toEqual([address]);
    await passes(3);
    expect(await inUse()).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test.each<[string, PodSpec, boolean]>([
    ["has it", { name: "web", ips: ["10.0.0.0"] }, true],
    ["has not been told an address yet", { name: "web" }, true],
    ["has another address", { name: "web", ips: ["10.0.0.99"] }, false],
    ["runs on another node", { name: "web", node: "b", ips: ["10.0.0.0"] }, false],
    ["has failed", { name: "web", ips: ["10.0.0.0"], phase: "Failed" }, false],
    ["has succeeded", { name: "web", phase: "Succeeded" }, false],
  ])("of a pod that %s", async (_what, pod, kept) => {
    const [address = ""] = await assign("web");
    // The walk through a pool is the node's own: put the real address where the table says it is that of the pod.
    await putPod({ ...pod, ips: (pod.ips ?? []).map((ip) => (ip === "10.0.0.0" ? address : ip)) });
    await passes();
    expect(await inUse()).toEqual(kept ? [address] : []);
  });

  test("a suspicion that ends in between starts anew", async () => {
    const [address = ""] = await assign("web");
    await passes(10);
    await putPod({ name: "web", ips: [address] });
    await passes(2);
    await removePod("web");
    await passes(10);
    expect(await inUse()).toEqual([address]);
  });

  test("a wall clock that is set makes nothing a leak", async () => {
    const [address = ""] = await assign("web");
    await collector.pass();
    world.clock.jump(24 * 60 * MINUTE);
    await collector.pass();
    expect(await inUse()).toEqual([address]);
  });

  test("upstream #5044: one valid address of a handle keeps the others", async () => {
    const addresses = await assign("web", { want6: true });
    // The cluster knows only IPv4, so the pod never reports its IPv6 address.
    await putPod({ name: "web", ips: [addresses[0] ?? ""] });
    await passes();
    expect(await inUse()).toEqual(addresses.toSorted((a, b) => (a < b ? -1 : 1)));
    await removePod("web");
    await passes();
    expect(await inUse()).toEqual([]);
  });

  test("a pod that comes back between decision and release keeps its address", async () => {
    const [address = ""] = await assign("web");
    // It is born at the moment the collector asks for it for the last time.
    const client = onFirst("get Pod", () => putPod({ name: "web", ips: [address] }));
    const gc = new Collector({ client, clock: world.clock, grace: { leakMs: 1 } });
    await gc.pass();
    await world.clock.advance(MINUTE);
    expect(await gc.pass()).toMatchObject({ released: 0, spared: 1 });
    expect(await inUse()).toEqual([address]);
  });

  test("an address that was given out again between decision and release stays", async () => {
    const [address = ""] = await assign("old");
    const client = onFirst("list IPPool", async () => {
      await world.ipam.releaseByHandle("net.old");
      await assignExactly(address, "net.old");
    });
    const gc = new Collector({ client, clock: world.clock, grace: { leakMs: 1 } });
    await gc.pass();
    await world.clock.advance(MINUTE);
    expect(await gc.pass()).toMatchObject({ released: 0 });
    expect(await inUse()).toEqual([address]);
  });

  test("grace 0: never, while the node exists", async () => {
    const [address = ""] = await assign("web");
    await passes(40, new Collector({ client: world.store, clock: world.clock, grace: { leakMs: 0 } }));
    expect(await inUse()).toEqual([address]);
  });

  test("upstream #13858: a late DEL of the old sandbox does not touch the new one, nor does the collector", async () => {
    const [old = ""] = await assign("web", { handle: "net.sandbox1" });
    await putPod({ name: "web", ips: [old] });
    // The agent restarts; the new sandbox is added by an agent that remembers nothing; then the old one is deleted, twice.
    const [next = ""] = await assign("web", { handle: "net.sandbox2" });
    expect(next).not.toBe(old);
    await world.host("a").release("net.sandbox1");
    await world.host("a").release("net.sandbox1");
    // Status still speaks of the old sandbox; CNI's annotation of the new one.
    const annotations = { "cni.projectcalico.org/podIPs": `${next}/32` };
    await world.store.patch(
      "Pod",
      { namespace: "default", name: "web" },
      { metadata: { annotations } },
      { status: true },
    );
    const [other] = await assign("other");
    expect([old, next]).not.toContain(undefined);
    expect(other).not.toBe(next);
    await putPod({ name: "other", ips: [other ?? ""] });
    await passes();
    expect(await inUse()).toEqual([next, other ?? ""].toSorted((a, b) => (a < b ? -1 : 1)));
  });
});

describe("nodes", () => {
  test("a node that is gone loses pods' and tunnel addresses and its blocks, at once", async () => {
    await assign("web", { node: "a" });
    await assignTunnel("a");
    await world.store.delete("Node", { name: "a" });
    await collector.pass();
    await collector.pass();
    expect(await inUse()).toEqual([]);
    expect((await world.store.list("BlockAffinity")).items).toEqual([]);
    expect((await world.store.list("IPAMBlock")).items).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("tunnel addresses are good as long as their node exists", async () => {
    const tunnel = await assignTunnel("a");
    await passes();
    expect(await inUse()).toEqual([tunnel]);
  });

  test("a node that is gone keeps its tunnel address while a pod of it is there", async () => {
    const [address = ""] = await assign("web");
    const tunnel = await assignTunnel("a");
    await putPod({ name: "web", ips: [address] });
    await world.store.delete("Node", { name: "a" });
    await passes(2);
    expect(await inUse()).toEqual([address, tunnel].toSorted((a, b) => (a < b ? -1 : 1)));
    await removePod("web");
    await passes(2);
    expect(await inUse()).toEqual([]);
    expect((await world.store.list("BlockAffinity")).items).toEqual([]);
  });

  test.each([
    ["upstream #3589: it was replaced under its name", true],
    ["upstream #6244: and its tunnel address assigned anew", false],
  ])(
    "a node that comes back between decision and release keeps its tunnel address (%s)",
    async (_what, sameAddress) => {
      const tunnel = await assignTunnel("a");
      await world.store.delete("Node", { name: "a" });
      // The snapshot saw no node; at the last moment it is there.
      const client = onFirst(sameAddress ? "get Node" : "list IPPool", async () => {
        await addNode(world.store, "a");
        if (sameAddress) return;
        await world.ipam.releaseByHandle("vxlan-tunnel-addr-a");
        await assignExactly(tunnel, "vxlan-tunnel-addr-a");
      });
      await new Collector({ client, clock: world.clock }).pass();
      expect(await inUse()).toEqual([tunnel]);
      const [pod] = await assign("web");
      expect(pod).not.toBe(tunnel);
    },
  );

  test("something unknown on it keeps it, for ever", async () => {
    const [assigned] = await world
      .host("a")
      .assign({ handle: "mine", attributes: { node: "a", what: "?" }, want4: true, want6: false });
    await world.store.delete("Node", { name: "a" });
    await passes();
    expect(await inUse()).toHaveLength(1);
    expect((await world.store.list("BlockAffinity")).items.map(({ spec }) => spec.cidr)).toEqual([assigned?.cidr]);
  });

  test("a claim its node never finished is undone", async () => {
    const range = parsePrefix("10.0.0.0/30");
    const { claimed } = await world.ipam.claimAffinity(range, "a");
    expect(claimed).toHaveLength(1);
    const [affinity] = (await world.store.list("BlockAffinity")).items;
    if (affinity === undefined) throw new Error("claimed");
    await world.store.update("BlockAffinity", { ...affinity, spec: { ...affinity.spec, state: "pending" } });
    await world.store.delete("Node", { name: "a" });
    await collector.pass();
    expect((await world.store.list("BlockAffinity")).items).toEqual([]);
  });
});

describe("records", () => {
  test("empty blocks go after two looks, but never a node's last", async () => {
    for (const block of ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.8/30"]) {
      await world.ipam.claimAffinity(parsePrefix(block), "a");
    }
    await collector.pass();
    expect((await world.store.list("IPAMBlock")).items).toHaveLength(3);
    await collector.pass();
    await passes(3);
    expect((await world.store.list("IPAMBlock")).items).toHaveLength(1);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("a handle that counts what nobody has is put right, also one that counts too little", async () => {
    const [address = ""] = await assign("web");
    await putPod({ name: "web" });
    await putPod({ name: "own" });
    await assign("own");
    // A record of an address in a block of the pod's own node is not missed; one that is there must count right.
    const block = (await world.ipam.factsOf(parseAddress(address)))?.block ?? "";
    const handle = { apiVersion: "projectcalico.org/v3" as const, kind: "IPAMHandle" as const };
    await world.store.create("IPAMHandle", {
      ...handle,
      metadata: { name: "net.ghost" },
      spec: { handleID: "net.ghost", block: { "10.0.0.0/30": 1 }, deleted: false },
    });
    // And one that was borrowed is looked for by its record only.
    await world.ipam.releaseAffinity(parsePrefix(block), "a", { mustBeEmpty: false });
    await passes(10);
    expect((await world.store.list("IPAMHandle")).items.map(({ metadata }) => metadata.name)).toEqual(["net.ghost"]);
    await passes(10);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
    expect((await world.store.list("IPAMHandle")).items.map(({ metadata }) => metadata.name)).toEqual([
      "net.own",
      "net.web",
    ]);
  });

  test("addresses that have cooled down become free in blocks nobody writes to", async () => {
    await world.ipam.setConfig({ ...(await world.ipam.config()), cooldownSeconds: 30 });
    await assign("web");
    await world.ipam.releaseByHandle("net.web");
    await passes(2);
    const [block] = (await world.store.list("IPAMBlock")).items;
    expect(block?.spec.unallocated).toHaveLength(4);
    // Where there is nothing to free nothing is written.
    await passes(2);
    expect((await world.store.list("IPAMBlock")).items).toEqual([block]);
  });
});

async function assignExactly(address: string, handle: string): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    const [got] = await world
      .host("a")
      .assign({ handle, attributes: { node: "a", pod: "x", namespace: "default" }, want4: true, want6: false });
    if (got !== undefined && formatAddress(got.address) === address) return;
    await world.ipam.releaseByHandle(handle);
  }
  throw new Error(`${address} never came`);
}

/** Runs something just before the first operation of that kind. */
function onFirst(operation: string, run: () => Promise<unknown>): DatastoreClient {
  let done = false;
  return intercept(world.store, {
    before: async ({ verb, kind }) => {
      if (done || `${verb} ${kind}` !== operation) return;
      done = true;
      await run();
    },
  });
}
