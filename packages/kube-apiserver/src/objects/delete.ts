/**
 * Deleting an object: preconditions, admission, grace, finalizers, propagation.
 *
 * A pod on a node is only marked; its kubelet deletes it for good with a grace period of zero. Foreground and orphan
 * propagation are finalizers that the garbage collector serves (controllers/garbage-collector.ts). A namespace is
 * marked and emptied first (controllers/namespace.ts).
 */
import { cloneJson, type JsonObject } from "@calico-ts/schema";
import { conflictError, notFoundError } from "../meta/api-error.ts";
import { asNumber, asObject, asText, type KubeObject, objectKey, timestamp } from "../meta/object.ts";
import type { StoredObject } from "../storage/stored-object.ts";
import { admissionOf } from "./create.ts";
import { namespaceHeld } from "./update.ts";
import type { WriteRequest } from "./write-request.ts";

export type Propagation = "Background" | "Foreground" | "Orphan";

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly propagation?: Propagation;
  readonly uid?: string;
  readonly resourceVersion?: string;
}

export const ORPHAN_FINALIZER = "orphan";
export const FOREGROUND_FINALIZER = "foregroundDeletion";

export function parseDeleteOptions(body: unknown, query: URLSearchParams): DeleteOptions {
  const options = asObject(body);
  const preconditions = asObject(options["preconditions"]);
  const grace = asNumber(options["gracePeriodSeconds"]) ?? numeric(query.get("gracePeriodSeconds"));
  const orphan =
    options["orphanDependents"] ??
    (query.has("orphanDependents") ? query.get("orphanDependents") === "true" : undefined);
  const policy = asText(options["propagationPolicy"]) || (query.get("propagationPolicy") ?? "");
  const propagation =
    policy === "Background" || policy === "Foreground" || policy === "Orphan"
      ? policy
      : orphan === undefined
        ? undefined
        : orphan === true
          ? "Orphan"
          : "Background";
  return {
    ...(grace === undefined ? {} : { gracePeriodSeconds: grace }),
    ...(propagation === undefined ? {} : { propagation }),
    ...(asText(preconditions["uid"]) === "" ? {} : { uid: asText(preconditions["uid"]) }),
    ...(asText(preconditions["resourceVersion"]) === ""
      ? {}
      : { resourceVersion: asText(preconditions["resourceVersion"]) }),
  };
}

const numeric = (text: string | null): number | undefined =>
  text === null || !/^\d+$/.test(text) ? undefined : Number(text);

export interface Deleted {
  /** The object as it was last, or as it is now when it only was marked. */
  readonly stored: StoredObject;
  readonly gone: boolean;
}

/** @throws ApiError */
export async function deleteObject(request: WriteRequest, name: string, options: DeleteOptions): Promise<Deleted> {
  const { core, resource } = request;
  const key = objectKey(request.namespace, name);
  const found = core.store.collection(resource.collection).get(key);
  if (found === undefined) throw notFoundError(resource, name);
  checkPreconditions(request, found.object, options);
  await core.admission.validate(core, {
    ...admissionOf(request),
    operation: "DELETE",
    name,
    object: undefined,
    oldObject: found.object,
  });
  const current = core.store.collection(resource.collection).get(key);
  if (current === undefined) throw notFoundError(resource, name);
  checkPreconditions(request, current.object, options);
  if (request.dryRun) return { stored: current, gone: true };
  return resource.collection === "/namespaces" ? markNamespace(request, current) : deleteNow(request, current, options);
}

function checkPreconditions({ resource }: WriteRequest, object: KubeObject, options: DeleteOptions): void {
  const { name = "", uid = "", resourceVersion = "" } = object.metadata;
  if (options.uid !== undefined && options.uid !== uid) {
    throw conflictError(
      resource,
      name,
      `Precondition failed: UID in precondition: ${options.uid}, UID in object meta: ${uid}`,
    );
  }
  if (options.resourceVersion !== undefined && options.resourceVersion !== resourceVersion) {
    throw conflictError(
      resource,
      name,
      `Precondition failed: ResourceVersion in precondition: ${options.resourceVersion}, ResourceVersion in object meta: ${resourceVersion}`,
    );
  }
}

function markNamespace({ core, resource }: WriteRequest, current: StoredObject): Deleted {
  const old = current.object;
  if (old.metadata.deletionTimestamp !== undefined) {
    if (namespaceHeld(resource.collection, old) || (old.metadata.finalizers ?? []).length > 0) {
      throw conflictError(
        resource,
        old.metadata.name ?? "",
        "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will automatically be purged by the system.",
      );
    }
    return { stored: core.store.remove(resource.collection, current.key), gone: true };
  }
  const object = cloneJson(old);
  object.metadata.deletionTimestamp = timestamp(core.now());
  object["status"] = { ...asObject(object["status"]), phase: "Terminating" };
  return { stored: core.store.put(resource.collection, object), gone: false };
}

function deleteNow({ core, resource }: WriteRequest, current: StoredObject, options: DeleteOptions): Deleted {
  const old = current.object;
  const asked = options.gracePeriodSeconds;
  const already = old.metadata.deletionTimestamp !== undefined;
  let grace = resource.strategy.gracePeriod?.(old, asked) ?? 0;
  if (already && grace > 0) grace = Math.min(grace, old.metadata.deletionGracePeriodSeconds ?? grace);
  const finalizers = propagationFinalizers(
    old,
    options.propagation ?? resource.strategy.defaultPropagation ?? "Background",
  );
  if (grace === 0 && finalizers.length === 0)
    return { stored: core.store.remove(resource.collection, current.key), gone: true };
  const unchanged =
    already &&
    grace >= (old.metadata.deletionGracePeriodSeconds ?? 0) &&
    finalizers.length === (old.metadata.finalizers ?? []).length;
  if (unchanged) return { stored: current, gone: false };
  const object = cloneJson(old);
  const meta: JsonObject & KubeObject["metadata"] = object.metadata;
  if (!already || grace < (old.metadata.deletionGracePeriodSeconds ?? 0)) {
    meta.deletionTimestamp = timestamp(core.now() + grace * 1000);
    meta.deletionGracePeriodSeconds = grace;
  }
  if (!already && meta.generation !== undefined) meta.generation++;
  if (finalizers.length > 0) meta.finalizers = finalizers;
  else delete meta.finalizers;
  return { stored: core.store.put(resource.collection, object), gone: false };
}

function propagationFinalizers(object: KubeObject, propagation: Propagation): string[] {
  const others = (object.metadata.finalizers ?? []).filter(
    (name) => name !== ORPHAN_FINALIZER && name !== FOREGROUND_FINALIZER,
  );
  if (propagation === "Orphan") return [...others, ORPHAN_FINALIZER];
  return propagation === "Foreground" ? [...others, FOREGROUND_FINALIZER] : others;
}
