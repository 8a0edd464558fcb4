/** The cluster as prober, status command and log reader see it: read from the watch caches, joined with what the kubelets know. */
import type { ClusterNode, NodeView, PodPort, PodView, Progress, ServiceView } from "./cluster-port.ts";
import { hasLabels } from "./kube/label-selector.ts";
import type { Informer, InformerSet } from "./kube/informer.ts";
import {
  conditionOf,
  controllerOf,
  isPodFinished,
  isPodReady,
  isTerminating,
  type KubeObject,
  keyOf,
  type Pod,
} from "./kube/objects.ts";
import type { KubeletPool } from "./kubelet/kubelet-pool.ts";
import type { PodWorker } from "./kubelet/pod-worker.ts";
import type { KubeProxy } from "./proxy/kube-proxy.ts";
import { SERVICE_NAME } from "./controllers/endpoint-slice.ts";

export interface ClusterViewDeps {
  readonly informers: InformerSet;
  readonly kubelets: KubeletPool;
  readonly nodes: ReadonlyMap<string, ClusterNode>;
  /** By node; none when somebody else balances Services. */
  readonly proxies: ReadonlyMap<string, KubeProxy>;
}

/** Names shown of what is missing; the rest is counted. */
const MAX_WAITING = 20;

export class ClusterView {
  readonly #deps: ClusterViewDeps;
  readonly #pods: Informer<Pod>;

  constructor(deps: ClusterViewDeps) {
    this.#deps = deps;
    this.#pods = deps.informers.of("Pod");
  }

  pods(): readonly PodView[] {
    return [...this.#pods.values()].map((pod) => this.#podView(pod)).toSorted(byName);
  }

  findPod(namespace: string, name: string): PodView | undefined {
    const pod = this.#pods.get(`${namespace}/${name}`);
    if (pod !== undefined) return this.#podView(pod);
    let best: PodView | undefined;
    for (const each of this.#pods.values()) {
      if (each.metadata.namespace !== namespace) continue;
      const view = this.#podView(each);
      if (!view.owners.some((owner) => owner.name === name)) continue;
      if (best === undefined || rank(view) > rank(best) || (rank(view) === rank(best) && view.name < best.name))
        best = view;
    }
    return best;
  }

  worker(namespace: string, name: string): PodWorker | undefined {
    const pod = this.#pods.get(`${namespace}/${name}`);
    return pod === undefined ? undefined : this.#deps.kubelets.workerOf(pod);
  }

  pod(namespace: string, name: string): Pod | undefined {
    return this.#pods.get(`${namespace}/${name}`);
  }

  services(): readonly ServiceView[] {
    return [...this.#deps.informers.of("Service").values()]
      .map(({ metadata, spec }) => ({
        namespace: metadata.namespace ?? "",
        name: metadata.name,
        clusterIPs: (spec.clusterIPs ?? [spec.clusterIP ?? ""]).filter((ip) => ip !== "" && ip !== "None"),
        ports: (spec.ports ?? []).map(({ name, port, nodePort, protocol = "TCP" }) => ({
          port,
          protocol,
          ...(name === undefined ? {} : { name }),
          ...(nodePort === undefined ? {} : { nodePort }),
        })),
      }))
      .toSorted(byName);
  }

  nodes(): readonly NodeView[] {
    return [...this.#deps.nodes.values()].map((node) => {
      const kubelet = this.#deps.kubelets.get(node.name);
      const programs = [...(kubelet?.workers() ?? [])].flatMap((worker) =>
        worker.processes().map((found) => ({
          namespace: worker.pod.metadata.namespace ?? "",
          pod: worker.pod.metadata.name,
          ...found,
        })),
      );
      const ready = this.#isReady(node.name);
      return { name: node.name, netns: node.netns, running: kubelet !== undefined, ready, programs };
    });
  }

  #isReady(node: string): boolean {
    const object = this.#deps.informers.of("Node").get(node);
    return conditionOf(object?.status?.conditions, "Ready")?.status === "True";
  }

