/** Rules for `metadata` (Kubernetes API conventions; name forms of policies and tiers: upstream). */
import type { FieldError } from "@calico-ts/schema";
import { fieldPath, invalid, isObject, keyPath, required } from "@calico-ts/schema";
import type { KindName } from "../kinds.ts";

const LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_LABEL = new RegExp(`^${LABEL}$`);
const SUBDOMAIN = new RegExp(`^${LABEL}(\\.${LABEL})*$`);
const LABEL_PAIR = new RegExp(`^${LABEL}(\\.${LABEL})?$`);
/** Policies that other tools copy from Kubernetes and OpenStack keep their prefix and a longer name. */
const COPIED_POLICY = new RegExp(`^(knp\\.default|ossg\\.default)(\\.${LABEL})+$`);
const QUALIFIED_PART = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const MAX_ANNOTATIONS_BYTES = 256 * 1024;

export const isDnsLabel = (text: string): boolean => text.length <= 63 && DNS_LABEL.test(text);
export const isSubdomain = (text: string): boolean => text.length <= 253 && SUBDOMAIN.test(text);

/** The part after a slash, and before it a DNS subdomain when there is one. */
export function isQualifiedName(text: string): boolean {
  const slash = text.indexOf("/");
  const name = text.slice(slash + 1);
  if (name.length > 63 || !QUALIFIED_PART.test(name)) return false;
  return slash < 0 || isSubdomain(text.slice(0, slash));
}

export const isLabelValue = (text: string): boolean => text === "" || (text.length <= 63 && QUALIFIED_PART.test(text));

interface NameForm {
  readonly fits: (name: string) => boolean;
  readonly expected: string;
}

const subdomain: NameForm = {
  fits: isSubdomain,
  expected: "lower-case letters, digits, '-' and '.', at most 253 characters, letters or digits at both ends",
};
const policyName: NameForm = {
  fits: (name) => name.length <= 253 && (LABEL_PAIR.test(name) || COPIED_POLICY.test(name)),
  expected: "lower-case letters, digits and '-', with at most one '.', letters or digits at both ends",
};
const globalPolicyName: NameForm = { ...policyName, fits: (name) => name.length <= 253 && LABEL_PAIR.test(name) };
const tierName: NameForm = {
  fits: isDnsLabel,
  expected: "lower-case letters, digits and '-' (no '.'), at most 63 characters, letters or digits at both ends",
};

const NAME_FORMS: { readonly [K in KindName]?: NameForm } = {
  Tier: tierName,
  NetworkPolicy: policyName,
  StagedNetworkPolicy: policyName,
  GlobalNetworkPolicy: globalPolicyName,
  StagedGlobalNetworkPolicy: globalPolicyName,
};

/** Names, labels and annotations of a Calico object whose metadata has the right types. */
export function metadataErrors(kind: KindName, metadata: Readonly<Record<string, unknown>>): FieldError[] {
  const { name, labels, annotations } = metadata;
  const errors: FieldError[] = [];
  const form = NAME_FORMS[kind] ?? subdomain;
  if (typeof name === "string" && !form.fits(name)) {
    errors.push(invalid("metadata.name", name, `a ${kind} name has ${form.expected}`));
  }
  if (isObject(labels)) errors.push(...labelErrors(labels, "metadata.labels"));
  if (isObject(annotations)) errors.push(...annotationErrors(annotations, "metadata.annotations"));
  return errors;
}

export function labelErrors(labels: Readonly<Record<string, unknown>>, path: string): FieldError[] {
  return Object.entries(labels).flatMap(([key, value]) => {
    if (!isQualifiedName(key)) return [invalid(path, key, "not a label name: use [prefix/]name")];
    if (typeof value === "string" && isLabelValue(value)) return [];
    return [invalid(keyPath(path, key), value, "a label value has letters, digits, '-', '_' and '.', at most 63")];
  });
}

export function annotationErrors(annotations: Readonly<Record<string, unknown>>, path: string): FieldError[] {
  const errors: FieldError[] = [];
  let size = 0;
  for (const [key, value] of Object.entries(annotations)) {
    size += key.length + (typeof value === "string" ? value.length : 0);
    if (!isQualifiedName(key.toLowerCase())) {
      errors.push(invalid(path, key, "not an annotation name: use [prefix/]name"));
    }
  }
  if (size > MAX_ANNOTATIONS_BYTES) errors.push(invalid(path, size, "annotations take at most 256 KiB in all"));
  return errors;
}

/** Whether the object has a name and, according to its scope, a namespace. */
export function identityErrors(metadata: Readonly<Record<string, unknown>>, namespaced: boolean): FieldError[] {
  const errors: FieldError[] = [];
  const { name, namespace } = metadata;
  if (name === undefined || name === "") errors.push(required("metadata.name", "a name is required"));
  if (namespaced && (namespace === undefined || namespace === "")) {
    errors.push(required(fieldPath("metadata", "namespace"), "this kind lives in a namespace"));
  }
  if (!namespaced && namespace !== undefined && namespace !== "") {
    errors.push(invalid("metadata.namespace", namespace, "this kind has no namespaces"));
  }
  return errors;
}
