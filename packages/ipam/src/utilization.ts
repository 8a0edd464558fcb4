/** How full pools and blocks are. */
import type { IPAMBlock } from "@calico-ts/model";
import { containsPrefix, prefixSize, tryParsePrefix } from "@calico-ts/net";
import { type BlockCounts, countBlock } from "./allocator/block.ts";
import type { Pool } from "./allocator/pool.ts";
import type { Reservations } from "./allocator/reservations.ts";
import { withoutCooled } from "./affinity-claims.ts";

export interface BlockUtilization extends BlockCounts {
  readonly cidr: string;
  readonly affinity: string | undefined;
}

export interface PoolUtilization {
  readonly pool: Pool;
  readonly capacity: bigint;
  readonly inUse: bigint;
  readonly cooling: bigint;
  /** Neither used nor cooling down, but reserved: in blocks or outside them. */
  readonly reserved: bigint;
  readonly free: bigint;
  readonly blocks: readonly BlockUtilization[];
}

export function poolUtilization(
  pool: Pool,
  blocks: readonly IPAMBlock[],
  context: { readonly reservations: Reservations; readonly nowMs: number; readonly cooldownSeconds: number },
): PoolUtilization {
  const { reservations } = context;
  const cooldown = { nowMs: context.nowMs, seconds: context.cooldownSeconds };
  const own = blocks.flatMap((block) => {
    const prefix = tryParsePrefix(block.spec.cidr);
    return prefix !== undefined && containsPrefix(pool.prefix, prefix)
      ? [{ block: withoutCooled(block, cooldown), prefix }]
      : [];
  });
  const counted = own.map(({ block: { spec } }): BlockUtilization => {
    const { cidr, affinity } = spec;
    return { cidr, affinity, ...countBlock(spec, reservations.reserved) };
  });
  const sum = (field: "inUse" | "cooling" | "reserved"): bigint =>
    counted.reduce((total, block) => total + BigInt(block[field]), 0n);
  const reservedInBlocks = own.reduce((total, { prefix }) => total + reservations.countIn(prefix), 0n);
  const reserved = sum("reserved") + reservations.countIn(pool.prefix) - reservedInBlocks;
  const capacity = prefixSize(pool.prefix);
  const inUse = sum("inUse");
  const cooling = sum("cooling");
  return { pool, capacity, inUse, cooling, reserved, free: capacity - inUse - cooling - reserved, blocks: counted };
}
