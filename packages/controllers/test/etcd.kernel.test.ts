/** kube-controllers with Calico's records in a real etcd and nodes and pods in Kubernetes (a memory store). */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DatastoreClient, isEtcd, openFromEnvironment, openMemory } from "@calico-ts/datastore";
import { type EtcdServer, startEtcd } from "@calico-ts/datastore/testing";
import { HostAllocator } from "@calico-ts/ipam";
import { addNode, poolResource } from "@calico-ts/ipam/testing";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { readControllersSettings, runControllers, StatusFile } from "../src/index.ts";

const PATIENCE = { timeout: 60_000, interval: 50 };

let etcd: EtcdServer;
let client: DatastoreClient;
let folder: string;
const kubernetes = openMemory();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ct-controllers-"));
  etcd = await startEtcd();
  client = await openFromEnvironment({ DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: etcd.endpoint }, { kubernetes });
});

afterAll(async () => {
  await client?.[Symbol.asyncDispose]();
  await etcd?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

test("a node that Kubernetes lost leaves etcd with its addresses; old history goes; a load balancer gets an address", {
  timeout: 180_000,
}, async () => {
  for (const name of ["a", "b"]) {
    await addNode(client, name);
    await addNode(kubernetes, name, { zone: "east" });
  }
  await client.create("IPPool", poolResource("pool", { cidr: "10.0.0.0/24", blockSize: 28 }));
  const { revision } = await client.list("IPPool");
  for (const node of ["a", "b"]) {
    const attributes = { node, pod: `web-${node}`, namespace: "default" };
    const host = new HostAllocator({ client, host: node });
    await host.assign({ handle: `net.${node}`, attributes, want4: true, want6: false });
  }
  const stop = new AbortController();
  const running = runControllers(
    {
      client,
      settings: readControllersSettings({ ENABLED_CONTROLLERS: "node,loadbalancer", COMPACTION_PERIOD: "100ms" }),
      environmentVars: {},
      clock: systemClock,
      log: silentLogger,
      setLogLevel: () => undefined,
      statusFile: new StatusFile(join(folder, "status.json")),
      metricsPort: 0,
      passGapMs: 10,
    },
    stop.signal,
  );
  await vi.waitFor(async () => {
    expect((await client.get("Node", { name: "a" })).metadata.labels).toEqual({ zone: "east" });
  }, PATIENCE);
  await kubernetes.delete("Node", { name: "a" });
  await vi.waitFor(async () => {
    const owners = (await client.list("IPAMBlock")).items.map(({ spec }) => spec.affinity);
    expect(owners).toEqual(["host:b"]);
  }, PATIENCE);
  expect((await client.list("Node")).items.map(({ metadata }) => metadata.name)).toEqual(["b"]);
  await vi.waitFor(async () => {
    const watch = client.watch("IPPool", { revision, signal: AbortSignal.timeout(1000) })[Symbol.asyncIterator]();
    await expect(watch.next()).rejects.toMatchObject({ code: "EXPIRED" });
  }, PATIENCE);
  // Services are Kubernetes', what is recorded of their addresses is in etcd.
  const balancers = { cidr: "192.0.2.0/28", blockSize: 30, allowedUses: ["LoadBalancer" as const] };
  await client.create("IPPool", poolResource("balancers", balancers));
  const service = { apiVersion: "v1", kind: "Service", metadata: { name: "web", namespace: "default" } } as const;
  await kubernetes.create("Service", { ...service, spec: { type: "LoadBalancer", ipFamilies: ["IPv4"] } });
  await vi.waitFor(async () => {
    const { status } = await kubernetes.get("Service", { namespace: "default", name: "web" });
    expect(status?.loadBalancer?.ingress).toEqual([{ ip: expect.stringMatching(/^192\.0\.2\./) as string }]);
  }, PATIENCE);
  const affinities = (await client.list("BlockAffinity")).items.map(({ spec }) => [spec.type, spec.node]);
  expect(affinities).toContainEqual(["virtual", "load-balancer"]);
  stop.abort();
  expect(await running).toBe("stopped");
  expect(isEtcd(client)).toBe(true);
});
