/**
 * Fills in defaults (Kubernetes: structural defaulting, "Defaulting and nullable").
 *
 * A property that is null while its schema is not nullable counts as absent: it is dropped, or gets its default. Defaults of a level
 * come before its children are visited, so a defaulted object gets the defaults inside it. Nulls in lists stay. The value is
 * changed in place and returned.
 */
import { cloneJson, isObject, type JsonSchema, setField } from "./schema.ts";

const touches = new WeakMap<JsonSchema, boolean>();

export function applyDefaults<T>(schema: JsonSchema, value: T): T {
  dropNulls(schema, value);
  if (hasDefaults(schema)) walk(schema, value);
  return value;
}

function dropNulls(schema: JsonSchema, value: unknown): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) dropNulls(schema.items, item);
    return;
  }
  if (!isObject(value)) return;
  const { properties = {}, additionalProperties: additional } = schema;
  for (const [name, child] of Object.entries(value)) {
    const known = Object.hasOwn(properties, name) ? properties[name] : isObject(additional) ? additional : undefined;
    if (known === undefined || child === undefined) continue;
    if (child !== null) dropNulls(known, child);
    else if (known.nullable !== true) delete value[name];
  }
}

function walk(schema: JsonSchema, value: unknown): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined && hasDefaults(schema.items)) for (const item of value) walk(schema.items, item);
    return;
  }
  if (!isObject(value)) return;
  const properties = schema.properties ?? {};
  for (const name of Object.keys(properties)) {
    const property = properties[name];
    if (property === undefined) continue;
    const current = Object.hasOwn(value, name) ? value[name] : undefined;
    if (current === undefined && property.default !== undefined) setField(value, name, cloneJson(property.default));
    if (Object.hasOwn(value, name) && hasDefaults(property)) walk(property, value[name]);
  }
  const additional = schema.additionalProperties;
  if (isObject(additional) && hasDefaults(additional)) {
    for (const name of Object.keys(value)) if (!Object.hasOwn(properties, name)) walk(additional, value[name]);
  }
}

/** Remembered per schema, so that the large subtrees without defaults cost nothing. */
function hasDefaults(schema: JsonSchema): boolean {
  const known = touches.get(schema);
  if (known !== undefined) return known;
  touches.set(schema, false);
  const children = [...Object.values(schema.properties ?? {}), schema.items, schema.additionalProperties];
  const answer = children.some(
    (child) => isObject(child) && ((child as JsonSchema).default !== undefined || hasDefaults(child)),
  );
  touches.set(schema, answer);
  return answer;
}
