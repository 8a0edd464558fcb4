import { sha1 } from "@noble/hashes/legacy.js";
import { sha224, sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

/** Lower-case hex SHA-1 of UTF-8 text: interface names are `cali` + its first 11 characters over `ns.pod`. */
export const sha1Hex = (text: string): string => bytesToHex(sha1(utf8ToBytes(text)));

export const sha256Hex = (text: string): string => bytesToHex(sha256(utf8ToBytes(text)));

/** Unpadded base64url SHA-224 of UTF-8 text: the form of selector unique ids (inventory §10.1). */
export const sha224Base64Url = (text: string): string => base64Url(sha224(utf8ToBytes(text)));

/** Unpadded base64url SHA-256 of UTF-8 text: shortens over-long names. */
export const sha256Base64Url = (text: string): string => base64Url(sha256(utf8ToBytes(text)));

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

function base64Url(bytes: Uint8Array): string {
  let out = "";
  for (let at = 0; at < bytes.length; at += 3) {
    const word = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    const used = Math.min(3, bytes.length - at) + 1;
    for (let digit = 0; digit < used; digit++) out += ALPHABET[(word >> (18 - 6 * digit)) & 63];
  }
  return out;
}
