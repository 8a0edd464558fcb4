/**
 * Path attributes shared between routes. An UPDATE's attribute block is looked up by its bytes before it is decoded, and routes that came with the same block point to
 * the same object. What the decision process compares is worked out once per block. The rest of what a block says is kept only if it is asked for again after the
 * UPDATE, as it is of the best routes: of the others the bytes are enough.
 *
 * Blocks live as long as a route of an Adj-RIB-In holds them (`retain`, `release`); sets derived from them by filters and exports hang on the set they
 * were derived from and go with it.
 */
import { addressKey } from "./prefix-map.ts";
import type { AddressKey } from "./prefix-map.ts";
import { asPathLength, firstAs } from "../wire/attributes/as-path.ts";
import { encodeAttributes } from "../wire/attributes/decode.ts";
import type { AttributeContext } from "../wire/attributes/table.ts";
import { decodeRouteAttributes } from "../wire/update.ts";
import type { PathAttributes } from "../wire/attributes/values.ts";
import type { RoutedFamily } from "../wire/family.ts";
import { WELL_KNOWN_COMMUNITIES } from "../wire/attributes/values.ts";
import { addressBytes } from "@calico-ts/net";

export const DEFAULT_LOCAL_PREF = 100;
const ORIGIN_RANK = { igp: 0, egp: 1, incomplete: 2 } as const;

/** What is known of a route of our own besides its attributes; never sent. */
export interface OwnRouteFacts {
  /** The interface it leads to. */
  readonly interface?: string;
  /** Found in a routing table, where somebody else put it, instead of configured. */
  readonly found?: boolean;
  /** It leads to a gateway, not to hosts on a link or to nowhere. */
  readonly gateway?: boolean;
  /** `equal`: peers' routes with the same LOCAL_PREF come first; `always`: any route of a peer does. Absent: ours comes first where LOCAL_PREF is the same. */
  readonly yields?: "equal" | "always";
}

interface Derivation {
  readonly by: object;
  readonly set: AttributeSet | undefined;
  readonly next: Derivation | undefined;
}

export class AttributeSet {
  readonly localPref: number;
  readonly pathLength: number;
  readonly originRank: number;
  readonly med: number;
  /** 0: the path is empty or begins with a set. */
  readonly neighbourAs: number;
  readonly longLivedStale: boolean;
  /** Undefined: no next hop (a route of our own). */
  readonly nextHop: AddressKey | undefined;
  /** What reflectors have added (RFC 4456); undefined: nothing. */
  readonly reflected: { readonly originatorId: number | undefined; readonly clusters: number } | undefined;
  /** Of a route of our own: filters and the decision may ask. */
  readonly facts: OwnRouteFacts | undefined;
  /** In the store; undefined for sets that are derived. */
  key: string | undefined;
  /** Undefined: to be decoded again from `key`. */
  #attributes: PathAttributes | undefined;
  #references = 0;
  #derived: Derivation | undefined;
  #signature: string | undefined;

  constructor(attributes: PathAttributes, facts?: OwnRouteFacts) {
    const path = attributes.asPath ?? [];
    const { originatorId, clusterList } = attributes;
    this.#attributes = attributes;
    this.localPref = attributes.localPref ?? DEFAULT_LOCAL_PREF;
    this.pathLength = asPathLength(path);
    this.originRank = ORIGIN_RANK[attributes.origin ?? "incomplete"];
    this.med = attributes.med ?? 0;
    this.neighbourAs = firstAs(path) ?? 0;
    this.longLivedStale = attributes.communities?.includes(WELL_KNOWN_COMMUNITIES["llgr-stale"]) ?? false;
    this.nextHop = attributes.nextHop === undefined ? undefined : addressKey(attributes.nextHop);
    this.reflected =
      originatorId === undefined && clusterList === undefined
        ? undefined
        : { originatorId, clusters: clusterList?.length ?? 0 };
    this.facts = facts;
  }

  get attributes(): PathAttributes {
    this.#attributes ??= decodeKey(this.key ?? "");
    return this.#attributes;
  }

  /** The attributes are decoded again when somebody asks. Only for a block that came as bytes. */
  forgetAttributes(): void {
    this.#attributes = undefined;
  }

