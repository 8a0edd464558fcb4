import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { formatProblem } from "../problems.ts";
import { connectApi } from "./api-connection.ts";
import { applyManifests } from "./apply.ts";
import { readManifests } from "./manifest-files.ts";

// A small API server: a few built-in kinds, definitions that take a moment to be established, warnings, refusals, and the
// real one's way of refusing unknown fields in server-side apply.
let server: Server;
const objects = new Map<string, Record<string, unknown>>();
const requests: string[] = [];
let crdPolls = 0;
const folder = mkdtempSync(join(tmpdir(), "ct-apply-"));
const kubeconfig = join(folder, "kubeconfig");

const builtIn = {
  v1: [
    ["namespaces", "Namespace", false],
    ["pods", "Pod", true],
    ["pods/log", "Pod", true],
    ["configmaps", "ConfigMap", true],
  ],
} as const;

function answer(method: string, url: URL, body: string): { status: number; body: unknown; warning?: string } {
  const path = url.pathname;
  if (path === "/api/v1")
    return {
      status: 200,
      body: { resources: builtIn.v1.map(([name, kind, namespaced]) => ({ name, kind, namespaced })) },
    };
  if (path === "/apis/apiextensions.k8s.io/v1")
    return {
      status: 200,
      body: { resources: [{ name: "customresourcedefinitions", kind: "CustomResourceDefinition", namespaced: false }] },
    };
  if (path === "/apis/example.org/v1") {
    const established = crdPolls >= 2;
    return established
      ? { status: 200, body: { resources: [{ name: "widgets", kind: "Widget", namespaced: false }] } }
      : { status: 404, body: { message: "not found" } };
  }
  if (path.includes("/customresourcedefinitions/") && method === "GET") {
    crdPolls++;
    return {
      status: 200,
      body: { status: { conditions: crdPolls >= 2 ? [{ type: "Established", status: "True" }] : [] } },
    };
  }
  if (method !== "PATCH" && method !== "POST") return { status: 404, body: { message: "not found" } };
  const object = JSON.parse(body) as { kind: string; metadata: { name: string }; spec?: Record<string, unknown> };
  if (object.spec?.["refuse"] !== undefined) {
    return {
      status: 422,
      body: {
        message: "Pod is invalid",
        details: { causes: [{ field: "spec.refuse", message: "Invalid value: no" }] },
      },
    };
  }
  if (object.spec?.["strange"] !== undefined && method === "PATCH" && url.searchParams.get("force") === "true") {
    return {
      status: 500,
      body: { message: "failed to create typed patch object: .spec.strange: field not declared in schema" },
    };
  }
  if (url.searchParams.get("dryRun") === "All") return { status: 200, body: object };
  objects.set(method === "POST" ? `${path}/${object.metadata.name}` : path, object);
  const warned = object.spec?.["strange"] !== undefined || object.spec?.["odd"] !== undefined;
  const field = object.spec?.["strange"] === undefined ? "odd" : "strange";
  return { status: 201, body: object, ...(warned ? { warning: `299 - "unknown field \\"spec.${field}\\""` } : {}) };
}

beforeAll(async () => {
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      requests.push(`${request.method} ${request.url?.split("?")[0]}`);
      const reply = answer(request.method ?? "", new URL(request.url ?? "", "http://x"), body);
      response.writeHead(reply.status, {
        "content-type": "application/json",
        ...(reply.warning === undefined ? {} : { warning: reply.warning }),
      });
      response.end(JSON.stringify(reply.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  writeFileSync(
    kubeconfig,
    `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"insecure-skip-tls-verify":true,"server":"http://127.0.0.1:${port}"}}],"users":[{"name":"u","user":{}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"current-context":"x"}`,
  );
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  objects.clear();
  requests.length = 0;
  crdPolls = 0;
});

async function apply(text: string) {
  const file = join(folder, "m.yaml");
  writeFileSync(file, text);
  using api = connectApi(kubeconfig);
  const report = await applyManifests(api, readManifests([file]));
  const lines = (problems: typeof report.notes) =>
    problems.map((problem) => formatProblem(problem).replaceAll(`${folder}/`, ""));
  return { applied: report.applied, notes: lines(report.notes), problems: lines(report.problems) };
}
const object = (kind: string, name: string, rest = "") =>
  `apiVersion: ${kind === "Widget" ? "example.org/v1" : kind === "CustomResourceDefinition" ? "apiextensions.k8s.io/v1" : "v1"}\nkind: ${kind}\nmetadata: {name: ${name}}\n${rest}---\n`;

test("namespaces first, definitions before what they define, pods last, whatever the file's order", async () => {
  const report = await apply(
    [
      object("Pod", "p"),
      object("Widget", "w"),
      object("ConfigMap", "c"),
      object("CustomResourceDefinition", "widgets.example.org"),
      object("Namespace", "n"),
    ].join(""),
  );
  expect(report).toEqual({ applied: 5, notes: [], problems: [] });
  const writes = requests.filter((request) => request.startsWith("PATCH")).map((request) => request.split("/").at(-2));
  expect(new Set(writes.slice(0, 2))).toEqual(new Set(["customresourcedefinitions", "namespaces"]));
  expect(writes.slice(2)).toEqual([
    "configmaps",
    expect.stringMatching(/pods|widgets/),
    expect.stringMatching(/pods|widgets/),
  ]);
});

test("unknown kinds and fields are told by line and do no harm", async () => {
  const report = await apply(
    object("Pod", "p", "spec:\n  odd: 1\n") + object("Gadget", "g") + object("Pod", "q", "spec: {strange: 1}\n"),
  );
  expect(report.applied).toBe(2);
  expect(report.problems).toEqual([]);
  expect(report.notes.toSorted()).toEqual([
    "m.yaml:14:8: spec.strange: unknown field in this Pod; ignored",
    "m.yaml:5:3: spec.odd: unknown field in this Pod; ignored",
    "m.yaml:8:1: kind: v1 Gadget g: the API server knows no such kind; skipped",
  ]);
});

test("a refusal is told by file, line and field", async () => {
  const report = await apply(object("Pod", "p", "spec:\n  other: 1\n  refuse: 2\n"));
  expect(report.problems).toEqual(["m.yaml:6:3: spec.refuse: Invalid value: no"]);
});

test("a rehearsal finds refusals and changes nothing", async () => {
  const file = join(folder, "m.yaml");
  writeFileSync(file, object("Pod", "p", "spec:\n  refuse: 2\n") + object("Namespace", "n") + object("Widget", "w"));
  using api = connectApi(kubeconfig);
  const report = await applyManifests(api, readManifests([file]), { rehearse: true });
  expect(report.problems).toHaveLength(1);
  expect(report.applied).toBe(0);
  expect(objects.size).toBe(0);
});

test("no server", async () => {
  const gone = join(folder, "gone");
  writeFileSync(
    gone,
    `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"insecure-skip-tls-verify":true,"server":"http://127.0.0.1:1"}}],"users":[],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"current-context":"x"}`,
  );
  using api = connectApi(gone);
  await expect(applyManifests(api, readManifests([join(folder, "m.yaml")]))).rejects.toMatchObject({
    code: "UNAVAILABLE",
  });
  expect(() => connectApi(join(folder, "nope"))).toThrow(/nope: cannot be read as a kubeconfig/);
});
