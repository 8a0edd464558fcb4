/**
 * The members of one IP set, counted: two endpoints may share an address, a network set may list what an endpoint has.
 * Prefixes inside another member are held back, because an interval set refuses overlaps and a lookup gains nothing from
 * them; when the wider one goes they come out again.
 *
 * `changes` is the net difference since the last call.
 */
import type { Family, Prefix } from "@calico-ts/net";
import { addressBits, containsPrefix, formatPrefix, prefixAddress, prefixOf, tryParsePrefix } from "@calico-ts/net";
import { RefCounts } from "@calico-ts/std";

export interface MemberChanges {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

export class SetMembers {
  readonly #counts = new RefCounts<string>();
  /** Only for sets of prefixes. */
  readonly #prefixes: Map<string, Prefix> | undefined;
  /** How many members there are of each length, per family: the lengths to look for a container at. */
  readonly #lengths = new RefCounts<string>();
  readonly #visible = new Set<string>();
  /** Members whose visibility changed, and what it was. */
  readonly #touched = new Map<string, boolean>();

  constructor(holds: "prefixes" | "opaque") {
    this.#prefixes = holds === "prefixes" ? new Map() : undefined;
  }

  get members(): ReadonlySet<string> {
    return this.#visible;
  }

  add(member: string): void {
    if (!this.#counts.add(member)) return;
    if (this.#prefixes === undefined) {
      this.#show(member);
      return;
    }
    const prefix = tryParsePrefix(member, "mask");
    if (prefix === undefined) return;
    this.#prefixes.set(member, prefix);
    this.#lengths.add(lengthKey(prefix.family, prefix.length));
    if (this.#container(prefix) !== undefined) return;
    for (const inner of this.#inside(prefix)) this.#hide(inner);
    this.#show(member);
  }

  remove(member: string): void {
    if (!this.#counts.release(member)) return;
    const prefix = this.#prefixes?.get(member);
    this.#prefixes?.delete(member);
    this.#hide(member);
    if (prefix === undefined) return;
    this.#lengths.release(lengthKey(prefix.family, prefix.length));
    if (this.#container(prefix) !== undefined) return;
    for (const inner of this.#inside(prefix)) {
      const other = this.#prefixes?.get(inner);
      if (other !== undefined && this.#container(other) === undefined) this.#show(inner);
    }
  }

  changes(): MemberChanges {
    const added: string[] = [];
    const removed: string[] = [];
    for (const [member, before] of this.#touched) {
      const now = this.#visible.has(member);
      if (now && !before) added.push(member);
      if (!now && before) removed.push(member);
    }
    this.#touched.clear();
    return { added, removed };
  }

  /** A member that strictly contains the prefix. */
  #container(prefix: Prefix): string | undefined {
    for (let length = prefix.length - 1; length >= 0; length--) {
      if (this.#lengths.count(lengthKey(prefix.family, length)) === 0) continue;
      const text = formatPrefix(prefixOf(prefixAddress(prefix), length));
      if (this.#prefixes?.has(text) === true) return text;
    }
    return undefined;
  }

  /** Members strictly inside. A look at all of them, but only for prefixes wider than an address: those come rarely. */
  *#inside(prefix: Prefix): Iterable<string> {
    if (prefix.length === addressBits(prefix.family)) return;
    for (const [text, other] of this.#prefixes ?? []) {
      if (other.length > prefix.length && containsPrefix(prefix, other)) yield text;
    }
  }

  #show(member: string): void {
    if (this.#visible.has(member)) return;
    this.#touch(member);
    this.#visible.add(member);
  }

  #hide(member: string): void {
    if (!this.#visible.has(member)) return;
    this.#touch(member);
    this.#visible.delete(member);
  }

  #touch(member: string): void {
    if (!this.#touched.has(member)) this.#touched.set(member, this.#visible.has(member));
  }
}

const lengthKey = (family: Family, length: number): string => `${family}/${length}`;
