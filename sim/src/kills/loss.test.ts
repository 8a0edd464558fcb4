import fc from "fast-check";
import { expect, test } from "vitest";
import { LossLedger } from "./loss.ts";

/** One packet every 10 ms; `x` is lost. */
function play(ledger: LossLedger, flow: number, story: string, from = 0): void {
  for (const [index, what] of story.split("").entries()) {
    const sequence = ledger.sent(flow, from + index * 10);
    if (what === ".") ledger.answered(flow, sequence);
  }
}

test.each([
  ["....", { sent: 4, lost: 0, longestGapMs: 0 }, "nothing lost"],
  [".x..", { sent: 4, lost: 1, longestGapMs: 10 }, "one packet: until the next one was sent"],
  [".xxx.xx..", { sent: 9, lost: 5, longestGapMs: 30 }, "the longest row counts"],
  [".xxx", { sent: 4, lost: 3, longestGapMs: 20 }, "a row that has not ended"],
  ["xxxx", { sent: 4, lost: 4, longestGapMs: 30 }, "never an answer"],
])("%s: %o (%s)", (story, wanted) => {
  const ledger = new LossLedger(1);
  const from = ledger.mark();
  play(ledger, 0, story);
  expect(ledger.loss(from, ledger.mark())).toMatchObject({ ...wanted, rate: 100 });
});

test("stretches between marks are counted apart, flows together, the worst first", () => {
  const ledger = new LossLedger(3);
  const start = ledger.mark();
  play(ledger, 0, ".x..");
  play(ledger, 1, "....");
  play(ledger, 2, "..xx.");
  const middle = ledger.mark();
  expect(ledger.isComplete(start, middle)).toBe(false);
  play(ledger, 0, "..", 1000);
  const end = ledger.mark();
  expect(ledger.isComplete(middle, end)).toBe(true);
  expect(ledger.loss(start, middle)).toMatchObject({
    sent: 13,
    lost: 3,
    longestGapMs: 20,
    flows: [
      { flow: 2, lost: 2, gapMs: 20, at: 20 },
      { flow: 0, lost: 1, gapMs: 10, at: 10 },
    ],
  });
  expect(ledger.loss(middle, end)).toMatchObject({ sent: 2, lost: 0, flows: [] });
});

test("an answer counts whenever it comes, twice or not, and one to nothing is nothing", () => {
  const ledger = new LossLedger(1);
  const from = ledger.mark();
  play(ledger, 0, ".xx.");
  ledger.answered(0, 2);
  ledger.answered(0, 2);
  ledger.answered(0, 99);
  ledger.answered(7, 0);
  expect(ledger.loss(from, ledger.mark())).toMatchObject({ sent: 4, lost: 1 });
});

test("lost packets and gaps are those of the story, whatever it is", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[.x]{1,60}$/), (story) => {
      const ledger = new LossLedger(1);
      const from = ledger.mark();
      play(ledger, 0, `${story}.`);
      const rows = story.match(/x+/g) ?? [];
      expect(ledger.loss(from, ledger.mark())).toMatchObject({
        sent: story.length + 1,
        lost: rows.join("").length,
        longestGapMs: Math.max(0, ...rows.map((row) => row.length * 10)),
      });
    }),
  );
});
