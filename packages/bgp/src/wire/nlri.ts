/**
 * Prefixes on the wire (RFC 4271 section 4.3, RFC 4760 section 5, path identifiers of RFC 7911): a length octet and as few bytes of the
 * address as hold it. Trailing bits beyond the length are to be ignored by receivers and are zero when we write.
 */
import type { Prefix } from "@calico-ts/net";
import { prefixOf } from "@calico-ts/net";
import type { RoutedFamily } from "./family.ts";
import { ipFamily } from "./family.ts";
import type { WireReader } from "./reader.ts";
import type { WireWriter } from "./writer.ts";

export interface Nlri {
  readonly prefix: Prefix;
  /** Present exactly when additional paths are in use for the family in this direction. */
  readonly pathId?: number;
}

export interface NlriFormat {
  readonly family: RoutedFamily;
  readonly addPath: boolean;
}

/** Every prefix of the field, or undefined when the field is malformed (a length beyond the family, or a prefix cut short). */
export function decodeNlri(reader: WireReader, format: NlriFormat): Nlri[] | undefined {
  const family = ipFamily(format.family);
  const bits = family === 4 ? 32 : 128;
  const out: Nlri[] = [];
  while (reader.remaining > 0) {
    const pathId = format.addPath ? reader.u32() : undefined;
    const length = reader.u8();
    if (length > bits) return undefined;
    const bytes = reader.bytes((length + 7) >> 3);
    if (reader.overran) return undefined;
    const prefix = family === 4 ? prefix4(bytes, length) : prefix6(bytes, length);
    out.push(pathId === undefined ? { prefix } : { prefix, pathId });
  }
  return out;
}

export function encodeNlri(writer: WireWriter, nlri: Nlri, format: NlriFormat): void {
  if (format.addPath) writer.u32(nlri.pathId ?? 0);
  const { prefix } = nlri;
  writer.u8(prefix.length);
  const size = (prefix.length + 7) >> 3;
  const bits = prefix.family === 4 ? 32 : 128;
  for (let at = 0; at < size; at++) writer.u8(Number((prefix.value >> BigInt(bits - 8 - 8 * at)) & 0xffn));
}

export const nlriSize = (nlri: Nlri, addPath: boolean): number => (addPath ? 5 : 1) + ((nlri.prefix.length + 7) >> 3);

function prefix4(bytes: Uint8Array, length: number): Prefix {
  const [a = 0, b = 0, c = 0, d = 0] = bytes;
  const value = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
  const mask = length === 0 ? 0 : (-1 << (32 - length)) >>> 0;
  return { family: 4, value: BigInt((value & mask) >>> 0), length };
}

function prefix6(bytes: Uint8Array, length: number): Prefix {
  let value = 0n;
  for (let at = 0; at < 16; at++) value = (value << 8n) | BigInt(bytes[at] ?? 0);
  return prefixOf({ family: 6, value }, length);
}
