import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { startApiServer } from "@calico-ts/kube-apiserver";
import { connectTcp } from "@calico-ts/linux";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import { afterAll, expect, test } from "vitest";
import { buildFabric } from "../fabric/fabric.ts";
import { controlPlaneNamespace, nodeNamespace } from "../fabric/layout.ts";
import { namespacePath } from "../names.ts";
import { topologyPath } from "../topology/shipped.ts";
import { loadTopology } from "../topology/topology-file.ts";
import { connectExternalApi } from "./external-api.ts";

// An API server that is not the run's: on the host's loopback, its Service's endpoint an address no namespace has.
const run = `ct${process.pid}`;
const folder = mkdtempSync(join(tmpdir(), "ct-external-"));
afterAll(() => rmSync(folder, { recursive: true }));
const ENDPOINT = "198.18.0.7";

test("nodes reach somebody else's API server at its own endpoint, certificate and all", async () => {
  await using server = await startApiServer({
    serviceCidrs: ["10.96.0.0/16"],
    advertise: { address: ENDPOINT, port: 6443 },
  });
  const kubeconfig = join(folder, "theirs");
  writeFileSync(kubeconfig, await server.adminKubeconfig());
  using _fabric = buildFabric(run, loadTopology(topologyPath("two-racks")));
  const options = { kubeconfig, copy: join(folder, "ours"), netns: namespacePath(controlPlaneNamespace(run)) };

  await expect(connectExternalApi({ ...options, serviceCidrs: [parsePrefix("10.5.0.0/16")] })).rejects.toMatchObject({
    code: "BAD_INPUT",
    message: expect.stringContaining("cluster.serviceCidr"),
  });

  await using external = await connectExternalApi({ ...options, serviceCidrs: [parsePrefix("10.96.0.0/16")] });
  expect(external).toMatchObject({ inside: { host: ENDPOINT, port: 6443 }, publicUrl: server.url, managed: false });
  expect(statSync(options.copy).mode & 0o777).toBe(0o600);
  expect(readFileSync(options.copy, "utf8")).toContain(server.url);

  const fd = connectTcp({
    netns: namespacePath(nodeNamespace(run, "node-4")),
    address: parseAddress(ENDPOINT),
    port: 6443,
  });
  const socket = connect({ socket: new Socket({ fd, readable: true, writable: true }), ca: server.ca, host: ENDPOINT });
  socket.write("GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  expect(socket.authorized).toBe(true);
  expect(text).toMatch(/^HTTP\/1\.1 (200|401)/);
});
