/** IP prefixes (CIDRs) as values: base address with host bits zero, and a length. */
import { CalicoError } from "@calico-ts/std";
import type { Family, IpAddress } from "./address.ts";
import { addressBits, formatAddress, tryParseAddress } from "./address.ts";

export interface Prefix {
  readonly family: Family;
  /** The network address: host bits are zero. */
  readonly value: bigint;
  readonly length: number;
}

/** What to do with host bits: 10.0.0.7/8 in a pool is a typo (reject); in a rule upstream masks it (mask). */
export type HostBits = "reject" | "mask";

/** A prefix, or undefined when the text is none. A bare address is a prefix of full length. */
export function tryParsePrefix(text: string, hostBits: HostBits = "reject"): Prefix | undefined {
  const slash = text.indexOf("/");
  const address = tryParseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const length = slash < 0 ? addressBits(address.family) : parseLength(text, slash + 1);
  if (length === undefined || length > addressBits(address.family)) return undefined;
  const prefix = prefixOf(address, length);
  return hostBits === "reject" && prefix.value !== address.value ? undefined : prefix;
}

/** One to three digits without a leading zero, from there to the end. */
function parseLength(text: string, from: number): number | undefined {
  const digits = text.length - from;
  if (digits < 1 || digits > 3 || (digits > 1 && text[from] === "0")) return undefined;
  let length = 0;
  for (let at = from; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) return undefined;
    length = length * 10 + digit;
  }
  return length;
}

/** @throws CalicoError BAD_INPUT */
export function parsePrefix(text: string, hostBits: HostBits = "reject"): Prefix {
  const prefix = tryParsePrefix(text, hostBits);
  if (prefix !== undefined) return prefix;
  const masked = tryParsePrefix(text, "mask");
  const why = masked === undefined ? "not an IP prefix" : `host bits are set (did you mean ${formatPrefix(masked)}?)`;
  throw new CalicoError("BAD_INPUT", `"${text}": ${why}`);
}

export const formatPrefix = (prefix: Prefix): string => `${formatAddress(prefix)}/${prefix.length}`;

/** The prefix of that length around an address. */
export function prefixOf(address: IpAddress, length: number): Prefix {
  if (length === addressBits(address.family)) return { family: address.family, value: address.value, length };
  const hostBits = BigInt(addressBits(address.family) - length);
  return { family: address.family, value: (address.value >> hostBits) << hostBits, length };
}

/** The /32 or /128 of an address. */
export const hostPrefix = (address: IpAddress): Prefix => prefixOf(address, addressBits(address.family));

export const prefixAddress = (prefix: Prefix): IpAddress => ({ family: prefix.family, value: prefix.value });

export function containsAddress(prefix: Prefix, address: IpAddress): boolean {
  if (prefix.family !== address.family) return false;
  const hostBits = BigInt(addressBits(prefix.family) - prefix.length);
  return address.value >> hostBits === prefix.value >> hostBits;
}

/** True when every address of `inner` is in `outer`. */
export function containsPrefix(outer: Prefix, inner: Prefix): boolean {
  return inner.length >= outer.length && containsAddress(outer, prefixAddress(inner));
}

export const overlaps = (a: Prefix, b: Prefix): boolean => containsPrefix(a, b) || containsPrefix(b, a);

/** Number of addresses: 2^(bits − length). */
export const prefixSize = (prefix: Prefix): bigint => 1n << BigInt(addressBits(prefix.family) - prefix.length);

/** The address at an offset from the base; the caller keeps the offset below `prefixSize`. */
export const addressAt = (prefix: Prefix, offset: bigint | number): IpAddress => ({
  family: prefix.family,
  value: prefix.value + BigInt(offset),
});

export const lastAddress = (prefix: Prefix): IpAddress => addressAt(prefix, prefixSize(prefix) - 1n);

/** IPv4 first, then by base, then shorter first. */
export function comparePrefixes(a: Prefix, b: Prefix): number {
  if (a.family !== b.family) return a.family - b.family;
  if (a.value !== b.value) return a.value < b.value ? -1 : 1;
  return a.length - b.length;
}

export const samePrefix = (a: Prefix, b: Prefix): boolean =>
  a.family === b.family && a.value === b.value && a.length === b.length;
