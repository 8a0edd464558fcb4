/** The contract against an API server in this process: TLS, client certificates, CRDs, real list and watch semantics. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ApiServer, startApiServer } from "@calico-ts/kube-apiserver";
import { hasCode } from "@calico-ts/std";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { datastoreContract } from "../testing/contract.ts";
import { installDefinitions } from "../testing/install-definitions.ts";
import { openKubernetes } from "./client.ts";
import { type ConnectionConfig, parseKubeconfig } from "./config.ts";

let server: ApiServer;
let connection: ConnectionConfig;

beforeAll(async () => {
  server = await startApiServer({ bookmarkIntervalMs: 200 });
  connection = parseKubeconfig(await server.adminKubeconfig(), { file: "admin" });
  await installDefinitions(connection);
}, 60_000);

afterAll(() => server.close());

datastoreContract({
  name: "kubernetes",
  open: async () => {
    const client = openKubernetes({ connection, pageSize: 3 });
    return {
      client,
      compact: async () => server.store.compact(),
      [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
    };
  },
});

describe("kubernetes", { timeout: 30_000 }, () => {
  test("what a real server refuses has our codes", async () => {
    await using stranger = openKubernetes({
      connection: parseKubeconfig(await server.kubeconfig({ user: "nobody", groups: [] }), { file: "nobody" }),
    });
    await expect(stranger.list("IPPool")).rejects.toMatchObject({ code: "FORBIDDEN", message: /IPPool|ippools/i });
    const { ca, serverName } = connection.tls;
    await using anonymous = openKubernetes({
      connection: { ...connection, tls: { ca, serverName, skipVerify: false }, user: { token: "wrong" } },
    });
    await expect(anonymous.list("IPPool")).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await using untrusting = openKubernetes({ connection: { ...connection, tls: { skipVerify: false } } });
    await expect(untrusting.list("IPPool")).rejects.toMatchObject({
      code: "UNAVAILABLE",
      message: /cannot reach https/,
    });
  });

  test("a kubeconfig file, and one whose token file is replaced while we use it", async () => {
    const folder = await mkdtemp(join(tmpdir(), "ct-datastore-"));
    try {
      await writeFile(join(folder, "config"), await server.adminKubeconfig());
      await using client = openKubernetes({ kubeconfig: join(folder, "config") });
      expect((await client.get("Namespace", { name: "default" })).metadata.name).toBe("default");

      const account = {
        apiVersion: "v1" as const,
        kind: "ServiceAccount" as const,
        metadata: { name: "rotating", namespace: "default" },
      };
      await client.create("ServiceAccount", account).catch((error: unknown) => {
        if (!hasCode(error, "ALREADY_EXISTS")) throw error;
      });
      await writeFile(join(folder, "token"), "stale");
      await writeFile(
        join(folder, "by-token"),
        JSON.stringify({
          clusters: [{ name: "c", cluster: { server: server.url, "certificate-authority-data": btoa(server.ca) } }],
          users: [{ name: "u", user: { tokenFile: "token" } }],
          contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
          "current-context": "x",
        }),
      );
      await using rotating = openKubernetes({ kubeconfig: join(folder, "by-token") });
      await expect(rotating.list("Namespace")).rejects.toMatchObject({ code: "UNAUTHORIZED" });
      await writeFile(join(folder, "token"), `${await server.issueToken("default", "rotating")}\n`);
      // Known now, and told what it may not do.
      await expect(rotating.list("Namespace")).rejects.toMatchObject({ code: "FORBIDDEN", message: /rotating/ });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test("a credential plugin is run for its token", async () => {
    const token = "from-the-plugin";
    await using guarded = await startApiServer({
      staticTokens: [{ token, user: { name: "plugin", groups: ["system:masters"] } }],
    });
    const credential = { apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status: { token } };
    const exec = { apiVersion: credential.apiVersion, command: "echo", args: [JSON.stringify(credential)] };
    const kubeconfig = (user: object): string =>
      JSON.stringify({
        clusters: [{ name: "c", cluster: { server: guarded.url, "certificate-authority-data": btoa(guarded.ca) } }],
        users: [{ name: "u", user }],
        contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
        "current-context": "x",
      });
    await using client = openKubernetes({ connection: parseKubeconfig(kubeconfig({ exec }), { file: "exec" }) });
    expect((await client.list("Namespace")).items.length).toBeGreaterThan(0);
    const broken = { exec: { ...exec, command: "/no/such/plugin" } };
    await using failing = openKubernetes({ connection: parseKubeconfig(kubeconfig(broken), { file: "exec" }) });
    await expect(failing.list("Namespace")).rejects.toMatchObject({
      code: "UNAUTHORIZED",
      message: /credential plugin of user "u" failed/,
    });
  });

  test("a kind whose resource type is not there is not an empty list", async () => {
    await using bare = await startApiServer();
    await using client = openKubernetes({
      connection: parseKubeconfig(await bare.adminKubeconfig(), { file: "bare" }),
    });
    await expect(client.list("IPPool")).rejects.toMatchObject({ code: "UNAVAILABLE", message: /apply the CRDs/ });
  });

  test("an idle watch gets bookmarks, and one whose server goes away says so", async () => {
    const mortal = await startApiServer({ bookmarkIntervalMs: 50 });
    await using client = openKubernetes({
      connection: parseKubeconfig(await mortal.adminKubeconfig(), { file: "mortal" }),
    });
    const { revision } = await client.list("Namespace");
    const { signal } = new AbortController();
    const events = client.watch("Namespace", { revision, signal })[Symbol.asyncIterator]();
    expect(await events.next()).toMatchObject({ value: { type: "bookmark" } });
    await mortal.close();
    const drain = async (): Promise<void> => {
      while ((await events.next()).done !== true);
    };
    await expect(drain()).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });
});
