/** The laws of `npm run fuzz -- bgp`, briefly: what was found before, every known defect on a session, and some thousand inputs. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readCorpus } from "../testing/fuzz/inputs.ts";
import { type Law, LAWS } from "../testing/fuzz/laws.ts";
import { Random } from "../testing/fuzz/random.ts";
import { judge, runLaw, shrink } from "../testing/fuzz/run.ts";
import { DEFECTS, SESSION_LAW, STAGES } from "../testing/fuzz/session-law.ts";
import { fromHex } from "./support/goldens.ts";

interface Regression {
  readonly law: string;
  readonly choice: number;
  readonly hex: string;
  readonly was: string;
}

const laws = [...LAWS, SESSION_LAW];
const corpus = readCorpus();
const regressions = JSON.parse(readFileSync(join(import.meta.dirname, "regressions.json"), "utf8")) as Regression[];

test.each(regressions)("$law: $was", ({ law, choice, hex }) => {
  const found = laws.find(({ name }) => name === law);
  expect(found && judge(found, fromHex(hex), choice)).toBeUndefined();
  expect(found).toBeDefined();
});

test.each(laws)("$name: $about", (law) => {
  expect(runLaw(law, corpus, 1, law === SESSION_LAW ? 300 : 2000)).toEqual([]);
});

describe.each(DEFECTS)("$name is answered with $code", ({ name, stages, make }) => {
  test.each(stages)("%s", (stage) => {
    const random = new Random(7);
    for (let round = 0; round < 10; round++) {
      const at = DEFECTS.findIndex((one) => one.name === name) + 1;
      const input = Uint8Array.of(STAGES.indexOf(stage), at, ...make(random));
      expect(judge(SESSION_LAW, input, round)).toBeUndefined();
    }
  });
});

test("a defect that is answered otherwise is noticed, and so is an exception", () => {
  // A good KEEPALIVE in place of a broken marker is not answered at all.
  const good = Uint8Array.of(2, 1, ...Array.from({ length: 16 }, () => 255), 0, 19, 4);
  expect(judge(SESSION_LAW, good, 0)).toBe("answered with no NOTIFICATION, due is 1/1");
  const throws: Law = {
    name: "throws",
    about: "",
    share: 0,
    make: () => Uint8Array.of(),
    check: () => {
      throw new RangeError("oh");
    },
  };
  expect(judge(throws, Uint8Array.of(1), 0)).toMatch(/^threw RangeError: oh/);
});

test("what breaks a law is made small", () => {
  const law: Law = {
    name: "no seven after a five",
    about: "",
    share: 0,
    make: (random) => random.bytes(100),
    check: (input) =>
      input.indexOf(7, input.indexOf(5)) > input.indexOf(5) && input.includes(5) ? "seven" : undefined,
  };
  const input = new Uint8Array(100).fill(9);
  input.set([5, 1, 2, 7], 40);
  expect([...shrink(law, input, 0)]).toEqual([5, 7]);
});
