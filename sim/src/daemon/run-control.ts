/** What a running daemon does for the command line: one function per request of the control protocol. */
import { readFileSync } from "node:fs";
import { CalicoError, unreachable } from "@calico-ts/std";
import type { Cluster, PodView } from "../cluster/cluster-port.ts";
import { matrixPods, matrixRequests } from "../probe/matrix.ts";
import { linuxProbeSockets } from "../probe/linux-sockets.ts";
import type { ProbeRequest } from "../probe/probe-request.ts";
import type { Prober } from "../probe/prober.ts";
import { createProber } from "../probe/prober.ts";
import { runningPod } from "../probe/targets.ts";
import type { Expectations } from "../verify/expectations.ts";
import { danglingNames, expandExpectations } from "../verify/expectations.ts";
import type { RouterStatus } from "../routers/router-set.ts";
import type {
  ControlRequest,
  ExecTarget,
  LiveStatus,
  MatrixPod,
  MatrixResult,
  VerifyResult,
} from "./control-protocol.ts";

export interface RunControlOptions {
  /** Undefined while the cluster starts. */
  readonly cluster: () => Cluster | undefined;
  /** By name. */
  readonly routers: ReadonlyMap<string, { readonly netns: string }>;
  readonly routerStatus: () => Promise<readonly RouterStatus[]>;
  readonly stop: (why: string) => void;
}

export function openRunControl(options: RunControlOptions): (request: ControlRequest) => Promise<unknown> {
  const parallelism = probesAtOnce();
  const running = (): { readonly cluster: Cluster; readonly prober: Prober } => {
    const cluster = options.cluster();
    if (cluster === undefined) throw new CalicoError("UNAVAILABLE", "the run is still starting; try again in a moment");
    return { cluster, prober: createProber({ view: cluster, sockets: linuxProbeSockets, parallelism }) };
  };
  return async (request) => {
    switch (request.op) {
      case "status":
        return liveStatus(options.cluster(), options.routerStatus);
      case "down":
        options.stop("`down` was called");
        return null;
      case "resolve":
        return resolveExec(running().cluster, options.routers, request.target);
      case "pods":
        return running()
          .cluster.pods()
          .filter(({ namespace }) => namespace === request.namespace);
      case "probe":
        return running().prober.probe(request.requests);
      case "matrix":
        return probeMatrix(running(), request.namespaces);
      case "verify":
        return verifyExpectations(running(), request.expectations);
      default:
        return unreachable(request);
    }
  };
}

async function liveStatus(
  cluster: Cluster | undefined,
  routerStatus: RunControlOptions["routerStatus"],
): Promise<LiveStatus> {
  if (cluster === undefined) return { nodes: [], pods: { total: 0, ready: 0 }, waitingFor: [], routers: [] };
  const progress = cluster.progress();
  const pods = cluster.pods().filter((pod) => pod.phase !== "Succeeded" && pod.phase !== "Failed");
  return {
    nodes: cluster.nodes().map(({ name, ready, running }) => ({ name, ready, running })),
    pods: { total: pods.length, ready: pods.filter(({ ready }) => ready).length },
    waitingFor: progress.waitingFor,
    routers: await routerStatus(),
  };
}

/** A node's name has no slash; `NAMESPACE/POD` has one. */
function resolveExec(cluster: Cluster, routers: RunControlOptions["routers"], target: string): ExecTarget {
  if (!target.includes("/")) {
    const node = cluster.nodes().find(({ name }) => name === target);
    if (node !== undefined) return { kind: "node", name: node.name, node: node.name, netns: node.netns };
    const router = routers.get(target);
    if (router !== undefined) return { kind: "router", name: target, node: undefined, netns: router.netns };
    const names = [...cluster.nodes().map(({ name }) => name), ...routers.keys()];
    throw new CalicoError(
      "NOT_FOUND",
      `no node or router named ${target}; there are: ${names.join(", ")}. For a pod write NAMESPACE/POD`,
    );
  }
  const pod = runningPod(cluster, target);
  if (pod.netns === undefined)
    throw new CalicoError("NOT_FOUND", `${target} has no network namespace yet (phase ${pod.phase})`);
  return { kind: "pod", name: `${pod.namespace}/${pod.name}`, node: pod.node, netns: pod.netns };
}

interface Running {
  readonly cluster: Cluster;
  readonly prober: Prober;
}

async function probeMatrix({ cluster, prober }: Running, namespaces: readonly string[]): Promise<MatrixResult> {
  const pods = matrixPods(cluster, { namespaces });
  const results = await prober.probe(matrixRequests(pods));
  return { results, pods: labelPods(pods) };
}

/** A pod that is its workload's only one goes by the workload's name. */
export function labelPods(pods: readonly Pick<PodView, "namespace" | "name" | "owners">[]): MatrixPod[] {
  const workload = (pod: Pick<PodView, "namespace" | "name" | "owners">): string =>
    `${pod.namespace}/${pod.owners.at(-1)?.name ?? pod.name}`;
  const sizes = new Map<string, number>();
  for (const pod of pods) sizes.set(workload(pod), (sizes.get(workload(pod)) ?? 0) + 1);
  return pods.map((pod) => {
    const name = `${pod.namespace}/${pod.name}`;
    return { pod: name, label: sizes.get(workload(pod)) === 1 ? workload(pod) : name };
  });
}

async function verifyExpectations({ cluster, prober }: Running, expectations: Expectations): Promise<VerifyResult> {
  const { matrix } = expectations;
  const pods = matrix === undefined ? [] : matrixPods(cluster, { namespaces: matrix.namespaces });
  const flows = expandExpectations(expectations, pods, matrixRequests(pods));
  const results = await prober.probe(flows.map(probeOf));
  const checks = flows.flatMap((flow, index) => {
    const result = results[index];
    return result === undefined
      ? []
      : [{ ...flow, verdict: result.verdict, latencyMs: result.latencyMs, detail: result.detail }];
  });
  return { checks, dangling: matrix === undefined ? [] : danglingNames(matrix, pods) };
}

const probeOf = ({ from, to, port, protocol, family }: ProbeRequest): ProbeRequest => ({
  from,
  to,
  port,
  protocol,
  ...(family === undefined ? {} : { family }),
});

/** A TCP probe that gets through takes two sockets here, the prober's and the stub's. */
function probesAtOnce(): number {
  const limits = readFileSync("/proc/self/limits", "utf8");
  const open = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 1024);
  return Math.max(64, Math.min(8192, Math.floor((open - 1024) / 2)));
}
