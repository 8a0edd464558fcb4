/**
 * Sets of field paths, the currency of server-side apply. The JSON form is `FieldsV1`: a tree whose keys are
 * `f:name` (field), `k:{…}` (list item by key), `v:…` (set item by value), with `.` for "this path itself".
 *
 * A path belongs to the set when its node is marked; a leaf is always marked. Lists are seen through the schema: items of
 * `map` lists have an identity, `set` items are their own identity, everything else is one atomic value.
 */
import { isObject, type JsonObject, type JsonSchema, listKey, sameJson } from "@calico-ts/schema";

export class FieldSet {
  marked = false;
  readonly children = new Map<string, FieldSet>();

  get isEmpty(): boolean {
    return !this.marked && this.children.size === 0;
  }

  child(step: string): FieldSet {
    let found = this.children.get(step);
    if (found === undefined) {
      found = new FieldSet();
      this.children.set(step, found);
    }
    return found;
  }
}

export function parseFieldSet(fields: unknown): FieldSet {
  const set = new FieldSet();
  if (!isObject(fields)) return set;
  for (const step of Object.keys(fields)) {
    if (step === ".") set.marked = true;
    else {
      const child = parseFieldSet(fields[step]);
      if (child.isEmpty) child.marked = true;
      set.children.set(step, child);
    }
  }
  return set;
}

export function formatFieldSet(set: FieldSet): JsonObject {
  const out: JsonObject = {};
  if (set.marked && set.children.size > 0) out["."] = {};
  for (const step of [...set.children.keys()].toSorted()) {
    const child = set.children.get(step);
    if (child !== undefined && !child.isEmpty) out[step] = formatFieldSet(child);
  }
  return out;
}

type Combine = (a: boolean, b: boolean) => boolean;

function combine(a: FieldSet | undefined, b: FieldSet | undefined, rule: Combine): FieldSet {
  const out = new FieldSet();
  out.marked = rule(a?.marked === true, b?.marked === true);
  for (const step of new Set([...(a?.children.keys() ?? []), ...(b?.children.keys() ?? [])])) {
    const child = combine(a?.children.get(step), b?.children.get(step), rule);
    if (!child.isEmpty) out.children.set(step, child);
  }
  return out;
}

export const union = (a: FieldSet, b: FieldSet): FieldSet => combine(a, b, (x, y) => x || y);
export const intersect = (a: FieldSet, b: FieldSet): FieldSet => combine(a, b, (x, y) => x && y);
export const subtract = (a: FieldSet, b: FieldSet): FieldSet => combine(a, b, (x, y) => x && !y);

/** Everything below the paths of `b` goes too: when a list item is gone, so are its fields. */
export function subtractTrees(a: FieldSet, b: FieldSet): FieldSet {
  const out = new FieldSet();
  out.marked = a.marked && !b.marked;
  for (const [step, child] of a.children) {
    const other = b.children.get(step);
    if (other?.marked === true) continue;
    const rest = other === undefined ? child : subtractTrees(child, other);
    if (!rest.isEmpty) out.children.set(step, rest);
  }
  return out;
}

export const isAtomic = (schema: JsonSchema | undefined): boolean => schema?.["x-kubernetes-map-type"] === "atomic";

/** How the schema sees the items of a list: an identity for each, or undefined when the list is atomic. */
export function itemSteps(schema: JsonSchema | undefined, list: readonly unknown[]): string[] | undefined {
  switch (schema?.["x-kubernetes-list-type"]) {
    case "map": {
      const keys = schema["x-kubernetes-list-map-keys"] ?? [];
      return list.map((item) => itemStep(item, keys, schema.items));
    }
    case "set":
      return list.map((item) => `v:${JSON.stringify(item)}`);
    default:
      return undefined;
  }
}

/** `k:{"containerPort":80,"protocol":"TCP"}`; absent keys count with their default (protocol is TCP). */
function itemStep(item: unknown, keys: readonly string[], items: JsonSchema | undefined): string {
  const key = listKey(item, keys);
  if (!isObject(key)) return `k:${JSON.stringify(key)}`;
  const sorted: JsonObject = {};
  for (const name of [...keys].toSorted()) {
    const value = key[name] ?? items?.properties?.[name]?.default ?? (name === "protocol" ? "TCP" : undefined);
    if (value !== undefined) sorted[name] = value;
  }
  return `k:${JSON.stringify(sorted)}`;
}

