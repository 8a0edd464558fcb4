/**
 * Destinations by prefix, one map per prefix length. An IPv4 address is its 32 bits as a signed integer, which engines keep unboxed; an IPv6 address is a
 * bigint. Nothing on the way from an UPDATE to a route makes a `Prefix` object; `prefixOfKey` makes one for people.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";
import { addressBits } from "@calico-ts/net";

export type AddressKey = number | bigint;

export interface PrefixKey {
  readonly address: AddressKey;
  readonly length: number;
}

export const addressKey = ({ family, value }: Prefix | IpAddress): AddressKey =>
  family === 4 ? Number(BigInt.asIntN(32, value)) : value;

export const prefixKey = (prefix: Prefix): PrefixKey => ({ address: addressKey(prefix), length: prefix.length });

export const prefixOfKey = ({ address, length }: PrefixKey): Prefix =>
  typeof address === "number"
    ? { family: 4, value: BigInt(address >>> 0), length }
    : { family: 6, value: address, length };

/** By address, then shorter first; IPv4 in unsigned order. */
export function comparePrefixKeys(a: PrefixKey, b: PrefixKey): number {
  const left = typeof a.address === "number" ? a.address >>> 0 : a.address;
  const right = typeof b.address === "number" ? b.address >>> 0 : b.address;
  if (left !== right) return left < right ? -1 : 1;
  return a.length - b.length;
}

export class PrefixMap<V> {
  readonly #byLength: (Map<AddressKey, V> | undefined)[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(address: AddressKey, length: number): V | undefined {
    return this.#byLength[length]?.get(address);
  }

  set(address: AddressKey, length: number, value: V): void {
    let map = this.#byLength[length];
    if (map === undefined) {
      map = new Map();
      this.#byLength[length] = map;
    }
    const before = map.size;
    map.set(address, value);
    this.#size += map.size - before;
  }

  delete(address: AddressKey, length: number): void {
    if (this.#byLength[length]?.delete(address) === true) this.#size--;
  }

  /** Survives changes made while it runs: what is added may be visited, what is removed is not. */
  *values(): IterableIterator<V> {
    for (let length = 0; length <= 128; length++) {
      const map = this.#byLength[length];
      if (map !== undefined) yield* map.values();
    }
  }

  /** The value of the longest prefix that contains the address and satisfies `wanted`. */
  longestMatch(address: IpAddress, wanted: (value: V) => boolean): V | undefined {
    const bits = addressBits(address.family);
    for (let length = bits; length >= 0; length--) {
      const map = this.#byLength[length];
      if (map === undefined) continue;
      const host = BigInt(bits - length);
      const value = map.get(addressKey({ family: address.family, value: (address.value >> host) << host }));
      if (value !== undefined && wanted(value)) return value;
    }
    return undefined;
  }
}
