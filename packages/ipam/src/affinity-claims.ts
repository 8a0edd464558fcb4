/**
 * Who owns a block. Two records must agree, and no datastore writes two at once, so it is done in steps; each list is
 * the order of writes, and a crash after any of them leaves something the next attempt completes or GC removes.
 *
 *   claim:    affinity "pending" → block created with the owner's name → affinity "confirmed"
 *   release:  affinity "pendingDeletion" → block deleted (or, when used, its owner's name removed) → affinity deleted
 *
 * The creation of the block decides a race between two owners: one creates it, the other finds it and withdraws. At every
 * moment a block with an owner's name has that owner's affinity, in some state. Only "confirmed" may be announced as a route.
 */
import type { BlockAffinity, IPAMBlock } from "@calico-ts/model";
import { formatPrefix, overlaps, type Prefix, tryParsePrefix } from "@calico-ts/net";
import { type HostReserved, isEmpty, isoSeconds, tryBlockPrefix } from "./allocator/block.ts";
import { BlockDraft } from "./allocator/block-draft.ts";
import { AFFINITY_TYPE_LABEL, affinityLabels, type Owner, ownerText, parseOwner } from "./allocator/names.ts";
import { nextSequenceNumber } from "./allocator/sequence-number.ts";
import { type IpamStore, untilSwapped, withBlock } from "./store/ipam-store.ts";

export type ClaimResult =
  | { readonly kind: "claimed"; readonly block: IPAMBlock }
  | { readonly kind: "taken"; readonly by: string }
  /** A block of another size has some of its addresses. */
  | { readonly kind: "overlaps"; readonly block: IPAMBlock };

/** Makes the owner own the block; a claim that was begun before is completed, or withdrawn where the block cannot be made. */
export function claimBlock(
  store: IpamStore,
  owner: Owner,
  prefix: Prefix,
  reserved?: HostReserved,
): Promise<ClaimResult> {
  return untilSwapped(`claim of ${formatPrefix(prefix)}`, async (): Promise<{ done: ClaimResult } | undefined> => {
    const confirmed = await confirmedBlock(store, owner, prefix);
    if (confirmed !== undefined) return { done: { kind: "claimed", block: confirmed } };
    const other = await overlappingBlock(store, prefix);
    if (other !== undefined) {
      const begun = await store.findAffinity(owner, prefix);
      if (begun !== undefined && !(await store.affinities.delete(begun))) return undefined;
      return { done: { kind: "overlaps", block: other } };
    }
    const affinity = await pendingAffinity(store, owner, prefix);
    if (affinity === undefined) return undefined;
    const created = await store.blocks.create(store.newBlock(prefix, owner, reserved));
    const block = created ?? (await store.findBlock(prefix));
    if (block === undefined) return undefined;
    if (block.spec.affinity !== ownerText(owner)) {
      await store.affinities.delete(affinity);
      return { done: { kind: "taken", by: block.spec.affinity ?? "addresses in use, but no owner" } };
    }
    const safe = created ?? (await fenceOff(store, block));
    if (safe === undefined) return undefined;
    const written = await store.affinities.update({ ...affinity, spec: { ...affinity.spec, state: "confirmed" } });
    return written === undefined ? undefined : { done: { kind: "claimed", block: safe } };
  });
}

/**
 * A block of another size that has some of the same addresses: of a pool that was deleted and made anew with another block size, or of one that overlaps.
 * Looked for before a block is made, as nothing else keeps an address from being in two blocks.
 */
async function overlappingBlock(store: IpamStore, prefix: Prefix): Promise<IPAMBlock | undefined> {
  if ((await store.findBlock(prefix)) !== undefined) return undefined;
  return (await store.blocks.list()).find(({ spec }) => {
    const other = tryBlockPrefix(spec);
    return other !== undefined && other.length !== prefix.length && overlaps(other, prefix);
  });
}

/** The common case of an owner that looks at what it has: affinity confirmed, block there and its own. */
async function confirmedBlock(store: IpamStore, owner: Owner, prefix: Prefix): Promise<IPAMBlock | undefined> {
  const affinity = await store.findAffinity(owner, prefix);
  if (affinity?.spec.state !== "confirmed") return undefined;
  const block = await store.findBlock(prefix);
  return block?.spec.affinity === ownerText(owner) ? block : undefined;
}

/** The owner's affinity for the block, pending whatever it was before; undefined: it changed under us. */
async function pendingAffinity(store: IpamStore, owner: Owner, prefix: Prefix): Promise<BlockAffinity | undefined> {
  const created = await store.affinities.create(store.newAffinity(owner, prefix, "pending"));
  if (created !== undefined) return created;
  const existing = await store.findAffinity(owner, prefix);
  if (existing === undefined || existing.spec.state === "pending") return existing;
  return store.affinities.update({ ...existing, spec: { ...existing.spec, state: "pending" } });
}

/**
 * Somebody may have been about to delete this block, and may still do so after we took the affinity back: the deletion
 * names the revision it saw. So the block gets a new one.
 */
function fenceOff(store: IpamStore, block: IPAMBlock): Promise<IPAMBlock | undefined> {
  const { spec } = block;
  const sequenceNumber = nextSequenceNumber(spec.sequenceNumber ?? 0);
  return store.blocks.update(
    withBlock(block, { ...spec, sequenceNumber, affinityClaimTime: isoSeconds(store.clock.now()) }),
  );
}