export const childSchema = (schema: JsonSchema | undefined, name: string): JsonSchema | undefined => {
  const property =
    schema?.properties !== undefined && Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined;
  if (property !== undefined) return property;
  return isObject(schema?.additionalProperties) ? schema.additionalProperties : undefined;
};

/** All paths of a value. */
export function fieldsOf(schema: JsonSchema | undefined, value: unknown, into: FieldSet = new FieldSet()): FieldSet {
  if (Array.isArray(value)) {
    const steps = itemSteps(schema, value);
    if (steps === undefined || value.length === 0) into.marked = true;
    steps?.forEach((step, index) => {
      const child = into.child(step);
      child.marked = true;
      if (isObject(value[index])) fieldsOf(schema?.items, value[index], child);
    });
    return into;
  }
  if (!isObject(value) || isAtomic(schema) || Object.keys(value).length === 0) {
    into.marked = true;
    return into;
  }
  for (const name of Object.keys(value))
    if (value[name] !== undefined) fieldsOf(childSchema(schema, name), value[name], into.child(`f:${name}`));
  return into;
}

export interface Difference {
  /** Added or modified in the new value. */
  readonly changed: FieldSet;
  /** Present in the old value only. */
  readonly removed: FieldSet;
}

export function compareFields(schema: JsonSchema | undefined, before: unknown, after: unknown): Difference {
  const difference = { changed: new FieldSet(), removed: new FieldSet() };
  compareInto(schema, [before, after], difference);
  return difference;
}

function compareInto(
  schema: JsonSchema | undefined,
  [before, after]: readonly [unknown, unknown],
  out: Difference,
): void {
  if (before === after || sameJson(before, after)) return;
  if (after === undefined) {
    fieldsOf(schema, before, out.removed);
    return;
  }
  if (before === undefined) {
    fieldsOf(schema, after, out.changed);
    return;
  }
  const descend = (step: string, child: JsonSchema | undefined, pair: readonly [unknown, unknown]): void => {
    const inner = { changed: new FieldSet(), removed: new FieldSet() };
    compareInto(child, pair, inner);
    if (!step.startsWith("f:")) {
      if (pair[0] === undefined) inner.changed.marked = true;
      if (pair[1] === undefined) inner.removed.marked = true;
    }
    if (!inner.changed.isEmpty) out.changed.children.set(step, inner.changed);
    if (!inner.removed.isEmpty) out.removed.children.set(step, inner.removed);
  };
  if (
    isObject(before) &&
    isObject(after) &&
    !isAtomic(schema) &&
    Object.keys(after).length > 0 &&
    Object.keys(before).length > 0
  ) {
    for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
      descend(`f:${name}`, childSchema(schema, name), [before[name], after[name]]);
    }
    return;
  }
  if (Array.isArray(before) && Array.isArray(after)) {
    const oldSteps = itemSteps(schema, before);
    const newSteps = itemSteps(schema, after);
    if (oldSteps !== undefined && newSteps !== undefined) {
      const oldItems = new Map(oldSteps.map((step, index) => [step, before[index] as unknown]));
      const newItems = new Map(newSteps.map((step, index) => [step, after[index] as unknown]));
      for (const step of new Set([...oldSteps, ...newSteps]))
        descend(step, schema?.items, [oldItems.get(step), newItems.get(step)]);
      return;
    }
  }
  if ((isObject(before) || Array.isArray(before)) && !isAtomic(schema)) fieldsOf(schema, before, out.removed);
  fieldsOf(schema, after, out.changed);
}

/** Paths for people: `.spec.containers[name="web"].image`. */
export function fieldSetPaths(set: FieldSet, prefix = ""): string[] {
  const paths = set.marked && prefix !== "" ? [prefix] : [];
  for (const step of [...set.children.keys()].toSorted()) {
    const child = set.children.get(step);
    if (child !== undefined) paths.push(...fieldSetPaths(child, `${prefix}${stepText(step)}`));
  }
  return paths;
}

function stepText(step: string): string {
  if (step.startsWith("f:")) return `.${step.slice(2)}`;
  if (step.startsWith("v:")) return `[=${step.slice(2)}]`;
  try {
    const key: unknown = JSON.parse(step.slice(2));
    if (!isObject(key)) return `[${step.slice(2)}]`;
    return `[${Object.keys(key)
      .map((name) => `${name}=${JSON.stringify(key[name])}`)
      .join(",")}]`;
  } catch {
    return `[${step}]`;
  }
}
