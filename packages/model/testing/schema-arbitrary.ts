/**
 * Random objects for a structural schema. Mostly of the right types, with texts from a pool that the kinds' rules look at, so
 * that rules are met on both sides of their limits; small, so that a fair share of objects is valid.
 */
import type { JsonSchema } from "@calico-ts/schema";
import fc from "fast-check";

const NAMES = ["default", "node.a", "kube-admin", "kube-baseline", "x"];
const CIDRS = [
  "10.0.0.0/16",
  "10.0.0.0/28",
  "10.0.0.1/16",
  "169.254.3.0/24",
  "0.0.0.0/0",
  "fd00::/64",
  "fd00::/124",
  "fe80::/16",
];
const TEXTS = [
  "",
  "all()",
  "global()",
  "has(a)",
  "TCP",
  "ICMP",
  "ICMPv6",
  "10.0.0.1",
  "fd00::1",
  "1:2",
  "1:2:3",
  "90s",
  "1m30s",
  "2s/3",
];
const NUMBERS = [0, 1, 4, 6, 26, 27, 58, 122, 250, 251, 1000, 1_000_000, 10_000_000];

/** A whole object: metadata with a name, the other fields by their schemas. */
export function objectOf(schema: JsonSchema): fc.Arbitrary<unknown> {
  const { apiVersion: _, kind: __, metadata: ___, ...fields } = schema.properties ?? {};
  const named = fc.record({ name: fc.constantFrom(...NAMES) });
  return fc
    .tuple(named, recordOf({ ...schema, properties: fields }, 0))
    .map(([metadata, rest]) => ({ ...rest, metadata }));
}

/** Now and then a required field is missing; of optional ones only a few are there. */
function recordOf(schema: JsonSchema, depth: number): fc.Arbitrary<Record<string, unknown>> {
  const fields = Object.entries(schema.properties ?? {});
  const required = fields.filter(([name]) => schema.required?.includes(name) === true || depth === 0);
  const optional = fields.filter(([name]) => schema.required?.includes(name) !== true && depth > 0);
  const always = fc.record(Object.fromEntries(required.map(([name, field]) => [name, valueOf(field, depth + 1)])));
  const some = fc
    .subarray(optional, { maxLength: Math.min(optional.length, 4) })
    .chain((chosen) => fc.record(Object.fromEntries(chosen.map(([name, field]) => [name, valueOf(field, depth + 1)]))));
  return fc.tuple(always, some, fc.nat({ max: 40 })).map(([base, extra, dice]) => {
    const value = { ...base, ...extra };
    const gone = dice === 0 ? required[0]?.[0] : undefined;
    return gone === undefined ? value : Object.fromEntries(Object.entries(value).filter(([name]) => name !== gone));
  });
}

function valueOf(schema: JsonSchema, depth: number): fc.Arbitrary<unknown> {
  const words = schema.enum ?? schema.allOf?.at(-1)?.enum;
  if (words !== undefined) return mostly(fc.constantFrom(...words), fc.constantFrom(...TEXTS));
  if (schema["x-kubernetes-int-or-string"] === true) return fc.constantFrom<unknown>(...NUMBERS, ...TEXTS);
  switch (schema.type) {
    case "boolean":
      return fc.boolean();
    case "integer":
      return mostly(fc.constantFrom(...NUMBERS), fc.constantFrom<unknown>(-1, 1.5, 70_000, 5_000_000_000));
    case "number":
      return fc.constantFrom(...NUMBERS, 0.5);
    case "string":
      return schema.format === "cidr"
        ? mostly(fc.constantFrom(...CIDRS), fc.constant("x"))
        : mostly(fc.constantFrom(...TEXTS), fc.constantFrom("x".repeat(2000), "?"));
    case "array":
      return fc.array(valueOf(schema.items ?? {}, depth + 1), { maxLength: depth > 4 ? 1 : 2 });
    case "object":
      return schema.properties === undefined
        ? fc.dictionary(fc.constantFrom("a", "b"), fc.constant("v"))
        : recordOf(schema, depth);
    default:
      return fc.constant("x");
  }
}

const mostly = (usual: fc.Arbitrary<unknown>, rare: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof({ arbitrary: usual, weight: 60 }, { arbitrary: rare, weight: 1 });
