/** Addresses of virtual machines and garbage collection: as long as the machine exists, and five minutes more. */
import { intercept } from "@calico-ts/datastore";
import { formatAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { beforeEach, expect, test } from "vitest";
import { holders, makeWorld, type World, worldProblems } from "../testing/world.ts";
import { MACHINE_NAME, machineHandle } from "../allocator/machine.ts";
import { Collector } from "./collector.ts";

const MINUTE = 60_000;
const HANDLE = machineHandle("net", "shop", "db");
const POD = "virt-launcher-db-x";

let world: World;
let collector: Collector;
beforeEach(async () => {
  world = await makeWorld({ pools: { v4: { cidr: "10.0.0.0/24", blockSize: 30 } } });
  collector = new Collector({ client: world.store, clock: world.clock, grace: { leakMs: MINUTE } });
});

async function assign(handle = HANDLE, machine = "db"): Promise<string> {
  const attributes = { node: "a", namespace: "shop", pod: POD, [MACHINE_NAME]: machine };
  const request = { handle, attributes, want4: true, want6: false, maxPerHandle: 1 };
  return (await world.host("a").assign(request)).map(({ address }) => formatAddress(address)).join();
}

/** The pod is gone, and CNI has noted it. */
async function stop(handle = HANDLE): Promise<void> {
  for (const { address } of await world.ipam.heldBy(handle)) {
    await world.ipam.changeOwners({ address, handle, change: { active: null, alternate: null } });
  }
}

async function put(kind: "VirtualMachine" | "VirtualMachineInstance", name: string, owned = false): Promise<void> {
  const owner = { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name, uid: "u" };
  const metadata = { name, namespace: "shop", ...(owned && { ownerReferences: [owner] }) };
  await world.store.create(kind, { apiVersion: "kubevirt.io/v1", kind, metadata });
}

async function passes(minutes: number, gc = collector): Promise<void> {
  for (let at = 0; at < minutes; at++) {
    expect((await gc.pass()).failures).toEqual([]);
    await world.clock.advance(MINUTE);
  }
}

const held = async (): Promise<number> => (await holders(world.store)).size;

test.each([
  { what: "a machine that runs", kind: "VirtualMachine", stopped: false, kept: true },
  { what: "a machine that is stopped", kind: "VirtualMachine", stopped: true, kept: true },
  { what: "an instance without a machine", kind: "VirtualMachineInstance", stopped: true, kept: true },
  {
    what: "an instance whose machine is gone",
    kind: "VirtualMachineInstance",
    owned: true,
    stopped: true,
    kept: false,
  },
] as const)("the address of $what", async ({ kind, stopped, kept, ...rest }) => {
  await assign();
  await put(kind, "db", "owned" in rest);
  if (stopped) await stop();
  await passes(30);
  expect(await held()).toBe(kept ? 1 : 0);
  expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
});

test.each([false, true])("of a machine that is gone: not within five minutes (stopped before: %s)", async (stopped) => {
  await assign();
  if (stopped) await stop();
  await passes(5);
  expect(await held()).toBe(1);
  await passes(2);
  expect(await held()).toBe(0);
  expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
});

test("of a machine that is gone with its node: at once", async () => {
  await assign();
  await world.store.delete("Node", { name: "a" });
  await collector.pass();
  expect(await held()).toBe(0);
});

test("a machine that is made anew within that time keeps it", async () => {
  await assign();
  await stop();
  await passes(4);
  await put("VirtualMachine", "db");
  await passes(20);
  expect(await held()).toBe(1);
});

test("a long name, and a network whose name looks like a machine's", async () => {
  const long = "v".repeat(150);
  for (const [network, name] of [
    ["net", long],
    ["net.vmi.shop", "db"],
  ] as const) {
    const handle = machineHandle(network, "shop", name);
    await assign(handle, name);
    await put("VirtualMachine", name);
    await stop(handle);
  }
  await passes(20);
  expect(await held()).toBe(2);
});

test("a pod that still runs keeps it without its machine; what nobody knows stays", async () => {
  await assign();
  const metadata = { name: POD, namespace: "shop" };
  const spec = { nodeName: "a", containers: [{ name: "compute" }] };
  await world.store.create("Pod", { apiVersion: "v1", kind: "Pod", metadata, spec });
  await passes(20);
  expect(await held()).toBe(1);
  await world.store.delete("Pod", metadata);
  const without = intercept(world.store, {
    before: ({ kind, verb }) => {
      if (verb === "list" && kind === "VirtualMachine") throw new CalicoError("NOT_FOUND", "no such kind");
    },
  });
  await passes(20, new Collector({ client: without, clock: world.clock, grace: { leakMs: MINUTE } }));
  expect(await held()).toBe(1);
});

test("a machine that comes between decision and release keeps its address", async () => {
  await assign();
  await passes(4);
  await world.clock.advance(30_000);
  // Which machines there are is remembered for a minute; the last question goes out live.
  await collector.pass();
  await put("VirtualMachine", "db");
  await world.clock.advance(30_000);
  expect(await collector.pass()).toMatchObject({ released: 0, spared: 1 });
  expect(await held()).toBe(1);
});

test("a pod of the machine that comes at the very moment of the release keeps its address", async () => {
  await assign();
  const address = (await world.ipam.heldBy(HANDLE))[0]?.address;
  if (address === undefined) throw new Error("assigned");
  const next = { node: "b", namespace: "shop", pod: "virt-launcher-db-y", [MACHINE_NAME]: "db" };
  let came = false;
  const client = intercept(world.store, {
    before: async ({ kind, verb }) => {
      // Pools are read after every question about machines and pods has been answered.
      if (came || verb !== "list" || kind !== "IPPool") return;
      came = true;
      await world.ipam.changeOwners({ address, handle: HANDLE, change: { active: next } });
    },
  });
  await passes(6, new Collector({ client, clock: world.clock, grace: { leakMs: MINUTE } }));
  expect(came).toBe(true);
  expect((await world.ipam.heldBy(HANDLE)).map(({ active }) => active)).toEqual([next]);
});

test("a question about machines that fails keeps their addresses and nothing else", async () => {
  await assign();
  await world.host("a").assign({
    handle: "net.c1",
    attributes: { node: "a", namespace: "shop", pod: "gone" },
    want4: true,
    want6: false,
  });
  const failing = intercept(world.store, {
    before: ({ kind, verb }) => {
      if (verb === "list" && kind === "VirtualMachine") throw new CalicoError("FORBIDDEN", "no rights");
    },
  });
  const gc = new Collector({ client: failing, clock: world.clock, grace: { leakMs: MINUTE } });
  for (let at = 0; at < 10; at++) {
    expect((await gc.pass()).failures).toHaveLength(1);
    await world.clock.advance(MINUTE);
  }
  expect([...(await holders(world.store)).values()]).toEqual([HANDLE]);
});
