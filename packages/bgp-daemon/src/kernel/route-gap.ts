/**
 * What the kernel should have and what it has, per prefix, and the difference between the two; the same as std's DeltaTracker, for full tables. A prefix costs one small
 * object: routes that lead the same way share one `Way`, so most comparisons are of identity, and nothing is looked up by text.
 */
import { addressKey, type AddressKey, PrefixMap } from "@calico-ts/bgp";
import type { Prefix } from "@calico-ts/net";
import { sameWay, type Way } from "./ways.ts";

/** Marks of a slot: in the list of changes, in that of surplus; held back; not wanted again so far. */
const CHANGED = 1;
const SURPLUS = 2;
const HELD = 4;
const STALE = 8;

export interface Slot {
  readonly address: AddressKey;
  readonly length: number;
  readonly wanted: Way | undefined;
  readonly seen: Way | undefined;
}

interface OwnSlot extends Slot {
  wanted: Way | undefined;
  seen: Way | undefined;
  marks: number;
}

/** First in, first out. */
class Queue<T> {
  #items: T[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    const item = this.#items[this.#head];
    this.#head++;
    if (this.#head >= this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    return item;
  }
}

export class RouteGap {
  readonly #slots = new PrefixMap<OwnSlot>();
  /** To be looked at; `surplus`: nobody wants what the kernel has; `held`: not before `retry`. */
  readonly #changed = new Queue<OwnSlot>();
  readonly #surplus = new Queue<OwnSlot>();
  #held: OwnSlot[] = [];

  get(prefix: Prefix): Slot | undefined {
    return this.#find(prefix);
  }

  /** Undefined: nothing. What was held back may be tried again. */
  want(prefix: Prefix, way: Way | undefined): void {
    const slot = way === undefined ? this.#find(prefix) : this.#make(prefix);
    if (slot === undefined) return;
    slot.wanted = way;
    slot.marks &= ~(STALE | HELD);
    this.#note(slot);
  }

  /** The kernel has got this route now, or has lost it. */
  saw(slot: Slot, way: Way | undefined): void {
    const own = slot as OwnSlot;
    own.seen = way;
    this.#note(own);
  }

  /** Replaces what the kernel is believed to have, and lets go of what was held. */
  sawAll(ways: Iterable<readonly [Prefix, Way]>): void {
    for (const slot of this.#slots.values()) slot.seen = undefined;
    for (const [prefix, way] of ways) this.#make(prefix).seen = way;
    this.#held = [];
    for (const slot of this.#slots.values()) {
      // The two may differ in identity only.
      if (slot.seen !== undefined && slot.wanted !== undefined && sameWay(slot.seen, slot.wanted)) {
        slot.seen = slot.wanted;
      }
      slot.marks &= ~HELD;
      this.#note(slot);
    }
  }

  /** The next one that the kernel lacks or has otherwise. It is off the list: say what came of it. */
  nextToWrite(): (Slot & { readonly wanted: Way }) | undefined {
    for (;;) {
      const slot = this.#changed.shift();
      if (slot === undefined) return undefined;
      slot.marks &= ~CHANGED;
      if ((slot.marks & HELD) !== 0) continue;
      const { wanted, seen } = slot;
      if (wanted !== undefined) {
        if (seen === undefined || !sameWay(wanted, seen)) return slot as typeof slot & { wanted: Way };
        slot.seen = wanted;
      } else if (seen === undefined) this.#forget(slot);
      else if ((slot.marks & SURPLUS) === 0) {
        slot.marks |= SURPLUS;
        this.#surplus.push(slot);
      }
    }
  }

  /** The next one that the kernel has and nobody wants. It is off the list: say what came of it. */
  nextToRemove(): (Slot & { readonly seen: Way }) | undefined {
    for (;;) {
      const slot = this.#surplus.shift();
      if (slot === undefined) return undefined;
      slot.marks &= ~SURPLUS;
      if (slot.wanted !== undefined || (slot.marks & HELD) !== 0) continue;
      if (slot.seen !== undefined) return slot as typeof slot & { seen: Way };
      this.#forget(slot);
    }
  }

  /** What could not be done is not listed again before `retry`. */
  hold(slot: Slot): void {
    const own = slot as OwnSlot;
    own.marks |= HELD;
    this.#held.push(own);
  }

  retry(): void {
    const held = this.#held;
    this.#held = [];
    for (const slot of held) {
      slot.marks &= ~HELD;
      this.#note(slot);
    }
  }

  /** Something may be left for `nextToWrite`, `nextToRemove`. */
  get hasChanges(): boolean {
    return this.#changed.length > 0;
  }

  get hasSurplus(): boolean {
    return this.#surplus.length > 0;
  }

  /** Everything wanted is doubtful until it is wanted again, or `dropStale`. */
  markStale(): void {
    for (const slot of this.#slots.values()) if (slot.wanted !== undefined) slot.marks |= STALE;
  }

  dropStale(): void {
    for (const slot of this.#slots.values()) {
      if ((slot.marks & STALE) === 0) continue;
      slot.marks &= ~STALE;
      slot.wanted = undefined;
      this.#note(slot);
    }
  }

  #find(prefix: Prefix): OwnSlot | undefined {
    return this.#slots.get(addressKey(prefix), prefix.length);
  }

  #make(prefix: Prefix): OwnSlot {
    const address = addressKey(prefix);
    let slot = this.#slots.get(address, prefix.length);
    if (slot === undefined) {
      slot = { address, length: prefix.length, wanted: undefined, seen: undefined, marks: 0 };
      this.#slots.set(address, prefix.length, slot);
    }
    return slot;
  }

  #note(slot: OwnSlot): void {
    if (slot.wanted === slot.seen && slot.wanted !== undefined) return;
    if ((slot.marks & CHANGED) !== 0) return;
    slot.marks |= CHANGED;
    this.#changed.push(slot);
  }

  /** Nobody wants it, the kernel does not have it, and no list has it. */
  #forget(slot: OwnSlot): void {
    if ((slot.marks & (CHANGED | SURPLUS | HELD)) !== 0) return;
    if (this.#slots.get(slot.address, slot.length) === slot) this.#slots.delete(slot.address, slot.length);
  }
}
