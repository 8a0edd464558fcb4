import { expect, test } from "vitest";
import { durationSeconds } from "./duration.ts";

test.each([
  ["90s", 90],
  ["1m30s", 90],
  ["2h", 7200],
  ["1500ms", 2],
  ["1400ms", 1],
  ["0", 0],
  ["-5s", undefined],
  ["five", undefined],
  ["", undefined],
])("%s is %s seconds", (text, seconds) => {
  expect(durationSeconds(text)).toBe(seconds);
});
