/**
 * The run loops around the pure reconcile functions: which change concerns which key, and what world a key sees.
 *
 * Every controller is a work queue over keys of its own kind. Changes of other kinds are mapped to keys through owner references or
 * selectors, with indices, so that a pod event costs the same in a cluster of ten pods and of ten thousand.
 */
import { errorText, hasCode } from "@calico-ts/std";
import type { Logger } from "@calico-ts/runtime";
import { type Action, ActionRunner } from "../kube/actions.ts";
import type { KubeClient } from "../kube/client.ts";
import type { EventRecorder } from "../kube/event-recorder.ts";
import type { Informer, InformerSet } from "../kube/informer.ts";
import { hasLabels, matchesSelector } from "../kube/label-selector.ts";
import { controllerOf, type KubeObject, type Pod, type ReplicaSet, type Service, uidOf } from "../kube/objects.ts";
import type { Kind, KindObjects } from "../kube/resource-types.ts";
import { WorkQueue } from "../kube/work-queue.ts";
import { reconcileDaemonSet } from "./daemon-set.ts";
import { reconcileDeployment } from "./deployment.ts";
import { MANAGED_BY, MANAGER, reconcileService, SERVICE_NAME } from "./endpoint-slice.ts";
import { reconcileJob } from "./job.ts";
import { reconcileNode } from "./node-lifecycle.ts";
import { reconcileReplicaSet, replicaSetStatus } from "./replica-set.ts";
import { reconcileStatefulSet } from "./stateful-set.ts";

export interface ControllerDeps {
  readonly client: KubeClient;
  readonly informers: InformerSet;
  readonly events: EventRecorder;
  readonly log: Logger;
  readonly signal: AbortSignal;
  readonly nodeGraceMs: number;
}

const GATHER_MS = 10;
const BY_OWNER = "owner";
const ORPHANS = "orphans";
const BY_NAMESPACE = "namespace";
const BY_NODE = "node";
const BY_SERVICE = "service";
const ZONE_LABEL = "topology.kubernetes.io/zone";

/** Owner uid for controlled objects. */
const ownerEntry = (object: KubeObject): readonly string[] => {
  const owner = controllerOf(object);
  return owner === undefined ? [] : [owner.uid];
};
/** Namespace for objects nobody controls: candidates for adoption. */
const orphanEntry = (object: KubeObject): readonly string[] =>
  controllerOf(object) === undefined ? [object.metadata.namespace ?? ""] : [];
const namespaceEntry = (object: KubeObject): readonly string[] => [object.metadata.namespace ?? ""];

export class ControllerManager {
  readonly #deps: ControllerDeps;
  readonly #runner: ActionRunner;
  readonly #pods: Informer<Pod>;
  readonly #replicaSets: Informer<ReplicaSet>;
  readonly #services: Informer<Service>;
  /** Why the last creation of pods failed, by ReplicaSet uid. */
  readonly #createErrors = new Map<string, string>();

  constructor(deps: ControllerDeps) {
    this.#deps = deps;
    this.#runner = new ActionRunner(deps);
    this.#pods = deps.informers.of("Pod");
    this.#replicaSets = deps.informers.of("ReplicaSet");
    this.#services = deps.informers.of("Service");
    this.#pods.addIndex(BY_OWNER, ownerEntry);
    this.#pods.addIndex(ORPHANS, orphanEntry);
    this.#pods.addIndex(BY_NAMESPACE, namespaceEntry);
    this.#pods.addIndex(BY_NODE, (pod) => [pod.spec.nodeName ?? ""]);
    this.#replicaSets.addIndex(BY_OWNER, ownerEntry);
    this.#replicaSets.addIndex(ORPHANS, orphanEntry);
    this.#services.addIndex(BY_NAMESPACE, namespaceEntry);
  }

  start(): void {
    this.#runDeployments();
    this.#runReplicaSets();
    this.#runOwner("DaemonSet", (daemonSet, pods) =>
      reconcileDaemonSet({ daemonSet, pods, nodes: [...this.#deps.informers.of("Node").values()], nowMs: Date.now() }),
    );
    this.#runOwner("StatefulSet", (statefulSet, pods) =>
      reconcileStatefulSet({ statefulSet, pods, nowMs: Date.now() }),
    );
    this.#runOwner("Job", (job, pods) => reconcileJob({ job, pods, nowMs: Date.now() }));
    this.#runServices();
    this.#runNodes();
  }

  #queue(name: string, minIntervalMs: number, work: (key: string) => Promise<void>): WorkQueue {
    const { log, signal, informers } = this.#deps;
    return new WorkQueue({ name, workers: 4, gatherMs: GATHER_MS, minIntervalMs, log, signal }, async (key) => {
      // Acting on half a picture would create what is there already.
      await informers.synced();
      await work(key);
    });
  }

