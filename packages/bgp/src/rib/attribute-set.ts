/**
 * Path attributes shared between routes. An UPDATE's attribute block is looked up by its bytes before it is decoded, so each distinct block is decoded
 * once, and routes that came with the same block point to the same object. What the decision process compares is worked out once per block.
 *
 * Blocks live as long as a route of an Adj-RIB-In holds them (`retain`, `release`); sets derived from them by filters and exports hang on the set they
 * were derived from and go with it.
 */
import { addressKey } from "./prefix-map.ts";
import type { AddressKey } from "./prefix-map.ts";
import { asPathLength, firstAs } from "../wire/attributes/as-path.ts";
import { encodeAttributes } from "../wire/attributes/decode.ts";
import type { AttributeContext } from "../wire/attributes/table.ts";
import type { PathAttributes } from "../wire/attributes/values.ts";
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
  readonly attributes: PathAttributes;
  readonly localPref: number;
  readonly pathLength: number;
  readonly originRank: number;
  readonly med: number;
  /** 0: the path is empty or begins with a set. */
  readonly neighbourAs: number;
  readonly longLivedStale: boolean;
  /** Undefined: no next hop (a route of our own). */
  readonly nextHop: AddressKey | undefined;
  /** Of a route of our own: filters and the decision may ask. */
  readonly facts: OwnRouteFacts | undefined;
  /** In the store; undefined for sets that are derived. */
  key: string | undefined;
  #references = 0;
  #derived: Derivation | undefined;
  #signature: string | undefined;

  constructor(attributes: PathAttributes, facts?: OwnRouteFacts) {
    const path = attributes.asPath ?? [];
    this.attributes = attributes;
    this.localPref = attributes.localPref ?? DEFAULT_LOCAL_PREF;
    this.pathLength = asPathLength(path);
    this.originRank = ORIGIN_RANK[attributes.origin ?? "incomplete"];
    this.med = attributes.med ?? 0;
    this.neighbourAs = firstAs(path) ?? 0;
    this.longLivedStale = attributes.communities?.includes(WELL_KNOWN_COMMUNITIES["llgr-stale"]) ?? false;
    this.nextHop = attributes.nextHop === undefined ? undefined : addressKey(attributes.nextHop);
    this.facts = facts;
  }

  /** The set that `by` makes of this one: worked out once. `by` is compared by identity. */
  derive(by: object, make: (attributes: PathAttributes) => PathAttributes | undefined): AttributeSet | undefined {
    for (let one = this.#derived; one !== undefined; one = one.next) if (one.by === by) return one.set;
    const made = make(this.attributes);
    const set = made === undefined ? undefined : made === this.attributes ? this : new AttributeSet(made, this.facts);
    this.#derived = { by, set, next: this.#derived };
    return set;
  }

  /** Drops what `derive` remembers, here and in derived sets. */
  forgetDerived(): void {
    this.#derived = undefined;
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

const CANONICAL: AttributeContext = { fourOctetAs: true, addPath: new Set(), internal: true };

function signatureOf({ nextHop, linkLocalNextHop, ...others }: PathAttributes): string {
  const hops = [nextHop, linkLocalNextHop].map((hop) => (hop === undefined ? "-" : byteString(addressBytes(hop))));
  return `${hops.join("/")}${byteString(encodeAttributes(others, CANONICAL))}`;
}

/** One character per byte: a compact key that engines hash and compare fast. */
export function byteString(bytes: Uint8Array, start = 0, end = bytes.length): string {
  let out = "";
  // Arguments go on the stack, so long blocks go in portions.
  for (let at = start; at < end; at += 4096) {
    out += String.fromCharCode(...bytes.subarray(at, Math.min(at + 4096, end)));
  }
  return out;
}

/** The attribute blocks of all Adj-RIBs-In, by what they looked like on the wire. */
export class AttributeStore {
  readonly #blocks = new Map<string, AttributeSet>();

  get size(): number {
    return this.#blocks.size;
  }

  find(key: string): AttributeSet | undefined {
    return this.#blocks.get(key);
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
    return this.find(key) ?? this.add(key, attributes, facts);
  }

  /** A holder lets go; the last one takes the block with it. */
  release(set: AttributeSet): void {
    if (set.release()) this.drop(set);
  }

  /** Forgets a block that nobody came to hold. */
  settle(set: AttributeSet): void {
    if (set.unused) this.drop(set);
  }

  drop(set: AttributeSet): void {
    if (set.key !== undefined && this.#blocks.get(set.key) === set) this.#blocks.delete(set.key);
  }

  forgetDerived(): void {
    for (const set of this.#blocks.values()) set.forgetDerived();
  }
}
