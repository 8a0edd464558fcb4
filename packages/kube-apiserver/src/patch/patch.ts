/** The four patch types behind `PATCH`: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch, apply. */
import { cloneJson, isObject, type JsonObject, setField } from "@calico-ts/schema";
import jsonPatch, { type Operation } from "fast-json-patch";
import { ApiError, badRequest } from "../meta/api-error.ts";
import type { KubeObject } from "../meta/object.ts";
import type { ResourceInfo } from "../registry/resource.ts";
import { strategicMerge } from "./strategic.ts";

export type PatchType = "json" | "merge" | "strategic" | "apply";

const TYPES: { readonly [media: string]: PatchType } = {
  "application/json-patch+json": "json",
  "application/merge-patch+json": "merge",
  "application/strategic-merge-patch+json": "strategic",
  "application/apply-patch+yaml": "apply",
  "application/apply-patch+json": "apply",
};

/** @throws ApiError 415 */
export function patchType(contentType: string | undefined, resource: ResourceInfo): PatchType {
  const media = (contentType ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  const type = TYPES[media];
  if (type === undefined || (type === "strategic" && resource.structural !== undefined)) {
    const accepted = Object.keys(TYPES).filter(
      (name) =>
        name !== "application/apply-patch+json" && (resource.structural === undefined || TYPES[name] !== "strategic"),
    );
    throw new ApiError(
      415,
      "UnsupportedMediaType",
      `the body of the request was in an unknown format - accepted media types include: ${accepted.join(", ")}`,
    );
  }
  return type;
}

/** A patched copy. @throws ApiError */
export function patchObject(
  type: Exclude<PatchType, "apply">,
  resource: ResourceInfo,
  original: KubeObject,
  patch: unknown,
): KubeObject {
  const result = patchValue(type, resource, original, patch);
  if (!isObject(result)) throw badRequest("the patch does not yield an object");
  return result as KubeObject;
}

function patchValue(
  type: Exclude<PatchType, "apply">,
  resource: ResourceInfo,
  original: KubeObject,
  patch: unknown,
): unknown {
  if (type === "json") return applyJsonPatch(original, patch);
  if (!isObject(patch)) throw badRequest("json: cannot unmarshal patch into Go value of type map[string]interface {}");
  if (type === "merge") return mergePatch(cloneJson(original), patch);
  return strategicMerge(resource.schema, cloneJson(original), patch);
}

function applyJsonPatch(original: KubeObject, patch: unknown): unknown {
  if (!Array.isArray(patch))
    throw badRequest("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch");
  if (patch.length > 10_000)
    throw new ApiError(413, "RequestEntityTooLarge", "The allowed maximum operations in a JSON patch is 10000");
  try {
    return jsonPatch.applyPatch(cloneJson(original), cloneJson(patch) as Operation[], true, false).newDocument;
  } catch (error) {
    const text = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
    throw new ApiError(422, "Invalid", `the server rejected our request due to an error in our request: ${text}`, {});
  }
}

/** RFC 7386; the original is not changed. */
export function mergePatch(original: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return cloneJson(patch);
  const out: JsonObject = isObject(original) ? { ...original } : {};
  for (const name of Object.keys(patch)) {
    const value = patch[name];
    if (value === null) delete out[name];
    else setField(out, name, mergePatch(out[name], value));
  }
  return out;
}
