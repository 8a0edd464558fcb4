/**
 * IP sets as kernel sets. One IP set becomes up to four: single addresses in a hash (adding one costs the same at any size)
 * and wider prefixes in an interval set, per family; an address-and-port set becomes one hash per family.
 *
 * A part exists while it has members, except the IPv4 hash, which always does. Rules name only parts that exist, so a
 * cluster without IPv6 or network sets pays for neither; when a part appears or goes, the rules that use the set are
 * rendered again (`onPartsChanged`).
 */
import type { IpSetType } from "@calico-ts/dataplane-api";
import type { Family, Prefix } from "@calico-ts/net";
import {
  addressBits,
  hostPrefix,
  PROTOCOL_NUMBERS,
  parsePrefix,
  tryParseAddress,
  tryParsePrefix,
} from "@calico-ts/net";
import { addressSet } from "./names.ts";
import type { SetPart } from "./rule-expansion.ts";
import type { ElementOf, SetStore } from "./set-store.ts";
import type { KeyType, SetDeclaration } from "./values.ts";
import { keyType } from "./values.ts";

interface IpSet {
  readonly id: string;
  readonly type: IpSetType;
  /** Declarations made so far, by family, negative for prefixes: names are not worked out anew for each member. */
  readonly declarations: Map<number, SetDeclaration>;
  /** Parts that exist: what they hold, by the member's text, is in the store. */
  readonly parts: Map<string, Family>;
  /** The same for rules; undefined: to be made again. */
  sorted: readonly SetPart[] | undefined;
}

interface PlacedMember {
  readonly family: Family;
  readonly declaration: SetDeclaration;
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
    set.sorted ??= Array.from(set.parts, ([name, family]): SetPart => ({ family, name })).toSorted((a, b) =>
      a.name < b.name ? -1 : 1,
    );
    return set.sorted;
  }

  /** Sets with more members of one family than the limit. */
  *over(limit: number): Iterable<{ readonly id: string; readonly members: number }> {
    for (const [id, set] of this.#sets) {
      const count = (family: Family): number =>
        [...set.parts].reduce((sum, [name, of]) => sum + (of === family ? this.#store.size(name) : 0), 0);
      const members = Math.max(count(4), count(6));
      if (members > limit) yield { id, members };
    }
  }

  update(id: string, type: IpSetType, members: readonly string[]): void {
    const before = this.#sets.get(id);
    if (before !== undefined && before.type !== type) this.remove(id);
    const set = this.#sets.get(id) ?? this.#create(id, type);
    const known = [...set.parts.keys()].flatMap((name) => this.#store.keys(name));
    const wanted = known.length === 0 ? undefined : new Set(members);
    this.delta(id, members, wanted === undefined ? [] : known.filter((member) => !wanted.has(member)));
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
    const set: IpSet = { id, type, declarations: new Map(), parts: new Map(), sorted: undefined };
    this.#sets.set(id, set);
    this.#declare(set, declarationOf(set, 4, false), 4);
    this.#onPartsChanged(id);
    return set;
  }

  #declare(set: IpSet, declaration: SetDeclaration, family: Family): void {
    if (set.parts.has(declaration.name)) return;
    this.#store.declare(declaration, set.type === "ip-port" ? portElement : addressElement);
    set.parts.set(declaration.name, family);
    set.sorted = undefined;
  }

  #addMember(set: IpSet, member: string): void {
    const placed = place(set, member);
    if (placed === undefined) return;
    this.#declare(set, placed.declaration, placed.family);
    this.#store.put(placed.declaration.name, member);
  }

  #removeMember(set: IpSet, member: string): void {
    const placed = place(set, member);
    if (placed !== undefined) this.#store.delete(placed.declaration.name, member);
  }

  #dropEmpty(set: IpSet): void {
    const always = declarationOf(set, 4, false).name;
    for (const name of set.parts.keys()) {
      if (this.#store.size(name) > 0 || name === always) continue;
      this.#store.undeclare(name);
      set.parts.delete(name);
      set.sorted = undefined;
    }
  }
}

/** The part a member belongs to, the same every time it is asked; undefined: it is not a member of anything. */
function place(set: IpSet, member: string): PlacedMember | undefined {
  if (set.type === "ip-port") {
    const key = parsePortMember(member);
    return key === undefined ? undefined : placed(set, key[0].family, false);
  }
  const prefix = tryParsePrefix(member, "mask");
  return prefix === undefined ? undefined : placed(set, prefix.family, prefix.length < addressBits(prefix.family));
}

const placed = (set: IpSet, family: Family, nets: boolean): PlacedMember => ({
  family,
  declaration: declarationOf(set, family, nets),
});

function declarationOf(set: IpSet, family: Family, nets: boolean): SetDeclaration {
  const part = nets ? -family : family;
  const known = set.declarations.get(part);
  if (known !== undefined) return known;
  const key: readonly KeyType[] = set.type === "ip-port" ? [keyType(family), "protocol", "port"] : [keyType(family)];
  const declaration = { name: addressSet(set.id, family, nets), key, ranges: nets };
  set.declarations.set(part, declaration);
  return declaration;
}

const addressElement: ElementOf = (member) => ({ key: [parsePrefix(member, "mask")] });

const portElement: ElementOf = (member) => ({ key: parsePortMember(member) ?? [] });

/** `10.0.0.1,tcp:80` */
function parsePortMember(member: string): readonly [Prefix, number, number] | undefined {
  const match = /^([^,]+),([a-z]+):(\d{1,5})$/i.exec(member);
  const address = tryParseAddress(match?.[1] ?? "");
  const protocol = PROTOCOLS.get(match?.[2]?.toLowerCase() ?? "");
  const port = Number(match?.[3]);
  if (address === undefined || protocol === undefined || !(port >= 0 && port <= 65_535)) return undefined;
  return [hostPrefix(address), protocol, port];
}

const PROTOCOLS: ReadonlyMap<string, number> = new Map(
  Object.entries(PROTOCOL_NUMBERS).map(([name, number]) => [name.toLowerCase(), number]),
);
