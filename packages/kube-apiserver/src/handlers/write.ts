/** POST, PUT, PATCH and DELETE of objects. The work is done in objects/; this is the HTTP side of it. */
import { cloneJson, isObject } from "@calico-ts/schema";
import {
  ApiError,
  badRequest,
  invalidError,
  methodNotAllowed,
  notFoundError,
  successStatus,
} from "../meta/api-error.ts";
import { asText, type KubeObject, objectKey } from "../meta/object.ts";
import { createObject } from "../objects/create.ts";
import { decodeObject } from "../objects/decode.ts";
import { deleteObject, type DeleteOptions, parseDeleteOptions } from "../objects/delete.ts";
import { type Change, updateObject } from "../objects/update.ts";
import type { FieldValidation, WriteRequest } from "../objects/write-request.ts";
import { applyConfiguration } from "../patch/managed-fields.ts";
import { patchObject, patchType } from "../patch/patch.ts";
import type { ResourceInfo } from "../registry/resource.ts";
import type { StoredObject } from "../storage/stored-object.ts";
import type { Exchange } from "./exchange.ts";
import { listText, requestFilter, sendObject } from "./read.ts";

export function writeRequest(
  exchange: Exchange,
  resource: ResourceInfo,
  namespace: string | undefined,
  subresource?: string,
): WriteRequest {
  const { core, user, warn } = exchange;
  return {
    core,
    resource,
    subresource,
    namespace,
    user,
    dryRun: exchange.dryRun,
    fieldManager: exchange.fieldManager,
    fieldValidation: fieldValidation(exchange),
    warn,
  };
}

function fieldValidation({ query }: Exchange): FieldValidation {
  const value = query.get("fieldValidation") ?? "";
  if (value === "" || value === "Warn") return "Warn";
  if (value === "Strict" || value === "Ignore") return value;
  throw new ApiError(
    422,
    "Invalid",
    `fieldValidation: Unsupported value: ${JSON.stringify(value)}: supported values: "Ignore", "Warn", "Strict"`,
  );
}

export async function handleCreate(
  exchange: Exchange,
  resource: ResourceInfo,
  namespace: string | undefined,
): Promise<void> {
  if (resource.namespaced && namespace === undefined) throw methodNotAllowed(resource, "create");
  const request = writeRequest(exchange, resource, namespace);
  const value = await exchange.readValue();
  const stored = await createObject(request, decodeObject(request, value));
  sendObject(exchange, resource, stored, { code: 201 });
}

export interface Target {
  readonly resource: ResourceInfo;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly subresource: string | undefined;
}

export async function handleUpdate(
  exchange: Exchange,
  { resource, namespace, name, subresource }: Target,
): Promise<void> {
  const request = writeRequest(exchange, resource, namespace, subresource);
  const value = await exchange.readValue();
  const object = decodeObject(request, value);
  const given = object.metadata.name ?? "";
  if (given !== name) {
    throw badRequest(
      given === ""
        ? "name must be provided"
        : `the name of the object (${given}) does not match the name on the URL (${name})`,
    );
  }
  const insists = (object.metadata.resourceVersion ?? "") !== "";
  if (!insists && resource.structural !== undefined) {
    throw invalidError(resource, name, [
      { path: "metadata.resourceVersion", type: "Invalid", value: 0, message: "must be specified for an update" },
    ]);
  }
  const stored = await updateObject(request, name, { produce: () => cloneJson(object), retry: !insists });
  sendObject(exchange, resource, stored, { code: 200 });
}

export async function handlePatch(exchange: Exchange, target: Target): Promise<void> {
  const { resource, namespace, name, subresource } = target;
  const request = writeRequest(exchange, resource, namespace, subresource);
  const type = patchType(exchange.request.headers["content-type"], resource);
  if (type === "apply") {
    await handleApply(exchange, request, name);
    return;
  }
  const patch = await exchange.readValue();
  if (patch === undefined) throw badRequest("error decoding patch: EOF");
  const insists = isObject(patch) && isObject(patch["metadata"]) && asText(patch["metadata"]["resourceVersion"]) !== "";
  const stored = await updateObject(request, name, {
    produce: (current) =>
      decodeObject(request, patchObject(type, resource, { ...current, apiVersion: resource.apiVersion }, patch)),
    retry: !insists,
  });
  sendObject(exchange, resource, stored, { code: 200 });
}