  progress(): Progress {
    const nodes = [...this.#deps.nodes.keys()].map((name) => ({
      name,
      ready: this.#isReady(name),
      running: this.#deps.kubelets.get(name) !== undefined,
    }));
    const waiting: string[] = nodes
      .filter((node) => node.running && !node.ready)
      .map((node) => `node ${node.name}: not ready`);
    const pods = [...this.#pods.values()].filter((pod) => !isPodFinished(pod) && !isTerminating(pod));
    const notReady = pods.filter((pod) => !isPodReady(pod));
    waiting.push(...notReady.slice(0, MAX_WAITING).map((pod) => `pod ${keyOf(pod)}: ${this.#whyNotReady(pod)}`));
    waiting.push(...this.#incompleteWorkloads());
    const unsynced = (["Node", "Pod", "Deployment", "DaemonSet", "StatefulSet"] as const).some(
      (kind) => !this.#deps.informers.of(kind).hasSynced,
    );
    if (unsynced) waiting.unshift("the API server: first lists not complete");
    if (waiting.length === 0) waiting.push(...this.#unreachableServices());
    return {
      nodes: nodes.length,
      nodesReady: nodes.filter((node) => node.ready).length,
      pods: pods.length,
      podsReady: pods.length - notReady.length,
      waitingFor: waiting,
    };
  }

  /** Workloads whose controller has not caught up, which their pods alone do not tell. */
  #incompleteWorkloads(): readonly string[] {
    const { informers } = this.#deps;
    const missing: string[] = [];
    const stale = (object: KubeObject, observed: number | undefined): boolean =>
      (observed ?? 0) < (object.metadata.generation ?? 0);
    for (const each of informers.of("Deployment").values()) {
      const wanted = each.spec.replicas ?? 1;
      const { observedGeneration, updatedReplicas = 0, availableReplicas = 0 } = each.status ?? {};
      if (
        each.spec.paused !== true &&
        (stale(each, observedGeneration) || updatedReplicas < wanted || availableReplicas < wanted)
      ) {
        missing.push(`deployment ${keyOf(each)}: ${availableReplicas}/${wanted} available`);
      }
    }
    for (const each of informers.of("DaemonSet").values()) {
      const { observedGeneration, desiredNumberScheduled = 0, numberReady = 0 } = each.status ?? {};
      if (stale(each, observedGeneration) || numberReady < desiredNumberScheduled) {
        missing.push(`daemonset ${keyOf(each)}: ${numberReady}/${desiredNumberScheduled} ready`);
      }
    }
    for (const each of informers.of("StatefulSet").values()) {
      const wanted = each.spec.replicas ?? 1;
      const { observedGeneration, readyReplicas = 0 } = each.status ?? {};
      if (stale(each, observedGeneration) || readyReplicas < wanted)
        missing.push(`statefulset ${keyOf(each)}: ${readyReplicas}/${wanted} ready`);
    }
    return missing;
  }

  /** A pod is ready before its Services know: its address goes through an EndpointSlice into the rules of every node. */
  #unreachableServices(): readonly string[] {
    const { informers, proxies } = this.#deps;
    if (proxies.size === 0) return [];
    const listed = new Map<string, Set<string>>();
    for (const { metadata, endpoints } of informers.of("EndpointSlice").values()) {
      const service = `${metadata.namespace ?? ""}/${metadata.labels?.[SERVICE_NAME] ?? ""}`;
      const addresses = listed.get(service) ?? new Set();
      for (const each of endpoints ?? []) for (const address of each.addresses) addresses.add(address);
      listed.set(service, addresses);
    }
    const ready = [...this.#pods.values()].filter((pod) => isPodReady(pod) && !isTerminating(pod));
    const missing: string[] = [];
    for (const service of informers.of("Service").values()) {
      const { selector, type } = service.spec;
      if (selector === undefined || type === "ExternalName") continue;
      const absent = ready.filter(
        ({ metadata, status }) =>
          metadata.namespace === service.metadata.namespace &&
          hasLabels(selector, metadata.labels) &&
          (status?.podIPs ?? []).length > 0 &&
          !(status?.podIPs ?? []).some(({ ip }) => listed.get(keyOf(service))?.has(ip) ?? false),
      );
      if (absent.length > 0)
        missing.push(`service ${keyOf(service)}: ${absent.length} ready pods not in its endpoints`);
    }
    for (const [node, proxy] of proxies) {
      if (!proxy.settled) missing.push(`node ${node}: Services not programmed yet`);
    }
    return missing;
  }

  #whyNotReady(pod: Pod): string {
    const scheduled = conditionOf(pod.status?.conditions, "PodScheduled");
    if (pod.spec.nodeName === undefined) return scheduled?.message ?? "waits for a node";
    const worker = this.#deps.kubelets.workerOf(pod);
    if (worker?.trouble !== undefined) return `FailedCreatePodSandBox: ${worker.trouble}`;
    for (const { name, state, ready } of [
      ...(pod.status?.initContainerStatuses ?? []),
      ...(pod.status?.containerStatuses ?? []),
    ]) {
      const reason = state?.waiting?.reason;
      if (reason !== undefined && reason !== "ContainerCreating" && reason !== "PodInitializing") {
        return `container ${name}: ${reason}${state?.waiting?.message === undefined ? "" : `: ${state.waiting.message}`}`;
      }
      if (state?.running !== undefined && !ready) return `container ${name}: running, not ready`;
    }
    return pod.status?.phase === undefined || pod.status.phase === "Pending" ? "being created" : "not ready";
  }

  #podView(pod: Pod): PodView {
    const worker = this.#deps.kubelets.workerOf(pod);
    const status = pod.status ?? {};
    const ips = (status.podIPs ?? []).map((each) => each.ip);
    return {
      namespace: pod.metadata.namespace ?? "",
      name: pod.metadata.name,
      uid: pod.metadata.uid ?? "",
      labels: pod.metadata.labels ?? {},
      node: pod.spec.nodeName,
      netns: worker?.netns,
      hostNetwork: pod.spec.hostNetwork === true,
      ips: ips.length > 0 ? ips : (worker?.podIPs ?? []),
      phase: status.phase ?? "Pending",
      ready: isPodReady(pod),
      terminating: isTerminating(pod),
      ports: pod.spec.containers.flatMap((container) =>
        (container.ports ?? []).map(
          ({ name, containerPort, protocol = "TCP" }): PodPort => ({
            container: container.name,
            ...(name === undefined ? {} : { name }),
            port: containerPort,
            protocol,
          }),
        ),
      ),
      owners: this.#ownersOf(pod),
      stub: worker?.isStub() ?? true,
    };
  }

  #ownersOf(pod: Pod): readonly { readonly kind: string; readonly name: string }[] {
    const owners: { readonly kind: string; readonly name: string }[] = [];
    const owner = controllerOf(pod);
    if (owner === undefined) return owners;
    owners.push({ kind: owner.kind, name: owner.name });
    if (owner.kind !== "ReplicaSet") return owners;
    const replicaSet = this.#deps.informers.of("ReplicaSet").get(`${pod.metadata.namespace ?? ""}/${owner.name}`);
    const above = replicaSet === undefined ? undefined : controllerOf(replicaSet);
    if (above !== undefined) owners.push({ kind: above.kind, name: above.name });
    return owners;
  }
}

const rank = (view: PodView): number =>
  (view.terminating ? 0 : 2) + (view.ready ? 4 : 0) + (view.netns === undefined ? 0 : 1);

function byName(
  a: { readonly namespace: string; readonly name: string },
  b: { readonly namespace: string; readonly name: string },
): number {
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}
