/**
 * START HERE. Every kind the product knows, once. A kind's file in `resources/` or `kubernetes/` holds its schema; from it
 * come the TypeScript type, defaults and validation (`prepare.ts`), the CRD (`crd.ts`) and the reference page. `convert/`
 * turns Kubernetes objects into Calico's terms.
 */
import { clusterNetworkPolicy } from "./kubernetes/cluster-network-policy.ts";
import type { ClusterNetworkPolicy } from "./kubernetes/cluster-network-policy.ts";
import type {
  ConfigMap,
  EndpointSlice,
  Namespace,
  Node,
  Pod,
  Secret,
  Service,
  ServiceAccount,
} from "./kubernetes/core.ts";
import { configMap, endpointSlice, namespace, node, pod, secret, service, serviceAccount } from "./kubernetes/core.ts";
import type { VirtualMachine, VirtualMachineInstance } from "./kubernetes/kubevirt.ts";
import { virtualMachine, virtualMachineInstance } from "./kubernetes/kubevirt.ts";
import type { KubernetesNetworkPolicy, StagedKubernetesNetworkPolicy } from "./kubernetes/network-policy.ts";
import { kubernetesNetworkPolicy, stagedKubernetesNetworkPolicy } from "./kubernetes/network-policy.ts";
import type { BGPConfiguration, BGPFilter, BGPPeer } from "./resources/bgp.ts";
import { bgpConfiguration, bgpFilter, bgpPeer } from "./resources/bgp.ts";
import type { CalicoNodeStatus, ClusterInformation, KubeControllersConfiguration } from "./resources/cluster.ts";
import { calicoNodeStatus, clusterInformation, kubeControllersConfiguration } from "./resources/cluster.ts";
import type { GlobalNetworkSet, HostEndpoint, NetworkSet } from "./resources/endpoints.ts";
import { globalNetworkSet, hostEndpoint, networkSet } from "./resources/endpoints.ts";
import type { FelixConfiguration } from "./resources/felix-configuration/felix-configuration.ts";
import { felixConfiguration } from "./resources/felix-configuration/felix-configuration.ts";
import type { IPPool } from "./resources/ip-pool.ts";
import { ipPool } from "./resources/ip-pool.ts";
import type { BlockAffinity, IPAMBlock, IPAMConfiguration, IPAMHandle, IPReservation } from "./resources/ipam.ts";
import { blockAffinity, ipamBlock, ipamConfiguration, ipamHandle, ipReservation } from "./resources/ipam.ts";
import type {
  GlobalNetworkPolicy,
  NetworkPolicy,
  Profile,
  StagedGlobalNetworkPolicy,
  StagedNetworkPolicy,
  Tier,
} from "./resources/policies.ts";
import {
  globalNetworkPolicy,
  networkPolicy,
  profile,
  stagedGlobalNetworkPolicy,
  stagedNetworkPolicy,
  tier,
} from "./resources/policies.ts";
import type { KindInfo } from "./schema/declare.ts";

/** What is stored under each kind. Calico's and Kubernetes' NetworkPolicy share a name and so have different keys here. */
export interface KindMap {
  // projectcalico.org/v3
  readonly BGPConfiguration: BGPConfiguration;
  readonly BGPFilter: BGPFilter;
  readonly BGPPeer: BGPPeer;
  readonly BlockAffinity: BlockAffinity;
  readonly CalicoNodeStatus: CalicoNodeStatus;
  readonly ClusterInformation: ClusterInformation;
  readonly FelixConfiguration: FelixConfiguration;
  readonly GlobalNetworkPolicy: GlobalNetworkPolicy;
  readonly GlobalNetworkSet: GlobalNetworkSet;
  readonly HostEndpoint: HostEndpoint;
  readonly IPAMBlock: IPAMBlock;
  readonly IPAMConfiguration: IPAMConfiguration;
  readonly IPAMHandle: IPAMHandle;
  readonly IPPool: IPPool;
  readonly IPReservation: IPReservation;
  readonly KubeControllersConfiguration: KubeControllersConfiguration;
  readonly NetworkPolicy: NetworkPolicy;
  readonly NetworkSet: NetworkSet;
  readonly Profile: Profile;
  readonly StagedGlobalNetworkPolicy: StagedGlobalNetworkPolicy;
  readonly StagedKubernetesNetworkPolicy: StagedKubernetesNetworkPolicy;
  readonly StagedNetworkPolicy: StagedNetworkPolicy;
  readonly Tier: Tier;
  // Kubernetes
  readonly ClusterNetworkPolicy: ClusterNetworkPolicy;
  readonly ConfigMap: ConfigMap;
  readonly EndpointSlice: EndpointSlice;
  readonly KubernetesNetworkPolicy: KubernetesNetworkPolicy;
  readonly Namespace: Namespace;
  readonly Node: Node;
  readonly Pod: Pod;
  readonly Secret: Secret;
  readonly Service: Service;
  readonly ServiceAccount: ServiceAccount;
  // KubeVirt, where it is installed
  readonly VirtualMachine: VirtualMachine;
  readonly VirtualMachineInstance: VirtualMachineInstance;
}

export type KindName = keyof KindMap;
export type Resource<K extends KindName = KindName> = KindMap[K];

export const kinds: { readonly [K in KindName]: KindInfo } = {
  BGPConfiguration: bgpConfiguration,
  BGPFilter: bgpFilter,
  BGPPeer: bgpPeer,
  BlockAffinity: blockAffinity,
  CalicoNodeStatus: calicoNodeStatus,
  ClusterInformation: clusterInformation,
  FelixConfiguration: felixConfiguration,
  GlobalNetworkPolicy: globalNetworkPolicy,
  GlobalNetworkSet: globalNetworkSet,
  HostEndpoint: hostEndpoint,
  IPAMBlock: ipamBlock,
  IPAMConfiguration: ipamConfiguration,
  IPAMHandle: ipamHandle,
  IPPool: ipPool,
  IPReservation: ipReservation,
  KubeControllersConfiguration: kubeControllersConfiguration,
  NetworkPolicy: networkPolicy,
  NetworkSet: networkSet,
  Profile: profile,
  StagedGlobalNetworkPolicy: stagedGlobalNetworkPolicy,
  StagedKubernetesNetworkPolicy: stagedKubernetesNetworkPolicy,
  StagedNetworkPolicy: stagedNetworkPolicy,
  Tier: tier,
  ClusterNetworkPolicy: clusterNetworkPolicy,
  ConfigMap: configMap,
  EndpointSlice: endpointSlice,
  KubernetesNetworkPolicy: kubernetesNetworkPolicy,
  Namespace: namespace,
  Node: node,
  Pod: pod,
  Secret: secret,
  Service: service,
  ServiceAccount: serviceAccount,
  VirtualMachine: virtualMachine,
  VirtualMachineInstance: virtualMachineInstance,
};

export const kindNames: readonly KindName[] = Object.keys(kinds).filter(isKindName);

export function isKindName(text: string): text is KindName {
  return Object.hasOwn(kinds, text);
}

/** The key of a stored object's kind; undefined for one we do not know. */
export function kindNameOf(object: { readonly apiVersion: string; readonly kind: string }): KindName | undefined {
  return BY_API.get(`${object.apiVersion}/${object.kind}`);
}

const BY_API: ReadonlyMap<string, KindName> = new Map(
  kindNames.map((name) => [`${kinds[name].apiVersion}/${kinds[name].kind}`, name]),
);
