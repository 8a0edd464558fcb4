/**
 * START HERE. The cluster around an API server, top to bottom: every part is one line here, in the order data moves.
 *
 * ```
 * user ─▶ API server ─▶ controllers: Deployment ─▶ ReplicaSet ─▶ Pod ─▶ scheduler: node ─▶ kubelet: namespace, CNI ADD, containers or stubs
 *              ▲                                                                              │ status
 *              └──────────────────────────────────────────────────────────────────────────────┘
 *         Pod readiness ─▶ EndpointSlice ─▶ kube-proxy: nftables in each node
 * ```
 *
 * The parts share watch caches but speak to each other through the API alone, as in any cluster.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";
import type {
  Cluster,
  ClusterNode,
  ClusterOptions,
  LogRequest,
  NodeView,
  PodView,
  Progress,
  ServiceView,
} from "./cluster-port.ts";
import { closeShells, keepShellOutputs } from "./command-shell.ts";
import { ControllerManager } from "./controllers/controller-manager.ts";
import { KubeClient } from "./kube/client.ts";
import { EventRecorder } from "./kube/event-recorder.ts";
import { InformerSet } from "./kube/informer.ts";
import { Semaphore } from "./kube/semaphore.ts";
import { KubeletPool } from "./kubelet/kubelet-pool.ts";
import { ServiceAccountFiles } from "./kubelet/service-account.ts";
import { readLogs } from "./logs.ts";
import { KubeProxy } from "./proxy/kube-proxy.ts";
import { Scheduler } from "./scheduler/scheduler.ts";
import { ClusterView } from "./views.ts";
import { waitUntilReady } from "./readiness.ts";

const AWAITED = ["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Pod", "Service", "EndpointSlice"] as const;
const NODE_GRACE_MS = 40_000;
const CNI_PARALLELISM = 16;
const STUB_INITIAL_DELAY_SECONDS = 0;

/** @throws CalicoError BAD_INPUT for a bad kubeconfig; trouble with the API server later is retried for ever. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const cluster = new RunningCluster(options);
  try {
    for (const node of options.nodes) await cluster.addNode(node);
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

class RunningCluster implements Cluster {
  readonly #options: ClusterOptions;
  readonly #life = new AbortController();
  readonly #client: KubeClient;
  readonly #informers: InformerSet;
  readonly #kubelets: KubeletPool;
  readonly #view: ClusterView;
  readonly #nodes = new Map<string, ClusterNode>();
  readonly #proxies = new Map<string, KubeProxy>();

  constructor(options: ClusterOptions) {
    this.#options = options;
    keepShellOutputs(options.run, join(options.stateDir, "tmp"));
    const { log, run, stateDir, programs, apiServer } = options;
    const { signal } = this.#life;
    const client = KubeClient.open(options.kubeconfig);
    const informers = new InformerSet({ client, log, signal });
    const recorder = (component: string): EventRecorder => new EventRecorder({ client, log, component, signal });
    this.#client = client;
    this.#informers = informers;
    if (options.controlPlane !== false) {
      const nodeGraceMs = options.nodeGraceMs ?? NODE_GRACE_MS;
      new Scheduler({ client, informers, log, signal, events: recorder("default-scheduler") }).start();
      new ControllerManager({
        client,
        informers,
        log,
        signal,
        nodeGraceMs,
        events: recorder("controller-manager"),
      }).start();
    }
    const serviceAccounts = new ServiceAccountFiles({ client, log, podsDir: join(stateDir, "pods"), apiServer });
    this.#kubelets = new KubeletPool({
      client,
      informers,
      log,
      signal,
      events: recorder("kubelet"),
      worker: {
        run,
        stateDir,
        programs,
        apiServer,
        client,
        log,
        serviceAccounts,
        gate: new Semaphore(options.cniParallelism ?? CNI_PARALLELISM),
        stubInitialDelayMs: (options.stubInitialDelaySeconds ?? STUB_INITIAL_DELAY_SECONDS) * 1000,
      },
    });
    this.#view = new ClusterView({
      informers,
      kubelets: this.#kubelets,
      nodes: this.#nodes,
      proxies: this.#proxies,
    });
  }

  async addNode(node: ClusterNode): Promise<void> {
    if (this.#nodes.has(node.name)) throw new CalicoError("ALREADY_EXISTS", `there is a node ${node.name} already`);
    this.#nodes.set(node.name, node);
    this.#powerOn(node);
    await Promise.resolve();
  }

  async stopNode(name: string): Promise<void> {
    const node = this.#known(name);
    const proxy = this.#proxies.get(name);
    this.#proxies.delete(name);
    await Promise.all([this.#kubelets.remove(name), proxy?.stop()]);
    await closeShells(this.#options.run, node.netns);
  }

  async startNode(name: string, change: { readonly netns?: string } = {}): Promise<void> {
    const node = { ...this.#known(name), ...change };
    if (this.#kubelets.get(name) !== undefined) await this.stopNode(name);
    this.#nodes.set(name, node);
    this.#powerOn(node);
  }

  async killProgram(nodeName: string, container: string, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.#known(nodeName);
    for (const worker of this.#kubelets.get(nodeName)?.workers() ?? []) {
      for (const found of worker.processes()) {
        if (found.container !== container) continue;
        process.kill(found.pid, signal);
        return Promise.resolve();
      }
    }
    throw new CalicoError("NOT_FOUND", `node ${nodeName} runs no program as container ${container}`);
  }

  pods(): readonly PodView[] {
    return this.#view.pods();
  }

  services(): readonly ServiceView[] {
    return this.#view.services();
  }

  nodes(): readonly NodeView[] {
    return this.#view.nodes();
  }

  findPod(namespace: string, name: string): PodView | undefined {
    return this.#view.findPod(namespace, name);
  }

  progress(): Progress {
    return this.#view.progress();
  }

  whenReady(options: Parameters<Cluster["whenReady"]>[0]): Promise<Progress> {
    // What was applied just before may not have come through the watches: an empty cluster would be ready at once.
    const refresh = async (): Promise<void> => {
      await Promise.all(AWAITED.map((kind) => this.#informers.refresh(kind)));
    };
    return waitUntilReady({ refresh, look: () => this.#view.progress() }, options);
  }

  logs(request: LogRequest): AsyncIterable<string> {
    return readLogs({ view: this.#view, stateDir: this.#options.stateDir }, request);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#life.abort();
    await Promise.all([this.#kubelets.stop(), ...[...this.#proxies.values()].map((proxy) => proxy.stop())]);
    await closeShells(this.#options.run);
    this.#client[Symbol.dispose]();
    await this.#informers.closed();
    for (const dir of ["pods", "tmp"]) await rm(join(this.#options.stateDir, dir), { recursive: true, force: true });
  }

  #known(name: string): ClusterNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new CalicoError("NOT_FOUND", `there is no node ${name}`);
    return node;
  }

  #powerOn(node: ClusterNode): void {
    this.#kubelets.add(node);
    if (this.#options.kubeProxy === false) return;
    this.#proxies.set(node.name, new KubeProxy({ informers: this.#informers, log: this.#options.log }, node));
  }
}
