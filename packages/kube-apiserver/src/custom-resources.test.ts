import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Harness, startHarness } from "../testing/harness.ts";

let api: Harness;
const definition = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "pools.example.com" },
  spec: {
    group: "example.com",
    scope: "Namespaced",
    names: { kind: "Pool", plural: "pools", shortNames: ["pl"], categories: ["all"] },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: { status: {}, scale: { specReplicasPath: ".spec.size", statusReplicasPath: ".status.size" } },
        additionalPrinterColumns: [
          { name: "CIDR", type: "string", jsonPath: ".spec.cidr" },
          { name: "Ready", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
        ],
        selectableFields: [{ jsonPath: ".spec.cidr" }],
        schema: {
          openAPIV3Schema: {
            type: "object",
            required: ["spec"],
            properties: {
              spec: {
                type: "object",
                required: ["cidr"],
                properties: {
                  cidr: {
                    type: "string",
                    "x-kubernetes-validations": [{ rule: "self == oldSelf", message: "cidr is immutable" }],
                  },
                  size: { type: "integer", default: 3, minimum: 0 },
                  ports: {
                    type: "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port"],
                    items: {
                      type: "object",
                      required: ["port"],
                      properties: { port: { type: "integer" }, name: { type: "string" } },
                    },
                  },
                },
                "x-kubernetes-validations": [{ rule: "isCIDR(self.cidr)", message: "cidr must be a CIDR" }],
              },
              status: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
            },
          },
        },
      },
      {
        name: "v2",
        served: true,
        storage: false,
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
};
const path = "/apis/example.com/v1/namespaces/default/pools";
const pool = (name: string, spec: object, extra: object = {}): object => ({
  apiVersion: "example.com/v1",
  kind: "Pool",
  metadata: { name },
  spec,
  ...extra,
});
const merge = "application/merge-patch+json";

beforeAll(async () => {
  api = await startHarness();
  const { body } = await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
  expect(
    body.status.conditions.map(
      (condition: { type: string; status: string }) => `${condition.type}=${condition.status}`,
    ),
  ).toEqual(["NamesAccepted=True", "Established=True"]);
});
afterAll(() => api[Symbol.asyncDispose]());

