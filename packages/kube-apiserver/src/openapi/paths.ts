/** The paths of a resource with the operations and parameters clients look for (dry run, field validation, apply). */
import type { JsonObject } from "@calico-ts/schema";
import type { ResourceInfo } from "../registry/resource.ts";

export interface PathDialect {
  readonly v3: boolean;
  readonly reference: (definition: string) => JsonObject;
}

const WRITE_PARAMETERS = ["dryRun", "fieldManager", "fieldValidation"];
const PATCH_TYPES = [
  "application/json-patch+json",
  "application/merge-patch+json",
  "application/strategic-merge-patch+json",
  "application/apply-patch+yaml",
];

export function resourcePaths(
  resource: ResourceInfo,
  definition: string,
  dialect: PathDialect,
): { [path: string]: JsonObject } {
  const root = resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const collection = `${root}/${resource.namespaced ? "namespaces/{namespace}/" : ""}${resource.plural}`;
  const operation = (action: string, parameters: readonly string[], id: string): JsonObject => ({
    operationId: `${id}${camel(resource.group)}${camel(resource.version)}${resource.namespaced ? "Namespaced" : ""}${resource.kind}`,
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": { group: resource.group, version: resource.version, kind: resource.kind },
    ...(action === "patch" ? patchBody(resource, dialect) : {}),
    parameters: parameters.map((name) => parameter(name, dialect)),
    responses: { "200": response(definition, dialect) },
  });
  const pathParameters = (names: readonly string[]): JsonObject => ({
    parameters: names.map((name) => pathParameter(name, dialect)),
  });
  const namespace = resource.namespaced ? ["namespace"] : [];
  return {
    [collection]: {
      get: operation("list", ["fieldSelector", "labelSelector", "limit", "continue", "watch"], "list"),
      post: operation("post", WRITE_PARAMETERS, "create"),
      delete: operation("deletecollection", ["dryRun"], "deleteCollection"),
      ...pathParameters(namespace),
    },
    [`${collection}/{name}`]: {
      get: operation("get", [], "read"),
      put: operation("put", WRITE_PARAMETERS, "replace"),
      patch: operation("patch", [...WRITE_PARAMETERS, "force"], "patch"),
      delete: operation("delete", ["dryRun"], "delete"),
      ...pathParameters([...namespace, "name"]),
    },
  };
}

/** kubectl decides from this whether it may send strategic merge patches. */
function patchBody(resource: ResourceInfo, { v3 }: PathDialect): JsonObject {
  const types = PATCH_TYPES.filter((type) => resource.structural === undefined || !type.includes("strategic"));
  if (!v3) return { consumes: types };
  return {
    requestBody: {
      required: true,
      content: Object.fromEntries(types.map((type) => [type, { schema: { type: "object" } }])),
    },
  };
}

const camel = (text: string): string =>
  text
    .split(/[.-]/)
    .map((part) => part.slice(0, 1).toUpperCase() + part.slice(1))
    .join("");

const typeOf = (name: string): string =>
  name === "force" || name === "watch" ? "boolean" : name === "limit" ? "integer" : "string";

const parameter = (name: string, { v3 }: PathDialect): JsonObject =>
  v3
    ? { name, in: "query", schema: { type: typeOf(name), uniqueItems: true } }
    : { name, in: "query", type: typeOf(name), uniqueItems: true };

const pathParameter = (name: string, { v3 }: PathDialect): JsonObject =>
  v3
    ? { name, in: "path", required: true, schema: { type: "string", uniqueItems: true } }
    : { name, in: "path", required: true, type: "string", uniqueItems: true };

const response = (definition: string, dialect: PathDialect): JsonObject =>
  dialect.v3
    ? { description: "OK", content: { "application/json": { schema: dialect.reference(definition) } } }
    : { description: "OK", schema: dialect.reference(definition) };