  /** The set that `by` makes of this one: worked out once. `by` is compared by identity. */
  derive(by: object, make: (attributes: PathAttributes) => PathAttributes | undefined): AttributeSet | undefined {
    for (let one = this.#derived; one !== undefined; one = one.next) if (one.by === by) return one.set;
    const made = make(this.attributes);
    const set = made === undefined ? undefined : made === this.attributes ? this : new AttributeSet(made, this.facts);
    this.#derived = { by, set, next: this.#derived };
    return set;
  }

  /** Drops what `derive` remembers, here and in derived sets: all of it, or what has been made by these. */
  forgetDerived(by?: ReadonlySet<object>): void {
    let kept: Derivation | undefined;
    for (let one = this.#derived; one !== undefined; one = one.next) {
      if (by === undefined || by.has(one.by)) continue;
      if (one.set !== this) one.set?.forgetDerived(by);
      kept = { by: one.by, set: one.set, next: kept };
    }
    this.#derived = kept;
  }

  /** How many derivations are remembered, those of derived sets included. */
  get derivations(): number {
    let count = 0;
    for (let one = this.#derived; one !== undefined; one = one.next) {
      count += 1 + (one.set === this ? 0 : (one.set?.derivations ?? 0));
    }
    return count;
  }

  same(other: AttributeSet): boolean {
    return this === other || this.signature === other.signature;
  }

  /** Equal exactly when two sets say the same. */
  get signature(): string {
    this.#signature ??= signatureOf(this.attributes);
    return this.#signature;
  }

  retain(): void {
    this.#references++;
  }

  /** True when nobody holds the set any more. */
  release(): boolean {
    this.#references--;
    return this.#references <= 0;
  }

  get unused(): boolean {
    return this.#references <= 0;
  }
}

const NO_FAMILIES: ReadonlySet<RoutedFamily> = new Set();
const CANONICAL: AttributeContext = { fourOctetAs: true, addPath: NO_FAMILIES, internal: true };

function signatureOf({ nextHop, linkLocalNextHop, ...others }: PathAttributes): string {
  const hops = [nextHop, linkLocalNextHop].map((hop) => (hop === undefined ? "-" : byteString(addressBytes(hop))));
  return `${hops.join("/")}${byteString(encodeAttributes(others, CANONICAL))}`;
}

/** One character per byte: compact, and engines hash and compare it fast. */
function byteString(bytes: Uint8Array): string {
  let out = "";
  // Arguments go on the stack, so long blocks go in portions. `apply` takes bytes as they are; a spread takes four times as long.
  for (let at = 0; at < bytes.length; at += 4096)
    out += String.fromCharCode.apply(undefined, bytes.subarray(at, at + 4096) as unknown as number[]);
  return out;
}

/** The longest attribute list of an UPDATE, and an octet before it. */
const keyBytes = new Uint8Array(65_536);

/** The same bytes mean something else from a two-octet or an external peer, so that comes first. */
function keyOf(list: Uint8Array, { fourOctetAs, internal }: AttributeContext): string {
  keyBytes[0] = (fourOctetAs ? 1 : 0) + (internal ? 2 : 0);
  keyBytes.set(list, 1);
  return byteString(keyBytes.subarray(0, list.length + 1));
}

function decodeKey(key: string): PathAttributes {
  const list = new Uint8Array(key.length - 1);
  for (let at = 0; at < list.length; at++) list[at] = key.charCodeAt(at + 1);
  const kind = key.charCodeAt(0);
  const context = { fourOctetAs: (kind & 1) !== 0, internal: (kind & 2) !== 0, addPath: NO_FAMILIES };
  return decodeRouteAttributes(list, context) ?? {};
}

/** The attribute blocks of all Adj-RIBs-In, by what they looked like on the wire. */
export class AttributeStore {
  readonly #blocks = new Map<string, AttributeSet>();
  /** Came with the UPDATE that is being taken. */
  #new: AttributeSet | undefined;

  get size(): number {
    return this.#blocks.size;
  }

  /** The set for an attribute list as it came, MP_REACH_NLRI without prefixes; undefined when anything is wrong with it. `settle` it when its routes are taken. */
  block(list: Uint8Array, context: AttributeContext): AttributeSet | undefined {
    const key = keyOf(list, context);
    const known = this.#blocks.get(key);
    if (known !== undefined) return known;
    const attributes = decodeRouteAttributes(list, context);
    this.#new = attributes && this.add(key, attributes);
    return this.#new;
  }

  add(key: string, attributes: PathAttributes, facts?: OwnRouteFacts): AttributeSet {
    const set = new AttributeSet(attributes, facts);
    set.key = key;
    this.#blocks.set(key, set);
    return set;
  }

  /** Attributes that did not come as bytes: routes of our own. */
  intern(attributes: PathAttributes, facts: OwnRouteFacts): AttributeSet {
    const { interface: name = "", found = false, gateway = false, yields = "" } = facts;
    const key = `own ${name} ${found} ${gateway} ${yields} ${signatureOf(attributes)}`;
    return this.#blocks.get(key) ?? this.add(key, attributes, facts);
  }

  /** A holder lets go; the last one takes the block with it. */
  release(set: AttributeSet): void {
    if (set.release()) this.drop(set);
  }

  /** The UPDATE is over: forgets a block that nobody came to hold, and of a new one what its bytes say as well. */
  settle(set: AttributeSet): void {
    if (set.unused) this.drop(set);
    else if (set === this.#new) set.forgetAttributes();
    this.#new = undefined;
  }

  drop(set: AttributeSet): void {
    if (set.key !== undefined && this.#blocks.get(set.key) === set) this.#blocks.delete(set.key);
  }

  forgetDerived(by?: ReadonlySet<object>): void {
    if (by?.size === 0) return;
    for (const set of this.#blocks.values()) set.forgetDerived(by);
  }
}
