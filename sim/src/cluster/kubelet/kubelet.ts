/**
 * One node's kubelet: keeps the Node object and its lease, and a worker for every pod bound to the node.
 *
 * It sees pods through the shared informer (`KubeletPool` hands it those of its node) and writes their status through `StatusWriter`.
 * A pod is deleted from the API only after its worker has ended: that is what makes a finished `kubectl delete` mean a clean node.
 */
import { watch } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import type { ClusterNode } from "../cluster-port.ts";
import type { KubeClient } from "../kube/client.ts";
import type { EventRecorder } from "../kube/event-recorder.ts";
import { type InformerSet, pause } from "../kube/informer.ts";
import { conditionOf, isPodFinished, isTerminating, keyOf, type Pod, uidOf } from "../kube/objects.ts";
import { stableJson } from "../controllers/pod-template.ts";
import { CONFIG_DIR, networkReady, NetworkSource } from "./cni.ts";
import {
  type Machine,
  leaseOf,
  LEASE_NAMESPACE,
  newNode,
  nodeConditions,
  nodeStatus,
  standardLabels,
} from "./node-status.ts";
import { PodWorker, type PodWorkerDeps } from "./pod-worker.ts";

export interface KubeletDeps {
  readonly client: KubeClient;
  readonly informers: InformerSet;
  readonly events: EventRecorder;
  readonly log: Logger;
  readonly machine: Machine;
  /** Everything of a worker that is not this kubelet's own. */
  readonly worker: Omit<PodWorkerDeps, "node" | "nodeObject" | "network" | "onChange" | "onEvent">;
  readonly onStatus: (worker: PodWorker) => void;
}

const HEARTBEAT_MS = 10_000;
const NETWORK_POLL_MS = 2_000;
const REPORT_MS = 300_000;
const RETRY_MS = 500;

export class Kubelet {
  readonly node: ClusterNode;
  readonly #deps: KubeletDeps;
  readonly #life = new AbortController();
  readonly #workers = new Map<string, PodWorker>();
  /** Uids whose worker has ended and whose object is being deleted. */
  readonly #ended = new Set<string>();
  readonly #workerDeps: PodWorkerDeps;
  readonly #loops: Promise<void>;

