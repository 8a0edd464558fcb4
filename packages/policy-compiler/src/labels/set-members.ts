/**
 * The members of one IP set, counted: two endpoints may share an address, a network set may list what an endpoint has.
 * Prefixes inside another member are held back, because an interval set refuses overlaps and a lookup gains nothing from
 * them; when the wider one goes they come out again.
 *
 * `changes` is the net difference since the last call. Most sets hold single addresses and nothing wider: those cost one entry in one
 * map each, and are not even parsed.
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
  readonly #nests: boolean;
  /** Members wider than an address: only they can contain others. */
  readonly #wide = new Map<string, Prefix>();
  /** The lengths they have: where to look for a container. */
  readonly #lengths: Readonly<Record<Family, RefCounts<number>>> = { 4: new RefCounts(), 6: new RefCounts() };
  /** Members that another one contains, or that are no prefix. */
  readonly #hidden = new Set<string>();
  /** Members whose visibility changed, and what it was; undefined before the first `changes`, which is about all of them. */
  #touched: Map<string, boolean> | undefined;

  constructor(holds: "prefixes" | "opaque") {
    this.#nests = holds === "prefixes";
  }

  get members(): readonly string[] {
    const all = [...this.#counts.keys()];
    return this.#hidden.size === 0 ? all : all.filter((member) => !this.#hidden.has(member));
  }

  add(member: string): void {
    if (!this.#counts.add(member)) return;
    if (this.#nests && (this.#wide.size > 0 || !isSingle(member))) this.#nest(member);
    if (!this.#hidden.has(member)) this.#touch(member, false);
  }

  remove(member: string): void {
    if (!this.#counts.release(member)) return;
    if (!this.#hidden.delete(member)) this.#touch(member, true);
    const prefix = this.#wide.get(member);
    if (prefix === undefined) return;
    this.#wide.delete(member);
    this.#lengths[prefix.family].release(prefix.length);
    for (const inner of this.#hidden) {
      const other = tryParsePrefix(inner, "mask");
      if (other === undefined || !containsPrefix(prefix, other) || this.#isContained(other)) continue;
      this.#hidden.delete(inner);
      this.#touch(inner, false);
    }
  }

  changes(): MemberChanges {
    if (this.#touched === undefined) {
      this.#touched = new Map();
      return { added: this.members, removed: [] };
    }
    const added: string[] = [];
    const removed: string[] = [];
    for (const [member, before] of this.#touched) {
      const now = this.#counts.count(member) > 0 && !this.#hidden.has(member);
      if (now && !before) added.push(member);
      if (!now && before) removed.push(member);
    }
    this.#touched.clear();
    return { added, removed };
  }

  /** Hides the new member, or the members inside it. */
  #nest(member: string): void {
    const prefix = tryParsePrefix(member, "mask");
    if (prefix === undefined || this.#isContained(prefix)) this.#hidden.add(member);
    if (prefix === undefined || prefix.length === addressBits(prefix.family)) return;
    this.#wide.set(member, prefix);
    this.#lengths[prefix.family].add(prefix.length);
    if (this.#hidden.has(member)) return;
    // A look at all of them, but only for prefixes wider than an address: those come rarely.
    for (const inner of this.#counts.keys()) {
      if (inner === member || this.#hidden.has(inner)) continue;
      const other = this.#wide.get(inner) ?? tryParsePrefix(inner, "mask");
      if (other === undefined || other.length <= prefix.length || !containsPrefix(prefix, other)) continue;
      this.#hidden.add(inner);
      this.#touch(inner, true);
    }
  }

  /** Does a member strictly contain it? */
  #isContained(prefix: Prefix): boolean {
    for (const length of this.#lengths[prefix.family].keys()) {
      if (length >= prefix.length) continue;
      if (this.#wide.has(formatPrefix(prefixOf(prefixAddress(prefix), length)))) return true;
    }
    return false;
  }

  #touch(member: string, before: boolean): void {
    if (this.#touched !== undefined && !this.#touched.has(member)) this.#touched.set(member, before);
  }
}

const isSingle = (member: string): boolean =>
  member.endsWith("/128") || (member.endsWith("/32") && !member.includes(":"));
