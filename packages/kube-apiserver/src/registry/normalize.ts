/**
 * What decoding into Go structs and encoding again does to a built-in object: unknown fields are dropped and named,
 * nulls and empty optional lists and maps vanish, quantities take their canonical form, wrong types are refused.
 *
 * The value is changed in place. Custom resources go through their structural schema instead.
 */
import { canonicalQuantity, fieldPath, indexPath, isDateTime, isObject, type JsonObject } from "@calico-ts/schema";
import type { TypeSchema } from "./type-table.ts";

export interface Normalized {
  /** Paths of unknown fields, in document order. */
  readonly unknown: string[];
  /** Why the value cannot be decoded; undefined when it can. */
  problem: string | undefined;
}

export function normalize(schema: TypeSchema, value: JsonObject): Normalized {
  const result: Normalized = { unknown: [], problem: undefined };
  normalizeObject(schema, value, "", result);
  return result;
}

function normalizeObject(schema: TypeSchema, value: JsonObject, path: string, result: Normalized): void {
  const { properties, additionalProperties } = schema;
  if (properties === undefined && !isObject(additionalProperties)) return;
  for (const name of Object.keys(value)) {
    const child = value[name];
    const property = properties !== undefined && Object.hasOwn(properties, name) ? properties[name] : undefined;
    const childSchema = property ?? (isObject(additionalProperties) ? additionalProperties : undefined);
    if (childSchema === undefined) {
      result.unknown.push(fieldPath(path, name));
      delete value[name];
    } else if (child === null && !isAny(childSchema)) {
      delete value[name];
    } else {
      const optional = property !== undefined && schema.required?.includes(name) !== true;
      if (optional && isEmptyContainer(childSchema, child)) delete value[name];
      else value[name] = normalizeValue(childSchema, child, fieldPath(path, name), result);
    }
  }
}

const isAny = (schema: TypeSchema): boolean => schema["x-kubernetes-preserve-unknown-fields"] === true;

/** Lists and maps carry `omitempty`; nested structs are pointers and stay. */
function isEmptyContainer(schema: TypeSchema, value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  return (
    isObject(value) &&
    schema.properties === undefined &&
    isObject(schema.additionalProperties) &&
    Object.keys(value).length === 0
  );
}

function normalizeValue(schema: TypeSchema, value: unknown, path: string, result: Normalized): unknown {
  if (isAny(schema)) return value;
  if (schema.format === "quantity") {
    const text = canonicalQuantity(value);
    if (text === undefined) {
      result.problem ??= "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    }
    return text ?? value;
  }
  if (schema["x-kubernetes-int-or-string"] === true) {
    if (typeof value === "string" || Number.isInteger(value)) return value;
    return mismatch(schema, value, path, result);
  }
  switch (schema.type) {
    case "array":
      return normalizeList(schema, value, path, result);
    case "object":
      if (!isObject(value)) return mismatch(schema, value, path, result);
      normalizeObject(schema, value, path, result);
      return value;
    case "string":
      if (typeof value !== "string") return mismatch(schema, value, path, result);
      if (schema.format === "date-time" && value !== "" && !isDateTime(value)) {
        result.problem ??= `parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05Z07:00": cannot parse ${JSON.stringify(value)} as "2006"`;
      }
      return value;
    case "boolean":
      return typeof value === "boolean" ? value : mismatch(schema, value, path, result);
    case "integer":
      return Number.isInteger(value) ? value : mismatch(schema, value, path, result);
    case "number":
      return typeof value === "number" ? value : mismatch(schema, value, path, result);
    default:
      return value;
  }
}

function normalizeList(schema: TypeSchema, value: unknown, path: string, result: Normalized): unknown {
  if (!Array.isArray(value)) return mismatch(schema, value, path, result);
  const items = schema.items;
  if (items === undefined) return value;
  for (let index = 0; index < value.length; index++) {
    value[index] = normalizeValue(
      items,
      value[index] ?? (items.type === "object" ? {} : value[index]),
      indexPath(path, index),
      result,
    );
  }
  return value;
}

function mismatch(schema: TypeSchema, value: unknown, path: string, result: Normalized): unknown {
  const go = schema["x-go-type"] ?? goName(schema);
  const field = path.replaceAll(/\[\d+\]/g, "");
  result.problem ??= `json: cannot unmarshal ${jsonName(value)} into Go struct field ${field} of type ${go}`;
  return value;
}

function goName(schema: TypeSchema): string {
  if (schema.type === "array") return `[]${schema.items?.["x-go-type"] ?? goName(schema.items ?? {})}`;
  if (schema.additionalProperties !== undefined) return "map[string]string";
  return (schema["x-type"] ?? "interface {}").replace(/^V1/, "v1.");
}

function jsonName(value: unknown): string {
  if (Array.isArray(value)) return "array";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number") return Number.isInteger(value) ? "number" : `number ${value}`;
  return value === null ? "null" : typeof value;
}
