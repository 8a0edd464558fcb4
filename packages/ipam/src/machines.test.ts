/** Addresses that outlive pods: owners of an address, limits of a handle, names of handles. */
import { beforeEach, describe, expect, test } from "vitest";
import { holders, ip, makeWorld, texts, type World, worldProblems } from "./testing/world.ts";
import { type IntendedUse, machineHandle, type OwnerChange, type OwnerCondition } from "./index.ts";

const HANDLE = machineHandle("net", "shop", "db");
const SOURCE = { namespace: "shop", pod: "virt-launcher-db-1", node: "a" };
const TARGET = { namespace: "shop", pod: "virt-launcher-db-2", node: "b" };

let world: World;
beforeEach(async () => {
  world = await makeWorld({
    pools: { v4: { cidr: "10.0.0.0/24", blockSize: 28 }, v6: { cidr: "fd00::/112", blockSize: 122 } },
  });
});

const start = async (attributes: Readonly<Record<string, string>> = SOURCE, host = "a", want6 = false) => {
  const request = { handle: HANDLE, attributes, want4: true, want6, maxPerHandle: 1 };
  return (await world.host(host).assign(request)).map(({ address }) => address);
};

describe("handles of machines", () => {
  test("are upstream's: network, namespace and name, or a hash where that is too long", () => {
    expect(machineHandle("", "default", "vm1")).toBe("k8s-pod-network.vmi.default.vm1");
    expect(machineHandle("multus-net1", "default", "vm.one")).toBe("multus-net1.vmi.default.vm.one");
    const long = machineHandle("net", "ns", "v".repeat(200));
    expect(long).toMatch(/^net\.vmi\._[\w-]{43}$/);
    expect(machineHandle("net", "ns", "v".repeat(201))).not.toBe(long);
  });
});

