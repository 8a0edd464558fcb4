import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Harness, pod, PODS, startHarness } from "../testing/harness.ts";

let api: Harness;
beforeAll(async () => {
  api = await startHarness();
});
afterAll(() => api[Symbol.asyncDispose]());

const configMaps = "/api/v1/namespaces/default/configmaps";
const map = (name: string, data: object = {}, metadata: object = {}): object => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, ...metadata },
  data,
});

describe("create", () => {
  test("fills metadata and defaults", async () => {
    const { code, body } = await api.create(PODS, pod("one"));
    expect(code).toBe(201);
    expect(body.metadata).toMatchObject({
      name: "one",
      namespace: "default",
      generation: 1,
      resourceVersion: expect.stringMatching(/^\d+$/),
    });
    expect(body.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(body.spec).toMatchObject({
      restartPolicy: "Always",
      dnsPolicy: "ClusterFirst",
      serviceAccountName: "default",
      schedulerName: "default-scheduler",
    });
    expect(body.spec.tolerations).toHaveLength(2);
    expect(body.spec.containers[0]).toMatchObject({
      imagePullPolicy: "IfNotPresent",
      volumeMounts: [{ mountPath: "/var/run/secrets/kubernetes.io/serviceaccount" }],
    });
    expect(body.status).toEqual({ phase: "Pending", qosClass: "BestEffort" });
  });

  test("generateName, AlreadyExists, wrong namespace, wrong kind", async () => {
    const generated = await api.create(configMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { generateName: "gen-" },
    });
    expect(generated.body.metadata.name).toMatch(/^gen-[a-z0-9]{5}$/);
    await api.create(configMaps, map("twice"));
    expect((await api.create(configMaps, map("twice"))).body).toMatchObject({
      code: 409,
      reason: "AlreadyExists",
      message: 'configmaps "twice" already exists',
    });
    expect((await api.create(configMaps, map("x", {}, { namespace: "other" }))).body.message).toBe(
      "the namespace of the provided object does not match the namespace sent on the request",
    );
    expect((await api.create(configMaps, { apiVersion: "v1", kind: "Secret", metadata: { name: "x" } })).code).toBe(
      400,
    );
    expect((await api.create("/api/v1/namespaces/nowhere/configmaps", map("x"))).body.message).toBe(
      'namespaces "nowhere" not found',
    );
  });

  test("dryRun stores nothing", async () => {
    expect((await api.create(`${configMaps}?dryRun=All`, map("dry"))).code).toBe(201);
    expect((await api.get(`${configMaps}/dry`)).body.message).toBe('configmaps "dry" not found');
  });

  test("unknown fields: dropped with a warning, refused when strict", async () => {
    const wrong = { ...map("unknown"), oops: 1 };
    const strict = await api.create(`${configMaps}?fieldValidation=Strict`, wrong);
    expect(strict.body.message).toBe(
      'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "oops"',
    );
    const warned = await api.create(configMaps, wrong);
    expect(warned.headers["warning"]).toBe('299 - "unknown field \\"oops\\""');
    expect(warned.body.oops).toBeUndefined();
  });

  test("bad bodies are refused, never fatal", async () => {
    for (const body of [
      "",
      "{",
      "[]",
      "1",
      '{"metadata":1}',
      '{"metadata":{"name":5}}',
      '{"metadata":{"name":"a","labels":{"x":{}}}}',
    ]) {
      expect((await api.call("POST", configMaps, { body })).code).toBe(400);
    }
    expect(
      (
        await api.call("POST", configMaps, {
          body: Buffer.from("k8s\0\xff\xff\xff", "latin1"),
          type: "application/vnd.kubernetes.protobuf",
        })
      ).code,
    ).toBe(400);
    expect((await api.get("/healthz")).text).toBe("ok");
  });

  test("validation errors carry causes", async () => {
    const { body } = await api.create(PODS, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "Bad_Name" },
      spec: { containers: [] },
    });
    expect(body.code).toBe(422);
    expect(body.message).toMatch(
      /^Pod "Bad_Name" is invalid: \[metadata\.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain/,
    );
    expect(body.details.causes).toContainEqual({
      reason: "FieldValueRequired",
      message: "Required value",
      field: "spec.containers",
    });
  });
});

