import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseAddress } from "./address.ts";
import type { Prefix } from "./prefix.ts";
import { comparePrefixes, containsPrefix, formatPrefix, parsePrefix, prefixOf } from "./prefix.ts";
import { PrefixTrie } from "./prefix-trie.ts";

const trieOf = (...prefixes: string[]): PrefixTrie<string> => {
  const trie = new PrefixTrie<string>();
  for (const text of prefixes) trie.set(parsePrefix(text), text);
  return trie;
};

describe("longest match", () => {
  const trie = trieOf("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "fd00::/8", "fd00::1/128");

  test.each([
    ["192.0.2.1", "0.0.0.0/0"],
    ["10.2.0.1", "10.0.0.0/8"],
    ["10.1.0.1", "10.1.0.0/16"],
    ["10.1.1.1", "10.1.1.1/32"],
    ["fd00::1", "fd00::1/128"],
    ["fd00::2", "fd00::/8"],
    ["fe80::1", undefined],
  ])("%s: %s", (address, expected) => {
    expect(trie.longestMatch(parseAddress(address))?.[1]).toBe(expected);
  });
});

test("an empty trie answers everything with nothing", () => {
  const trie = new PrefixTrie<string>();
  expect(trie.longestMatch(parseAddress("10.0.0.1"))).toBeUndefined();
  expect(trie.get(parsePrefix("0.0.0.0/0"))).toBeUndefined();
  expect(trie.delete(parsePrefix("0.0.0.0/0"))).toBe(false);
  expect([...trie.covered(parsePrefix("0.0.0.0/0"))]).toEqual([]);
});

test("undefined is a value like any other", () => {
  const trie = new PrefixTrie<undefined>();
  trie.set(parsePrefix("10.0.0.0/8"), undefined);
  expect(trie.has(parsePrefix("10.0.0.0/8"))).toBe(true);
  expect(trie.has(parsePrefix("10.0.0.0/9"))).toBe(false);
  expect(trie.size).toBe(1);
});

/** Prefixes crowded into a few bits, so that they nest and meet; and some far away. */
const prefix: fc.Arbitrary<Prefix> = fc.oneof(
  fc
    .tuple(fc.integer({ min: 0, max: 31 }), fc.integer({ min: 25, max: 32 }))
    .map(([low, length]) => prefixOf({ family: 4, value: 0x0a_00_00_00n + BigInt(low) * 8n }, length)),
  fc
    .tuple(fc.bigInt({ min: 0n, max: 0xff_ff_ff_ffn }), fc.integer({ min: 0, max: 32 }))
    .map(([value, length]) => prefixOf({ family: 4, value }, length)),
  fc
    .tuple(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 0, max: 128 }))
    .map(([value, length]) => prefixOf({ family: 6, value }, length)),
);

describe("against a plain list", () => {
  const step = fc.record({ add: fc.boolean(), prefix, value: fc.integer() });

  test("any sequence of changes", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.array(prefix, { maxLength: 10 }), (steps, probes) => {
        const trie = new PrefixTrie<number>();
        const list = new Map<string, readonly [Prefix, number]>();
        for (const { add, prefix: changed, value } of steps) {
          const key = formatPrefix(changed);
          const known = add ? undefined : list.has(key);
          if (add) list.set(key, [changed, value]);
          else list.delete(key);
          expect(add ? trie.set(changed, value) : trie.delete(changed)).toBe(known);
        }
        const sorted = [...list.values()].toSorted(([a], [b]) => comparePrefixes(a, b));
        expect([...trie]).toEqual(sorted);
        expect(trie.size).toBe(list.size);
        for (const probe of [...probes, ...steps.map((one) => one.prefix)]) {
          expect(trie.get(probe)).toBe(list.get(formatPrefix(probe))?.[1]);
          const around = sorted.filter(([entry]) => containsPrefix(entry, probe));
          expect(trie.covering(probe)).toEqual(around.toSorted(([a], [b]) => a.length - b.length));
          expect([...trie.covered(probe)]).toEqual(sorted.filter(([entry]) => containsPrefix(probe, entry)));
        }
      }),
    );
  });
});
