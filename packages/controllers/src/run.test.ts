import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DatastoreClient } from "@calico-ts/datastore";
import { HostAllocator } from "@calico-ts/ipam";
import { makeWorld, type World } from "@calico-ts/ipam/testing";
import { createLogger, systemClock } from "@calico-ts/runtime";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { defaultConfiguration } from "./config.ts";
import { type Outcome, runControllers } from "./run.ts";
import { readControllersSettings } from "./settings.ts";
import { liveness, readiness, StatusFile } from "./status-file.ts";

const PATIENCE = { timeout: 20_000, interval: 20 };

let folder: string;
let world: World;
let stop: AbortController;
let lines: string[];
let running: Promise<Outcome>;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "ct-controllers-"));
  world = await makeWorld({ pools: { pool: { cidr: "10.0.0.0/24", blockSize: 30 } } });
  stop = new AbortController();
  lines = [];
  running = Promise.resolve("stopped");
});

afterEach(async () => {
  stop.abort();
  await running.catch(() => undefined);
  rmSync(folder, { recursive: true, force: true });
});

const statusPath = (): string => join(folder, "status/status.json");

function start(env: Readonly<Record<string, string>> = {}, client: DatastoreClient = world.store): void {
  const log = createLogger({
    component: "test",
    level: "Info",
    stream: {
      write: (line: string) => {
        lines.push(line);
        return true;
      },
    },
  });
  running = runControllers(
    {
      client,
      settings: readControllersSettings({ ENABLED_CONTROLLERS: "node", ...env }),
      environmentVars: { ENABLED_CONTROLLERS: "node" },
      clock: systemClock,
      log,
      setLogLevel: () => undefined,
      statusFile: new StatusFile(statusPath()),
      metricsPort: 0,
      passGapMs: 10,
    },
    stop.signal,
  );
  // Each test says how it ends.
  running.catch(() => undefined);
}

