/** From the cache of resources to what `configFromModel` takes. */
import { calicoNodeFromKubernetes, isFinished, workloadEndpointFromPod } from "@calico-ts/model";
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
  endpoints: cache.list("Pod").flatMap((pod) => (isFinished(pod) ? [] : (workloadEndpointFromPod(pod) ?? []))),
  services: cache.list("Service"),
  slices: cache.list("EndpointSlice"),
});
