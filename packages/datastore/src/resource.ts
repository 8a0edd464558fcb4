/** A resource of any kind, and what stores without an API server need to know about kinds. */
import { type KindName, kinds, prepare } from "@calico-ts/model";
import { fieldErrorsText } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import { describeKey, type ResourceKey } from "./client.ts";

export interface AnyMeta {
  readonly name?: string | undefined;
  readonly namespace?: string | undefined;
  readonly generateName?: string | undefined;
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  readonly generation?: number | undefined;
  readonly creationTimestamp?: string | undefined;
  readonly deletionTimestamp?: string | undefined;
  readonly deletionGracePeriodSeconds?: number | undefined;
  readonly finalizers?: readonly string[] | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

export interface AnyResource {
  readonly metadata: AnyMeta;
  readonly status?: unknown;
  readonly [field: string]: unknown;
}

export const keyOf = (resource: AnyResource): ResourceKey => ({
  name: resource.metadata.name ?? "",
  namespace: resource.metadata.namespace,
});

export const storageKey = (key: ResourceKey): string => `${key.namespace ?? ""}/${key.name}`;

/** @throws CalicoError BAD_INPUT: a namespaced kind without a namespace, or the other way round */
export function checkKey(kind: KindName, key: ResourceKey): void {
  const namespace = key.namespace ?? "";
  if (key.name === "") throw new CalicoError("BAD_INPUT", `${kind}: a name is required`);
  if (kinds[kind].namespaced === (namespace !== "")) return;
  const why = namespace === "" ? "a namespace is required" : "this kind has no namespaces";
  throw new CalicoError("BAD_INPUT", `${describeKey(kind, key)}: ${why}`);
}

export const isCustom = (kind: KindName): boolean => kinds[kind].group.endsWith("projectcalico.org");

/** Kinds with a status subresource ignore the status in every other write. */
export function withoutStatus(kind: KindName, resource: AnyResource): AnyResource {
  if (!kinds[kind].hasStatus || resource.status === undefined) return resource;
  const { status: _dropped, ...rest } = resource;
  return rest;
}

/** Defaults and validation of the model. @throws CalicoError BAD_INPUT with every field that is wrong */
export function prepareOrThrow(kind: KindName, value: AnyResource, old?: AnyResource): AnyResource {
  const prepared = prepare(kind, value, { old });
  if (prepared.ok) return prepared.resource as unknown as AnyResource;
  const what = describeKey(kind, keyOf(value));
  throw new CalicoError("BAD_INPUT", `${what} is invalid: ${fieldErrorsText(prepared.errors)}`);
}
