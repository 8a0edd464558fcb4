/**
 * IP addresses as values: a family and an unsigned integer (32 or 128 bits).
 *
 * Text becomes an `IpAddress` once, where it enters the process; after that nothing compares strings. IPv6 text is
 * parsed and formatted by `ip-address` (RFC 4291 input, RFC 5952 output); IPv4 is strict dotted quad, no leading zeros.
 */
import { CalicoError } from "@calico-ts/std";
import { Address6 } from "ip-address";

export type Family = 4 | 6;

export interface IpAddress {
  readonly family: Family;
  readonly value: bigint;
}

export const addressBits = (family: Family): 32 | 128 => (family === 4 ? 32 : 128);

/** The address, or undefined when the text is not one. Zone ids (`%eth0`) and prefixes are not addresses. */
export function tryParseAddress(text: string): IpAddress | undefined {
  if (!text.includes(":")) {
    const value = parseV4(text);
    return value === undefined ? undefined : { family: 4, value: BigInt(value) };
  }
  if (text.includes("%") || text.includes("/") || !Address6.isValid(text)) return undefined;
  return { family: 6, value: new Address6(text).bigInt() };
}

/** @throws CalicoError BAD_INPUT */
export function parseAddress(text: string): IpAddress {
  const address = tryParseAddress(text);
  if (address === undefined) throw new CalicoError("BAD_INPUT", `not an IP address: "${text}"`);
  return address;
}

export function formatAddress(address: IpAddress): string {
  if (address.family === 6) return Address6.fromBigInt(address.value).correctForm();
  const n = Number(address.value);
  return `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`;
}

/** Network byte order, 4 or 16 bytes. */
export function addressBytes(address: IpAddress): Uint8Array {
  if (address.family === 4) {
    const value = Number(address.value);
    return Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
  }
  const bytes = new Uint8Array(16);
  let rest = address.value;
  for (let at = 15; at >= 0; at--) {
    bytes[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

/** @throws CalicoError BAD_INPUT unless there are 4 or 16 bytes. */
export function addressFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw new CalicoError("BAD_INPUT", `an IP address has 4 or 16 bytes, not ${bytes.length}`);
  }
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return { family: bytes.length === 4 ? 4 : 6, value };
}

export const sameAddress = (a: IpAddress, b: IpAddress): boolean => a.family === b.family && a.value === b.value;

/** fe80::/10 (RFC 4291 section 2.5.6): means something on one link only. */
export const isLinkLocal = ({ family, value }: IpAddress): boolean => family === 6 && value >> 118n === 0x3fan;

/** IPv4 before IPv6, then numerically. */
export function compareAddresses(a: IpAddress, b: IpAddress): number {
  if (a.family !== b.family) return a.family - b.family;
  return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
}

/** By character: rule sets begin with hundreds of thousands of these. */
function parseV4(text: string): number | undefined {
  let value = 0;
  let octet = -1; // none yet
  let dots = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === DOT) {
      if (octet < 0 || ++dots > 3) return undefined;
      value = value * 256 + octet;
      octet = -1;
      continue;
    }
    const digit = code - ZERO;
    // A second digit after 0 is a leading zero, which some read as octal.
    if (digit < 0 || digit > 9 || octet === 0) return undefined;
    octet = octet < 0 ? digit : octet * 10 + digit;
    if (octet > 255) return undefined;
  }
  return octet < 0 || dots !== 3 ? undefined : value * 256 + octet;
}

const DOT = 46;
const ZERO = 48;
