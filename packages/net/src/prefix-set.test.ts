import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseAddress } from "./address.ts";
import type { Prefix } from "./prefix.ts";
import { containsAddress, formatPrefix, overlaps, parsePrefix, prefixOf } from "./prefix.ts";
import { coversPrefixes, intersectPrefixes, mergePrefixes, prefixesOfRange, subtractPrefixes } from "./prefix-set.ts";

const parse = (texts: readonly string[]): Prefix[] => texts.map((text) => parsePrefix(text));
const format = (prefixes: readonly Prefix[]): string[] => prefixes.map(formatPrefix);

describe("merge", () => {
  test.each<[string[], string[]]>([
    [[], []],
    [["10.0.0.0/25", "10.0.0.128/25"], ["10.0.0.0/24"]],
    [["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"], ["10.0.0.0/8"]],
    [
      ["10.0.1.0/24", "10.0.2.0/24"],
      ["10.0.1.0/24", "10.0.2.0/24"],
    ],
    [["128.0.0.0/1", "0.0.0.0/1"], ["0.0.0.0/0"]],
    [
      ["255.255.255.255", "::/0", "0.0.0.0"],
      ["0.0.0.0/32", "255.255.255.255/32", "::/0"],
    ],
    [["8000::/1", "::/1"], ["::/0"]],
  ])("%j", (input, expected) => {
    expect(format(mergePrefixes(parse(input)))).toEqual(expected);
  });
});

describe("subtract", () => {
  test.each<[string[], string[], string[]]>([
    [["10.0.0.0/24"], [], ["10.0.0.0/24"]],
    [["10.0.0.0/24"], ["10.0.0.0/8"], []],
    [["10.0.0.0/30"], ["10.0.0.1"], ["10.0.0.0/32", "10.0.0.2/31"]],
    [["0.0.0.0/0"], ["0.0.0.0/1"], ["128.0.0.0/1"]],
    [["0.0.0.0/0"], ["0.0.0.0/0"], []],
    [["::/0"], ["0.0.0.0/0"], ["::/0"]],
    [
      ["10.0.0.0/24", "fd00::/127"],
      ["fd00::1", "10.0.0.0/25"],
      ["10.0.0.128/25", "fd00::/128"],
    ],
  ])("%j without %j", (from, remove, expected) => {
    expect(format(subtractPrefixes(parse(from), parse(remove)))).toEqual(expected);
  });

  test("one address out of everything leaves one prefix per bit", () => {
    expect(subtractPrefixes(parse(["0.0.0.0/0"]), parse(["10.1.2.3"]))).toHaveLength(32);
    expect(subtractPrefixes(parse(["::/0"]), parse(["fd00::7"]))).toHaveLength(128);
  });
});

test("covers", () => {
  expect(coversPrefixes(parse(["10.0.0.0/25", "10.0.0.128/25"]), parse(["10.0.0.0/24"]))).toBe(true);
  expect(coversPrefixes(parse(["10.0.0.0/25"]), parse(["10.0.0.0/24"]))).toBe(false);
  expect(coversPrefixes([], [])).toBe(true);
});

describe("ranges", () => {
  test.each<[string, string, string[]]>([
    ["10.0.0.0", "10.0.0.255", ["10.0.0.0/24"]],
    ["10.0.0.1", "10.0.0.4", ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]],
    ["0.0.0.0", "255.255.255.255", ["0.0.0.0/0"]],
    ["::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ["::/0"]],
    ["10.0.0.2", "10.0.0.1", []],
    ["10.0.0.1", "fd00::1", []],
  ])("%s to %s", (first, last, expected) => {
    expect(format(prefixesOfRange({ first: parseAddress(first), last: parseAddress(last) }))).toEqual(expected);
  });
});

/** 64 addresses at the very end of each family, so that sets meet and the last address is among them. */
const SIZE = 64n;
const ends = { 4: (1n << 32n) - SIZE, 6: (1n << 128n) - SIZE } as const;
const prefix = fc
  .tuple(
    fc.constantFrom(4 as const, 6 as const),
    fc.bigInt({ min: 0n, max: SIZE - 1n }),
    fc.integer({ min: 0, max: 6 }),
  )
  .map(([family, low, hostBits]) =>
    prefixOf({ family, value: ends[family] + low }, (family === 4 ? 32 : 128) - hostBits),
  );
const prefixes = fc.array(prefix, { maxLength: 8 });
const universe = ([4, 6] as const).flatMap((family) =>
  Array.from({ length: Number(SIZE) }, (_, low) => ({ family, value: ends[family] + BigInt(low) })),
);
const members = (list: readonly Prefix[]): boolean[] =>
  universe.map((address) => list.some((one) => containsAddress(one, address)));

function expectShortest(list: readonly Prefix[]): void {
  expect(mergePrefixes(list)).toEqual(list);
  expect(list.some((one, index) => list.slice(index + 1).some((other) => overlaps(one, other)))).toBe(false);
}

test("address by address", () => {
  fc.assert(
    fc.property(prefixes, prefixes, (a, b) => {
      const inA = members(a);
      const inB = members(b);
      const union = mergePrefixes([...a, ...b]);
      const difference = subtractPrefixes(a, b);
      const both = intersectPrefixes(a, b);
      expect(members(union)).toEqual(inA.map((is, index) => is || inB[index]));
      expect(members(difference)).toEqual(inA.map((is, index) => is && !inB[index]));
      expect(members(both)).toEqual(inA.map((is, index) => is && inB[index]));
      for (const list of [union, difference, both]) expectShortest(list);
    }),
  );
});
