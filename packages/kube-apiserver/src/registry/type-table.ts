/**
 * Schemas of the built-in kinds, made on demand from the generated type table and the facts about lists.
 *
 * The same `JsonSchema` values drive decoding (normalize.ts), both merge patches, server-side apply and OpenAPI. Types
 * may refer to themselves (JSONSchemaProps does); a schema is then a cyclic graph of plain objects.
 */
import type { JsonSchema } from "@calico-ts/schema";
import { BUILTIN_TYPES } from "./generated/builtin-types.ts";
import { ATOMIC_MAPS, ATOMIC_TYPES, LIST_FACTS, type ListFacts } from "./list-types.ts";

export interface TypeSchema extends JsonSchema {
  /** Name in the generated table. */
  readonly "x-type"?: string;
  readonly "x-go-type"?: string;
  readonly "x-kubernetes-patch-merge-key"?: string;
  readonly "x-kubernetes-patch-strategy"?: string;
  readonly properties?: { readonly [name: string]: TypeSchema };
  readonly items?: TypeSchema;
}

const SCALARS: { readonly [text: string]: TypeSchema } = {
  string: { type: "string", "x-go-type": "string" },
  boolean: { type: "boolean", "x-go-type": "bool" },
  int32: { type: "integer", format: "int32", "x-go-type": "int32" },
  int64: { type: "integer", format: "int64", "x-go-type": "int64" },
  double: { type: "number", format: "double", "x-go-type": "float64" },
  time: { type: "string", format: "date-time", "x-go-type": "v1.Time" },
  microtime: { type: "string", format: "date-time", "x-go-type": "v1.MicroTime" },
  bytes: { type: "string", format: "byte", "x-go-type": "[]uint8" },
  intstr: { "x-kubernetes-int-or-string": true, format: "int-or-string", "x-go-type": "intstr.IntOrString" },
  quantity: { format: "quantity", "x-kubernetes-int-or-string": true, "x-go-type": "resource.Quantity" },
  any: { "x-kubernetes-preserve-unknown-fields": true },
};

const made = new Map<string, TypeSchema>();

/** @param name such as V1Pod; an unknown name takes anything. */
export function typeSchema(name: string): TypeSchema {
  const known = made.get(name);
  if (known !== undefined) return known;
  const fields = BUILTIN_TYPES[name];
  if (fields === undefined) return SCALARS["any"] ?? {};
  const properties: { [field: string]: TypeSchema } = {};
  const required: string[] = [];
  const schema: TypeSchema = {
    type: "object",
    "x-type": name,
    properties,
    required,
    ...(ATOMIC_TYPES.has(name) ? { "x-kubernetes-map-type": "atomic" } : {}),
  };
  made.set(name, schema);
  const facts = LIST_FACTS[name] ?? {};
  for (const field of Object.keys(fields)) {
    const text = fields[field] ?? "any";
    if (text.startsWith("!")) required.push(field);
    const own = fieldSchema(text.replace(/^!/, ""));
    properties[field] =
      ATOMIC_MAPS[name]?.includes(field) === true
        ? { ...own, "x-kubernetes-map-type": "atomic" }
        : withFacts(own, facts[field]);
  }
  return schema;
}

function fieldSchema(text: string): TypeSchema {
  if (text.startsWith("[]"))
    return { type: "array", items: fieldSchema(text.slice(2)), "x-kubernetes-list-type": "atomic" };
  if (text.startsWith("{}")) return { type: "object", additionalProperties: fieldSchema(text.slice(2)) };
  return SCALARS[text] ?? typeSchema(text);
}

function withFacts(schema: TypeSchema, facts: ListFacts | undefined): TypeSchema {
  if (facts === undefined) return schema;
  const strategies = [
    ...(facts.mergeKey === undefined ? [] : ["merge"]),
    ...(facts.retainKeys === true ? ["retainKeys"] : []),
  ];
  return {
    ...schema,
    ...(facts.mapKeys === undefined
      ? {}
      : { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": facts.mapKeys }),
    ...(facts.set === true ? { "x-kubernetes-list-type": "set" } : {}),
    ...(facts.mergeKey === undefined || facts.mergeKey === ""
      ? {}
      : { "x-kubernetes-patch-merge-key": facts.mergeKey }),
    ...(strategies.length === 0 ? {} : { "x-kubernetes-patch-strategy": strategies.join(",") }),
  };
}
