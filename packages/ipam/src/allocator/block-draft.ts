/**
 * Changes to a block: a draft is opened on a stored value, changed any number of times, and finished into a new value.
 * The stored value is never touched; a draft that changed nothing finishes into the very same object.
 *
 * Stays true at `finish`: every ordinal is either free (once) or used; every attribute is used; the block's sequence
 * number is larger than before. Not here: affinities between hosts and blocks, and anything that waits.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";
import {
  type Attribute,
  type Attributes,
  type Block,
  addressOf,
  blockPrefix,
  handleOf,
  isCooling,
  isoSeconds,
  type Reserved,
} from "./block.ts";
import { type OwnerChange, type OwnerCondition, ownersOf, whyNotOwned, withOwners } from "./machine.ts";
import { cleanHandle } from "./names.ts";
import { nextSequenceNumber } from "./sequence-number.ts";

export interface Holder {
  readonly handle: string;
  readonly attributes: Attributes;
}

export interface ReleaseRequest {
  readonly ordinal: number;
  /** Only if this handle holds it. */
  readonly handle?: string | undefined;
  /** Only if it is still the same assignment. */
  readonly sequenceNumber?: number | undefined;
  /** Only if its owners are these: a virtual machine's address changes owners without being assigned anew. */
  readonly condition?: OwnerCondition | undefined;
}

export type ReleaseOutcome =
  | { readonly kind: "released"; readonly handle: string | undefined }
  | { readonly kind: "not-assigned" }
  | { readonly kind: "stale"; readonly why: string };

export interface OwnerChangeRequest {
  readonly ordinal: number;
  /** Only if this handle holds it. */
  readonly handle: string;
  readonly change: OwnerChange;
  readonly condition?: OwnerCondition | undefined;
}

export type OwnerChangeOutcome =
  | { readonly kind: "changed" | "same" | "not-assigned" }
  | { readonly kind: "stale"; readonly why: string };

export interface Cooldown {
  readonly nowMs: number;
  readonly seconds: number;
}

export class BlockDraft {
  readonly prefix: Prefix;
  readonly #before: Block;
  readonly #allocations: (number | null)[];
  #unallocated: number[];
  readonly #attributes: Attribute[];
  readonly #sequences: Record<string, number>;
  #changed = false;

  constructor(block: Block) {
    this.prefix = blockPrefix(block);
    this.#before = block;
    this.#allocations = [...block.allocations];
    this.#unallocated = [...block.unallocated];
    this.#attributes = [...block.attributes];
    this.#sequences = { ...block.sequenceNumberForAllocation };
  }

  get changed(): boolean {
    return this.#changed;
  }

  get freeOrdinals(): readonly number[] {
    return this.#unallocated;
  }

  /** Takes up to `count` addresses, the longest free first, and says which. */
  assignNext(count: number, holder: Holder, reserved: Reserved): IpAddress[] {
    const taken: number[] = [];
    const passedOver: number[] = [];
    let at = 0;
    for (; at < this.#unallocated.length && taken.length < count; at++) {
      const ordinal = this.#unallocated[at];
      if (ordinal === undefined) break;
      (reserved(addressOf(this.prefix, ordinal)) ? passedOver : taken).push(ordinal);
    }
    if (taken.length === 0) return [];
    this.#unallocated = [...passedOver, ...this.#unallocated.slice(at)];
    const index = this.#attributeIndex({ handle_id: holder.handle, secondary: { ...holder.attributes } });
    for (const ordinal of taken) this.#occupy(ordinal, index);
    return taken.map((ordinal) => addressOf(this.prefix, ordinal));
  }

  /** Takes one particular address. False when it is not free (used or cooling down). */
  assignOrdinal(ordinal: number, holder: Holder): boolean {
    const at = this.#unallocated.indexOf(ordinal);
    if (at < 0) return false;
    this.#unallocated.splice(at, 1);
    this.#occupy(ordinal, this.#attributeIndex({ handle_id: holder.handle, secondary: { ...holder.attributes } }));
    return true;
  }

  release(request: ReleaseRequest, cooldown: Cooldown): ReleaseOutcome {
    const { ordinal } = request;
    const attribute = this.#attributeAt(ordinal);
    if (attribute === undefined || isCooling(attribute)) return { kind: "not-assigned" };
    const handle = handleOf(attribute);
    const sequence = this.#sequences[String(ordinal)] ?? 0;
    if (request.sequenceNumber !== undefined && request.sequenceNumber !== sequence) {
      return {
        kind: "stale",
        why: `it was assigned again since (sequence ${sequence}, not ${request.sequenceNumber})`,
      };
    }
    if (request.handle !== undefined && request.handle !== handle) {
      return { kind: "stale", why: `handle ${handle ?? "none"} holds it, not ${request.handle}` };
    }
    const why = whyNotOwned(ownersOf(attribute), request.condition ?? {});
    if (why !== undefined) return { kind: "stale", why };
    this.#changed = true;
    if (cooldown.seconds > 0) {
      this.#allocations[ordinal] = this.#attributeIndex({ releasedAt: isoSeconds(cooldown.nowMs) });
    } else {
      this.#free(ordinal);
    }
    return { kind: "released", handle };
  }

