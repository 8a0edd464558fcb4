/**
 * OpenAPI definitions of everything served, from the same schemas that decode requests. Types that occur in several
 * kinds are definitions of their own, named like upstream's (`io.k8s.api.apps.v1.Deployment`), because clients look
 * for the extension `x-kubernetes-group-version-kind` on them and follow references.
 */
import { isObject, type JsonObject, type JsonSchema } from "@calico-ts/schema";
import type { ResourceInfo } from "../registry/resource.ts";
import { typeSchema, type TypeSchema } from "../registry/type-table.ts";

const META = "io.k8s.apimachinery.pkg.apis.meta.v1";

const META_TYPES = new Set([
  "ObjectMeta",
  "OwnerReference",
  "ManagedFieldsEntry",
  "LabelSelector",
  "LabelSelectorRequirement",
  "Condition",
  "ListMeta",
  "DeleteOptions",
  "Preconditions",
]);

const PACKAGES: { readonly [group: string]: string } = {
  "": "io.k8s.api.core",
  "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
  "rbac.authorization.k8s.io": "io.k8s.api.rbac",
};

export const packageOf = (group: string): string => PACKAGES[group] ?? `io.k8s.api.${group.split(".")[0] ?? group}`;

export interface Dialect {
  /** `#/definitions/` or `#/components/schemas/`. */
  readonly prefix: string;
  readonly v3: boolean;
}

export class DefinitionSet {
  readonly #dialect: Dialect;
  readonly definitions: { [name: string]: JsonObject } = {};
  /** Name in the type table → name of the definition: the first kind to use a type decides where it lives. */
  readonly #names = new Map<string, string>();

  constructor(dialect: Dialect) {
    this.#dialect = dialect;
  }

  /** Adds the kind, its list and all they refer to; returns the name of the kind's definition. */
  addResource(resource: ResourceInfo): string {
    const name =
      resource.structural === undefined
        ? this.#typeName(resource.schema["x-type"] ?? "", resource)
        : customName(resource);
    if (resource.structural === undefined) this.#addType(resource.schema["x-type"] ?? "", resource);
    else this.#addCustom(name, resource);
    const definition = this.definitions[name];
    if (definition !== undefined) {
      definition["description"] ??= `${resource.kind} in group ${resource.group === "" ? "core" : resource.group}.`;
      definition["x-kubernetes-group-version-kind"] = [
        { group: resource.group, version: resource.version, kind: resource.kind },
      ];
    }
    this.#addType("V1ListMeta", resource);
    const listName = name.replace(new RegExp(`${resource.kind}$`), resource.listKind);
    this.definitions[listName] = {
      description: `A list of ${resource.kind}.`,
      type: "object",
      required: ["items"],
      properties: {
        apiVersion: { type: "string" },
        kind: { type: "string" },
        metadata: this.#reference(this.#typeName("V1ListMeta", resource)),
        items: { type: "array", items: this.#reference(name) },
      },
      "x-kubernetes-group-version-kind": [
        { group: resource.group, version: resource.version, kind: resource.listKind },
      ],
    };
    return name;
  }

  #typeName(type: string, resource: ResourceInfo): string {
    const known = this.#names.get(type);
    if (known !== undefined) return known;
    const base = type.replace(/^[A-Z][a-z]*(?=V\d[A-Z])/, "").replace(/^V\d+/, "");
    const name = META_TYPES.has(base) ? `${META}.${base}` : `${packageOf(resource.group)}.${resource.version}.${base}`;
    this.#names.set(type, name);
    return name;
  }

