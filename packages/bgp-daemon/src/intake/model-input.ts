/** From the cache of resources to what `configFromModel` takes. */
import type { Pod, WorkloadEndpoint } from "@calico-ts/model";
import {
  calicoNodeFromKubernetes,
  isFinished,
  profileFromNamespace,
  profileFromServiceAccount,
  workloadEndpointFromPod,
} from "@calico-ts/model";
import type { ModelInput } from "../config/model-input.ts";
import type { ResourceCache } from "./resource-cache.ts";

/** What comes from the process's environment. */
export type LocalFacts = Pick<ModelInput, "nodeName" | "routerId" | "advertiseClusterIps" | "kubernetesNodeName">;

export const modelInput = (
  cache: ResourceCache,
  local: LocalFacts,
  rest: Pick<ModelInput, "secret" | "previous">,
): ModelInput => ({
  ...local,
  ...rest,
  nodes: cache.list("Node").map(calicoNodeFromKubernetes),
  configurations: cache.list("BGPConfiguration"),
  peers: cache.list("BGPPeer"),
  filters: cache.list("BGPFilter"),
  pools: cache.list("IPPool"),
  affinities: cache.list("BlockAffinity"),
  endpoints: cache.list("Pod").flatMap((pod) => (isFinished(pod) ? [] : (endpointOf(pod, cache) ?? []))),
  services: cache.list("Service"),
  slices: cache.list("EndpointSlice"),
});

/** With the labels that it inherits from its namespace and service account; its own come before these. */
function endpointOf(pod: Pod, cache: ResourceCache): WorkloadEndpoint | undefined {
  const endpoint = workloadEndpointFromPod(pod);
  if (endpoint === undefined) return undefined;
  const { namespace = "" } = pod.metadata;
  const space = cache.get("Namespace", namespace);
  const account = cache.get("ServiceAccount", pod.spec.serviceAccountName ?? "", namespace);
  const labels = {
    ...(account && profileFromServiceAccount(account).spec.labelsToApply),
    ...(space && profileFromNamespace(space).spec.labelsToApply),
    ...endpoint.labels,
  };
  return { ...endpoint, labels };
}
