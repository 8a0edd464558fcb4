/**
 * Drops fields a schema does not know (Kubernetes: pruning) and reports their paths.
 *
 * `x-kubernetes-preserve-unknown-fields` keeps unknown fields at its level; below it, fields that are specified are
 * still pruned inside. At the root and in embedded resources apiVersion, kind and metadata are always known.
 * With `keep` nothing is dropped, only reported. The value is changed in place.
 */
import { fieldPath, indexPath, isObject, type JsonSchema, RESOURCE_FIELDS } from "./schema.ts";

export interface PruneOptions {
  /** The value is a whole resource: apiVersion, kind and metadata belong to it. Default true. */
  readonly resource?: boolean;
  /** Report only. */
  readonly keep?: boolean;
}

export function prune(schema: JsonSchema, value: unknown, options: PruneOptions = {}): string[] {
  const unknown: string[] = [];
  const keep = options.keep === true;

  const visit = (schema: JsonSchema, value: unknown, path: string, resource: boolean): void => {
    if (Array.isArray(value)) {
      const items = schema.items;
      if (items === undefined) return;
      value.forEach((item, index) =>
        visit(items, item, indexPath(path, index), items["x-kubernetes-embedded-resource"] === true),
      );
      return;
    }
    if (!isObject(value)) return;
    const properties = schema.properties;
    const additional = schema.additionalProperties;
    const preserve = schema["x-kubernetes-preserve-unknown-fields"] === true || additional === true;
    for (const name of Object.keys(value)) {
      const property = properties !== undefined && Object.hasOwn(properties, name) ? properties[name] : undefined;
      if (resource && RESOURCE_FIELDS.includes(name)) continue;
      const child = property ?? (isObject(additional) ? additional : undefined);
      const childPath = fieldPath(path, name);
      if (child !== undefined) visit(child, value[name], childPath, child["x-kubernetes-embedded-resource"] === true);
      else if (!preserve) {
        unknown.push(childPath);
        if (!keep) delete value[name];
      }
    }
  };
  visit(schema, value, "", options.resource !== false);
  return unknown;
}
