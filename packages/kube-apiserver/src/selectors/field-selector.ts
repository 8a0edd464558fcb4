/**
 * Field selectors (`metadata.name=x,status.phase!=Running`). Which fields a kind supports is data: metadata.name and
 * metadata.namespace for all, the rest by kind; for custom resources the CRD's selectableFields.
 */
import { badRequest } from "../meta/api-error.ts";
import { asText, type KubeObject, valueAt } from "../meta/object.ts";

export interface FieldRequirement {
  readonly field: string;
  readonly equal: boolean;
  readonly value: string;
}

export function parseFieldSelector(text: string): FieldRequirement[] {
  if (text.trim() === "") return [];
  const terms = text.split(/(?<!\\),/).filter((term) => term !== "");
  return terms.map((term) => {
    const match = /^([^=!]+)(!=|==|=)(.*)$/.exec(term);
    if (match === null) throw badRequest(`invalid field selector: ${term}; can't understand '${term}'`);
    const [, field = "", operator = "=", value = ""] = match;
    return { field: field.trim(), equal: operator !== "!=", value: value.replaceAll(/\\([\\,=])/g, "$1") };
  });
}

const BY_KIND: { readonly [collection: string]: readonly string[] } = {
  "/pods": [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
  ],
  "/nodes": ["spec.unschedulable"],
  "/namespaces": ["status.phase"],
  "/secrets": ["type"],
  "/services": ["spec.clusterIP", "spec.type"],
  "/replicationcontrollers": ["status.replicas"],
  "apps/replicasets": ["status.replicas"],
  "batch/jobs": ["status.successful"],
  "/events": [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
  ],
  "certificates.k8s.io/certificatesigningrequests": ["spec.signerName"],
};

/** Booleans and numbers that are "false" and "0" when the object does not say. */
const ZERO_TEXT: { readonly [field: string]: string } = {
  "spec.unschedulable": "false",
  "spec.hostNetwork": "false",
  "status.replicas": "0",
};

export type FieldMatcher = (object: KubeObject) => boolean;

/** @throws ApiError 400 for a field the kind does not support. */
export function fieldMatcher(
  requirements: readonly FieldRequirement[],
  target: {
    readonly collection: string;
    readonly apiVersion: string;
    readonly kind: string;
    readonly selectable?: readonly string[];
  },
): FieldMatcher {
  const supported = [...(BY_KIND[target.collection] ?? []), ...(target.selectable ?? [])];
  for (const { field } of requirements) {
    if (field === "metadata.name" || field === "metadata.namespace" || supported.includes(field)) continue;
    throw badRequest(
      `Unable to find ${JSON.stringify(target.apiVersion)}, Kind=${target.kind} that match label selector "", field selector ${JSON.stringify(requirements.map((r) => `${r.field}${r.equal ? "=" : "!="}${r.value}`).join(","))}: field label not supported: ${field}`,
    );
  }
  const paths = requirements.map((requirement) => ({ ...requirement, path: requirement.field.split(".") }));
  return (object) =>
    paths.every(({ path, field, equal, value }) => (fieldText(object, field, path) === value) === equal);
}

function fieldText(object: KubeObject, field: string, path: readonly string[]): string {
  if (field === "source")
    return asText(valueAt(object, ["source", "component"])) || asText(object["reportingComponent"]);
  const value = valueAt(object, path);
  if (value === undefined || value === null) return ZERO_TEXT[field] ?? "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
