import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Harness, startHarness } from "../testing/harness.ts";

let api: Harness;
beforeAll(async () => {
  api = await startHarness({ bookmarkIntervalMs: 50 });
});
afterAll(() => api[Symbol.asyncDispose]());

const path = "/api/v1/namespaces/default/configmaps";
const map = (name: string, labels: object = {}): object => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, labels },
  data: {},
});
const merge = "application/merge-patch+json";
const types = (events: readonly { type: string; object: { metadata?: { name?: string } } }[]): string[] =>
  events
    .filter((event) => event.type !== "BOOKMARK")
    .map((event) => `${event.type} ${event.object.metadata?.name ?? ""}`);

describe("list", () => {
  test("pages are one consistent state", async () => {
    for (const name of ["p1", "p2", "p3", "p4"]) await api.create(path, map(name, { page: "yes" }));
    const query = "labelSelector=page%3Dyes&limit=2";
    const first = (await api.get(`${path}?${query}`)).body;
    expect(first.items.map((item: { metadata: { name: string } }) => item.metadata.name)).toEqual(["p1", "p2"]);
    await api.call("DELETE", `${path}/p3`);
    await api.create(path, map("p5", { page: "yes" }));
    const second = (await api.get(`${path}?${query}&continue=${first.metadata.continue}`)).body;
    expect(second.items.map((item: { metadata: { name: string } }) => item.metadata.name)).toEqual(["p3", "p4"]);
    expect(second.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
    const exact = (
      await api.get(
        `${path}?labelSelector=page%3Dyes&resourceVersion=${first.metadata.resourceVersion}&resourceVersionMatch=Exact`,
      )
    ).body;
    expect(exact.items).toHaveLength(4);
    api.server.store.compact();
    expect((await api.get(`${path}?${query}&continue=${first.metadata.continue}`)).body).toMatchObject({
      code: 410,
      reason: "Expired",
    });
  });

  test("selectors, bad selectors, resource versions of the future", async () => {
    await api.create(path, map("sel", { a: "1" }));
    for (const [selector, count] of [
      ["a=1", 1],
      ["a==1", 1],
      ["a!=1,a", 0],
      ["a in (1,2)", 1],
      ["a notin (2),a", 1],
      ["!a,a", 0],
    ] as const) {
      expect((await api.get(`${path}?labelSelector=${encodeURIComponent(selector)}`)).body.items).toHaveLength(count);
    }
    for (const bad of ["a=", "=", "a in", "a in (", ",", "a==b==c", "a=b,"].slice(1)) {
      expect((await api.get(`${path}?labelSelector=${encodeURIComponent(bad)}`)).code).toBe(400);
    }
    expect((await api.get(`${path}?fieldSelector=metadata.name%3Dsel`)).body.items).toHaveLength(1);
    expect((await api.get(`${path}?fieldSelector=data.x%3D1`)).body.message).toContain(
      "field label not supported: data.x",
    );
    expect((await api.get(`${path}?resourceVersion=999999`)).body).toMatchObject({ code: 504, reason: "Timeout" });
    expect((await api.get(`${path}?resourceVersion=abc`)).code).toBe(400);
  });

  test("items of built-in lists carry no kind", async () => {
    const { body } = await api.get(path);
    expect(body).toMatchObject({ kind: "ConfigMapList", apiVersion: "v1" });
    expect(body.items[0].kind).toBeUndefined();
  });
});

describe("watch", () => {
  test("from a revision: exactly what came after", async () => {
    const { body } = await api.get(path);
    await api.create(path, map("w1"));
    const watch = api.watch(`${path}?watch=1&resourceVersion=${body.metadata.resourceVersion}`);
    await watch.until((events) => events.length === 1);
    await api.patch(`${path}/w1`, merge, { data: { a: "1" } });
    await api.call("DELETE", `${path}/w1`);
    await watch.until((events) => events.length === 3);
    expect(types(watch.events)).toEqual(["ADDED w1", "MODIFIED w1", "DELETED w1"]);
    const revisions = watch.events.map((event) => Number(event.object.metadata.resourceVersion));
    expect(revisions).toEqual(revisions.toSorted((a, b) => a - b));
    watch.stop();
  });

  test("without a revision: the state first", async () => {
    await api.create(path, map("w2", { only: "w2" }));
    const watch = api.watch(`${path}?watch=1&labelSelector=only%3Dw2`);
    await watch.until((events) => events.length === 1);
    expect(types(watch.events)).toEqual(["ADDED w2"]);
    watch.stop();
  });

  test("an object that starts or stops matching appears or disappears", async () => {
    await api.create(path, map("w3", { colour: "red" }));
    const { body } = await api.get(path);
    const watch = api.watch(
      `${path}?watch=1&labelSelector=colour%3Dblue&resourceVersion=${body.metadata.resourceVersion}`,
    );
    await api.patch(`${path}/w3`, merge, { metadata: { labels: { colour: "blue" } } });
    await api.patch(`${path}/w3`, merge, { data: { x: "1" } });
    const left = await api.patch(`${path}/w3`, merge, { metadata: { labels: { colour: "green" } } });
    await api.patch(`${path}/w3`, merge, { data: { x: "2" } });
    await watch.until((events) => events.length === 3);
    expect(types(watch.events)).toEqual(["ADDED w3", "MODIFIED w3", "DELETED w3"]);
    expect(watch.events[2].object.metadata.resourceVersion).toBe(left.body.metadata.resourceVersion);
    expect(watch.events[2].object.metadata.labels).toEqual({ colour: "blue" });
    watch.stop();
  });

  test("too old: an ERROR event with 410", async () => {
    await api.create(path, map("w4"));
    api.server.store.compact();
    const watch = api.watch(`${path}?watch=1&resourceVersion=1`);
    await watch.ended;
    expect(watch.events).toMatchObject([{ type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired" } }]);
  });

  test("bookmarks, sendInitialEvents, timeoutSeconds", async () => {
    await api.create(path, map("w5", { init: "x" }));
    const watch = api.watch(
      `${path}?watch=1&labelSelector=init%3Dx&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1`,
    );
    await watch.until((events) => events.length >= 3);
    expect(watch.events[0].type).toBe("ADDED");
    expect(watch.events[1]).toMatchObject({
      type: "BOOKMARK",
      object: { metadata: { annotations: { "k8s.io/initial-events-end": "true" } } },
    });
    expect(watch.events[2].type).toBe("BOOKMARK");
    await watch.ended;
  });

  test("one object by name", async () => {
    await api.create(path, map("w6"));
    const watch = api.watch(`${path}/w6?watch=1`);
    await api.create(path, map("w7"));
    await watch.until((events) => events.length === 1);
    expect(types(watch.events)).toEqual(["ADDED w6"]);
    watch.stop();
  });

  test("many watchers see a write at once", { timeout: 30_000 }, async () => {
    const { body } = await api.get(path);
    const watchers = Array.from({ length: 50 }, () =>
      api.watch(`${path}?watch=1&resourceVersion=${body.metadata.resourceVersion}`),
    );
    await api.create(path, map("fan-out"));
    await Promise.all(watchers.map((watch) => watch.until((events) => events.length === 1)));
    const start = performance.now();
    await api.patch(`${path}/fan-out`, merge, { data: { go: "1" } });
    await Promise.all(watchers.map((watch) => watch.until((events) => events.length === 2)));
    expect(performance.now() - start).toBeLessThan(500);
    for (const watch of watchers) watch.stop();
  });
});