  /** Replaces who owns an address. It stays assigned: handle and sequence number are as before. */
  changeOwners({ change, condition = {}, handle, ordinal }: OwnerChangeRequest): OwnerChangeOutcome {
    const attribute = this.#attributeAt(ordinal);
    if (attribute === undefined || isCooling(attribute)) return { kind: "not-assigned" };
    const holder = handleOf(attribute);
    if (holder !== cleanHandle(handle)) {
      return { kind: "stale", why: `handle ${holder ?? "none"} holds it, not ${handle}` };
    }
    const why = whyNotOwned(ownersOf(attribute), condition);
    if (why !== undefined) return { kind: "stale", why };
    const next = withOwners(attribute, change);
    if (sameAttribute(attribute, next)) return { kind: "same" };
    // Other addresses may share the attribute: they keep it.
    this.#allocations[ordinal] = this.#attributeIndex(next);
    this.#changed = true;
    return { kind: "changed" };
  }

  /** Releases everything the handle holds here; returns the addresses. */
  releaseHandle(handle: string, cooldown: Cooldown): IpAddress[] {
    const held: number[] = [];
    for (const ordinal of this.#allocations.keys()) {
      const attribute = this.#attributeAt(ordinal);
      if (attribute !== undefined && handleOf(attribute) === handle) held.push(ordinal);
    }
    for (const ordinal of held) this.release({ ordinal }, cooldown);
    return held.map((ordinal) => addressOf(this.prefix, ordinal));
  }

  /** Frees what has cooled down long enough. Does not count as a change by itself unless something was freed. */
  collectCooled(cooldown: Cooldown): number {
    let collected = 0;
    if (!this.#attributes.some(isCooling)) return collected;
    for (const ordinal of this.#allocations.keys()) {
      const releasedAt = this.#attributeAt(ordinal)?.releasedAt;
      if (releasedAt === undefined) continue;
      const since = Date.parse(releasedAt);
      // A date nobody can read would keep the address for ever: treat it as long ago.
      if (Number.isNaN(since) || cooldown.nowMs - since >= cooldown.seconds * 1000) {
        this.#free(ordinal);
        collected++;
      }
    }
    if (collected > 0) this.#changed = true;
    return collected;
  }

  /** The stored form, with the sequence number moved on. */
  finish(): Block {
    if (!this.#changed) return this.#before;
    const { attributes, allocations } = withoutUnused(this.#attributes, this.#allocations);
    return {
      ...this.#before,
      allocations,
      unallocated: this.#unallocated,
      attributes,
      sequenceNumberForAllocation: this.#sequences,
      sequenceNumber: nextSequenceNumber(this.#before.sequenceNumber ?? 0),
    };
  }

  #attributeAt(ordinal: number): Attribute | undefined {
    const index = this.#allocations[ordinal];
    return index === null || index === undefined ? undefined : this.#attributes[index];
  }

  #occupy(ordinal: number, attributeIndex: number): void {
    this.#allocations[ordinal] = attributeIndex;
    this.#sequences[String(ordinal)] = this.#before.sequenceNumber ?? 0;
    this.#changed = true;
  }

  #free(ordinal: number): void {
    this.#allocations[ordinal] = null;
    this.#unallocated.push(ordinal);
    delete this.#sequences[String(ordinal)];
  }

  /** Addresses with the same holder share an attribute. */
  #attributeIndex(wanted: Attribute): number {
    const found = this.#attributes.findIndex((attribute) => sameAttribute(attribute, wanted));
    return found < 0 ? this.#attributes.push(wanted) - 1 : found;
  }
}

function sameAttribute(a: Attribute, b: Attribute): boolean {
  return (
    a.handle_id === b.handle_id &&
    a.releasedAt === b.releasedAt &&
    sameRecord(a.secondary, b.secondary) &&
    sameRecord(a.alternateOwnerAttrs, b.alternateOwnerAttrs)
  );
}

function sameRecord(a: Attributes = {}, b: Attributes = {}): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

function withoutUnused(
  attributes: readonly Attribute[],
  allocations: readonly (number | null)[],
): { attributes: Attribute[]; allocations: (number | null)[] } {
  const used = new Set(allocations);
  const renumbered = new Map<number, number>();
  const kept = attributes.filter((_, index) => {
    if (!used.has(index)) return false;
    renumbered.set(index, renumbered.size);
    return true;
  });
  return {
    attributes: kept,
    allocations: allocations.map((index) => (index === null ? null : (renumbered.get(index) ?? null))),
  };
}
