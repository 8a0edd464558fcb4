/**
 * Writes netlink messages and attributes into one growing buffer.
 *
 * An attribute's length field has 16 bits: closing a larger one is an error here, because the kernel would otherwise read
 * what was cut off as something else. Attributes are aligned to 4 bytes, the padding is zero (linux/netlink.h).
 */
import { CalicoError } from "@calico-ts/std";
import { LITTLE_ENDIAN_HOST } from "./byte-order.ts";
import { utf8Length, writeUtf8 } from "./text.ts";

export const NLA_F_NESTED = 0x8000;
const NLA_MAX_LENGTH = 0xffff;
const HEADER = 4;

export class MessageWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;

  constructor(capacity = 4096) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#at;
  }

  /** What was written so far; a view that the next write may abandon. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  /** Throws away everything written from a place on. */
  rewind(to: number): void {
    this.#bytes.fill(0, to, this.#at);
    this.#at = to;
  }

  /** `struct nlmsghdr`; the length is filled in by `endMessage`. Returns the place to hand to it. */
  beginMessage(header: { readonly type: number; readonly flags: number; readonly sequence: number }): number {
    const start = this.#at;
    const at = this.#claim(16);
    this.#view.setUint16(at + 4, header.type, LITTLE_ENDIAN_HOST);
    this.#view.setUint16(at + 6, header.flags, LITTLE_ENDIAN_HOST);
    this.#view.setUint32(at + 8, header.sequence, LITTLE_ENDIAN_HOST);
    return start;
  }

  endMessage(start: number): void {
    this.#view.setUint32(start, this.#at - start, LITTLE_ENDIAN_HOST);
  }

  /** Opens an attribute; what is written until `end` is its content. */
  begin(type: number): number {
    const start = this.#at;
    const at = this.#claim(HEADER);
    this.#view.setUint16(at + 2, type, LITTLE_ENDIAN_HOST);
    return start;
  }

  beginNested(type: number): number {
    return this.begin(type | NLA_F_NESTED);
  }

  /** Closes the attribute that `begin` opened. @throws CalicoError BAD_INPUT when it is longer than 65 535 bytes. */
  end(start: number): void {
    const length = this.#at - start;
    if (length > NLA_MAX_LENGTH) {
      throw new CalicoError("BAD_INPUT", `a netlink attribute holds at most ${NLA_MAX_LENGTH} bytes, not ${length}`);
    }
    this.#view.setUint16(start, length, LITTLE_ENDIAN_HOST);
    this.#pad();
  }

  u8(value: number): void {
    const at = this.#claim(1); // may replace the view
    this.#view.setUint8(at, value);
  }
  u16(value: number): void {
    const at = this.#claim(2); // may replace the view
    this.#view.setUint16(at, value, LITTLE_ENDIAN_HOST);
  }
  u32(value: number): void {
    const at = this.#claim(4); // may replace the view
    this.#view.setUint32(at, value, LITTLE_ENDIAN_HOST);
  }
  u64(value: bigint): void {
    const at = this.#claim(8); // may replace the view
    this.#view.setBigUint64(at, value, LITTLE_ENDIAN_HOST);
  }
  be16(value: number): void {
    const at = this.#claim(2); // may replace the view
    this.#view.setUint16(at, value);
  }
  be32(value: number): void {
    const at = this.#claim(4); // may replace the view
    this.#view.setUint32(at, value);
  }
  be64(value: bigint): void {
    const at = this.#claim(8); // may replace the view
    this.#view.setBigUint64(at, value);
  }

  raw(bytes: Uint8Array): void {
    const at = this.#claim(bytes.length); // may replace the buffer
    this.#bytes.set(bytes, at);
  }

  /** The text and a NUL. @throws CalicoError BAD_INPUT for text with a NUL inside: the kernel would cut it. */
  text(value: string): void {
    if (value.includes("\0"))
      throw new CalicoError("BAD_INPUT", `a kernel name cannot contain NUL: ${JSON.stringify(value)}`);
    const length = utf8Length(value);
    const at = this.#claim(length + 1);
    writeUtf8(this.#bytes, at, value);
    this.#bytes[at + length] = 0;
  }

  // The shapes that make up most of a batch, without a closure per attribute.
  attributeBe32(type: number, value: number): void {
    const at = this.#claim(8);
    this.#view.setUint16(at, 8, LITTLE_ENDIAN_HOST);
    this.#view.setUint16(at + 2, type, LITTLE_ENDIAN_HOST);
    this.#view.setUint32(at + 4, value);
  }

  attributeText(type: number, value: string): void {
    const start = this.begin(type);
    this.text(value);
    this.end(start);
  }

  attributeBytes(type: number, value: Uint8Array): void {
    const start = this.begin(type);
    this.raw(value);
    this.end(start);
  }

  #pad(): void {
    const rest = this.#at & 3;
    if (rest !== 0) this.#claim(4 - rest);
  }

  /** Room for that many bytes, which are zero. */
  #claim(length: number): number {
    const at = this.#at;
    const next = at + length;
    if (next > this.#bytes.length) this.#grow(next);
    this.#at = next;
    return at;
  }

  #grow(least: number): void {
    const larger = new Uint8Array(Math.max(least, this.#bytes.length * 2));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}
