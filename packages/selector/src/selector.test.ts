import { CalicoError, hasCode } from "@calico-ts/std";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SelectorNode } from "./ast.ts";
import { negate, setValues } from "./ast.ts";
import type { LabelRestriction } from "./restrictions.ts";
import { hashedId, parseSelector, Selector } from "./selector.ts";

const labels = (record: Record<string, string> = {}): Map<string, string> => new Map(Object.entries(record));
const matches = (text: string, record?: Record<string, string>): boolean => parseSelector(text).matches(labels(record));
const canonical = (text: string): string => parseSelector(text).canonical;

function failure(text: string): CalicoError {
  try {
    parseSelector(text);
  } catch (error) {
    if (error instanceof CalicoError) return error;
    throw error;
  }
  throw new Error(`parsed: ${text}`);
}

describe("what a selector accepts", () => {
  test.each([
    ["", "all()"],
    ["  \t ", "all()"],
    ["all()", "all()"],
    ["all( )", "all()"],
    ["all(\t )", "all()"],
    ["global()", "global()"],
    ["global(  )", "global()"],
    ["has(a)", "has(a)"],
    ["has( a/b.c-d_e )", "has(a/b.c-d_e)"],
    ["a=='b'", 'a == "b"'],
    [`a == 'x"y'`, `a == 'x"y'`],
    [`a == "it's"`, `a == "it's"`],
    ["a == ''", 'a == ""'],
    ["a!='b'", 'a != "b"'],
    ["a contains 'b'", 'a contains "b"'],
    ["a starts with 'b'", 'a starts with "b"'],
    ["a startswith'b'", 'a starts with "b"'],
    ["a starts \t with 'b'", 'a starts with "b"'],
    ["a ends with 'b'", 'a ends with "b"'],
    ["a endswith 'b'", 'a ends with "b"'],
    ["a in {'c','b','b'}", 'a in {"b", "c"}'],
    ["a in{'b'}", 'a in {"b"}'],
    ["a in {'\u{1F600}','\uFFEE','a'}", 'a in {"a", "\uFFEE", "\u{1F600}"}'],
    [`a in {"'",'"'}`, `a in {'"', "'"}`],
    ["a in {}", "a in {}"],
    ["a in {'b',}", 'a in {"b"}'],
    ["a not in {'b'}", 'a not in {"b"}'],
    ["a notin{'b'}", 'a not in {"b"}'],
    ["!has(a)", "!has(a)"],
    ["!!has(a)", "has(a)"],
    ["!!!has(a)", "!has(a)"],
    ["! ! a == 'b'", 'a == "b"'],
    ["!a == 'b'", '!a == "b"'],
    ["!(!has(a))", "has(a)"],
    ["has(a) && has(b) && has(c)", "(has(a) && has(b) && has(c))"],
    ["has(a)&&(has(b)&&has(c))", "(has(a) && (has(b) && has(c)))"],
    ["has(a) || has(b) && has(c)", "(has(a) || (has(b) && has(c)))"],
    ["((has(a)))", "has(a)"],
    ["in == 'x'", 'in == "x"'],
    ["not in {'x'} || has(in)", '(not in {"x"} || has(in))'],
    ["has == 'x'", 'has == "x"'],
    ["all == 'x'", 'all == "x"'],
    ["contains contains 'x'", 'contains contains "x"'],
    ["in in {'in'}", 'in in {"in"}'],
    ["not not in {'x'}", 'not not in {"x"}'],
    ["starts starts with 'x'", 'starts starts with "x"'],
    [`${"a".repeat(512)} == 'x'`, `${"a".repeat(512)} == "x"`],
  ])("%s", (text, expected) => {
    expect(canonical(text)).toBe(expected);
  });
});