  #addType(type: string, resource: ResourceInfo): string {
    const name = this.#typeName(type, resource);
    if (this.definitions[name] !== undefined) return name;
    const schema: TypeSchema = type === "V1ListMeta" ? LIST_META : typeSchema(type);
    const definition: JsonObject = { type: "object" };
    this.definitions[name] = definition;
    const properties: JsonObject = {};
    for (const [field, property] of Object.entries(schema.properties ?? {}))
      properties[field] = this.#render(property, resource);
    if (Object.keys(properties).length > 0) definition["properties"] = properties;
    if ((schema.required ?? []).length > 0) definition["required"] = schema.required;
    if (schema["x-kubernetes-map-type"] !== undefined)
      definition["x-kubernetes-map-type"] = schema["x-kubernetes-map-type"];
    return name;
  }

  #render(schema: TypeSchema, resource: ResourceInfo): JsonObject {
    const extras: JsonObject = {};
    for (const key of [
      "x-kubernetes-list-type",
      "x-kubernetes-list-map-keys",
      "x-kubernetes-map-type",
      "x-kubernetes-patch-merge-key",
      "x-kubernetes-patch-strategy",
    ] as const) {
      const value = schema[key];
      if (value !== undefined && !(key === "x-kubernetes-map-type" && schema["x-type"] !== undefined))
        extras[key] = value;
    }
    if (schema["x-type"] !== undefined) {
      const reference = this.#reference(this.#addType(schema["x-type"], resource));
      return Object.keys(extras).length === 0 || !this.#dialect.v3
        ? { ...reference, ...extras }
        : { allOf: [reference], ...extras };
    }
    if (schema.items !== undefined) return { type: "array", items: this.#render(schema.items, resource), ...extras };
    if (isObject(schema.additionalProperties))
      return { type: "object", additionalProperties: this.#render(schema.additionalProperties, resource), ...extras };
    if (schema.format === "quantity") return { type: "string", ...extras };
    if (schema["x-kubernetes-int-or-string"] === true) return { type: "string", format: "int-or-string", ...extras };
    if (schema["x-kubernetes-preserve-unknown-fields"] === true)
      return { type: "object", "x-kubernetes-preserve-unknown-fields": true };
    return { type: schema.type, ...(schema.format === undefined ? {} : { format: schema.format }), ...extras };
  }

  #addCustom(name: string, resource: ResourceInfo): void {
    const structural = resource.structural ?? {};
    const rendered = this.#dialect.v3 ? { ...(structural as JsonObject) } : plainCustom(structural);
    const meta = this.#addType("V1ObjectMeta", resource);
    const properties = isObject(rendered["properties"]) ? rendered["properties"] : {};
    this.definitions[name] = {
      ...rendered,
      properties: {
        ...properties,
        apiVersion: { type: "string" },
        kind: { type: "string" },
        metadata: this.#dialect.v3 ? { allOf: [this.#reference(meta)] } : this.#reference(meta),
      },
    };
  }

  #reference(name: string): JsonObject {
    return { $ref: `${this.#dialect.prefix}${name}` };
  }
}

const LIST_META: TypeSchema = {
  type: "object",
  properties: {
    continue: { type: "string" },
    remainingItemCount: { type: "integer", format: "int64" },
    resourceVersion: { type: "string" },
    selfLink: { type: "string" },
  },
};

const customName = (resource: ResourceInfo): string =>
  `${resource.group.split(".").toReversed().join(".")}.${resource.version}.${resource.kind}`;

/** Swagger 2 cannot say everything a structural schema can; what it cannot say is left out, never approximated. */
function plainCustom(schema: JsonSchema): JsonObject {
  const out: JsonObject = {};
  const untyped = schema["x-kubernetes-int-or-string"] === true || schema.nullable === true;
  if (schema.type !== undefined && !untyped) out["type"] = schema.type;
  for (const key of [
    "description",
    "format",
    "required",
    "enum",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
  ] as const) {
    if (schema[key] !== undefined) out[key] = schema[key];
  }
  if (schema["x-kubernetes-preserve-unknown-fields"] === true || untyped) return out;
  if (schema.properties !== undefined) {
    out["properties"] = Object.fromEntries(
      Object.entries(schema.properties).map(([name, property]) => [name, plainCustom(property)]),
    );
  }
  if (schema.items !== undefined) out["items"] = plainCustom(schema.items);
  if (isObject(schema.additionalProperties)) out["additionalProperties"] = plainCustom(schema.additionalProperties);
  return out;
}
