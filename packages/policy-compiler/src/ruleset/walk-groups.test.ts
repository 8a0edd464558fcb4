import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SetStore } from "./set-store.ts";
import { SETS } from "./names.ts";
import { renderStaticSets } from "./static-chains.ts";
import { GROUP_BASE, groupHash, isWalkGroup, numberPairs, WalkGroups } from "./walk-groups.ts";
import { WorkloadDispatch } from "./workload-dispatch.ts";

/** So few numbers that pairs meet all the time. */
const crowded = (pair: string, attempt: number): number => 1000 + ((groupHash(pair, attempt) >>> 3) % 48);

const PAIRS = Array.from({ length: 20 }, (_, at) => `pair-${at}`);

describe("numbers of pairs", () => {
  test("are our own, and the same for everybody who ever asks", () => {
    for (const pair of PAIRS) expect(isWalkGroup(groupHash(pair, 0))).toBe(true);
    expect([0, 255, GROUP_BASE - 1, 2 * GROUP_BASE].filter(isWalkGroup)).toEqual([]);
    // Written down: another number here is a flag day for every node that is updated.
    expect(groupHash("walk-out/a walk-in/b", 0)).toBe(1_386_575_294);
  });

  test("pairs that hash alike all move on, in whatever order they came", () => {
    const alike = (pair: string, attempt: number): number =>
      attempt === 0 && pair !== "c" ? 7 : pair.charCodeAt(0) + attempt;
    expect(Object.fromEntries(numberPairs(["a", "b", "c"], alike))).toEqual({ a: 98, b: 100, c: 99 });
  });

  test("depend on the pairs there are, not on what was before, and are never shared", () => {
    const change = fc.record({ add: fc.subarray(PAIRS), remove: fc.subarray(PAIRS) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
        const groups = new WalkGroups(crowded);
        const known = new Set<string>();
        for (const { add, remove } of changes) {
          const before = new Map([...known].map((pair) => [pair, groups.numberOf(pair)]));
          const removed = remove.filter((pair) => known.delete(pair));
          const added = add.filter((pair) => !known.has(pair) && !removed.includes(pair));
          for (const pair of added) known.add(pair);
          const told = groups.change(added, removed);
          const fresh = numberPairs(known, crowded);
          expect(new Map([...known].map((pair) => [pair, groups.numberOf(pair)]))).toEqual(
            new Map([...known].map((pair) => [pair, fresh.get(pair)])),
          );
          expect(new Set(fresh.values()).size).toBe(known.size);
          const changed = [...known].filter((pair) => before.get(pair) !== fresh.get(pair));
          expect(changed.map((pair) => [told.has(pair), told.get(pair)])).toEqual(
            changed.map((pair) => [true, before.get(pair)]),
          );
        }
      }),
    );
  });
});

describe("dispatch of workloads, with numbers that collide", () => {
  const NAMES = ["cali1", "cali2", "cali3", "cali4", "cali5"];
  const walk = fc.integer({ min: 0, max: 3 }).map(String);
  const wanted = fc.option(fc.record({ from: walk, to: walk }), { nil: undefined });
  const step = fc.record({ name: fc.constantFrom(...NAMES), wanted });

  test("every interface's group leads to its walks, and nothing else is left", () => {
    fc.assert(
      fc.property(fc.array(fc.array(step, { maxLength: 4 }), { maxLength: 10 }), (rounds) => {
        const sets = new SetStore();
        for (const declaration of renderStaticSets()) sets.declare(declaration);
        const dispatch = new WorkloadDispatch(sets, crowded);
        const now = new Map<string, { readonly from: string; readonly to: string }>();
        for (const round of rounds) {
          const groupsBefore = dispatch.groups;
          for (const { name, wanted: walks } of round) {
            dispatch.set(name, walks && { ...walks, comment: name });
            if (walks === undefined) now.delete(name);
            else now.set(name, walks);
          }
          const moves = dispatch.settle();
          const keyed = (set: string): Map<string, string | undefined> =>
            new Map(sets.elements(set).map(({ key, chain }) => [key.map(String).join(" "), chain]));
          const [from, to] = [keyed(SETS.fromWorkload), keyed(SETS.toWorkload)];
          expect([...keyed(SETS.workloadGroups).keys()].toSorted()).toEqual(
            Array.from(now.keys(), (name) => `${name} ${dispatch.groups.get(name)}`).toSorted(),
          );
          for (const [name, walks] of now) {
            const group = String(dispatch.groups.get(name));
            expect({ from: from.get(group), to: to.get(group) }).toEqual(walks);
          }
          const pairs = new Set(Array.from(now.values(), (walks) => `${walks.from} ${walks.to}`));
          expect([from.size, to.size]).toEqual([pairs.size, pairs.size]);
          const moved = Array.from(dispatch.groups).filter(
            ([name, group]) => groupsBefore.has(name) && groupsBefore.get(name) !== group,
          );
          expect(moves.map(({ interfaceName }) => interfaceName).toSorted()).toEqual(
            moved.map(([name]) => name).toSorted(),
          );
        }
      }),
    );
  });
});