describe("custom resources", () => {
  test("discovered, defaulted, pruned, status apart", async () => {
    const group = (await api.get("/apis/example.com/v1")).body;
    expect(group.resources.map((resource: { name: string }) => resource.name)).toEqual([
      "pools",
      "pools/status",
      "pools/scale",
    ]);
    const created = await api.create(path, pool("a", { cidr: "10.0.0.0/8", oops: 1 }, { status: { size: 9 } }));
    expect(created.headers["warning"]).toContain("unknown field");
    expect(created.body).toMatchObject({ metadata: { generation: 1 }, spec: { cidr: "10.0.0.0/8", size: 3 } });
    expect(created.body.spec.oops).toBeUndefined();
    expect(created.body.status).toBeUndefined();
    const status = await api.patch(`${path}/a/status`, merge, {
      status: { size: 2, any: { thing: 1 } },
      spec: { size: 8 },
    });
    expect(status.body).toMatchObject({
      metadata: { generation: 1 },
      spec: { size: 3 },
      status: { size: 2, any: { thing: 1 } },
    });
    expect((await api.patch(`${path}/a`, merge, { spec: { size: 4 } })).body.metadata.generation).toBe(2);
  });

  test("schema and CEL errors in Kubernetes' words", async () => {
    const missing = await api.create(path, pool("bad", {}));
    expect(missing.body.message).toBe('Pool.example.com "bad" is invalid: spec.cidr: Required value');
    const notCidr = await api.create(path, pool("bad", { cidr: "x" }));
    expect(notCidr.body.message).toBe(
      'Pool.example.com "bad" is invalid: spec: Invalid value: "object": cidr must be a CIDR',
    );
    const wrongType = await api.create(path, pool("bad", { cidr: "10.0.0.0/8", size: "three" }));
    expect(wrongType.body.details.causes).toEqual([
      {
        reason: "FieldValueTypeInvalid",
        message: 'Invalid value: "string": spec.size in body must be of type integer: "string"',
        field: "spec.size",
      },
    ]);
    const changed = await api.patch(`${path}/a`, merge, { spec: { cidr: "10.0.0.0/16" } });
    expect(changed.body.message).toContain("cidr is immutable");
    const blind = await api.call("PUT", `${path}/a`, { body: pool("a", { cidr: "10.0.0.0/8" }) });
    expect(blind.body.message).toContain("metadata.resourceVersion: Invalid value: 0: must be specified for an update");
    expect((await api.patch(`${path}/a`, "application/strategic-merge-patch+json", {})).code).toBe(415);
  });

  test("scale, columns, selectable fields, the other version", async () => {
    expect((await api.get(`${path}/a/scale`)).body).toMatchObject({ spec: { replicas: 4 }, status: { replicas: 2 } });
    await api.patch(`${path}/a/status`, merge, { status: { conditions: [{ type: "Ready", status: "True" }] } });
    const table = await api.get(path, { accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json" });
    expect(table.body.columnDefinitions.map((column: { name: string }) => column.name)).toEqual([
      "Name",
      "CIDR",
      "Ready",
    ]);
    expect(table.body.rows[0].cells).toEqual(["a", "10.0.0.0/8", "True"]);
    expect((await api.get(`${path}?fieldSelector=spec.cidr%3D10.0.0.0/8`)).body.items).toHaveLength(1);
    expect((await api.get(`${path}?fieldSelector=spec.size%3D4`)).code).toBe(400);
    const v2 = (await api.get("/apis/example.com/v2/namespaces/default/pools/a")).body;
    expect(v2).toMatchObject({ apiVersion: "example.com/v2", kind: "Pool" });
    expect((await api.get("/apis/example.com/v2/namespaces/default/pools")).body.items[0].apiVersion).toBe(
      "example.com/v2",
    );
  });

  test("server-side apply merges keyed lists", async () => {
    const apply = (manager: string, ports: object[]): ReturnType<Harness["call"]> =>
      api.call("PATCH", `${path}/ssa?fieldManager=${manager}`, {
        type: "application/apply-patch+yaml",
        body: pool("ssa", { cidr: "10.0.0.0/8", ports }),
      });
    expect((await apply("one", [{ port: 1, name: "a" }])).code).toBe(201);
    expect((await apply("two", [{ port: 2 }])).body.spec.ports).toEqual([{ port: 1, name: "a" }, { port: 2 }]);
    expect((await apply("one", [])).body.spec.ports).toEqual([{ port: 2 }]);
  });

  test("a wrong definition is refused", async () => {
    const { body } = await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
      ...definition,
      metadata: { name: "wrong" },
    });
    expect(body.message).toContain(`metadata.name: Invalid value: "wrong": must be spec.names.plural+"."+spec.group`);
    const broken = structuredClone(definition);
    broken.metadata.name = "tools.example.com";
    broken.spec.names = { kind: "Tool", plural: "tools", shortNames: [], categories: [] };
    broken.spec.versions[0].schema.openAPIV3Schema.properties!.spec["x-kubernetes-validations"][0].rule = "self.(";
    expect(
      (await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", broken)).body.message,
    ).toContain("compilation failed");
  });

  test("deleting the definition takes the objects along", async () => {
    await eventually(
      async () =>
        (await api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pools.example.com")).body.metadata
          .finalizers?.length === 1,
    );
    await api.call("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pools.example.com");
    await eventually(
      async () =>
        (await api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pools.example.com")).code === 404,
    );
    expect((await api.get(path)).code).toBe(404);
    await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
    expect((await api.get(path)).body.items).toEqual([]);
  });
});
