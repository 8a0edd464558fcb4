/**
 * IP sets as kernel sets. One IP set becomes up to four: single addresses in a hash (adding one costs the same at any size)
 * and wider prefixes in an interval set, per family; an address-and-port set becomes one hash per family.
 *
 * A part exists while it has members, except the IPv4 hash, which always does. Rules name only parts that exist, so a
 * cluster without IPv6 or network sets pays for neither; when a part appears or goes, the rules that use the set are
 * rendered again (`onPartsChanged`).
 */
import type { IpSetType } from "@calico-ts/dataplane-api";
import type { Family } from "@calico-ts/net";
import { addressBits, hostPrefix, PROTOCOL_NUMBERS, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { addressSet } from "./names.ts";
import type { SetPart } from "./rule-expansion.ts";
import type { SetStore } from "./set-store.ts";
import type { KeyType, SetDeclaration, SetElement } from "./values.ts";
import { keyType } from "./values.ts";

interface IpSet {
  readonly id: string;
  readonly type: IpSetType;
  /** Declarations made so far, by family and kind of part: names are not worked out anew for each member. */
  readonly declarations: Map<string, SetDeclaration>;
  /** Member text → the part it is in. */
  readonly members: Map<string, string>;
  /** Parts that exist, with the number of their members. */
  readonly parts: Map<string, { readonly family: Family; count: number }>;
}

interface PlacedMember {
  readonly family: Family;
  readonly declaration: SetDeclaration;
  readonly element: SetElement;
}

export class IpSets {
  readonly #sets = new Map<string, IpSet>();
  readonly #store: SetStore;
  readonly #onPartsChanged: (id: string) => void;

  constructor(store: SetStore, onPartsChanged: (id: string) => void) {
    this.#store = store;
    this.#onPartsChanged = onPartsChanged;
  }

  /** The parts that exist, in the same order whichever came first; undefined when the set is unknown. */
  parts(id: string): readonly SetPart[] | undefined {
    const set = this.#sets.get(id);
    if (set === undefined) return undefined;
    const parts = Array.from(set.parts, ([name, { family }]): SetPart => ({ family, name }));
    return parts.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Sets with more members of one family than the limit. */
  *over(limit: number): Iterable<{ readonly id: string; readonly members: number }> {
    for (const [id, set] of this.#sets) {
      if (set.members.size <= limit) continue;
      const count = (family: Family): number =>
        [...set.parts.values()].reduce((sum, part) => sum + (part.family === family ? part.count : 0), 0);
      const members = Math.max(count(4), count(6));
      if (members > limit) yield { id, members };
    }
  }

  update(id: string, type: IpSetType, members: readonly string[]): void {
    const known = this.#sets.get(id);
    if (known !== undefined && known.type !== type) this.remove(id);
    const set = this.#sets.get(id) ?? this.#create(id, type);
    const wanted = new Set(members);
    const stale = [...set.members.keys()].filter((member) => !wanted.has(member));
    this.delta(id, members, stale);
  }

  delta(id: string, added: readonly string[], removed: readonly string[]): void {
    const set = this.#sets.get(id);
    if (set === undefined) return;
    const before = set.parts.size;
    const names = new Set(set.parts.keys());
    for (const member of removed) this.#removeMember(set, member);
    for (const member of added) this.#addMember(set, member);
    this.#dropEmpty(set);
    if (set.parts.size !== before || [...set.parts.keys()].some((name) => !names.has(name))) this.#onPartsChanged(id);
  }

  remove(id: string): void {
    const set = this.#sets.get(id);
    if (set === undefined) return;
    for (const name of set.parts.keys()) this.#store.undeclare(name);
    this.#sets.delete(id);
    this.#onPartsChanged(id);
  }

  #create(id: string, type: IpSetType): IpSet {
    const set: IpSet = { id, type, declarations: new Map(), members: new Map(), parts: new Map() };
    this.#sets.set(id, set);
    this.#declare(set, declarationOf(set, 4, false), 4);
    this.#onPartsChanged(id);
    return set;
  }

  #declare(set: IpSet, declaration: SetDeclaration, family: Family): void {
    if (set.parts.has(declaration.name)) return;
    this.#store.declare(declaration);
    set.parts.set(declaration.name, { family, count: 0 });
  }

  #addMember(set: IpSet, member: string): void {
    if (set.members.has(member)) return;
    const placed = set.type === "ip-port" ? placePort(set, member) : placeAddress(set, member);
    if (placed === undefined) return;
    this.#declare(set, placed.declaration, placed.family);
    const part = set.parts.get(placed.declaration.name);
    if (part !== undefined) part.count++;
    set.members.set(member, placed.declaration.name);
    this.#store.put(placed.declaration.name, member, placed.element);
  }

  #removeMember(set: IpSet, member: string): void {
    const name = set.members.get(member);
    if (name === undefined) return;
    set.members.delete(member);
    const part = set.parts.get(name);
    if (part !== undefined) part.count--;
    this.#store.delete(name, member);
  }

  #dropEmpty(set: IpSet): void {
    const always = declarationOf(set, 4, false).name;
    for (const [name, part] of set.parts) {
      if (part.count > 0 || name === always) continue;
      this.#store.undeclare(name);
      set.parts.delete(name);
    }
  }
}

function declarationOf(set: IpSet, family: Family, nets: boolean): SetDeclaration {
  const part = `${family} ${nets}`;
  const known = set.declarations.get(part);
  if (known !== undefined) return known;
  const key: readonly KeyType[] = set.type === "ip-port" ? [keyType(family), "protocol", "port"] : [keyType(family)];
  const declaration = { name: addressSet(set.id, family, nets), key, ranges: nets };
  set.declarations.set(part, declaration);
  return declaration;
}

function placeAddress(set: IpSet, member: string): PlacedMember | undefined {
  const prefix = tryParsePrefix(member, "mask");
  if (prefix === undefined) return undefined;
  const nets = prefix.length < addressBits(prefix.family);
  return { family: prefix.family, declaration: declarationOf(set, prefix.family, nets), element: { key: [prefix] } };
}

/** `10.0.0.1,tcp:80` */
function placePort(set: IpSet, member: string): PlacedMember | undefined {
  const match = /^([^,]+),([a-z]+):(\d{1,5})$/i.exec(member);
  const address = tryParseAddress(match?.[1] ?? "");
  const name = match?.[2]?.toLowerCase();
  const protocol = Object.entries(PROTOCOL_NUMBERS).find(([known]) => known.toLowerCase() === name)?.[1];
  const port = Number(match?.[3]);
  if (address === undefined || protocol === undefined || !(port >= 0 && port <= 65_535)) return undefined;
  const declaration = declarationOf(set, address.family, false);
  return { family: address.family, declaration, element: { key: [hostPrefix(address), protocol, port] } };
}
