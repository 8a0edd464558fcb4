/**
 * Numbers for pairs of walks: what a link's group stands for (docs/decisions/0013-dispatch-by-link-group.md).
 *
 * A number is a hash of the pair, so nobody has to remember it: a restarted agent, and every agent after it, finds on the links the
 * numbers it would have given. Pairs that hash alike all take their next hash, so that what a pair gets depends on which pairs
 * there are and not on which came first; none of them keeps the number they met on.
 */
import { sha256Hex } from "@calico-ts/std";

/** Ours lie in [base, 2 × base): far from 0, the default, and from what people write into /etc/iproute2/group. Positive in an `int`, as the kernel keeps it. */
export const GROUP_BASE = 0x4000_0000;

export const isWalkGroup = (group: number): boolean => group >= GROUP_BASE && group < 2 * GROUP_BASE;

/** The attempt-th choice of a pair. */
export type GroupHash = (pair: string, attempt: number) => number;

export const groupHash: GroupHash = (pair, attempt) =>
  GROUP_BASE + (Number.parseInt(sha256Hex(attempt === 0 ? pair : `${pair} ${attempt}`).slice(0, 8), 16) >>> 2);

/** A number of its own for each; the order of `pairs` does not matter. */
export function numberPairs(pairs: Iterable<string>, hash: GroupHash): Map<string, number> {
  const numbers = new Map<string, number>();
  const taken = new Set<number>();
  let rest = [...pairs];
  for (let attempt = 0; rest.length > 0; attempt++) {
    const choices = Map.groupBy(rest, (pair) => hash(pair, attempt));
    rest = [];
    for (const [number, [first, ...others]] of choices) {
      if (first === undefined) continue;
      if (others.length === 0 && !taken.has(number)) numbers.set(first, number);
      else rest.push(first, ...others);
    }
    for (const number of choices.keys()) taken.add(number);
  }
  return numbers;
}

/** The pairs in use, numbered. Costs what changes, unless two pairs hash alike: then it costs all pairs. */
export class WalkGroups {
  readonly #hash: GroupHash;
  /** Pair → its first choice. */
  readonly #pairs = new Map<string, number>();
  readonly #byChoice = new Map<number, number>();
  /** First choices that several pairs have. */
  #crowded = 0;
  #numbers = new Map<string, number>();

  constructor(hash: GroupHash) {
    this.#hash = hash;
  }

  numberOf(pair: string): number {
    return this.#numbers.get(pair) ?? 0;
  }

  /** Returns the pairs whose number is not what it was, the new and the gone included, with what they had before. */
  change(added: Iterable<string>, removed: Iterable<string>): ReadonlyMap<string, number | undefined> {
    const before = this.#numbers;
    const crowdedBefore = this.#crowded > 0;
    const touched = new Map<string, number | undefined>();
    for (const pair of removed) {
      touched.set(pair, before.get(pair));
      this.#count(this.#pairs.get(pair) ?? 0, -1);
      this.#pairs.delete(pair);
    }
    for (const pair of added) {
      touched.set(pair, before.get(pair));
      const choice = this.#hash(pair, 0);
      this.#pairs.set(pair, choice);
      this.#count(choice, 1);
    }
    if (crowdedBefore || this.#crowded > 0) {
      this.#numbers = numberPairs(this.#pairs.keys(), this.#hash);
      for (const [pair, number] of this.#numbers) if (before.get(pair) !== number) touched.set(pair, before.get(pair));
    } else {
      for (const pair of touched.keys()) {
        const choice = this.#pairs.get(pair);
        if (choice === undefined) this.#numbers.delete(pair);
        else this.#numbers.set(pair, choice);
      }
    }
    return touched;
  }

  #count(choice: number, by: 1 | -1): void {
    const count = (this.#byChoice.get(choice) ?? 0) + by;
    if (count === 0) this.#byChoice.delete(choice);
    else this.#byChoice.set(choice, count);
    if (by === 1 && count === 2) this.#crowded++;
    if (by === -1 && count === 1) this.#crowded--;
  }
}
