/**
 * Creating an object: name, admission, allocation, validation, store. Everything after the last `await` runs without
 * interruption, so what was checked still holds when the object is stored.
 */
import { randomUUID } from "node:crypto";
import { cloneJson } from "@calico-ts/schema";
import { alreadyExistsError, badRequest } from "../meta/api-error.ts";
import { type KubeObject, objectKey, timestamp } from "../meta/object.ts";
import { recordUpdate } from "../patch/managed-fields.ts";
import { checkEscalation } from "../admission/escalation.ts";
import type { StoredObject } from "../storage/stored-object.ts";
import { StoredObject as Stored } from "../storage/stored-object.ts";
import { defaultObject, validateObject } from "./decode.ts";
import { type WriteRequest, writeContext } from "./write-request.ts";

const NAME_ATTEMPTS = 8;
const MAX_NAME_BASE = 58;

export interface CreateOptions {
  /** Writes managedFields itself (server-side apply). */
  readonly finish?: (object: KubeObject) => void;
}

/** Takes ownership of the object, which has been decoded. @throws ApiError */
export async function createObject(
  request: WriteRequest,
  decoded: KubeObject,
  options: CreateOptions = {},
): Promise<StoredObject> {
  const generated = (decoded.metadata.name ?? "") === "" && (decoded.metadata.generateName ?? "") !== "";
  for (let attempt = 1; ; attempt++) {
    const object = generated && attempt < NAME_ATTEMPTS ? cloneJson(decoded) : decoded;
    if (generated)
      object.metadata.name = `${(object.metadata.generateName ?? "").slice(0, MAX_NAME_BASE)}${request.core.suffix(5)}`;
    try {
      return await createOnce(request, object, options);
    } catch (error) {
      const taken = error instanceof Error && "code" in error && error.code === "ALREADY_EXISTS";
      if (!generated || !taken || attempt >= NAME_ATTEMPTS) throw error;
    }
  }
}

async function createOnce(request: WriteRequest, decoded: KubeObject, options: CreateOptions): Promise<StoredObject> {
  const { core, resource } = request;
  let object = decoded;
  prepareMetadata(request, object);
  defaultObject(resource, object);
  // Ownership is what the client sent, defaults included; what admission injects belongs to nobody.
  const submitted = options.finish === undefined ? cloneJson(object) : object;
  const review = {
    ...admissionOf(request),
    operation: "CREATE" as const,
    name: object.metadata.name ?? "",
    oldObject: undefined,
  };
  const mutated = await core.admission.mutate(core, { ...review, object });
  if (mutated !== undefined && mutated !== object) object = mutated;
  defaultObject(resource, object);
  checkEscalation(request, object, undefined);
  const context = writeContext(request);
  resource.strategy.prepareCreate?.(object, context);
  if (resource.structural !== undefined && resource.subresources.includes("status")) delete object["status"];
  validateObject(request, object, undefined);
  refuseExisting(request, object);
  const waited = await core.admission.validate(core, { ...review, object });
  if (waited) {
    // Others may have written meanwhile: allocations and the name are checked again.
    resource.strategy.prepareCreate?.(object, context);
    refuseExisting(request, object);
  }
  if (options.finish === undefined) {
    recordUpdate(resource.schema, undefined, submitted, {
      manager: request.fieldManager,
      apiVersion: resource.apiVersion,
      subresource: undefined,
      statusApart: resource.subresources.includes("status"),
      now: core.now(),
    });
    object.metadata.managedFields = submitted.metadata.managedFields ?? [];
  } else options.finish(object);
  if (request.dryRun) return new Stored(objectKey(object.metadata.namespace, object.metadata.name ?? ""), object, 0);
  return core.store.put(resource.collection, object);
}

function prepareMetadata(request: WriteRequest, object: KubeObject): void {
  const { core, resource, namespace } = request;
  const meta = object.metadata;
  if ((meta.resourceVersion ?? "") !== "")
    throw badRequest("resourceVersion should not be set on objects to be created");
  if (resource.namespaced) {
    if ((meta.namespace ?? "") === "" && namespace !== undefined) meta.namespace = namespace;
    else if (meta.namespace !== namespace) {
      throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
    }
  } else delete meta.namespace;
  meta.uid = randomUUID();
  meta.creationTimestamp = timestamp(core.now());
  for (const field of [
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "generation",
    "managedFields",
  ])
    delete meta[field];
  if (resource.strategy.generation === true) meta.generation = 1;
}

function refuseExisting({ core, resource }: WriteRequest, object: KubeObject): void {
  const name = object.metadata.name ?? "";
  if (core.store.collection(resource.collection).get(objectKey(object.metadata.namespace, name)) !== undefined) {
    throw alreadyExistsError(resource, name);
  }
}

export function admissionOf(request: WriteRequest): {
  readonly resource: WriteRequest["resource"];
  readonly subresource: string | undefined;
  readonly namespace: string | undefined;
  readonly user: WriteRequest["user"];
  readonly dryRun: boolean;
  readonly warn: (text: string) => void;
} {
  const { resource, subresource, namespace, user, dryRun, warn } = request;
  return { resource, subresource, namespace, user, dryRun, warn };
}
