import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DeltaTracker } from "./delta-tracker.ts";

const id = fc.constantFrom("a", "b", "c", "d");
const value = fc.integer({ min: 0, max: 2 });
type Change = (tracker: DeltaTracker<number>) => void;
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.tuple(id, value).map(
    ([key, next]): Change =>
      (tracker) =>
        tracker.want(key, next),
  ),
  id.map(
    (key): Change =>
      (tracker) =>
        tracker.unwant(key),
  ),
  fc.array(fc.tuple(id, value)).map(
    (entries): Change =>
      (tracker) =>
        tracker.wantAll(entries),
  ),
  fc.array(fc.tuple(id, value)).map(
    (entries): Change =>
      (tracker) =>
        tracker.observed(entries),
  ),
  fc.tuple(id, fc.option(value, { nil: undefined })).map(
    ([key, next]): Change =>
      (tracker) =>
        tracker.observedOne(key, next),
  ),
);

function expectGap(tracker: DeltaTracker<number>): void {
  const desired = new Map(tracker.desiredEntries());
  const observed = new Map(tracker.observedEntries());
  const toWrite = [...desired].filter(([key, wanted]) => observed.get(key) !== wanted);
  const toRemove = [...observed.keys()].filter((key) => !desired.has(key));
  expect(new Map(tracker.toWrite())).toEqual(new Map(toWrite));
  expect(new Set(tracker.toRemove())).toEqual(new Set(toRemove));
  expect(tracker.inSync).toBe(toWrite.length + toRemove.length === 0);
}

describe("the difference", () => {
  test("is exactly what separates the two sets, after any changes", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
        const tracker = new DeltaTracker<number>();
        for (const apply of changes) {
          apply(tracker);
          expectGap(tracker);
        }
      }),
    );
  });

  test("closes when what it lists is done, from any state", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
        const tracker = new DeltaTracker<number>();
        for (const apply of changes) apply(tracker);
        for (const [key, wanted] of [...tracker.toWrite()]) tracker.wrote(key, wanted);
        for (const key of [...tracker.toRemove()]) tracker.removed(key);
        expect(tracker.inSync).toBe(true);
        expect(new Map(tracker.observedEntries())).toEqual(new Map(tracker.desiredEntries()));
      }),
    );
  });
});

test("values are compared by the function given", () => {
  const tracker = new DeltaTracker<{ readonly mtu: number }>((a, b) => a.mtu === b.mtu);
  tracker.want("eth0", { mtu: 1500 });
  tracker.observedOne("eth0", { mtu: 1500 });
  expect(tracker.inSync).toBe(true);
  expect(tracker.desired("eth0")).toEqual({ mtu: 1500 });
  expect(tracker.seen("eth1")).toBeUndefined();
});
