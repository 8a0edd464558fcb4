/**
 * Handles: how many addresses a holder has in each block, so that they can be found without reading every block.
 *
 * Not every holder has one: an address in a block of its own node is found there (`isFoundByOwner` in allocator/block.ts).
 *
 * A count is raised before the block is written and lowered after, so it may be too high after a crash but never too low:
 * whoever releases by handle finds every address.
 */
import type { IPAMHandle } from "@calico-ts/model";
import { CalicoError } from "@calico-ts/std";
import { type IpamStore, untilSwapped } from "./ipam-store.ts";

/** Addresses by block. */
export type Counts = Readonly<Record<string, number>>;

/**
 * Adds to the counts of a handle, which is made if need be.
 * @throws CalicoError CONFLICT, and nothing is changed, when it would count more than `maxPerFamily` addresses of a family
 */
export function raiseHandle(store: IpamStore, handle: string, by: Counts, maxPerFamily = Infinity): Promise<void> {
  return untilSwapped(`handle ${handle}`, async () => {
    checkLimit(handle, by, maxPerFamily);
    // Nearly every handle is new: a pod asks once.
    if ((await store.handles.create(store.newHandle(handle, by))) !== undefined) return { done: undefined };
    const existing = await store.findHandle(handle);
    if (existing === undefined) return undefined;
    const block = { ...existing.spec.block };
    for (const [cidr, count] of Object.entries(by)) block[cidr] = (block[cidr] ?? 0) + count;
    checkLimit(handle, block, maxPerFamily);
    const written = await store.handles.update({ ...existing, spec: { ...existing.spec, block } });
    return written === undefined ? undefined : { done: undefined };
  });
}

function checkLimit(handle: string, counts: Counts, maxPerFamily: number): void {
  for (const family of [4, 6]) {
    const held = Object.entries(counts).filter(([cidr]) => cidr.includes(":") === (family === 6));
    const total = held.reduce((sum, [, count]) => sum + count, 0);
    if (total <= maxPerFamily) continue;
    const where = held.map(([cidr]) => cidr).join(", ");
    throw new CalicoError(
      "CONFLICT",
      `handle ${handle} may have ${maxPerFamily} IPv${family} addresses and its record counts as many already, in ${where}: another assignment to it is under way, or one was interrupted and garbage collection will put the record right`,
      { detail: { handle, family } },
    );
  }
}

/** Subtracts; a handle without addresses is deleted. Lowering what is not there is fine. */
export function lowerHandle(store: IpamStore, handle: string, by: Counts): Promise<void> {
  return untilSwapped(`handle ${handle}`, async () => {
    const existing = await store.findHandle(handle);
    if (existing === undefined) return { done: undefined };
    const left: Record<string, number> = {};
    for (const [cidr, count] of Object.entries(existing.spec.block)) {
      const rest = count - (by[cidr] ?? 0);
      if (rest > 0) left[cidr] = rest;
    }
    return (await writeCounts(store, existing, left)) ? { done: undefined } : undefined;
  });
}

/** Replaces the counts of a handle as it was read. False when it has changed since. */
export async function writeCounts(store: IpamStore, handle: IPAMHandle, counts: Counts): Promise<boolean> {
  if (Object.keys(counts).length === 0) return store.handles.delete(handle);
  const written = await store.handles.update({ ...handle, spec: { ...handle.spec, block: { ...counts } } });
  return written !== undefined;
}