async function handleApply(exchange: Exchange, request: WriteRequest, name: string): Promise<void> {
  const { core, resource, namespace } = request;
  const manager = exchange.query.get("fieldManager") ?? "";
  if (manager === "") throw invalidPatchOptions("fieldManager: Required value: is required for apply patch");
  const force = exchange.query.get("force") === "true";
  const value = await exchange.readValue();
  if (!isObject(value)) throw badRequest("error decoding YAML: the apply configuration must be an object");
  if (value["apiVersion"] === undefined || value["kind"] === undefined)
    throw badRequest("invalid object type: /, Kind=");
  const config = decodeObject(request, cloneJson(value));
  if ((config.metadata.managedFields ?? []).length > 0) throw badRequest("metadata.managedFields must be nil");
  const given = config.metadata.name ?? name;
  if (given !== name)
    throw badRequest(`the name of the object (${given}) does not match the name on the URL (${name})`);
  config.metadata.name = name;
  const statusApart = resource.subresources.includes("status");
  const writer = { manager, apiVersion: resource.apiVersion, subresource: request.subresource, statusApart, force };
  const exists = core.store.collection(resource.collection).get(objectKey(namespace, name)) !== undefined;
  if (!exists) {
    if (request.subresource !== undefined) throw notFoundError(resource, name);
    if ((config.metadata.uid ?? "") !== "") throw conflictOfUid(resource, name, config);
    const { object, finish } = applyConfiguration(resource.schema, undefined, config, { ...writer, now: core.now() });
    const stored = await createObject(request, object, { finish });
    sendObject(exchange, resource, stored, { code: 201 });
    return;
  }
  let finish: (object: KubeObject) => void = () => undefined;
  const stored = await updateObject(request, name, {
    produce: (current) => {
      const applied = applyConfiguration(resource.schema, current, cloneJson(config), { ...writer, now: core.now() });
      finish = applied.finish;
      return applied.object;
    },
    finish: (object) => finish(object),
    retry: true,
  } satisfies Change);
  sendObject(exchange, resource, stored, { code: 200 });
}

const invalidPatchOptions = (why: string): ApiError =>
  new ApiError(422, "Invalid", `PatchOptions.meta.k8s.io "" is invalid: ${why}`, {
    group: "meta.k8s.io",
    kind: "PatchOptions",
  });

const conflictOfUid = (resource: ResourceInfo, name: string, config: KubeObject): ApiError =>
  new ApiError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${resource.plural} ${JSON.stringify(name)}: uid mismatch: the provided object specified uid ${config.metadata.uid ?? ""}, and no existing object was found`,
  );

/** Kinds whose deletion answers with the object, not with a Status. */
const RETURNS_OBJECT = new Set([
  "/pods",
  "/services",
  "/serviceaccounts",
  "/persistentvolumeclaims",
  "/persistentvolumes",
  "/podtemplates",
  "/resourcequotas",
  "/namespaces",
]);

export async function handleDelete(
  exchange: Exchange,
  resource: ResourceInfo,
  namespace: string | undefined,
  name: string,
): Promise<void> {
  const request = writeRequest(exchange, resource, namespace);
  const options = await deleteOptions(exchange);
  const { stored, gone } = await deleteObject(request, name, options);
  if (!gone || RETURNS_OBJECT.has(resource.collection)) {
    sendObject(exchange, resource, stored, { code: 200 });
    return;
  }
  exchange.sendStatus(
    successStatus({
      name,
      ...(resource.group === "" ? {} : { group: resource.group }),
      kind: resource.plural,
      uid: stored.object.metadata.uid ?? "",
    }),
  );
}

async function deleteOptions(exchange: Exchange): Promise<DeleteOptions> {
  return parseDeleteOptions(await exchange.readValue(), exchange.query);
}

export async function handleDeleteCollection(
  exchange: Exchange,
  resource: ResourceInfo,
  namespace: string | undefined,
): Promise<void> {
  const { core, query } = exchange;
  const options = await deleteOptions(exchange);
  const filter = requestFilter(resource, query);
  const victims = core.store
    .collection(resource.collection)
    .list(namespace)
    .filter((stored) => filter?.(stored.object) !== false);
  const deleted: StoredObject[] = [];
  for (const victim of victims) {
    const request = writeRequest(exchange, resource, victim.object.metadata.namespace);
    try {
      deleted.push((await deleteObject(request, victim.object.metadata.name ?? "", options)).stored);
    } catch (error) {
      const gone = error instanceof ApiError && error.status.code === 404;
      if (!gone) throw error;
    }
  }
  exchange.sendJson(200, listText(resource, deleted, { resourceVersion: String(core.store.revision) }));
}
