/**
 * Reads netlink messages and attributes. Every length is checked against what is really there before it is used: a
 * truncated or hostile buffer ends in CalicoError BAD_INPUT, never in a read past the end or an endless loop.
 */
import { CalicoError } from "@calico-ts/std";
import { LITTLE_ENDIAN_HOST } from "./byte-order.ts";

const NLA_TYPE_MASK = 0x3fff;

export interface AttributeView {
  /** Without the flag bits. */
  readonly type: number;
  readonly data: Uint8Array;
}

export interface MessageView {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly portId: number;
  /** After the header. */
  readonly body: Uint8Array;
}

const malformed = (what: string): CalicoError => new CalicoError("BAD_INPUT", `malformed netlink data: ${what}`);

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** @throws CalicoError BAD_INPUT */
export function readAttributes(bytes: Uint8Array): AttributeView[] {
  const out: AttributeView[] = [];
  const view = viewOf(bytes);
  let at = 0;
  // Up to three trailing bytes are alignment of what came before.
  while (bytes.length - at >= 4) {
    const length = view.getUint16(at, LITTLE_ENDIAN_HOST);
    if (length < 4 || at + length > bytes.length) {
      throw malformed(`an attribute of ${length} bytes where ${bytes.length - at} are left`);
    }
    const type = view.getUint16(at + 2, LITTLE_ENDIAN_HOST) & NLA_TYPE_MASK;
    out.push({ type, data: bytes.subarray(at + 4, at + length) });
    at += (length + 3) & ~3;
  }
  return out;
}

/** The messages of one datagram. @throws CalicoError BAD_INPUT */
export function readMessages(bytes: Uint8Array): MessageView[] {
  const out: MessageView[] = [];
  const view = viewOf(bytes);
  let at = 0;
  while (bytes.length - at >= 16) {
    const length = view.getUint32(at, LITTLE_ENDIAN_HOST);
    if (length < 16 || at + length > bytes.length) {
      throw malformed(`a message of ${length} bytes where ${bytes.length - at} are left`);
    }
    out.push({
      type: view.getUint16(at + 4, LITTLE_ENDIAN_HOST),
      flags: view.getUint16(at + 6, LITTLE_ENDIAN_HOST),
      sequence: view.getUint32(at + 8, LITTLE_ENDIAN_HOST),
      portId: view.getUint32(at + 12, LITTLE_ENDIAN_HOST),
      body: bytes.subarray(at + 16, at + length),
    });
    at += (length + 3) & ~3;
  }
  return out;
}

/** The bytes, if there are at least that many. @throws CalicoError BAD_INPUT */
export function need(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length < length) throw malformed(`${bytes.length} bytes where ${length} are needed`);
  return bytes;
}
