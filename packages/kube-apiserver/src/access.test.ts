import { request as httpsRequest } from "node:https";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Harness, pod, PODS, startHarness } from "../testing/harness.ts";

let api: Harness;
let now = Date.now();
beforeAll(async () => {
  api = await startHarness({
    now: () => now,
    staticTokens: [{ token: "static-secret", user: { name: "sam", groups: ["devs"] } }],
  });
});
afterAll(() => api[Symbol.asyncDispose]());

const RBAC = "/apis/rbac.authorization.k8s.io/v1";
const role = (kind: string, name: string, rules: object[], namespace?: string): object => ({
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind,
  metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
  rules,
});
const bind = (kind: string, name: string, roleRef: object, subjects: object[]): object => ({
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind,
  metadata: { name },
  roleRef: { apiGroup: "rbac.authorization.k8s.io", ...roleRef },
  subjects,
});
const account = (name: string): object => ({ kind: "ServiceAccount", name, namespace: "default" });

async function newAccount(name: string): Promise<string> {
  await api.create("/api/v1/namespaces/default/serviceaccounts", {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name },
  });
  return await api.server.issueToken("default", name);
}

describe("authentication", () => {
  test("anonymous sees health and version, nothing else", async () => {
    expect((await api.get("/version", { token: "" })).code).toBe(200);
    const denied = await api.get("/api/v1/nodes", { token: "" });
    expect(denied.body).toMatchObject({
      code: 403,
      reason: "Forbidden",
      message:
        'nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope',
    });
    expect((await api.get("/metrics", { token: "" })).body.message).toBe(
      'forbidden: User "system:anonymous" cannot get path "/metrics"',
    );
  });

  test("wrong credentials are refused", async () => {
    expect((await api.get("/version", { token: "nonsense" })).body).toMatchObject({
      code: 401,
      reason: "Unauthorized",
    });
    expect((await api.get("/version", { token: "", headers: { authorization: "Basic eDp5" } })).code).toBe(401);
  });

  test("a certificate of another authority is refused", async () => {
    await using other = await startHarness();
    const stranger = await other.server.issueClientCertificate({ user: "admin", groups: ["system:masters"] });
    const { promise, resolve } = Promise.withResolvers<number>();
    httpsRequest(
      {
        host: "127.0.0.1",
        port: api.server.port,
        path: "/version",
        ca: api.server.ca,
        cert: stranger.certificate,
        key: stranger.key,
      },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    ).end();
    expect(await promise).toBe(401);
  });

  test("tokens: who, expiry, deletion of the account", async () => {
    const token = await newAccount("teller");
    const review = (await api.create("/apis/authentication.k8s.io/v1/tokenreviews", { spec: { token } })).body.status;
    expect(review).toMatchObject({
      authenticated: true,
      user: {
        username: "system:serviceaccount:default:teller",
        groups: ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
      },
    });
    const self = await api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", { token, body: {} });
    expect(self.body.status.userInfo.username).toBe("system:serviceaccount:default:teller");
    const before = now;
    now += 3601_000;
    expect((await api.get("/version", { token })).code).toBe(401);
    now = before;
    expect((await api.get("/version", { token })).code).toBe(200);
    await api.call("DELETE", "/api/v1/namespaces/default/serviceaccounts/teller");
    expect((await api.get("/version", { token })).code).toBe(401);
  });

  test("TokenRequest, bound to a pod", async () => {
    const body = (await api.create(PODS, pod("holder"))).body;
    const path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    const spec = {
      expirationSeconds: 3607,
      boundObjectRef: { kind: "Pod", apiVersion: "v1", name: "holder", uid: body.metadata.uid },
    };
    const issued = (await api.create(path, { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec }))
      .body;
    expect((await api.get("/version", { token: issued.status.token })).code).toBe(200);
    await api.call("DELETE", `${PODS}/holder`);
    expect((await api.get("/version", { token: issued.status.token })).code).toBe(401);
    expect((await api.create(path, { spec: { expirationSeconds: 10 } })).code).toBe(422);
  });

  test("static tokens and impersonation", async () => {
    expect((await api.get("/api/v1/nodes", { token: "static-secret" })).body.message).toContain('User "sam"');
    expect((await api.get("/api/v1/nodes", { headers: { "impersonate-user": "eve" } })).body.message).toContain(
      'User "eve"',
    );
    expect(
      (await api.get("/version", { token: "static-secret", headers: { "impersonate-user": "eve" } })).body.message,
    ).toContain('User "sam" cannot impersonate resource "users"');
  });
});

