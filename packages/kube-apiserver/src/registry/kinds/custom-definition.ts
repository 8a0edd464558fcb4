/**
 * CustomResourceDefinition: defaults, checks, and the conditions that say it is served.
 *
 * Names are accepted when no other resource of the group claims them; a definition is Established in the same write
 * (upstream does both a moment later, from a controller).
 */
import { compileCel, indexPath, invalid, isObject, type JsonObject, notSupported, required } from "@calico-ts/schema";
import {
  asList,
  asObject,
  asObjects,
  asText,
  asTexts,
  defaultField,
  ensureObject,
  type KubeObject,
  timestamp,
} from "../../meta/object.ts";
import { label1035Problem } from "../names.ts";
import type { Errors, Strategy, WriteContext } from "../resource.ts";

export const customDefinitionStrategy: Strategy = {
  generation: true,
  defaults(definition) {
    const spec = ensureObject(definition, "spec");
    const names = ensureObject(spec, "names");
    const kind = asText(names["kind"]);
    defaultField(names, "singular", kind.toLowerCase());
    defaultField(names, "listKind", `${kind}List`);
    defaultField(ensureObject(spec, "conversion"), "strategy", "None");
  },
  prepareCreate(definition, context) {
    definition["status"] = servedStatus(definition, undefined, context);
  },
  prepareUpdate(definition, old, context) {
    if (context.subresource === undefined) definition["status"] = servedStatus(definition, old, context);
  },
  validate: validateDefinition,
  validateUpdate(definition, old, errors) {
    const before = asObject(old["spec"]);
    const now = asObject(definition["spec"]);
    for (const field of ["group", "scope"]) {
      if (now[field] !== before[field]) errors.push(invalid(`spec.${field}`, now[field], "field is immutable"));
    }
    for (const field of ["plural", "kind"]) {
      const value = asObject(now["names"])[field];
      if (value !== asObject(before["names"])[field])
        errors.push(invalid(`spec.names.${field}`, value, "field is immutable"));
    }
  },
};

function servedStatus(definition: KubeObject, old: KubeObject | undefined, context: WriteContext): JsonObject {
  const spec = asObject(definition["spec"]);
  const before = asObject(old?.["status"]);
  const conflict = nameConflict(definition, context);
  const storage = asObjects(spec["versions"]).find((version) => version["storage"] === true);
  const stored = new Set([...asTexts(before["storedVersions"]), asText(storage?.["name"])]);
  const condition = (type: string, status: string, reason: string, message: string): JsonObject => {
    const previous = asObjects(before["conditions"]).find((item) => item["type"] === type && item["status"] === status);
    return {
      type,
      status,
      reason,
      message,
      lastTransitionTime: asText(previous?.["lastTransitionTime"]) || timestamp(context.now),
    };
  };
  const others = asObjects(before["conditions"]).filter(
    (item) => item["type"] !== "NamesAccepted" && item["type"] !== "Established",
  );
  return {
    conditions: [
      ...others,
      conflict === undefined
        ? condition("NamesAccepted", "True", "NoConflicts", "no conflicts found")
        : condition("NamesAccepted", "False", "NameConflict", conflict),
      conflict === undefined
        ? condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted")
        : condition("Established", "False", "NotAccepted", "not all names are accepted"),
    ],
    acceptedNames: conflict === undefined ? spec["names"] : (before["acceptedNames"] ?? { plural: "", kind: "" }),
    storedVersions: [...stored],
  };
}

function nameConflict(definition: KubeObject, context: WriteContext): string | undefined {
  const spec = asObject(definition["spec"]);
  const names = asObject(spec["names"]);
  for (const { object } of context.store.collection("apiextensions.k8s.io/customresourcedefinitions").values()) {
    const other = asObject(object["spec"]);
    if (object.metadata.name === definition.metadata.name || other["group"] !== spec["group"]) continue;
    const taken = asObject(other["names"]);
    if (taken["kind"] === names["kind"]) return `${JSON.stringify(names["kind"])} is already in use`;
    if (taken["plural"] === names["plural"]) return `${JSON.stringify(names["plural"])} is already in use`;
  }
  return undefined;
}

