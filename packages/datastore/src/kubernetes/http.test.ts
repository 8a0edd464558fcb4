/** What a well-behaved API server never does: a server of a few lines that answers as a test tells it to. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { systemClock } from "@calico-ts/runtime";
import { describe, expect, test } from "vitest";
import type { DatastoreClient, WatchEvent } from "../client.ts";
import { type KubernetesOptions, openKubernetes } from "./client.ts";
import { parseKubeconfig, readInCluster } from "./config.ts";

type Handler = (request: IncomingMessage, response: ServerResponse, call: number) => void;

interface Fake extends AsyncDisposable {
  readonly client: DatastoreClient;
  readonly requests: string[];
}

async function serve(handler: Handler, options: Partial<KubernetesOptions> = {}): Promise<Fake> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    request.resume();
    handler(request, response, requests.length);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const connection = { server: `http://127.0.0.1:${port}`, tls: { skipVerify: false }, user: {}, namespace: undefined };
  const client = openKubernetes({ connection, callTimeoutMs: 2000, ...options });
  return {
    client,
    requests,
    [Symbol.asyncDispose]: async () => {
      await client[Symbol.asyncDispose]();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const json = (response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void => {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
};

const pod = (name: string, resourceVersion: string) => ({ metadata: { name, namespace: "default", resourceVersion } });
const line = (type: string, object: unknown): string => `${JSON.stringify({ type, object })}\n`;

async function collect(client: DatastoreClient, count: number, revision = "1"): Promise<string[]> {
  const controller = new AbortController();
  const seen: string[] = [];
  const describeEvent = (event: WatchEvent<{ metadata: { name: string } }>): string =>
    event.type === "bookmark"
      ? `bookmark@${event.revision}`
      : `${event.type} ${event.resource.metadata.name}@${event.revision}`;
  for await (const event of client.watch("Pod", { revision, signal: controller.signal })) {
    seen.push(describeEvent(event));
    if (seen.length === count) break;
  }
  controller.abort();
  return seen;
}

describe("calls", () => {
  test("come back when an overloaded server says when, and give up with its words", async () => {
    const overloaded = { kind: "Status", message: "too many requests", reason: "TooManyRequests", code: 429 };
    await using fake = await serve((_request, response, call) => {
      if (call < 3) json(response, 429, overloaded, { "retry-after": "0" });
      else json(response, 200, pod("a", "5"));
    });
    expect((await fake.client.get("Pod", { name: "a", namespace: "default" })).metadata.resourceVersion).toBe("5");
    expect(fake.requests).toHaveLength(3);
    await using broken = await serve((_request, response) => json(response, 503, { message: "leader lost" }));
    await expect(broken.client.list("Pod")).rejects.toMatchObject({
      code: "UNAVAILABLE",
      message: /list pods: leader lost/,
    });
    expect(broken.requests).toHaveLength(1);
  });

  test("time out, are aborted, and do not mistake a proxy's page for an answer", async () => {
    await using silent = await serve(() => undefined, { callTimeoutMs: 100 });
    await expect(silent.client.list("Pod")).rejects.toMatchObject({
      code: expect.stringMatching(/UNAVAILABLE|TIMEOUT/),
    });
    const signal = AbortSignal.timeout(20);
    await expect(silent.client.list("Pod", { signal })).rejects.toMatchObject({ code: "CANCELLED" });
    await using proxy = await serve((_request, response) => {
      response.writeHead(200, { "content-type": "text/html" });
      response.end("<html>please log in</html>");
    });
    await expect(proxy.client.list("Pod")).rejects.toMatchObject({ code: "UNAVAILABLE", message: /not JSON/ });
    await using gateway = await serve((_request, response) => {
      response.writeHead(502);
      response.end("bad gateway");
    });
    await expect(gateway.client.list("Pod")).rejects.toMatchObject({ code: "UNAVAILABLE", message: /bad gateway/ });
  });

  test("that are under way when the client is closed are told so", async () => {
    const fake = await serve(() => undefined);
    const calls = [fake.client.list("Pod"), collect(fake.client, 1)].map((call) =>
      call.catch((error: unknown) => error),
    );
    await expect.poll(() => fake.requests.length).toBe(2);
    await fake.client[Symbol.asyncDispose]();
    expect(await Promise.all(calls)).toMatchObject([{ code: "CANCELLED" }, { code: "CANCELLED" }]);
    await expect(fake.client.list("Pod")).rejects.toMatchObject({ code: "CANCELLED" });
    await fake[Symbol.asyncDispose]();
  });

  test("survive a kept-alive connection that the server closed, for reads", async () => {
    await using fake = await serve((request, response) => {
      json(response, 200, { metadata: { resourceVersion: "1" }, items: [] });
      response.on("finish", () => setImmediate(() => request.socket.destroy()));
    });
    for (let i = 0; i < 5; i++) await fake.client.list("Pod");
    expect(fake.requests.length).toBeGreaterThanOrEqual(5);
  });

  test("a broken connection in the middle of an answer is UNAVAILABLE, and a write is not repeated", async () => {
    await using fake = await serve((request, response) => {
      response.writeHead(200, { "content-length": "1000" });
      response.write("{");
      setImmediate(() => request.socket.destroy());
    });
    const write = fake.client.delete("Pod", { name: "a", namespace: "default" });
    await expect(write).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(fake.requests).toHaveLength(1);
  });

  test("a list whose continuation expired starts again in one piece", async () => {
    await using fake = await serve((request, response) => {
      const url = new URL(request.url ?? "", "http://x");
      if (url.searchParams.has("continue"))
        json(response, 410, { kind: "Status", message: "too old", reason: "Expired", code: 410 });
      else if (url.searchParams.has("limit"))
        json(response, 200, { metadata: { resourceVersion: "7", continue: "t" }, items: [pod("a", "1")] });
      else json(response, 200, { metadata: { resourceVersion: "9" }, items: [pod("a", "1"), pod("b", "2")] });
    });
    const { items, revision } = await fake.client.list("Pod");
    expect([items.map((item) => item.metadata.name), revision]).toEqual([["a", "b"], "9"]);
    expect(items[0]).toMatchObject({ apiVersion: "v1", kind: "Pod" });
  });
});

describe("watches", () => {
  test("go on from the last revision, bookmarks included, when the server ends them", async () => {
    await using fake = await serve((_request, response, call) => {
      response.writeHead(200);
      if (call === 1)
        response.end(line("ADDED", pod("a", "2")) + line("BOOKMARK", { metadata: { resourceVersion: "8" } }));
      else response.write(line("MODIFIED", pod("a", "9")));
    });
    expect(await collect(fake.client, 3)).toEqual(["added a@2", "bookmark@8", "modified a@9"]);
    expect(
      fake.requests.map((request) => new URL(request.slice(4), "http://x").searchParams.get("resourceVersion")),
    ).toEqual(["1", "8"]);
  });

  test("go on after a connection that broke in the middle of an event", async () => {
    await using fake = await serve((request, response, call) => {
      response.writeHead(200);
      const events = line("ADDED", pod("a", "2")) + line("ADDED", pod("b", "3"));
      if (call === 1) {
        response.write(events.slice(0, -20));
        setTimeout(() => request.socket.destroy(), 20);
      } else response.write(line("ADDED", pod("b", "3")));
    });
    expect(await collect(fake.client, 2)).toEqual(["added a@2", "added b@3"]);
  });

  test("are opened anew when nothing is heard", async () => {
    await using fake = await serve(
      (_request, response, call) => {
        response.writeHead(200);
        response.flushHeaders();
        if (call > 1) response.write(line("ADDED", pod("late", "5")));
      },
      { watchIdleMs: 60 },
    );
    expect(await collect(fake.client, 1)).toEqual(["added late@5"]);
    expect(fake.requests).toHaveLength(2);
  });

  test("take events in whatever pieces they come, beyond ASCII too", async () => {
    await using fake = await serve((_request, response) => {
      response.writeHead(200);
      const bytes = Buffer.from(line("ADDED", { metadata: { name: "größe-☃", resourceVersion: "2" } }));
      void (async () => {
        for (const byte of bytes) {
          response.write(Buffer.of(byte));
          await systemClock.sleep(0);
        }
      })();
    });
    expect(await collect(fake.client, 1)).toEqual(["added größe-☃@2"]);
  });

  test("end with the server's word: expired, forbidden, or nonsense", async () => {
    const once = (text: string) => serve((_request, response) => void response.writeHead(200).end(text));
    await using expired = await once(
      line("ERROR", { kind: "Status", code: 410, reason: "Expired", message: "too old" }),
    );
    await expect(collect(expired.client, 1)).rejects.toMatchObject({ code: "EXPIRED" });
    await using nonsense = await once("not json\n");
    await expect(collect(nonsense.client, 1)).rejects.toMatchObject({ code: "UNAVAILABLE", message: /not JSON/ });
    await using strange = await once(`${JSON.stringify({ type: "PARTY", object: {} })}\n`);
    await expect(collect(strange.client, 1)).rejects.toMatchObject({ code: "UNAVAILABLE", message: /PARTY/ });
    await using forbidden = await serve((_request, response) =>
      json(response, 403, { message: "no", reason: "Forbidden" }),
    );
    await expect(collect(forbidden.client, 1)).rejects.toMatchObject({ code: "FORBIDDEN" });
  });
});

describe("kubeconfig", () => {
  const base = {
    clusters: [{ name: "c", cluster: { server: "https://h:1/" } }],
    users: [{ name: "u", user: { username: "me", password: "x" } }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u", namespace: "ns" } }],
    "current-context": "x",
  };
  const read = (change: object, context?: string) =>
    parseKubeconfig(JSON.stringify({ ...base, ...change }), { file: "/etc/k/config", context });

  test("is read, with paths relative to it", () => {
    const users = [
      { name: "u", user: { "client-certificate": "c.pem", "client-key": "/k.pem", tokenFile: "t", as: "other" } },
    ];
    expect(read({ users })).toMatchObject({
      server: "https://h:1",
      namespace: "ns",
      user: { certFile: "/etc/k/c.pem", keyFile: "/k.pem", tokenFile: "/etc/k/t", impersonate: "other" },
    });
    expect(read({}).user.basic).toEqual({ username: "me", password: "x" });
  });

  test.each([
    ["nothing in it", "", /expected a mapping/],
    ["no YAML", "a: [", /does not parse/],
    ["a context that is not there", JSON.stringify({ ...base, "current-context": "y" }), /no context "y"/],
    ["a cluster that is not there", JSON.stringify({ ...base, clusters: [] }), /no cluster "c"/],
    ["a user that is not there", JSON.stringify({ ...base, users: [] }), /no user "u"/],
    [
      "a server that is no URL",
      JSON.stringify({ ...base, clusters: [{ name: "c", cluster: { server: "h" } }] }),
      /not an http or https URL/,
    ],
    [
      "an auth provider of old",
      JSON.stringify({ ...base, users: [{ name: "u", user: { "auth-provider": { name: "gcp" } } }] }),
      /"gcp" was removed/,
    ],
    ["a cluster without server", JSON.stringify({ ...base, clusters: [{ name: "c", cluster: {} }] }), /does not parse/],
  ])("with %s is refused by name", (_title, text, why) => {
    expect(() => parseKubeconfig(text, { file: "/etc/k/config" })).toThrow(why);
    expect(() => parseKubeconfig(text, { file: "/etc/k/config" })).toThrow(/\/etc\/k\/config/);
  });

  test("in a pod it comes from the environment", () => {
    expect(() => readInCluster({ env: {} })).toThrow(/KUBERNETES_SERVICE_HOST/);
    const env = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "443" };
    expect(readInCluster({ env, serviceAccountDir: "/nowhere" })).toMatchObject({
      server: "https://[fd00::1]:443",
      tls: { caFile: "/nowhere/ca.crt" },
      user: { tokenFile: "/nowhere/token" },
    });
  });
});
