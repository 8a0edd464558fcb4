/** The tests of address management once more, on a real etcd: the same code over upstream's records in their older form. */
import { type EtcdServer, startEtcd } from "@calico-ts/datastore/testing";
import { type DatastoreClient, openFromEnvironment, openMemory } from "@calico-ts/datastore";
import { afterAll, beforeAll, vi } from "vitest";
import { makeWorldsIn } from "../src/testing/world.ts";

let etcd: EtcdServer;
const opened: DatastoreClient[] = [];

beforeAll(async () => {
  etcd = await startEtcd();
  makeWorldsIn(async (clock) => {
    await etcd.clear();
    const client = await openFromEnvironment(
      { DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: etcd.endpoint },
      { kubernetes: openMemory({ clock }) },
    );
    opened.push(client);
    return client;
  });
});

afterAll(async () => {
  for (const client of opened) await client[Symbol.asyncDispose]();
  await etcd[Symbol.asyncDispose]();
});

// Every world is emptied and filled over sockets.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

await import("../src/host-allocator.test.ts");
await import("../src/ipam.test.ts");
await import("../src/hosts-and-releases.test.ts");
await import("../src/machines.test.ts");
await import("../src/upstream-scenarios.test.ts");
await import("../src/gc/collector.test.ts");
