/** Selectors as workloads carry them: `@calico-ts/schema` evaluates them, here is what their absence means. */
import { labelSelectorOf, matchesLabels } from "@calico-ts/schema";
import type { Labels, LabelSelector } from "./objects.ts";

/** An absent selector matches nothing, an empty one everything: the meaning in workloads and policies. */
export function matchesSelector(selector: LabelSelector | undefined, labels: Labels = {}): boolean {
  const requirements = labelSelectorOf(selector);
  return requirements !== undefined && matchesLabels(requirements, labels);
}

/** The selectors of Services and nodes: labels that have to be there. */
export const hasLabels = (wanted: Labels, labels: Labels = {}): boolean =>
  Object.entries(wanted).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
