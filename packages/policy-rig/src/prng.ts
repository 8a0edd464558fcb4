/**
 * Random numbers that depend on a seed alone (xoshiro128**, by Blackman and Vigna; seeded by splitmix32), so that a case can be
 * made again anywhere. `fork` gives a generator of its own to a part, so that what one part draws does not move another.
 */
export class Prng {
  readonly #state: Uint32Array;

  constructor(seed: string | number) {
    const state = new Uint32Array(4);
    let hash = fnv1a(String(seed));
    for (let at = 0; at < 4; at++) {
      hash = (hash + 0x9e37_79b9) >>> 0;
      let mixed = Math.imul(hash ^ (hash >>> 16), 0x21f0_aaad);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97);
      state[at] = mixed ^ (mixed >>> 15);
    }
    this.#state = state;
  }

  uint32(): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.#state;
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    const c2 = c ^ a;
    const d2 = d ^ b;
    this.#state.set([a ^ d2, b ^ c2, c2 ^ (b << 9), rotate(d2, 11)]);
    return result;
  }

  fork(name: string): Prng {
    return new Prng(`${name} ${this.uint32()} ${this.uint32()}`);
  }

  /** 0 … bound − 1. */
  below(bound: number): number {
    return Math.floor((this.uint32() / 2 ** 32) * bound);
  }

  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  chance(probability: number): boolean {
    return this.uint32() / 2 ** 32 < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  /** Each with the probability. */
  some<T>(list: readonly T[], probability = 0.5): T[] {
    return list.filter(() => this.chance(probability));
  }

  /** At least one. */
  any<T>(list: readonly T[], probability = 0.5): T[] {
    const some = this.some(list, probability);
    return some.length > 0 ? some : [this.pick(list)];
  }

  times<T>(count: number, make: (at: number) => T): T[] {
    return Array.from({ length: count }, (_, at) => make(at));
  }

  shuffled<T>(list: readonly T[]): T[] {
    const items = [...list];
    for (let at = items.length - 1; at > 0; at--) {
      const other = this.below(at + 1);
      const item = items[at] as T;
      items[at] = items[other] as T;
      items[other] = item;
    }
    return items;
  }
}

const rotate = (value: number, by: number): number => (value << by) | (value >>> (32 - by));

function fnv1a(text: string): number {
  let hash = 0x811c_9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x0100_0193) >>> 0;
  return hash;
}