async function metrics(): Promise<string> {
  const port = await vi.waitFor(() => {
    const found = /metrics\.listening.*?port\W+(\d+)/.exec(lines.join("\n"))?.[1];
    if (found === undefined) throw new Error("no metrics yet");
    return found;
  }, PATIENCE);
  return (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
}

async function assign(pod: string, node: string): Promise<void> {
  const attributes = { pod, namespace: "default", node };
  await new HostAllocator({ client: world.store, host: node }).assign({
    handle: `net.${pod}`,
    attributes,
    want4: true,
    want6: false,
  });
}

async function lock(datastoreReady: boolean): Promise<void> {
  const metadata = { name: "default" };
  const existing = await world.store.get("ClusterInformation", metadata).catch(() => undefined);
  const base = { apiVersion: "projectcalico.org/v3", kind: "ClusterInformation", spec: { datastoreReady } } as const;
  if (existing === undefined) await world.store.create("ClusterInformation", { ...base, metadata });
  else await world.store.update("ClusterInformation", { ...existing, spec: { datastoreReady } });
}

const blocks = async (): Promise<number> => (await world.store.list("IPAMBlock")).items.length;

describe("kube-controllers", { timeout: 60_000 }, () => {
  test("makes its configuration, says what is in force, becomes ready, and stops when asked", async () => {
    expect(readiness(statusPath())).toMatchObject({ exitCode: 1 });
    start();
    await vi.waitFor(() => expect(readiness(statusPath())).toEqual({ exitCode: 0, text: "Ready" }), PATIENCE);
    expect(liveness(statusPath()).exitCode).toBe(0);
    const made = await world.store.get("KubeControllersConfiguration", { name: "default" });
    expect(made.spec).toMatchObject(defaultConfiguration.spec);
    expect(made.status).toMatchObject({
      environmentVars: { ENABLED_CONTROLLERS: "node" },
      runningConfig: { controllers: { node: { leakGracePeriod: "900s" } }, prometheusMetricsPort: 9094 },
    });
    stop.abort();
    expect(await running).toBe("stopped");
  });

  test("a node that is removed loses its addresses and blocks, and the metrics tell", async () => {
    await assign("web", "a");
    await assign("db", "b");
    start();
    await vi.waitFor(async () => {
      const text = await metrics();
      expect(text).toContain('ipam_allocations_in_use{ippool="pool",node="a"} 1');
      expect(text).toContain('ipam_allocations_gc_candidates{ippool="pool",node="b"} 1');
      expect(text).toContain('ipam_ippool_size{ippool="pool"} 256');
      expect(text).toContain('ipam_blocks{ippool="pool",node="a"} 1');
    }, PATIENCE);
    await world.store.delete("Node", { name: "a" });
    await vi.waitFor(async () => expect(await blocks()).toBe(1), PATIENCE);
    const affinities = (await world.store.list("BlockAffinity")).items;
    expect(affinities.map(({ spec }) => spec.node)).toEqual(["b"]);
    await vi.waitFor(
      async () => expect(await metrics()).toContain('ipam_allocations_gc_reclamations{ippool="pool",node="a"} 1'),
      PATIENCE,
    );
  });

  test("the metrics tell of blocks without an owner, of what is borrowed from them, and of none", async () => {
    await assign("web", "a");
    await assign("db", "b");
    await world.ipam.releaseHostAffinities("a", { mustBeEmpty: false });
    start();
    await vi.waitFor(async () => {
      const text = await metrics();
      for (const line of [
        'ipam_blocks{ippool="pool",node="no_affinity"} 1',
        'ipam_blocks_per_node{node="no_affinity"} 1',
        'ipam_allocations_borrowed{ippool="pool",node="a"} 1',
        'ipam_allocations_borrowed_per_node{node="a"} 1',
        'ipam_allocations_borrowed{ippool="pool",node="b"} 0',
        'ipam_allocations_in_use{ippool="pool",node="b"} 1',
      ])
        expect(text).toContain(line);
    }, PATIENCE);
  });

  test("a locked datastore is not touched; once unlocked it is", async () => {
    await lock(false);
    await assign("web", "a");
    await world.store.delete("Node", { name: "a" });
    start();
    await vi.waitFor(() => expect(lines.join("\n")).toContain("ipam.gc_waits"), PATIENCE);
    expect(await blocks()).toBe(1);
    await lock(true);
    await vi.waitFor(async () => expect(await blocks()).toBe(0), PATIENCE);
  });

  test("a configuration that changes what is in force ends it, one that does not leaves it", async () => {
    start();
    await vi.waitFor(() => expect(readiness(statusPath()).exitCode).toBe(0), PATIENCE);
    const before = await world.store.get("KubeControllersConfiguration", { name: "default" });
    const { controllers } = before.spec;
    const same = {
      ...before,
      spec: { ...before.spec, controllers: { ...controllers, policy: { reconcilerPeriod: "9m" } } },
    };
    const after = await world.store.update("KubeControllersConfiguration", same);
    const node = { ...controllers.node, leakGracePeriod: "1m" };
    await world.store.update("KubeControllersConfiguration", {
      ...after,
      spec: { ...after.spec, controllers: { ...after.spec.controllers, node } },
    });
    expect(await running).toBe("restart");
  });

  test("controllers that are not there are named", async () => {
    start({ ENABLED_CONTROLLERS: "node,policy" });
    await vi.waitFor(() => expect(lines.join("\n")).toMatch(/controllers\.not_available.*policy/), PATIENCE);
    expect(() => readControllersSettings({ ENABLED_CONTROLLERS: "node,nodes" })).toThrow(
      /ENABLED_CONTROLLERS names "nodes"; the controllers are node, policy/,
    );
    expect(() => readControllersSettings({ RECONCILER_PERIOD: "soon" })).toThrow(/RECONCILER_PERIOD="soon"/);
  });
});
