/**
 * A container's environment and command line, from its spec and what the spec refers to. Pure.
 *
 * Kubernetes' rules: envFrom before env, later wins; `$(NAME)` in values and arguments refers to variables defined earlier, `$$`
 * is a dollar; an unknown reference stays as written; a missing optional source is skipped, a missing required one stops the start.
 */
import type { Container, EnvVar, Labels, Node, Pod } from "../kube/objects.ts";
import { inUnits } from "./quantity.ts";

export interface EnvironmentSources {
  readonly pod: Pod;
  readonly node: Node | undefined;
  readonly hostIPs: readonly string[];
  readonly podIPs: readonly string[];
  /** Data of a ConfigMap or Secret (decoded) in the pod's namespace; undefined when there is none. */
  readonly configMap: (name: string) => Labels | undefined;
  readonly secret: (name: string) => Labels | undefined;
}

export type Environment =
  | { readonly ok: true; readonly env: Readonly<Record<string, string>> }
  | { readonly ok: false; readonly message: string };

export function resolveEnvironment(container: Container, base: Labels, sources: EnvironmentSources): Environment {
  const env: Record<string, string> = { ...base };
  for (const source of container.envFrom ?? []) {
    const kind = source.configMapRef === undefined ? "secret" : "configmap";
    const reference = source.configMapRef ?? source.secretRef;
    const name = reference?.name ?? "";
    const data = kind === "configmap" ? sources.configMap(name) : sources.secret(name);
    if (data === undefined) {
      if (reference?.optional === true) continue;
      return { ok: false, message: `${kind} "${name}" not found` };
    }
    for (const [key, value] of Object.entries(data)) env[`${source.prefix ?? ""}${key}`] = value;
  }
  for (const variable of container.env ?? []) {
    const value = resolveVariable(variable, container, env, sources);
    if (!value.ok) return value;
    if (value.value !== undefined) env[variable.name] = value.value;
  }
  return { ok: true, env };
}

type Value =
  | { readonly ok: true; readonly value: string | undefined }
  | { readonly ok: false; readonly message: string };

const found = (value: string | undefined): Value => ({ ok: true, value });
const missing = (message: string): Value => ({ ok: false, message });

function resolveVariable(
  variable: EnvVar,
  container: Container,
  env: Readonly<Record<string, string>>,
  sources: EnvironmentSources,
): Value {
  const from = variable.valueFrom;
  if (from === undefined) return found(expand(variable.value ?? "", env));
  if (from.fieldRef !== undefined) {
    const value = fieldValue(from.fieldRef.fieldPath, sources);
    return value === undefined ? missing(`unsupported fieldPath "${from.fieldRef.fieldPath}"`) : found(value);
  }
  if (from.resourceFieldRef !== undefined) return resourceValue(from.resourceFieldRef, container, sources);
  const [kind, reference, data] =
    from.configMapKeyRef === undefined
      ? (["secret", from.secretKeyRef, sources.secret(from.secretKeyRef?.name ?? "")] as const)
      : (["configmap", from.configMapKeyRef, sources.configMap(from.configMapKeyRef.name ?? "")] as const);
  if (reference === undefined) return missing(`variable ${variable.name} has an empty valueFrom`);
  const value = data?.[reference.key];
  if (value !== undefined || reference.optional === true) return found(value);
  if (data === undefined) return missing(`${kind} "${reference.name ?? ""}" not found`);
  return missing(`couldn't find key ${reference.key} in ${kind} ${reference.name ?? ""}`);
}

export function fieldValue(path: string, { pod, hostIPs, podIPs }: EnvironmentSources): string | undefined {
  const keyed = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (keyed !== null) {
    const map = keyed[1] === "labels" ? pod.metadata.labels : pod.metadata.annotations;
    return map?.[keyed[2] ?? ""] ?? "";
  }
  switch (path) {
    case "metadata.name":
      return pod.metadata.name;
    case "metadata.namespace":
      return pod.metadata.namespace ?? "";
    case "metadata.uid":
      return pod.metadata.uid ?? "";
    case "spec.nodeName":
      return pod.spec.nodeName ?? "";
    case "spec.serviceAccountName":
      return pod.spec.serviceAccountName ?? "default";
    case "status.hostIP":
      return hostIPs[0] ?? "";
    case "status.hostIPs":
      return hostIPs.join(",");
    case "status.podIP":
      return podIPs[0] ?? "";
    case "status.podIPs":
      return podIPs.join(",");
    default:
      return undefined;
  }
}

function resourceValue(
  reference: { readonly containerName?: string; readonly resource: string; readonly divisor?: string | number },
  own: Container,
  { pod, node }: EnvironmentSources,
): Value {
  const all = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
  const container =
    reference.containerName === undefined ? own : all.find((each) => each.name === reference.containerName);
  const [kind, resource = ""] = reference.resource.split(".", 2);
  const bounds = kind === "limits" ? container?.resources?.limits : container?.resources?.requests;
  // Without a limit a container may use what the node has.
  const quantity = bounds?.[resource] ?? (kind === "limits" ? node?.status?.allocatable?.[resource] : "0");
  const value = quantity === undefined ? undefined : inUnits(quantity, reference.divisor);
  return value === undefined ? missing(`cannot tell ${reference.resource}`) : found(value);
}

/** `$(NAME)` from the environment; `$$(NAME)` is the text `$(NAME)`. */
export function expand(text: string, env: Readonly<Record<string, string>>): string {
  return text.replace(/\$(\$|\(([^()$\s]+)\))/g, (whole, what: string, name: string | undefined) =>
    what === "$" ? "$" : (env[name ?? ""] ?? whole),
  );
}

export const commandLine = (container: Container, env: Readonly<Record<string, string>>): readonly string[] =>
  [...(container.command ?? []), ...(container.args ?? [])].map((word) => expand(word, env));

/** Names of the ConfigMaps and Secrets a container's environment refers to. */
export function referredSources(container: Container): {
  readonly configMaps: readonly string[];
  readonly secrets: readonly string[];
} {
  const configMaps = new Set<string>();
  const secrets = new Set<string>();
  for (const { configMapRef, secretRef } of container.envFrom ?? []) {
    if (configMapRef?.name !== undefined) configMaps.add(configMapRef.name);
    if (secretRef?.name !== undefined) secrets.add(secretRef.name);
  }
  for (const { valueFrom } of container.env ?? []) {
    if (valueFrom?.configMapKeyRef?.name !== undefined) configMaps.add(valueFrom.configMapKeyRef.name);
    if (valueFrom?.secretKeyRef?.name !== undefined) secrets.add(valueFrom.secretKeyRef.name);
  }
  return { configMaps: [...configMaps], secrets: [...secrets] };
}
