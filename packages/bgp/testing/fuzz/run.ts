/** Runs laws over random inputs; what breaks one is made small. */
import type { Corpus } from "./inputs.ts";
import type { Law } from "./laws.ts";
import { Random } from "./random.ts";

export interface Finding {
  readonly law: string;
  readonly what: string;
  readonly input: Uint8Array;
  readonly choice: number;
  readonly seed: number;
}

/** What is wrong with an input; undefined: nothing. */
export function judge(law: Law, input: Uint8Array, choice: number): string | undefined {
  try {
    // Decoders may keep views of what they were given; they must not write to it.
    return law.check(input, choice);
  } catch (error) {
    return `threw ${error instanceof Error ? (error.stack ?? error.message).split("\n").slice(0, 2).join(" ") : String(error)}`;
  }
}

/** Leaves out and zeroes bytes while the law stays broken. */
export function shrink(law: Law, input: Uint8Array, choice: number): Uint8Array {
  let small = input;
  for (let width = Math.max(1, small.length >> 1); width > 0; width >>= 1) {
    for (let at = 0; at + width <= small.length; ) {
      const without = Uint8Array.from([...small.subarray(0, at), ...small.subarray(at + width)]);
      const zeroed = small.slice();
      zeroed.fill(0, at, at + width);
      if (judge(law, without, choice) !== undefined) small = without;
      else {
        if (small.subarray(at, at + width).some((byte) => byte !== 0) && judge(law, zeroed, choice) !== undefined)
          small = zeroed;
        at += width;
      }
    }
  }
  return small;
}

export interface Progress {
  readonly law: string;
  readonly inputs: number;
  readonly seconds: number;
}

/** `count` inputs of one law from a seed. Stops at the third finding. */
export function runLaw(law: Law, corpus: Corpus, seed: number, count: number): Finding[] {
  const findings: Finding[] = [];
  const random = new Random(seed ^ hash(law.name));
  for (let at = 0; at < count && findings.length < 3; at++) {
    const input = law.make(random, corpus);
    const choice = random.next();
    const what = judge(law, input, choice);
    if (what === undefined) continue;
    const small = shrink(law, input, choice);
    findings.push({ law: law.name, what: judge(law, small, choice) ?? what, input: small, choice, seed });
  }
  return findings;
}

function hash(text: string): number {
  let out = 0x811c_9dc5;
  for (const char of text) out = Math.imul(out ^ (char.codePointAt(0) ?? 0), 0x0100_0193);
  return out;
}