export type ReleaseAffinityResult = "released" | "not-empty" | "not-owned" | "being-claimed";

/**
 * Gives a block up. With `mustBeEmpty`, a block in use stays as it is. A pending affinity is a claim in progress, perhaps
 * at this very moment, and the block is created on the strength of it: it is left alone unless `abandonClaims` says that
 * its owner is gone. An owner that crashed during a claim completes it when it starts again.
 */
export function releaseAffinity(
  store: IpamStore,
  owner: Owner,
  prefix: Prefix,
  options: { readonly mustBeEmpty: boolean; readonly abandonClaims?: boolean },
): Promise<ReleaseAffinityResult> {
  return untilSwapped(
    `release of ${formatPrefix(prefix)}`,
    async (): Promise<{ done: ReleaseAffinityResult } | undefined> => {
      const affinity = await store.findAffinity(owner, prefix);
      const block = await store.findBlock(prefix);
      const owned = block !== undefined && block.spec.affinity === ownerText(owner);
      if (affinity === undefined && !owned) return { done: "not-owned" };
      if (affinity?.spec.state === "pending" && options.abandonClaims !== true) return { done: "being-claimed" };
      if (owned && options.mustBeEmpty && !isEmpty(block.spec)) {
        return (await restoreConfirmed(store, affinity)) ? { done: "not-empty" } : undefined;
      }
      // A block that has an owner but no affinity gets one: whoever is claiming it this moment then notices us.
      const leaving =
        affinity === undefined
          ? await store.affinities.create(store.newAffinity(owner, prefix, "pendingDeletion"))
          : await markLeaving(store, affinity);
      if (leaving === undefined) return undefined;
      if (owned && !(await dropOwner(store, block))) return undefined;
      if (!(await store.affinities.delete(leaving))) return undefined;
      return { done: "released" };
    },
  );
}

/** An address was taken while the block was being given up: it stays. */
async function restoreConfirmed(store: IpamStore, affinity: BlockAffinity | undefined): Promise<boolean> {
  if (affinity === undefined || affinity.spec.state !== "pendingDeletion") return true;
  return (await store.affinities.update({ ...affinity, spec: { ...affinity.spec, state: "confirmed" } })) !== undefined;
}

/** Counts those who took up the same release, one after the other. */
const ATTEMPT_ANNOTATION = "projectcalico.org/release-attempt";

/**
 * Always a write that changes the record, also when somebody else has begun to release it: of two who release the same
 * block, only the last to mark it may go on. Without that, one could find the block in use and confirm the affinity again
 * while the other deletes the block.
 */
async function markLeaving(store: IpamStore, affinity: BlockAffinity): Promise<BlockAffinity | undefined> {
  const { metadata, spec } = affinity;
  const attempt = String(Number(metadata.annotations?.[ATTEMPT_ANNOTATION] ?? 0) + 1);
  const annotations =
    spec.state === "pendingDeletion"
      ? { ...metadata.annotations, [ATTEMPT_ANNOTATION]: attempt }
      : metadata.annotations;
  return store.affinities.update({
    ...affinity,
    metadata: annotations === undefined ? metadata : { ...metadata, annotations },
    spec: { ...spec, state: "pendingDeletion" },
  });
}

/** Deletes an empty block; takes the owner's name off one in use. False when it changed meanwhile. */
async function dropOwner(store: IpamStore, block: IPAMBlock): Promise<boolean> {
  if (isEmpty(block.spec)) return store.blocks.delete(block);
  const { affinity: _owner, affinityClaimTime: _since, ...spec } = block.spec;
  return (await store.blocks.update(withBlock(block, spec))) !== undefined;
}

/** Puts the labels that owners are found by on affinities written before there were labels. Others' are left alone: their nodes do it. */
export async function upgradeAffinities(store: IpamStore, owner: string): Promise<void> {
  const old = (await store.affinities.list(`!${AFFINITY_TYPE_LABEL}`)).filter(({ spec }) => spec.node === owner);
  await Promise.all(
    old.map(async (affinity) => {
      const prefix = tryParsePrefix(affinity.spec.cidr);
      if (prefix === undefined) return;
      const type = affinity.spec.type === "virtual" ? "virtual" : "host";
      const labels = { ...affinity.metadata.labels, ...affinityLabels({ type, name: owner }, prefix) };
      // Somebody else's change will be seen by the next start.
      await store.affinities.update({ ...affinity, metadata: { ...affinity.metadata, labels } });
    }),
  );
}

/** What is left of a block nobody owns when its last address has gone: nothing. */
export async function deleteIfAbandoned(store: IpamStore, block: IPAMBlock): Promise<void> {
  if (parseOwner(block.spec.affinity) === undefined && isEmpty(block.spec)) await store.blocks.delete(block);
}

/** The block with everything freed that has cooled down; the same object when there was nothing. */
export function withoutCooled(
  block: IPAMBlock,
  cooldown: { readonly nowMs: number; readonly seconds: number },
): IPAMBlock {
  const draft = new BlockDraft(block.spec);
  return draft.collectCooled(cooldown) === 0 ? block : withBlock(block, draft.finish());
}
