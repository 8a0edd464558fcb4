/**
 * `npm run bench -- ipam`: the pure allocator in memory; one node's allocator over the memory store; and a cluster of 2 133 nodes that all start pods at once
 * over a store that answers in 10 ms, with the datastore writes per pod: on nodes that have a block already (the tunnel address calico-node takes at
 * start-up is in it), on nodes that have to claim their first, and with a handle record for every pod as upstream keeps them.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { intercept, openMemory } from "@calico-ts/datastore";
import { formatAddress, parsePrefix } from "@calico-ts/net";
import { BlockDraft, type HandleRecords, HostAllocator, Ipam, newBlock, nothingReserved } from "../src/index.ts";
import { addNode, poolResource } from "../src/testing.ts";

const HOSTS = Number(process.env["IPAM_BENCH_HOSTS"] ?? 2133);
const STORE_MS = 10;

interface Row {
  readonly what: string;
  readonly value: string;
  readonly target: string;
}

const perSecond = (count: number, ms: number): string => `${Math.round((count / ms) * 1000).toLocaleString("en")} / s`;

/** Every address is a draft of its own that is finished, as when pods come one by one. */
function allocatorCore(): string {
  const prefix = parsePrefix("10.0.0.0/26");
  const run = (limitMs: number): { count: number; ms: number } => {
    let count = 0;
    const startedAt = performance.now();
    while (performance.now() - startedAt < limitMs) {
      let block = newBlock(prefix, { cidr: "10.0.0.0/26", owner: "host:a", nowMs: 0 });
      for (let at = 0; at < 64; at++) {
        const draft = new BlockDraft(block);
        draft.collectCooled({ nowMs: 0, seconds: 0 });
        const attributes = { node: "a", namespace: "default", pod: `pod-${at}` };
        draft.assignNext(1, { handle: `k8s-pod-network.${at}`, attributes }, nothingReserved);
        block = draft.finish();
        count++;
      }
    }
    return { count, ms: performance.now() - startedAt };
  };
  run(500);
  const { count, ms } = run(2000);
  return perSecond(count, ms);
}

interface Cluster {
  readonly hosts: number;
  readonly podsPerHost: number;
  readonly storeMs: number;
  /** Nodes own a block with their tunnel address in it before the pods come. */
  readonly warm: boolean;
  readonly records: HandleRecords;
}

interface Cost {
  readonly pods: number;
  readonly ms: number;
  readonly writes: number;
  readonly reads: number;
}

async function cluster({ hosts, podsPerHost, storeMs, warm, records }: Cluster): Promise<Cost> {
  const memory = openMemory();
  await memory.create("IPPool", poolResource("pool", { cidr: "10.0.0.0/12", blockSize: 26 }));
  const names = Array.from({ length: hosts }, (_, at) => `node-${at}`);
  for (const name of names) await addNode(memory, name);
  let writes = 0;
  let reads = 0;
  const client = intercept(memory, {
    before: async (operation) => {
      if (operation.writes) writes++;
      else reads++;
      if (storeMs > 0) await new Promise((resolve) => setTimeout(resolve, storeMs));
    },
  });
  if (warm) {
    const ipam = new Ipam({ client: memory });
    for (const node of names) {
      const attributes = { node, type: "vxlanTunnelAddress" };
      const handle = `vxlan-tunnel-addr-${node}`;
      await ipam.autoAssign(node, { family: 4, count: 1, handle, attributes, use: "Tunnel", pools: [] });
    }
  }
  const allocators = names.map((host) => new HostAllocator({ client, host, records }));
  const startedAt = performance.now();
  const given = await Promise.all(
    allocators.flatMap((allocator, host) =>
      Array.from({ length: podsPerHost }, (_, at) =>
        allocator.assign({
          handle: `k8s-pod-network.${host}-${at}`,
          attributes: { node: `node-${host}`, namespace: "default", pod: `pod-${at}` },
          want4: true,
          want6: false,
        }),
      ),
    ),
  );
  const ms = performance.now() - startedAt;
  const different = new Set(given.flat().map(({ address }) => formatAddress(address))).size;
  if (different !== hosts * podsPerHost) throw new Error(`${given.length} pods have ${different} addresses`);
  return { pods: different, ms, writes, reads };
}

const rows: Row[] = [{ what: "allocator core, one address a write", value: allocatorCore(), target: "≥ 100,000 / s" }];
const one = await cluster({ hosts: 1, podsPerHost: 50, storeMs: 0, warm: true, records: "borrowed" });
rows.push({ what: "one node, memory store", value: perSecond(one.pods, one.ms), target: "" });
for (const [what, podsPerHost, warm, records] of [
  ["nodes that own a block", 10, true, "borrowed"],
  ["nodes that claim their first block", 10, false, "borrowed"],
  ["nodes that claim their first block", 50, false, "borrowed"],
  ["nodes that own a block, a handle record for every pod", 10, true, "all"],
] as const) {
  const cost = await cluster({ hosts: HOSTS, podsPerHost, storeMs: STORE_MS, warm, records });
  const title = `${HOSTS} ${what}, ${podsPerHost} pods each, store ${STORE_MS} ms`;
  rows.push(
    { what: title, value: perSecond(cost.pods, cost.ms), target: "≥ 1,000 / s" },
    { what: "– datastore writes per pod", value: (cost.writes / cost.pods).toFixed(2), target: "< 0.2" },
    { what: "– datastore reads per pod", value: (cost.reads / cost.pods).toFixed(2), target: "" },
  );
}
process.stdout.write(
  `| what | value | target |\n|---|---|---|\n${rows.map(({ what, value, target }) => `| ${what} | ${value} | ${target} |`).join("\n")}\n`,
);
const folder = join(import.meta.dirname, "../../../artifacts/bench");
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, "ipam.json"), `${JSON.stringify(rows, undefined, 2)}\n`);
