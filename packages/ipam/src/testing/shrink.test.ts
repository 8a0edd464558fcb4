import { expect, test } from "vitest";
import { shrinkChoices } from "./shrink.ts";

test("what does not matter is left out or tamed", async () => {
  const fails = async (choices: readonly number[]): Promise<boolean> =>
    choices.includes(7) && choices.indexOf(3) > choices.indexOf(7);
  expect(await shrinkChoices([1, 5, 7, 2, 0, 9, 3, 3, 1, 8], fails)).toEqual([7, 3]);
});

test("zeros at the end are what comes anyway", async () => {
  expect(await shrinkChoices([0, 2, 0, 0], async (choices) => choices[1] === 2)).toEqual([0, 2]);
});
