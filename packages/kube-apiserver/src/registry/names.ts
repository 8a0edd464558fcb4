/** Names, labels and metadata: which texts Kubernetes accepts, and what it says about the others (RFC 1123, RFC 1035). */
import {
  type FieldError,
  fieldPath,
  forbidden,
  indexPath,
  invalid,
  isObject,
  required,
  tooLong,
} from "@calico-ts/schema";
import type { KubeObject } from "../meta/object.ts";
import { asObjects, asText } from "../meta/object.ts";
import type { NameRule } from "./resource.ts";

const LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN = `${LABEL}(\\.${LABEL})*`;
const QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

const subdomainRe = new RegExp(`^${SUBDOMAIN}$`);
const labelRe = new RegExp(`^${LABEL}$`);
const label1035Re = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const qualifiedRe = new RegExp(`^${QUALIFIED}$`);
const labelValueRe = new RegExp(`^(${QUALIFIED})?$`);

export function subdomainProblem(text: string): string | undefined {
  if (text.length > 253) return "must be no more than 253 bytes";
  if (subdomainRe.test(text)) return undefined;
  return `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '${SUBDOMAIN}')`;
}

export function labelProblem(text: string): string | undefined {
  if (text.length > 63) return "must be no more than 63 bytes";
  if (labelRe.test(text)) return undefined;
  return `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '${LABEL}')`;
}

export function label1035Problem(text: string): string | undefined {
  if (text.length > 63) return "must be no more than 63 bytes";
  if (label1035Re.test(text)) return undefined;
  return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
}

function pathProblem(text: string): string | undefined {
  if (text === "." || text === "..") return `may not be '${text}'`;
  const bad = ["/", "%"].find((char) => text.includes(char));
  return bad === undefined ? undefined : `may not contain '${bad}'`;
}

export function qualifiedNameProblem(text: string): string | undefined {
  const slash = text.indexOf("/");
  const prefix = slash < 0 ? undefined : text.slice(0, slash);
  const name = text.slice(slash + 1);
  if (prefix !== undefined) {
    if (prefix === "") return "prefix part must be non-empty";
    const problem = subdomainProblem(prefix);
    if (problem !== undefined) return `prefix part ${problem}`;
  }
  if (name === "") return "name part must be non-empty";
  if (name.length > 63) return "name part must be no more than 63 bytes";
  if (qualifiedRe.test(name)) return undefined;
  return `name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '${QUALIFIED}')`;
}

export function labelValueProblem(text: string): string | undefined {
  if (text.length > 63) return "must be no more than 63 bytes";
  if (labelValueRe.test(text)) return undefined;
  return `a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(${QUALIFIED})?')`;
}

const NAME_RULES: { readonly [R in NameRule]: (text: string) => string | undefined } = {
  subdomain: subdomainProblem,
  label: labelProblem,
  label1035: label1035Problem,
  path: pathProblem,
};

export function validateLabels(labels: unknown, path: string, errors: FieldError[]): void {
  if (!isObject(labels)) return;
  for (const [key, value] of Object.entries(labels)) {
    const keyProblem = qualifiedNameProblem(key);
    if (keyProblem !== undefined) errors.push(invalid(path, key, keyProblem));
    const valueProblem = labelValueProblem(asText(value));
    if (valueProblem !== undefined) errors.push(invalid(path, value, valueProblem));
  }
}

const ANNOTATION_BYTES = 256 * 1024;

function validateAnnotations(annotations: unknown, path: string, errors: FieldError[]): void {
  if (!isObject(annotations)) return;
  let size = 0;
  for (const [key, value] of Object.entries(annotations)) {
    const problem = qualifiedNameProblem(key.toLowerCase());
    if (problem !== undefined) errors.push(invalid(path, key, problem));
    size += key.length + asText(value).length;
  }
  if (size > ANNOTATION_BYTES) errors.push(tooLong(path, "", ANNOTATION_BYTES));
}

export function validateMetadata(object: KubeObject, namespaced: boolean, rule: NameRule, errors: FieldError[]): void {
  const { name, generateName, namespace, labels, annotations, ownerReferences, finalizers } = object.metadata;
  if (name === undefined || name === "") {
    errors.push(required("metadata.name", generateName === undefined ? "name or generateName is required" : ""));
  } else {
    const problem = NAME_RULES[rule](name);
    if (problem !== undefined) errors.push(invalid("metadata.name", name, problem));
  }
  if (namespaced && (namespace === undefined || namespace === "")) errors.push(required("metadata.namespace"));
  if (!namespaced && namespace !== undefined) errors.push(forbidden("metadata.namespace", "not allowed on this type"));
  validateLabels(labels, "metadata.labels", errors);
  validateAnnotations(annotations, "metadata.annotations", errors);
  asObjects(ownerReferences).forEach((owner, index) =>
    validateOwner(owner, indexPath("metadata.ownerReferences", index), errors),
  );
  if (asObjects(ownerReferences).filter((owner) => owner["controller"] === true).length > 1) {
    errors.push(invalid("metadata.ownerReferences", "", "Only one reference can have Controller set to true"));
  }
  for (const finalizer of finalizers ?? []) {
    const problem = qualifiedNameProblem(finalizer);
    if (problem !== undefined) errors.push(invalid("metadata.finalizers", finalizer, problem));
  }
}

function validateOwner(owner: { readonly [name: string]: unknown }, path: string, errors: FieldError[]): void {
  for (const field of ["apiVersion", "kind", "name", "uid"]) {
    if (asText(owner[field]) === "")
      errors.push(
        invalid(fieldPath(path, field), "", `${field === "apiVersion" ? "version" : field} must not be empty`),
      );
  }
}

/** Label selectors in objects: operators and their values. */
export function validateLabelSelector(selector: unknown, path: string, errors: FieldError[]): void {
  if (!isObject(selector)) return;
  validateLabels(selector["matchLabels"], `${path}.matchLabels`, errors);
  asObjects(selector["matchExpressions"]).forEach((expression, index) => {
    const at = indexPath(`${path}.matchExpressions`, index);
    const operator = asText(expression["operator"]);
    const values = Array.isArray(expression["values"]) ? expression["values"] : [];
    if (operator === "In" || operator === "NotIn") {
      if (values.length === 0)
        errors.push(required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'"));
    } else if (operator === "Exists" || operator === "DoesNotExist") {
      if (values.length > 0)
        errors.push(forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
    } else errors.push(invalid(`${at}.operator`, operator, "not a valid selector operator"));
    const problem = qualifiedNameProblem(asText(expression["key"]));
    if (problem !== undefined) errors.push(invalid(`${at}.key`, expression["key"], problem));
    values.forEach((value: unknown, at2) => {
      const valueProblem = labelValueProblem(asText(value));
      if (valueProblem !== undefined) errors.push(invalid(indexPath(`${at}.values`, at2), value, valueProblem));
    });
  });
}
