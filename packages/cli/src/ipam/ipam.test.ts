import { HostAllocator, machineHandle, type OwnerChange } from "@calico-ts/ipam";
import { makeWorld, type World } from "@calico-ts/ipam/testing";
import { intercept } from "@calico-ts/datastore";
import { CalicoError } from "@calico-ts/std";
import { formatAddress, parseAddress } from "@calico-ts/net";
import { beforeEach, describe, expect, test } from "vitest";
import { check, type CheckReport } from "./check.ts";
import { configure } from "./configure.ts";
import { explain } from "./explain.ts";
import { forecast, outlook } from "./forecast.ts";
import { setReady } from "../commands/datastore.ts";
import { release } from "./release.ts";
import type { Session } from "./session.ts";
import { show } from "./show.ts";
import { split } from "./split.ts";

let world: World;
let printed: string;
let files: Map<string, string>;
let session: Session;

beforeEach(async () => {
  world = await makeWorld({ pools: { v4: { cidr: "10.0.0.0/24", blockSize: 26 } } });
  printed = "";
  files = new Map();
  session = {
    client: world.store,
    clock: world.clock,
    out: (text) => (printed += text),
    readFile: (path) => files.get(path) ?? "",
    writeFile: (path, text) => void files.set(path, text),
  };
});

async function assign(pod: string, node = "a"): Promise<string> {
  const allocator = new HostAllocator({ client: world.store, clock: world.clock, host: node });
  const attributes = { pod, namespace: "shop", node, timestamp: new Date(world.clock.now()).toISOString() };
  const [assigned] = await allocator.assign({ handle: `net.c-${pod}`, attributes, want4: true, want6: false });
  return assigned === undefined ? "" : formatAddress(assigned.address);
}

async function run(pod: string, address: string, node = "a"): Promise<void> {
  const metadata = { name: pod, namespace: "shop" };
  await world.store.create("Pod", {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec: { nodeName: node, containers: [{ name: "main" }] },
  });
  const status = { phase: "Running", podIPs: [{ ip: address }] };
  await world.store.patch("Pod", metadata, { status }, { status: true });
}

describe("ipam show", () => {
  test("pools and blocks", async () => {
    await assign("web");
    await show(session, { showBlocks: true });
    expect(printed).toMatch(
      /\|\s+GROUPING\s+\|\s+CIDR\s+\|\s+IPS TOTAL\s+\|\s+IPS IN USE\s+\|\s+IPS RESERVED\s+\|\s+IPS FREE/,
    );
    expect(printed).toMatch(
      /\| IP Pool\s+\| 10\.0\.0\.0\/24\s+\|\s+256 \|\s+1 \(0%\) \|\s+0 \(0%\) \|\s+255 \(99%\) \|/,
    );
    expect(printed).toMatch(/\| Block\s+\| 10\.0\.0\.\d+\/26\s+\|\s+64 \|\s+1 \(1%\)/);
  });

  test("one address", async () => {
    const address = await assign("web");
    await show(session, { ip: address });
    expect(printed).toContain(`IP ${address} is in use\nAttributes:\n  namespace: shop\n  node: a\n  pod: web\n`);
    await show(session, { ip: "10.0.0.250" });
    expect(printed).toContain("10.0.0.250 is not assigned");
    await expect(show(session, { ip: "nonsense" })).rejects.toMatchObject({ code: "BAD_INPUT" });
  });

  test("who borrowed", async () => {
    for (let at = 0; at < 4 * 64; at++) await assign(`p${at}`, "a");
    await world.ipam.releaseByHandle("net.c-p7");
    await assign("guest", "b");
    await show(session, { showBorrowed: true });
    expect(printed).toMatch(/\| b\s+\| 10\.0\.0\.\d+\/26 \| a\s+\| pod\s+\| shop\/guest/);
  });
});

test("ipam configure changes what is given, and show tells it", async () => {
  await configure(session, { strictaffinity: "true", ipCooldownSeconds: "30" });
  expect(printed).toBe("Successfully set StrictAffinity to: true\nSuccessfully set IPCooldownSeconds to: 30\n");
  await show(session, { showConfiguration: true });
  expect(printed).toMatch(/StrictAffinity\s+\| true/);
  await configure(session, { kubevirtIpPersistence: "Disabled" });
  await show(session, { showConfiguration: true });
  expect(printed).toMatch(/KubeVirtVMAddressPersistence\s+\| Disabled/);
  await expect(configure(session, { kubevirtIpPersistence: "no" })).rejects.toMatchObject({ code: "BAD_INPUT" });
  await expect(configure(session, { strictaffinity: "maybe" })).rejects.toMatchObject({ code: "BAD_INPUT" });
  await expect(configure(session, {})).rejects.toMatchObject({ code: "BAD_INPUT" });
});

