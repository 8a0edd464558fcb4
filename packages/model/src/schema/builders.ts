/**
 * The words schemas are written in: TypeBox for what JSON Schema has, and a few of our own for what Kubernetes adds
 * (`x-kubernetes-*`). A schema made here *is* the OpenAPI v3 structural schema that goes into the CRD; the TypeScript type
 * is inferred from the same value, so the two cannot drift apart.
 */
import type { Static, TSchema } from "typebox";
import { Type } from "typebox";

/** The type a schema describes, read-only all the way down. */
export type TypeOf<S extends TSchema> = DeepReadonly<Static<S>>;

export type DeepReadonly<T> = T extends readonly (infer I)[]
  ? readonly DeepReadonly<I>[]
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;

export interface Note {
  readonly description?: string;
  readonly default?: unknown;
}

export interface TextOptions extends Note {
  readonly format?: string;
  readonly pattern?: string;
  readonly maxLength?: number;
  readonly minLength?: number;
  readonly nullable?: boolean;
  readonly "x-kubernetes-validations"?: readonly CelRule[];
}

export interface NumberOptions extends Note {
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly "x-kubernetes-validations"?: readonly CelRule[];
}

export type Reason = "FieldValueInvalid" | "FieldValueForbidden" | "FieldValueRequired" | "FieldValueDuplicate";

export interface CelRule {
  readonly rule: string;
  readonly message: string;
  readonly reason?: Reason;
}

export const opt = Type.Optional;
export const text = (options: TextOptions = {}) => Type.String({ ...options });
export const integer = (options: NumberOptions = {}) => Type.Integer({ ...options });
export const number = (options: NumberOptions = {}) => Type.Number({ ...options });
export const bool = (options: Note = {}) => Type.Boolean({ ...options });
export const object = Type.Object;

/** One word of a closed list. */
export const word = <const V extends readonly string[]>(
  values: V,
  options: Note & { readonly pattern?: string } = {},
) => Type.Unsafe<V[number]>({ type: "string", enum: [...values], ...options });

/** Text in which a pattern accepts any case of some words; stored as written. */
export const anyCase = (words: readonly string[], options: Note = {}) =>
  Type.String({ pattern: `^(?i)(${words.join("|")})?$`, ...options });

/** A number or text: ports, protocols. `pattern` as upstream has it, for what a server publishes in its OpenAPI. */
export const intOrString = (options: Note = {}) =>
  Type.Unsafe<number | string>({
    anyOf: [{ type: "integer" }, { type: "string" }],
    pattern: "^.*",
    "x-kubernetes-int-or-string": true,
    ...options,
  });

export interface ListOptions extends Note {
  readonly minItems?: number;
  readonly maxItems?: number;
}

/** A list that is replaced as a whole. */
export const list = <I extends TSchema>(items: I, options: ListOptions = {}) =>
  Type.Array(items, { ...options, "x-kubernetes-list-type": "atomic" });

/** A list in which a value may appear once; server-side apply merges it. */
export const set = <I extends TSchema>(items: I, options: ListOptions = {}) =>
  Type.Array(items, { ...options, "x-kubernetes-list-type": "set" });

/** A list of objects merged by the fields named. */
export const keyedList = <I extends TSchema>(items: I, keys: readonly string[], options: ListOptions = {}) =>
  Type.Array(items, { ...options, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [...keys] });

/** A list upstream gives no merge behaviour (the API server treats it as atomic). */
export const plainList = <I extends TSchema>(items: I, options: ListOptions = {}) => Type.Array(items, { ...options });

export const mapOf = <V extends TSchema>(values: V, options: Note = {}) =>
  Type.Unsafe<Record<string, Static<V>>>({ type: "object", additionalProperties: values, ...options });

export const stringMap = (options: Note = {}) => mapOf(Type.String(), options);

/** Anything at all, kept as it is. */
export const anything = (options: Note = {}) =>
  Type.Unsafe<unknown>({ "x-kubernetes-preserve-unknown-fields": true, ...options });

/** For objects that belong to Kubernetes: we declare the fields we read and keep the rest. */
export const OPEN = { "x-kubernetes-preserve-unknown-fields": true } as const;

export const ATOMIC_MAP = { "x-kubernetes-map-type": "atomic" } as const;

/** A cross-field rule in CEL. The message is for the person who wrote the manifest. */
export const cel = (rule: string, message: string, reason: Reason = "FieldValueInvalid"): CelRule => ({
  rule,
  message,
  reason,
});

export const checks = (...rules: readonly CelRule[]) => ({ "x-kubernetes-validations": rules });
