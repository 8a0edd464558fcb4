/**
 * Changing an object: PUT, PATCH, subresources and the server's own controllers all come through `updateObject`.
 *
 * The change is a function from the stored object to the wanted one, so that it can be repeated when somebody else
 * wrote in between and the client did not insist on a resourceVersion. An update that changes nothing keeps the
 * resourceVersion. An object that is being deleted goes away with its last finalizer.
 */
import { cloneJson, type FieldError, invalid, sameJson, setField } from "@calico-ts/schema";
import { checkEscalation } from "../admission/escalation.ts";
import { badRequest, conflictError, invalidError, notFoundError, STALE } from "../meta/api-error.ts";
import { type KubeObject, objectKey } from "../meta/object.ts";
import { recordUpdate } from "../patch/managed-fields.ts";
import { StoredObject } from "../storage/stored-object.ts";
import { admissionOf } from "./create.ts";
import { defaultObject, validateObject } from "./decode.ts";
import { type WriteRequest, writeContext } from "./write-request.ts";

export interface Change {
  /** The wanted object, decoded. It gets a copy of the stored one and may change and return it. */
  readonly produce: (current: KubeObject) => KubeObject | Promise<KubeObject>;
  /** Writes managedFields itself (server-side apply). */
  readonly finish?: (object: KubeObject) => void;
  /** Try again when somebody else was faster. A PUT with a resourceVersion must not. */
  readonly retry: boolean;
}

const ATTEMPTS = 10;

/** @throws ApiError */
export async function updateObject(request: WriteRequest, name: string, change: Change): Promise<StoredObject> {
  const { core, resource, namespace } = request;
  const key = objectKey(namespace, name);
  for (let attempt = 1; ; attempt++) {
    const current = core.store.collection(resource.collection).get(key);
    if (current === undefined) throw notFoundError(resource, name);
    const produced = await change.produce(cloneJson(current.object));
    const result = await updateOnce(request, current, produced, change);
    if (result !== "overtaken") return result;
    if (!change.retry || attempt >= ATTEMPTS) throw conflictError(resource, name, STALE);
  }
}

async function updateOnce(
  request: WriteRequest,
  current: StoredObject,
  produced: KubeObject,
  change: Change,
): Promise<StoredObject | "overtaken"> {
  const { core, resource } = request;
  const old = current.object;
  let object = produced;
  const name = old.metadata.name ?? "";
  if (
    (object.metadata.resourceVersion ?? "") !== "" &&
    object.metadata.resourceVersion !== old.metadata.resourceVersion
  ) {
    // A patch that carries no resourceVersion has the one it was made from: being overtaken is then our affair.
    throw conflictError(resource, name, STALE);
  }
  keepMetadata(request, object, old);
  restrictToPart(request, object, old);
  defaultObject(resource, object);
  const review = { ...admissionOf(request), operation: "UPDATE" as const, name, oldObject: old };
  const mutated = await core.admission.mutate(core, { ...review, object });
  if (mutated !== undefined && mutated !== object) object = mutated;
  defaultObject(resource, object);
  checkEscalation(request, object, old);
  resource.strategy.prepareUpdate?.(object, old, writeContext(request));
  bumpGeneration(request, object, old);
  validateObject(request, object, old);
  await core.admission.validate(core, { ...review, object });
  if (core.store.collection(resource.collection).get(current.key) !== current) return "overtaken";
  return store(request, current, object, change);
}

function store(request: WriteRequest, current: StoredObject, object: KubeObject, change: Change): StoredObject {
  const { core, resource } = request;
  const old = current.object;
  if (change.finish !== undefined) change.finish(object);
  else if (sameBesidesOwners(object, old) && keepsOwners(object, old)) return current;
  else if (isOwnerReset(object)) delete object.metadata.managedFields;
  else {
    const writer = {
      manager: request.fieldManager,
      apiVersion: resource.apiVersion,
      subresource: request.subresource,
      statusApart: resource.subresources.includes("status"),
      now: core.now(),
    };
    recordUpdate(resource.schema, old, object, writer);
  }
  object.metadata.resourceVersion = old.metadata.resourceVersion ?? "";
  if (sameJson(object, old)) return current;
  if (request.dryRun) return new StoredObject(current.key, object, current.revision);
  const finished = object.metadata.deletionTimestamp !== undefined && (object.metadata.finalizers ?? []).length === 0;
  if (
    finished &&
    (object.metadata.deletionGracePeriodSeconds ?? 0) === 0 &&
    !namespaceHeld(resource.collection, object)
  ) {
    return core.store.remove(resource.collection, current.key, object);
  }
  return core.store.put(resource.collection, object);
}