describe("update and patch", () => {
  test("stale resourceVersion conflicts, no change keeps it, spec change bumps generation", async () => {
    const created = (await api.create(configMaps, map("cas", { a: "1" }))).body;
    const updated = await api.call("PUT", `${configMaps}/cas`, { body: { ...created, data: { a: "2" } } });
    expect(updated.code).toBe(200);
    const stale = await api.call("PUT", `${configMaps}/cas`, { body: { ...created, data: { a: "3" } } });
    expect(stale.body).toMatchObject({ code: 409, reason: "Conflict" });
    const same = await api.call("PUT", `${configMaps}/cas`, { body: updated.body });
    expect(same.body.metadata.resourceVersion).toBe(updated.body.metadata.resourceVersion);
  });

  test("merge patch, JSON patch, failed test operation", async () => {
    await api.create(configMaps, map("patched", { a: "1", b: "2" }));
    const merged = await api.patch(`${configMaps}/patched`, "application/merge-patch+json", {
      data: { a: null, c: "3" },
    });
    expect(merged.body.data).toEqual({ b: "2", c: "3" });
    const json = await api.patch(`${configMaps}/patched`, "application/json-patch+json", [
      { op: "replace", path: "/data/b", value: "9" },
    ]);
    expect(json.body.data).toEqual({ b: "9", c: "3" });
    expect(
      (
        await api.patch(`${configMaps}/patched`, "application/json-patch+json", [
          { op: "test", path: "/data/b", value: "0" },
        ])
      ).code,
    ).toBe(422);
    expect((await api.patch(`${configMaps}/patched`, "text/plain", {})).code).toBe(415);
  });

  test("strategic merge patch merges containers by name and honours directives", async () => {
    const deployment = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "web" },
      spec: {
        selector: { matchLabels: { app: "web" } },
        template: {
          metadata: { labels: { app: "web" } },
          spec: {
            containers: [
              { name: "a", image: "a:1", env: [{ name: "X", value: "1" }] },
              { name: "b", image: "b:1" },
            ],
          },
        },
      },
    };
    const path = "/apis/apps/v1/namespaces/default/deployments";
    expect((await api.create(path, deployment)).body.metadata.generation).toBe(1);
    const patch = {
      spec: {
        template: {
          spec: {
            containers: [
              { name: "a", image: "a:2" },
              { name: "b", $patch: "delete" },
            ],
          },
        },
      },
    };
    const { body } = await api.patch(`${path}/web`, "application/strategic-merge-patch+json", patch);
    expect(body.metadata.generation).toBe(2);
    expect(body.spec.template.spec.containers).toMatchObject([
      { name: "a", image: "a:2", env: [{ name: "X", value: "1" }] },
    ]);
    const moved = await api.patch(`${path}/web`, "application/merge-patch+json", {
      spec: { selector: { matchLabels: { app: "other" } }, template: { metadata: { labels: { app: "other" } } } },
    });
    expect(moved.body.message).toContain("spec.selector: Invalid value");
    const scaled = await api.patch(`${path}/web/scale`, "application/merge-patch+json", { spec: { replicas: 7 } });
    expect(scaled.body).toMatchObject({ kind: "Scale", spec: { replicas: 7 }, status: { selector: "app=web" } });
    expect((await api.get(`${path}/web`)).body.spec.replicas).toBe(7);
  });

  test("status and spec are written apart", async () => {
    await api.create(PODS, pod("parts"));
    const status = await api.patch(`${PODS}/parts/status`, "application/merge-patch+json", {
      spec: { nodeName: "x" },
      status: { phase: "Running" },
    });
    expect(status.body).toMatchObject({ status: { phase: "Running" } });
    expect(status.body.spec.nodeName).toBeUndefined();
    const main = await api.patch(`${PODS}/parts`, "application/merge-patch+json", { status: { phase: "Failed" } });
    expect(main.body.status.phase).toBe("Running");
    const frozen = await api.patch(`${PODS}/parts`, "application/merge-patch+json", { spec: { hostNetwork: true } });
    expect(frozen.body.message).toContain("pod updates may not change fields other than");
  });
});

