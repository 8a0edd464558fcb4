import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openMemory } from "@calico-ts/datastore";
import { HostAllocator, Ipam } from "@calico-ts/ipam";
import { parsePrefix } from "@calico-ts/net";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { expect, test } from "vitest";
import { startUp } from "./run.ts";
import { readNodeSettings } from "./settings.ts";

test("an affinity written before there were labels is found by the node that starts", async () => {
  const hostRoot = mkdtempSync(join(tmpdir(), "ct-node-"));
  try {
    const client = openMemory();
    const ipam = new Ipam({ client });
    await client.create("Node", { apiVersion: "v1", kind: "Node", metadata: { name: "n1" } });
    await client.create("IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name: "pool" },
      spec: { cidr: "10.65.0.0/24", blockSize: 26 },
    });
    for (const [block, node] of [
      ["10.65.0.64/26", "n1"],
      ["10.65.0.128/26", "n2"],
    ] as const)
      await ipam.claimAffinity(parsePrefix(block), node);
    for (const affinity of (await client.list("BlockAffinity")).items) {
      const { labels: _none, ...metadata } = affinity.metadata;
      await client.update("BlockAffinity", { ...affinity, metadata });
    }
    const settings = readNodeSettings({ IP: "192.0.2.1/24", CALICO_HOST_ROOT: hostRoot, NO_DEFAULT_POOLS: "true" });
    const options = {
      client,
      settings,
      nodeName: "n1",
      version: "v0",
      agentCommand: ["true"] as const,
      bgpCommand: ["true"] as const,
      env: {},
      newGuid: () => "guid",
      randomBytes: (count: number) => new Uint8Array(count),
      clock: systemClock,
      log: silentLogger,
    };
    await startUp(options, new AbortController().signal);
    const labelled = (await client.list("BlockAffinity", { labelSelector: "projectcalico.org/affinity-type" })).items;
    expect(labelled.map(({ spec }) => spec.node)).toEqual(["n1"]);
    const allocator = new HostAllocator({ client, host: "n1" });
    const request = { handle: "net.x", attributes: { node: "n1" }, want4: true, want6: false };
    expect(await allocator.assign(request)).toMatchObject([{ cidr: "10.65.0.64/26" }]);
  } finally {
    rmSync(hostRoot, { recursive: true });
  }
});
