/** The tests of address management once more, against an API server that validates, prunes and swaps for itself. */
import { type DatastoreClient, openKubernetes, openMemory, parseKubeconfig } from "@calico-ts/datastore";
import { installDefinitions } from "@calico-ts/datastore/testing";
import { type ApiServer, startApiServer } from "@calico-ts/kube-apiserver";
import type { KindName } from "@calico-ts/model";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { addNode, forPod, holders, makeWorldsIn, poolResource, texts, worldProblems } from "../src/testing/world.ts";
import { DatastoreSource, HostAllocator, Ipam } from "../src/index.ts";

const RECORDS = ["IPPool", "IPReservation", "IPAMBlock", "IPAMHandle", "IPAMConfiguration", "BlockAffinity"] as const;

let server: ApiServer;
let client: DatastoreClient;

beforeAll(async () => {
  server = await startApiServer();
  const connection = parseKubeconfig(await server.adminKubeconfig(), { file: "admin" });
  await installDefinitions(connection, [...RECORDS]);
  client = openKubernetes({ connection });
  makeWorldsIn(async (clock) => {
    await clear();
    return withPodsIn(openMemory({ clock }), client);
  });
}, 120_000);

afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server.close();
});

/** An API server keeps a deleted pod until its kubelet has seen to it, and there is none here: pods are not what is tested. */
function withPodsIn(pods: DatastoreClient, others: DatastoreClient): DatastoreClient {
  const of = (kind: KindName): DatastoreClient => (kind === "Pod" ? pods : others);
  return {
    get: (kind, key) => of(kind).get(kind, key),
    list: (kind, options) => of(kind).list(kind, options),
    create: (kind, resource) => of(kind).create(kind, resource),
    update: (kind, resource) => of(kind).update(kind, resource),
    updateStatus: (kind, resource) => of(kind).updateStatus(kind, resource),
    patch: (kind, key, patch, options) => of(kind).patch(kind, key, patch, options),
    delete: (kind, key, preconditions) => of(kind).delete(kind, key, preconditions),
    watch: (kind, options) => of(kind).watch(kind, options),
    [Symbol.asyncDispose]: () => others[Symbol.asyncDispose](),
  };
}

async function clear(): Promise<void> {
  for (const kind of [...RECORDS, "Node"] as const) {
    const { items } = await client.list(kind);
    await Promise.all(items.map(({ metadata }) => client.delete(kind, metadata)));
  }
}

// Every world is emptied and filled over sockets.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

await import("../src/host-allocator.test.ts");
await import("../src/ipam.test.ts");
await import("../src/hosts-and-releases.test.ts");
await import("../src/machines.test.ts");
await import("../src/upstream-scenarios.test.ts");
await import("../src/gc/collector.test.ts");

test("three nodes assign and release at once, run out of blocks, borrow, and leave clean books", {
  timeout: 60_000,
}, async () => {
  await clear();
  await client.create("IPPool", poolResource("small", { cidr: "10.0.0.0/26", blockSize: 28 }));
  for (const name of ["a", "b", "c"]) await addNode(client, name);
  const hosts = ["a", "b", "c"].map((host) => new HostAllocator({ client, host }));
  const all = await Promise.all(
    hosts.flatMap((host, n) => Array.from({ length: 21 }, (_, i) => host.assign(forPod(`k8s-pod-network.${n}-${i}`)))),
  );
  expect(new Set(texts(all.flat())).size).toBe(63);
  expect(await worldProblems(client, { atRest: true })).toEqual([]);
  await hosts[0]?.assign(forPod("last"));
  await expect(hosts[1]?.assign(forPod("too-much"))).rejects.toMatchObject({ code: "POOL_EXHAUSTED" });
  await Promise.all(
    hosts.flatMap((host, n) => Array.from({ length: 21 }, (_, i) => host.release(`k8s-pod-network.${n}-${i}`))),
  );
  expect(await holders(client)).toEqual(new Map([[expect.any(String), "last"]]));
  expect(await worldProblems(client, { atRest: true })).toEqual([]);
  const ipam = new Ipam({ client });
  await ipam.releaseByHandle("last");
  for (const name of ["a", "b", "c"]) await ipam.removeHost(name);
  expect((await client.list("IPAMBlock")).items).toEqual([]);
  expect((await client.list("IPAMHandle")).items).toEqual([]);
});

test("a cluster without KubeVirt has no machines to ask about", async () => {
  expect(await new DatastoreSource(client).machines()).toBeUndefined();
});