function validateDefinition(definition: KubeObject, errors: Errors): void {
  const spec = asObject(definition["spec"]);
  const names = asObject(spec["names"]);
  const expected = `${asText(names["plural"])}.${asText(spec["group"])}`;
  if (definition.metadata.name !== expected) {
    errors.push(invalid("metadata.name", definition.metadata.name, `must be spec.names.plural+"."+spec.group`));
  }
  if (asText(spec["group"]) === "") errors.push(required("spec.group"));
  else if (!asText(spec["group"]).includes("."))
    errors.push(invalid("spec.group", spec["group"], "should be a domain with at least one dot"));
  const scope = asText(spec["scope"]);
  if (scope === "") errors.push(required("spec.scope"));
  else if (scope !== "Cluster" && scope !== "Namespaced")
    errors.push(notSupported("spec.scope", scope, ["Cluster", "Namespaced"]));
  for (const field of ["plural", "kind"]) {
    const text = asText(names[field]);
    const problem = text === "" ? undefined : label1035Problem(text.toLowerCase());
    if (text === "") errors.push(required(`spec.names.${field}`));
    else if (problem !== undefined) errors.push(invalid(`spec.names.${field}`, text, problem));
  }
  const versions = asObjects(spec["versions"]);
  if (versions.length === 0)
    errors.push(required("spec.versions", "must have exactly one version marked as storage version"));
  if (versions.filter((version) => version["storage"] === true).length !== 1) {
    errors.push(
      invalid(
        "spec.versions",
        versions.map((version) => version["name"]),
        "must have exactly one version marked as storage version",
      ),
    );
  }
  if (asText(asObject(spec["conversion"])["strategy"]) === "Webhook") {
    errors.push(notSupported("spec.conversion.strategy", "Webhook", ["None"]));
  }
  versions.forEach((version, index) => validateVersion(version, indexPath("spec.versions", index), errors));
}

function validateVersion(version: JsonObject, at: string, errors: Errors): void {
  const problem = label1035Problem(asText(version["name"]));
  if (problem !== undefined) errors.push(invalid(`${at}.name`, version["name"] ?? "", problem));
  const schema = asObject(version["schema"])["openAPIV3Schema"];
  if (!isObject(schema)) {
    errors.push(required(`${at}.schema.openAPIV3Schema`, "schemas are required"));
    return;
  }
  const path = `${at}.schema.openAPIV3Schema`;
  if (schema["type"] !== "object")
    errors.push(invalid(`${path}.type`, schema["type"] ?? "", "must be object at the root"));
  validateStructural(schema, path, errors);
}

/** The rules of structural schemas that catch real mistakes: a type everywhere, readable patterns and rules. */
function validateStructural(schema: JsonObject, path: string, errors: Errors): void {
  const untyped =
    schema["x-kubernetes-int-or-string"] === true || schema["x-kubernetes-preserve-unknown-fields"] === true;
  if (schema["type"] === undefined && !untyped) {
    errors.push(required(`${path}.type`, "must not be empty for specified object fields"));
  }
  if (schema["type"] === "array" && !isObject(schema["items"]))
    errors.push(required(`${path}.items`, "must be specified"));
  if (schema["x-kubernetes-list-type"] === "map" && asList(schema["x-kubernetes-list-map-keys"]).length === 0) {
    errors.push(required(`${path}.x-kubernetes-list-map-keys`, "must not be empty if x-kubernetes-list-type is map"));
  }
  asObjects(schema["x-kubernetes-validations"]).forEach((rule, index) => {
    const dialect = rule["optionalOldSelf"] === true ? "optionalOldSelf" : "plain";
    const problem = compileCel(asText(rule["rule"]), dialect).error;
    if (problem !== undefined) {
      errors.push(
        invalid(
          `${indexPath(`${path}.x-kubernetes-validations`, index)}.rule`,
          rule["rule"],
          `compilation failed: ${problem}`,
        ),
      );
    }
  });
  for (const [name, property] of Object.entries(asObject(schema["properties"]))) {
    if (isObject(property)) validateStructural(property, `${path}.properties[${name}]`, errors);
  }
  if (isObject(schema["items"])) validateStructural(schema["items"], `${path}.items`, errors);
  if (isObject(schema["additionalProperties"]))
    validateStructural(schema["additionalProperties"], `${path}.additionalProperties`, errors);
}
