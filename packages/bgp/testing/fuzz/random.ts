/** Random numbers that a seed decides (xorshift32), and what inputs are made with. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 0x9e37_79b9;
    for (let warm = 0; warm < 4; warm++) this.next();
  }

  /** 32 bits. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  /** 0 to count − 1. */
  below(count: number): number {
    return this.next() % count;
  }

  /** True once in so many. */
  once(inSoMany: number): boolean {
    return this.below(inSoMany) === 0;
  }

  pick<T>(list: readonly T[]): T {
    const one = list[this.below(list.length)];
    if (one === undefined) throw new RangeError("nothing to pick from");
    return one;
  }

  bytes(count: number): Uint8Array {
    const out = new Uint8Array(count);
    for (let at = 0; at < count; at++) out[at] = this.next();
    return out;
  }

  /** Short mostly. */
  size(limit: number): number {
    return this.below(1 + this.below(limit + 1));
  }
}

const INTERESTING = [0, 1, 2, 3, 4, 8, 16, 24, 32, 33, 64, 127, 128, 129, 200, 254, 255];

/** One to three small damages. */
export function mutate(random: Random, input: Uint8Array, corpus: readonly Uint8Array[]): Uint8Array {
  let bytes: Uint8Array = input.slice();
  for (let rounds = 1 + random.below(3); rounds > 0; rounds--) bytes = damage(random, bytes, corpus);
  return bytes;
}

function damage(random: Random, bytes: Uint8Array, corpus: readonly Uint8Array[]): Uint8Array {
  const at = random.below(bytes.length + 1);
  switch (random.below(9)) {
    case 0:
      if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = random.pick(INTERESTING);
      return bytes;
    case 2:
      if (at < bytes.length) bytes[at] = random.next();
      return bytes;
    case 3:
      return bytes.slice(0, at);
    case 4:
      return join(bytes.subarray(0, at), random.bytes(random.size(8)), bytes.subarray(at));
    case 5:
      return join(bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + 1 + random.size(8))));
    case 6: {
      // A part of itself once more: attributes that come twice.
      const from = random.below(bytes.length + 1);
      return join(bytes.subarray(0, at), bytes.subarray(from, from + random.size(40)), bytes.subarray(at));
    }
    case 7: {
      const other = random.pick(corpus);
      const from = random.below(other.length + 1);
      return join(bytes.subarray(0, at), other.subarray(from, from + random.size(60)), bytes.subarray(at));
    }
    default:
      if (at + 1 < bytes.length) {
        bytes[at] = random.once(2) ? 0 : 255;
        bytes[at + 1] = random.pick(INTERESTING);
      }
      return bytes;
  }
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
