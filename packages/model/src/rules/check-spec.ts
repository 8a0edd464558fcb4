/** The rules that no schema expresses, by kind. They see objects whose schema holds, defaults filled in. */
import type { FieldError } from "@calico-ts/schema";
import type { KindMap, KindName } from "../kinds.ts";
import { bgpConfigurationErrors, bgpFilterErrors, bgpPeerErrors } from "./bgp.ts";
import { felixConfigurationErrors } from "./felix.ts";
import { kubernetesPolicyErrors } from "./kubernetes-policy.ts";
import {
  hostEndpointErrors,
  ipPoolErrors,
  ipReservationErrors,
  kubeControllersErrors,
  networkSetErrors,
  nodeStatusErrors,
} from "./others.ts";
import {
  globalPolicyErrors,
  policyErrors,
  profileErrors,
  stagedGlobalPolicyErrors,
  stagedKubernetesPolicyErrors,
  stagedPolicyErrors,
} from "./policies.ts";

const RULES: { readonly [K in KindName]?: (resource: KindMap[K]) => FieldError[] } = {
  BGPConfiguration: bgpConfigurationErrors,
  BGPFilter: bgpFilterErrors,
  BGPPeer: bgpPeerErrors,
  CalicoNodeStatus: nodeStatusErrors,
  FelixConfiguration: felixConfigurationErrors,
  GlobalNetworkPolicy: globalPolicyErrors,
  GlobalNetworkSet: networkSetErrors,
  HostEndpoint: hostEndpointErrors,
  IPPool: ipPoolErrors,
  IPReservation: ipReservationErrors,
  KubeControllersConfiguration: kubeControllersErrors,
  KubernetesNetworkPolicy: kubernetesPolicyErrors,
  NetworkPolicy: policyErrors,
  NetworkSet: networkSetErrors,
  Profile: profileErrors,
  StagedGlobalNetworkPolicy: stagedGlobalPolicyErrors,
  StagedKubernetesNetworkPolicy: stagedKubernetesPolicyErrors,
  StagedNetworkPolicy: stagedPolicyErrors,
};

export const checkSpec = <K extends KindName>(kind: K, resource: KindMap[K]): FieldError[] =>
  RULES[kind]?.(resource) ?? [];
