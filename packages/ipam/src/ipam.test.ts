import { formatAddress, formatPrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { cidr, forPod, holders, ip, makeWorld, texts, worldProblems } from "./testing/world.ts";
import { hostOwner } from "./allocator/names.ts";

const request = (address: string, handle: string, owner = "a") => ({
  address: ip(address),
  owner: hostOwner(owner),
  handle,
  attributes: { pod: handle, namespace: "default", node: owner },
});

describe("a particular address", () => {
  test("is assigned once, claims its block, and comes back", async () => {
    const world = await makeWorld();
    await world.ipam.assignAddress(request("10.0.0.37", "x"));
    expect(await world.ipam.factsOf(ip("10.0.0.37"))).toMatchObject({
      handle: "x",
      attributes: { pod: "x", node: "a" },
      block: "10.0.0.32/28",
      affinity: "host:a",
      releasedAt: undefined,
    });
    await expect(world.ipam.assignAddress(request("10.0.0.37", "y"))).rejects.toMatchObject({
      code: "ADDRESS_TAKEN",
      message: /10\.0\.0\.37 is not free: handle x has it, pod default\/x on a/,
    });
    expect((await world.store.list("IPAMHandle")).items.map((item) => item.metadata.name)).toEqual(["x"]);
    expect(await world.ipam.releaseAddresses([{ address: ip("10.0.0.37"), handle: "x" }])).toEqual({
      released: [ip("10.0.0.37")],
      notAssigned: [],
      stale: [],
    });
    expect(await world.ipam.factsOf(ip("10.0.0.37"))).toBeUndefined();
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("must be in an enabled pool that allows the use", async () => {
    const world = await makeWorld({
      pools: {
        off: { cidr: "10.1.0.0/24", disabled: true },
        tunnels: { cidr: "10.2.0.0/24", allowedUses: ["Tunnel"] },
      },
    });
    await expect(world.ipam.assignAddress(request("10.9.0.1", "x"))).rejects.toMatchObject({
      code: "ADDRESS_OUTSIDE_POOLS",
      message: /10\.9\.0\.1 is in no enabled pool: the pools are off \(10\.1\.0\.0\/24\), tunnels/,
    });
    await expect(world.ipam.assignAddress(request("10.1.0.1", "x"))).rejects.toThrow(/pool off .* is disabled/);
    const asWorkload = world.ipam.assignAddress({ ...request("10.2.0.1", "x"), use: "Workload" });
    await expect(asWorkload).rejects.toMatchObject({
      code: "NO_QUALIFIED_POOL",
      message: /is for Tunnel, not for Workload/,
    });
    await world.ipam.assignAddress(request("10.2.0.1", "x"));
    await world.ipam.assignAddress({ ...request("10.2.0.2", "x"), use: "Tunnel" });
    expect((await world.store.get("IPAMHandle", { name: "x" })).spec.block).toEqual({ "10.2.0.0/26": 2 });
  });

  test("of another node's block is lent, unless affinity is strict; reserved ones are given to who asks", async () => {
    const world = await makeWorld({ reservations: ["10.0.0.5/32"] });
    await world.ipam.assignAddress(request("10.0.0.1", "x", "a"));
    await world.ipam.assignAddress(request("10.0.0.5", "y", "b"));
    expect((await world.store.list("BlockAffinity")).items).toHaveLength(1);
    await world.ipam.setConfig({ ...(await world.ipam.config()), strictAffinity: true });
    await expect(world.ipam.assignAddress(request("10.0.0.6", "z", "b"))).rejects.toThrow(
      /belongs to host:a.*strictAffinity/,
    );
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });
});

describe("releases", () => {
  test("touch only what they name, by handle and by sequence number", async () => {
    const world = await makeWorld();
    await world.ipam.assignAddress(request("10.0.0.1", "x"));
    const seen = await world.ipam.factsOf(ip("10.0.0.1"));
    await world.ipam.releaseByHandle("x");
    await world.ipam.assignAddress(request("10.0.0.1", "y"));
    const report = await world.ipam.releaseAddresses([
      { address: ip("10.0.0.1"), sequenceNumber: seen?.sequenceNumber },
      { address: ip("10.0.0.2") },
      { address: ip("192.0.2.1") },
    ]);
    expect(report.stale).toMatchObject([{ why: /assigned again/ }]);
    expect(report.notAssigned.map(formatAddress).toSorted()).toEqual(["10.0.0.2", "192.0.2.1"]);
    expect(await holders(world.store)).toEqual(new Map([["10.0.0.1", "y"]]));
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("work when the pool is gone, and take an ownerless block with them", async () => {
    const world = await makeWorld();
    await world.host("a").assign(forPod("x"));
    const [address] = await world.ipam.addressesOf("x");
    await world.store.delete("IPPool", { name: "default" });
    await world.ipam.releaseHostAffinities("a", { mustBeEmpty: false });
    expect((await world.store.list("IPAMBlock")).items[0]?.spec.affinity).toBeUndefined();
    expect((await world.ipam.releaseAddresses([{ address: address ?? ip("0.0.0.0") }])).released).toEqual([address]);
    expect((await world.store.list("IPAMBlock")).items).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("many addresses over several blocks, named twice, are each released once", async () => {
    const world = await makeWorld({ pools: { default: { cidr: "10.0.0.0/24", blockSize: 30 } } });
    const { assigned } = await world.ipam.autoAssign("a", {
      family: 4,
      count: 30,
      handle: "many",
      attributes: {},
      use: "Workload",
      pools: [],
    });
    const requests = [...assigned, ...assigned].map(({ address }) => ({ address }));
    expect((await world.ipam.releaseAddresses(requests)).released).toHaveLength(30);
    expect((await world.store.list("IPAMHandle")).items).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });
});

describe("affinities", () => {
  test("are claimed for a range, as far as others do not have it", async () => {
    const world = await makeWorld();
    await world.ipam.claimAffinity(cidr("10.0.0.16/28"), "b");
    const { claimed, failed } = await world.ipam.claimAffinity(cidr("10.0.0.0/26"), "a");
    expect(claimed.map(formatPrefix).toSorted()).toEqual(["10.0.0.0/28", "10.0.0.32/28", "10.0.0.48/28"]);
    expect(failed.map(formatPrefix)).toEqual(["10.0.0.16/28"]);
    await expect(world.ipam.claimAffinity(cidr("10.0.0.0/30"), "a")).rejects.toMatchObject({ code: "BAD_INPUT" });
    await expect(world.ipam.claimAffinity(cidr("10.9.0.0/24"), "a")).rejects.toMatchObject({
      code: "ADDRESS_OUTSIDE_POOLS",
    });
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("are released when empty, or anyway", async () => {
    const world = await makeWorld();
    await world.ipam.claimAffinity(cidr("10.0.0.0/27"), "a");
    await world.ipam.assignAddress(request("10.0.0.1", "x"));
    expect((await world.ipam.releaseHostAffinities("a", { mustBeEmpty: true })).map(formatPrefix)).toEqual([
      "10.0.0.0/28",
    ]);
    expect((await world.store.list("BlockAffinity")).items.map((item) => [item.spec.cidr, item.spec.state])).toEqual([
      ["10.0.0.0/28", "confirmed"],
    ]);
    expect(await world.ipam.releaseAffinity(cidr("10.0.0.0/28"), "b", { mustBeEmpty: false })).toBe("not-owned");
    await world.ipam.removeHost("a");
    expect((await world.store.list("BlockAffinity")).items).toEqual([]);
    expect(await world.ipam.factsOf(ip("10.0.0.1"))).toMatchObject({ handle: "x", affinity: undefined });
    await world.ipam.releaseByHandle("x");
    expect((await world.store.list("IPAMBlock")).items).toEqual([]);
    await world.ipam.removeHost("nobody");
  });

  test("a block is there for a host that asks, and the same one again", async () => {
    const world = await makeWorld();
    const ask = { host: "a", family: 4 as const, pools: [] };
    const first = await world.ipam.ensureBlock(ask);
    expect(await world.ipam.ensureBlock(ask)).toEqual(first);
    const [assigned] = await world.host("a").assign(forPod("x"));
    expect(assigned?.block).toEqual(first);
  });

  test("written before there were labels are found after an upgrade", async () => {
    const world = await makeWorld();
    for (const host of ["a", "b"]) await world.host(host).assign(forPod(host));
    const labelsOf = async (): Promise<Map<string, unknown>> =>
      new Map(
        (await world.store.list("BlockAffinity")).items.map(({ metadata, spec }) => [spec.node, metadata.labels]),
      );
    const before = await labelsOf();
    for (const affinity of (await world.store.list("BlockAffinity")).items) {
      const { labels: _, ...metadata } = affinity.metadata;
      await world.store.update("BlockAffinity", { ...affinity, metadata });
    }
    // etcd stores none: there they follow from the key.
    const stripped = await labelsOf();
    await world.ipam.upgradeHost("a");
    expect(await labelsOf()).toEqual(
      new Map([
        ["a", before.get("a")],
        ["b", stripped.get("b")],
      ]),
    );
    expect(before.get("a")).toBeDefined();
    // Its node goes on with its block.
    await world.ipam.upgradeHost("b");
    const [assigned] = await world.host("b").assign(forPod("again"));
    expect(await labelsOf()).toEqual(before);
    expect((await world.store.list("IPAMBlock")).items.map(({ spec }) => spec.cidr)).toContain(assigned?.cidr);
    expect((await world.store.list("IPAMBlock")).items).toHaveLength(2);
  });

  test("of a pool are released on every host, and what is in use stays in use", async () => {
    const world = await makeWorld({ pools: { one: { cidr: "10.1.0.0/24" }, two: { cidr: "10.2.0.0/24" } } });
    for (const pool of ["one", "two"])
      for (const host of ["a", "b"]) await world.host(host).assign({ ...forPod(`${host}-${pool}`), pools4: [pool] });
    await world.ipam.releaseByHandle("a-one");
    await world.ipam.releasePoolAffinities(cidr("10.1.0.0/24"));
    const owned = (await world.store.list("BlockAffinity")).items.map(({ spec }) => spec.cidr.slice(0, 5));
    expect(owned).toEqual(["10.2.", "10.2."]);
    expect([...(await holders(world.store)).values()].toSorted()).toEqual(["a-two", "b-one", "b-two"]);
    expect((await world.store.list("IPAMBlock")).items).toHaveLength(3);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("of a virtual owner need no node", async () => {
    const world = await makeWorld({ pools: { lb: { cidr: "10.8.0.0/24", allowedUses: ["LoadBalancer"] } } });
    const { assigned } = await world.ipam.autoAssign(
      { type: "virtual", name: "load-balancer" },
      { family: 4, count: 1, handle: "lb-1", attributes: {}, use: "LoadBalancer", pools: [] },
    );
    expect(texts(assigned)).toHaveLength(1);
    expect((await world.store.list("IPAMBlock")).items[0]?.spec.affinity).toBe("virtual:load-balancer");
  });
});

describe("configuration", () => {
  test("has defaults, is written, and refuses what makes no sense", async () => {
    const world = await makeWorld();
    expect(await world.ipam.config()).toEqual({
      strictAffinity: false,
      autoAllocateBlocks: true,
      maxBlocksPerHost: 0,
      cooldownSeconds: 0,
      machinesKeepAddresses: true,
    });
    const strict = {
      strictAffinity: true,
      autoAllocateBlocks: false,
      maxBlocksPerHost: 3,
      cooldownSeconds: 60,
      machinesKeepAddresses: false,
    };
    await world.ipam.setConfig(strict);
    expect(await world.ipam.config()).toEqual(strict);
    await expect(world.ipam.setConfig({ ...strict, strictAffinity: false, maxBlocksPerHost: 0 })).rejects.toMatchObject(
      { code: "BAD_INPUT" },
    );
    await expect(world.ipam.setConfig({ ...strict, strictAffinity: false, autoAllocateBlocks: true })).rejects.toThrow(
      /maxBlocksPerHost needs strictAffinity/,
    );
  });
});
