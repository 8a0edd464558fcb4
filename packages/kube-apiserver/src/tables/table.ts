/** Objects as rows of a `meta.k8s.io/v1 Table`, the form `kubectl get` asks for. */
import type { JsonObject } from "@calico-ts/schema";
import type { KubeObject } from "../meta/object.ts";
import type { Column, ResourceInfo } from "../registry/resource.ts";

export type IncludeObject = "None" | "Metadata" | "Object";

const DESCRIPTIONS: { readonly [name: string]: string } = {
  Name: "Name must be unique within its scope.",
  Age: "Time since the object was created.",
};

export function columnDefinitions(resource: ResourceInfo): JsonObject[] {
  return [
    { name: "Name", type: "string", format: "name", description: DESCRIPTIONS["Name"], priority: 0 },
    ...resource.columns.map((column) => ({
      name: column.name,
      type: column.type,
      format: column.format ?? "",
      description: column.description ?? DESCRIPTIONS[column.name] ?? "",
      priority: column.priority ?? 0,
    })),
  ];
}

export function tableRow(resource: ResourceInfo, object: KubeObject, now: number, include: IncludeObject): JsonObject {
  const row: JsonObject = {
    cells: [object.metadata.name ?? "", ...resource.columns.map((column) => cellOf(column, object, now))],
  };
  if (include === "Object") row["object"] = object;
  else if (include === "Metadata") row["object"] = partialMetadata(object);
  return row;
}

function cellOf(column: Column, object: KubeObject, now: number): string | number | boolean | null {
  return column.value(object, now);
}

export const partialMetadata = (object: KubeObject): JsonObject => ({
  kind: "PartialObjectMetadata",
  apiVersion: "meta.k8s.io/v1",
  metadata: object.metadata,
});

export interface TableMeta {
  readonly resourceVersion: string;
  readonly continue?: string;
  readonly remainingItemCount?: number;
}

export function tableOf(
  definitions: readonly JsonObject[] | undefined,
  rows: readonly JsonObject[],
  metadata: TableMeta,
): JsonObject {
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata: { ...metadata },
    columnDefinitions: definitions ?? null,
    rows,
  };
}
