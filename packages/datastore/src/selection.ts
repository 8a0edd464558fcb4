/**
 * Kubernetes' label and field selectors in their text form (the query parameters of list and watch), for backends that
 * have to evaluate them themselves. These are not Calico selectors: those live in @calico-ts/selector.
 */
import { CalicoError } from "@calico-ts/std";
import type { Selection } from "./client.ts";

export interface Selectable {
  readonly metadata: {
    readonly name?: string | undefined;
    readonly namespace?: string | undefined;
    readonly labels?: Readonly<Record<string, string>> | undefined;
  };
}

export type Predicate = (resource: Selectable) => boolean;

/** @throws CalicoError BAD_INPUT when a selector does not parse */
export function compileSelection(selection: Selection): Predicate {
  const { namespace } = selection;
  const labels = parseLabelSelector(selection.labelSelector ?? "");
  const fields = parseFieldSelector(selection.fieldSelector ?? "");
  return (resource) =>
    (namespace === undefined || resource.metadata.namespace === namespace) &&
    labels.every((requirement) => requirement(resource.metadata.labels ?? {})) &&
    fields.every((requirement) => requirement(resource));
}

type LabelRequirement = (labels: Readonly<Record<string, string>>) => boolean;

const LABEL_TERM =
  /^\s*(?:(?<not>!)\s*(?<absent>[\w./-]+)|(?<key>[\w./-]+)(?:\s*(?<op>==|!=|=)\s*(?<value>[\w.-]*)|\s+(?<set>in|notin)\s*\((?<values>[^()]*)\))?)\s*$/;

function parseLabelSelector(text: string): LabelRequirement[] {
  if (text.trim() === "") return [];
  // Commas inside parentheses separate values, all others separate terms.
  return text.split(/,(?![^(]*\))/).map((term) => {
    const groups = LABEL_TERM.exec(term)?.groups;
    if (groups === undefined) throw new CalicoError("BAD_INPUT", `label selector "${text}": cannot read "${term}"`);
    const { absent, key = "", op, value = "", set, values = "" } = groups;
    if (absent !== undefined) return (labels) => !Object.hasOwn(labels, absent);
    if (set !== undefined) {
      const wanted = new Set(values.split(",").map((item) => item.trim()));
      if (set === "in") return (labels) => Object.hasOwn(labels, key) && wanted.has(labels[key] ?? "");
      return (labels) => !Object.hasOwn(labels, key) || !wanted.has(labels[key] ?? "");
    }
    if (op === undefined) return (labels) => Object.hasOwn(labels, key);
    if (op === "!=") return (labels) => !Object.hasOwn(labels, key) || labels[key] !== value;
    return (labels) => Object.hasOwn(labels, key) && labels[key] === value;
  });
}

function parseFieldSelector(text: string): Predicate[] {
  if (text.trim() === "") return [];
  return text.split(",").map((term) => {
    const match = /^\s*([\w.]+)\s*(==|!=|=)\s*([^=!]*?)\s*$/.exec(term);
    if (match === null) throw new CalicoError("BAD_INPUT", `field selector "${text}": cannot read "${term}"`);
    const [, path = "", op, value = ""] = match;
    const steps = path.split(".");
    return (resource) => (fieldText(resource, steps) === value) === (op !== "!=");
  });
}

function fieldText(resource: Selectable, steps: readonly string[]): string {
  let value: unknown = resource;
  for (const step of steps) {
    value =
      typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>)[step] : undefined;
  }
  return typeof value === "string" ? value : typeof value === "number" || typeof value === "boolean" ? `${value}` : "";
}
