/** Does a route's prefix match? `in`: inside the given one, within the length bounds. Works on numbers, without making `Prefix` objects. */
import type { Prefix } from "@calico-ts/net";
import type { PrefixKey } from "../rib/prefix-map.ts";

export interface PrefixMatch {
  readonly operator: "equal" | "not-equal" | "in" | "not-in";
  readonly prefix: Prefix;
  /** Bounds on the length of the route's prefix, inclusive; absent: from the given prefix's length to that of a host. */
  readonly minLength?: number;
  readonly maxLength?: number;
}

export function matchesPrefix(match: PrefixMatch, key: PrefixKey): boolean {
  const { operator, prefix } = match;
  const sameFamily = (typeof key.address === "number") === (prefix.family === 4);
  // Neither "in" nor "not in" says anything about routes of the other family.
  if (!sameFamily) return false;
  const value = typeof key.address === "number" ? BigInt(key.address >>> 0) : key.address;
  if (operator === "equal" || operator === "not-equal") {
    return (value === prefix.value && key.length === prefix.length) === (operator === "equal");
  }
  const host = BigInt((prefix.family === 4 ? 32 : 128) - prefix.length);
  const inside =
    key.length >= Math.max(prefix.length, match.minLength ?? 0) &&
    key.length <= (match.maxLength ?? 128) &&
    value >> host === prefix.value >> host;
  return inside === (operator === "in");
}
