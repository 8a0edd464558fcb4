import type { Cluster, ClusterOptions } from "./cluster/cluster-port.ts";
import type { TopologyPlan } from "./topology/plan.ts";
import type { LoadOptions } from "./topology/topology-file.ts";

export type { DemoParts, SimulatorPlugins, Terminal } from "./cli/plugins.ts";
export { main } from "./cli/main.ts";
export type {
  Cluster,
  ClusterNode,
  ClusterOptions,
  LogRequest,
  NodeView,
  PodPort,
  PodView,
  Progress,
  ServiceView,
} from "./cluster/cluster-port.ts";
export { execInNamespace, spawnInNamespace } from "./cluster/process.ts";
export type { ExecResult, NodeProgram, ProgramContext, RunningProgram } from "./cluster/program.ts";
export type { KillResult } from "./kills/kill-each.ts";
export type { KillPromise, ProcessKind } from "./kills/process-kinds.ts";
export type { Fabric } from "./fabric/fabric.ts";
export { buildFabric } from "./fabric/fabric.ts";
export { controlPlaneNamespace, nodeNamespace, routerNamespace, switchNamespace } from "./fabric/layout.ts";
export { checkRunName, DEFAULT_RUN, namespaceName, namespacePrefix, RUN_VARIABLE } from "./names.ts";
export { linuxProbeSockets } from "./probe/linux-sockets.ts";
export type { ProbeProtocol, ProbeRequest, ProbeResult, Verdict } from "./probe/probe-request.ts";
export type { Prober, ProberOptions, ProbeSockets } from "./probe/prober.ts";
export { createProber } from "./probe/prober.ts";
export type { ProbePod, ProbeService, ProbeView } from "./probe/targets.ts";
export type { SpeakerFile } from "./routers/own-speaker.ts";
export { SPEAKER_FILE } from "./routers/own-speaker.ts";
export type { StubGreeting } from "./stub-protocol.ts";
export { formatGreeting, parseGreeting, STUB_REQUEST } from "./stub-protocol.ts";
export type { NodePlan, PoolPlan, TopologyPlan } from "./topology/plan.ts";
export { shippedNames, topologyPath } from "./topology/shipped.ts";

// Loaded when they are called: whoever wants the command line alone does not pay for a cluster, nor for the reading of topologies.

export const startCluster = async (options: ClusterOptions): Promise<Cluster> =>
  (await import("./cluster/cluster.ts")).startCluster(options);

/** @throws CalicoError BAD_INPUT with every problem on a line of its own. */
export const loadTopology = async (file: string, options?: LoadOptions): Promise<TopologyPlan> =>
  (await import("./topology/topology-file.ts")).loadTopology(file, options);
