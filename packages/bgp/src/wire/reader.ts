/**
 * Big-endian reads over a byte range that yield zero past the end and remember it, so decoders carry no length checks of their own:
 * they read their fields and whoever called them asks `overran` and `remaining` once.
 *
 * `bytes` returns views: valid as long as the message they came from is.
 */
export class WireReader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #at: number;
  #overran = false;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = Math.min(end, bytes.length);
  }

  get remaining(): number {
    return this.#end - this.#at;
  }

  /** True once a read asked for more than there was. */
  get overran(): boolean {
    return this.#overran;
  }

  /** Everything was read and nothing beyond. */
  get exhausted(): boolean {
    return this.#at === this.#end && !this.#overran;
  }

  u8(): number {
    return this.#take(1) ? this.#byte(this.#at - 1) : 0;
  }

  u16(): number {
    if (!this.#take(2)) return 0;
    const at = this.#at;
    return (this.#byte(at - 2) << 8) | this.#byte(at - 1);
  }

  u32(): number {
    if (!this.#take(4)) return 0;
    const at = this.#at;
    return (
      this.#byte(at - 4) * 0x1000000 + ((this.#byte(at - 3) << 16) | (this.#byte(at - 2) << 8) | this.#byte(at - 1))
    );
  }

  /** A view of the next `count` bytes; empty when there are fewer. */
  bytes(count: number): Uint8Array {
    return this.#take(count) ? this.#bytes.subarray(this.#at - count, this.#at) : EMPTY;
  }

  rest(): Uint8Array {
    return this.bytes(this.remaining);
  }

  /** A reader of the next `count` bytes; when there are fewer, an empty one, and this one has overrun. */
  sub(count: number): WireReader {
    return this.#take(count) ? new WireReader(this.#bytes, this.#at - count, this.#at) : new WireReader(EMPTY);
  }

  #byte(at: number): number {
    return this.#bytes[at] ?? 0;
  }

  #take(count: number): boolean {
    if (this.#at + count > this.#end) {
      this.#overran = true;
      this.#at = this.#end;
      return false;
    }
    this.#at += count;
    return true;
  }
}

const EMPTY = new Uint8Array(0);
