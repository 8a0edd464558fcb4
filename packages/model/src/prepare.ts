/**
 * From a value of unknown origin (a file, a request, a watch event) to a resource: fields the schema does not know are
 * dropped and reported, nulls count as absent, defaults are filled in, types, ranges, CEL rules and the rules no schema can
 * express are checked, as an API server would do. Anything may be passed in; nothing is thrown and the value is not changed.
 */
import type { FieldError, JsonObject, JsonSchema } from "@calico-ts/schema";
import { applyDefaults, invalid, isObject, prune, setField, validate } from "@calico-ts/schema";
import type { KindMap, KindName } from "./kinds.ts";
import { kinds } from "./kinds.ts";
import { checkSpec } from "./rules/check-spec.ts";
import { identityErrors, metadataErrors } from "./rules/metadata.ts";
import { objectMetaSchema } from "./schema/meta.ts";

export type Prepared<K extends KindName> =
  | {
      readonly ok: true;
      readonly resource: KindMap[K];
      /** Paths of fields that were dropped because the kind has no such field. */
      readonly unknownFields: readonly string[];
    }
  | { readonly ok: false; readonly errors: readonly FieldError[] };

export interface PrepareOptions {
  /** The stored object that this one replaces: fields that cannot be changed are compared with it. */
  readonly old?: unknown;
}

const MAX_DEPTH = 100;

export function prepare<K extends KindName>(kind: K, value: unknown, options: PrepareOptions = {}): Prepared<K> {
  const info = kinds[kind];
  const plain = plainCopy(value, 0);
  if (!isObject(plain))
    return { ok: false, errors: [invalid("", describe(value), `not a ${kind}: expected an object`)] };
  const copy: JsonObject = { apiVersion: info.apiVersion, kind: info.kind, ...plain };
  if (copy["apiVersion"] !== info.apiVersion || copy["kind"] !== info.kind) {
    const field = copy["kind"] === info.kind ? "apiVersion" : "kind";
    return { ok: false, errors: [invalid(field, copy[field], `expected ${info.apiVersion} ${info.kind}`)] };
  }

  const unknownFields = prune(info.schema, copy);
  applyDefaults(info.schema, copy);
  applyDefaults(objectMetaSchema as JsonSchema, copy["metadata"]);
  const errors = validate(info.schema, copy, options.old);
  errors.push(...metadataProblems(kind, copy["metadata"]));
  // The rules below read fields by their types, so they wait until the types are right.
  const resource = copy as unknown as KindMap[K];
  if (errors.length === 0) errors.push(...checkSpec(kind, resource));
  if (errors.length > 0) return { ok: false, errors };
  return { ok: true, resource, unknownFields };
}

function metadataProblems(kind: KindName, metadata: unknown): FieldError[] {
  // When it is missing or no object, the kind's schema has said so.
  if (!isObject(metadata)) return [];
  const identity = identityErrors(metadata, kinds[kind].namespaced);
  if (identity.length > 0) return identity;
  const types = validate(objectMetaSchema as JsonSchema, metadata, undefined, { path: "metadata" });
  if (types.length > 0 || kinds[kind].storage === "builtin") return types;
  return metadataErrors(kind, metadata);
}

/** What JSON can carry of a value. Undefined fields vanish, as on a wire; functions, symbols and cycles make it no value. */
function plainCopy(value: unknown, depth: number): unknown {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : undefined;
  if (typeof value !== "object" || depth > MAX_DEPTH) return undefined;
  if (Array.isArray(value)) return Array.from(value, (item) => plainCopy(item, depth + 1) ?? null);
  const copy: JsonObject = {};
  for (const [key, item] of Object.entries(value)) {
    const plain = plainCopy(item, depth + 1);
    if (plain !== undefined) setField(copy, key, plain);
  }
  return copy;
}

const describe = (value: unknown): string => (value === null ? "null" : Array.isArray(value) ? "a list" : typeof value);