describe("delete", () => {
  test("preconditions, Status answer, finalizers", async () => {
    const { body } = await api.create(configMaps, map("held", {}, { finalizers: ["example.com/hold"] }));
    const wrong = await api.call("DELETE", `${configMaps}/held`, { body: { preconditions: { uid: "other" } } });
    expect(wrong.body).toMatchObject({ code: 409, reason: "Conflict" });
    const marked = await api.call("DELETE", `${configMaps}/held`);
    expect(marked.body.metadata.deletionTimestamp).toBeDefined();
    await api.patch(`${configMaps}/held`, "application/merge-patch+json", { metadata: { finalizers: null } });
    expect((await api.get(`${configMaps}/held`)).code).toBe(404);
    await api.create(configMaps, map("plain"));
    expect((await api.call("DELETE", `${configMaps}/plain`)).body).toMatchObject({
      kind: "Status",
      status: "Success",
      details: { name: "plain", kind: "configmaps" },
    });
    expect(body.metadata.finalizers).toEqual(["example.com/hold"]);
  });

  test("a pod on a node waits for its kubelet", async () => {
    await api.create(PODS, pod("bound"));
    const binding = {
      apiVersion: "v1",
      kind: "Binding",
      metadata: { name: "bound" },
      target: { kind: "Node", name: "n1" },
    };
    expect((await api.create(`${PODS}/bound/binding`, binding)).code).toBe(201);
    expect((await api.create(`${PODS}/bound/binding`, binding)).code).toBe(409);
    const marked = await api.call("DELETE", `${PODS}/bound`);
    expect(marked.body.metadata).toMatchObject({ deletionGracePeriodSeconds: 30 });
    expect((await api.get(`${PODS}/bound`)).body.spec.nodeName).toBe("n1");
    await api.call("DELETE", `${PODS}/bound`, { body: { gracePeriodSeconds: 0 } });
    expect((await api.get(`${PODS}/bound`)).code).toBe(404);
  });

  test("dependents follow their owner; orphans do not; foreground waits", async () => {
    const owner = (await api.create(configMaps, map("owner"))).body;
    const reference = {
      apiVersion: "v1",
      kind: "ConfigMap",
      name: "owner",
      uid: owner.metadata.uid,
      blockOwnerDeletion: true,
    };
    await api.create(configMaps, map("child", {}, { ownerReferences: [reference] }));
    await api.create(
      configMaps,
      map(
        "grandchild",
        {},
        {
          ownerReferences: [
            { ...reference, name: "child", uid: (await api.get(`${configMaps}/child`)).body.metadata.uid },
          ],
        },
      ),
    );
    await api.call("DELETE", `${configMaps}/owner`, { body: { propagationPolicy: "Foreground" } });
    await eventually(async () => (await api.get(`${configMaps}/owner`)).code === 404);
    expect((await api.get(`${configMaps}/child`)).code).toBe(404);
    await eventually(async () => (await api.get(`${configMaps}/grandchild`)).code === 404);
    const second = (await api.create(configMaps, map("owner"))).body;
    await api.create(configMaps, map("orphan", {}, { ownerReferences: [{ ...reference, uid: second.metadata.uid }] }));
    await api.call("DELETE", `${configMaps}/owner`, { body: { propagationPolicy: "Orphan" } });
    await eventually(async () => (await api.get(`${configMaps}/owner`)).code === 404);
    expect((await api.get(`${configMaps}/orphan`)).body.metadata.ownerReferences).toBeUndefined();
  });

  test("a namespace is emptied and goes", async () => {
    await api.create("/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name: "brief" } });
    await eventually(async () => (await api.get("/api/v1/namespaces/brief/serviceaccounts/default")).code === 200);
    await api.create("/api/v1/namespaces/brief/configmaps", map("inside", {}, { finalizers: ["example.com/hold"] }));
    expect((await api.call("DELETE", "/api/v1/namespaces/brief")).body.status.phase).toBe("Terminating");
    await eventually(
      async () =>
        (await api.get("/api/v1/namespaces/brief/configmaps/inside")).body.metadata?.deletionTimestamp !== undefined,
    );
    const late = await api.create("/api/v1/namespaces/brief/configmaps", map("late"));
    expect(late.body.message).toBe(
      'configmaps "late" is forbidden: unable to create new content in namespace brief because it is being terminated',
    );
    await api.patch("/api/v1/namespaces/brief/configmaps/inside", "application/merge-patch+json", {
      metadata: { finalizers: null },
    });
    await eventually(async () => (await api.get("/api/v1/namespaces/brief")).code === 404);
    expect((await api.get("/api/v1/namespaces/brief/serviceaccounts")).body.items).toEqual([]);
  });

  test("deletecollection with a selector", async () => {
    for (const name of ["dc1", "dc2", "dc3"])
      await api.create(configMaps, map(name, {}, { labels: { set: name === "dc3" ? "b" : "a" } }));
    expect((await api.call("DELETE", `${configMaps}?labelSelector=set%3Da`)).body.items).toHaveLength(2);
    expect(
      (await api.get(`${configMaps}?labelSelector=set`)).body.items.map(
        (item: { metadata: { name: string } }) => item.metadata.name,
      ),
    ).toEqual(["dc3"]);
  });
});

test("eviction respects a disruption budget", async () => {
  await api.create(PODS, pod("evicted", { labels: { app: "budget" } }));
  await api.patch(`${PODS}/evicted/status`, "application/merge-patch+json", { status: { phase: "Running" } });
  const budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
  await api.create(budgets, {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name: "b" },
    spec: { minAvailable: 1, selector: { matchLabels: { app: "budget" } } },
  });
  const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: "evicted" } };
  expect((await api.create(`${PODS}/evicted/eviction`, eviction)).code).toBe(429);
  await api.call("DELETE", `${budgets}/b`);
  expect((await api.create(`${PODS}/evicted/eviction`, eviction)).code).toBe(201);
});
