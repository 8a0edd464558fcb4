import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AppsV1Api, CoreV1Api, CustomObjectsApi, KubeConfig, NetworkingV1Api, Watch } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { generateTypes } from "../testing/generate-types.ts";
import { eventually, type Harness, pod, startHarness } from "../testing/harness.ts";

let api: Harness;
let config: KubeConfig;
beforeAll(async () => {
  api = await startHarness({
    async *podLogs({ pod: name, container }) {
      yield `hello from ${name}/${container}\n`;
      yield "bye\n";
    },
  });
  config = new KubeConfig();
  config.loadFromString(await api.server.adminKubeconfig());
});
afterAll(() => api[Symbol.asyncDispose]());

describe("@kubernetes/client-node", () => {
  test("CRUD, patches, errors", async () => {
    const core = config.makeApiClient(CoreV1Api);
    const created = await core.createNamespacedConfigMap({
      namespace: "default",
      body: { metadata: { name: "c" }, data: { a: "1" } },
    });
    expect(created.metadata?.creationTimestamp).toBeInstanceOf(Date);
    created.data = { a: "2" };
    const replaced = await core.replaceNamespacedConfigMap({ name: "c", namespace: "default", body: created });
    expect(replaced.data).toEqual({ a: "2" });
    await expect(
      core.replaceNamespacedConfigMap({ name: "c", namespace: "default", body: created }),
    ).rejects.toMatchObject({ code: 409 });
    await expect(core.readNamespacedConfigMap({ name: "none", namespace: "default" })).rejects.toMatchObject({
      code: 404,
    });
    expect((await core.listNamespace()).items.map((item) => item.metadata?.name)).toEqual([
      "default",
      "kube-node-lease",
      "kube-public",
      "kube-system",
    ]);
    const networking = config.makeApiClient(NetworkingV1Api);
    const policy = await networking.createNamespacedNetworkPolicy({
      namespace: "default",
      body: { metadata: { name: "p" }, spec: { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] } },
    });
    expect(policy.spec?.policyTypes).toEqual(["Ingress"]);
    const apps = config.makeApiClient(AppsV1Api);
    expect((await apps.listDeploymentForAllNamespaces()).items).toEqual([]);
    await expect(
      config
        .makeApiClient(CustomObjectsApi)
        .listClusterCustomObject({ group: "none.example", version: "v1", plural: "x" }),
    ).rejects.toMatchObject({ code: 404 });
  });

  test("watch", async () => {
    const events: string[] = [];
    const controller = await new Watch(config).watch(
      "/api/v1/namespaces/default/secrets",
      { allowWatchBookmarks: true },
      (type: string, object: { metadata: { name: string } }) => events.push(`${type} ${object.metadata.name}`),
      () => undefined,
    );
    await config
      .makeApiClient(CoreV1Api)
      .createNamespacedSecret({ namespace: "default", body: { metadata: { name: "s" } } });
    await eventually(() => events.includes("ADDED s"));
    controller.abort();
  });

  test("pod logs come from the embedder", async () => {
    const core = config.makeApiClient(CoreV1Api);
    await api.create("/api/v1/namespaces/default/pods", pod("logs"));
    await expect(core.readNamespacedPodLog({ name: "logs", namespace: "default" })).rejects.toMatchObject({
      code: 400,
    });
    await api.create("/api/v1/namespaces/default/pods/logs/binding", { target: { name: "n" } });
    expect(await core.readNamespacedPodLog({ name: "logs", namespace: "default" })).toBe("hello from logs/c\nbye\n");
    expect((await api.get("/api/v1/namespaces/default/pods/logs/exec")).body).toMatchObject({
      code: 501,
      reason: "NotImplemented",
    });
  });
});

describe("protobuf bodies", () => {
  /** One length-delimited field. */
  const field = (number: number, ...parts: (string | Buffer)[]): Buffer => {
    const bytes = Buffer.concat(parts.map((part) => Buffer.from(part)));
    return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
  };
  const envelope = (apiVersion: string, kind: string, raw: Buffer): Buffer =>
    Buffer.concat([Buffer.from("k8s\0"), field(1, field(1, apiVersion), field(2, kind)), field(2, raw)]);

  test("an object", async () => {
    const raw = Buffer.concat([
      field(1, field(1, "wire"), field(11, field(1, "app"), field(2, "x"))),
      field(2, field(1, "key"), field(2, "value")),
    ]);
    const { code, body } = await api.call("POST", "/api/v1/namespaces/default/configmaps", {
      type: "application/vnd.kubernetes.protobuf",
      body: envelope("v1", "ConfigMap", raw),
    });
    expect(code).toBe(201);
    expect(body).toMatchObject({ metadata: { name: "wire", labels: { app: "x" } }, data: { key: "value" } });
  });

  test("nonsense is refused", async () => {
    for (const body of [
      Buffer.from("nope"),
      envelope("v1", "ConfigMap", Buffer.from([0x0a, 0x7f])),
      envelope("v1", "Nothing", Buffer.alloc(0)),
    ]) {
      const { code } = await api.call("POST", "/api/v1/namespaces/default/configmaps", {
        type: "application/vnd.kubernetes.protobuf",
        body,
      });
      expect([400, 415]).toContain(code);
    }
  });
});

describe("OpenAPI", () => {
  test("v2 as JSON and protobuf, v3 by group version, etags", async () => {
    const v2 = await api.get("/openapi/v2");
    expect(v2.body.definitions["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"]).toEqual([
      { group: "apps", version: "v1", kind: "Deployment" },
    ]);
    const containers = v2.body.definitions["io.k8s.api.core.v1.PodSpec"].properties.containers;
    expect(containers).toMatchObject({
      "x-kubernetes-patch-merge-key": "name",
      "x-kubernetes-patch-strategy": "merge",
      items: { $ref: "#/definitions/io.k8s.api.core.v1.Container" },
    });
    const proto = await api.get("/openapi/v2", {
      accept: "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    });
    expect(proto.headers["content-type"]).toContain("protobuf");
    const index = (await api.get("/openapi/v3")).body;
    const { serverRelativeURL } = index.paths["apis/networking.k8s.io/v1"];
    const v3 = await api.get(serverRelativeURL as string);
    expect(
      v3.body.paths["/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}"].patch[
        "x-kubernetes-action"
      ],
    ).toBe("patch");
    expect(
      (await api.get(serverRelativeURL as string, { headers: { "if-none-match": v3.headers.etag ?? "" } })).code,
    ).toBe(304);
    expect((await api.get("/openapi/v3/apis/none/v1")).code).toBe(404);
  });

  test("every reference leads somewhere", async () => {
    const { text, body } = await api.get("/openapi/v2");
    for (const [, name] of text.matchAll(/"#\/definitions\/([^"]+)"/g))
      expect(Object.hasOwn(body.definitions, name)).toBe(true);
  });
});

test("the generated type table is current", async () => {
  const file = readFileSync(join(import.meta.dirname, "registry/generated/builtin-types.ts"), "utf8");
  expect(await generateTypes()).toBe(file);
});

test("aggregated discovery", async () => {
  const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
  const { body, headers } = await api.get("/apis", { accept });
  expect(headers["content-type"]).toBe("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
  const apps = body.items.find((item: { metadata: { name: string } }) => item.metadata.name === "apps");
  expect(
    apps.versions[0].resources.find((resource: { resource: string }) => resource.resource === "deployments"),
  ).toMatchObject({ scope: "Namespaced", shortNames: ["deploy"], responseKind: { kind: "Deployment" } });
  expect((await api.get("/api", { accept })).body.items[0].versions[0].version).toBe("v1");
});