describe("RBAC", () => {
  test("roles, resource names, subresources, groups; withdrawn at once", async () => {
    const token = await newAccount("worker");
    expect((await api.get(PODS, { token })).code).toBe(403);
    await api.create(
      `${RBAC}/namespaces/default/roles`,
      role("Role", "reader", [
        { apiGroups: [""], resources: ["pods", "pods/log"], verbs: ["get", "list"] },
        { apiGroups: [""], resources: ["configmaps"], resourceNames: ["kube-root-ca.crt"], verbs: ["get", "list"] },
      ]),
    );
    await api.create(
      `${RBAC}/namespaces/default/rolebindings`,
      bind("RoleBinding", "reader", { kind: "Role", name: "reader" }, [account("worker")]),
    );
    expect((await api.get(PODS, { token })).code).toBe(200);
    expect((await api.get(`${PODS}?watch=1`, { token })).body.message).toContain('cannot watch resource "pods"');
    expect((await api.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt", { token })).code).toBe(200);
    expect((await api.get("/api/v1/namespaces/default/configmaps/other", { token })).code).toBe(403);
    const configMaps = "/api/v1/namespaces/default/configmaps?fieldSelector=";
    expect((await api.get(`${configMaps}metadata.name%3Dkube-root-ca.crt`, { token })).body.items).toHaveLength(1);
    expect((await api.get(`${configMaps}metadata.name%3Dother`, { token })).code).toBe(403);
    expect((await api.get(`${configMaps}metadata.name!%3Dkube-root-ca.crt`, { token })).code).toBe(403);
    expect((await api.get(configMaps, { token })).code).toBe(403);
    expect((await api.get("/api/v1/namespaces/kube-system/pods", { token })).code).toBe(403);
    expect((await api.get(`${PODS}/none/log`, { token })).code).toBe(404);
    expect((await api.call("PUT", `${PODS}/none/status`, { token, body: {} })).code).toBe(403);
    await api.call("DELETE", `${RBAC}/namespaces/default/rolebindings/reader`);
    expect((await api.get(PODS, { token })).code).toBe(403);
  });

  test("access reviews agree with what happens", async () => {
    const ask = async (user: string, groups: string[]): Promise<boolean> => {
      const spec = {
        user,
        groups,
        resourceAttributes: { verb: "delete", group: "apps", resource: "deployments", namespace: "default" },
      };
      return (await api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", { spec })).body.status
        .allowed as boolean;
    };
    expect(await ask("x", [])).toBe(false);
    expect(await ask("x", ["system:masters"])).toBe(true);
    await api.create(
      `${RBAC}/namespaces/default/rolebindings`,
      bind("RoleBinding", "editors", { kind: "ClusterRole", name: "edit" }, [{ kind: "Group", name: "devs" }]),
    );
    expect(await ask("x", ["devs"])).toBe(true);
    const rules = await api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {
      token: "static-secret",
      body: { spec: { namespace: "default" } },
    });
    expect(rules.body.status.resourceRules.length).toBeGreaterThan(3);
  });

  test("aggregated roles gather rules", async () => {
    const extra = {
      ...role("ClusterRole", "more-view", [{ apiGroups: ["example.com"], resources: ["things"], verbs: ["get"] }]),
      metadata: { name: "more-view", labels: { "rbac.authorization.k8s.io/aggregate-to-view": "true" } },
    };
    await api.create(`${RBAC}/clusterroles`, extra);
    await eventually(async () =>
      JSON.stringify((await api.get(`${RBAC}/clusterroles/admin`)).body.rules).includes("example.com"),
    );
  });

  test("nobody grants what they do not have", async () => {
    const token = await newAccount("climber");
    await api.create(
      `${RBAC}/clusterroles`,
      role("ClusterRole", "role-maker", [
        { apiGroups: ["rbac.authorization.k8s.io"], resources: ["roles", "rolebindings"], verbs: ["create"] },
      ]),
    );
    await api.create(
      `${RBAC}/clusterrolebindings`,
      bind("ClusterRoleBinding", "role-maker", { kind: "ClusterRole", name: "role-maker" }, [account("climber")]),
    );
    const grab = await api.call("POST", `${RBAC}/namespaces/default/roles`, {
      token,
      body: role("Role", "grab", [{ apiGroups: ["*"], resources: ["*"], verbs: ["*"] }]),
    });
    expect(grab.body.message).toContain("is attempting to grant RBAC permissions not currently held");
    const self = await api.call("POST", `${RBAC}/namespaces/default/rolebindings`, {
      token,
      body: bind("RoleBinding", "self", { kind: "ClusterRole", name: "cluster-admin" }, [account("climber")]),
    });
    expect(self.code).toBe(403);
    const own = await api.call("POST", `${RBAC}/namespaces/default/roles`, {
      token,
      body: role("Role", "own", [
        { apiGroups: ["rbac.authorization.k8s.io"], resources: ["roles"], verbs: ["create"] },
      ]),
    });
    expect(own.code).toBe(201);
  });

  test("roleRef is immutable", async () => {
    const path = `${RBAC}/clusterrolebindings/role-maker`;
    const changed = await api.patch(path, "application/merge-patch+json", { roleRef: { name: "view" } });
    expect(changed.body.message).toContain("cannot change roleRef");
  });
});
