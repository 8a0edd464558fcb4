/**
 * The order in which a host looks at the blocks of a pool: every block once, starting at a place of its own and with a
 * stride of its own, both from a hash of its name. Two hosts that look for a block at the same moment look at different
 * ones; the same host looks at the same ones again, so its retries do not spread claims.
 */
import { addressBits, type Prefix } from "@calico-ts/net";
import { sha256Hex } from "@calico-ts/std";
import type { Pool } from "./pool.ts";

export const blockCount = (pool: Pool): bigint => 1n << BigInt(Math.max(0, pool.blockLength - pool.prefix.length));

export function* walkBlocks(pool: Pool, seed: string): Generator<Prefix, void, undefined> {
  const count = blockCount(pool);
  const hash = sha256Hex(`${seed}\0${pool.name}`);
  const start = BigInt(`0x${hash.slice(0, 16)}`) % count;
  // The number of blocks is a power of two, so every odd stride visits all of them.
  const stride = (BigInt(`0x${hash.slice(16, 32)}`) % count) | 1n;
  const blockSize = 1n << BigInt(addressBits(pool.prefix.family) - pool.blockLength);
  for (let step = 0n; step < count; step++) {
    const index = (start + step * stride) % count;
    yield { family: pool.prefix.family, value: pool.prefix.value + index * blockSize, length: pool.blockLength };
  }
}
