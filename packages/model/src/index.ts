export { parseAsNumber } from "./convert/as-number.ts";
export { policyFromCalico, policyTypes } from "./convert/calico-policy.ts";
export type { ClusterPolicyOutcome } from "./convert/cluster-policy.ts";
export { policyFromClusterPolicy } from "./convert/cluster-policy.ts";
export { durationSeconds } from "./convert/duration.ts";
export {
  KUBERNETES_POLICY_ORDER,
  policyFromKubernetes,
  policyFromStagedKubernetes,
} from "./convert/kubernetes-policy.ts";
export { namespaceSelectorText, ORCHESTRATOR_LABEL, podSelectorText } from "./convert/label-selector.ts";
export {
  AFFINITY_TYPE_LABEL,
  affinityLabels,
  affinityName,
  affinitySelector,
  type AffinityType,
  blockName,
  cleanHandle,
  handleName,
  hostnameHash,
  hostOwner,
  type Owner,
  ownerText,
  parseOwner,
} from "./convert/ipam-names.ts";
export type { CalicoNode, NodeAddress, NodeInterface, NodeNetwork, NodeNetworkChange } from "./convert/node.ts";
export { calicoNodeFromKubernetes, nodeAnnotationKey, nodeAnnotations, nodeNetwork } from "./convert/node.ts";
export type { ConvertedPolicy, Direction, PolicyKind, PolicyRule, PolicySpec } from "./convert/policy-spec.ts";
export {
  DEFAULT_ALLOW_PROFILE,
  defaultAllowProfile,
  NAMESPACE_PROFILE_PREFIX,
  namespaceProfileName,
  profileFromNamespace,
  profileFromServiceAccount,
  SERVICE_ACCOUNT_PROFILE_PREFIX,
  serviceAccountProfileName,
} from "./convert/profile.ts";
export type { DirectionLimits, QosControls, QosOutcome } from "./convert/qos.ts";
export { DSCP_ANNOTATION, dscpProblem, parseDscp, qosControls } from "./convert/qos.ts";
export type { EndpointPort, FloatingAddress, WorkloadEndpoint } from "./convert/workload-endpoint.ts";
export {
  ALLOWED_SOURCE_PREFIXES_ANNOTATION,
  annotationProblems,
  CONTAINER_ID_ANNOTATION,
  FLOATING_IPS_ANNOTATION,
  hasWorkloadEndpoint,
  hostInterfaceName,
  isFinished,
  POD_INTERFACE,
  POD_IP_ANNOTATION,
  POD_IPS_ANNOTATION,
  podAddresses,
  workloadEndpointFromPod,
} from "./convert/workload-endpoint.ts";
export type { WorkloadEndpointNameParts } from "./convert/workload-endpoint-name.ts";
export { parseWorkloadEndpointName, workloadEndpointName } from "./convert/workload-endpoint-name.ts";
export type { CustomResourceDefinition } from "./crd.ts";
export { crdKinds, crdManifest } from "./crd.ts";
export type { KindMap, KindName, Resource } from "./kinds.ts";
export { isKindName, kindNameOf, kindNames, kinds } from "./kinds.ts";
export type {
  ClusterNetworkPolicy,
  ClusterPolicyEgressRule,
  ClusterPolicyIngressRule,
  ClusterPolicyPeer,
  ClusterPolicyProtocol,
  ClusterPolicySubject,
} from "./kubernetes/cluster-network-policy.ts";
export type {
  ConfigMap,
  Container,
  EndpointSlice,
  Namespace,
  Node,
  Pod,
  Secret,
  Service,
  ServiceAccount,
} from "./kubernetes/core.ts";
export {
  KUBEVIRT_API_VERSION,
  MIGRATION_LABEL,
  type VirtualMachine,
  type VirtualMachineInstance,
} from "./kubernetes/kubevirt.ts";
export type {
  KubernetesNetworkPolicy,
  KubernetesPolicyPeer,
  KubernetesPolicyPort,
  StagedKubernetesNetworkPolicy,
} from "./kubernetes/network-policy.ts";
export { kindsReference } from "./reference-page.ts";
export type { Prepared, PrepareOptions } from "./prepare.ts";
export { prepare } from "./prepare.ts";
export type { BGPConfiguration, BGPFilter, BGPFilterRule, BGPPeer } from "./resources/bgp.ts";
export { MAX_ROUTE_PRIORITY } from "./resources/bgp.ts";
export type { CalicoNodeStatus, ClusterInformation, KubeControllersConfiguration } from "./resources/cluster.ts";
export type { GlobalNetworkSet, HostEndpoint, NetworkSet } from "./resources/endpoints.ts";
export type {
  FelixConfiguration,
  FelixConfigurationSpec,
} from "./resources/felix-configuration/felix-configuration.ts";
export type { IPPool, IPPoolSpec } from "./resources/ip-pool.ts";
export type { BlockAffinity, IPAMBlock, IPAMConfiguration, IPAMHandle, IPReservation } from "./resources/ipam.ts";
export type {
  BuiltInTier,
  GlobalNetworkPolicy,
  NetworkPolicy,
  Profile,
  StagedGlobalNetworkPolicy,
  StagedNetworkPolicy,
  Tier,
} from "./resources/policies.ts";
export { BUILT_IN_TIERS } from "./resources/policies.ts";
export type { Action, EntityRule, Rule } from "./resources/policy-rules.ts";
export type { KindInfo, PrinterColumn, Storage } from "./schema/declare.ts";
export { CALICO_API_VERSION, CALICO_GROUP } from "./schema/declare.ts";
export type { Condition, LabelSelector, ObjectMeta, OwnerReference } from "./schema/meta.ts";
