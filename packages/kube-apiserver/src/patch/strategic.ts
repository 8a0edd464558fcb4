/**
 * Strategic merge patch: a merge patch that knows which lists have identities.
 *
 * Directives: `$patch` (replace, delete, merge), `$retainKeys`, `$deleteFromPrimitiveList/<list>`,
 * `$setElementOrder/<list>`. Source: Kubernetes, "Strategic Merge Patch" of the API conventions.
 */
import { cloneJson, isObject, type JsonObject, sameJson, setField } from "@calico-ts/schema";
import { badRequest } from "../meta/api-error.ts";
import type { TypeSchema } from "../registry/type-table.ts";
import { childSchema } from "./field-set.ts";

const DELETE_FROM = "$deleteFromPrimitiveList/";
const ORDER = "$setElementOrder/";

/** The patched copy. @throws ApiError 400 for a patch that makes no sense. */
export function strategicMerge(schema: TypeSchema | undefined, original: JsonObject, patch: JsonObject): JsonObject {
  const directive = patch["$patch"];
  if (directive === "replace") return withoutDirectives(patch);
  if (directive === "delete") return {};
  if (directive !== undefined && directive !== "merge")
    throw badRequest(`Unknown patch type: ${JSON.stringify(directive)}`);
  const out: JsonObject = { ...original };
  retainKeys(patch, out);
  for (const name of Object.keys(patch)) {
    if (name.startsWith("$")) continue;
    const value = patch[name];
    const child = childSchema(schema, name);
    if (value === null) delete out[name];
    else if (isObject(value)) {
      const before = out[name];
      if (isObject(value) && value["$patch"] === "delete") delete out[name];
      else setField(out, name, strategicMerge(child, isObject(before) ? before : {}, value));
    } else if (Array.isArray(value))
      setField(out, name, mergeList(child, Array.isArray(out[name]) ? out[name] : [], value));
    else setField(out, name, value);
  }
  for (const name of Object.keys(patch)) {
    if (name.startsWith(DELETE_FROM)) removeScalars(out, name.slice(DELETE_FROM.length), patch[name]);
  }
  for (const name of Object.keys(patch)) {
    if (!name.startsWith(ORDER)) continue;
    const list = name.slice(ORDER.length);
    const child: TypeSchema | undefined = childSchema(schema, list);
    if (Array.isArray(out[list])) {
      const before = Array.isArray(original[list]) ? original[list] : [];
      out[list] = reorder(out[list], patch[name], { before, key: child?.["x-kubernetes-patch-merge-key"] });
    }
  }
  return out;
}

function withoutDirectives(patch: JsonObject): JsonObject {
  const out: JsonObject = {};
  for (const name of Object.keys(patch)) if (!name.startsWith("$")) setField(out, name, cloneJson(patch[name]));
  return out;
}

function retainKeys(patch: JsonObject, out: JsonObject): void {
  const keys = patch["$retainKeys"];
  if (keys === undefined) return;
  if (!Array.isArray(keys)) throw badRequest("invalid patch format of retainKeys");
  for (const name of Object.keys(out)) if (!keys.includes(name)) delete out[name];
}

function removeScalars(out: JsonObject, name: string, values: unknown): void {
  const list = out[name];
  if (Array.isArray(list) && Array.isArray(values))
    out[name] = list.filter((item: unknown) => !values.some((value) => sameJson(value, item)));
}

const merges = (schema: TypeSchema | undefined): boolean =>
  schema?.["x-kubernetes-patch-strategy"]?.includes("merge") === true;

function mergeList(schema: TypeSchema | undefined, original: readonly unknown[], patch: readonly unknown[]): unknown[] {
  const replace = patch.some((item) => isObject(item) && item["$patch"] === "replace");
  if (!merges(schema) || replace) {
    return cloneJson(patch.filter((item) => !isObject(item) || item["$patch"] === undefined));
  }
  const key = schema?.["x-kubernetes-patch-merge-key"];
  if (key === undefined) {
    const added = patch.filter((item) => !original.some((present) => sameJson(present, item)));
    return [...original, ...cloneJson(added)];
  }
  const out = [...original];
  for (const item of patch) {
    if (!isObject(item)) throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    if (item[key] === undefined)
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    const at = out.findIndex((present) => isObject(present) && sameJson(present[key], item[key]));
    if (item["$patch"] === "delete") {
      if (at >= 0) out.splice(at, 1);
    } else if (at >= 0) out[at] = strategicMerge(schema?.items, out[at] as JsonObject, item);
    else out.push(strategicMerge(schema?.items, {}, item));
  }
  return out;
}

interface Order {
  readonly before: readonly unknown[];
  readonly key: string | undefined;
}

/** Items named in the order come in that order; the server's other items keep their place relative to them. */
function reorder(list: readonly unknown[], order: unknown, { before: items, key }: Order): unknown[] {
  if (!Array.isArray(order)) return [...list];
  const idOf = (item: unknown): unknown => (key !== undefined && isObject(item) ? item[key] : item);
  const position = (items: readonly unknown[], item: unknown): number =>
    items.findIndex((other) => sameJson(idOf(other), idOf(item)));
  const named = order.flatMap((entry: unknown) => {
    const at = position(list, entry);
    return at < 0 ? [] : [list[at]];
  });
  const serverOnly = list.filter((item) => position(order, item) < 0);
  const out: unknown[] = [];
  for (const item of named) {
    const at = position(items, item);
    const ahead = at < 0 ? 0 : serverOnly.findIndex((other) => position(items, other) > at);
    out.push(...serverOnly.splice(0, ahead < 0 ? serverOnly.length : ahead));
    out.push(item);
  }
  return [...out, ...serverOnly];
}
