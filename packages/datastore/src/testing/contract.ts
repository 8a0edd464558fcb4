/**
 * What every backend promises, as one suite. A backend's own tests open it here and add what is particular to it.
 * Uses kinds we ship (network sets and pools) because every backend has those.
 */
import type { KindMap } from "@calico-ts/model";
import { hasCode } from "@calico-ts/std";
import { describe, expect, test } from "vitest";
import type { DatastoreClient, WatchEvent } from "../client.ts";

export interface OpenedDatastore extends AsyncDisposable {
  readonly client: DatastoreClient;
  /** Makes every revision so far too old to watch from. */
  readonly compact: () => Promise<void>;
}

export interface DatastoreUnderTest {
  readonly name: string;
  readonly open: () => Promise<OpenedDatastore>;
}

type NetworkSet = KindMap["GlobalNetworkSet"];
type Pool = KindMap["IPPool"];

let serial = 0;
/** Backends may outlive a test: names are never used twice. */
const unique = (): string => `ct-${process.pid}-${Date.now().toString(36)}-${serial++}`;

const networkSet = (name: string, extra: Partial<NetworkSet["metadata"]> = {}, nets: string[] = []): NetworkSet => ({
  apiVersion: "projectcalico.org/v3",
  kind: "GlobalNetworkSet",
  metadata: { name, ...extra },
  spec: { nets },
});

const pool = (name: string): Pool => ({
  apiVersion: "projectcalico.org/v3",
  kind: "IPPool",
  metadata: { name },
  spec: { cidr: `10.${(serial++ % 200) + 20}.0.0/16` },
});

type Rule = (title: string, body: (store: OpenedDatastore) => Promise<void>) => void;

export function datastoreContract(backend: DatastoreUnderTest): void {
  const rule: Rule = (title, body) =>
    test(title, { timeout: 30_000 }, async () => {
      await using store = await backend.open();
      await body(store);
    });
  describe(`${backend.name} as a datastore`, () => {
    describe("reads and writes", () => {
      readWriteRules(rule);
    });
    describe("compare-and-swap", () => {
      swapRules(rule);
    });
    describe("selections", () => {
      selectionRules(rule);
    });
    describe("watches", () => {
      watchRules(rule);
    });
  });
}

