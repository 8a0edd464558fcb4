/**
 * The user data nft keeps with its objects, so that `nft list` shows our comments and knows the byte order of keys:
 * entries of type (1 byte), length (1 byte), content. Numbers from libnftnl's udata.h.
 */
import { CalicoError } from "@calico-ts/std";
import { textFrom, utf8Length, writeUtf8 } from "../codec/text.ts";
import type { NftDataType } from "./values.ts";

/** With its NUL; nft itself writes no longer ones and shows none. */
export const MAX_COMMENT_BYTES = 128;

const COMMENT = 0;
const SET_KEY_BYTE_ORDER = 0;
const SET_DATA_BYTE_ORDER = 1;

/** The comment of a rule or of a set element. @throws CalicoError BAD_INPUT when it does not fit. */
export function commentData(comment: string): Uint8Array {
  const length = utf8Length(comment) + 1;
  if (length > MAX_COMMENT_BYTES) {
    throw new CalicoError(
      "BAD_INPUT",
      `a comment has at most ${MAX_COMMENT_BYTES - 1} bytes: "${comment}" has ${length - 1}`,
    );
  }
  if (comment.includes("\0")) throw new CalicoError("BAD_INPUT", "a comment cannot contain NUL");
  const out = new Uint8Array(2 + length);
  out[0] = COMMENT;
  out[1] = length;
  writeUtf8(out, 2, comment);
  return out;
}

export function readComment(data: Uint8Array): string | undefined {
  for (const [type, content] of entries(data)) if (type === COMMENT) return textFrom(content);
  return undefined;
}

const HOST_ORDER = 1;
const NETWORK_ORDER = 2;

const byteOrder = (type: NftDataType): number =>
  type === "mark" || type === "devgroup" || type === "ifname" || type === "integer" ? HOST_ORDER : NETWORK_ORDER;

/**
 * `integer` is no type nft has a word for: sets over it are declared by an expression that yields one. Ours are choices by
 * number, so that is what `nft list` shows: `typeof numgen random mod 65536`. The modulus is for show, look-ups have their own.
 */
const SET_KEY_TYPEOF = 3;
const SET_DATA_TYPEOF = 4;
const EXPRESSION_VERDICT = 1;
const EXPRESSION_NUMGEN = 23;
const NUMGEN_RANDOM = 1;

const word = (type: number, value: number): number[] => [type, 4, ...new Uint8Array(Uint32Array.of(value).buffer)];
const group = (type: number, content: readonly number[]): number[] => [type, content.length, ...content];

/** There are few combinations and many sets. */
const SET_USER_DATA = new Map<string, Uint8Array>();

export function setUserData(keyTypes: readonly NftDataType[], mapTo: NftDataType | "verdict" | undefined): Uint8Array {
  const key = `${keyTypes.join(" ")} : ${mapTo ?? ""}`;
  let data = SET_USER_DATA.get(key);
  if (data === undefined) SET_USER_DATA.set(key, (data = makeSetUserData(keyTypes, mapTo)));
  return data;
}

function makeSetUserData(keyTypes: readonly NftDataType[], mapTo: NftDataType | "verdict" | undefined): Uint8Array {
  const [only, ...more] = keyTypes;
  const lone = more.length === 0 ? only : undefined;
  const out = word(SET_KEY_BYTE_ORDER, lone === undefined ? NETWORK_ORDER : byteOrder(lone));
  if (mapTo !== undefined && mapTo !== "verdict") out.push(...word(SET_DATA_BYTE_ORDER, byteOrder(mapTo)));
  if (lone === "integer") {
    const numgen = [...word(0, NUMGEN_RANDOM), ...word(1, 65_536), ...word(2, 0)];
    out.push(...group(SET_KEY_TYPEOF, [...word(0, EXPRESSION_NUMGEN), ...group(1, numgen)]));
    // nft believes a map's key only together with its data.
    if (mapTo === "verdict") out.push(...group(SET_DATA_TYPEOF, [...word(0, EXPRESSION_VERDICT), ...group(1, [])]));
  }
  return Uint8Array.from(out);
}

/** Stops at the first entry that does not fit: other programs put what they like there. */
function* entries(data: Uint8Array): IterableIterator<readonly [number, Uint8Array]> {
  for (let at = 0; at + 2 <= data.length; ) {
    const length = data[at + 1] ?? 0;
    if (at + 2 + length > data.length) return;
    yield [data[at] ?? 0, data.subarray(at + 2, at + 2 + length)];
    at += 2 + length;
  }
}
