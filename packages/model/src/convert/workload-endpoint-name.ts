/**
 * Names of workload-endpoint records: `<node>-<orchestrator>-<pod>-<endpoint>`, with every dash inside a part doubled so
 * that the name can be taken apart again.
 */
import { CalicoError } from "@calico-ts/std";

export interface WorkloadEndpointNameParts {
  readonly node: string;
  readonly orchestrator: string;
  readonly pod: string;
  readonly endpoint: string;
}

/** @throws CalicoError BAD_INPUT when a part is empty or has a dash at an end: the name could not be taken apart. */
export function workloadEndpointName(parts: WorkloadEndpointNameParts): string {
  const { node, orchestrator, pod, endpoint } = parts;
  return [node, orchestrator, pod, endpoint].map(escapePart).join("-");
}

/** undefined when the text is no such name. */
export function parseWorkloadEndpointName(name: string): WorkloadEndpointNameParts | undefined {
  const parts = name.split(/(?<!-)-(?!-)/);
  const [node, orchestrator, pod, endpoint] = parts.map((part) => part.replaceAll("--", "-"));
  if (parts.length !== 4 || node === undefined || orchestrator === undefined) return undefined;
  if (pod === undefined || endpoint === undefined) return undefined;
  const parsed = { node, orchestrator, pod, endpoint };
  return Object.values(parsed).includes("") || safeName(parsed) !== name ? undefined : parsed;
}

function safeName(parts: WorkloadEndpointNameParts): string | undefined {
  try {
    return workloadEndpointName(parts);
  } catch {
    return undefined;
  }
}

function escapePart(part: string): string {
  if (part === "" || part.startsWith("-") || part.endsWith("-")) {
    throw new CalicoError("BAD_INPUT", `"${part}" cannot be part of a workload endpoint's name`);
  }
  return part.replaceAll("-", "--");
}
