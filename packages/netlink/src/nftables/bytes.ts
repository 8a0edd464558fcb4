/**
 * Keys and data of nf_tables as bytes: fixed lengths per data type, 4-byte padding inside concatenations.
 *
 * Packet fields are in network order; marks and other integers the kernel keeps in its own registers are in host
 * order (`nft_reg_store*` in the kernel copies them as they lie in memory).
 */
import type { Family, IpAddress, PortRange, Prefix } from "@calico-ts/net";
import { addressBytes, lastAddress, prefixAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { NftDataType, NftElement, NftSet, NftVerdict } from "./values.ts";

/** Bytes of one key or value of a type. */
export const DATA_TYPE_LENGTH: Readonly<Record<NftDataType, number>> = {
  ipv4_addr: 4,
  ipv6_addr: 16,
  ether_addr: 6,
  inet_proto: 1,
  inet_service: 2,
  mark: 4,
  devgroup: 4,
  ifname: 16,
  integer: 4,
};

export const padTo4 = (length: number): number => (length + 3) & ~3;

/** Length of a set's key: a lone field is not padded, fields of a concatenation are. */
export function keyLength(keyTypes: readonly NftDataType[]): number {
  const [only, ...more] = keyTypes;
  if (only === undefined) throw new CalicoError("BAD_INPUT", "a set needs at least one key type");
  if (more.length === 0) return DATA_TYPE_LENGTH[only];
  return keyTypes.reduce((sum, type) => sum + padTo4(DATA_TYPE_LENGTH[type]), 0);
}

/** Joins the fields of a concatenated key, each padded with zeros to a multiple of 4. */
export function concatKey(...fields: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(fields.reduce((sum, field) => sum + padTo4(field.length), 0));
  let at = 0;
  for (const field of fields) {
    out.set(field, at);
    at += padTo4(field.length);
  }
  return out;
}

/** `ipv4_addr` or `ipv6_addr`. */
export const addressKey = (address: IpAddress): Uint8Array => addressBytes(address);

/** `inet_service`, network order. */
export const portKey = (port: number): Uint8Array => Uint8Array.of((port >>> 8) & 255, port & 255);

/** `inet_proto`. */
export const protocolKey = (protocol: number): Uint8Array => Uint8Array.of(protocol & 255);

/** `mark`, `devgroup` and `integer`, host order. */
export const hostUint32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

/** `ifname`, padded with NUL to 16 bytes. @throws CalicoError BAD_INPUT for names the kernel would not take. */
export function interfaceKey(name: string): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set(interfaceBytes(name, 15));
  return bytes;
}

/** The characters of an interface name without padding. */
export function interfaceBytes(name: string, max: number): Uint8Array {
  if (name.length === 0 || name.length > max || !/^[\x21-\x7e]+$/.test(name)) {
    throw new CalicoError("BAD_INPUT", `not an interface name: "${name}" (1 to ${max} printable characters)`);
  }
  return Uint8Array.from(name, (character) => character.charCodeAt(0));
}

export const addressType = (family: Family): "ipv4_addr" | "ipv6_addr" => (family === 4 ? "ipv4_addr" : "ipv6_addr");

/** An element for a set of addresses without intervals. */
export const addressElement = (address: IpAddress): NftElement => ({ key: addressBytes(address) });

/** An element for an interval set: the whole prefix. */
export const prefixElement = (prefix: Prefix): NftElement => ({
  key: addressBytes(prefixAddress(prefix)),
  keyEnd: addressBytes(lastAddress(prefix)),
});

export const portRangeElement = (range: PortRange): NftElement => ({
  key: portKey(range.first),
  keyEnd: portKey(range.last),
});

/** An element of a verdict map. */
export const verdictElement = (key: Uint8Array, value: NftVerdict, comment?: string): NftElement =>
  comment === undefined ? { key, value } : { key, value, comment };

export const isConcatenation = (set: NftSet): boolean => set.keyTypes.length > 1;

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, at) => byte === b[at]);

/** Lexical order, which is numeric order for network-order integers of one length. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const gap = (a[at] ?? 0) - (b[at] ?? 0);
    if (gap !== 0) return gap;
  }
  return a.length - b.length;
}

export function hex(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += byte.toString(16).padStart(2, "0");
  return out;
}
