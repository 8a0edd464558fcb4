import { isObject, type JsonObject } from "./schema.ts";

/** The part of a list item that identifies it in a list of type `map`. */
export function listKey(item: unknown, keys: readonly string[]): unknown {
  if (!isObject(item)) return item;
  const key: JsonObject = {};
  for (const name of keys) if (item[name] !== undefined) key[name] = item[name];
  return key;
}
