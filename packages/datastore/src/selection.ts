/**
 * Kubernetes' label and field selectors in their text form (the query parameters of list and watch), for backends that
 * have to evaluate them themselves. These are not Calico selectors: those live in @calico-ts/selector.
 */
import { matchesLabels, parseLabelSelector } from "@calico-ts/schema";
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
    matchesLabels(labels, resource.metadata.labels) &&
    fields.every((requirement) => requirement(resource));
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
