/**
 * A block: a few dozen addresses of a pool that are written together. The value is exactly what is stored (the spec of an
 * IPAMBlock): `allocations` has one entry per address, null when free or an index into `attributes`; `unallocated` lists
 * the free ordinals, the longest free first, so that an address rests as long as possible before it is given out again.
 *
 * A third state lies between: released but cooling down. Such an address still has an entry in `allocations`, to an
 * attribute with `releasedAt` and without a handle. It becomes free with the first write after the cooldown is over.
 *
 * Questions about a block are here; changes are in block-draft.ts.
 */
import type { IPAMBlock } from "@calico-ts/model";
import {
  addressAt,
  containsAddress,
  type IpAddress,
  type Prefix,
  parsePrefix,
  prefixSize,
  tryParsePrefix,
} from "@calico-ts/net";
import { cleanHandle, parseOwner } from "./names.ts";
import { firstSequenceNumber } from "./sequence-number.ts";

export type Block = IPAMBlock["spec"];
export type Attribute = Block["attributes"][number];
export type Attributes = Readonly<Record<string, string>>;

/** True for addresses that must not be given out automatically. */
export type Reserved = (address: IpAddress) => boolean;
export const nothingReserved: Reserved = () => false;

/**
 * Addresses of every block that its host keeps for itself: Windows nodes need the first three and the last. Such a host may
 * not borrow, because a block of another host keeps none for it.
 */
export interface HostReserved {
  readonly startOfBlock: number;
  readonly endOfBlock: number;
}

export const WINDOWS_RESERVED: HostReserved = { startOfBlock: 3, endOfBlock: 1 };

/** Under which handle they are held; they do not make a block used. */
export const WINDOWS_RESERVED_HANDLE = "windows-reserved-ipam-handle";

export function newBlock(
  prefix: Prefix,
  facts: { readonly cidr: string; readonly owner: string; readonly nowMs: number; readonly reserved?: HostReserved },
): Block {
  const size = Number(prefixSize(prefix));
  const { endOfBlock = 0, startOfBlock = 0 } = facts.reserved ?? {};
  const isKept = (ordinal: number): boolean => ordinal < startOfBlock || ordinal >= size - endOfBlock;
  const ordinals = Array.from({ length: size }, (_, ordinal) => ordinal);
  return {
    cidr: facts.cidr,
    affinity: facts.owner,
    affinityClaimTime: isoSeconds(facts.nowMs),
    allocations: ordinals.map((ordinal) => (isKept(ordinal) ? 0 : null)),
    unallocated: ordinals.filter((ordinal) => !isKept(ordinal)),
    attributes:
      startOfBlock + endOfBlock === 0
        ? []
        : [{ handle_id: WINDOWS_RESERVED_HANDLE, secondary: { note: "windows host rsvd" } }],
    sequenceNumber: firstSequenceNumber(facts.nowMs),
    sequenceNumberForAllocation: {},
    deleted: false,
    strictAffinity: false,
  };
}

export const isoSeconds = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** Every question about a block begins with its prefix, and the same few blocks are asked about all day. */
const parsed = new Map<string, Prefix>();
const PARSED_KEPT = 4096;

export const blockPrefix = (block: Block): Prefix =>
  parsed.get(block.cidr) ?? keep(block.cidr, parsePrefix(block.cidr));

/** undefined for a record somebody wrote by hand, and wrongly. */
export function tryBlockPrefix(block: Block): Prefix | undefined {
  const known = parsed.get(block.cidr) ?? tryParsePrefix(block.cidr);
  return known === undefined ? undefined : keep(block.cidr, known);
}

function keep(cidr: string, prefix: Prefix): Prefix {
  if (parsed.size >= PARSED_KEPT) parsed.clear();
  parsed.set(cidr, prefix);
  return prefix;
}

export const addressOf = (prefix: Prefix, ordinal: number): IpAddress => addressAt(prefix, ordinal);

/** The position of an address in its block, or undefined when it is of another block. */
export const ordinalOf = (prefix: Prefix, address: IpAddress): number | undefined =>
  containsAddress(prefix, address) ? Number(address.value - prefix.value) : undefined;

export function attributeOf(block: Block, ordinal: number): Attribute | undefined {
  const index = block.allocations[ordinal];
  return index === null || index === undefined ? undefined : block.attributes[index];
}

export const handleOf = (attribute: Attribute): string | undefined =>
  attribute.handle_id === undefined ? undefined : cleanHandle(attribute.handle_id);

/**
 * Whether the holder of an address needs no handle record to be found: its node owns the block, and looks for its own
 * addresses in its own blocks.
 */