describe("the owners of an address", () => {
  interface Case {
    readonly what: string;
    readonly before?: OwnerChange;
    readonly change: OwnerChange;
    readonly condition?: OwnerCondition;
    /** Absent: refused. */
    readonly after?: { readonly active?: object; readonly alternate?: object };
  }
  const pod = ({ namespace, pod }: typeof SOURCE) => ({ namespace, pod });
  const both = { active: SOURCE, alternate: TARGET };
  const NONE = { active: null, alternate: null };
  test.each<Case>([
    { what: "the active one is set", before: NONE, change: { active: SOURCE }, after: { active: SOURCE } },
    { what: "the alternate one is set", before: NONE, change: { alternate: TARGET }, after: { alternate: TARGET } },
    { what: "both are set in one write", before: NONE, change: both, after: both },
    { what: "the active one is cleared", before: both, change: { active: null }, after: { alternate: TARGET } },
    { what: "the alternate one is cleared", before: both, change: { alternate: null }, after: { active: SOURCE } },
    { what: "both are cleared", before: both, change: NONE, after: {} },
    { what: "the active one is replaced", change: { active: TARGET }, after: { active: TARGET } },
    {
      what: "changing the active one leaves the alternate one",
      before: both,
      change: { active: TARGET },
      after: { active: TARGET, alternate: TARGET },
    },
    {
      what: "changing the alternate one leaves the active one",
      before: both,
      change: { alternate: SOURCE },
      after: { active: SOURCE, alternate: SOURCE },
    },
    {
      what: "the expected active owner is there",
      change: { active: TARGET },
      condition: { active: pod(SOURCE) },
      after: { active: TARGET },
    },
    { what: "the expected active owner is another", change: { active: TARGET }, condition: { active: pod(TARGET) } },
    {
      what: "the expected alternate owner is there",
      before: both,
      change: { alternate: null },
      condition: { alternate: pod(TARGET) },
      after: { active: SOURCE },
    },
    {
      what: "the expected alternate owner is another",
      before: both,
      change: { alternate: null },
      condition: { alternate: pod(SOURCE) },
    },
    {
      what: "nobody is active, as expected",
      before: NONE,
      change: { active: SOURCE },
      condition: { active: null },
      after: { active: SOURCE },
    },
    { what: "somebody is active, and nobody was expected", change: { active: TARGET }, condition: { active: null } },
    {
      what: "nobody is alternate, as expected",
      change: { alternate: TARGET },
      condition: { alternate: null },
      after: both,
    },
    {
      what: "somebody is alternate, and nobody was expected",
      before: both,
      change: { alternate: SOURCE },
      condition: { alternate: null },
    },
    {
      what: "both are expected and there: they change places",
      before: both,
      change: { active: TARGET, alternate: SOURCE },
      condition: { active: pod(SOURCE), alternate: pod(TARGET) },
      after: { active: TARGET, alternate: SOURCE },
    },
    {
      what: "one of two expectations fails: neither is changed",
      before: both,
      change: { active: TARGET, alternate: SOURCE },
      condition: { active: pod(SOURCE), alternate: pod(SOURCE) },
    },
    { what: "nothing is to be changed", change: {}, after: { active: SOURCE } },
  ])("$what", async ({ before, change, condition, after }) => {
    const [address = ip("0.0.0.0")] = await start();
    if (before !== undefined) await world.ipam.changeOwners({ address, handle: HANDLE, change: before });
    const seen = await world.ipam.heldBy(HANDLE);
    const sequence = (await world.ipam.factsOf(address))?.sequenceNumber;
    const outcome = await world.ipam.changeOwners({ address, handle: HANDLE, change, condition }).then(
      () => undefined,
      (error: unknown) => (error as { code?: string }).code,
    );
    expect(outcome).toBe(after === undefined ? "CONFLICT" : undefined);
    const expected = { address, handle: HANDLE, active: undefined, alternate: undefined, ...after };
    expect(await world.ipam.heldBy(HANDLE)).toEqual(after === undefined ? seen : [expected]);
    expect((await world.ipam.factsOf(address))?.sequenceNumber).toBe(sequence);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("of an address that another handle holds, or nobody, or that is in no block", async () => {
    const [address = ip("0.0.0.0")] = await start();
    const change = { active: TARGET };
    await expect(world.ipam.changeOwners({ address, handle: "other", change })).rejects.toMatchObject({
      code: "CONFLICT",
    });
    const free = { family: 4 as const, value: address.value ^ 1n };
    await expect(world.ipam.changeOwners({ address: free, handle: HANDLE, change })).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    await expect(world.ipam.changeOwners({ address: ip("192.0.2.1"), handle: HANDLE, change })).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("in no block") as string,
    });
  });

  test("changing those of one address leaves others of the same holder alone", async () => {
    const request = { family: 4 as const, count: 2, handle: "two", attributes: SOURCE, pools: [] };
    const use: IntendedUse = "Workload";
    const { assigned } = await world.ipam.autoAssign("a", { ...request, use });
    const [first, second] = assigned.map(({ address }) => address);
    if (first === undefined || second === undefined) throw new Error("two");
    await world.ipam.changeOwners({ address: first, handle: "two", change: { active: null } });
    expect((await world.ipam.factsOf(second))?.attributes).toEqual(SOURCE);
    expect((await world.ipam.factsOf(first))?.attributes).toEqual({});
    expect((await world.ipam.releaseUnowned("two")).released).toEqual([first]);
    expect(await world.ipam.addressesOf("two")).toEqual([second]);
  });

  test("a live migration: alternate, active, and the source goes", async () => {
    const held = await start(SOURCE, "a", true);
    for (const address of held)
      await world.ipam.changeOwners({ address, handle: HANDLE, change: { alternate: TARGET } });
    expect(await world.ipam.promoteOwner(HANDLE, pod(TARGET))).toBe(true);
    expect(await world.ipam.promoteOwner(HANDLE, pod(TARGET))).toBe(true);
    for (const one of await world.ipam.heldBy(HANDLE)) expect(one).toMatchObject({ active: TARGET, alternate: SOURCE });
    for (const address of held) {
      const condition = { alternate: pod(SOURCE) };
      await world.ipam.changeOwners({ address, handle: HANDLE, change: { alternate: null }, condition });
    }
    await expect(world.ipam.promoteOwner(HANDLE, pod(SOURCE))).rejects.toMatchObject({ code: "CONFLICT" });
    expect(await world.ipam.addressesOf(HANDLE)).toEqual(held);
    expect(await world.ipam.ownedBy(pod(TARGET))).toHaveLength(2);
    expect(await world.ipam.ownedBy(pod(SOURCE))).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("the source is gone before the target takes over", async () => {
    const [address = ip("0.0.0.0")] = await start();
    await world.ipam.changeOwners({ address, handle: HANDLE, change: { active: null, alternate: TARGET } });
    await world.ipam.promoteOwner(HANDLE, pod(TARGET));
    expect(await world.ipam.heldBy(HANDLE)).toMatchObject([{ active: TARGET, alternate: undefined }]);
    expect(await world.ipam.promoteOwner("nobody's", pod(TARGET))).toBe(false);
  });

  test("an address with an owner, active or alternate, is not released as ownerless", async () => {
    const [address = ip("0.0.0.0")] = await start();
    expect(await world.ipam.releaseUnowned(HANDLE)).toMatchObject({ released: [], stale: [{ address }] });
    await world.ipam.changeOwners({ address, handle: HANDLE, change: { active: null, alternate: TARGET } });
    expect(await world.ipam.releaseUnowned(HANDLE)).toMatchObject({ released: [], stale: [{ address }] });
    await world.ipam.changeOwners({ address, handle: HANDLE, change: { alternate: null } });
    expect(await world.ipam.releaseUnowned(HANDLE)).toMatchObject({ released: [address], stale: [] });
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });
});

describe("a limit of addresses per handle and family", () => {
  test("a second request gets the first one's addresses, on whichever node", async () => {
    const held = await start(SOURCE, "a", true);
    expect(await start(SOURCE, "a", true)).toEqual(held);
    expect(await start(TARGET, "b", true)).toEqual(held);
    expect([...(await holders(world.store)).values()]).toEqual([HANDLE, HANDLE]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("of two: two requests get one each, a third an old one", async () => {
    const ask = async (count: number) => {
      const request = { family: 4 as const, handle: HANDLE, attributes: SOURCE, use: "Workload" as const, pools: [] };
      return texts((await world.ipam.autoAssign("a", { ...request, count, maxPerHandle: 2 })).assigned);
    };
    const [first] = await ask(1);
    const [second] = await ask(1);
    expect(second).not.toBe(first);
    expect([first, second]).toContain((await ask(1))[0]);
    expect((await ask(2)).toSorted()).toEqual([first, second].toSorted());
  });

  test("one family is there, the other is missing: it is added, and a failure takes nothing away", async () => {
    const [four = ip("0.0.0.0")] = await start();
    expect((await start(SOURCE, "a", true)).map(({ family }) => family)).toEqual([4, 6]);
    await world.ipam.releaseByHandle(HANDLE);
    const [again = four] = await start();
    await world.store.delete("IPPool", { name: "v6" });
    await world.clock.advance(10_000);
    await expect(start(SOURCE, "b", true)).rejects.toMatchObject({ code: "NO_QUALIFIED_POOL" });
    expect(await world.ipam.addressesOf(HANDLE)).toEqual([again]);
  });

  test("particular addresses: the same one again is fine, another one is too many", async () => {
    const request = {
      owner: { type: "host", name: "a" } as const,
      handle: HANDLE,
      attributes: SOURCE,
      maxPerHandle: 1,
    };
    const ask = (text: string) => world.ipam.assignAddress({ ...request, address: ip(text) });
    await ask("10.0.0.5");
    await ask("10.0.0.5");
    await expect(ask("10.0.0.6")).rejects.toMatchObject({ code: "CONFLICT" });
    await expect(
      world.ipam.assignAddress({ ...request, handle: "other", address: ip("10.0.0.5") }),
    ).rejects.toMatchObject({ code: "ADDRESS_TAKEN" });
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });
});
