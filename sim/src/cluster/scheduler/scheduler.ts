/**
 * The scheduler's run loop: pods without a node are placed one after the other (placement depends on the placement before), and
 * bound side by side through the Binding subresource, since a binding only waits for the API server.
 *
 * A pod that fits nowhere gets PodScheduled=False/Unschedulable and an event, both only when the message changes, and is looked at
 * again when a node changes or a pod leaves.
 */
import { hasCode } from "@calico-ts/std";
import type { Logger } from "@calico-ts/runtime";
import type { KubeClient } from "../kube/client.ts";
import type { EventRecorder } from "../kube/event-recorder.ts";
import type { Informer, InformerSet } from "../kube/informer.ts";
import { conditionOf, isPodFinished, isTerminating, keyOf, type Node, type Pod } from "../kube/objects.ts";
import { timestamp } from "../kube/timestamp.ts";
import { type NodeLoad, placePod, worthWaitingFor } from "./schedule.ts";

export interface SchedulerDeps {
  readonly client: KubeClient;
  readonly informers: InformerSet;
  readonly events: EventRecorder;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

interface MutableLoad {
  node: Node;
  readonly pods: Map<string, Pod>;
}

const SCHEDULER_NAME = "default-scheduler";
const BINDINGS_AT_ONCE = 16;
const RETRY_MS = 500;
const RECHECK_MS = 1_000;

export class Scheduler {
  readonly #deps: SchedulerDeps;
  readonly #pods: Informer<Pod>;
  readonly #loads = new Map<string, MutableLoad>();
  /** Pods of nodes whose Node object is not there (yet). */
  readonly #waiting = new Set<string>();
  readonly #parked = new Set<string>();
  /** Decided by us, not yet seen in the cache. */
  readonly #assumed = new Map<string, string>();
  #binding = 0;
  #turn: NodeJS.Immediate | undefined;
  #recheck: NodeJS.Timeout | undefined;

  constructor(deps: SchedulerDeps) {
    this.#deps = deps;
    this.#pods = deps.informers.of("Pod");
  }

