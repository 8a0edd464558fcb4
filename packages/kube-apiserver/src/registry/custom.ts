/** Turns the served versions of an established CustomResourceDefinition into resources. */
import { isObject, type JsonObject, type JsonSchema } from "@calico-ts/schema";
import { asObject, asObjects, asText, asTexts, type KubeObject } from "../meta/object.ts";
import { DEFAULT_COLUMNS } from "../tables/columns.ts";
import { ageOf } from "../tables/format.ts";
import { compileJsonPath } from "./json-path.ts";
import { apiVersionOf, collectionId, type Column, type ResourceInfo, type ScalePaths } from "./resource.ts";
import { typeSchema, type TypeSchema } from "./type-table.ts";

export function customResources(definition: KubeObject): ResourceInfo[] {
  const spec = asObject(definition["spec"]);
  const established = asObjects(asObject(definition["status"])["conditions"]).some(
    (condition) => condition["type"] === "Established" && condition["status"] === "True",
  );
  if (!established) return [];
  return asObjects(spec["versions"])
    .filter((version) => version["served"] === true)
    .map((version) => describe(spec, version));
}

function describe(spec: JsonObject, version: JsonObject): ResourceInfo {
  const names = asObject(spec["names"]);
  const group = asText(spec["group"]);
  const plural = asText(names["plural"]);
  const structural = asObject(asObject(version["schema"])["openAPIV3Schema"]) as JsonSchema;
  const subresources = asObject(version["subresources"]);
  const scale = isObject(subresources["scale"]) ? scalePaths(subresources["scale"]) : undefined;
  const schema: TypeSchema = {
    ...(structural as TypeSchema),
    properties: { ...structural.properties, metadata: typeSchema("V1ObjectMeta") },
  };
  return {
    group,
    version: asText(version["name"]),
    kind: asText(names["kind"]),
    listKind: asText(names["listKind"]) || `${asText(names["kind"])}List`,
    plural,
    singular: asText(names["singular"]),
    namespaced: spec["scope"] === "Namespaced",
    shortNames: asTexts(names["shortNames"]),
    categories: asTexts(names["categories"]),
    subresources: [...(isObject(subresources["status"]) ? ["status"] : []), ...(scale === undefined ? [] : ["scale"])],
    collection: collectionId(group, plural),
    apiVersion: apiVersionOf(group, asText(version["name"])),
    schema,
    structural,
    strategy: { generation: true },
    columns: columnsOf(version),
    scale,
    selectableFields: asObjects(version["selectableFields"]).map((field) =>
      asText(field["jsonPath"]).replace(/^\./, ""),
    ),
    storageVersion: version["storage"] === true,
  };
}

const path = (text: unknown): string[] =>
  asText(text)
    .split(".")
    .filter((part) => part !== "");

function scalePaths(scale: JsonObject): ScalePaths {
  const selector = path(scale["labelSelectorPath"]);
  return {
    specReplicas: path(scale["specReplicasPath"]),
    statusReplicas: path(scale["statusReplicasPath"]),
    ...(selector.length === 0 ? {} : { labelSelector: selector }),
  };
}

const TYPES = ["string", "integer", "number", "boolean", "date"] as const;

function columnsOf(version: JsonObject): readonly Column[] {
  const declared = asObjects(version["additionalPrinterColumns"]);
  if (declared.length === 0) return DEFAULT_COLUMNS;
  return declared.map((column) => {
    const find = compileJsonPath(asText(column["jsonPath"]));
    const type = TYPES.find((name) => name === column["type"]) ?? "string";
    const priority = typeof column["priority"] === "number" ? column["priority"] : 0;
    return {
      name: asText(column["name"]),
      type,
      priority,
      ...(typeof column["format"] === "string" ? { format: column["format"] } : {}),
      ...(typeof column["description"] === "string" ? { description: column["description"] } : {}),
      value: (object, now) => cell(find(object), type, now),
    };
  });
}

function cell(found: readonly unknown[], type: Column["type"], now: number): string | number | boolean | null {
  const [first] = found;
  if (first === undefined || first === null) return null;
  if (type === "date") return ageOf(first, now);
  if (found.length > 1) return found.map(plain).join(",");
  if (type === "string") return plain(first);
  return typeof first === "number" || typeof first === "boolean" ? first : plain(first);
}

const plain = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
