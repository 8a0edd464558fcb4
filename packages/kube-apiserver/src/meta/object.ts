/** Kubernetes objects as this server holds them: plain JSON with a typed metadata. Stored objects are never changed in place. */
import { isObject, type JsonObject } from "@calico-ts/schema";

export interface OwnerReference extends JsonObject {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

export interface ManagedFieldsEntry extends JsonObject {
  manager: string;
  operation: "Apply" | "Update";
  apiVersion: string;
  time?: string;
  fieldsType: "FieldsV1";
  fieldsV1: JsonObject;
  subresource?: string;
}

export interface ObjectMeta extends JsonObject {
  name?: string;
  generateName?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: { [key: string]: string };
  annotations?: { [key: string]: string };
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
  managedFields?: ManagedFieldsEntry[];
}

export interface KubeObject extends JsonObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

/** The value when it is an object, else an empty one to read from. */
export const asObject = (value: unknown): JsonObject => (isObject(value) ? value : {});
export const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
export const asText = (value: unknown): string => (typeof value === "string" ? value : "");
export const asNumber = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined);

/** The text items of a list; everything else is left out. */
export const asTexts = (value: unknown): string[] => asList(value).filter((item) => typeof item === "string");

/** The objects of a list; everything else is left out. */
export const asObjects = (value: unknown): JsonObject[] => asList(value).filter(isObject);

export const asTextMap = (value: unknown): { readonly [key: string]: string } =>
  asObject(value) as { [key: string]: string };

/** The child object of that name, made when it is missing. */
export function ensureObject(parent: JsonObject, name: string): JsonObject {
  const existing = parent[name];
  if (isObject(existing)) return existing;
  const made: JsonObject = {};
  parent[name] = made;
  return made;
}

/** Sets the field when it is absent. */
export function defaultField(parent: JsonObject, name: string, value: unknown): void {
  if (parent[name] === undefined || parent[name] === null) parent[name] = value;
}

/** What stands at a dotted path, or undefined. */
export function valueAt(root: unknown, path: readonly string[]): unknown {
  let value: unknown = root;
  for (const name of path) {
    if (!isObject(value) || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}

/** `namespace/name`, or just the name for what has no namespace: the key within a collection. */
export const objectKey = (namespace: string | undefined, name: string): string =>
  namespace === undefined || namespace === "" ? name : `${namespace}/${name}`;

export const keyOf = (object: KubeObject): string => objectKey(object.metadata.namespace, object.metadata.name ?? "");

/** RFC 3339 with seconds, as metav1.Time writes it. */
export const timestamp = (ms: number): string => new Date(ms).toISOString().replace(/\.\d{3}Z$/, "Z");
