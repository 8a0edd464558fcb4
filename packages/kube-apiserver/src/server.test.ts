import { request as httpsRequest } from "node:https";
import { listenTcp, localEndpoint } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Harness, startHarness } from "../testing/harness.ts";

test("serves on a socket somebody else opened", async () => {
  const fd = listenTcp({ address: parseAddress("127.0.0.1"), port: 0 });
  const { port } = localEndpoint(fd);
  await using api = await startHarness();
  await api.server.listenFd(fd);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const outgoing = httpsRequest(
    { host: "127.0.0.1", port, path: "/healthz", ca: api.server.ca, agent: false },
    (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    },
  );
  outgoing.on("error", reject).end();
  expect(await promise).toBe(200);
});

test("a port that is taken is an error that says so", async () => {
  await using api = await startHarness();
  await expect(startHarness({ port: api.server.port })).rejects.toThrow(/cannot listen/);
});

test("closing ends watches and frees the port", async () => {
  const api: Harness = await startHarness();
  const watch = api.watch("/api/v1/pods?watch=1");
  await api.get("/version");
  await api.server.close();
  await watch.ended;
  await using again = await startHarness({ port: api.server.port });
  expect((await again.get("/version")).code).toBe(200);
});

test("no request brings the server down", { timeout: 60_000 }, async () => {
  await using api = await startHarness();
  const part = fc.oneof(
    fc.constantFrom(
      "api",
      "apis",
      "v1",
      "namespaces",
      "default",
      "pods",
      "status",
      "scale",
      "apps",
      "deployments",
      "watch",
      "openapi",
      "v2",
      "%",
      "%zz",
      "..",
      "",
    ),
    fc.string({ maxLength: 5 }).map(encodeURIComponent),
  );
  const query = fc.constantFrom(
    "",
    "?watch=1&timeoutSeconds=1",
    "?limit=-1",
    "?limit=x",
    "?labelSelector=%3D%3D",
    "?fieldSelector=x",
    "?resourceVersion=-1",
    "?continue=xx",
    "?dryRun=None",
    "?fieldValidation=No",
    "?includeObject=All",
  );
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        method: fc.constantFrom("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
        parts: fc.array(part, { maxLength: 7 }),
        tail: query,
        body: fc.oneof(fc.constant(undefined), fc.jsonValue(), fc.string()),
        type: fc.constantFrom(
          "application/json",
          "application/merge-patch+json",
          "application/json-patch+json",
          "application/apply-patch+yaml",
          "application/strategic-merge-patch+json",
          "application/vnd.kubernetes.protobuf",
          "",
        ),
      }),
      async ({ method, parts, tail, body, type }) => {
        const { code } = await api.call(method, `/${parts.join("/")}${tail}`, { body, type });
        expect(code).toBeGreaterThanOrEqual(200);
        expect(code).not.toBe(500);
      },
    ),
    { numRuns: 400 },
  );
  expect((await api.get("/readyz")).text).toBe("ok");
});
