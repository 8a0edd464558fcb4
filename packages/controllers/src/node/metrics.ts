/** Prometheus metrics of address management; names and labels are upstream's. */
import {
  type Allocation,
  allocationsOf,
  type GcWorld,
  nodeOf,
  parseOwner,
  type PassReport,
  type Pool,
  poolContaining,
} from "@calico-ts/ipam";
import { prefixSize, tryParsePrefix } from "@calico-ts/net";
import {
  type createMetricsRegistry,
  type Metrics,
  type MetricTable,
  registerMetrics,
} from "@calico-ts/runtime/metrics";
import type { WorldCache } from "./world-cache.ts";

export type MetricsRegistry = ReturnType<typeof createMetricsRegistry>;

/** For addresses and blocks that lie in no pool, addresses of no node, and blocks that no node owns. */
const NO_POOL = "no_ippool";
const NO_NODE = "unknown_node";
const NO_OWNER = "no_affinity";

const BOTH = ["ippool", "node"] as const;

export const NODE_METRICS = {
  ipam_allocations_in_use: { kind: "gauge", help: "Addresses that workloads and tunnels have.", labels: BOTH },
  ipam_allocations_borrowed: { kind: "gauge", help: "Of these, addresses from blocks of other nodes.", labels: BOTH },
  ipam_allocations_gc_candidates: { kind: "gauge", help: "Addresses that look leaked, for now.", labels: BOTH },
  ipam_allocations_gc_reclamations: {
    kind: "counter",
    help: "Addresses that garbage collection took back.",
    labels: BOTH,
  },
  ipam_blocks: { kind: "gauge", help: "Blocks.", labels: BOTH },
  ipam_ippool_size: { kind: "gauge", help: "Addresses in the pool.", labels: ["ippool"] },
  ipam_ippool_reserved: { kind: "gauge", help: "Addresses of the pool that are reserved.", labels: ["ippool"] },
  ipam_allocations_per_node: { kind: "gauge", help: "Addresses that workloads and tunnels have.", labels: ["node"] },
  ipam_allocations_borrowed_per_node: { kind: "gauge", help: "Addresses from blocks of others.", labels: ["node"] },
  ipam_blocks_per_node: { kind: "gauge", help: "Blocks.", labels: ["node"] },
} as const satisfies MetricTable;

export class NodeMetrics {
  readonly #metrics: Metrics<typeof NODE_METRICS>;

  constructor(registry: MetricsRegistry) {
    this.#metrics = registerMetrics(registry, NODE_METRICS);
  }

  /** What is, after a pass. */
  update(cache: WorldCache, report: Pick<PassReport, "candidates" | "reclaimed">): void {
    const { pools } = cache;
    const { ipam_allocations_gc_reclamations: reclaimed, ...gauges } = this.#metrics;
    for (const gauge of Object.values(gauges)) gauge.reset();
    const { reservations } = cache;
    for (const pool of pools) {
      gauges.ipam_ippool_size.set({ ippool: pool.name }, Number(prefixSize(pool.prefix)));
      gauges.ipam_ippool_reserved.set({ ippool: pool.name }, Number(reservations.countIn(pool.prefix)));
    }
    const world = cache.world();
    // What is none is told as 0: somebody may wait for it.
    for (const { name: ippool } of pools) {
      for (const node of world.nodes) {
        gauges.ipam_allocations_in_use.set({ ippool, node }, 0);
        gauges.ipam_allocations_borrowed.set({ ippool, node }, 0);
        gauges.ipam_allocations_gc_candidates.set({ ippool, node }, 0);
      }
    }
    this.#count(world, pools);
    for (const allocation of report.candidates) gauges.ipam_allocations_gc_candidates.inc(labelsOf(allocation, pools));
    for (const allocation of report.reclaimed) reclaimed.inc(labelsOf(allocation, pools));
  }

  #count({ blocks }: GcWorld, pools: readonly Pool[]): void {
    for (const block of blocks) {
      const prefix = tryParsePrefix(block.spec.cidr);
      if (prefix === undefined) continue;
      const owner = parseOwner(block.spec.affinity);
      const node = owner?.type === "host" ? owner.name : NO_OWNER;
      this.#metrics.ipam_blocks.inc({ ippool: poolName(pools, { family: prefix.family, value: prefix.value }), node });
      this.#metrics.ipam_blocks_per_node.inc({ node });
      for (const allocation of allocationsOf(block)) {
        const labels = labelsOf(allocation, pools);
        this.#metrics.ipam_allocations_in_use.inc(labels);
        this.#metrics.ipam_allocations_per_node.inc({ node: labels.node });
        const holder = nodeOf(allocation);
        if (holder === undefined || holder === node) continue;
        this.#metrics.ipam_allocations_borrowed.inc(labels);
        this.#metrics.ipam_allocations_borrowed_per_node.inc({ node: labels.node });
      }
    }
  }
}

const poolName = (pools: readonly Pool[], address: Allocation["address"]): string =>
  poolContaining(pools, address)?.name ?? NO_POOL;

const labelsOf = (allocation: Allocation, pools: readonly Pool[]): { ippool: string; node: string } => ({
  ippool: poolName(pools, allocation.address),
  node: nodeOf(allocation) ?? NO_NODE,
});
