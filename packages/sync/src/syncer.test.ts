import { type DatastoreClient, intercept, openMemory } from "@calico-ts/datastore";
import type { KindMap } from "@calico-ts/model";
import { captureLog, FakeClock, settle } from "@calico-ts/runtime/testing";
import { CalicoError } from "@calico-ts/std";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openSyncer, type Syncer } from "./syncer.ts";
import type { SyncBatch } from "./update.ts";

const networkSet = (name: string, nets: string[] = []): KindMap["GlobalNetworkSet"] => ({
  apiVersion: "projectcalico.org/v3",
  kind: "GlobalNetworkSet",
  metadata: { name },
  spec: { nets },
});

const local = (namespace: string, name: string): KindMap["NetworkSet"] => ({
  apiVersion: "projectcalico.org/v3",
  kind: "NetworkSet",
  metadata: { name, namespace },
  spec: { nets: [] },
});

/** Follows a syncer into a map, as every consumer does. */
class Follower {
  readonly world = new Map<string, string>();
  readonly batches: SyncBatch[] = [];
  readonly #batches: AsyncIterator<SyncBatch>;

  constructor(syncer: Syncer) {
    this.#batches = syncer[Symbol.asyncIterator]();
  }

  async next(): Promise<SyncBatch | undefined> {
    const { value, done } = await this.#batches.next();
    if (done === true) return undefined;
    const batch = value;
    this.batches.push(batch);
    for (const { kind, key, resource } of batch.updates) {
      const id = `${kind} ${key.namespace ?? ""}/${key.name}`;
      if (resource === undefined) {
        if (!this.world.delete(id)) throw new Error(`${id} was never told before it was deleted`);
      } else this.world.set(id, JSON.stringify(resource));
    }
    return batch;
  }

  async untilInSync(): Promise<void> {
    for (;;) {
      const batch = await this.next();
      if (batch === undefined || batch.inSync) return;
    }
  }
}

const describeBatch = (batch: SyncBatch | undefined): string[] =>
  batch?.updates.map(({ key, resource }) => `${resource === undefined ? "-" : "+"}${key.name}`) ?? [];

interface Setup {
  readonly store: ReturnType<typeof openMemory>;
  readonly clock: FakeClock;
  readonly controller: AbortController;
}

const setup = (): Setup => ({ store: openMemory(), clock: new FakeClock(), controller: new AbortController() });

