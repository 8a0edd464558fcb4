import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MultiMap } from "./multi-map.ts";
import { RefCounts } from "./ref-counts.ts";

const key = fc.constantFrom("a", "b", "c");

describe("reference counts", () => {
  test("say when a key appears and when it is gone, and only then", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), key)), (steps) => {
        const counts = new RefCounts<string>();
        const held: string[] = [];
        for (const [add, one] of steps) {
          const before = held.filter((other) => other === one).length;
          if (add) held.push(one);
          else if (before > 0) held.splice(held.indexOf(one), 1);
          expect(add ? counts.add(one) : counts.release(one)).toBe(before === (add ? 0 : 1));
          expect(counts.count(one)).toBe(held.filter((other) => other === one).length);
        }
        expect(new Set(counts.keys())).toEqual(new Set(held));
      }),
    );
  });
});

describe("a multimap", () => {
  test("is a set of pairs", () => {
    const step = fc.tuple(fc.boolean(), key, fc.integer({ min: 0, max: 2 }));
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const map = new MultiMap<string, number>();
        const pairs = new Set<string>();
        for (const [add, one, value] of steps) {
          const pair = `${one}${value}`;
          const known = pairs.has(pair);
          expect(add ? map.add(one, value) : map.delete(one, value)).toBe(add !== known);
          if (add) pairs.add(pair);
          else pairs.delete(pair);
          expect(map.has(one, value)).toBe(add);
        }
        expect([...map.keys()].flatMap((one) => [...map.get(one)].map((value) => `${one}${value}`)).toSorted()).toEqual(
          [...pairs].toSorted(),
        );
        expect(map.size).toBe(new Set([...pairs].map((pair) => pair[0])).size);
      }),
    );
  });

  test("forgets a key with all its values", () => {
    const map = new MultiMap<string, number>();
    map.add("a", 1);
    map.add("a", 2);
    map.deleteKey("a");
    expect(map.hasKey("a")).toBe(false);
    expect(map.get("a").size).toBe(0);
  });
});
