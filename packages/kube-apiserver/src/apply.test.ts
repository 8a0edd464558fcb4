import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, type Harness, startHarness } from "../testing/harness.ts";

let api: Harness;
beforeAll(async () => {
  api = await startHarness();
});
afterAll(() => api[Symbol.asyncDispose]());

const path = "/apis/apps/v1/namespaces/default/deployments";
const deployment = (name: string, spec: object = {}, containers: object[] = [{ name: "c", image: "x:1" }]): object => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name },
  spec: {
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec: { containers } },
    ...spec,
  },
});
const apply = (manager: string, name: string, body: object, query = ""): Promise<Answer> =>
  api.call("PATCH", `${path}/${name}?fieldManager=${manager}${query}`, { type: "application/apply-patch+yaml", body });

describe("server-side apply", () => {
  test("creates, owns what it says, not the defaults", async () => {
    const { code, body } = await apply("a", "own", deployment("own", { replicas: 2 }));
    expect(code).toBe(201);
    expect(body.metadata.managedFields).toMatchObject([
      {
        manager: "a",
        operation: "Apply",
        fieldsV1: {
          "f:spec": {
            "f:replicas": {},
            "f:template": { "f:spec": { "f:containers": { 'k:{"name":"c"}': { ".": {}, "f:image": {} } } } },
          },
        },
      },
    ]);
    expect(JSON.stringify(body.metadata.managedFields)).not.toContain("revisionHistoryLimit");
    const again = await apply("a", "own", deployment("own", { replicas: 2 }));
    expect(again.body.metadata.resourceVersion).toBe(body.metadata.resourceVersion);
  });

  test("conflicts name the owner and the field; force takes over; agreeing shares", async () => {
    await apply("a", "fight", deployment("fight", { replicas: 2 }));
    const conflict = await apply("b", "fight", {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "fight" },
      spec: { replicas: 3 },
    });
    expect(conflict.body).toMatchObject({
      code: 409,
      message: 'Apply failed with 1 conflict: conflict with "a" using apps/v1: .spec.replicas',
    });
    expect(conflict.body.details.causes).toEqual([
      { reason: "FieldManagerConflict", message: 'conflict with "a" using apps/v1', field: ".spec.replicas" },
    ]);
    const shared = await apply("b", "fight", {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "fight" },
      spec: { replicas: 2 },
    });
    expect(shared.code).toBe(200);
    const forced = await apply(
      "c",
      "fight",
      { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "fight" }, spec: { replicas: 5 } },
      "&force=true",
    );
    expect(forced.body.spec.replicas).toBe(5);
    const owners = forced.body.metadata.managedFields.filter((entry: object) =>
      JSON.stringify(entry).includes("f:replicas"),
    );
    expect(owners.map((entry: { manager: string }) => entry.manager)).toEqual(["c"]);
  });

  test("what is no longer said goes, unless others own it", async () => {
    await apply("a", "drop", {
      ...deployment("drop", {}, [
        { name: "c", image: "x" },
        { name: "d", image: "y" },
      ]),
      metadata: { name: "drop", labels: { l1: "1", l2: "2" } },
    });
    await apply("b", "drop", {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "drop", labels: { l2: "2" } },
    });
    const { body } = await apply("a", "drop", deployment("drop"));
    expect(body.metadata.labels).toEqual({ l2: "2" });
    expect(body.spec.template.spec.containers.map((container: { name: string }) => container.name)).toEqual(["c"]);
  });

  test("an update takes ownership; the applier then conflicts", async () => {
    await apply("a", "upd", deployment("upd", { replicas: 2 }));
    await api.patch(`${path}/upd?fieldManager=hand`, "application/merge-patch+json", { spec: { replicas: 4 } });
    const conflict = await apply("a", "upd", deployment("upd", { replicas: 2 }));
    expect(conflict.body.message).toContain('conflict with "hand" using apps/v1: .spec.replicas');
    const without = await apply("a", "upd", deployment("upd"));
    expect(without.body.spec.replicas).toBe(4);
  });

  test("needs a field manager and a name that agrees", async () => {
    expect(
      (await api.call("PATCH", `${path}/x`, { type: "application/apply-patch+yaml", body: deployment("x") })).body
        .message,
    ).toContain("fieldManager: Required value");
    expect((await apply("a", "x", deployment("y"))).code).toBe(400);
    expect(
      (await api.call("PATCH", `${path}/x?fieldManager=a`, { type: "application/apply-patch+yaml", body: "kind: [" }))
        .code,
    ).toBe(400);
  });

  test("YAML bodies", async () => {
    const text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {a: b}\n";
    const answer = await api.call("PATCH", "/api/v1/namespaces/default/configmaps/y?fieldManager=a", {
      type: "application/apply-patch+yaml",
      body: text,
    });
    expect(answer.body.data).toEqual({ a: "b" });
  });
});