/** A namespace lives as long as spec.finalizers has an entry. */
export function namespaceHeld(collection: string, object: KubeObject): boolean {
  if (collection !== "/namespaces") return false;
  const { finalizers } = (object["spec"] ?? {}) as { finalizers?: unknown };
  return Array.isArray(finalizers) && finalizers.length > 0;
}

const keepsOwners = (object: KubeObject, old: KubeObject): boolean =>
  (object.metadata.managedFields ?? []).length === 0 ||
  sameJson(object.metadata.managedFields, old.metadata.managedFields);

const isOwnerReset = (object: KubeObject): boolean => {
  const owners = object.metadata.managedFields;
  return owners?.length === 1 && Object.keys(owners[0] ?? {}).length === 0;
};

function sameBesidesOwners(a: KubeObject, b: KubeObject): boolean {
  const { managedFields: _a, resourceVersion: _va, ...metaA } = a.metadata;
  const { managedFields: _b, resourceVersion: _vb, ...metaB } = b.metadata;
  return sameJson({ ...a, metadata: metaA }, { ...b, metadata: metaB });
}

const KEPT: readonly string[] = [
  "name",
  "namespace",
  "uid",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "generation",
  "generateName",
  "selfLink",
];

/** What a client may not change: identity and the server's bookkeeping. */
function keepMetadata(request: WriteRequest, object: KubeObject, old: KubeObject): void {
  const { resource } = request;
  const meta = object.metadata;
  const errors: FieldError[] = [];
  const name = old.metadata.name ?? "";
  if ((meta.name ?? name) !== name)
    throw badRequest(`the name of the object (${meta.name ?? ""}) does not match the name on the URL (${name})`);
  if (resource.namespaced && (meta.namespace ?? "") !== "" && meta.namespace !== old.metadata.namespace) {
    throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  }
  if ((meta.uid ?? "") !== "" && meta.uid !== old.metadata.uid) {
    throw conflictError(
      resource,
      name,
      `Precondition failed: UID in precondition: ${meta.uid ?? ""}, UID in object meta: ${old.metadata.uid ?? ""}`,
    );
  }
  if (meta.deletionTimestamp !== undefined && old.metadata.deletionTimestamp === undefined) {
    errors.push(invalid("metadata.deletionTimestamp", meta.deletionTimestamp, "field is immutable"));
  }
  if (errors.length > 0) throw invalidError(resource, name, errors);
  for (const field of KEPT) {
    if (old.metadata[field] === undefined) delete meta[field];
    else setField(meta, field, old.metadata[field]);
  }
  if (old.metadata.deletionTimestamp !== undefined) {
    const added = (meta.finalizers ?? []).filter((finalizer) => old.metadata.finalizers?.includes(finalizer) !== true);
    if (added.length > 0) {
      throw invalidError(resource, name, [
        {
          path: "metadata.finalizers",
          type: "Forbidden",
          value: "",
          message: `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((text) => JSON.stringify(text)).join(", ")}}`,
        },
      ]);
    }
  }
}

/** The main resource does not write status; status does not write the rest. */
function restrictToPart(request: WriteRequest, object: KubeObject, old: KubeObject): void {
  const { resource, subresource } = request;
  if (subresource === "status") {
    for (const field of Object.keys(object))
      if (!["apiVersion", "kind", "metadata", "status"].includes(field)) delete object[field];
    for (const field of Object.keys(old))
      if (!["metadata", "status"].includes(field)) object[field] = cloneJson(old[field]);
    if (resource.structural !== undefined)
      object.metadata = { ...cloneJson(old.metadata), ...pick(object.metadata.managedFields) };
    else object.metadata.ownerReferences = cloneJson(old.metadata.ownerReferences ?? []);
    if (object.metadata.ownerReferences?.length === 0) delete object.metadata.ownerReferences;
  } else if (subresource === undefined && resource.subresources.includes("status")) {
    if (old["status"] === undefined) delete object["status"];
    else object["status"] = cloneJson(old["status"]);
  }
}

const pick = (managedFields: KubeObject["metadata"]["managedFields"]): Pick<KubeObject["metadata"], "managedFields"> =>
  managedFields === undefined ? {} : { managedFields };

function bumpGeneration(request: WriteRequest, object: KubeObject, old: KubeObject): void {
  const { resource, subresource } = request;
  if (resource.strategy.generation !== true || subresource === "status") return;
  const statusCounts = resource.structural !== undefined && !resource.subresources.includes("status");
  const part = ({ metadata: _metadata, status, ...rest }: KubeObject): unknown =>
    statusCounts ? { ...rest, status } : rest;
  if (!sameJson(part(object), part(old))) object.metadata.generation = (old.metadata.generation ?? 0) + 1;
}