  constructor(deps: KubeletDeps, node: ClusterNode) {
    this.#deps = deps;
    this.node = node;
    this.#workerDeps = {
      ...deps.worker,
      node,
      network: new NetworkSource(node.hostRoot),
      nodeObject: () => deps.informers.of("Node").get(node.name),
      onChange: deps.onStatus,
      onEvent: (pod, type, reason, message) => deps.events.record("Pod", pod, { type, reason, message }),
    };
    this.#loops = Promise.all([this.#heartbeat(), this.#reportNode()]).then(() => undefined);
  }

  worker(uid: string): PodWorker | undefined {
    return this.#workers.get(uid);
  }

  workers(): IterableIterator<PodWorker> {
    return this.#workers.values();
  }

  /** A pod of this node appeared or changed. */
  podChanged(pod: Pod): void {
    if (this.#life.signal.aborted) return;
    const uid = uidOf(pod);
    const worker = this.#workers.get(uid);
    worker?.update(pod);
    // Others set the conditions that readiness gates wait for.
    if (worker !== undefined && (pod.spec.readinessGates ?? []).length > 0) this.#deps.onStatus(worker);
    if (isTerminating(pod)) {
      if (!this.#ended.has(uid)) void this.#endPod(uid, pod);
    } else if (worker === undefined && !isPodFinished(pod)) {
      this.#workers.set(uid, new PodWorker(this.#workerDeps, pod));
    }
  }

  /** The object is gone, possibly without us having been asked (grace period 0). */
  podGone(pod: Pod): void {
    const uid = uidOf(pod);
    this.#ended.delete(uid);
    if (this.#workers.has(uid)) void this.#retire(uid);
  }

  /** Stops writing and heartbeats, cuts every pod. */
  async stop(): Promise<void> {
    this.#life.abort();
    const workers = [...this.#workers.values()];
    this.#workers.clear();
    await Promise.all(workers.map((worker) => worker.cut()));
    await Promise.all(workers.map((worker) => this.#workerDeps.serviceAccounts.release(uidOf(worker.pod))));
    await this.#loops;
  }

  async #endPod(uid: string, pod: Pod): Promise<void> {
    this.#ended.add(uid);
    await this.#retire(uid);
    const { signal } = this.#life;
    while (!signal.aborted) {
      try {
        await this.#deps.client.delete("Pod", pod.metadata, { uid, graceSeconds: 0 });
        this.#deps.informers.of("Pod").assumeGone(keyOf(pod), uid);
        break;
      } catch (error) {
        if (hasCode(error, "NOT_FOUND") || hasCode(error, "CONFLICT")) break;
        this.#deps.log.warning("pod.not_deleted", { pod: keyOf(pod), error });
        await pause(RETRY_MS, signal);
      }
    }
    this.#ended.delete(uid);
  }

  async #retire(uid: string): Promise<void> {
    const worker = this.#workers.get(uid);
    if (worker === undefined) return;
    await worker.end();
    await this.#workerDeps.serviceAccounts.release(uid);
    this.#workers.delete(uid);
  }

  async #heartbeat(): Promise<void> {
    const { client, informers, log } = this.#deps;
    const { signal } = this.#life;
    const name = { namespace: LEASE_NAMESPACE, name: this.node.name };
    while (!signal.aborted) {
      const lease = leaseOf(this.node.name, informers.of("Node").get(this.node.name), Date.now());
      try {
        await client.patch("Lease", name, { spec: lease.spec });
      } catch (error) {
        const made = hasCode(error, "NOT_FOUND") && (await this.#createLease(lease));
        if (!made && !signal.aborted) log.debug("lease.not_renewed", { node: this.node.name, error });
      }
      await pause(HEARTBEAT_MS, signal);
    }
  }

  async #createLease(lease: ReturnType<typeof leaseOf>): Promise<boolean> {
    try {
      await this.#deps.client.create("Lease", lease);
      return true;
    } catch {
      return false;
    }
  }

  /** Registers the node, then keeps its conditions, at once when the network becomes ready. */
  async #reportNode(): Promise<void> {
    const { log, informers } = this.#deps;
    const { signal } = this.#life;
    const nodes = informers.of("Node");
    let reportedAt = 0;
    while (!signal.aborted) {
      let waitMs = NETWORK_POLL_MS;
      try {
        const ready = await networkReady(this.node.hostRoot);
        const known = conditionOf(nodes.get(this.node.name)?.status?.conditions, "Ready")?.status;
        if (reportedAt === 0 || known !== (ready ? "True" : "False") || Date.now() - reportedAt > REPORT_MS) {
          await this.#report(ready);
          reportedAt = Date.now();
        }
      } catch (error) {
        waitMs = hasCode(error, "CONFLICT") ? 20 : RETRY_MS;
        if (!hasCode(error, "CONFLICT") && !signal.aborted)
          log.warning("node.not_reported", { node: this.node.name, error });
      }
      await this.#configChange(waitMs);
    }
  }

  async #report(ready: boolean): Promise<void> {
    const { client, informers, machine } = this.#deps;
    const nodes = informers.of("Node");
    const name = this.node.name;
    let node = nodes.get(name) ?? (await client.get("Node", { name }).catch(() => undefined));
    if (node === undefined) {
      node = await client.create("Node", newNode(this.node, machine, Date.now()));
      nodes.assume(node);
    } else {
      const labels = standardLabels(this.node, machine);
      const missing = Object.entries(labels).filter(([key, value]) => node?.metadata.labels?.[key] !== value);
      if (missing.length > 0) {
        node = await client.patch("Node", { name }, { metadata: { labels: Object.fromEntries(missing) } });
        nodes.assume(node);
      }
    }
    const conditions = nodeConditions(node.status?.conditions, ready, Date.now());
    // The version turns a race with the network's own condition into a conflict instead of a lost write.
    const { resourceVersion } = node.metadata;
    const status = { ...nodeStatus(this.node, machine), conditions };
    nodes.assume(await client.patch("Node", { name }, { metadata: { resourceVersion }, status }, "status"));
  }

  /** Until a file in /etc/cni/net.d changes, or for a while. */
  async #configChange(ms: number): Promise<void> {
    const dir = join(this.node.hostRoot, CONFIG_DIR);
    const wake = new AbortController();
    try {
      await mkdir(dir, { recursive: true });
      const watcher = watch(dir, () => wake.abort());
      watcher.on("error", () => wake.abort());
      await pause(ms, AbortSignal.any([wake.signal, this.#life.signal]));
      watcher.close();
    } catch {
      await pause(ms, this.#life.signal);
    }
  }
}

/** True when what a status says is in the cached pod already. */
export function statusWritten(pod: Pod, status: NonNullable<Pod["status"]>): boolean {
  const cached = pod.status as Readonly<Record<string, unknown>> | undefined;
  if (cached === undefined) return false;
  return Object.entries(status).every(([field, value]) => stableJson(cached[field]) === stableJson(value));
}
