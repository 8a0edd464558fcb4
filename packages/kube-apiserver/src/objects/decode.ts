/**
 * From a request body to an object of the requested kind: apiVersion and kind agree, unknown fields are dropped (and
 * reported as `fieldValidation` asks), types are right, defaults are in.
 */
import { applyDefaults, type FieldError, isObject, prune, validate } from "@calico-ts/schema";
import { badRequest, invalidError } from "../meta/api-error.ts";
import { asText, type KubeObject } from "../meta/object.ts";
import { validateMetadata } from "../registry/names.ts";
import { normalize } from "../registry/normalize.ts";
import type { ResourceInfo } from "../registry/resource.ts";
import { typeSchema } from "../registry/type-table.ts";
import { type WriteRequest, writeContext } from "./write-request.ts";

/** Takes ownership of the value. @throws ApiError 400 */
export function decodeObject(request: WriteRequest, value: unknown): KubeObject {
  const { resource } = request;
  if (!isObject(value))
    throw badRequest(
      `couldn't get version/kind; json parse error: json: cannot unmarshal ${typeof value} into Go value`,
    );
  const kind = value["kind"] ?? resource.kind;
  const apiVersion = value["apiVersion"] ?? resource.apiVersion;
  if (kind !== resource.kind || apiVersion !== resource.apiVersion) {
    throw badRequest(
      `${asText(kind)} in version ${JSON.stringify(asText(apiVersion).split("/").at(-1))} cannot be handled as a ${resource.kind}: expected ${resource.apiVersion}, Kind=${resource.kind}`,
    );
  }
  const { apiVersion: _apiVersion, kind: _kind, metadata, ...rest } = value;
  if (metadata !== undefined && metadata !== null && !isObject(metadata)) {
    throw undecodable(
      resource,
      `json: cannot unmarshal ${typeof metadata} into Go struct field .metadata of type v1.ObjectMeta`,
    );
  }
  const object: KubeObject = {
    kind: resource.kind,
    apiVersion: resource.apiVersion,
    metadata: metadata ?? {},
    ...rest,
  };
  const unknown = cleanFields(resource, object);
  reportUnknown(request, unknown);
  return object;
}

/** Drops unknown fields, canonicalises; returns what was unknown. */
function cleanFields(resource: ResourceInfo, object: KubeObject): string[] {
  if (resource.structural === undefined) {
    const { unknown, problem } = normalize(resource.schema, object);
    if (problem !== undefined) throw undecodable(resource, problem);
    return unknown;
  }
  const meta = normalize(typeSchema("V1ObjectMeta"), object.metadata);
  if (meta.problem !== undefined) throw undecodable(resource, meta.problem);
  return [...meta.unknown.map((path) => `metadata.${path}`), ...prune(resource.structural, object)];
}

function reportUnknown(request: WriteRequest, unknown: readonly string[]): void {
  if (unknown.length === 0 || request.fieldValidation === "Ignore") return;
  const texts = unknown.map((path) => `unknown field ${JSON.stringify(path)}`);
  if (request.fieldValidation === "Strict")
    throw undecodable(request.resource, `strict decoding error: ${texts.join(", ")}`);
  for (const text of texts) request.warn(text);
}

const undecodable = (resource: ResourceInfo, problem: string): Error =>
  badRequest(
    `${resource.kind} in version ${JSON.stringify(resource.version)} cannot be handled as a ${resource.kind}: ${problem}`,
  );

/** Fills defaults; safe to repeat after patches and admission. */
export function defaultObject(resource: ResourceInfo, object: KubeObject): void {
  if (resource.structural !== undefined) applyDefaults(resource.structural, object);
  resource.strategy.defaults?.(object);
}

/** @throws ApiError 422 with every mistake. */
export function validateObject(request: WriteRequest, object: KubeObject, old: KubeObject | undefined): void {
  const { resource } = request;
  const errors: FieldError[] = [];
  const context = writeContext(request);
  validateMetadata(object, resource.namespaced, resource.strategy.nameRule ?? "subdomain", errors);
  if (resource.structural !== undefined) errors.push(...validate(resource.structural, object, old));
  else errors.push(...requiredFields(resource, object));
  resource.strategy.validate?.(object, errors, context);
  if (old !== undefined) resource.strategy.validateUpdate?.(object, old, errors, context);
  if (errors.length > 0) throw invalidError(resource, object.metadata.name ?? "", dedupe(errors));
}

function dedupe(errors: readonly FieldError[]): FieldError[] {
  const seen = new Set<string>();
  return errors.filter((error) => {
    const id = `${error.path} ${error.type} ${error.message}`;
    const fresh = !seen.has(id);
    seen.add(id);
    return fresh;
  });
}

/**
 * Required fields of built-in kinds are mostly non-pointer structs that Go fills with zero values; only a missing
 * `spec` of the kinds below is an error of its own.
 */
function requiredFields(resource: ResourceInfo, object: KubeObject): FieldError[] {
  if (resource.kind !== "Pod" || isObject(object["spec"])) return [];
  return [{ path: "spec", type: "Required", value: "", message: "" }];
}