describe("syncer", () => {
  test("gives what exists, then in-sync once, then changes", async () => {
    const { store, controller } = setup();
    await store.create("GlobalNetworkSet", networkSet("a"));
    await store.create("NetworkSet", local("default", "b"));
    await using syncer = openSyncer({
      client: store,
      kinds: ["GlobalNetworkSet", "NetworkSet"],
      signal: controller.signal,
    });
    const follower = new Follower(syncer);
    await follower.untilInSync();
    expect([...follower.world.keys()].toSorted()).toEqual(["GlobalNetworkSet /a", "NetworkSet default/b"]);
    await store.delete("GlobalNetworkSet", { name: "a" });
    expect(await follower.next()).toMatchObject({ inSync: true, updates: [{ key: { name: "a" } }] });
    expect(follower.batches.filter((batch) => !batch.inSync && batch.updates.length === 0)).toEqual([]);
    controller.abort();
    expect(await follower.next()).toBeUndefined();
  });

  test("an empty cluster is in sync too, with an empty batch", async () => {
    const { store, controller } = setup();
    await using syncer = openSyncer({ client: store, kinds: ["GlobalNetworkSet"], signal: controller.signal });
    expect(await new Follower(syncer).next()).toEqual({ updates: [], inSync: true });
  });

  test("is not in sync until the last kind could be listed, however long that takes", async () => {
    const { store, clock, controller } = setup();
    let broken = true;
    const client = intercept(store, {
      before: ({ verb, kind }) => {
        if (broken && verb === "list" && kind === "IPPool")
          throw new CalicoError("UNAVAILABLE", "no such resource type");
      },
    });
    await store.create("GlobalNetworkSet", networkSet("a"));
    const { log, lines } = captureLog();
    const { signal } = controller;
    await using syncer = openSyncer({ client, kinds: ["GlobalNetworkSet", "IPPool"], signal, clock, log });
    const follower = new Follower(syncer);
    expect(await follower.next()).toMatchObject({ inSync: false });
    await clock.advance(60_000);
    expect(syncer.status).toMatchObject([
      { kind: "GlobalNetworkSet", listed: true, connected: true, resources: 1 },
      { kind: "IPPool", listed: false, connected: false, problem: "no such resource type" },
    ]);
    expect(lines.filter((line) => line.event === "sync.interrupted").length).toBeGreaterThan(5);
    broken = false;
    const next = follower.next();
    await clock.advance(20_000);
    expect(await next).toEqual({ updates: [], inSync: true });
  });

  test("a slow consumer gets the newest state of each resource, and nothing of what came and went", async () => {
    const { store, controller } = setup();
    await using syncer = openSyncer({ client: store, kinds: ["GlobalNetworkSet"], signal: controller.signal });
    const follower = new Follower(syncer);
    await follower.untilInSync();
    let a = await store.create("GlobalNetworkSet", networkSet("a"));
    for (let i = 0; i < 100; i++)
      a = await store.update("GlobalNetworkSet", { ...a, spec: { nets: [`10.${i}.0.0/16`] } });
    await store.create("GlobalNetworkSet", networkSet("fleeting"));
    await store.delete("GlobalNetworkSet", { name: "fleeting" });
    await settle();
    const batch = await follower.next();
    expect(describeBatch(batch)).toEqual(["+a"]);
    expect(batch?.updates[0]?.resource?.metadata.resourceVersion).toBe(a.metadata.resourceVersion);
  });

  test("after EXPIRED it lists again and tells the difference only, deletions included", async () => {
    const { store, clock, controller } = setup();
    const client = intercept(store, {
      // Time for the world to move on.
      before: ({ verb }) => (verb === "watch" ? clock.sleep(1000, controller.signal) : undefined),
    });
    for (const name of ["kept", "changed", "deleted"]) await store.create("GlobalNetworkSet", networkSet(name));
    const { signal } = controller;
    await using syncer = openSyncer({ client, kinds: ["GlobalNetworkSet"], signal, clock });
    const follower = new Follower(syncer);
    await follower.untilInSync();
    const changed = await store.get("GlobalNetworkSet", { name: "changed" });
    await store.update("GlobalNetworkSet", { ...changed, spec: { nets: ["10.0.0.0/8"] } });
    await store.delete("GlobalNetworkSet", { name: "deleted" });
    await store.create("GlobalNetworkSet", networkSet("new"));
    store.compact();
    const next = follower.next();
    await clock.advance(5000);
    expect(describeBatch(await next).toSorted()).toEqual(["+changed", "+new", "-deleted"]);
  });

  test("a resource made anew under its old name while nobody looked is a change", async () => {
    const { store, clock, controller } = setup();
    const client = intercept(store, {
      before: ({ verb }) => (verb === "watch" ? clock.sleep(1000, controller.signal) : undefined),
    });
    await store.create("GlobalNetworkSet", networkSet("a"));
    await using syncer = openSyncer({ client, kinds: ["GlobalNetworkSet"], signal: controller.signal, clock });
    const follower = new Follower(syncer);
    await follower.untilInSync();
    await store.delete("GlobalNetworkSet", { name: "a" });
    const second = await store.create("GlobalNetworkSet", networkSet("a"));
    store.compact();
    const next = follower.next();
    await clock.advance(5000);
    expect((await next)?.updates).toMatchObject([{ resource: { metadata: { uid: second.metadata.uid } } }]);
  });

  test("survives a store that is away: nothing is lost and nothing is told twice", async () => {
    const { store, clock, controller } = setup();
    let away = false;
    const client = intercept(store, {
      before: () => {
        if (away) throw new CalicoError("UNAVAILABLE", "connection refused");
      },
    });
    await store.create("GlobalNetworkSet", networkSet("a"));
    await using syncer = openSyncer({ client, kinds: ["GlobalNetworkSet"], signal: controller.signal, clock });
    const follower = new Follower(syncer);
    await follower.untilInSync();
    away = true;
    store.breakWatches();
    await clock.advance(100_000);
    expect(syncer.status[0]).toMatchObject({ connected: false, problem: "connection refused" });
    await store.create("GlobalNetworkSet", networkSet("b"));
    away = false;
    const next = follower.next();
    await clock.advance(20_000);
    expect(describeBatch(await next)).toEqual(["+b"]);
    expect(syncer.status[0]).toMatchObject({ connected: true, problem: undefined, resources: 2 });
  });

  test("filters at the store and projects before it keeps", async () => {
    const { store, controller } = setup();
    await store.create("NetworkSet", local("default", "in"));
    await store.create("NetworkSet", local("kube-system", "out"));
    await using syncer = openSyncer({
      client: store,
      kinds: [
        {
          kind: "NetworkSet",
          namespace: "default",
          fieldSelector: "metadata.name!=other",
          project: ({ apiVersion, kind, metadata: { name, namespace = "" } }) => ({
            apiVersion,
            kind,
            metadata: { name, namespace },
            spec: {},
          }),
        },
      ],
      signal: controller.signal,
    });
    const batch = await new Follower(syncer).next();
    expect(batch?.updates).toEqual([
      {
        kind: "NetworkSet",
        key: { namespace: "default", name: "in" },
        resource: expect.objectContaining({ metadata: { name: "in", namespace: "default" }, spec: {} }),
      },
    ]);
  });

  test("disposing it ends the iteration and leaves no timer", async () => {
    const { store, clock, controller } = setup();
    const dead: DatastoreClient = intercept(store, {
      before: () => {
        throw new CalicoError("UNAVAILABLE", "down");
      },
    });
    const syncer = openSyncer({ client: dead, kinds: ["GlobalNetworkSet"], signal: controller.signal, clock });
    const next = new Follower(syncer).next();
    await settle();
    await syncer[Symbol.asyncDispose]();
    expect(await next).toBeUndefined();
    expect(clock.sleeping).toBe(0);
  });
});