export function isFoundByOwner(block: Block, attribute: Attribute): boolean {
  const owner = parseOwner(block.affinity);
  return owner?.type === "host" && attribute.secondary?.["node"] === owner.name;
}

export const isCooling = (attribute: Attribute): boolean => attribute.releasedAt !== undefined;

export const sequenceOf = (block: Block, ordinal: number): number =>
  block.sequenceNumberForAllocation?.[String(ordinal)] ?? 0;

/** Whether no address is in use. Addresses that cool down count as used: the block must remember them. */
export function isEmpty(block: Block): boolean {
  return block.allocations.every((index) => {
    if (index === null) return true;
    const attribute = block.attributes[index];
    return attribute !== undefined && handleOf(attribute)?.toLowerCase() === WINDOWS_RESERVED_HANDLE;
  });
}

export interface BlockCounts {
  readonly size: number;
  readonly inUse: number;
  readonly cooling: number;
  /** Free, but reserved. */
  readonly reserved: number;
  readonly free: number;
}

export function countBlock(block: Block, reserved: Reserved): BlockCounts {
  const prefix = blockPrefix(block);
  let cooling = 0;
  let inUse = 0;
  for (const [ordinal, index] of block.allocations.entries()) {
    if (index === null) continue;
    const attribute = attributeOf(block, ordinal);
    if (attribute !== undefined && isCooling(attribute)) cooling++;
    else inUse++;
  }
  const hidden = block.unallocated.filter((ordinal) => reserved(addressOf(prefix, ordinal))).length;
  const free = block.unallocated.length - hidden;
  return { size: block.allocations.length, inUse, cooling, reserved: hidden, free };
}

export const hasFree = (block: Block, reserved: Reserved): boolean => {
  const prefix = blockPrefix(block);
  return block.unallocated.some((ordinal) => !reserved(addressOf(prefix, ordinal)));
};

/** Ordinals each handle holds. */
export function ordinalsByHandle(block: Block): Map<string, number[]> {
  const byHandle = new Map<string, number[]>();
  for (const ordinal of block.allocations.keys()) {
    const attribute = attributeOf(block, ordinal);
    const handle = attribute === undefined ? undefined : handleOf(attribute);
    if (handle === undefined) continue;
    const ordinals = byHandle.get(handle);
    if (ordinals === undefined) byHandle.set(handle, [ordinal]);
    else ordinals.push(ordinal);
  }
  return byHandle;
}

/** How many addresses each handle holds in the block, and whether a record of the handle must say so. */
export function handleCounts(block: Block): Map<string, { count: number; needsRecord: boolean }> {
  const counts = new Map<string, { count: number; needsRecord: boolean }>();
  for (const index of block.allocations) {
    const attribute = index === null ? undefined : block.attributes[index];
    const handle = attribute === undefined ? undefined : handleOf(attribute);
    if (attribute === undefined || handle === undefined) continue;
    const entry = counts.get(handle) ?? { count: 0, needsRecord: false };
    counts.set(handle, {
      count: entry.count + 1,
      needsRecord: entry.needsRecord || !isFoundByOwner(block, attribute),
    });
  }
  return counts;
}

/** What is wrong with a stored block; empty when it is consistent. For `ipam check` and for tests. */
export function blockProblems(block: Block): string[] {
  const prefix = tryBlockPrefix(block);
  if (prefix === undefined) return ["its CIDR cannot be read"];
  const problems: string[] = [];
  const size = Number(prefixSize(prefix));
  if (block.allocations.length !== size) problems.push(`${block.allocations.length} entries for ${size} addresses`);
  const free = new Set(block.unallocated);
  if (free.size !== block.unallocated.length) problems.push("an ordinal is listed as free twice");
  const used = new Set<number>();
  for (const [ordinal, index] of block.allocations.entries()) {
    if (index === null) {
      if (!free.has(ordinal)) problems.push(`ordinal ${ordinal} is neither free nor used`);
      continue;
    }
    used.add(index);
    if (free.has(ordinal)) problems.push(`ordinal ${ordinal} is both free and used`);
    if (block.attributes[index] === undefined)
      problems.push(`ordinal ${ordinal} has attribute ${index}, which is missing`);
  }
  for (const ordinal of free)
    if (ordinal < 0 || ordinal >= size) problems.push(`free ordinal ${ordinal} is not in the block`);
  for (const index of block.attributes.keys())
    if (!used.has(index)) problems.push(`attribute ${index} belongs to nothing`);
  return problems;
}
