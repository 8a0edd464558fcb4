/** Every pod against every declared container port of every other pod. */
import { CalicoError } from "@calico-ts/std";
import type { ProbeProtocol, ProbeRequest } from "./probe-request.ts";
import type { PodSource, ProbePod } from "./targets.ts";

export interface MatrixOptions {
  /** Only pods of these namespaces; empty: of all. */
  readonly namespaces: readonly string[];
}

/**
 * Pods that run and have a network of their own. A `hostNetwork` pod is its node as far as the network goes, and policies do
 * not select it, so it is no row and no column.
 */
export function matrixPods<P extends ProbePod>(view: PodSource<P>, options: MatrixOptions): P[] {
  const known = new Set(view.pods().map((pod) => pod.namespace));
  const missing = options.namespaces.filter((namespace) => !known.has(namespace));
  if (missing.length > 0) {
    throw new CalicoError(
      "BAD_INPUT",
      `--namespace ${missing.join(", ")}: no pods there; there are pods in: ${[...known].toSorted().join(", ")}`,
    );
  }
  return view
    .pods()
    .filter(
      (pod) =>
        (options.namespaces.length === 0 || options.namespaces.includes(pod.namespace)) &&
        !pod.hostNetwork &&
        !pod.terminating &&
        pod.phase === "Running" &&
        pod.ips.length > 0,
    );
}

/** Where pods have addresses of both families, each pair is asked once for each family that both of them have. */
export function matrixRequests(pods: readonly ProbePod[]): ProbeRequest[] {
  const requests: ProbeRequest[] = [];
  const dual = new Set(pods.flatMap(familiesOf)).size > 1;
  for (const from of pods) {
    for (const to of pods) {
      if (from === to) continue;
      for (const { port, protocol } of distinctPorts(to)) {
        const request = { from: `${from.namespace}/${from.name}`, to: `${to.namespace}/${to.name}`, port, protocol };
        if (!dual) requests.push(request);
        else for (const family of commonFamilies(from, to)) requests.push({ ...request, family });
      }
    }
  }
  return requests;
}

const familiesOf = (pod: ProbePod): (4 | 6)[] => pod.ips.map((ip) => (ip.includes(":") ? 6 : 4));

const commonFamilies = (from: ProbePod, to: ProbePod): (4 | 6)[] => {
  const own = familiesOf(from);
  return familiesOf(to).filter((family) => own.includes(family));
};

/** Declared ports that can be probed; SCTP has no socket here. */
function distinctPorts(pod: ProbePod): { readonly port: number; readonly protocol: ProbeProtocol }[] {
  const ports = new Map<string, { port: number; protocol: ProbeProtocol }>();
  for (const { port, protocol } of pod.ports) {
    if (protocol === "SCTP") continue;
    const lower = protocol === "TCP" ? "tcp" : "udp";
    ports.set(`${port}/${lower}`, { port, protocol: lower });
  }
  return [...ports.values()];
}