function readWriteRules(rule: Rule): void {
  rule("a created resource has identity and can be read back", async ({ client }) => {
    const name = unique();
    const created = await client.create("GlobalNetworkSet", networkSet(name, { labels: { a: "b" } }, ["10.0.0.0/8"]));
    expect(created).toMatchObject({ kind: "GlobalNetworkSet", metadata: { name, labels: { a: "b" } } });
    expect(created.metadata.uid).toBeTruthy();
    expect(created.metadata.resourceVersion).toBeTruthy();
    expect(Date.parse(created.metadata.creationTimestamp ?? "")).toBeGreaterThan(0);
    expect(await client.get("GlobalNetworkSet", { name })).toEqual(created);
  });

  rule("a name exists once; what does not exist is NOT_FOUND", async ({ client }) => {
    const name = unique();
    await expect(client.get("GlobalNetworkSet", { name })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(client.delete("GlobalNetworkSet", { name })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(client.patch("GlobalNetworkSet", { name }, {})).rejects.toMatchObject({ code: "NOT_FOUND" });
    await client.create("GlobalNetworkSet", networkSet(name));
    await expect(client.create("GlobalNetworkSet", networkSet(name))).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
    await client.delete("GlobalNetworkSet", { name });
    await expect(client.get("GlobalNetworkSet", { name })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await client.create("GlobalNetworkSet", networkSet(name));
  });

  rule("the same name in two namespaces is two resources", async ({ client }) => {
    const name = unique();
    const set = (namespace: string): KindMap["NetworkSet"] => ({
      apiVersion: "projectcalico.org/v3",
      kind: "NetworkSet",
      metadata: { name, namespace },
      spec: { nets: [] },
    });
    await client.create("NetworkSet", set("default"));
    await client.create("NetworkSet", set("kube-system"));
    await client.delete("NetworkSet", { name, namespace: "default" });
    expect((await client.get("NetworkSet", { name, namespace: "kube-system" })).metadata.namespace).toBe("kube-system");
    await expect(client.get("NetworkSet", { name })).rejects.toMatchObject({ code: "BAD_INPUT" });
  });

  rule("generateName gives fresh names", async ({ client }) => {
    const generateName = `${unique()}-`;
    const [a, b] = await Promise.all(
      [1, 2].map(() => client.create("GlobalNetworkSet", networkSet("", { generateName }))),
    );
    expect(a?.metadata.name.startsWith(generateName)).toBe(true);
    expect(a?.metadata.name).not.toBe(b?.metadata.name);
  });

  rule("defaults are filled in and nonsense is refused", async ({ client }) => {
    const made = await client.create("IPPool", pool(unique()));
    expect(made.spec).toMatchObject({ assignmentMode: "Automatic", nodeSelector: "all()" });
    const bad = pool(unique());
    const broken = { ...bad, spec: { ...bad.spec, ipipMode: "Sometimes" } } as unknown as Pool;
    await expect(client.create("IPPool", broken)).rejects.toMatchObject({ code: "BAD_INPUT" });
    const update = { ...made, spec: { ...made.spec, vxlanMode: "Sometimes" } } as unknown as Pool;
    await expect(client.update("IPPool", update)).rejects.toMatchObject({ code: "BAD_INPUT" });
  });

  rule("status and the rest are written apart", async ({ client }) => {
    const condition = {
      type: "Allocatable",
      status: "True" as const,
      reason: "Fine",
      message: "",
      lastTransitionTime: "2026-01-01T00:00:00Z",
    };
    const withStatus = { ...pool(unique()), status: { conditions: [condition] } } as Pool;
    const made = await client.create("IPPool", withStatus);
    expect(made.status?.conditions ?? []).toEqual([]);
    const ready = await client.updateStatus("IPPool", {
      ...made,
      spec: { ...made.spec, natOutgoing: true },
      status: { conditions: [condition] },
    });
    expect(ready.status?.conditions).toMatchObject([condition]);
    expect(ready.spec.natOutgoing ?? false).toBe(false);
    const { status: _forgotten, ...withoutStatus } = ready;
    const updated = await client.update("IPPool", { ...withoutStatus, spec: { ...ready.spec, natOutgoing: true } });
    expect(updated).toMatchObject({ spec: { natOutgoing: true }, status: { conditions: [condition] } });
    const patched = await client.patch("IPPool", updated.metadata, { status: { conditions: [] } }, { status: true });
    expect(patched.status?.conditions ?? []).toEqual([]);
  });

  rule("a merge patch merges, and null removes", async ({ client }) => {
    const name = unique();
    await client.create("GlobalNetworkSet", networkSet(name, { labels: { a: "1", b: "2" } }, ["10.0.0.0/8"]));
    const patched = await client.patch("GlobalNetworkSet", { name }, { metadata: { labels: { a: null, c: "3" } } });
    expect(patched).toMatchObject({ metadata: { labels: { b: "2", c: "3" } }, spec: { nets: ["10.0.0.0/8"] } });
    expect(patched.metadata.labels).not.toHaveProperty("a");
  });

  rule("finalizers hold a deleted resource until they are gone", async ({ client }) => {
    const name = unique();
    await client.create("GlobalNetworkSet", networkSet(name, { finalizers: ["projectcalico.org/test"] }));
    await client.delete("GlobalNetworkSet", { name });
    const dying = await client.get("GlobalNetworkSet", { name });
    expect(dying.metadata.deletionTimestamp).toBeTruthy();
    await client.update("GlobalNetworkSet", { ...dying, metadata: { ...dying.metadata, finalizers: [] } });
    await expect(client.get("GlobalNetworkSet", { name })).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
}

function swapRules(rule: Rule): void {
  rule("an update based on an old revision loses", async ({ client }) => {
    const first = await client.create("GlobalNetworkSet", networkSet(unique()));
    const second = await client.update("GlobalNetworkSet", { ...first, spec: { nets: ["10.1.0.0/16"] } });
    expect(second.metadata.resourceVersion).not.toBe(first.metadata.resourceVersion);
    expect(second.metadata.uid).toBe(first.metadata.uid);
    const late = client.update("GlobalNetworkSet", { ...first, spec: { nets: ["10.2.0.0/16"] } });
    await expect(late).rejects.toMatchObject({ code: "CONFLICT" });
    const stale = { metadata: { resourceVersion: first.metadata.resourceVersion, labels: { a: "b" } } };
    await expect(client.patch("GlobalNetworkSet", first.metadata, stale)).rejects.toMatchObject({ code: "CONFLICT" });
    expect((await client.get("GlobalNetworkSet", first.metadata)).spec.nets).toEqual(["10.1.0.0/16"]);
  });

  rule("an update needs a revision, and one that changes nothing makes none", async ({ client }) => {
    const made = await client.create("GlobalNetworkSet", networkSet(unique()));
    const { resourceVersion: _dropped, ...metadata } = made.metadata;
    await expect(client.update("GlobalNetworkSet", { ...made, metadata })).rejects.toMatchObject({ code: "BAD_INPUT" });
    expect((await client.update("GlobalNetworkSet", made)).metadata.resourceVersion).toBe(
      made.metadata.resourceVersion,
    );
  });

  rule("what was deleted cannot be updated, and its successor is another resource", async ({ client }) => {
    const name = unique();
    const first = await client.create("GlobalNetworkSet", networkSet(name));
    await client.delete("GlobalNetworkSet", { name });
    const ghost = await client.update("GlobalNetworkSet", first).catch((error: unknown) => error);
    expect(hasCode(ghost, "NOT_FOUND") || hasCode(ghost, "CONFLICT")).toBe(true);
    const second = await client.create("GlobalNetworkSet", networkSet(name));
    expect(second.metadata.uid).not.toBe(first.metadata.uid);
    await expect(client.update("GlobalNetworkSet", first)).rejects.toMatchObject({ code: "CONFLICT" });
    const { uid } = first.metadata;
    await expect(client.delete("GlobalNetworkSet", { name }, { uid })).rejects.toMatchObject({ code: "CONFLICT" });
  });

  rule("a delete can insist on the revision it saw", async ({ client }) => {
    const first = await client.create("GlobalNetworkSet", networkSet(unique()));
    const second = await client.update("GlobalNetworkSet", { ...first, spec: { nets: ["10.1.0.0/16"] } });
    const { uid } = first.metadata;
    const at = (resourceVersion: string | undefined) =>
      client.delete("GlobalNetworkSet", first.metadata, { uid, resourceVersion });
    await expect(at(first.metadata.resourceVersion)).rejects.toMatchObject({ code: "CONFLICT" });
    await at(second.metadata.resourceVersion);
    await expect(client.get("GlobalNetworkSet", first.metadata)).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  rule("concurrent read-modify-write loses no increment", async ({ client }) => {
    const { metadata } = await client.create("GlobalNetworkSet", networkSet(unique(), { annotations: { n: "0" } }));
    const increment = async (): Promise<void> => {
      for (;;) {
        const old = await client.get("GlobalNetworkSet", metadata);
        const n = String(Number(old.metadata.annotations?.["n"]) + 1);
        try {
          await client.update("GlobalNetworkSet", { ...old, metadata: { ...old.metadata, annotations: { n } } });
          return;
        } catch (error) {
          if (!hasCode(error, "CONFLICT")) throw error;
        }
      }
    };
    await Promise.all(Array.from({ length: 12 }, increment));
    expect((await client.get("GlobalNetworkSet", metadata)).metadata.annotations).toEqual({ n: "12" });
  });
}

function selectionRules(rule: Rule): void {
  rule("lists select by label, by name and by namespace, over as many pages as it takes", async ({ client }) => {
    const run = unique();
    for (let i = 0; i < 8; i++) {
      const labels = { run, parity: i % 2 === 0 ? "even" : "odd", ...(i === 3 ? { three: "" } : {}) };
      await client.create("GlobalNetworkSet", networkSet(`${run}-${i}`, { labels }));
    }
    const numbers = async (labelSelector: string, fieldSelector?: string): Promise<string> => {
      const { items } = await client.list("GlobalNetworkSet", { labelSelector, fieldSelector });
      return items
        .map((item) => item.metadata.name.slice(run.length + 1))
        .toSorted()
        .join("");
    };
    expect(await numbers(`run=${run}`)).toBe("01234567");
    expect(await numbers(`run=${run},parity!=odd`)).toBe("0246");
    expect(await numbers(`run in (${run},x),parity notin (even)`)).toBe("1357");
    expect(await numbers(`run==${run},three`)).toBe("3");
    expect(await numbers(`run=${run},!three,parity=odd`)).toBe("157");
    expect(await numbers(`run=${run}`, `metadata.name=${run}-5`)).toBe("5");
    const [first] = (await client.list("GlobalNetworkSet", { labelSelector: `run=${run}` })).items;
    expect(first).toMatchObject({ apiVersion: "projectcalico.org/v3", kind: "GlobalNetworkSet" });
  });

  rule("a selector that does not parse is refused", async ({ client }) => {
    const list = client.list("GlobalNetworkSet", { labelSelector: "a in (b" });
    await expect(list).rejects.toMatchObject({ code: "BAD_INPUT" });
  });
}

function watchRules(rule: Rule): void {
  rule("a watch from a list's revision delivers everything after it, in order", async ({ client }) => {
    const run = unique();
    const selection = { labelSelector: `run=${run}` };
    await client.create("GlobalNetworkSet", networkSet(`${run}-before`, { labels: { run } }));
    const { items, revision } = await client.list("GlobalNetworkSet", selection);
    expect(items).toHaveLength(1);
    await using watch = startWatch(client, { revision, ...selection });
    const made = await client.create("GlobalNetworkSet", networkSet(`${run}-a`, { labels: { run } }));
    const changed = await client.update("GlobalNetworkSet", { ...made, spec: { nets: ["10.1.0.0/16"] } });
    await client.delete("GlobalNetworkSet", made.metadata);
    const events = await watch.take(3);
    expect(events.map((event) => event.type)).toEqual(["added", "modified", "deleted"]);
    expect(events.slice(0, 2).map((event) => event.revision)).toEqual([
      made.metadata.resourceVersion,
      changed.metadata.resourceVersion,
    ]);
    expect(new Set(events.map((event) => event.revision)).size).toBe(3);
    // The same again, from history: a second watch from the same revision sees the same.
    await using again = startWatch(client, { revision, ...selection });
    expect((await again.take(3)).map((event) => [event.type, event.revision])).toEqual(
      events.map((event) => [event.type, event.revision]),
    );
  });

  rule(
    "a resource that leaves the selection is deleted to those who watch it, and one that enters is added",
    async ({ client }) => {
      const run = unique();
      const labelled = (made: NetworkSet, x: string): NetworkSet => ({
        ...made,
        metadata: { ...made.metadata, labels: { run, x } },
      });
      const { revision } = await client.list("GlobalNetworkSet");
      await using watch = startWatch(client, { revision, labelSelector: `run=${run},x=in` });
      const made = await client.create("GlobalNetworkSet", networkSet(run, { labels: { run, x: "out" } }));
      const inside = await client.update("GlobalNetworkSet", labelled(made, "in"));
      await client.update("GlobalNetworkSet", labelled(inside, "out"));
      expect((await watch.take(2)).map((event) => event.type)).toEqual(["added", "deleted"]);
    },
  );

  rule("a watch of one namespace sees that namespace", async ({ client }) => {
    const name = unique();
    const set = (namespace: string): KindMap["NetworkSet"] => ({
      apiVersion: "projectcalico.org/v3",
      kind: "NetworkSet",
      metadata: { name, namespace, labels: { name } },
      spec: { nets: [] },
    });
    const { revision } = await client.list("NetworkSet");
    const controller = new AbortController();
    const events = client.watch("NetworkSet", { revision, namespace: "default", signal: controller.signal });
    const seen = (async (): Promise<string | undefined> => {
      for await (const event of events) if (event.type !== "bookmark") return event.resource.metadata.namespace;
      return undefined;
    })();
    await client.create("NetworkSet", set("kube-system"));
    await client.create("NetworkSet", set("default"));
    expect(await seen).toBe("default");
    controller.abort();
  });

  rule("a watch from a forgotten revision is EXPIRED", async ({ client, compact }) => {
    const { revision } = await client.list("GlobalNetworkSet");
    const made = await client.create("GlobalNetworkSet", networkSet(unique()));
    await client.update("GlobalNetworkSet", { ...made, spec: { nets: ["10.1.0.0/16"] } });
    await compact();
    await using watch = startWatch(client, { revision });
    await expect(watch.take(1)).rejects.toMatchObject({ code: "EXPIRED" });
  });

  rule("a watch ends when told to, also before it began", async ({ client }) => {
    const { revision } = await client.list("GlobalNetworkSet");
    for (const signal of [AbortSignal.abort(), AbortSignal.timeout(50)]) {
      const seen: unknown[] = [];
      for await (const event of client.watch("GlobalNetworkSet", { revision, signal, labelSelector: "no=such" })) {
        if (event.type !== "bookmark") seen.push(event);
      }
      expect(seen).toEqual([]);
    }
  });

  rule("a snapshot and the events after it make the present", async ({ client }) => {
    const run = unique();
    const selection = { labelSelector: `run=${run}` };
    const world = new Map<string, string | undefined>();
    const { revision } = await client.list("GlobalNetworkSet", selection);
    await using watch = startWatch(client, { revision, ...selection });
    let random = 7;
    const roll = (n: number): number => (random = (random * 1103515245 + 12345) % 2147483648) % n;
    for (let step = 0; step < 60; step++) {
      const name = `${run}-${roll(6)}`;
      const old = await client.get("GlobalNetworkSet", { name }).catch(() => undefined);
      if (old === undefined) await client.create("GlobalNetworkSet", networkSet(name, { labels: { run } }));
      else if (roll(3) === 0) await client.delete("GlobalNetworkSet", { name });
      else await client.update("GlobalNetworkSet", { ...old, spec: { nets: [`10.${step}.0.0/16`] } });
    }
    const last = await client.create("GlobalNetworkSet", networkSet(`${run}-last`, { labels: { run } }));
    for (;;) {
      const [event] = await watch.take(1);
      if (event === undefined || event.type === "bookmark") break;
      if (event.type === "deleted") world.delete(event.resource.metadata.name);
      else world.set(event.resource.metadata.name, event.resource.metadata.resourceVersion);
      if (event.revision === last.metadata.resourceVersion) break;
    }
    const { items } = await client.list("GlobalNetworkSet", selection);
    expect(Object.fromEntries(world)).toEqual(
      Object.fromEntries(items.map((item) => [item.metadata.name, item.metadata.resourceVersion])),
    );
  });
}

interface RunningWatch extends AsyncDisposable {
  /** The next events that are no bookmarks. */
  take(count: number): Promise<WatchEvent<NetworkSet>[]>;
}

function startWatch(
  client: DatastoreClient,
  options: { readonly revision: string; readonly labelSelector?: string },
): RunningWatch {
  const controller = new AbortController();
  const events = client.watch("GlobalNetworkSet", { ...options, signal: controller.signal })[Symbol.asyncIterator]();
  return {
    take: async (count) => {
      const taken: WatchEvent<NetworkSet>[] = [];
      while (taken.length < count) {
        const next = await events.next();
        if (next.done === true) break;
        if (next.value.type !== "bookmark") taken.push(next.value);
      }
      return taken;
    },
    [Symbol.asyncDispose]: async () => {
      controller.abort();
      await events.return?.();
    },
  };
}
