/** Rows of upstream's scenario lists that are tables there (packages/cni/SCENARIOS.md says which row is tested where). */
import type { IPPoolSpec } from "@calico-ts/model";
import { addressAt, formatAddress, formatPrefix, overlaps, parsePrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { hostOwner } from "./allocator/names.ts";
import type { AssignRequest } from "./assign-batch.ts";
import { addNode, forPod, ip, makeWorld, poolResource, texts, worldProblems, type World } from "./testing/world.ts";

const many = (count: number, more: Partial<AssignRequest> = {}): AssignRequest => ({
  family: 4,
  count,
  handle: "many",
  attributes: {},
  use: "Workload",
  pools: [],
  ...more,
});

const blocksOf = async (world: World): Promise<number> => (await world.store.list("IPAMBlock")).items.length;

describe("how many addresses a request gets", () => {
  interface Row {
    readonly pool: string;
    readonly blockSize: number;
    readonly asked: number;
    readonly given: number;
    readonly blocks: number;
    readonly more?: Partial<AssignRequest>;
    readonly strict?: boolean;
    /** Addresses of another node's only block, before. */
    readonly others?: number;
  }
  const tiny = { pool: "10.0.0.0/30", blockSize: 32 };
  const small = { pool: "10.0.0.0/24", blockSize: 30 };
  const usual = { pool: "10.0.0.0/24", blockSize: 26 };
  test.each<[string, Row]>([
    ["none", { ...usual, asked: 0, given: 0, blocks: 0 }],
    ["one", { ...usual, asked: 1, given: 1, blocks: 1 }],
    ["a block less one", { ...usual, asked: 63, given: 63, blocks: 1 }],
    ["a block", { ...usual, asked: 64, given: 64, blocks: 1 }],
    ["a block and one", { ...usual, asked: 65, given: 65, blocks: 2 }],
    ["the whole pool", { ...usual, asked: 256, given: 256, blocks: 4 }],
    ["one more than the pool has", { ...usual, asked: 257, given: 256, blocks: 4 }],
    ["one of blocks of one", { ...tiny, asked: 1, given: 1, blocks: 1 }],
    ["all blocks of one", { ...tiny, asked: 4, given: 4, blocks: 4 }],
    ["more than all blocks of one", { ...tiny, asked: 5, given: 4, blocks: 4 }],
    ["small blocks", { ...small, asked: 64, given: 64, blocks: 16 }],
    ["as many blocks as the request allows", { ...small, asked: 8, given: 8, blocks: 2, more: { maxBlocks: 2 } }],
    ["no more than these", { ...small, asked: 9, given: 8, blocks: 2, more: { maxBlocks: 2 }, strict: true }],
    [
      "borrowed from a full pool's other owner",
      { pool: "10.0.0.0/26", blockSize: 26, asked: 10, given: 10, blocks: 1, others: 1 },
    ],
    [
      "what the other owner has left",
      { pool: "10.0.0.0/26", blockSize: 26, asked: 64, given: 60, blocks: 1, others: 4 },
    ],
    [
      "nothing of another's block when strict",
      { pool: "10.0.0.0/26", blockSize: 26, asked: 10, given: 0, blocks: 1, others: 1, strict: true },
    ],
  ])("%s", async (_what, { pool, blockSize, asked, given, blocks, more, strict, others }) => {
    const world = await makeWorld({ pools: { default: { cidr: pool, blockSize } } });
    if (others !== undefined) await world.ipam.autoAssign("b", many(others, { handle: "theirs" }));
    if (strict === true) await world.ipam.setConfig({ ...(await world.ipam.config()), strictAffinity: true });
    const { assigned, error } = await world.ipam.autoAssign("a", many(asked, more));
    expect(new Set(texts(assigned)).size).toBe(given);
    expect(error === undefined).toBe(given === asked);
    expect(await blocksOf(world)).toBe(blocks);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });
});

describe.each([
  [4, ["10.1.0.0/24", "10.2.0.0/24"], "fd09::/112"],
  [6, ["fd01::/120", "fd02::/120"], "10.9.0.0/24"],
] as const)("which pools an IPv%s request may use", (family, [first, second], otherFamily) => {
  type Spec = Partial<IPPoolSpec>;
  const off: Spec = { disabled: true };
  const here: Spec = { nodeSelector: "zone == 'here'" };
  const elsewhere: Spec = { nodeSelector: "zone == 'elsewhere'" };
  const manual: Spec = { assignmentMode: "Manual" };
  test.each<[string, readonly [Spec, Spec], readonly string[], readonly string[]]>([
    ["both", [{}, {}], [], ["one", "two"]],
    ["the one that is enabled", [{}, off], [], ["one"]],
    ["none when both are disabled", [off, off], [], []],
    ["the one that was asked for", [{}, {}], ["two"], ["two"]],
    ["both that were asked for", [{}, {}], ["two", "one"], ["one", "two"]],
    ["none when the one asked for is disabled", [{}, off], ["two"], []],
    ["none when nobody knows the one asked for", [{}, {}], ["three"], []],
    ["none when one that was asked for is unknown", [{}, {}], ["one", "three"], []],
    ["none when the one asked for is of the other family", [{}, {}], ["other"], []],
    ["the one that selects the node", [here, elsewhere], [], ["one"]],
    ["the one that selects the node beside one that selects all", [here, {}], [], ["one", "two"]],
    ["none that selects another node", [elsewhere, elsewhere], [], []],
    ["one that selects another node, when asked for", [here, elsewhere], ["two"], ["two"]],
    ["not one for manual assignment", [{}, manual], [], ["one"]],
    ["one for manual assignment, when asked for", [{}, manual], ["two"], ["two"]],
  ])("%s", async (_what, [one, two], asked, expected) => {
    const blockSize = family === 4 ? 26 : 122;
    const world = await makeWorld({
      nodes: { a: { zone: "here" } },
      pools: {
        one: { cidr: first, blockSize, ...one },
        two: { cidr: second, blockSize, ...two },
        other: { cidr: otherFamily, blockSize: family === 4 ? 122 : 26 },
      },
    });
    // More than one pool holds, so that every pool that may be used is.
    const { assigned, error } = await world.ipam.autoAssign("a", many(300, { family, pools: [...asked] }));
    const inPool = (cidr: string): boolean => texts(assigned).some((text) => text.startsWith(cidr.slice(0, 5)));
    const used = [...(inPool(first) ? ["one"] : []), ...(inPool(second) ? ["two"] : [])];
    const code = ["NO_QUALIFIED_POOL", "POOL_EXHAUSTED", undefined][expected.length];
    expect({ used, code: error?.code }).toEqual({ used: expected, code });
  });
});

describe("namespace selectors", () => {
  const labels = { team: "blue", kubernetes: "yes" };
  test.each<[string, string | undefined, boolean]>([
    ["absent", undefined, true],
    ["empty", "", true],
    ["all()", "all()", true],
    ["a label that matches", "team == 'blue'", true],
    ["a label of another value", "team == 'red'", false],
    ["a label that is there", "has(kubernetes)", true],
    ["a label that is not there", "has(nothing)", false],
    ["a label that must not be there", "!has(nothing)", true],
    ["one of several values", "team in {'red', 'blue'}", true],
    ["both of two", "team == 'blue' && has(nothing)", false],
    ["either of two", "team == 'red' || has(kubernetes)", true],
  ])("%s", async (_what, namespaceSelector, selected) => {
    const world = await makeWorld({
      pools: { one: { cidr: "10.1.0.0/24", ...(namespaceSelector !== undefined && { namespaceSelector }) } },
    });
    const outcome = await world.ipam.autoAssign("a", many(1, { namespaceLabels: labels }));
    expect({ given: outcome.assigned.length, code: outcome.error?.code }).toEqual(
      selected ? { given: 1, code: undefined } : { given: 0, code: "NO_QUALIFIED_POOL" },
    );
  });

  test("a namespace nobody named is selected by what selects all", async () => {
    const world = await makeWorld({ pools: { one: { cidr: "10.1.0.0/24", namespaceSelector: "team == 'blue'" } } });
    await expect(world.host("a").assign(forPod("x"))).rejects.toMatchObject({ code: "NO_QUALIFIED_POOL" });
  });
});

describe("pools that change under a node's blocks", () => {
  const pools = { one: { cidr: "10.1.0.0/24" }, two: { cidr: "10.2.0.0/24", assignmentMode: "Manual" as const } };

  test("nothing is assigned from a pool that was deleted; the next one takes over, and the old address stays valid", async () => {
    const world = await makeWorld({ pools: { one: pools.one } });
    const host = world.host("a");
    const [before] = await host.assign(forPod("x"));
    await world.store.delete("IPPool", { name: "one" });
    await world.store.create("IPPool", poolResource("two", { cidr: "10.2.0.0/24" }));
    await world.clock.advance(60_000);
    expect(texts(await host.assign(forPod("y")))[0]).toMatch(/^10\.2\./);
    expect(await world.ipam.factsOf(before?.address ?? ip("0.0.0.0"))).toMatchObject({ attributes: { pod: "x" } });
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("a request for another pool, and a changed use, leave the node its blocks", async () => {
    const world = await makeWorld({ pools });
    const host = world.host("a");
    await host.assign(forPod("x"));
    await host.release("x");
    await host.assign({ ...forPod("y"), pools4: ["two"] });
    const { spec, metadata } = await world.store.get("IPPool", { name: "one" });
    await world.store.update("IPPool", {
      ...poolResource("one", { ...spec, allowedUses: ["Tunnel"] }),
      metadata,
    });
    await world.clock.advance(60_000);
    await host.assign({ ...forPod("z"), pools4: ["two"] });
    const cidrs = (await world.store.list("BlockAffinity")).items.map((item) => item.spec.cidr.slice(0, 5));
    expect(cidrs.toSorted()).toEqual(["10.1.", "10.2."]);
  });

  test.each([
    ["smaller", 26, 29, 64],
    ["larger", 29, 26, 24],
  ])("a pool made anew with %s blocks gives nothing out twice", async (_what, before, after, all) => {
    const cidr = "10.0.0.0/26";
    const world = await makeWorld({ pools: { one: { cidr, blockSize: before } } });
    const given: string[] = [];
    for (let at = 0; at < 20; at++) given.push(...texts(await world.host("a").assign(forPod(`x${at}`))));
    await world.store.delete("IPPool", { name: "one" });
    await world.store.create("IPPool", poolResource("one", { cidr, blockSize: after }));
    await world.clock.advance(60_000);
    // Who asks for a particular address gets it from the block it is in.
    const particular = (address: string, handle: string): Promise<void> =>
      world.ipam.assignAddress({ address: ip(address), owner: hostOwner("b"), handle, attributes: {} });
    const roomy = (await world.store.list("IPAMBlock")).items.find(({ spec }) => spec.unallocated.length > 0)?.spec;
    const free = formatAddress(addressAt(parsePrefix(roomy?.cidr ?? ""), roomy?.unallocated[0] ?? 0));
    await particular(free, "particular");
    expect((await world.store.get("IPAMHandle", { name: "particular" })).spec.block).toEqual({
      [roomy?.cidr ?? ""]: 1,
    });
    given.push(free);
    const b = world.host("b");
    for (let at = 0; at < 64; at++) given.push(...texts(await b.assign(forPod(`y${at}`)).catch(() => [])));
    expect(given).toHaveLength(all);
    expect(new Set(given).size).toBe(all);
    // The rest is of blocks that cannot be made.
    for (let last = 0; last < 64; last++) {
      if (given.includes(`10.0.0.${last}`)) continue;
      await expect(particular(`10.0.0.${last}`, `z${last}`)).rejects.toMatchObject({
        code: "ADDRESS_TAKEN",
        message: expect.stringContaining("a block of another size"),
      });
    }
    const listed = (await world.store.list("IPAMBlock")).items.map(({ spec }) => parsePrefix(spec.cidr));
    for (const [at, one] of listed.entries())
      expect(listed.slice(at + 1).some((other) => overlaps(one, other))).toBe(false);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("a handle released and assigned again is the same books", async () => {
    const world = await makeWorld();
    for (let round = 0; round < 3; round++) {
      const { assigned } = await world.ipam.autoAssign("a", many(3));
      expect(assigned).toHaveLength(3);
      expect(await world.ipam.releaseByHandle("many")).toHaveLength(3);
    }
    expect((await world.store.list("IPAMHandle")).items).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("a node with a name as long as names may be", async () => {
    const world = await makeWorld({ nodes: {} });
    const name = "n".repeat(253);
    await addNode(world.store, name);
    expect(await world.host(name).assign(forPod("x"))).toHaveLength(1);
    expect(await world.host(name).assign(forPod("y"))).toHaveLength(1);
    const [affinity] = (await world.store.list("BlockAffinity")).items;
    expect(affinity?.spec.node).toBe(name);
    expect(affinity?.metadata.name.length).toBeLessThanOrEqual(253);
    await world.ipam.removeHost(name);
    expect((await world.store.list("BlockAffinity")).items).toEqual([]);
  });
});

test("reserved after they were given out: they stay in use, and are not given out again", async () => {
  const world = await makeWorld({ pools: { small: { cidr: "10.0.0.0/29", blockSize: 30 } } });
  const host = world.host("a");
  for (let at = 0; at < 8; at++) await host.assign(forPod(`p${at}`));
  await world.store.create("IPReservation", {
    apiVersion: "projectcalico.org/v3",
    kind: "IPReservation",
    metadata: { name: "late" },
    spec: { reservedCIDRs: ["10.0.0.2/31", "10.0.0.4/30"] },
  });
  await world.clock.advance(10_000);
  for (let at = 0; at < 8; at++) expect(await host.release(`p${at}`)).toHaveLength(1);
  const again: string[] = [];
  for (let at = 0; at < 2; at++) again.push(...texts(await host.assign(forPod(`q${at}`))));
  expect(again.toSorted()).toEqual(["10.0.0.0", "10.0.0.1"]);
  await expect(host.assign(forPod("more"))).rejects.toMatchObject({ code: "POOL_EXHAUSTED" });
});

test("what is known of an address: in no pool, in no block, free, in use", async () => {
  const world = await makeWorld();
  await world.ipam.assignAddress({
    address: ip("10.0.0.1"),
    owner: hostOwner("a"),
    handle: "x",
    attributes: { pod: "x", note: "kept" },
  });
  for (const free of ["192.0.2.1", "10.0.0.200", "10.0.0.2"]) {
    expect(await world.ipam.factsOf(ip(free))).toBeUndefined();
  }
  expect(await world.ipam.factsOf(ip("10.0.0.1"))).toMatchObject({
    handle: "x",
    attributes: { pod: "x", note: "kept" },
  });
});

describe("a block for a host", () => {
  const ensure = { host: "a", family: 4 as const, pools: [] as string[] };

  test("is of the pool asked for, of the family asked for, and none when no pool will have it", async () => {
    const world = await makeWorld({
      pools: {
        one: { cidr: "10.1.0.0/24", nodeSelector: "!all()" },
        two: { cidr: "10.2.0.0/24", nodeSelector: "!all()" },
        six: { cidr: "fd00::/112", blockSize: 122 },
      },
    });
    expect(formatPrefix(await world.ipam.ensureBlock({ ...ensure, pools: ["two"] }))).toMatch(/^10\.2\./);
    expect(formatPrefix(await world.ipam.ensureBlock({ ...ensure, family: 6 }))).toMatch(/^fd00:/);
    await expect(world.ipam.ensureBlock(ensure)).rejects.toMatchObject({ code: "NO_QUALIFIED_POOL" });
    await expect(world.ipam.ensureBlock({ ...ensure, pools: ["nowhere"] })).rejects.toMatchObject({
      code: "NO_QUALIFIED_POOL",
    });
  });

  test("is not one that is full or reserved", async () => {
    const world = await makeWorld({
      pools: { small: { cidr: "10.0.0.0/28", blockSize: 30 } },
      reservations: ["10.0.0.0/30", "10.0.0.4/30"],
    });
    const first = await world.ipam.ensureBlock(ensure);
    expect(["10.0.0.8/30", "10.0.0.12/30"]).toContain(formatPrefix(first));
    await world.ipam.autoAssign("a", many(4));
    const next = await world.ipam.ensureBlock(ensure);
    expect(formatPrefix(next)).not.toBe(formatPrefix(first));
  });
});

test("utilization counts blocks, allocations and reservations", async () => {
  const world = await makeWorld({
    pools: { default: { cidr: "10.0.0.0/27", blockSize: 28 } },
    reservations: ["10.0.0.0/30", "10.0.0.30/31", "10.0.0.2/31"],
  });
  const { assigned } = await world.ipam.autoAssign("a", many(10));
  expect(
    texts(assigned)
      .map((text) => Number(text.split(".")[3]))
      .filter((last) => last < 4 || last > 29),
  ).toEqual([]);
  expect(await world.ipam.utilization()).toMatchObject([
    { pool: { name: "default" }, capacity: 32n, inUse: 10n, reserved: 6n, free: 16n, blocks: [{ reserved: 4 }] },
  ]);
  // Over what is in use already: it counts as both, and nothing becomes less free.
  await world.store.create("IPReservation", {
    apiVersion: "projectcalico.org/v3",
    kind: "IPReservation",
    metadata: { name: "late" },
    spec: { reservedCIDRs: [`${texts(assigned)[0] ?? ""}/32`] },
  });
  expect(await world.ipam.utilization()).toMatchObject([
    { inUse: 10n, reserved: 7n, free: 16n, blocks: [{ reserved: 5, inUse: 10, free: 2 }] },
  ]);
  await world.store.delete("IPPool", { name: "default" });
  expect(await world.ipam.utilization()).toEqual([]);
  expect(await world.ipam.strayBlocks()).toMatchObject([{ inUse: 10, reserved: 5, free: 2 }]);
});