  async #perform(queue: WorkQueue, key: string, actions: readonly Action[]): Promise<void> {
    if (actions.length === 0) return;
    const again = await this.#runner.run(actions);
    if (again !== undefined) queue.addAfter(key, Math.max(again, 10));
  }

  #runDeployments(): void {
    const deployments = this.#deps.informers.of("Deployment");
    const queue = this.#queue("deployment", 100, async (key) => {
      const deployment = deployments.get(key);
      if (deployment === undefined) return;
      const { selector } = deployment.spec;
      const replicaSets = this.#replicaSets.byIndex(BY_OWNER, uidOf(deployment));
      const orphans = this.#replicaSets
        .byIndex(ORPHANS, deployment.metadata.namespace ?? "")
        .filter((each) => matchesSelector(selector, each.metadata.labels));
      const withPods = new Set<string>();
      for (const each of replicaSets) {
        if (this.#pods.byIndex(BY_OWNER, uidOf(each)).length > 0) withPods.add(each.metadata.name);
      }
      await this.#perform(
        queue,
        key,
        reconcileDeployment({ deployment, replicaSets, orphans, withPods, nowMs: Date.now() }),
      );
    });
    deployments.onChange(({ key }) => queue.add(key));
    this.#replicaSets.onChange(({ before, after }) => addOwner(queue, "Deployment", before, after));
    // Recreate waits for the last old pod, which no ReplicaSet status tells.
    this.#pods.onChange(({ before, after }) => {
      const owner = after === undefined && before !== undefined ? controllerOf(before) : undefined;
      if (owner?.kind !== "ReplicaSet") return;
      const replicaSet = this.#replicaSets.get(`${before?.metadata.namespace ?? ""}/${owner.name}`);
      if (replicaSet !== undefined) addOwner(queue, "Deployment", undefined, replicaSet);
    });
  }

  #runReplicaSets(): void {
    const queue = this.#queue("replicaset", 100, async (key) => {
      const replicaSet = this.#replicaSets.get(key);
      if (replicaSet === undefined) return;
      const world = () => ({
        replicaSet: this.#replicaSets.get(key) ?? replicaSet,
        pods: this.#pods.byIndex(BY_OWNER, uidOf(replicaSet)),
        orphans: this.#pods
          .byIndex(ORPHANS, replicaSet.metadata.namespace ?? "")
          .filter((pod) => matchesSelector(replicaSet.spec.selector, pod.metadata.labels)),
        nowMs: Date.now(),
      });
      const failure = await this.#managePods(queue, key, replicaSet, reconcileReplicaSet(world()));
      const createError = this.#createErrors.get(uidOf(replicaSet));
      const status = replicaSetStatus({ ...world(), ...(createError === undefined ? {} : { createError }) });
      await this.#perform(queue, key, status);
      if (failure !== undefined) throw failure;
    });
    this.#replicaSets.onChange(({ key }) => queue.add(key));
    this.#pods.onChange(({ before, after }) => {
      addOwner(queue, "ReplicaSet", before, after);
      if (after === undefined || controllerOf(after) !== undefined) return;
      for (const [key, replicaSet] of this.#replicaSetsIn(after.metadata.namespace)) {
        if (matchesSelector(replicaSet.spec.selector, after.metadata.labels)) queue.add(key);
      }
    });
  }

  *#replicaSetsIn(namespace: string | undefined): Generator<readonly [string, ReplicaSet]> {
    for (const each of this.#replicaSets.values()) {
      if (each.metadata.namespace === namespace) yield [`${namespace ?? ""}/${each.metadata.name}`, each];
    }
  }

  /** A refused pod (quota, admission, no service account) is told in an event and in the status, and tried again. */
  async #managePods(
    queue: WorkQueue,
    key: string,
    replicaSet: ReplicaSet,
    actions: readonly Action[],
  ): Promise<unknown> {
    const uid = uidOf(replicaSet);
    try {
      await this.#perform(queue, key, actions);
      this.#createErrors.delete(uid);
      return undefined;
    } catch (error) {
      const refused = hasCode(error, "FORBIDDEN") || hasCode(error, "BAD_INPUT");
      if (refused && this.#createErrors.get(uid) !== errorText(error)) {
        this.#createErrors.set(uid, errorText(error));
        const message = `Error creating: ${errorText(error)}`;
        this.#deps.events.record("ReplicaSet", replicaSet, { type: "Warning", reason: "FailedCreate", message });
      }
      return error;
    }
  }

  /** Kinds that control pods directly and look at nothing but themselves and those (and, for daemons, the nodes). */
  #runOwner<K extends "DaemonSet" | "StatefulSet" | "Job">(
    kind: K,
    reconcile: (object: KindObjects[K], pods: readonly Pod[]) => readonly Action[],
  ): void {
    const owners: Informer<KindObjects[K]> = this.#deps.informers.of(kind);
    const queue = this.#queue(kind.toLowerCase(), 100, async (key) => {
      const object = owners.get(key);
      if (object === undefined) return;
      await this.#perform(queue, key, reconcile(object, this.#pods.byIndex(BY_OWNER, uidOf(object))));
    });
    owners.onChange(({ key }) => queue.add(key));
    this.#pods.onChange(({ before, after }) => addOwner(queue, kind, before, after));
    if (kind !== "DaemonSet") return;
    this.#deps.informers.of("Node").onChange(({ before, after }) => {
      if (before !== undefined && after !== undefined && placementFacts(before) === placementFacts(after)) return;
      for (const key of owners.keys()) queue.add(key);
    });
  }

  #runServices(): void {
    const slices = this.#deps.informers.of("EndpointSlice");
    const endpoints = this.#deps.informers.of("Endpoints");
    const nodes = this.#deps.informers.of("Node");
    slices.addIndex(BY_SERVICE, (slice) => {
      const service = slice.metadata.labels?.[SERVICE_NAME];
      return service === undefined ? [] : [`${slice.metadata.namespace ?? ""}/${service}`];
    });
    // Less often than elsewhere: a rollout touches the same service many times a second, and every node follows each change.
    const queue = this.#queue("endpointslice", 250, async (key) => {
      const service = this.#services.get(key);
      if (service === undefined) return;
      const { selector } = service.spec;
      const candidates =
        selector === undefined ? [] : this.#pods.byIndex(BY_NAMESPACE, service.metadata.namespace ?? "");
      const zones = new Map<string, string>();
      for (const node of nodes.values()) {
        const zone = node.metadata.labels?.[ZONE_LABEL];
        if (zone !== undefined) zones.set(node.metadata.name, zone);
      }
      const actions = reconcileService({
        service,
        pods: candidates.filter((pod) => hasLabels(selector ?? {}, pod.metadata.labels)),
        slices: slices.byIndex(BY_SERVICE, key).filter((slice) => slice.metadata.labels?.[MANAGED_BY] === MANAGER),
        endpoints: endpoints.get(key),
        zones,
      });
      await this.#perform(queue, key, actions);
    });
    this.#services.onChange(({ key }) => queue.add(key));
    slices.onChange(({ before, after }) => {
      const slice = after ?? before;
      const service = slice?.metadata.labels?.[SERVICE_NAME];
      if (service !== undefined) queue.add(`${slice?.metadata.namespace ?? ""}/${service}`);
    });
    this.#pods.onChange(({ before, after }) => this.#podConcernsServices(queue, before, after));
  }

  #podConcernsServices(queue: WorkQueue, before: Pod | undefined, after: Pod | undefined): void {
    const pod = after ?? before;
    if (
      pod === undefined ||
      (before !== undefined && after !== undefined && endpointFacts(before) === endpointFacts(after))
    )
      return;
    for (const service of this.#services.byIndex(BY_NAMESPACE, pod.metadata.namespace ?? "")) {
      const { selector } = service.spec;
      if (selector === undefined) continue;
      const concerned =
        (after !== undefined && hasLabels(selector, after.metadata.labels)) ||
        (before !== undefined && hasLabels(selector, before.metadata.labels));
      if (concerned) queue.add(`${service.metadata.namespace ?? ""}/${service.metadata.name}`);
    }
  }

  #runNodes(): void {
    const nodes = this.#deps.informers.of("Node");
    const leases = this.#deps.informers.of("Lease");
    const queue = this.#queue("node", 0, async (key) => {
      const node = nodes.get(key);
      if (node === undefined) return;
      const actions = reconcileNode({
        node,
        lease: leases.get(`kube-node-lease/${key}`),
        pods: this.#pods.byIndex(BY_NODE, key),
        nowMs: Date.now(),
        graceMs: this.#deps.nodeGraceMs,
      });
      await this.#perform(queue, key, actions);
    });
    nodes.onChange(({ key, before, after }) => {
      if (before !== undefined && after !== undefined && placementFacts(before) === placementFacts(after)) return;
      queue.add(key);
    });
    leases.onChange(({ before, after }) => {
      // A heartbeat moves the appointment by itself; only the first one, and one after a silence, is news.
      const beat = after ?? before;
      if (beat?.metadata.namespace === "kube-node-lease" && isUnknown(nodes.get(beat.metadata.name)))
        queue.add(beat.metadata.name);
    });
  }
}

