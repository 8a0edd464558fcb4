import { describe, expect, test } from "vitest";
import { compileCel, fieldErrorText, type JsonSchema, validate } from "./index.ts";

const ruled = (rule: string, extra: Partial<JsonSchema> = {}, more = {}): JsonSchema => ({
  type: "object",
  ...extra,
  "x-kubernetes-validations": [{ rule, ...more }],
});

const holds = (expression: string, self: unknown = {}): unknown => {
  const outcome = compileCel(expression).evaluate({ self });
  return outcome.ok ? outcome.value : `error: ${outcome.message}`;
};

describe("CEL library of Kubernetes", () => {
  test.each([
    "isIP('10.0.0.1') && !isIP('10.0.0.0/8') && isIP('::1')",
    "ip('10.0.0.1').family() == 4 && ip('fe80::1').isLinkLocalUnicast()",
    "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0')",
    "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsIP(ip('10.1.2.3'))",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
    "cidr('10.0.0.1/8') != cidr('10.0.0.1/8').masked()",
    "cidr('10.0.0.0/8') == cidr('10.0.0.0/8').masked()",
    "cidr('10.0.0.0/8').prefixLength() == 8 && string(cidr('10.0.0.0/8').ip()) == '10.0.0.0'",
    "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('100m').add(quantity('900m')) == quantity('1')",
    "'abc 123'.find('[0-9]+') == '123' && '1, 2, 3'.findAll('[0-9]+') == ['1', '2', '3']",
    "[1, 3, 2].max() == 3 && [1, 3, 2].min() == 1 && [1, 2].sum() == 3 && [1, 2].isSorted()",
    "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2",
    "sets.contains([1, 2], [1]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 2], [2, 1])",
    "'%s is %d'.format(['x', 3]) == 'x is 3'",
    "!format.dns1123Label().validate('good-name').hasValue() && format.dns1123Label().validate('Bad').hasValue()",
    "url('https://host:8443/a?b=c').getPort() == '8443' && isURL('https://x/') && !isURL('no')",
    "'a,b'.split(',').size() == 2 && 'abc'.substring(1) == 'bc' && 'AbC'.lowerAscii() == 'abc' && 'a-b'.replace('-', '+') == 'a+b'",
    "duration('1h') > duration('30m') && timestamp('2024-01-01T00:00:00Z').getFullYear() == 2024",
    "{'a': 1}.all(k, k == 'a') && [1, 2].exists_one(x, x == 2)",
  ])("%s", (expression) => {
    expect(holds(expression)).toBe(true);
  });

  test("a broken rule is an outcome, not an exception", () => {
    expect(compileCel("self.(").error).toBeDefined();
    expect(compileCel("self.a.b == 1").evaluate({ self: {} }).ok).toBe(false);
  });
});

describe("validation rules", () => {
  test("message, default message, fieldPath, reason, messageExpression", () => {
    expect(validate(ruled("self.a > 1"), { a: 1 }).map(fieldErrorText)).toEqual([
      '<nil>: Invalid value: "object": failed rule: self.a > 1',
    ]);
    const schema = ruled(
      "self.a > 1",
      {},
      { messageExpression: "'a is %d'.format([self.a])", fieldPath: ".a", reason: "FieldValueForbidden" },
    );
    expect(validate(schema, { a: 1 }).map(fieldErrorText)).toEqual(["a: Forbidden: a is 1"]);
  });

  test("integers are ints under the schema, escaped names work", () => {
    const schema = ruled("self.n / 2 == 1 && self.__namespace__ == 'x'", {
      properties: { n: { type: "integer" }, namespace: { type: "string" } },
    });
    expect(validate(schema, { n: 3, namespace: "x" })).toEqual([]);
  });

  test("transition rules run only with an old value", () => {
    const schema = ruled("self == oldSelf", {}, { message: "immutable" });
    expect(validate(schema, { a: 1 })).toEqual([]);
    expect(validate(schema, { a: 1 }, { a: 1 })).toEqual([]);
    expect(validate(schema, { a: 1 }, { a: 2 })).toHaveLength(1);
  });

  test("optionalOldSelf", () => {
    const schema = ruled(
      "oldSelf.hasValue() ? oldSelf.value().a == self.a : self.a == 0",
      {},
      { optionalOldSelf: true },
    );
    expect(validate(schema, { a: 0 })).toEqual([]);
    expect(validate(schema, { a: 1 })).toHaveLength(1);
    expect(validate(schema, { a: 1 }, { a: 1 })).toEqual([]);
  });

  test("map lists find their old items by key", () => {
    const schema: JsonSchema = {
      type: "array",
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": ["n"],
      items: ruled("self.v >= oldSelf.v", { properties: { v: { type: "integer" } } }),
    };
    expect(
      validate(
        schema,
        [
          { n: "b", v: 2 },
          { n: "a", v: 1 },
        ],
        [
          { n: "a", v: 2 },
          { n: "b", v: 1 },
        ],
      ).map((e) => e.path),
    ).toEqual(["[1]"]);
  });
});

const sample: JsonSchema = {
  type: "object",
  properties: { cidr: { type: "string" } },
  "x-kubernetes-validations": [
    { rule: "cidr(self.cidr) == cidr(self.cidr).masked()", message: "cidr must be canonical" },
    { rule: "!cidr('fe80::/10').containsIP(cidr(self.cidr).ip()) && !cidr(self.cidr).containsIP('fe80::')" },
  ],
};

test("address rules of upstream pools", () => {
  expect(validate(sample, { cidr: "10.0.0.0/16" })).toEqual([]);
  expect(validate(sample, { cidr: "10.0.0.1/16" }).map((e) => e.message)).toEqual(["cidr must be canonical"]);
  expect(validate(sample, { cidr: "fe80::/64" })).toHaveLength(1);
});
