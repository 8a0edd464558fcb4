/** Kubernetes label selectors as Calico selector text. */
import { CalicoError } from "@calico-ts/std";
import type { LabelSelector } from "../schema/meta.ts";

/** Marks endpoints that are pods; host endpoints and network sets do not have it. */
export const ORCHESTRATOR_LABEL = "projectcalico.org/orchestrator";
const IS_POD = `${ORCHESTRATOR_LABEL} == 'k8s'`;

/**
 * Pods: only pods match, whatever the labels of host endpoints and network sets. An absent or empty selector: all pods.
 * @throws CalicoError BAD_INPUT
 */
export const podSelectorText = (selector: LabelSelector | undefined): string =>
  [IS_POD, ...terms(selector)].join(" && ");

/** Namespaces: "" when absent (no statement), all() when present and empty. @throws CalicoError BAD_INPUT */
export function namespaceSelectorText(selector: LabelSelector | undefined): string {
  if (selector === undefined) return "";
  const all = terms(selector);
  return all.length === 0 ? "all()" : all.join(" && ");
}

function terms(selector: LabelSelector | undefined): string[] {
  const byKey = ([a]: readonly [string, string], [b]: readonly [string, string]): number => (a < b ? -1 : 1);
  const labels = Object.entries(selector?.matchLabels ?? {}).toSorted(byKey);
  return [
    ...labels.map(([key, value]) => `${label(key)} == ${quote(value)}`),
    ...(selector?.matchExpressions ?? []).map(expression),
  ];
}

function expression(requirement: NonNullable<LabelSelector["matchExpressions"]>[number]): string {
  const name = label(requirement.key);
  const values = `{ ${(requirement.values ?? []).map(quote).join(", ")} }`;
  switch (requirement.operator) {
    case "In":
      return `${name} in ${values}`;
    case "NotIn":
      return `${name} not in ${values}`;
    case "Exists":
      return `has(${name})`;
    case "DoesNotExist":
      return `!has(${name})`;
    default:
      throw new CalicoError("BAD_INPUT", `label selector: unknown operator "${requirement.operator}" for ${name}`);
  }
}

function label(key: string): string {
  if (/^[a-zA-Z0-9_./-]{1,512}$/.test(key)) return key;
  throw new CalicoError("BAD_INPUT", `label selector: ${JSON.stringify(key)} is not a label name`);
}

function quote(value: string): string {
  if (!value.includes("'")) return `'${value}'`;
  if (!value.includes('"')) return `"${value}"`;
  throw new CalicoError("BAD_INPUT", `label selector: ${JSON.stringify(value)} is not a label value`);
}