function addOwner(queue: WorkQueue, kind: Kind, before: KubeObject | undefined, after: KubeObject | undefined): void {
  for (const object of [before, after]) {
    const owner = object === undefined ? undefined : controllerOf(object);
    if (owner?.kind === kind) queue.add(`${object?.metadata.namespace ?? ""}/${owner.name}`);
  }
}

function placementFacts(node: KindObjects["Node"]): string {
  const ready = (node.status?.conditions ?? []).find((condition) => condition.type === "Ready")?.status;
  return JSON.stringify([
    node.metadata.uid,
    node.metadata.labels,
    node.metadata.deletionTimestamp,
    node.spec?.taints,
    node.spec?.unschedulable,
    ready,
  ]);
}

const isUnknown = (node: KindObjects["Node"] | undefined): boolean =>
  (node?.status?.conditions ?? []).some((condition) => condition.type === "Ready" && condition.status === "Unknown");

function endpointFacts(pod: Pod): string {
  const ready = (pod.status?.conditions ?? []).find((condition) => condition.type === "Ready")?.status;
  const { status, metadata, spec } = pod;
  return JSON.stringify([
    metadata.labels,
    metadata.deletionTimestamp,
    spec.nodeName,
    status?.podIPs,
    status?.podIP,
    status?.phase,
    ready,
  ]);
}