describe("what a selector refuses", () => {
  test.each([
    ["a", 2, "operator"],
    ["a ==", 5, "quoted string"],
    ["a == b", 6, "quoted string"],
    ["a = 'b'", 3, "operator"],
    ["a == 'b", 6, "closing"],
    ["has(a", 6, '")"'],
    ["has (a)", 5, "operator"],
    ["hasx(a)", 5, "operator"],
    ["has()", 5, "label"],
    ["all (", 5, "operator"],
    ["all(a)", 5, '")"'],
    ["all()all()", 6, '"&&"'],
    ["has(a) &&", 10, "label"],
    ["has(a) & has(b)", 8, "label"],
    ["&& has(a)", 1, "label"],
    ["(has(a)", 8, '")"'],
    ["has(a))", 7, '"&&"'],
    ["a in 'b'", 6, '"{"'],
    ["a in {'b' 'c'}", 11, '","'],
    ["a in {,}", 7, "quoted string"],
    ["a in {'b',,}", 11, "quoted string"],
    ["a inx {'b'}", 3, "operator"],
    ["a not {'b'}", 3, "operator"],
    ["a starts 'b'", 3, "operator"],
    ["a == 'b'\n", 9, "label"],
    ["a ==\n'b'", 5, "label"],
    ["a\u00A0== 'b'", 2, "operator"],
    ["ü == 'b'", 1, "label"],
    ["!", 2, "label"],
    [`${"a".repeat(513)} == 'x'`, 1, "512"],
  ])("%s", (text, column, problem) => {
    const error = failure(text);
    expect(error.code).toBe("BAD_INPUT");
    expect(error.detail["column"]).toBe(column);
    expect(error.message).toContain(problem);
  });

  test("points at the column", () => {
    const [head, shown, caret] = failure("a == 'b' && c = 'd'").message.split("\n");
    expect(head).toContain("(column 15)");
    expect(shown).toBe("  a == 'b' && c = 'd'");
    expect(caret).toBe(`  ${" ".repeat(14)}^`);
  });

  test("cuts a long selector around the problem", () => {
    const error = failure(`${"has(a) && ".repeat(500)}?`);
    const [, shown = "", caret = ""] = error.message.split("\n");
    expect(shown.length).toBeLessThan(110);
    expect(shown[caret.indexOf("^")]).toBe("?");
  });

  test("nesting beyond reason", () => {
    expect(canonical(`${"(".repeat(500)}has(a)${")".repeat(500)}`)).toBe("has(a)");
    expect(failure(`${"(".repeat(100_000)}has(a)${")".repeat(100_000)}`).code).toBe("BAD_INPUT");
    expect(canonical(`${"!".repeat(100_001)}has(a)`)).toBe("!has(a)");
  });
});

describe("what matches", () => {
  test.each<[string, Record<string, string>, boolean]>([
    ["", {}, true],
    ["all()", {}, true],
    ["global()", { a: "b" }, true],
    ["!all()", {}, false],
    ["has(a)", { a: "" }, true],
    ["has(a)", {}, false],
    ["a == 'b'", { a: "b" }, true],
    ["a == 'b'", { a: "B" }, false],
    ["a == ''", {}, false],
    ["a != 'b'", {}, true],
    ["a != 'b'", { a: "c" }, true],
    ["a != 'b'", { a: "b" }, false],
    ["a in {'b', 'c'}", { a: "c" }, true],
    ["a in {'b', 'c'}", {}, false],
    ["a in {}", { a: "b" }, false],
    ["a not in {'b', 'c'}", {}, true],
    ["a not in {'b', 'c'}", { a: "b" }, false],
    ["a not in {}", { a: "b" }, true],
    ["a contains 'el'", { a: "hello" }, true],
    ["a contains ''", { a: "x" }, true],
    ["a contains ''", {}, false],
    ["a starts with 'he'", { a: "hello" }, true],
    ["a starts with 'lo'", { a: "hello" }, false],
    ["a ends with 'lo'", { a: "hello" }, true],
    ["a ends with ''", {}, false],
    ["!a == 'b'", {}, true],
    ["has(a) && !has(b) || c == 'd'", { b: "", c: "d" }, true],
    ["has(a) && (!has(b) || c == 'd')", { b: "", c: "d" }, false],
    ["constructor == 'x' || has(__proto__)", {}, false],
  ])("%s on %o: %s", (text, record, expected) => {
    expect(matches(text, record)).toBe(expected);
  });
});

describe("unique ids", () => {
  test("depend on meaning, not on spelling", () => {
    expect(parseSelector("a=='b'&&has( c )").uniqueId).toBe(parseSelector(`a == "b" && has(c)`).uniqueId);
    expect(parseSelector("a in {'y','x'}").uniqueId).toBe(parseSelector("a in {'x','y','x'}").uniqueId);
    expect(parseSelector("has(a)").uniqueId).not.toBe(parseSelector("has(b)").uniqueId);
  });

  test("are SHA-224 of the kind and the canonical text", () => {
    // printf 's:all()' | openssl dgst -sha224 -binary | basenc --base64url
    expect(parseSelector("").uniqueId).toBe("s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug");
    // From upstream's own tests of its parser.
    expect(parseSelector("! (has( b)||! has(a ))").uniqueId).toBe("s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q");
    expect(parseSelector(`! (a == "b"&&! c != "d")`).uniqueId).toBe("s:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w");
    expect(hashedId("n", "http")).toMatch(/^n:[\w-]{38}$/);
  });
});

