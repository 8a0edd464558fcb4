/** Upstream's scenarios that no other test here has, line by line (SCENARIOS.md says which test has which). */
import { formatPrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { addNode, cidr, forPod, holders, ip, makeWorld, poolResource, texts, worldProblems } from "./testing/world.ts";
import type { AssignRequest } from "./assign-batch.ts";

const POOLS = { default: { cidr: "10.0.0.0/24", blockSize: 26 } } as const;

const many = (count: number, extra: Partial<AssignRequest> = {}): AssignRequest => ({
  family: 4,
  count,
  handle: "all",
  attributes: {},
  use: "Workload",
  pools: [],
  ...extra,
});

describe("how many addresses", () => {
  const tiny = { pools: { v4: { cidr: "10.0.0.0/30", blockSize: 32 } } };
  const small = { pools: { v4: { cidr: "10.0.0.0/28", blockSize: 30 } } };
  const usual = { pools: { v4: { cidr: "10.0.0.0/24", blockSize: 26 } } };
  const six = { pools: { v6: { cidr: "fd00::/120", blockSize: 122 } } };
  const strict = { strictAffinity: true };
  test.each([
    ["none", usual, many(0), 0],
    ["one of blocks of one", tiny, many(1), 1],
    ["all of blocks of one", tiny, many(4), 4],
    ["one more than there are, of blocks of one", tiny, many(5), 4],
    ["one block of four", small, many(4), 4],
    ["more than one block of four", small, many(5), 5],
    ["more than there are, of blocks of four", small, many(17), 16],
    ["one block of sixty-four", usual, many(64), 64],
    ["sixty-five", usual, many(65), 65],
    ["256 of 256", usual, many(256), 256],
    ["257 of 256", usual, many(257), 256],
    ["256 of IPv6", six, many(256, { family: 6 }), 256],
    ["257 of IPv6", six, many(257, { family: 6 }), 256],
    ["one block at most, strict", { ...usual, config: strict }, many(65, { maxBlocks: 1 }), 64],
    ["two blocks at most, strict", { ...usual, config: strict }, many(256, { maxBlocks: 2 }), 128],
    [
      "the configured limit is lower",
      { ...usual, config: { ...strict, maxBlocksPerHost: 1 } },
      many(256, { maxBlocks: 3 }),
      64,
    ],
    [
      "the requested limit is lower",
      { ...usual, config: { ...strict, maxBlocksPerHost: 3 } },
      many(256, { maxBlocks: 2 }),
      128,
    ],
    ["one block at most, and borrowing", usual, many(65, { maxBlocks: 1 }), 64],
    ["half of it reserved", { ...usual, reservations: ["10.0.0.0/25"] }, many(256), 128],
  ])("%s", async (_what, options, request, got) => {
    const world = await makeWorld(options);
    const { assigned, error } = await world.ipam.autoAssign("a", request);
    expect(new Set(texts(assigned)).size).toBe(got);
    expect(error === undefined).toBe(got === request.count);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });
});

describe("which pools", () => {
  const selectors = { none: undefined, matches: "zone == 'east'", misses: "zone == 'west'" } as const;
  const table = (["none", "matches", "misses"] as const).flatMap((selector) =>
    [true, false].flatMap((disabled) =>
      [true, false].map((requested) => ({
        selector,
        disabled,
        requested,
        // A pool that is asked for need not select; it must be enabled in any case.
        expected: !disabled && (requested || selector !== "misses"),
      })),
    ),
  );
  test.each([4, 6] as const)("IPv%d: enabled, selecting and requested", async (family) => {
    const range = family === 4 ? { cidr: "10.0.0.0/24", blockSize: 26 } : { cidr: "fd00::/120", blockSize: 122 };
    for (const { selector, disabled, requested, expected } of table) {
      const nodeSelector = selectors[selector];
      const world = await makeWorld({
        nodes: { a: { zone: "east" } },
        pools: { p: { ...range, disabled, ...(nodeSelector === undefined ? {} : { nodeSelector }) } },
      });
      const { assigned, error } = await world.ipam.autoAssign("a", many(1, { family, pools: requested ? ["p"] : [] }));
      expect([selector, disabled, requested, assigned.length === 1]).toEqual([selector, disabled, requested, expected]);
      expect(error?.code).toBe(expected ? undefined : "NO_QUALIFIED_POOL");
    }
  });

  test("a pool that is gone gives nothing any more, and the next pool gives", async () => {
    const world = await makeWorld({ pools: POOLS });
    const host = world.host("a");
    await host.assign(forPod("one"));
    await world.store.delete("IPPool", { name: "default" });
    await world.clock.advance(6000);
    await expect(host.assign(forPod("two"))).rejects.toMatchObject({ code: "NO_QUALIFIED_POOL" });
    await world.store.create("IPPool", poolResource("next", { cidr: "10.7.0.0/24" }));
    expect(texts(await host.assign(forPod("two")))[0]).toMatch(/^10\.7\./);
    expect(await host.release("one")).toHaveLength(1);
  });

  test("one that cannot be had among those that are asked for is an error; pools asked for are filled in turn", async () => {
    const world = await makeWorld({
      pools: { one: { cidr: "10.1.0.0/25", blockSize: 26 }, two: { cidr: "10.2.0.0/25", blockSize: 26 } },
    });
    const both = await world.ipam.autoAssign("a", many(200, { pools: ["one", "two"] }));
    expect(both.assigned).toHaveLength(200);
    expect(new Set(texts(both.assigned).map((text) => text.slice(0, 4)))).toEqual(new Set(["10.1", "10.2"]));
    const mixed = await world.ipam.autoAssign("a", many(1, { pools: ["one", "nowhere"], handle: "x" }));
    expect(mixed.error?.code).toBe("NO_QUALIFIED_POOL");
  });
});

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

describe("one address", () => {
  test("who has it: outside every pool, in no block, free, in use", async () => {
    const world = await makeWorld({ pools: POOLS });
    const [assigned] = await world.host("a").assign({ ...forPod("x"), attributes: { node: "a", pod: "x" } });
    expect(await world.ipam.factsOf(ip("192.0.2.1"))).toBeUndefined();
    const other =
      (await world.store.list("IPAMBlock")).items[0]?.spec.cidr === "10.0.0.0/26" ? "10.0.0.200" : "10.0.0.1";
    expect(await world.ipam.factsOf(ip(other))).toBeUndefined();
    const address = assigned?.address ?? ip("0.0.0.0");
    expect(await world.ipam.factsOf({ ...address, value: address.value + 1n })).toBeUndefined();
    expect(await world.ipam.factsOf(address)).toMatchObject({ handle: "x", attributes: { node: "a", pod: "x" } });
  });

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
