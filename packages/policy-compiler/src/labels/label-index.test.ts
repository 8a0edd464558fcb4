import { parseSelector } from "@calico-ts/selector";
import fc from "fast-check";
import { expect, test } from "vitest";
import { LabelIndex } from "./label-index.ts";

class Matches {
  readonly now = new Set<string>();
  readonly errors: string[] = [];
  readonly index = new LabelIndex({
    matchStarted: (selector, item) => {
      if (this.now.has(`${selector} ${item}`)) this.errors.push(`started twice: ${selector} ${item}`);
      this.now.add(`${selector} ${item}`);
    },
    matchStopped: (selector, item) => {
      if (!this.now.delete(`${selector} ${item}`)) this.errors.push(`stopped, never started: ${selector} ${item}`);
    },
  });
}

const item = (labels: Readonly<Record<string, string>>, ...parents: readonly string[]) => ({
  labels: new Map(Object.entries(labels)),
  parents,
});

test("an item's own label beats an inherited one, an earlier parent beats a later", () => {
  const { index, now } = new Matches();
  index.setParentLabels(
    "p1",
    new Map([
      ["a", "p1"],
      ["b", "p1"],
    ]),
  );
  index.setParentLabels(
    "p2",
    new Map([
      ["b", "p2"],
      ["c", "p2"],
    ]),
  );
  index.setItem("i", item({ a: "own" }, "p1", "p2"));
  for (const text of ["a == 'own'", "a == 'p1'", "b == 'p1'", "b == 'p2'", "c == 'p2'"]) {
    index.setSelector(text, parseSelector(text));
  }
  expect([...now].toSorted()).toEqual(["a == 'own' i", "b == 'p1' i", "c == 'p2' i"]);
  index.setParentLabels("p1", undefined);
  expect([...now].toSorted()).toEqual(["a == 'own' i", "b == 'p2' i", "c == 'p2' i"]);
});

test("a selector under the same id may change", () => {
  const { index, now, errors } = new Matches();
  index.setItem("i", item({ a: "1" }));
  index.setSelector("s", parseSelector("a == '1'"));
  index.setSelector("s", parseSelector("a == '2'"));
  expect([...now]).toEqual([]);
  index.setSelector("s", parseSelector("has(a)"));
  index.deleteSelector("s");
  index.setItem("j", item({ a: "1" }));
  expect([...now]).toEqual([]);
  expect(errors).toEqual([]);
});

const LABELS = ["a", "b"] as const;
const labels = fc.dictionary(fc.constantFrom(...LABELS), fc.constantFrom("1", "2"), { maxKeys: 2 });
const selectorText = fc.constantFrom(
  "a == '1'",
  "a != '1'",
  "has(b)",
  "!has(b)",
  "a in {'1', '2'} && b == '2'",
  "a == '1' || b == '1'",
  "a not in {'1'}",
  "all()",
  "!(a == '1' && has(b))",
  "a in {}",
);
const step = fc.oneof(
  fc.record({ do: fc.constant("item"), id: fc.constantFrom("i", "j"), labels, parents: fc.subarray(["p", "q"]) }),
  fc.record({ do: fc.constant("delete-item"), id: fc.constantFrom("i", "j") }),
  fc.record({
    do: fc.constant("parent"),
    id: fc.constantFrom("p", "q"),
    labels: fc.option(labels, { nil: undefined }),
  }),
  fc.record({ do: fc.constant("selector"), id: fc.constantFrom("s", "t"), text: selectorText }),
  fc.record({ do: fc.constant("delete-selector"), id: fc.constantFrom("s", "t") }),
);

interface Step {
  readonly do: string;
  readonly id: string;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly parents?: readonly string[];
  readonly text?: string;
}

test("after any history the matches are those of comparing everything with everything", () => {
  fc.assert(
    fc.property(fc.array<Step>(step, { maxLength: 30 }), (history) => {
      const { index, now, errors } = new Matches();
      const items = new Map<string, Step>();
      const parents = new Map<string, Readonly<Record<string, string>>>();
      const selectors = new Map<string, string>();
      for (const { do: verb, id, labels: own, parents: of = [], text = "" } of history) {
        if (verb === "item") {
          items.set(id, { do: verb, id, labels: own, parents: of });
          index.setItem(id, item(own ?? {}, ...of));
        } else if (verb === "delete-item") {
          items.delete(id);
          index.deleteItem(id);
        } else if (verb === "parent") {
          if (own === undefined) parents.delete(id);
          else parents.set(id, own);
          index.setParentLabels(id, own && new Map(Object.entries(own)));
        } else if (verb === "selector") {
          selectors.set(id, text);
          index.setSelector(id, parseSelector(text));
        } else {
          selectors.delete(id);
          index.deleteSelector(id);
        }
      }
      const wanted = [...selectors].flatMap(([id, text]) =>
        [...items.values()]
          .filter(({ labels: own, parents: of = [] }) => {
            const inherited = of.toReversed().map((parent) => parents.get(parent) ?? {});
            return parseSelector(text).matches(new Map(Object.entries(Object.assign({}, ...inherited, own))));
          })
          .map((found) => `${id} ${found.id}`),
      );
      expect([...now].toSorted()).toEqual(wanted.toSorted());
      expect(errors).toEqual([]);
    }),
    { numRuns: 500 },
  );
});