const label = fc.constantFrom("a", "b", "in", "not", "has", "x/y.z");
const value = fc.oneof(
  fc.constantFrom("a", "b", "", "ab", "it's", "\uFFEE", "\u{1F600}"),
  fc.stringMatching(/^[a-c]{0,3}$/),
);
const leaf: fc.Arbitrary<SelectorNode> = fc.oneof(
  fc.constant<SelectorNode>({ kind: "all" }),
  fc.constant<SelectorNode>({ kind: "global" }),
  label.map<SelectorNode>((name) => ({ kind: "has", label: name })),
  fc
    .tuple(fc.constantFrom("==" as const, "!=", "contains", "starts with", "ends with"), label, value)
    .map<SelectorNode>(([kind, name, text]) => ({ kind, label: name, value: text })),
  fc
    .tuple(fc.constantFrom("in" as const, "not in"), label, fc.uniqueArray(value, { maxLength: 4 }))
    .map<SelectorNode>(([kind, name, values]) => ({ kind, label: name, values: setValues(values) })),
);
const { tree } = fc.letrec<{ tree: SelectorNode }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    leaf,
    tie("tree").map((operand) => negate(operand)),
    fc
      .tuple(fc.constantFrom("and" as const, "or"), fc.array(tie("tree"), { minLength: 2, maxLength: 3 }))
      .map<SelectorNode>(([kind, operands]) => ({ kind, operands })),
  ),
}));
const labelSet = fc.dictionary(label, value).map((record) => new Map(Object.entries(record)));

function fulfils({ present, absent, values }: LabelRestriction, actual: string | undefined): boolean {
  if (actual === undefined) return !present && values === undefined;
  return !absent && (values === undefined || values.has(actual));
}

function outcome(candidate: string): boolean {
  try {
    return typeof parseSelector(candidate).matches(new Map()) === "boolean";
  } catch (error) {
    return hasCode(error, "BAD_INPUT");
  }
}

describe("properties", () => {
  test("canonical text parses back to the same tree", () => {
    fc.assert(
      fc.property(tree, (ast) => {
        const selector = new Selector(ast);
        expect(parseSelector(selector.canonical).ast).toEqual(ast);
        expect(parseSelector(selector.canonical).canonical).toBe(selector.canonical);
      }),
    );
  });

  test("restrictions hold for everything that matches", () => {
    fc.assert(
      fc.property(tree, labelSet, (ast, set) => {
        const selector = new Selector(ast);
        const broken = [...selector.restrictions].filter(([name, restriction]) => !fulfils(restriction, set.get(name)));
        expect(selector.matches(set) ? broken : []).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });

  test("any text parses or is refused with BAD_INPUT", () => {
    const piece = fc.constantFrom(
      ..."has( all( global( ) ( { } , == != ! && || contains starts with ends in not ' \" a b \t \n 0 = & |".split(" "),
      " ",
      "'x'",
      '"y"',
    );
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(piece, { maxLength: 30 }).map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(text, (candidate) => {
        expect(outcome(candidate)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("restrictions", () => {
  const restrictions = (text: string): Record<string, unknown> =>
    Object.fromEntries(
      [...parseSelector(text).restrictions].map(([name, { present, absent, values }]) => [
        name,
        { present, absent, ...(values === undefined ? {} : { values: [...values] }) },
      ]),
    );
  const there = { present: true, absent: false };

  test.each<[string, Record<string, unknown>]>([
    ["all()", {}],
    ["a == 'x'", { a: { ...there, values: ["x"] } }],
    ["a != 'x'", {}],
    ["a in {'x','y'} && a in {'y','z'}", { a: { ...there, values: ["y"] } }],
    ["a == 'x' && a == 'y'", { a: { ...there, values: [] } }],
    ["a == 'x' || a == 'y'", { a: { ...there, values: ["x", "y"] } }],
    ["a == 'x' || has(a)", { a: there }],
    ["a == 'x' || has(b)", {}],
    ["a == 'x' && has(b)", { a: { ...there, values: ["x"] }, b: there }],
    ["!has(a)", { a: { present: false, absent: true } }],
    ["!has(a) || !has(a)", { a: { present: false, absent: true } }],
    ["!(a == 'x')", {}],
    ["a starts with 'x'", { a: there }],
    ["a == 'x' || a == 'y' || has(a)", { a: there }],
    ["a == 'x' || a == 'y' || !has(a)", {}],
    ["has(b) || has(a) && has(b) || b == 'x'", { b: there }],
  ])("%s", (text, expected) => {
    expect(restrictions(text)).toEqual(expected);
  });

  test("of very many terms: the work grows with their number, not with its square", () => {
    const terms = Array.from({ length: 8000 }, (_, at) => `a == 'v${at}'`);
    expect(parseSelector(terms.join(" || ")).restrictions.get("a")?.values?.size).toBe(8000);
    const labels = Array.from({ length: 8000 }, (_, at) => `has(l${at})`);
    expect(parseSelector(labels.join(" && ")).restrictions.size).toBe(8000);
  });
});
