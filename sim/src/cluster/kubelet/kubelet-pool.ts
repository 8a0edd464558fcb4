/**
 * All kubelets of the run: hands each the pods of its node, and writes the statuses of all of them.
 *
 * One subscription to the pod informer for all nodes, so that an event costs one map lookup; one status queue, which gathers for a moment, so
 * that a stub pod that starts, passes its readiness probe and becomes ready within milliseconds is one write.
 */
import os from "node:os";
import { hasCode } from "@calico-ts/std";
import type { ClusterNode } from "../cluster-port.ts";
import type { Informer } from "../kube/informer.ts";
import { type Pod, uidOf } from "../kube/objects.ts";
import { WorkQueue } from "../kube/work-queue.ts";
import { Kubelet, type KubeletDeps, statusWritten } from "./kubelet.ts";
import type { Machine } from "./node-status.ts";
import type { PodWorker } from "./pod-worker.ts";

export type KubeletPoolDeps = Omit<KubeletDeps, "machine" | "onStatus"> & { readonly signal: AbortSignal };

/** Of a pod whose containers somebody else starts on the node, with a container runtime of their own: no kubelet of ours touches it. */
export const EXTERNAL_ANNOTATION = "sim.calico-ts.io/external";

const STATUS_GATHER_MS = 15;
const STATUS_WRITERS = 16;

export class KubeletPool {
  readonly #deps: KubeletPoolDeps;
  readonly #pods: Informer<Pod>;
  readonly #kubelets = new Map<string, Kubelet>();
  readonly #dirty = new Map<string, PodWorker>();
  readonly #queue: WorkQueue;
  readonly #machine: Machine = {
    cpus: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    kernelVersion: os.release(),
    architecture: process.arch === "x64" ? "amd64" : process.arch,
  };

  constructor(deps: KubeletPoolDeps) {
    this.#deps = deps;
    const { log, signal } = deps;
    this.#queue = new WorkQueue(
      { name: "status", workers: STATUS_WRITERS, gatherMs: STATUS_GATHER_MS, log, signal },
      (uid) => this.#writeStatus(uid),
    );
    this.#pods = deps.informers.of("Pod");
    this.#pods.onChange(({ before, after }) => this.#podChanged(before, after));
  }

  add(node: ClusterNode): Kubelet {
    const kubelet = new Kubelet(
      {
        ...this.#deps,
        machine: this.#machine,
        onStatus: (worker) => {
          const uid = uidOf(worker.pod);
          this.#dirty.set(uid, worker);
          this.#queue.add(uid);
        },
      },
      node,
    );
    this.#kubelets.set(node.name, kubelet);
    for (const pod of this.#pods.values()) if (nodeOf(pod) === node.name) kubelet.podChanged(pod);
    return kubelet;
  }

  get(node: string): Kubelet | undefined {
    return this.#kubelets.get(node);
  }

  async remove(node: string): Promise<void> {
    const kubelet = this.#kubelets.get(node);
    this.#kubelets.delete(node);
    await kubelet?.stop();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#kubelets.keys()].map((node) => this.remove(node)));
  }

  workerOf(pod: Pod): PodWorker | undefined {
    return this.#kubelets.get(nodeOf(pod) ?? "")?.worker(uidOf(pod));
  }

  #podChanged(before: Pod | undefined, after: Pod | undefined): void {
    const had = before === undefined ? undefined : nodeOf(before);
    const has = after === undefined ? undefined : nodeOf(after);
    // A name taken over by a new pod between two looks is a deletion and a creation.
    if (before !== undefined && had !== undefined && (after === undefined || uidOf(after) !== uidOf(before))) {
      this.#kubelets.get(had)?.podGone(before);
    }
    if (after !== undefined && has !== undefined) this.#kubelets.get(has)?.podChanged(after);
  }

  async #writeStatus(uid: string): Promise<void> {
    const worker = this.#dirty.get(uid);
    const pod = worker === undefined ? undefined : this.#pods.get(worker.key);
    if (worker === undefined || pod === undefined || uidOf(pod) !== uid || this.workerOf(pod) !== worker) {
      this.#dirty.delete(uid);
      return;
    }
    this.#dirty.delete(uid);
    worker.update(pod);
    const status = worker.status();
    if (statusWritten(pod, status)) return;
    try {
      const written = await this.#deps.client.patch("Pod", pod.metadata, { metadata: { uid }, status }, "status");
      this.#pods.assume(written);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return;
      this.#dirty.set(uid, worker);
      throw error;
    }
  }
}

const nodeOf = (pod: Pod): string | undefined =>
  pod.metadata.annotations?.[EXTERNAL_ANNOTATION] === "true" ? undefined : pod.spec.nodeName;
