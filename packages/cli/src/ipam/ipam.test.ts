import { HostAllocator, machineHandle, type OwnerChange } from "@calico-ts/ipam";
import { makeWorld, type World } from "@calico-ts/ipam/testing";
import { intercept } from "@calico-ts/datastore";
import { CalicoError } from "@calico-ts/std";
import { formatAddress, parseAddress } from "@calico-ts/net";
import { beforeEach, describe, expect, test } from "vitest";
import { check } from "./check.ts";
import type { CheckReport } from "./check-report.ts";
import { configure } from "./configure.ts";
import { explain } from "./explain.ts";
import { forecast, outlook } from "./forecast.ts";
import { setReady } from "../commands/datastore.ts";
import { release } from "./release.ts";
import type { Session } from "./session.ts";
import { fiveDigits, percentage, show } from "./show.ts";
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
      /\| IP Pool\s+\| 10\.0\.0\.0\/24\s+\|\s+256 \|\s+1 \(0%\) \|\s+0 \(0%\) \|\s+255 \(100%\) \|/,
    );
    expect(printed).toMatch(/\| Block\s+\| 10\.0\.0\.\d+\/26\s+\|\s+64 \|\s+1 \(2%\)/);
    // The block of a pool that is gone is still told.
    await world.store.delete("IPPool", { name: "v4" });
    printed = "";
    await show(session, { showBlocks: true });
    expect(printed).not.toContain("IP Pool");
    expect(printed).toMatch(/\| Block\s+\| 10\.0\.0\.\d+\/26\s+\|\s+64 \|\s+1 \(2%\)/);
  });

  // Go's %.5g and %.f, which upstream prints with.
  test.each([
    [0n, "0"],
    [65_536n, "65536"],
    [100_000n, "1e+05"],
    [131_072n, "1.3107e+05"],
    [2n ** 64n, "1.8447e+19"],
    [2n ** 80n, "1.2089e+24"],
  ])("%d is written %s", (count, text) => expect(fiveDigits(count)).toBe(text));

  test.each([
    [5n, 65_536n, "0"],
    [65_531n, 65_536n, "100"],
    [5n, 64n, "8"],
    [59n, 64n, "92"],
    [1n, 8n, "12"],
    [3n, 8n, "38"],
    [0n, 0n, "0"],
  ])("%d of %d is %s%%", (part, whole, text) => expect(percentage(part, whole)).toBe(text));

  test("one address", async () => {
    const address = await assign("web");
    await show(session, { ip: address });
    expect(printed).toContain(
      `IP ${address} is in use\nHandle ID: net.c-web\nActive Owner Attributes:\n  namespace: shop\n  node: a\n  pod: web\n`,
    );
    await show(session, { ip: "10.0.0.250" });
    expect(printed).toContain("10.0.0.250 is not assigned");
    await expect(show(session, { ip: "10.240.0.300" })).rejects.toMatchObject({
      code: "BAD_INPUT",
      message: expect.stringContaining("invalid IP address"),
    });
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
  const report = (): CheckReport => JSON.parse(files.get("report.json") ?? "") as CheckReport;
  const cluster = async (datastoreReady: boolean): Promise<void> => setReady(world.store, datastoreReady);
  const handle = (id: string) =>
    world.store.create("IPAMHandle", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPAMHandle",
      metadata: { name: id },
      spec: { handleID: id, block: { "10.0.0.0/26": 1 }, deleted: false },
    });

  test("leaks, unknown users and wrong counts are found; the report releases the leaks and nothing else", async () => {
    const leaked = await assign("gone");
    const good = await assign("web");
    await run("web", good);
    await run("stray", "10.0.0.200");
    await run("outside", "192.0.2.7");
    await handle("left-behind");
    await check(session, { showProblemIps: true, output: "report.json" });
    for (const line of [
      `  ${leaked} leaked; attrs Main:net.c-gone Extra:namespace=shop,node=a,pod=gone`,
      "shop/gone: its pod does not exist",
      "Found 1 IPs that are allocated in IPAM but not actually in use.",
      "  10.0.0.200 in use by Workload(shop/stray) and in active IPAM pool but has no IPAM allocation.",
      "Found 1 in-use IPs that are not in active IP pools.",
      "Found 1 in-use IPs that are in active IP pools but have no corresponding IPAM allocation.",
      "Found 1 handles with no matching IPs (and 0 handles with matches).",
      "Found 0 handles mentioned in blocks with no matching handle resource.",
      "Found 0 invalid IPAMBlocks.",
      "Check complete; found 4 problems.",
    ])
      expect(printed).toContain(line);
    const entries = Object.values(report().allocations).flat();
    expect(entries.filter(({ inUse }) => !inUse).map(({ ip }) => ip)).toEqual([leaked]);
    expect(report().allocations[good]).toMatchObject([
      {
        ip: good,
        handle: "net.c-web",
        pod: "web",
        namespace: "shop",
        node: "a",
        inUse: true,
        owners: ["Workload(shop/web)"],
      },
    ]);
    expect(report().leakedHandles).toMatchObject([{ ID: "left-behind", Revision: expect.stringMatching(/./) }]);
    await expect(release(session, { fromReport: ["report.json"] })).rejects.toMatchObject({
      code: "CONFLICT",
      message: expect.stringContaining("not locked"),
    });
    await release(session, { fromReport: ["report.json"], force: true });
    expect(printed).toContain("Released 1 IPs successfully");
    expect(printed).toContain("Released 1 handles; 0 skipped; 0 errors.");
    expect(await world.ipam.factsOf(parseAddress(good))).toMatchObject({ handle: "net.c-web" });
    expect((await world.store.list("IPAMHandle")).items).toEqual([]);
    // The same report once more: what is there under the old names is something else.
    await handle("left-behind");
    printed = "";
    await release(session, { fromReport: ["report.json"], force: true });
    expect(printed).toContain(
      "Released 0 IPs successfully\n1 addresses marked as leaked in the report had already been cleaned up.",
    );
    expect(printed).toContain("Released 0 handles; 1 skipped; 0 errors.");
  });

  test("an address is a node's tunnel, a service's, or nobody's who is known", async () => {
    const give = async (attributes: Readonly<Record<string, string>>): Promise<string> => {
      const request = { handle: `h-${Object.values(attributes).join("-")}`, attributes, want4: true, want6: false };
      const [assigned] = await world.host("a").assign(request);
      return assigned === undefined ? "" : formatAddress(assigned.address);
    };
    const tunnel = await give({ node: "a", type: "vxlanTunnelAddress" });
    const old = await give({ node: "a", type: "ipipTunnelAddress" });
    const balanced = await give({ type: "LoadBalancer", service: "web", namespace: "shop" });
    const unknown = await give({ note: "?" });
    const annotations = { "projectcalico.org/IPv4VXLANTunnelAddr": tunnel };
    await world.store.patch("Node", { name: "a" }, { metadata: { annotations } });
    const metadata = { name: "web", namespace: "shop" };
    const spec = { type: "LoadBalancer" as const, ports: [{ port: 80 }] };
    await world.store.create("Service", { apiVersion: "v1", kind: "Service", metadata, spec });
    const ingress = [{ ip: balanced }];
    await world.store.patch("Service", metadata, { status: { loadBalancer: { ingress } } }, { status: true });
    await check(session, { showAllIps: true, output: "report.json" });
    expect(printed).toContain(`  ${tunnel} belongs to Node(a)\nFound 1 node tunnel IPs.`);
    expect(printed).toContain(`  ${balanced} belongs to Service(shop/web)\nFound 1 service load balancer(s).`);
    const state = ([one]: CheckReport["allocations"][string] = []) => [one?.inUse, one?.because];
    expect(state(report().allocations[tunnel])).toEqual([true, undefined]);
    expect(state(report().allocations[balanced])).toEqual([true, undefined]);
    expect(state(report().allocations[old])).toEqual([false, "node a does not have it as a tunnel address"]);
    expect(state(report().allocations[unknown])).toEqual([false, "nobody who is known has it"]);
  });

  test("what was assigned anew since the report stays", async () => {
    await assign("gone");
    await check(session, { output: "report.json" });
    await world.ipam.releaseByHandle("net.c-gone");
    for (let at = 0; at < 64; at++) await assign(`p${at}`);
    await release(session, { fromReport: ["report.json"], force: true });
    expect(printed).toMatch(/Kept 10\.0\.0\.\d+: .*\nReleased 0 IPs successfully/);
  });

  test("a report of a locked datastore is good until it is unlocked", async () => {
    await assign("gone");
    await cluster(false);
    await check(session, { output: "report.json" });
    await release(session, { fromReport: ["report.json"] });
    expect(printed).toContain("Released 1 IPs successfully");
    expect(printed).toContain("You may now unlock the data store.");
    await cluster(true);
    await expect(release(session, { fromReport: ["report.json"] })).rejects.toThrow(/not locked/);
    await cluster(false);
    await expect(release(session, { fromReport: ["report.json"] })).rejects.toThrow(/all stale/);
  });

  test("several reports: one must be of now, and only what all of them call a leak is released", async () => {
    const always = await assign("always");
    const found = await assign("found");
    await check(session, { output: "old.json" });
    await run("found", found);
    const late = await assign("late");
    await cluster(false);
    await check(session, { output: "report.json" });
    await expect(release(session, { fromReport: ["old.json"] })).rejects.toThrow(/all stale/);
    await release(session, { fromReport: ["old.json", "report.json"] });
    expect(printed).toContain("Releasing 1 old IPs...\nReleased 1 IPs successfully");
    expect(await world.ipam.factsOf(parseAddress(always))).toBeUndefined();
    for (const kept of [found, late]) expect(await world.ipam.factsOf(parseAddress(kept))).toBeDefined();
  });

  test("reports of another cluster are refused, whatever is said; of another version, unless forced", async () => {
    await assign("gone");
    await cluster(false);
    await check(session, { output: "report.json" });
    files.set("version.json", JSON.stringify({ ...report(), version: "v3.30.0" }));
    files.set("cluster.json", JSON.stringify({ ...report(), clusterGUID: "another" }));
    files.set("other.json", "{}");
    const from = (name: string, force = false): Promise<void> => release(session, { fromReport: [name], force });
    await expect(from("cluster.json", true)).rejects.toThrow(/mismatched cluster GUID/);
    await expect(from("version.json")).rejects.toThrow(/different version \(v3\.30\.0\)/);
    await expect(from("other.json", true)).rejects.toMatchObject({ code: "BAD_INPUT" });
    await expect(from("none.json", true)).rejects.toMatchObject({ code: "BAD_INPUT" });
    await from("version.json", true);
    expect(printed).toContain("WARNING: the provided report (version.json)");
    expect(printed).toContain("Released 1 IPs successfully");
  });

  test("one address, and one that is free", async () => {
    const address = await assign("web");
    await release(session, { ip: address });
    expect(printed).toBe(`Successfully released IP address ${address}\n`);
    await expect(release(session, { ip: address })).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: `IP address ${address} is not assigned`,
    });
    const used = await assign("alive");
    await run("alive", used);
    printed = "";
    await release(session, { ip: used });
    expect(printed).toContain(`Successfully released IP address ${used}\nWARNING: pod shop/alive still uses it`);
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
    expect(printed).toContain(
      `${address} leaked; attrs Main:${HANDLE} Extra:namespace=shop,node=a,pod=virt-launcher-db-1,vmi-name=db; its virtual machine does not exist`,
    );
    // It comes back before the report is worked off: the same assignment, another owner.
    const change = { active: owner("virt-launcher-db-2", "b") };
    await world.ipam.changeOwners({ address: parseAddress(address), handle: HANDLE, change });
    await release(session, { fromReport: ["report.json"], force: true });
    expect(printed).toMatch(/Kept .*\nReleased 0 IPs successfully/);
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
    expect(printed).toContain("Alternate Owner Attributes:\n  namespace: shop\n  node: b\n  pod: virt-launcher-db-2\n");
    await change({ active: null, alternate: null });
    await explain(session, address);
    expect(printed).toContain("kept for its virtual machine, which does not run.");
    await world.store.delete("VirtualMachine", { name: "db", namespace: "shop" });
    await explain(session, address);
    expect(printed).toContain("a leak: its virtual machine does not exist.");
  });
});
