import { type MemoryDatastore, openMemory } from "@calico-ts/datastore";
import { Collector, Ipam } from "@calico-ts/ipam";
import type { Node } from "@calico-ts/model";
import { formatAddress } from "@calico-ts/net";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { keepNodeObject, keepTunnelAddresses } from "./monitor.ts";
import { readNodeSettings } from "./settings.ts";
import { TUNNELS } from "./tunnel-addresses.ts";

const NAME = "n1";
const WITHIN = { timeout: 20_000 };
const { annotation, handle } = TUNNELS.vxlan;

let client: MemoryDatastore;
let ipam: Ipam;
let life: AbortController;
let running: Promise<unknown>;
beforeEach(async () => {
  client = openMemory();
  ipam = new Ipam({ client });
  life = new AbortController();
  await client.create("IPPool", {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "pool" },
    spec: { cidr: "10.65.0.0/24", blockSize: 26, vxlanMode: "Always", allowedUses: ["Workload", "Tunnel"] },
  });
  await makeNode();
  const common = { client, nodeName: NAME, clock: systemClock, log: silentLogger };
  const settings = readNodeSettings({ IP: "192.0.2.1/24", CALICO_NETWORKING_BACKEND: "vxlan", FELIX_HEALTHPORT: "1" });
  running = Promise.all([
    keepTunnelAddresses(common, life.signal),
    keepNodeObject({ ...common, settings }, life.signal),
  ]);
});
afterEach(async () => {
  life.abort();
  await running;
});

const makeNode = (): Promise<Node> =>
  client.create("Node", { apiVersion: "v1", kind: "Node", metadata: { name: NAME } });
const annotations = async (): Promise<Readonly<Record<string, string>>> =>
  (await client.get("Node", { name: NAME })).metadata.annotations ?? {};
const held = async (): Promise<string[]> => (await ipam.addressesOf(`${handle}-${NAME}`)).map(formatAddress);

/** The node says the address that IPAM holds for it, and no other. */
const settled = (): Promise<string> =>
  vi.waitFor(async () => {
    const [said, [address, ...more]] = [(await annotations())[annotation], await held()];
    expect([said, more]).toEqual([address, []]);
    expect(said).toMatch(/^10\.65\.0\./);
    return said ?? "";
  }, WITHIN);

test("a tunnel address that IPAM has lost is exchanged for one that it holds", async () => {
  await settled();
  await ipam.releaseByHandle(`${handle}-${NAME}`);
  await vi.waitFor(async () => expect(await held()).toHaveLength(1), WITHIN);
  await settled();
});

test("a Node that is deleted and made again has its addresses, whenever garbage collection looks", async () => {
  await settled();
  const collector = new Collector({ client });
  await client.delete("Node", { name: NAME });
  await collector.pass();
  expect(await held()).toEqual([]);
  await makeNode();
  await settled();
  await vi.waitFor(async () => {
    expect((await annotations())["projectcalico.org/IPv4Address"]).toBe("192.0.2.1/24");
  }, WITHIN);

  // Back before the collector has finished: the old address is found and said, then freed.
  await client.delete("Node", { name: NAME });
  await makeNode();
  await settled();
  await ipam.releaseByHandle(`${handle}-${NAME}`);
  await vi.waitFor(async () => expect(await held()).toHaveLength(1), WITHIN);
  await settled();
});