  start(): void {
    const { informers, signal } = this.#deps;
    informers.of("Node").onChange(({ key, after }) => this.#nodeChanged(key, after));
    this.#pods.onChange(({ key, before, after }) => this.#podChanged(key, before, after));
    const stop = (): void => {
      clearImmediate(this.#turn);
      clearTimeout(this.#recheck);
    };
    signal.addEventListener("abort", stop, { once: true });
  }

  #nodeChanged(name: string, node: Node | undefined): void {
    if (node === undefined) this.#loads.delete(name);
    else {
      const load = this.#loads.get(name);
      if (load !== undefined && sameForScheduling(load.node, node)) return;
      if (load === undefined) this.#loads.set(name, { node, pods: this.#podsOn(name) });
      else load.node = node;
    }
    this.#unpark();
  }

  #podsOn(node: string): Map<string, Pod> {
    const pods = new Map<string, Pod>();
    for (const pod of this.#pods.values()) if (pod.spec.nodeName === node && occupies(pod)) pods.set(keyOf(pod), pod);
    return pods;
  }

  #podChanged(key: string, before: Pod | undefined, after: Pod | undefined): void {
    const had = before?.spec.nodeName;
    const has = after?.spec.nodeName;
    if (after === undefined || !occupies(after)) {
      if (had !== undefined && this.#loads.get(had)?.pods.delete(key) === true) this.#unpark();
    } else if (has !== undefined) this.#loads.get(has)?.pods.set(key, after);
    if (has !== undefined || after === undefined) this.#release(key, has);
    if (after !== undefined && isOurs(after)) {
      // A status written by ourselves is no reason to try again at once; anything else about the pod is.
      if (before !== undefined && before.metadata.generation === after.metadata.generation && this.#parked.has(key))
        return;
      if (!this.#assumed.has(key)) this.#waiting.add(key);
      this.#wake();
    } else {
      this.#waiting.delete(key);
      this.#parked.delete(key);
    }
  }

  /** The cache caught up with a binding of ours, or the pod is gone. */
  #release(key: string, node: string | undefined): void {
    const assumed = this.#assumed.get(key);
    if (assumed === undefined) return;
    this.#assumed.delete(key);
    if (assumed !== node) this.#loads.get(assumed)?.pods.delete(key);
  }

  #unpark(): void {
    for (const key of this.#parked) this.#waiting.add(key);
    this.#parked.clear();
    this.#wake();
  }

  #wake(): void {
    if (this.#deps.signal.aborted || this.#waiting.size === 0 || this.#binding >= BINDINGS_AT_ONCE) return;
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#scheduleSome();
    });
  }

  #scheduleSome(): void {
    if (this.#deps.signal.aborted || !this.#deps.informers.of("Node").hasSynced || !this.#pods.hasSynced) {
      if (!this.#deps.signal.aborted) setTimeout(() => this.#wake(), 20);
      return;
    }
    const nodes: NodeLoad[] = [...this.#loads.values()];
    for (const key of this.#waiting) {
      if (this.#binding >= BINDINGS_AT_ONCE) return;
      this.#waiting.delete(key);
      const pod = this.#pods.get(key);
      if (pod === undefined || !isOurs(pod)) continue;
      if (worthWaitingFor(pod, nodes, Date.now())) {
        this.#parked.add(key);
        this.#recheck ??= setTimeout(() => {
          this.#recheck = undefined;
          this.#unpark();
        }, RECHECK_MS);
        continue;
      }
      const placement = placePod(pod, nodes, this.#pods.values());
      if (placement.kind === "unschedulable") {
        this.#parked.add(key);
        void this.#reportUnschedulable(pod, placement.message);
        continue;
      }
      this.#assumed.set(key, placement.node);
      this.#loads.get(placement.node)?.pods.set(key, pod);
      void this.#bind(key, pod, placement.node);
    }
  }

  async #bind(key: string, pod: Pod, node: string): Promise<void> {
    const { client, events, log } = this.#deps;
    this.#binding += 1;
    try {
      await client.createSubresource("Pod", pod.metadata, "binding", {
        apiVersion: "v1",
        kind: "Binding",
        metadata: { name: pod.metadata.name, namespace: pod.metadata.namespace, uid: pod.metadata.uid },
        target: { apiVersion: "v1", kind: "Node", name: node },
      });
      const message = `Successfully assigned ${key} to ${node}`;
      events.record("Pod", pod, { type: "Normal", reason: "Scheduled", message });
    } catch (error) {
      this.#release(key, undefined);
      if (!hasCode(error, "NOT_FOUND") && !hasCode(error, "CONFLICT") && !this.#deps.signal.aborted) {
        log.warning("binding.failed", { pod: key, node, error });
        setTimeout(() => {
          this.#waiting.add(key);
          this.#wake();
        }, RETRY_MS);
      }
    } finally {
      this.#binding -= 1;
      this.#wake();
    }
  }

  async #reportUnschedulable(pod: Pod, message: string): Promise<void> {
    const { client, events, informers, log } = this.#deps;
    const known = conditionOf(pod.status?.conditions, "PodScheduled");
    if (known?.status === "False" && known.message === message) return;
    events.record("Pod", pod, { type: "Warning", reason: "FailedScheduling", message });
    const condition = {
      type: "PodScheduled",
      status: "False",
      reason: "Unschedulable",
      message,
      lastProbeTime: null,
      lastTransitionTime: known?.status === "False" ? known.lastTransitionTime : timestamp(Date.now()),
    };
    const others = (pod.status?.conditions ?? []).filter((each) => each.type !== "PodScheduled");
    try {
      const patch = { status: { phase: "Pending", conditions: [...others, condition] } };
      informers.of("Pod").assume(await client.patch("Pod", pod.metadata, patch, "status"));
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND")) log.debug("status.not_written", { pod: keyOf(pod), error });
    }
  }
}

const occupies = (pod: Pod): boolean => !isPodFinished(pod);

function isOurs(pod: Pod): boolean {
  return (
    pod.spec.nodeName === undefined &&
    !isTerminating(pod) &&
    !isPodFinished(pod) &&
    (pod.spec.schedulerName ?? SCHEDULER_NAME) === SCHEDULER_NAME &&
    (pod.spec.schedulingGates ?? []).length === 0
  );
}

/** Heartbeats change a Node every few seconds; only what placement reads is a reason to look at waiting pods again. */
function sameForScheduling(a: Node, b: Node): boolean {
  const facts = (node: Node): string =>
    JSON.stringify([node.metadata.labels, node.spec?.taints, node.spec?.unschedulable, node.metadata.uid]);
  return facts(a) === facts(b);
}
