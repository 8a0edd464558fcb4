/** The kinds these parts read and write, and where the API serves them. One table for paths, informers and actions. */
import type {
  ConfigMap,
  ControllerRevision,
  DaemonSet,
  Deployment,
  Endpoints,
  EndpointSlice,
  Job,
  KubeObject,
  Lease,
  Node,
  Pod,
  ReplicaSet,
  Secret,
  Service,
  ServiceAccount,
  StatefulSet,
} from "./objects.ts";

export interface KindObjects {
  readonly Pod: Pod;
  readonly Node: Node;
  readonly Service: Service;
  readonly Endpoints: Endpoints;
  readonly ConfigMap: ConfigMap;
  readonly Secret: Secret;
  readonly ServiceAccount: ServiceAccount;
  readonly Event: KubeObject;
  readonly Deployment: Deployment;
  readonly ReplicaSet: ReplicaSet;
  readonly DaemonSet: DaemonSet;
  readonly StatefulSet: StatefulSet;
  readonly ControllerRevision: ControllerRevision;
  readonly Job: Job;
  readonly EndpointSlice: EndpointSlice;
  readonly Lease: Lease;
}

export type Kind = keyof KindObjects;

export interface ResourceType {
  /** `v1`, `apps/v1`. */
  readonly apiVersion: string;
  readonly plural: string;
  readonly namespaced: boolean;
}

const core = (plural: string, namespaced = true): ResourceType => ({ apiVersion: "v1", plural, namespaced });
const apps = (plural: string): ResourceType => ({ apiVersion: "apps/v1", plural, namespaced: true });

export const resourceTypes: { readonly [K in Kind]: ResourceType } = {
  Pod: core("pods"),
  Node: core("nodes", false),
  Service: core("services"),
  Endpoints: core("endpoints"),
  ConfigMap: core("configmaps"),
  Secret: core("secrets"),
  ServiceAccount: core("serviceaccounts"),
  Event: core("events"),
  Deployment: apps("deployments"),
  ReplicaSet: apps("replicasets"),
  DaemonSet: apps("daemonsets"),
  StatefulSet: apps("statefulsets"),
  ControllerRevision: apps("controllerrevisions"),
  Job: { apiVersion: "batch/v1", plural: "jobs", namespaced: true },
  EndpointSlice: { apiVersion: "discovery.k8s.io/v1", plural: "endpointslices", namespaced: true },
  Lease: { apiVersion: "coordination.k8s.io/v1", plural: "leases", namespaced: true },
};

/** `/api/v1/namespaces/shop/pods/cart`; without a name the collection, without a namespace that of all namespaces. */
export function resourcePath(type: ResourceType, namespace?: string, name?: string, subresource?: string): string {
  const root = type.apiVersion.includes("/") ? `/apis/${type.apiVersion}` : `/api/${type.apiVersion}`;
  const scope = type.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  const object = name === undefined ? "" : `/${encodeURIComponent(name)}`;
  return `${root}${scope}/${type.plural}${object}${subresource === undefined ? "" : `/${subresource}`}`;
}