type Step =
  | { readonly do: "write" | "delete"; readonly name: string }
  | { readonly do: "break" | "compact" | "fail" | "read" };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("write" as const), name: fc.constantFrom("a", "b", "c", "d") }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("delete" as const), name: fc.constantFrom("a", "b", "c", "d") }),
  },
  { weight: 3, arbitrary: fc.constant({ do: "read" as const }) },
  {
    weight: 4,
    arbitrary: fc.constantFrom({ do: "break" as const }, { do: "compact" as const }, { do: "fail" as const }),
  },
);

test("whatever happens on the way, the follower ends with what the store holds", { timeout: 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
      const { store, clock, controller } = setup();
      let failures = 0;
      const client = intercept(store, {
        before: () => {
          if (failures > 0) {
            failures--;
            throw new CalicoError("UNAVAILABLE", "injected");
          }
        },
      });
      await using syncer = openSyncer({ client, kinds: ["GlobalNetworkSet"], signal: controller.signal, clock });
      const follower = new Follower(syncer);
      let reading: Promise<unknown> | undefined;
      const read = async (): Promise<void> => {
        reading ??= follower.next().finally(() => (reading = undefined));
        await settle();
      };
      for (const [at, action] of steps.entries()) {
        switch (action.do) {
          case "write": {
            const old = await store.get("GlobalNetworkSet", { name: action.name }).catch(() => undefined);
            const next = { ...networkSet(action.name, [`10.${at}.0.0/16`]) };
            if (old === undefined) await store.create("GlobalNetworkSet", next);
            else await store.update("GlobalNetworkSet", { ...old, spec: next.spec });
            break;
          }
          case "delete":
            await store.delete("GlobalNetworkSet", { name: action.name }).catch(() => undefined);
            break;
          case "break":
            store.breakWatches();
            break;
          case "compact":
            store.compact();
            store.breakWatches();
            break;
          case "fail":
            failures = 3;
            store.breakWatches();
            break;
          case "read":
            await read();
            break;
        }
      }
      await store.create("GlobalNetworkSet", networkSet("last")).catch(() => undefined);
      const { items } = await store.list("GlobalNetworkSet");
      for (let i = 0; i < 20 && !follower.world.has("GlobalNetworkSet /last"); i++) {
        await read();
        await clock.advance(20_000);
      }
      const want = items.map((item) => [`GlobalNetworkSet /${item.metadata.name}`, JSON.stringify(item)]);
      expect(Object.fromEntries(follower.world)).toEqual(Object.fromEntries(want));
      const inSync = follower.batches.map((batch) => batch.inSync);
      expect(inSync).toEqual(inSync.toSorted((a, b) => Number(a) - Number(b)));
      controller.abort();
      await reading;
    }),
    { numRuns: 300 },
  );
});
