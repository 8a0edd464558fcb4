/** Tables of upstream's scenarios about hosts, affinities and releases. */
import { formatPrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { addNode, cidr, forPod, holders, ip, makeWorld, texts, worldProblems } from "./testing/world.ts";

const POOLS = { default: { cidr: "10.0.0.0/24", blockSize: 26 } } as const;

describe("hosts and affinities", () => {
  test("a host nobody knows is removed without complaint, and one with addresses leaves them where they are", async () => {
    const world = await makeWorld({ pools: POOLS });
    await world.ipam.removeHost("nobody");
    const [assigned] = await world.host("a").assign(forPod("x"));
    await world.ipam.removeHost("a");
    expect((await world.store.list("BlockAffinity")).items).toEqual([]);
    expect(await holders(world.store)).toEqual(new Map([[texts(assigned === undefined ? [] : [assigned])[0], "x"]]));
  });

  test("an affinity written before there were types is its host's", async () => {
    const world = await makeWorld({ pools: POOLS });
    await world.ipam.claimAffinity(cidr("10.0.0.64/26"), "a");
    const [old] = (await world.store.list("BlockAffinity")).items;
    if (old === undefined) throw new Error("claimed");
    const { type: _none, ...spec } = old.spec;
    await world.store.update("BlockAffinity", { ...old, spec });
    expect((await world.host("a").assign(forPod("x")))[0]?.cidr).toBe("10.0.0.64/26");
    expect(await world.ipam.releaseHostAffinities("a", { mustBeEmpty: true })).toHaveLength(1);
    expect(await world.ipam.releaseHostAffinities("a", { mustBeEmpty: false })).toEqual([]);
  });

  test.each([
    ["10.0.0.0/26", ["10.0.0.0/26"], undefined],
    ["10.0.0.0/25", ["10.0.0.0/26", "10.0.0.64/26"], undefined],
    ["10.0.0.0/24", 4, undefined],
    ["10.0.0.0/27", undefined, "BAD_INPUT"],
    ["192.0.2.0/26", undefined, "ADDRESS_OUTSIDE_POOLS"],
  ] as const)("claiming %s", async (range, expected, code) => {
    const world = await makeWorld({ pools: POOLS });
    const outcome = await world.ipam.claimAffinity(cidr(range), "a").catch((error: unknown) => error);
    const claimed = (outcome as { claimed?: Parameters<typeof formatPrefix>[0][] }).claimed?.map(formatPrefix);
    expect((outcome as { code?: string }).code).toBe(code);
    expect(typeof expected === "number" ? claimed?.length : claimed?.toSorted()).toEqual(expected);
  });

  test("an upgrade of one host leaves the others alone, and a node that joins finds its blocks", async () => {
    const world = await makeWorld({ pools: POOLS });
    for (const [block, host] of [
      ["10.0.0.0/26", "a"],
      ["10.0.0.64/26", "b"],
    ] as const) {
      await world.ipam.claimAffinity(cidr(block), host);
    }
    for (const affinity of (await world.store.list("BlockAffinity")).items) {
      const { labels: _none, ...metadata } = affinity.metadata;
      await world.store.update("BlockAffinity", { ...affinity, metadata });
    }
    const labelled = async (): Promise<string[]> =>
      (await world.store.list("BlockAffinity")).items
        .filter(({ metadata }) => metadata.labels !== undefined)
        .map(({ spec }) => spec.node)
        .toSorted();
    // etcd stores none: there they follow from the key.
    const before = await labelled();
    await world.ipam.upgradeHost("a");
    expect(await labelled()).toEqual(before.length === 0 ? ["a"] : before);
    await addNode(world.store, "d");
    expect(await world.host("d").assign(forPod("x"))).toHaveLength(1);
  });
});

describe("blocks of several pools", () => {
  test("the limit counts blocks of the pools that a request may use", async () => {
    const world = await makeWorld({
      pools: { one: { cidr: "10.2.0.0/24", blockSize: 30 }, two: { cidr: "10.3.0.0/24", blockSize: 30 } },
      config: { strictAffinity: true, maxBlocksPerHost: 1 },
    });
    const host = world.host("a");
    for (const pool of ["one", "two"]) {
      for (let at = 0; at < 4; at++) await host.assign({ ...forPod(`${pool}-${at}`), pools4: [pool] });
      await expect(host.assign({ ...forPod("more"), pools4: [pool] })).rejects.toThrow(/owns 1 blocks of them/);
    }
  });

  test("a block that is nobody's, of any pool, comes before one that another node does not use", async () => {
    const world = await makeWorld({
      pools: { one: { cidr: "10.2.0.0/30", blockSize: 30 }, two: { cidr: "10.3.0.0/30", blockSize: 30 } },
    });
    const b = world.host("b");
    await b.assign({ ...forPod("x"), pools4: ["one"] });
    await b.release("x");
    await world.clock.advance(3_600_000);
    expect(texts(await world.host("a").assign(forPod("y")))[0]).toMatch(/^10\.3\./);
    expect((await world.store.list("BlockAffinity")).items).toHaveLength(2);
  });
});

describe("one address", () => {
  test.each([
    ["nothing but the address", {}, "released"],
    ["its sequence number", { sequence: 0 }, "released"],
    ["another sequence number", { sequence: 1 }, "stale"],
    ["its handle", { handle: "x" }, "released"],
    ["another handle", { handle: "y" }, "stale"],
    ["another block of that name", { blockUid: "other" }, "stale"],
  ] as const)(
    "a release that names %s",
    async (_what, named: { sequence?: number; handle?: string; blockUid?: string }, outcome) => {
      const world = await makeWorld({ pools: POOLS });
      const [assigned] = await world.host("a").assign(forPod("x"));
      const address = assigned?.address ?? ip("0.0.0.0");
      const { sequence, ...rest } = named;
      const now = (await world.ipam.factsOf(address))?.sequenceNumber ?? 0;
      const sequenceNumber = sequence === undefined ? undefined : now + sequence;
      const report = await world.ipam.releaseAddresses([{ address, sequenceNumber, ...rest }]);
      expect(report.released).toHaveLength(outcome === "released" ? 1 : 0);
      expect(report.stale).toHaveLength(outcome === "stale" ? 1 : 0);
    },
  );

  test("a pod that asks again after its block was given up gets a block again", async () => {
    const world = await makeWorld({ pools: POOLS });
    const host = world.host("a");
    const [first] = await host.assign(forPod("x"));
    await host.release("x");
    await world.ipam.releaseHostAffinities("a", { mustBeEmpty: true });
    expect((await world.store.list("IPAMBlock")).items).toEqual([]);
    expect((await host.assign(forPod("x")))[0]?.cidr).toBe(first?.cidr);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });
});
