/**
 * Handles: how many addresses a holder has in each block, so that they can be found without reading every block.
 *
 * Not every holder has one: an address in a block of its own node is found there (`isFoundByOwner` in allocator/block.ts).
 *
 * A count is raised before the block is written and lowered after, so it may be too high after a crash but never too low:
 * whoever releases by handle finds every address. `settleHandle` puts it right, whatever others are doing. For that, every
 * change keeps an order:
 *
 *   raise:    block read → count raised (or found unchanged) → block written
 *   lower:    record read → block written → count lowered, if the record is the one that was read; otherwise settled
 *   settle:   record written → blocks read, and written where they hold less than is counted → record written
 *
 * Who has raised a count and not written the block yet fails to write it after a settlement, looks at the record, and finds
 * that it is another one.
 */
import type { IPAMHandle } from "@calico-ts/model";
import { tryParsePrefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { handleCounts } from "../allocator/block.ts";
import { cleanHandle } from "../allocator/names.ts";
import { nextSequenceNumber } from "../allocator/sequence-number.ts";
import { type IpamStore, untilSwapped, withBlock } from "./ipam-store.ts";

/** Addresses by block. */
export type Counts = Readonly<Record<string, number>>;

/** Which version of a handle's record somebody knows; undefined: there is none. */
export type RecordVersion = string | undefined;

const versionOf = (record: IPAMHandle | undefined): RecordVersion =>
  record === undefined ? undefined : `${record.metadata.uid ?? ""} ${record.metadata.resourceVersion ?? ""}`;

export const readVersion = async (store: IpamStore, handle: string): Promise<RecordVersion> =>
  versionOf(await store.findHandle(handle));

/**
 * Adds to the counts of a handle, which is made if need be. A record that has reached the limit is settled first: a crash may have left it too high.
 * @throws CalicoError CONFLICT, and nothing is added, when it would count more than `maxPerFamily` addresses of a family
 */
export function raiseHandle(
  store: IpamStore,
  handle: string,
  by: Counts,
  maxPerFamily = Infinity,
): Promise<RecordVersion> {
  let settled = false;
  return untilSwapped(`handle ${handle}`, async () => {
    checkLimit(handle, by, maxPerFamily);
    // Nearly every handle is new: a pod asks once.
    const created = await store.handles.create(store.newHandle(handle, by));
    if (created !== undefined) return { done: versionOf(created) };
    const existing = await store.findHandle(handle);
    if (existing === undefined) return undefined;
    const block = { ...existing.spec.block };
    for (const [cidr, count] of Object.entries(by)) block[cidr] = (block[cidr] ?? 0) + count;
    try {
      checkLimit(handle, block, maxPerFamily);
    } catch (error) {
      if (settled) throw error;
      settled = true;
      await settleHandle(store, handle);
      return undefined;
    }
    const written = await store.handles.update({ ...existing, spec: { ...existing.spec, block } });
    return written === undefined ? undefined : { done: versionOf(written) };
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
      `handle ${handle} may have ${maxPerFamily} IPv${family} addresses and its record counts as many already, in ${where}: another assignment to it is under way; try again`,
      { detail: { handle, family } },
    );
  }
}

/** Subtracts from the record as it was `known`; one that has changed since is settled. A handle without addresses is deleted. */
export async function lowerHandle(store: IpamStore, handle: string, by: Counts, known: RecordVersion): Promise<void> {
  const existing = await store.findHandle(handle);
  if (existing === undefined) return;
  if (versionOf(existing) === known) {
    const left: Record<string, number> = {};
    for (const [cidr, count] of Object.entries(existing.spec.block)) {
      const rest = count - (by[cidr] ?? 0);
      if (rest > 0) left[cidr] = rest;
    }
    if (await writeCounts(store, existing, left)) return;
  }
  await settleHandle(store, handle);
}

/** Makes a handle's record count what the blocks that it names hold. Whoever has raised a count and not written the block yet must begin again. */
export function settleHandle(store: IpamStore, handle: string): Promise<void> {
  return untilSwapped(`handle ${handle}`, async () => {
    const found = await store.findHandle(handle);
    if (found === undefined) return { done: undefined };
    const record = await store.handles.update(touched(found));
    if (record === undefined) return undefined;
    const counts: Record<string, number> = {};
    for (const [cidr, counted] of Object.entries(record.spec.block)) {
      const held = await countedIn(store, handle, cidr, counted);
      if (held === undefined) return undefined;
      if (held > 0) counts[cidr] = held;
    }
    return (await writeCounts(store, untouched(record), counts)) ? { done: undefined } : undefined;
  });
}

/** What the block holds. If that is less than is counted the block becomes another one, so that nobody can write what was planned before. */
async function countedIn(store: IpamStore, handle: string, cidr: string, counted: number): Promise<number | undefined> {
  const prefix = tryParsePrefix(cidr);
  const block = prefix === undefined ? undefined : await store.findBlock(prefix);
  if (block === undefined) return 0;
  const held = handleCounts(block.spec).get(cleanHandle(handle))?.count ?? 0;
  if (held >= counted) return held;
  const sequenceNumber = nextSequenceNumber(block.spec.sequenceNumber ?? 0);
  return (await store.blocks.update(withBlock(block, { ...block.spec, sequenceNumber }))) === undefined
    ? undefined
    : held;
}

const SETTLE_ANNOTATION = "projectcalico.org/settle-attempt";

/** A write that changes nothing would not make a new version. */
function touched(record: IPAMHandle): IPAMHandle {
  const { annotations } = record.metadata;
  const attempt = String(Number(annotations?.[SETTLE_ANNOTATION] ?? 0) + 1);
  return { ...record, metadata: { ...record.metadata, annotations: { ...annotations, [SETTLE_ANNOTATION]: attempt } } };
}

function untouched(record: IPAMHandle): IPAMHandle {
  const { [SETTLE_ANNOTATION]: _attempt, ...annotations } = record.metadata.annotations ?? {};
  return { ...record, metadata: { ...record.metadata, annotations } };
}

/** Replaces the counts of a handle as it was read. False when it has changed since. */
export async function writeCounts(store: IpamStore, handle: IPAMHandle, counts: Counts): Promise<boolean> {
  if (Object.keys(counts).length === 0) return store.handles.delete(handle);
  const written = await store.handles.update({ ...handle, spec: { ...handle.spec, block: { ...counts } } });
  return written !== undefined;
}