describe("ipam check and release", () => {
  test("leaks, unknown users and wrong counts are found; the report releases the leaks and nothing else", async () => {
    const leaked = await assign("gone");
    const good = await assign("web");
    await run("web", good);
    await run("stray", "10.0.0.200");
    await world.ipam.claimAffinity({ ...(await import("@calico-ts/net")).parsePrefix("10.0.0.192/26") }, "b");
    await check(session, { showProblemIps: true, output: "report.json" });
    expect(printed).toContain(`${leaked} (net.c-gone): shop/gone: its pod does not exist`);
    expect(printed).toContain("10.0.0.200 is used by pod shop/stray");
    expect(printed).toContain("found 2 problems");
    const report = JSON.parse(files.get("report.json") ?? "") as CheckReport;
    expect(report.leaked.map(({ address }) => address)).toEqual([leaked]);
    await expect(release(session, { fromReport: ["report.json"] })).rejects.toMatchObject({ code: "CONFLICT" });
    await release(session, { fromReport: ["report.json"], force: true });
    expect(printed).toContain("Released 1 IPs successfully");
    expect(await world.ipam.factsOf(parseAddress(good))).toMatchObject({ handle: "net.c-web" });
  });

  test("what was assigned anew since the report stays", async () => {
    await assign("gone");
    await check(session, { output: "report.json" });
    await world.ipam.releaseByHandle("net.c-gone");
    for (let at = 0; at < 64; at++) await assign(`p${at}`);
    await release(session, { fromReport: ["report.json"], force: true });
    expect(printed).toContain("Released 0 IPs successfully; 1 kept");
  });

  test("a report of a locked datastore is good until it is unlocked", async () => {
    await assign("gone");
    const cluster = await world.store.create("ClusterInformation", {
      apiVersion: "projectcalico.org/v3",
      kind: "ClusterInformation",
      metadata: { name: "default" },
      spec: { datastoreReady: false },
    });
    await check(session, { output: "report.json" });
    await release(session, { fromReport: ["report.json"] });
    expect(printed).toContain("Released 1 IPs successfully");
    await world.store.update("ClusterInformation", { ...cluster, spec: { datastoreReady: true } });
    await expect(release(session, { fromReport: ["report.json"] })).rejects.toMatchObject({ code: "CONFLICT" });
  });

  test("one address, and one that is free", async () => {
    const address = await assign("web");
    await release(session, { ip: address });
    expect(printed).toBe(`Successfully released IP address ${address}\n`);
    await expect(release(session, { ip: address })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(release(session, {})).rejects.toMatchObject({ code: "BAD_INPUT" });
  });
});

describe("ipam explain", () => {
  test("an address in use, a leak, a free one", async () => {
    const [used, leak] = [await assign("web"), await assign("gone")];
    await run("web", used);
    await world.clock.advance(10 * 60_000);
    await explain(session, used);
    expect(printed).toContain("given to pod shop/web on node a, sandbox c-web.");
    expect(printed).toContain("10 minutes ago");
    expect(printed).toContain("in use: its pod exists and has it.");
    expect(printed).not.toContain("The same sandbox");
    await explain(session, leak);
    expect(printed).toContain("a leak: its pod does not exist. Garbage collection releases it after its grace period.");
    await explain(session, "10.9.9.9");
    expect(printed).toContain("10.9.9.9 is assigned to nobody.\nIt is in no block.");
  });
});

describe("ipam split", () => {
  test("needs a lock, checks everything first, and keeps blocks and addresses", async () => {
    const address = await assign("web");
    const pool = { name: "v4" };
    await expect(split(session, "4", pool)).rejects.toMatchObject({ code: "CONFLICT", message: /migrate lock/ });
    await setReady(world.store, false);
    await expect(split(session, "3", pool)).rejects.toThrow(/power of two/);
    await expect(split(session, "8", pool)).rejects.toThrow(/has 4 blocks of \/26/);
    await expect(split(session, "2", { cidr: "10.9.0.0/24" })).rejects.toThrow(/there are v4 \(10\.0\.0\.0\/24\)/);
    await expect(split(session, "2", {})).rejects.toMatchObject({ code: "BAD_INPUT" });
    await split(session, "4", { cidr: "10.0.0.0/24" });
    expect(printed).toContain("IP Pool v4 was successfully split into 4 smaller pools.");
    expect(printed).toContain("Created split-v4-1 with CIDR 10.0.0.64/26.");
    const { items } = await world.store.list("IPPool");
    expect(items.map(({ metadata, spec }) => [metadata.name, spec.cidr, spec.disabled])).toEqual([
      ["split-v4-0", "10.0.0.0/26", false],
      ["split-v4-1", "10.0.0.64/26", false],
      ["split-v4-2", "10.0.0.128/26", false],
      ["split-v4-3", "10.0.0.192/26", false],
    ]);
    await setReady(world.store, true);
    expect(await world.ipam.factsOf(parseAddress(address))).toMatchObject({ handle: "net.c-web" });
    await assign("next");
  });

  test("interrupted anywhere and repeated, it ends the same", async () => {
    await setReady(world.store, false);
    for (let after = 0; after < 4; after++) {
      world = await makeWorld({ pools: { v4: { cidr: "10.0.0.0/24", blockSize: 26 } } });
      await setReady(world.store, false);
      let writes = 0;
      const client = intercept(world.store, {
        before: ({ writes: isWrite }) => {
          if (isWrite && writes++ === after) throw new CalicoError("UNAVAILABLE", "gone");
        },
      });
      await expect(split({ ...session, client }, "2", { name: "v4" })).rejects.toMatchObject({ code: "UNAVAILABLE" });
      await split({ ...session, client: world.store }, "2", { name: "v4" });
      const { items } = await world.store.list("IPPool");
      expect(items.map(({ metadata }) => metadata.name)).toEqual(["split-v4-0", "split-v4-1"]);
    }
  });
});

describe("ipam forecast", () => {
  test("tells when a pool will be full, at the earliest", async () => {
    await forecast(session, {});
    expect(printed).toMatch(/\| v4\s+\| 10\.0\.0\.0\/24 \|\s+256 \|\s+0 \|\s+256 \|\s+0 \|\s+4 \| not in sight/);
    for (let at = 0; at < 10; at++) await assign(`p${at}`);
    await world.clock.advance(3_600_000);
    printed = "";
    await forecast(session, {});
    // Ten an hour, and 246 are left.
    expect(printed).toMatch(/\|\s+10 \|\s+246 \|\s+10 \|\s+3 \| in 24 hours/);
    await world.clock.advance(48 * 3_600_000);
    printed = "";
    await forecast(session, { window: "1h" });
    expect(printed).toContain("not in sight");
    await expect(forecast(session, { window: "soon" })).rejects.toMatchObject({ code: "BAD_INPUT" });
  });

  test.each([
    [100n, [], undefined],
    [100n, [50_000], 100 * 50_000],
    [100n, [0, 99_000], (100 / 1) * 10_000],
    [0n, [99_000], 0],
  ])("%d free, given out at %j", (free, times, fullInMs) => {
    expect(outlook(free, times, { nowMs: 100_000, windowMs: times.length > 1 ? 10_000 : 100_000 }).fullInMs).toBe(
      fullInMs,
    );
  });
});

describe("addresses of virtual machines", () => {
  const HANDLE = machineHandle("net", "shop", "db");
  const owner = (pod: string, node: string) => ({ pod, namespace: "shop", node, "vmi-name": "db" });

  async function machine(): Promise<string> {
    const request = { handle: HANDLE, attributes: owner("virt-launcher-db-1", "a"), want4: true, want6: false };
    const [assigned] = await world.host("a").assign({ ...request, maxPerHandle: 1 });
    if (assigned === undefined) throw new Error("assigned");
    await world.store.create("VirtualMachine", {
      apiVersion: "kubevirt.io/v1",
      kind: "VirtualMachine",
      metadata: { name: "db", namespace: "shop" },
    });
    return formatAddress(assigned.address);
  }

  test("are in use while the machine exists, and a leak of its end", async () => {
    const address = await machine();
    await check(session, { showProblemIps: true });
    expect(printed).toContain("found 0 problems");
    await world.store.delete("VirtualMachine", { name: "db", namespace: "shop" });
    await check(session, { showProblemIps: true, output: "report.json" });
    expect(printed).toContain(`${address} (${HANDLE}): its virtual machine does not exist`);
    // It comes back before the report is worked off: the same assignment, another owner.
    const change = { active: owner("virt-launcher-db-2", "b") };
    await world.ipam.changeOwners({ address: parseAddress(address), handle: HANDLE, change });
    await release(session, { fromReport: ["report.json"], force: true });
    expect(printed).toContain("Released 0 IPs successfully; 1 kept");
  });

  test("are explained: running, moving, stopped, gone", async () => {
    const address = await machine();
    const change = (owners: OwnerChange): Promise<boolean> =>
      world.ipam.changeOwners({ address: parseAddress(address), handle: HANDLE, change: owners });
    await explain(session, address);
    expect(printed).toContain("in use: a virtual machine has it, and keeps it when its pod changes.");
    await change({ alternate: owner("virt-launcher-db-2", "b") });
    await explain(session, address);
    expect(printed).toContain("is moving to, or has just left, pod shop/virt-launcher-db-2 on node b.");
    await show(session, { ip: address });
    expect(printed).toContain("Alternate owner:\n  pod: virt-launcher-db-2\n");
    await change({ active: null, alternate: null });
    await explain(session, address);
    expect(printed).toContain("kept for its virtual machine, which does not run.");
    await world.store.delete("VirtualMachine", { name: "db", namespace: "shop" });
    await explain(session, address);
    expect(printed).toContain("a leak: its virtual machine does not exist.");
  });
});
