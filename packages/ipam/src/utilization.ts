/** How full pools and blocks are. */
import type { IPAMBlock } from "@calico-ts/model";
import { containsPrefix, prefixSize } from "@calico-ts/net";
import { type BlockCounts, blockPrefix, countBlock, tryBlockPrefix } from "./allocator/block.ts";
import type { Pool } from "./allocator/pool.ts";
import type { Reservations } from "./allocator/reservations.ts";
import { withoutCooled } from "./affinity-claims.ts";

/** `reserved` counts what reservations cover, used or not, so the parts may be more than the whole; `free` is neither used nor reserved. */
export interface BlockUtilization extends BlockCounts {
  readonly cidr: string;
  readonly affinity: string | undefined;
}

export interface PoolUtilization {
  readonly pool: Pool;
  readonly capacity: bigint;
  readonly inUse: bigint;
  readonly cooling: bigint;
  /** In blocks or outside them. */
  readonly reserved: bigint;
  readonly free: bigint;
  readonly blocks: readonly BlockUtilization[];
}

export interface UtilizationContext {
  readonly reservations: Reservations;
  readonly nowMs: number;
  readonly cooldownSeconds: number;
}

export function poolUtilization(pool: Pool, all: readonly IPAMBlock[], context: UtilizationContext): PoolUtilization {
  const { reservations } = context;
  const own = all.filter((block) => isIn(block, pool));
  const blocks = own.map((block) => blockUtilization(block, context));
  const sum = (field: "inUse" | "cooling" | "free" | "size"): bigint =>
    blocks.reduce((total, block) => total + BigInt(block[field]), 0n);
  const reservedInBlocks = own.reduce((total, { spec }) => total + reservations.countIn(blockPrefix(spec)), 0n);
  const capacity = prefixSize(pool.prefix);
  const reserved = reservations.countIn(pool.prefix);
  const freeOutside = capacity - sum("size") - (reserved - reservedInBlocks);
  return {
    pool,
    capacity,
    inUse: sum("inUse"),
    cooling: sum("cooling"),
    reserved,
    free: sum("free") + freeOutside,
    blocks,
  };
}

/** Blocks that lie in none of the pools: theirs was deleted. */
export const strayBlocks = (
  pools: readonly Pool[],
  all: readonly IPAMBlock[],
  context: UtilizationContext,
): BlockUtilization[] =>
  all
    .filter((block) => tryBlockPrefix(block.spec) !== undefined && !pools.some((pool) => isIn(block, pool)))
    .map((block) => blockUtilization(block, context));

function blockUtilization(block: IPAMBlock, context: UtilizationContext): BlockUtilization {
  const { cooldownSeconds: seconds, nowMs, reservations } = context;
  const { spec } = withoutCooled(block, { nowMs, seconds });
  const { cidr, affinity } = spec;
  const reserved = Number(reservations.countIn(blockPrefix(spec)));
  return { cidr, affinity, ...countBlock(spec, reservations.reserved), reserved };
}

function isIn({ spec }: IPAMBlock, { prefix }: Pool): boolean {
  const block = tryBlockPrefix(spec);
  return block !== undefined && containsPrefix(prefix, block);
}
