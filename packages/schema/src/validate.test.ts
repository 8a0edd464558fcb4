import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { applyDefaults, fieldErrorsText, fieldErrorText, type JsonSchema, prune, validate } from "./index.ts";

const texts = (schema: JsonSchema, value: unknown, old?: unknown): string[] =>
  validate(schema, value, old).map(fieldErrorText);
const spec = (schema: JsonSchema): JsonSchema => ({ type: "object", properties: { spec: schema } });

describe("validate: the API server's words", () => {
  const cases: readonly [string, JsonSchema, unknown, string][] = [
    ["type", { type: "integer" }, "x", 'spec: Invalid value: "string": spec in body must be of type integer: "string"'],
    ["null", { type: "string" }, null, 'spec: Invalid value: "null": spec in body must be of type string: "null"'],
    ["enum", { enum: ["TCP", "UDP"] }, "ICMP", 'spec: Unsupported value: "ICMP": supported values: "TCP", "UDP"'],
    ["pattern", { pattern: "^a+$" }, "b", "spec: Invalid value: \"b\": spec in body should match '^a+$'"],
    [
      "min",
      { type: "integer", minimum: 1 },
      0,
      "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
    ],
    [
      "max",
      { type: "integer", maximum: 1 },
      2,
      "spec: Invalid value: 2: spec in body should be less than or equal to 1",
    ],
    ["minLength", { minLength: 2 }, "a", 'spec: Invalid value: "a": spec in body should be at least 2 chars long'],
    ["maxLength", { maxLength: 2 }, "abc", "spec: Too long: may not be more than 2 bytes"],
    ["minItems", { minItems: 1 }, [], "spec: Invalid value: 0: spec in body should have at least 1 items"],
    ["maxItems", { maxItems: 1 }, [1, 2], "spec: Too many: 2: must have at most 1 items"],
    [
      "int32",
      { type: "integer", format: "int32" },
      2 ** 31,
      'spec: Invalid value: 2147483648: spec in body must be of type int32: "2147483648"',
    ],
    [
      "date-time",
      { format: "date-time" },
      "soon",
      'spec: Invalid value: "soon": spec in body must be of type date-time: "soon"',
    ],
    [
      "int-or-string",
      { "x-kubernetes-int-or-string": true },
      true,
      'spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean"',
    ],
    ["set", { "x-kubernetes-list-type": "set" }, ["a", "a"], 'spec[1]: Duplicate value: "a"'],
    [
      "map",
      { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"] },
      [{ n: 1 }, { n: 1, x: 2 }],
      'spec[1]: Duplicate value: map[string]interface {}{"n":1}',
    ],
    ["required", { type: "object", required: ["a"] }, {}, "spec.a: Required value"],
    [
      "oneOf",
      { oneOf: [{ type: "string" }, { type: "integer" }] },
      true,
      'spec: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid',
    ],
    [
      "anyOf",
      { anyOf: [{ type: "string" }] },
      1,
      'spec: Invalid value: "": "spec" must validate at least one schema (anyOf)',
    ],
    ["not", { not: { type: "string" } }, "a", 'spec: Invalid value: "": "spec" must not validate the schema (not)'],
  ];
  test.each(cases)("%s", (_, schema, value, text) => {
    expect(texts(spec(schema), { spec: value })).toEqual([text]);
  });

  test("several errors are joined in brackets", () => {
    const errors = validate(spec({ type: "object", required: ["a", "b"] }), { spec: {} });
    expect(fieldErrorsText(errors)).toBe("[spec.a: Required value, spec.b: Required value]");
  });

  test("nested paths", () => {
    const schema = spec({ type: "array", items: { type: "object", additionalProperties: { type: "integer" } } });
    expect(texts(schema, { spec: [{ a: 1 }, { b: "x" }] })[0]).toMatch(/^spec\[1\]\.b: /);
  });

  test("never throws on any JSON", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        validate(spec({ type: "object", additionalProperties: { type: "string" } }), value);
        prune(spec({ type: "object" }), structuredClone(value));
        applyDefaults(spec({ type: "object", default: {} }), structuredClone(value));
      }),
    );
  });
});

describe("defaults and pruning", () => {
  const schema: JsonSchema = {
    type: "object",
    properties: {
      spec: {
        type: "object",
        default: {},
        properties: {
          mode: { type: "string", default: "Auto" },
          list: { type: "array", items: { type: "object", properties: { n: { type: "integer", default: 7 } } } },
          free: {
            type: "object",
            "x-kubernetes-preserve-unknown-fields": true,
            properties: { known: { type: "object" } },
          },
        },
      },
    },
  };

  test("a defaulted object gets the defaults inside it", () => {
    expect(applyDefaults(schema, {})).toEqual({ spec: { mode: "Auto" } });
    expect(applyDefaults(schema, { spec: { mode: null, list: [{}] } })).toEqual({
      spec: { mode: "Auto", list: [{ n: 7 }] },
    });
  });

  test("null counts as absent where the schema does not allow it", () => {
    const nullable: JsonSchema = {
      type: "object",
      properties: {
        a: { type: "array", items: { type: "object", properties: { b: { type: "string" } } } },
        kept: { type: "string", nullable: true },
        map: { type: "object", additionalProperties: { type: "string" } },
        free: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
      },
    };
    expect(applyDefaults(nullable, { a: null, kept: null, map: { x: null, y: "z" }, free: { any: null } })).toEqual({
      kept: null,
      map: { y: "z" },
      free: { any: null },
    });
    expect(applyDefaults(nullable, { a: [{ b: null }, null] })).toEqual({ a: [{}, null] });
  });

  test("defaults are copies", () => {
    const first: { spec?: { mode?: string } } = {};
    applyDefaults(schema, first);
    if (first.spec !== undefined) first.spec.mode = "changed";
    expect(applyDefaults(schema, {})).toEqual({ spec: { mode: "Auto" } });
  });

  test("unknown fields are dropped and named; metadata stays", () => {
    const value = {
      metadata: { x: 1 },
      spec: { mode: "a", oops: 1, list: [{ m: 1 }], free: { any: 1, known: { no: 1 } } },
      status: 1,
    };
    expect(prune(schema, value)).toEqual(["spec.oops", "spec.list[0].m", "spec.free.known.no", "status"]);
    expect(value).toEqual({ metadata: { x: 1 }, spec: { mode: "a", list: [{}], free: { any: 1, known: {} } } });
  });

  test("pruning twice changes nothing", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (free) => {
        const value = { spec: { free, ...free } };
        prune(schema, value);
        expect(prune(schema, value)).toEqual([]);
      }),
    );
  });
});
