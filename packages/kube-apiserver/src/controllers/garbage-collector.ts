/**
 * Garbage collection by owner references.
 *
 * Background: when an owner is gone, its dependents without another living owner go too. Foreground: a dependent that
 * blocks keeps the owner until it is gone. Orphan: dependents lose the reference first. Two indexes follow the store:
 * uid → object, owner uid → dependents; after a restart there is nothing to rebuild, the store is as young as we.
 */
import { MultiMap } from "@calico-ts/std";
import type { ApiCore } from "../core.ts";
import { ApiError } from "../meta/api-error.ts";
import { asObjects, asText, type KubeObject, objectKey } from "../meta/object.ts";
import { deleteObject, FOREGROUND_FINALIZER, ORPHAN_FINALIZER } from "../objects/delete.ts";
import { updateObject } from "../objects/update.ts";
import { internalRequest } from "../objects/write-request.ts";
import { createQueue } from "./controller.ts";

interface Place {
  readonly collection: string;
  readonly namespace: string | undefined;
  readonly name: string;
}

interface Indexes {
  readonly places: Map<string, Place>;
  readonly owners: Map<string, readonly string[]>;
  readonly dependents: MultiMap<string, string>;
}

export function startGarbageCollector(core: ApiCore): Disposable {
  const indexes: Indexes = { places: new Map(), owners: new Map(), dependents: new MultiMap() };
  const queue = createQueue(core, (uid) => collect(core, indexes, uid));
  const stop = core.store.listen((collection, event) => {
    const { object } = event.current;
    const uid = object.metadata.uid ?? "";
    const owners =
      event.type === "DELETED" ? [] : asObjects(object.metadata.ownerReferences).map((owner) => asText(owner["uid"]));
    const before = indexes.owners.get(uid) ?? [];
    for (const owner of before) indexes.dependents.delete(owner, uid);
    for (const owner of owners) indexes.dependents.add(owner, uid);
    if (event.type === "DELETED") {
      indexes.places.delete(uid);
      indexes.owners.delete(uid);
      for (const dependent of indexes.dependents.get(uid)) queue.add(dependent);
      for (const owner of before) queue.add(owner);
      return;
    }
    indexes.places.set(uid, { collection, namespace: object.metadata.namespace, name: object.metadata.name ?? "" });
    if (owners.length > 0) indexes.owners.set(uid, owners);
    else indexes.owners.delete(uid);
    if (owners.some((owner) => !indexes.places.has(owner)) || object.metadata.deletionTimestamp !== undefined)
      queue.add(uid);
  });
  return {
    [Symbol.dispose]() {
      stop();
      queue[Symbol.dispose]();
    },
  };
}

async function collect(core: ApiCore, indexes: Indexes, uid: string): Promise<void> {
  const place = indexes.places.get(uid);
  if (place === undefined) return;
  const object = core.store.collection(place.collection).get(objectKey(place.namespace, place.name))?.object;
  const resource = core.registry.storedIn(place.collection);
  if (object === undefined || resource === undefined) return;
  const request = internalRequest(core, resource, place.namespace);
  const finalizers = object.metadata.finalizers ?? [];
  if (object.metadata.deletionTimestamp !== undefined) {
    if (finalizers.includes(ORPHAN_FINALIZER)) await orphan(core, indexes, object);
    else if (!finalizers.includes(FOREGROUND_FINALIZER) || (await foreground(core, indexes, object)) > 0) return;
    await updateObject(request, place.name, { retry: true, produce: (current) => withoutFinalizers(current) }).catch(
      ignoreMissing,
    );
    return;
  }
  const owners = asObjects(object.metadata.ownerReferences).map((owner) => asText(owner["uid"]));
  if (owners.length === 0) return;
  const living = owners.filter((owner) => alive(core, indexes, owner));
  if (living.length === owners.length) return;
  if (living.length === 0) {
    await deleteObject(request, place.name, { propagation: "Background", uid }).catch(ignoreMissing);
    return;
  }
  await updateObject(request, place.name, { retry: true, produce: (current) => keepOwners(current, living) }).catch(
    ignoreMissing,
  );
}

const withoutFinalizers = (object: KubeObject): KubeObject => {
  object.metadata.finalizers = (object.metadata.finalizers ?? []).filter(
    (name) => name !== ORPHAN_FINALIZER && name !== FOREGROUND_FINALIZER,
  );
  return object;
};

const keepOwners = (object: KubeObject, living: readonly string[]): KubeObject => {
  object.metadata.ownerReferences = (object.metadata.ownerReferences ?? []).filter((owner) =>
    living.includes(owner.uid),
  );
  if (object.metadata.ownerReferences.length === 0) delete object.metadata.ownerReferences;
  return object;
};

function objectOf(core: ApiCore, indexes: Indexes, uid: string): KubeObject | undefined {
  const place = indexes.places.get(uid);
  return place === undefined
    ? undefined
    : core.store.collection(place.collection).get(objectKey(place.namespace, place.name))?.object;
}

/** An owner that waits for its dependents to go does not keep them. */
function alive(core: ApiCore, indexes: Indexes, uid: string): boolean {
  const owner = objectOf(core, indexes, uid);
  if (owner === undefined) return false;
  return (
    owner.metadata.deletionTimestamp === undefined || owner.metadata.finalizers?.includes(FOREGROUND_FINALIZER) !== true
  );
}

async function orphan(core: ApiCore, indexes: Indexes, owner: KubeObject): Promise<void> {
  const uid = owner.metadata.uid ?? "";
  for (const dependent of Array.from(indexes.dependents.get(uid))) {
    const place = indexes.places.get(dependent);
    const resource = place === undefined ? undefined : core.registry.storedIn(place.collection);
    if (place === undefined || resource === undefined) continue;
    const request = internalRequest(core, resource, place.namespace);
    const produce = (current: KubeObject): KubeObject =>
      keepOwners(
        current,
        (current.metadata.ownerReferences ?? []).map((reference) => reference.uid).filter((other) => other !== uid),
      );
    await updateObject(request, place.name, { retry: true, produce }).catch(ignoreMissing);
  }
}

/** Deletes the dependents; returns how many still block. */
async function foreground(core: ApiCore, indexes: Indexes, owner: KubeObject): Promise<number> {
  const uid = owner.metadata.uid ?? "";
  let blocking = 0;
  for (const dependent of Array.from(indexes.dependents.get(uid))) {
    const object = objectOf(core, indexes, dependent);
    const place = indexes.places.get(dependent);
    const resource = place === undefined ? undefined : core.registry.storedIn(place.collection);
    if (object === undefined || place === undefined || resource === undefined) continue;
    const others = (object.metadata.ownerReferences ?? []).filter((reference) => reference.uid !== uid);
    if (others.some((reference) => alive(core, indexes, reference.uid))) continue;
    const reference = object.metadata.ownerReferences?.find((entry) => entry.uid === uid);
    if (object.metadata.deletionTimestamp === undefined) {
      const { gone } = await deleteObject(internalRequest(core, resource, place.namespace), place.name, {
        propagation: "Foreground",
      }).catch(missing);
      if (gone) continue;
    }
    if (reference?.blockOwnerDeletion === true) blocking++;
  }
  return blocking;
}

function missing(error: unknown): { readonly gone: boolean } {
  ignoreMissing(error);
  return { gone: true };
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof ApiError && error.status.code === 404)) throw error;
}
