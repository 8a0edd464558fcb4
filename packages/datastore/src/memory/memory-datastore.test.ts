import { FakeClock } from "@calico-ts/runtime/testing";
import { describe, expect, test } from "vitest";
import { datastoreContract } from "../testing/contract.ts";
import { openMemory } from "./memory-datastore.ts";

datastoreContract({
  name: "memory",
  open: async () => {
    const client = openMemory();
    return {
      client,
      compact: async () => client.compact(),
      [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
    };
  },
});

const networkSet = (name: string, nets: string[] = []) => ({
  apiVersion: "projectcalico.org/v3" as const,
  kind: "GlobalNetworkSet" as const,
  metadata: { name },
  spec: { nets },
});

describe("memory", () => {
  test("what it hands out cannot be modified, and what it was given can be without effect", async () => {
    const client = openMemory();
    const given = networkSet("a", ["10.0.0.0/8"]);
    const made = await client.create("GlobalNetworkSet", given);
    given.spec.nets.push("11.0.0.0/8");
    expect((await client.get("GlobalNetworkSet", { name: "a" })).spec.nets).toEqual(["10.0.0.0/8"]);
    expect(() => (made.spec.nets as string[]).push("12.0.0.0/8")).toThrow(TypeError);
  });

  test("time, uids and names come from what was passed in", async () => {
    const clock = new FakeClock(Date.UTC(2026, 0, 2, 3, 4, 5, 678));
    const client = openMemory({ clock, random: () => 0, newUid: () => "u" });
    const made = await client.create("GlobalNetworkSet", {
      ...networkSet(""),
      metadata: { name: "", generateName: "x-" },
    });
    expect(made.metadata).toMatchObject({ name: "x-bbbbb", uid: "u", creationTimestamp: "2026-01-02T03:04:05Z" });
  });

  test("history is bounded, and bookmarks keep a quiet watch within it", async () => {
    const client = openMemory({ historyLimit: 10 });
    const start = client.revision;
    const controller = new AbortController();
    const quiet = client.watch("IPPool", { revision: start, signal: controller.signal })[Symbol.asyncIterator]();
    const first = quiet.next();
    for (let i = 0; i < 30; i++) await client.create("GlobalNetworkSet", networkSet(`s${i}`));
    expect(await first).toMatchObject({ value: { type: "bookmark" } });
    const stale = client.watch("IPPool", { revision: start, signal: controller.signal })[Symbol.asyncIterator]();
    await expect(stale.next()).rejects.toMatchObject({ code: "EXPIRED" });
    controller.abort();
    while ((await quiet.next()).done !== true);
  });

  test("a consumer that never reads is cut off, not fed without end", async () => {
    const client = openMemory({ historyLimit: 10 });
    const { signal } = new AbortController();
    const watch = client.watch("GlobalNetworkSet", { revision: client.revision, signal })[Symbol.asyncIterator]();
    const first = watch.next();
    for (let i = 0; i < 30; i++) await client.create("GlobalNetworkSet", networkSet(`s${i}`));
    await first;
    const drain = async (): Promise<void> => {
      while ((await watch.next()).done !== true);
    };
    await expect(drain()).rejects.toMatchObject({ code: "EXPIRED" });
  });

  test("broken watches end with UNAVAILABLE", async () => {
    const client = openMemory();
    const { signal } = new AbortController();
    const watch = client.watch("GlobalNetworkSet", { revision: client.revision, signal })[Symbol.asyncIterator]();
    const next = watch.next();
    client.breakWatches();
    await expect(next).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });
});
