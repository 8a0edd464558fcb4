import { intercept } from "@calico-ts/datastore";
import { formatAddress, formatPrefix, parsePrefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { describe, expect, test } from "vitest";
import {
  addNode,
  forPod,
  holders,
  ip,
  makeWorld,
  poolResource,
  texts,
  type World,
  worldProblems,
} from "./testing/world.ts";
import { WINDOWS_RESERVED } from "./allocator/block.ts";
import { HostAllocator } from "./host-allocator.ts";

const assignMany = (host: HostAllocator, count: number, prefix = "pod") =>
  Promise.all(Array.from({ length: count }, (_, i) => host.assign(forPod(`${prefix}-${i}`))));

/** Lets the store's delays pass until the work is done. */
async function whileTimePasses<T>(world: World, work: Promise<T>): Promise<T> {
  const state = { done: false };
  const watched = work.finally(() => {
    state.done = true;
  });
  while (!state.done) await world.clock.advance(10);
  return watched;
}

describe("HostAllocator", { timeout: 30_000 }, () => {
  test("gives an address of a block the node comes to own, and takes it back", async () => {
    const world = await makeWorld();
    const host = new HostAllocator({ client: world.store, clock: world.clock, host: "a", records: "all" });
    const [assigned] = await host.assign({ ...forPod("k8s-pod-network.ABC"), attributes: { pod: "p", node: "a" } });
    expect(assigned?.cidr).toBe(formatPrefix(assigned?.block ?? { family: 4, value: 0n, length: 0 }));
    const [block] = (await world.store.list("IPAMBlock")).items;
    expect(block).toMatchObject({
      metadata: { name: assigned?.cidr.replace(/[./]/g, "-") },
      spec: {
        cidr: assigned?.cidr,
        affinity: "host:a",
        attributes: [{ handle_id: "k8s-pod-network.ABC", secondary: { pod: "p", node: "a" } }],
      },
    });
    const [affinity] = (await world.store.list("BlockAffinity")).items;
    expect(affinity?.spec).toEqual({
      cidr: assigned?.cidr,
      node: "a",
      type: "host",
      state: "confirmed",
      deleted: false,
    });
    const [handle] = (await world.store.list("IPAMHandle")).items;
    expect(handle?.spec).toMatchObject({ handleID: "k8s-pod-network.ABC", block: { [assigned?.cidr ?? ""]: 1 } });
    expect(await host.addressesOf("k8s-pod-network.ABC")).toEqual([assigned?.address]);

    expect(await host.release("k8s-pod-network.ABC")).toEqual([assigned?.address]);
    expect(await host.release("k8s-pod-network.ABC")).toEqual([]);
    expect((await world.store.list("IPAMHandle")).items).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  describe("pods in blocks of their own node need no handle record", () => {
    const here = (handle: string) => ({ ...forPod(handle), attributes: { node: "a", pod: handle } });
    const records = async (world: World): Promise<string[]> =>
      (await world.store.list("IPAMHandle")).items.map(({ metadata }) => metadata.name);

    test("their addresses are found again: by this process, by the next one, and by whoever asks for the handle", async () => {
      const world = await makeWorld();
      const host = world.host("a");
      const [one] = await host.assign(here("one"));
      const [two] = await host.assign(here("two"));
      const [three] = await host.assign(here("three"));
      expect(await records(world)).toEqual([]);
      expect(await host.addressesOf("one")).toEqual([one?.address]);
      expect(await host.release("one")).toEqual([one?.address]);
      expect(await world.host("a").addressesOf("two")).toEqual([two?.address]);
      expect(await world.host("a").release("two")).toEqual([two?.address]);
      expect(await world.ipam.releaseByHandle("three")).toEqual([three?.address]);
      expect((await holders(world.store)).size).toBe(0);
      expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
    });

    test("also one that an earlier process of this node wrote after we had read the blocks", async () => {
      const world = await makeWorld();
      const late = world.host("a");
      await late.assign(here("first"));
      const host = world.host("a");
      expect(await host.addressesOf("lost")).toEqual([]);
      const [lost] = await late.assign(here("lost"));
      expect(await host.release("lost")).toEqual([lost?.address]);
    });

    test("somebody else's release finds what is recorded and what is not", async () => {
      const world = await makeWorld({
        pools: { v4: { cidr: "10.0.0.0/30", blockSize: 30 }, v6: { cidr: "fd00::/126", blockSize: 126 } },
      });
      await world.ipam.claimAffinity(parsePrefix("fd00::/126"), "b");
      const both = await world.host("a").assign({ ...here("dual"), want6: true });
      expect((await world.store.get("IPAMHandle", { name: "dual" })).spec.block).toEqual({ "fd00::/126": 1 });
      expect(await world.ipam.releaseByHandle("dual")).toHaveLength(both.length);
      expect((await holders(world.store)).size).toBe(0);
      expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
    });

    test("a borrowed address has its record, and so has one that was recorded before", async () => {
      const world = await makeWorld({ pools: { small: { cidr: "10.0.0.0/30", blockSize: 30 } } });
      await world.host("b").assign(forPod("x"));
      const host = world.host("a");
      const [borrowed] = await host.assign(here("guest"));
      expect(await records(world)).toEqual(["guest", "x"]);
      expect(await world.host("a").release("guest")).toEqual([borrowed?.address]);
      await host.assign(here("upstream"));
      expect(await world.host("a").release("upstream")).toHaveLength(1);
      expect(await records(world)).toEqual(["x"]);
      expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
    });
  });

  test("a hundred pods at once are a handful of block writes", async () => {
    const world = await makeWorld({ pools: { default: { cidr: "10.0.0.0/24", blockSize: 26 } } });
    let blockWrites = 0;
    let reads = 0;
    const client = intercept(world.store, {
      before: async ({ kind, writes }) => {
        if (writes && kind === "IPAMBlock") blockWrites++;
        if (!writes) reads++;
        await world.clock.sleep(10);
      },
    });
    const host = world.host("a", client);
    const all = assignMany(host, 100);
    const addresses = texts((await whileTimePasses(world, all)).flat());
    expect(new Set(addresses).size).toBe(100);
    expect(blockWrites).toBeLessThanOrEqual(8);
    expect(reads).toBeLessThan(60);
    expect((await world.store.list("IPAMBlock")).items).toHaveLength(2);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);

    blockWrites = 0;
    const released = Promise.all(Array.from({ length: 100 }, (_, i) => host.release(`pod-${i}`)));
    expect((await whileTimePasses(world, released)).flat()).toHaveLength(100);
    expect(blockWrites).toBeLessThanOrEqual(6);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
    expect((await holders(world.store)).size).toBe(0);
  });

  test("what a node does with one handle happens in the order it was asked for", async () => {
    const world = await makeWorld();
    const host = world.host("a");
    const first = host.assign(forPod("x"));
    const gone = host.release("x");
    const second = host.assign(forPod("x"));
    const [address] = await first;
    expect(await gone).toEqual([address?.address]);
    const [again] = await second;
    expect(await holders(world.store)).toEqual(new Map([[formatAddress(again?.address ?? ip("0.0.0.0")), "x"]]));
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("knows the handles in use on its host, in blocks of others too", async () => {
    const world = await makeWorld({ pools: { small: { cidr: "10.0.0.0/30", blockSize: 30 } } });
    const here = (handle: string, node: string) => ({ ...forPod(handle), attributes: { node } });
    const a = world.host("a");
    const b = world.host("b");
    await a.assign(here("net.a1", "a"));
    await b.assign(here("net.b1", "b"));
    await a.assign(here("vxlan-tunnel-addr-a", "a"));
    expect(await a.handles("net.")).toEqual(["net.a1"]);
    expect(await b.handles("net.")).toEqual(["net.b1"]);
    expect((await a.handles()).length).toBe(2);
  });

  test("an assignment that was given up leaves nothing behind", async () => {
    const world = await makeWorld();
    const host = world.host("a");
    const controller = new AbortController();
    const assigning = host.assign({ ...forPod("x"), signal: controller.signal });
    controller.abort();
    await expect(assigning).rejects.toMatchObject({ code: "CANCELLED" });
    expect((await holders(world.store)).size).toBe(0);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("both families or none", async () => {
    const world = await makeWorld({
      pools: { v4: { cidr: "10.0.0.0/26" }, v6: { cidr: "fd00::/122" } },
    });
    const host = world.host("a");
    const both = await host.assign({ ...forPod("dual"), want6: true });
    expect(texts(both).map((text) => text.includes(":"))).toEqual([false, true]);
    expect((await world.store.get("IPAMHandle", { name: "dual" })).spec.block).toEqual({
      "10.0.0.0/26": 1,
      "fd00::/122": 1,
    });
    await host.release("dual");
    await world.store.delete("IPPool", { name: "v6" });
    await world.clock.advance(6000);
    await expect(host.assign({ ...forPod("dual"), want6: true })).rejects.toMatchObject({ code: "NO_QUALIFIED_POOL" });
    expect((await holders(world.store)).size).toBe(0);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("remembers its blocks across a restart and finishes a claim that was interrupted", async () => {
    const world = await makeWorld();
    const before = await world.host("a").assign(forPod("one"));
    const after = await world.host("a").assign(forPod("two"));
    expect(after[0]?.cidr).toBe(before[0]?.cidr);
    const [affinity] = (await world.store.list("BlockAffinity")).items;
    if (affinity === undefined) throw new Error("no affinity");
    for (const state of ["pending", "pendingDeletion"] as const) {
      const current = await world.store.get("BlockAffinity", affinity.metadata);
      await world.store.update("BlockAffinity", { ...current, spec: { ...current.spec, state } });
      expect((await world.host("a").assign(forPod(`after-${state}`)))[0]?.cidr).toBe(before[0]?.cidr);
      expect((await world.store.get("BlockAffinity", affinity.metadata)).spec.state).toBe("confirmed");
    }
  });

  test("uses a block that another process of the node claimed instead of claiming a second", async () => {
    const world = await makeWorld({ pools: { default: { cidr: "10.0.0.0/24", blockSize: 30 } } });
    const agent = world.host("a");
    await assignMany(agent, 4);
    await world.ipam.claimAffinity({ family: 4, value: ip("10.0.0.252").value, length: 30 }, "a");
    const [fifth] = await agent.assign(forPod("fifth"));
    expect(fifth?.cidr).toBe("10.0.0.252/30");
  });

  test("notices that a block was changed, given away or deleted behind its back", async () => {
    const world = await makeWorld();
    const host = world.host("a");
    const [first] = await host.assign(forPod("first"));
    const cidr = first?.cidr ?? "";
    // Taken by somebody else in the same block.
    const name = cidr.replace(/[./]/g, "-");
    const block = await world.store.get("IPAMBlock", { name });
    const [next = 0, ...rest] = block.spec.unallocated;
    const allocations = block.spec.allocations.with(next, 1);
    const attributes = [...block.spec.attributes, { handle_id: "foreign" }];
    await world.store.create("IPAMHandle", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPAMHandle",
      metadata: { name: "foreign" },
      spec: { handleID: "foreign", block: { [cidr]: 1 } },
    });
    await world.store.update("IPAMBlock", {
      ...block,
      spec: { ...block.spec, allocations, attributes, unallocated: rest },
    });
    const [second] = await host.assign(forPod("second"));
    expect(second?.cidr).toBe(cidr);
    expect(new Set((await holders(world.store)).values())).toEqual(new Set(["first", "foreign", "second"]));
    // Given back entirely.
    for (const handle of ["first", "foreign", "second"]) await world.ipam.releaseByHandle(handle);
    expect(await world.ipam.releaseHostAffinities("a", { mustBeEmpty: true })).toEqual([]);
    expect((await world.store.list("IPAMBlock")).items).toEqual([]);
    await host.assign(forPod("third"));
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("an upstream record marked deleted is as good as gone", async () => {
    const world = await makeWorld();
    const host = world.host("a");
    await host.assign(forPod("x"));
    const handle = await world.store.get("IPAMHandle", { name: "x" });
    await host.release("x");
    await world.store.create("IPAMHandle", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPAMHandle",
      metadata: { name: "x" },
      spec: { ...handle.spec, deleted: true },
    });
    expect(await host.addressesOf("x")).toEqual([]);
    const [assigned] = await host.assign(forPod("x"));
    expect((await world.store.get("IPAMHandle", { name: "x" })).spec).toMatchObject({
      deleted: false,
      block: { [assigned?.cidr ?? ""]: 1 },
    });
  });
});

describe("limits", () => {
  test("an exhausted pool says which limits were hit and what would free space", async () => {
    const world = await makeWorld({ pools: { small: { cidr: "10.0.0.0/30", blockSize: 30 } } });
    const host = world.host("a");
    await assignMany(host, 4);
    const error = await host.assign(forPod("fifth")).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "POOL_EXHAUSTED", detail: { pools: "small", limits: "pools-full" } });
    expect(error).toHaveProperty(
      "message",
      expect.stringMatching(/no IPv4 address is free for a in pool small: every block of small is claimed.*add a pool/),
    );
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
    await host.release("pod-2");
    expect(texts(await host.assign(forPod("fifth")))).toEqual(["10.0.0.2"]);
  });

  test("nodes borrow from each other when there are no blocks left, unless affinity is strict", async () => {
    const world = await makeWorld({ pools: { small: { cidr: "10.0.0.0/29", blockSize: 30 } } });
    await world.host("a").assign(forPod("a1"));
    await world.host("b").assign(forPod("b1"));
    const c = world.host("c");
    const borrowed = await assignMany(c, 6, "c");
    expect(new Set(texts(borrowed.flat())).size).toBe(6);
    expect((await world.store.list("BlockAffinity")).items.map((item) => item.spec.node).toSorted()).toEqual([
      "a",
      "b",
    ]);
    await expect(c.assign(forPod("c-more"))).rejects.toMatchObject({ code: "POOL_EXHAUSTED" });
    await c.release("c-0");
    await world.ipam.setConfig({ ...(await world.ipam.config()), strictAffinity: true });
    await world.clock.advance(6000);
    await expect(c.assign(forPod("c-0"))).rejects.toThrow(/may not borrow from other nodes' blocks \(strictAffinity\)/);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("a node claims no more blocks than it may", async () => {
    const world = await makeWorld({
      pools: { default: { cidr: "10.0.0.0/24", blockSize: 30 } },
      config: { strictAffinity: true, maxBlocksPerHost: 2 },
    });
    const host = world.host("a");
    await assignMany(host, 8);
    await expect(host.assign(forPod("ninth"))).rejects.toThrow(
      /it owns 2 blocks of them, the most one node may own \(maxBlocksPerHost\)/,
    );
    const outcome = await world.ipam.autoAssign("b", {
      family: 4,
      count: 6,
      handle: "many",
      attributes: {},
      use: "Workload",
      pools: [],
      maxBlocks: 1,
    });
    expect(outcome.assigned).toHaveLength(4);
    expect(outcome.error).toMatchObject({ code: "POOL_EXHAUSTED", message: expect.stringMatching(/only 4 of 6/) });
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("nodes claim nothing by themselves when told not to", async () => {
    const world = await makeWorld({ config: { strictAffinity: true, autoAllocateBlocks: false } });
    const host = world.host("a");
    await expect(host.assign(forPod("x"))).rejects.toThrow(/autoAllocateBlocks/);
    await world.ipam.claimAffinity({ family: 4, value: ip("10.0.0.16").value, length: 28 }, "a");
    expect(texts(await host.assign(forPod("x")))).toEqual(["10.0.0.16"]);
  });

  test("an unused block of another node is taken over after a minute", async () => {
    const world = await makeWorld({
      pools: { small: { cidr: "10.0.0.0/30", blockSize: 30 } },
      config: { strictAffinity: true },
    });
    const a = world.host("a");
    await a.assign(forPod("x"));
    await a.release("x");
    const b = world.host("b");
    await expect(b.assign(forPod("y"))).rejects.toMatchObject({ code: "POOL_EXHAUSTED" });
    await world.clock.advance(61_000);
    expect(await b.assign(forPod("y"))).toHaveLength(1);
    await expect(a.assign(forPod("x"))).rejects.toMatchObject({ code: "POOL_EXHAUSTED" });
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("released addresses cool down", async () => {
    const world = await makeWorld({
      pools: { small: { cidr: "10.0.0.0/30", blockSize: 30 } },
      config: { cooldownSeconds: 60 },
    });
    const host = world.host("a");
    await assignMany(host, 4);
    await host.release("pod-1");
    await expect(host.assign(forPod("x"))).rejects.toThrow(/cooling down/);
    expect(await world.ipam.utilization()).toMatchObject([{ inUse: 3n, cooling: 1n, free: 0n }]);
    expect(await world.ipam.factsOf(ip("10.0.0.1"))).toMatchObject({
      handle: undefined,
      releasedAt: expect.any(String),
    });
    await world.clock.advance(60_000);
    expect(texts(await host.assign(forPod("x")))).toEqual(["10.0.0.1"]);
  });

  test("reserved addresses are not given out", async () => {
    const world = await makeWorld({
      pools: { small: { cidr: "10.0.0.0/28", blockSize: 29 } },
      reservations: ["10.0.0.0/29", "10.0.0.8/31"],
    });
    const host = world.host("a");
    const outcome = await world.ipam.autoAssign("a", {
      family: 4,
      count: 20,
      handle: "all",
      attributes: {},
      use: "Workload",
      pools: [],
    });
    expect(texts(outcome.assigned).toSorted()).toEqual([
      "10.0.0.10",
      "10.0.0.11",
      "10.0.0.12",
      "10.0.0.13",
      "10.0.0.14",
      "10.0.0.15",
    ]);
    await expect(host.assign(forPod("x"))).rejects.toMatchObject({ code: "POOL_EXHAUSTED" });
    expect((await world.store.list("IPAMBlock")).items.map((block) => block.spec.cidr)).toEqual(["10.0.0.8/29"]);
    expect(await world.ipam.utilization()).toMatchObject([{ capacity: 16n, inUse: 6n, reserved: 10n, free: 0n }]);
  });
});

describe("a host that keeps addresses of its blocks (Windows)", () => {
  const windows = (world: World): HostAllocator =>
    new HostAllocator({ client: world.store, clock: world.clock, host: "a", reserved: WINDOWS_RESERVED });

  test.each([
    [240, 240, /^$/],
    [256, 240, /it keeps 4 addresses of each of its blocks for itself/],
    [257, 240, /only 240 of 257 IPv4 addresses are free/],
  ])("%d addresses of a pool of four blocks are %d", async (count, got, why) => {
    const world = await makeWorld({
      pools: { v4: { cidr: "10.0.0.0/24", blockSize: 26 } },
      config: { strictAffinity: true },
    });
    const common = { family: 4 as const, handle: "all", attributes: {}, use: "Workload" as const, pools: [] };
    const [outcome] = await windows(world).assignMany([{ ...common, count }]);
    expect(outcome?.assigned).toHaveLength(got);
    expect(outcome?.error?.message ?? "").toMatch(why);
    const kept = texts(outcome?.assigned ?? []).filter((text) =>
      [0, 1, 2, 63].includes(Number(text.split(".")[3]) % 64),
    );
    expect(kept).toEqual([]);
    const [block] = (await world.store.list("IPAMBlock")).items;
    expect(block?.spec.attributes[0]).toEqual({
      handle_id: "windows-reserved-ipam-handle",
      secondary: { note: "windows host rsvd" },
    });
  });

  test("must not borrow, and its empty blocks are empty", async () => {
    const world = await makeWorld({ pools: { v4: { cidr: "10.0.0.0/28", blockSize: 29 } } });
    const host = windows(world);
    await expect(host.assign(forPod("x"))).rejects.toMatchObject({ code: "BAD_INPUT", message: /strictAffinity/ });
    await world.ipam.setConfig({ ...(await world.ipam.config()), strictAffinity: true });
    expect(await host.assign(forPod("x"))).toHaveLength(1);
    await host.release("x");
    expect(await world.ipam.releaseHostAffinities("a", { mustBeEmpty: true })).toEqual([]);
    expect((await world.store.list("IPAMBlock")).items).toEqual([]);
  });
});

describe("pools", () => {
  test("are selected by node, namespace, use and mode", async () => {
    const world = await makeWorld({
      nodes: { a: { zone: "east" }, b: { zone: "west" } },
      pools: {
        disabled: { cidr: "10.1.0.0/24", disabled: true },
        east: { cidr: "10.2.0.0/24", nodeSelector: "zone == 'east'" },
        gold: { cidr: "10.3.0.0/24", namespaceSelector: "tier == 'gold'", allowedUses: ["Workload"] },
        manual: { cidr: "10.4.0.0/24", assignmentMode: "Manual" },
        tunnel: { cidr: "10.5.0.0/24", allowedUses: ["Tunnel"] },
      },
    });
    const from = async (
      host: HostAllocator,
      request: Partial<Parameters<HostAllocator["assign"]>[0]>,
    ): Promise<string> => {
      const [assigned] = await host.assign({ ...forPod(`h-${serial++}`), ...request });
      return formatAddress(assigned?.address ?? ip("0.0.0.0"))
        .split(".")
        .slice(0, 2)
        .join(".");
    };
    let serial = 0;
    const a = world.host("a");
    const b = world.host("b");
    expect(await from(a, {})).toBe("10.2");
    expect(await from(b, { namespaceLabels: { tier: "gold" } })).toBe("10.3");
    expect(await from(a, { use: "Tunnel", pools4: ["tunnel"] })).toBe("10.5");
    expect(await from(b, { pools4: ["manual"] })).toBe("10.4");
    expect(await from(b, { pools4: ["10.2.0.0/24"] })).toBe("10.2");
    await expect(from(b, {})).rejects.toThrow(
      /disabled is disabled.*east does not select this node \(nodeSelector zone == 'east'\).*gold does not select this namespace.*manual gives out addresses only when asked.*tunnel is for Tunnel, not for Workload/,
    );
    await expect(from(b, { pools4: ["disabled"] })).rejects.toMatchObject({ code: "NO_QUALIFIED_POOL" });
    await expect(from(b, { pools4: ["nowhere"] })).rejects.toThrow(/there is none: the pools are disabled, east/);
    await expect(from(b, { pools4: ["manual"], want4: false, want6: true, pools6: ["manual"] })).rejects.toThrow(
      /IPv4 pool/,
    );
  });

  test("a pool that was just made, or a node that was just labelled, counts at once", async () => {
    const world = await makeWorld({ pools: { east: { cidr: "10.2.0.0/24", nodeSelector: "zone == 'east'" } } });
    const host = world.host("a");
    await expect(host.assign(forPod("x"))).rejects.toMatchObject({ code: "NO_QUALIFIED_POOL" });
    await world.store.patch("Node", { name: "a" }, { metadata: { labels: { zone: "east" } } });
    expect(texts(await host.assign(forPod("x")))[0]).toMatch(/^10\.2\./);
    await world.store.create("IPPool", poolResource("west", { cidr: "10.3.0.0/24" }));
    expect(texts(await host.assign({ ...forPod("y"), pools4: ["west"] }))[0]).toMatch(/^10\.3\./);
  });

  test("several pools are filled one after the other", async () => {
    const world = await makeWorld({
      pools: { one: { cidr: "10.1.0.0/29", blockSize: 30 }, two: { cidr: "10.2.0.0/29", blockSize: 30 } },
    });
    const outcome = await world.ipam.autoAssign("a", {
      family: 4,
      count: 20,
      handle: "all",
      attributes: {},
      use: "Workload",
      pools: [],
    });
    expect(new Set(texts(outcome.assigned)).size).toBe(16);
    expect(outcome.error?.message).toMatch(/only 16 of 20.*pools one, two/);
    expect((await world.store.get("IPAMHandle", { name: "all" })).spec.block).toEqual({
      "10.1.0.0/30": 4,
      "10.1.0.4/30": 4,
      "10.2.0.0/30": 4,
      "10.2.0.4/30": 4,
    });
    expect(await world.ipam.releaseByHandle("all")).toHaveLength(16);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("blocks of a pool that no longer selects the node are given back once they are empty", async () => {
    const world = await makeWorld({
      nodes: { a: { zone: "east" } },
      pools: {
        east: { cidr: "10.2.0.0/24", nodeSelector: "zone == 'east'" },
        rest: { cidr: "10.3.0.0/24", nodeSelector: "zone == 'west'" },
      },
    });
    const west = [expect.stringMatching(/^10\.3\./)];
    const blocks = async () => (await world.store.list("IPAMBlock")).items.map((block) => block.spec.cidr);
    const host = world.host("a");
    await host.assign(forPod("x"));
    await world.store.patch("Node", { name: "a" }, { metadata: { labels: { zone: "west" } } });
    await world.clock.advance(10_000);
    expect(texts(await host.assign(forPod("y")))[0]).toMatch(/^10\.3\./);
    expect(await blocks()).toHaveLength(2);
    // By an agent that goes on running: with the last address.
    await host.release("x");
    await host.assign(forPod("z"));
    expect(await blocks()).toEqual(west);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
    // By one that starts, when somebody else has released it.
    await world.store.patch("Node", { name: "a" }, { metadata: { labels: { zone: "east" } } });
    await world.host("a").assign(forPod("x2"));
    await world.store.patch("Node", { name: "a" }, { metadata: { labels: { zone: "west" } } });
    await world.ipam.releaseByHandle("x2");
    await world.host("a").assign(forPod("z2"));
    expect(await blocks()).toEqual(west);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("a node nobody knows gets nothing, and says so", async () => {
    const world = await makeWorld({ nodes: {} });
    await expect(world.host("ghost").assign(forPod("x"))).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: /Node ghost/,
    });
    await addNode(world.store, "ghost");
    expect(await world.host("ghost").assign(forPod("x"))).toHaveLength(1);
  });
});

test("an error of the store reaches every request of the batch, and the next one works", async () => {
  const world = await makeWorld();
  let broken = false;
  const client = intercept(world.store, {
    before: () => {
      if (broken) throw new CalicoError("UNAVAILABLE", "store is down");
    },
  });
  const host = world.host("a", client);
  await host.assign(forPod("before"));
  broken = true;
  const results = await Promise.allSettled([
    host.assign(forPod("x")),
    host.assign(forPod("y")),
    host.release("before"),
  ]);
  expect(results.map((result) => result.status === "rejected" && result.reason.code)).toEqual([
    "UNAVAILABLE",
    "UNAVAILABLE",
    "UNAVAILABLE",
  ]);
  broken = false;
  await host.release("before");
  await host.assign(forPod("x"));
  expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
});
