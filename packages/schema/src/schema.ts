/**
 * START HERE: Kubernetes structural schemas, the OpenAPI v3 subset of `apiextensions.k8s.io/v1`, as plain objects.
 *
 * An API server treats a custom object in this order, and so do the functions of this package:
 *   1. `prune`          drops what the schema does not know and says what that was   (prune.ts)
 *   2. `applyDefaults`  fills what the user left out                                  (defaults.ts)
 *   3. `validate`       checks values, then CEL rules when the values are sound       (validate.ts, cel-rules.ts)
 * `parseYamlDocuments` reads manifests and can point at the line of any field         (yaml.ts).
 *
 * Source: the Kubernetes API conventions for structural schemas; wording of errors follows the API server so that
 * people, `kubectl` and our own programs see one text whoever did the checking.
 */

export type JsonType = "object" | "array" | "string" | "integer" | "number" | "boolean";

export interface ValidationRule {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
  readonly fieldPath?: string;
  readonly reason?: string;
  readonly optionalOldSelf?: boolean;
}

export interface JsonSchema {
  /** A `JsonType`; the empty text counts as absent. */
  readonly type?: string;
  readonly format?: string;
  readonly title?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly nullable?: boolean;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: boolean;
  readonly exclusiveMaximum?: boolean;
  readonly multipleOf?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly uniqueItems?: boolean;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly required?: readonly string[];
  readonly properties?: { readonly [name: string]: JsonSchema };
  readonly additionalProperties?: boolean | JsonSchema;
  readonly items?: JsonSchema;
  readonly allOf?: readonly JsonSchema[];
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly not?: JsonSchema;
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
  readonly "x-kubernetes-embedded-resource"?: boolean;
  readonly "x-kubernetes-list-type"?: string;
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-map-type"?: string;
  readonly "x-kubernetes-validations"?: readonly ValidationRule[];
}

/** Any JSON object. */
export interface JsonObject {
  [name: string]: unknown;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Fields every object with apiVersion and kind has, whatever its schema says about them. */
export const RESOURCE_FIELDS: readonly string[] = ["apiVersion", "kind", "metadata"];

/** The path of a child: `spec.ingress[0].ports`, `metadata.labels[app.kubernetes.io/name]`. */
export const fieldPath = (parent: string, name: string): string => (parent === "" ? name : `${parent}.${name}`);
export const indexPath = (parent: string, index: number): string => `${parent}[${index}]`;
export const keyPath = (parent: string, key: string): string => `${parent}[${key}]`;

/** The path in one form for programs: `a.b[0].c` ↔ ["a", "b", 0, "c"]. A bracketed word is a map key. */
export function splitPath(path: string): (string | number)[] {
  const parts: (string | number)[] = [];
  for (const match of path.matchAll(/\[([^\]]*)\]|([^.[\]]+)/g)) {
    const [, bracket, name] = match;
    if (name !== undefined) parts.push(name);
    else if (bracket !== undefined) parts.push(/^\d+$/.test(bracket) ? Number(bracket) : bracket);
  }
  return parts;
}

/** Deep equality of JSON values; key order does not matter. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => sameJson(item, b[index]));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key]));
}

/** A deep copy of a JSON value. */
export function cloneJson<T>(value: T): T {
  if (Array.isArray(value)) return value.map((item: unknown) => cloneJson(item)) as T;
  if (!isObject(value)) return value;
  const copy: JsonObject = {};
  for (const key of Object.keys(value)) setField(copy, key, cloneJson(value[key]));
  return copy as T;
}

/** Assignment that treats `__proto__` as the plain field name it is in JSON. */
export function setField(target: JsonObject, name: string, value: unknown): void {
  if (name === "__proto__")
    Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
  else target[name] = value;
}
