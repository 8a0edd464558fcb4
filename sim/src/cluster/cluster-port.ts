/**
 * What the daemon hands to `startCluster` and what it gets back. Types only; see README.md for the story.
 */
import type { Logger } from "@calico-ts/runtime";
import type { NodeProgram } from "./program.ts";

export interface ClusterOptions {
  readonly run: string;
  /** The run's state folder; the cluster writes below `pods/` and `logs/` in it and removes what it wrote under `pods/`. */
  readonly stateDir: string;
  /** Path of a kubeconfig that reaches the API server from the daemon. Any Kubernetes API server will do. */
  readonly kubeconfig: string;
  readonly nodes: readonly ClusterNode[];
  readonly programs: readonly NodeProgram[];
  /** Where the API server is reached from inside a node: becomes KUBERNETES_SERVICE_HOST and _PORT of programs. */
  readonly apiServer: { readonly host: string; readonly port: number };
  readonly log: Logger;
  /** CNI executions at one time over all nodes. Default 16. */
  readonly cniParallelism?: number;
  /**
   * `initialDelaySeconds` of probes of stub containers is cut to this many seconds, since a stub is up at once. Default 0.
   * Real programs always get the delay they ask for.
   */
  readonly stubInitialDelaySeconds?: number;
  /** False leaves Services alone (an agent with its own service dataplane). Default true. */
  readonly kubeProxy?: boolean;
  /** False when the API server comes with scheduler and controllers of its own. Default true. */
  readonly controlPlane?: boolean;
  /** A node whose heartbeat is older counts as gone. Default 40 000, as in Kubernetes. */
  readonly nodeGraceMs?: number;
}

export interface ClusterNode {
  readonly name: string;
  /** Path: /run/netns/cs-<run>-<…>. The namespace exists, has its addresses and a default route (see README). */
  readonly netns: string;
  readonly hostRoot: string;
  /** InternalIPs, IPv4 first. */
  readonly addresses: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Of the Node object when it is registered. */
  readonly annotations?: Readonly<Record<string, string>>;
  readonly taints?: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  readonly podCIDRs?: readonly string[];
  /** Overrides `apiServer` for this node. */
  readonly apiServer?: { readonly host: string; readonly port: number };
}

export interface PodPort {
  readonly container: string;
  readonly name?: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP" | "SCTP";
}

/** A pod as the prober needs it. */
export interface PodView {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly node: string | undefined;
  /** Path of the pod's network namespace; the node's own for hostNetwork; undefined while there is no sandbox. */
  readonly netns: string | undefined;
  readonly hostNetwork: boolean;
  readonly ips: readonly string[];
  readonly phase: "Pending" | "Running" | "Succeeded" | "Failed" | "Unknown";
  readonly ready: boolean;
  readonly terminating: boolean;
  /** Declared container ports. */
  readonly ports: readonly PodPort[];
  /** Names of the owners, nearest first: ReplicaSet then Deployment, or StatefulSet, DaemonSet, Job. */
  readonly owners: readonly { readonly kind: string; readonly name: string }[];
  /** The container's processes are stood in for by stub servers. */
  readonly stub: boolean;
}

export interface ServiceView {
  readonly namespace: string;
  readonly name: string;
  readonly clusterIPs: readonly string[];
  readonly ports: readonly {
    readonly name?: string;
    readonly port: number;
    readonly nodePort?: number;
    readonly protocol: "TCP" | "UDP" | "SCTP";
  }[];
}

export interface NodeView {
  readonly name: string;
  readonly netns: string;
  /** False between `stopNode` and `startNode`. */
  readonly running: boolean;
  /** The Ready condition in the API. */
  readonly ready: boolean;
  readonly programs: readonly {
    readonly namespace: string;
    readonly pod: string;
    readonly container: string;
    readonly pid: number;
    readonly restarts: number;
  }[];
}

export interface Progress {
  readonly nodesReady: number;
  readonly nodes: number;
  readonly podsReady: number;
  readonly pods: number;
  /** What is missing and why, worst first: `pod shop/cart-7d…: FailedCreatePodSandBox: pool exhausted`. */
  readonly waitingFor: readonly string[];
}

export interface LogRequest {
  readonly namespace: string;
  readonly pod: string;
  /** May be left out when there is one container. */
  readonly container?: string;
  readonly previous?: boolean;
  readonly follow?: boolean;
  readonly tailLines?: number;
  readonly limitBytes?: number;
  readonly timestamps?: boolean;
  readonly sinceTime?: Date;
  readonly signal?: AbortSignal;
}

export interface Cluster extends AsyncDisposable {
  /** Synchronous, from the watch caches: every pod of the API server, sorted by namespace and name. */
  pods(): readonly PodView[];
  services(): readonly ServiceView[];
  nodes(): readonly NodeView[];
  /** A pod by name, or any one (ready first) of the workload of that name (Deployment, StatefulSet, DaemonSet, ReplicaSet, Job). */
  findPod(namespace: string, name: string): PodView | undefined;
  /** Resolves when every node is Ready and every workload has what it asks for; rejects with TIMEOUT, telling what is missing. */
  whenReady(options: {
    readonly timeoutMs: number;
    readonly signal?: AbortSignal;
    readonly onProgress?: (progress: Progress) => void;
  }): Promise<Progress>;
  progress(): Progress;
  /** Log lines with their newline. Throws NOT_FOUND for an unknown pod or container. */
  logs(request: LogRequest): AsyncIterable<string>;
  /** Power cut: programs killed, stubs closed, pod namespaces removed without CNI DEL, heartbeat silent. */
  stopNode(name: string): Promise<void>;
  /** Power on, possibly with a new namespace: registers again and rebuilds every sandbox. */
  startNode(name: string, change?: { readonly netns?: string }): Promise<void>;
  /** A node that joins while the cluster runs. */
  addNode(node: ClusterNode): Promise<void>;
  /** Kills the program's process with SIGKILL (or the signal given); the kubelet restarts it with back-off. */
  killProgram(node: string, container: string, signal?: NodeJS.Signals): Promise<void>;
}
