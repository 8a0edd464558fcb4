import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createAuthority } from "./auth/certificates.ts";
import { type Harness, startHarness } from "../testing/harness.ts";

interface Review {
  readonly request: {
    readonly uid: string;
    readonly operation: string;
    readonly object: { metadata: { name: string } } | null;
    readonly userInfo: { readonly username: string };
  };
}

let api: Harness;
let hook: Server;
let url: string;
let caBundle: string;
const seen: Review["request"][] = [];
let respond: (review: Review["request"]) => object = () => ({ allowed: true });

beforeAll(async () => {
  api = await startHarness();
  const authority = await createAuthority(Date.now);
  const pair = await authority.issueServer(["localhost"], ["127.0.0.1"]);
  caBundle = Buffer.from(authority.certificate).toString("base64");
  hook = createServer({ key: pair.key, cert: pair.certificate }, async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { request: review } = JSON.parse(Buffer.concat(chunks).toString()) as Review;
    seen.push(review);
    response.end(
      JSON.stringify({
        apiVersion: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response: { uid: review.uid, ...respond(review) },
      }),
    );
  });
  await new Promise<void>((resolve) => hook.listen(0, "127.0.0.1", resolve));
  url = `https://127.0.0.1:${(hook.address() as AddressInfo).port}/`;
});
afterAll(async () => {
  hook.closeAllConnections();
  hook.close();
  await api[Symbol.asyncDispose]();
});

const group = "/apis/admissionregistration.k8s.io/v1";
const maps = "/api/v1/namespaces/default/configmaps";
const map = (name: string, labels: object = {}): object => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, labels },
});
const rules = [{ operations: ["*"], apiGroups: [""], apiVersions: ["v1"], resources: ["configmaps"] }];
const webhook = (extra: object = {}): object => ({
  name: "hook.example.com",
  clientConfig: { url, caBundle },
  rules,
  sideEffects: "None",
  admissionReviewVersions: ["v1"],
  ...extra,
});

async function withHook(kind: "Mutating" | "Validating", extra: object, body: () => Promise<void>): Promise<void> {
  const path = `${group}/${kind.toLowerCase()}webhookconfigurations`;
  const created = await api.create(path, {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: `${kind}WebhookConfiguration`,
    metadata: { name: "t" },
    webhooks: [webhook(extra)],
  });
  expect(created.code).toBe(201);
  try {
    await body();
  } finally {
    await api.call("DELETE", `${path}/t`);
    respond = () => ({ allowed: true });
    seen.length = 0;
  }
}

describe("admission webhooks", () => {
  test("a mutating webhook changes the object", async () => {
    const patch = Buffer.from(JSON.stringify([{ op: "add", path: "/data", value: { added: "yes" } }])).toString(
      "base64",
    );
    respond = () => ({ allowed: true, patchType: "JSONPatch", patch, warnings: ["look here"] });
    await withHook("Mutating", {}, async () => {
      const { body, headers } = await api.create(maps, map("mutated"));
      expect(body.data).toEqual({ added: "yes" });
      expect(headers["warning"]).toContain("look here");
      expect(seen[0]).toMatchObject({
        operation: "CREATE",
        userInfo: { username: "admin" },
        object: { metadata: { name: "mutated" } },
      });
    });
  });

  test("a validating webhook refuses creates, updates and deletes", async () => {
    await api.create(maps, map("guarded"));
    respond = () => ({ allowed: false, status: { code: 403, message: "not today" } });
    await withHook("Validating", {}, async () => {
      const message = 'admission webhook "hook.example.com" denied the request: not today';
      expect((await api.create(maps, map("refused"))).body).toMatchObject({ code: 403, message });
      expect(
        (await api.patch(`${maps}/guarded`, "application/merge-patch+json", { data: { a: "1" } })).body.message,
      ).toBe(message);
      expect((await api.call("DELETE", `${maps}/guarded`)).body.message).toBe(message);
      expect(
        (
          await api.create("/api/v1/namespaces/default/secrets", {
            apiVersion: "v1",
            kind: "Secret",
            metadata: { name: "free" },
          })
        ).code,
      ).toBe(201);
    });
  });

  test("selectors and match conditions decide whom it concerns", async () => {
    respond = () => ({ allowed: false });
    await withHook(
      "Validating",
      {
        objectSelector: { matchLabels: { check: "yes" } },
        matchConditions: [{ name: "c", expression: "object.metadata.name.startsWith('bad')" }],
      },
      async () => {
        expect((await api.create(maps, map("bad-1"))).code).toBe(201);
        expect((await api.create(maps, map("good-1", { check: "yes" }))).code).toBe(201);
        expect((await api.create(maps, map("bad-2", { check: "yes" }))).body.message).toBe(
          'admission webhook "hook.example.com" denied the request without explanation',
        );
      },
    );
    await withHook(
      "Validating",
      { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } } },
      async () => {
        respond = () => ({ allowed: false });
        expect((await api.create(maps, map("elsewhere"))).code).toBe(201);
      },
    );
  });

  test("failure policy", async () => {
    const dead = { clientConfig: { url: "https://127.0.0.1:1/", caBundle } };
    await withHook("Validating", { ...dead, failurePolicy: "Fail" }, async () => {
      expect((await api.create(maps, map("f1"))).body).toMatchObject({
        code: 500,
        reason: "InternalError",
        message: expect.stringContaining('failed calling webhook "hook.example.com"'),
      });
    });
    await withHook("Validating", { ...dead, failurePolicy: "Ignore" }, async () => {
      expect((await api.create(maps, map("f2"))).code).toBe(201);
    });
  });
});
