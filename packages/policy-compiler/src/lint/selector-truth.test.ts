import { parseSelector } from "@calico-ts/selector";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { alwaysHolds, neverHolds } from "./selector-truth.ts";

const PLAIN = { allIsTrue: true };

describe("told from the form", () => {
  test.each([
    ["!all()", "never"],
    ["a in {}", "never"],
    ["a == 'x' && a == 'y'", "never"],
    ["a in {'x', 'y'} && a not in {'y', 'x'}", "never"],
    ["a == 'xy' && a starts with 'y'", "never"],
    ["has(a) && !has(a)", "never"],
    ["a contains 'x' && !has(a)", "never"],
    ["b == 'z' && (a == 'x' && a != 'x')", "never"],
    ["(a == 'x' && a == 'y') || b in {}", "never"],
    ["all()", "always"],
    ["a not in {}", "always"],
    ["has(a) || !has(a)", "always"],
    ["!(a == 'x' && !has(a))", "always"],
    ["a == 'x' && b == 'y'", "perhaps"],
    ["a contains 'x' && a contains 'y'", "perhaps"],
    ["a != 'x' && a != 'y'", "perhaps"],
    ["global()", "perhaps"],
  ])("%s: %s", (text, expected) => {
    const { ast } = parseSelector(text);
    expect(neverHolds(ast, PLAIN) ? "never" : alwaysHolds(ast, PLAIN) ? "always" : "perhaps").toBe(expected);
  });

  test("where all() means something else it is not always true", () => {
    const { ast } = parseSelector("!all()");
    expect(neverHolds(ast, { allIsTrue: false })).toBe(false);
  });
});

const value = fc.constantFrom("x", "y", "xy", "");
const leaf = fc.oneof(
  fc.constantFrom("all()", "has(a)", "has(b)"),
  fc
    .tuple(fc.constantFrom("a", "b"), fc.constantFrom("==", "!=", "contains", "starts with", "ends with"), value)
    .map(([label, operator, text]) => `${label} ${operator} '${text}'`),
  fc
    .tuple(fc.constantFrom("a", "b"), fc.constantFrom("in", "not in"), fc.uniqueArray(value, { maxLength: 3 }))
    .map(([label, operator, texts]) => `${label} ${operator} {${texts.map((text) => `'${text}'`).join(", ")}}`),
);
const { tree } = fc.letrec<{ tree: string }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    leaf,
    tie("tree").map((inner) => `!(${inner})`),
    fc.tuple(tie("tree"), fc.constantFrom("&&", "||"), tie("tree")).map(([a, op, b]) => `(${a}) ${op} (${b})`),
  ),
}));

test("what is said never to hold never does, what is said always to hold always does", () => {
  const labels = fc.dictionary(fc.constantFrom("a", "b"), fc.constantFrom("x", "y", "xy", "", "z"));
  fc.assert(
    fc.property(tree, fc.array(labels, { minLength: 5, maxLength: 20 }), (text, worlds) => {
      const selector = parseSelector(text);
      const { ast } = selector;
      const results = worlds.map((world) => selector.matches(new Map(Object.entries(world))));
      expect(neverHolds(ast, PLAIN) && results.includes(true)).toBe(false);
      expect(alwaysHolds(ast, PLAIN) && results.includes(false)).toBe(false);
    }),
    { numRuns: 500 },
  );
});
