/** The Node object a kubelet registers and the conditions it keeps. Pure. */
import type { ClusterNode } from "../cluster-port.ts";
import { type Condition, conditionOf, type Labels, type Lease, type Node } from "../kube/objects.ts";
import { microTimestamp, timestamp } from "../kube/timestamp.ts";

/** Of the machine all nodes share. */
export interface Machine {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly kernelVersion: string;
  /** amd64, arm64. */
  readonly architecture: string;
}

export const LEASE_NAMESPACE = "kube-node-lease";
export const LEASE_SECONDS = 40;
export const KUBELET_VERSION = "v1.34.0-calico-sim";
const MAX_PODS = 1000;

export function standardLabels(node: ClusterNode, machine: Machine): Labels {
  return {
    "kubernetes.io/hostname": node.name,
    "kubernetes.io/os": "linux",
    "kubernetes.io/arch": machine.architecture,
    "beta.kubernetes.io/os": "linux",
    "beta.kubernetes.io/arch": machine.architecture,
    ...node.labels,
  };
}

export function newNode(node: ClusterNode, machine: Machine, nowMs: number): Node {
  return {
    metadata: {
      name: node.name,
      labels: standardLabels(node, machine),
      ...(node.annotations === undefined ? {} : { annotations: node.annotations }),
    },
    spec: {
      ...(node.podCIDRs?.[0] === undefined ? {} : { podCIDR: node.podCIDRs[0], podCIDRs: node.podCIDRs }),
      // Nothing may be placed here before the network is ready; node lifecycle takes the taint off.
      taints: [
        ...(node.taints ?? []),
        { key: "node.kubernetes.io/not-ready", effect: "NoSchedule", timeAdded: timestamp(nowMs) },
      ],
    },
  };
}

export function nodeStatus(node: ClusterNode, machine: Machine): NonNullable<Node["status"]> {
  const resources: Labels = {
    cpu: String(machine.cpus),
    memory: `${Math.floor(machine.memoryBytes / 1024)}Ki`,
    "ephemeral-storage": "100Gi",
    pods: String(MAX_PODS),
  };
  const id = node.name;
  return {
    addresses: [
      ...node.addresses.map((address) => ({ type: "InternalIP", address })),
      { type: "Hostname", address: node.name },
    ],
    capacity: resources,
    allocatable: resources,
    nodeInfo: {
      machineID: id,
      systemUUID: id,
      bootID: id,
      kernelVersion: machine.kernelVersion,
      osImage: "calico-sim network namespace",
      containerRuntimeVersion: "calico-sim://0.1.0",
      kubeletVersion: KUBELET_VERSION,
      kubeProxyVersion: "",
      operatingSystem: "linux",
      architecture: machine.architecture,
    },
  };
}

/** Ours first, others' (NetworkUnavailable, for one, is the network's) kept as they are. */
export function nodeConditions(
  before: readonly Condition[] | undefined,
  networkReady: boolean,
  nowMs: number,
): readonly Condition[] {
  const pressure = (type: string, what: string): Omit<Condition, "lastTransitionTime"> => ({
    type,
    status: "False",
    reason: `KubeletHasSufficient${what}`,
    message: `kubelet has sufficient ${what === "Memory" ? "memory" : what === "PID" ? "PID" : "disk space"} available`,
  });
  const ready = networkReady
    ? { type: "Ready", status: "True", reason: "KubeletReady", message: "kubelet is posting ready status" }
    : {
        type: "Ready",
        status: "False",
        reason: "KubeletNotReady",
        message:
          "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized",
      };
  const own = [
    pressure("MemoryPressure", "Memory"),
    pressure("DiskPressure", "Disk"),
    pressure("PIDPressure", "PID"),
    ready,
  ];
  const conditions = own.map((condition) => {
    const known = conditionOf(before, condition.type);
    const kept = known?.status === condition.status ? known.lastTransitionTime : undefined;
    return { ...condition, lastHeartbeatTime: timestamp(nowMs), lastTransitionTime: kept ?? timestamp(nowMs) };
  });
  const names = new Set(own.map((condition) => condition.type));
  return [...conditions, ...(before ?? []).filter((condition) => !names.has(condition.type))];
}

export function leaseOf(node: string, owner: Node | undefined, nowMs: number): Lease {
  return {
    metadata: {
      name: node,
      namespace: LEASE_NAMESPACE,
      ...(owner?.metadata.uid === undefined
        ? {}
        : { ownerReferences: [{ apiVersion: "v1", kind: "Node", name: node, uid: owner.metadata.uid }] }),
    },
    spec: { holderIdentity: node, leaseDurationSeconds: LEASE_SECONDS, renewTime: microTimestamp(nowMs) },
  };
}
