/**
 * What a write does to a stored resource, for backends without an API server: which fields a caller cannot set, what
 * compare-and-swap compares, what finalizers hold back. Kubernetes' rules; defaults and validation come from the model,
 * as upstream does client-side in etcd mode. Pure: time, uids and randomness are arguments.
 */
import { isDeepStrictEqual } from "node:util";
import { type KindName, kinds } from "@calico-ts/model";
import { CalicoError } from "@calico-ts/std";
import { type DeletePreconditions, describeKey, type MergePatch } from "./client.ts";
import { applyMergePatch } from "./merge-patch.ts";
import { type AnyResource, checkKey, isCustom, keyOf, prepareOrThrow, withoutStatus } from "./resource.ts";

const GENERATED_ALPHABET = "bcdfghjklmnpqrstvwxz2456789";

export const timestamp = (nowMs: number): string => `${new Date(nowMs).toISOString().slice(0, 19)}Z`;

/** @throws CalicoError BAD_INPUT */
export function newResource(
  kind: KindName,
  resource: AnyResource,
  facts: { readonly uid: string; readonly nowMs: number; readonly random: () => number },
): AnyResource {
  const { name: given, generateName, resourceVersion } = resource.metadata;
  if (resourceVersion !== undefined && resourceVersion !== "") {
    throw new CalicoError("BAD_INPUT", `creating ${kind} ${given ?? ""}: metadata.resourceVersion must not be set`);
  }
  const name = given === undefined || given === "" ? generatedName(kind, generateName, facts.random) : given;
  const draft = withoutStatus(kind, resource);
  const stored = prepareOrThrow(kind, {
    ...draft,
    metadata: {
      ...draft.metadata,
      name,
      uid: facts.uid,
      creationTimestamp: timestamp(facts.nowMs),
      generation: 1,
      deletionTimestamp: undefined,
    },
  });
  checkKey(kind, keyOf(stored));
  return stored;
}

function generatedName(kind: KindName, generateName: string | undefined, random: () => number): string {
  if (generateName === undefined || generateName === "") {
    throw new CalicoError("BAD_INPUT", `creating a ${kind}: metadata.name or metadata.generateName is required`);
  }
  let name = generateName;
  for (let i = 0; i < 5; i++) name += GENERATED_ALPHABET[Math.floor(random() * GENERATED_ALPHABET.length)] ?? "b";
  return name;
}

/** @throws CalicoError BAD_INPUT when the caller did not say which revision it read */
export function checkRevisionGiven(kind: KindName, wanted: AnyResource): void {
  if (wanted.metadata.resourceVersion !== undefined && wanted.metadata.resourceVersion !== "") return;
  const what = describeKey(kind, keyOf(wanted));
  throw new CalicoError("BAD_INPUT", `updating ${what}: metadata.resourceVersion must be what a read returned`);
}

/** @throws CalicoError CONFLICT */
export function checkSwap(kind: KindName, old: AnyResource, wanted: DeletePreconditions): void {
  const what = describeKey(kind, keyOf(old));
  if (wanted.uid !== undefined && wanted.uid !== old.metadata.uid) {
    throw new CalicoError("CONFLICT", `${what}: it is another object now (uid ${old.metadata.uid ?? ""})`);
  }
  if (wanted.resourceVersion !== undefined && wanted.resourceVersion !== old.metadata.resourceVersion) {
    throw new CalicoError("CONFLICT", `${what} was changed meanwhile: read it again and repeat the change`);
  }
}

/** What is stored after a write: the same, something else, or nothing (its last finalizer has gone). */
export type Written =
  | { readonly kind: "same" }
  | { readonly kind: "stored"; readonly next: AnyResource }
  | { readonly kind: "gone"; readonly last: AnyResource };

/** An update of everything but the status. */
export const updated = (kind: KindName, old: AnyResource, wanted: AnyResource): Written =>
  replaced(kind, old, keepStatus(kind, wanted, old));

/** An update of the status alone. */
export const statusUpdated = (kind: KindName, old: AnyResource, wanted: AnyResource): Written =>
  replaced(kind, old, statusWrite(kind, old, wanted));

/** @throws CalicoError CONFLICT when the patch names another revision or uid */
export function patched(kind: KindName, old: AnyResource, patch: MergePatch, status: boolean): Written {
  const wanted = applyMergePatch(old, patch) as AnyResource;
  checkSwap(kind, old, wanted.metadata);
  return status ? statusUpdated(kind, old, wanted) : updated(kind, old, wanted);
}

export function deleted(old: AnyResource, nowMs: number): Written {
  if ((old.metadata.finalizers ?? []).length === 0) return { kind: "gone", last: old };
  if (old.metadata.deletionTimestamp !== undefined) return { kind: "same" };
  const metadata = { ...old.metadata, deletionTimestamp: timestamp(nowMs), deletionGracePeriodSeconds: 0 };
  return { kind: "stored", next: { ...old, metadata } };
}

/** The common end of every change to an existing resource. */
function replaced(kind: KindName, old: AnyResource, wanted: AnyResource): Written {
  const { uid, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, generation, resourceVersion } =
    old.metadata;
  const kept = { uid, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, generation, resourceVersion };
  const next = prepareOrThrow(kind, { ...wanted, metadata: { ...wanted.metadata, ...kept } }, old);
  if (isDeepStrictEqual(next, old)) return { kind: "same" };
  if (deletionTimestamp !== undefined && (next.metadata.finalizers ?? []).length === 0) {
    return { kind: "gone", last: next };
  }
  const { metadata: _newMeta, status: _newStatus, ...content } = next;
  const { metadata: _oldMeta, status: _oldStatus, ...before } = old;
  if (isDeepStrictEqual(content, before)) return { kind: "stored", next };
  return { kind: "stored", next: { ...next, metadata: { ...next.metadata, generation: (generation ?? 1) + 1 } } };
}

/** Writes that are not to the status subresource keep the status there was. */
const keepStatus = (kind: KindName, next: AnyResource, old: AnyResource): AnyResource =>
  kinds[kind].hasStatus ? withStatus(next, old.status) : next;

const withStatus = (resource: AnyResource, status: unknown): AnyResource => {
  const { status: _dropped, ...rest } = resource;
  return status === undefined ? rest : { ...rest, status };
};

/**
 * What a write to the status subresource changes: for custom resources the status alone; for built-in kinds labels and
 * annotations too (upstream's CNI writes pod annotations that way).
 */
function statusWrite(kind: KindName, old: AnyResource, wanted: AnyResource): AnyResource {
  if (isCustom(kind)) return withStatus(old, wanted.status);
  return { ...withStatus(old, wanted.status), metadata: wanted.metadata };
}
