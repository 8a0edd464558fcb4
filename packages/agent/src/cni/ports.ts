/** What the CNI service needs of the rest of the agent. Small on purpose: tests implement each with a few lines. */
import type { IpAddress } from "@calico-ts/net";
import type { PodLinkSpec } from "./pod-link.ts";
import type { CniRequest, Json, PodName } from "./request.ts";

/** The pod at the moment of ADD. */
export interface PodRecord {
  readonly uid: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly namespaceAnnotations: Readonly<Record<string, string>>;
  readonly namespaceLabels: Readonly<Record<string, string>>;
  /** The virtual machine it runs. */
  readonly machine?: Machine | undefined;
}

/** A KubeVirt virtual machine, or an instance that belongs to none. */
export interface Machine {
  readonly name: string;
  readonly instanceUid: string;
  readonly machineUid: string | undefined;
  /** Of the migration whose target the pod is. */
  readonly migrationUid: string | undefined;
}

export interface PodRecords {
  /**
   * `uid`: of the pod the runtime means, where it says so. @throws CalicoError NOT_FOUND when the pod is gone, UNAVAILABLE when the API server does
   * not answer
   */
  get(pod: PodName, uid: string | undefined): Promise<PodRecord>;
  /**
   * Writes `cni.projectcalico.org/podIP`, `podIPs` and `containerID`; only to the pod of that uid. @throws CalicoError CONFLICT when the pod does not
   * ask any more for what `read` says
   */
  record(
    pod: PodName,
    read: PodRecord,
    endpoint: { readonly containerId: string; readonly addresses: readonly IpAddress[] },
  ): Promise<void>;
  /** The node's own pod CIDRs, for `host-local` with `usePodCidr`. */
  nodePodCidrs(): Promise<readonly string[]>;
  /** Empties `podIP` and `podIPs`, when the pod is still there and still has this container. */
  forget(pod: PodName, containerId: string): Promise<void>;
}

export interface AssignRequest {
  readonly handle: string;
  readonly pod: PodName | undefined;
  readonly namespaceLabels: Readonly<Record<string, string>>;
  readonly want4: boolean;
  readonly want6: boolean;
  /** Names or CIDRs; empty: any pool that selects this node and namespace. */
  readonly pools4: readonly string[];
  readonly pools6: readonly string[];
  readonly signal: AbortSignal;
}

export interface AddressManager {
  readonly machines: MachineAddresses;
  /** One address per wanted family, or an error and none. */
  assign(request: AssignRequest): Promise<readonly IpAddress[]>;
  /** Exactly these addresses, or an error and none. */
  assignExactly(
    request: Pick<AssignRequest, "handle" | "pod"> & { readonly addresses: readonly IpAddress[] },
  ): Promise<void>;
  /** Absence is fine. */
  release(handle: string): Promise<void>;
  addressesOf(handle: string): Promise<readonly IpAddress[]>;
  /** Handles of the network on this node: `<network>.<container id>`. */
  handles(prefix: string): Promise<readonly string[]>;
}

export interface MachineRequest extends Omit<AssignRequest, "handle" | "pod"> {
  readonly network: string;
  readonly pod: PodName;
  readonly containerId: string;
  readonly machine: Machine;
  /** Exactly these, while the machine has none. */
  readonly exact: readonly IpAddress[];
}

export interface MachineLease {
  readonly addresses: readonly IpAddress[];
  /** False when this container was noted as an owner before. */
  readonly noted: boolean;
  /** The machine is still elsewhere: nothing may be routed to this pod yet. */
  readonly awaited: AwaitedMachine | undefined;
}

/** A machine that is about to move into a pod. */
export interface AwaitedMachine {
  readonly pod: PodName;
  readonly machine: string;
  readonly handle: string;
}

/** Addresses of virtual machines, which outlive their pods. */
export interface MachineAddresses {
  /**
   * What the machine has, or new addresses; notes the pod as their owner. undefined: machines do not keep addresses here, and this pod is one like any other.
   * @throws CalicoError as assigning does; BAD_INPUT for a migration's target where addresses are not kept
   */
  assign(request: MachineRequest): Promise<MachineLease | undefined>;
  /** The work of ending a pod of a machine, to be repeated until it succeeds; nothing for a pod that owns nothing. Releases only when the machine goes too. */
  end(pod: PodName, containerId: string): () => Promise<void>;
  /** What a machine's pod owns. */
  of(pod: PodName): Promise<readonly IpAddress[]>;
  /** Containers of this node that own an address of a machine, from this network. */
  containers(network: string): Promise<readonly { readonly pod: PodName; readonly containerId: string }[]>;
  /** Resolves true when the machine runs on this node, and the pod is the active owner; false when the pod is no migration's target any more. */
  arrived(awaited: AwaitedMachine, signal: AbortSignal): Promise<boolean>;
  /** Machines that were about to move into pods of this node when an earlier agent ended. */
  awaited(): Promise<readonly AwaitedMachine[]>;
}

/** Pods' interfaces on this node. What is there is found in the kernel, not remembered. */
export interface PodLinks {
  /** Returns the pod side's MAC. On failure nothing is left. @throws CniFailure */
  create(spec: PodLinkSpec): string;
  /** False when there was none, or it belonged to another container. `remove` lets others work while the kernel lets go of it. */
  delete(hostInterface: string, containerId: string, netns?: string): boolean;
  remove(hostInterface: string, containerId: string, netns?: string): Promise<boolean>;
  /** What is not as `create` left it. */
  check(spec: PodLinkSpec): readonly string[];
  list(): readonly { readonly hostInterface: string; readonly containerId: string }[];
  /** The pod's end of the pair, when the host's end is there and belongs to this container. */
  podEnd(hostInterface: string, containerId: string, netns: string): PodEnd | undefined;
}

export interface PodEnd {
  readonly name: string;
  readonly mac: string;
}

/** Plugins of others, in CNI_PATH: IPAM that is not ours. */
export interface Plugins {
  /** The plugin's result, undefined where it printed none. @throws CniFailure what the plugin said */
  run(call: PluginCall): Promise<unknown>;
}

export interface PluginCall {
  readonly type: string;
  readonly request: CniRequest;
  readonly config: Json;
  readonly signal: AbortSignal;
}

/** The compiler's and dataplane's side: policy before packets. */
export interface EndpointGate {
  /** Why this node cannot take pods now, or undefined when it can. */
  notReady(): string | undefined;
  /** Resolves when it can. @throws CalicoError TIMEOUT, CANCELLED, with what it waits for */
  ready(signal: AbortSignal): Promise<void>;
  /** Makes the pod's endpoint known at once, without waiting for the API server to echo its annotation. */
  announce(endpoint: AnnouncedEndpoint): void;
  /** Resolves when the endpoint's policy and routes are in the kernel. @throws CalicoError TIMEOUT, CANCELLED */
  programmed(pod: PodName, signal: AbortSignal): Promise<void>;
  /** The endpoint of this container is over. */
  withdraw(pod: PodName, containerId: string): void;
  /** No route leads to the interface until this is disposed: the target of a migration. */
  withholdRoutes(hostInterface: string): Disposable;
  /** An interface that ADD is making: drift repair leaves it alone until this is disposed. */
  reserve(hostInterface: string): Disposable;
}

export interface AnnouncedEndpoint {
  readonly pod: PodName;
  readonly uid: string;
  readonly containerId: string;
  readonly hostInterface: string;
  readonly addresses: readonly IpAddress[];
}
