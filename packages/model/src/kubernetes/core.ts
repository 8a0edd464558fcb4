/** The core Kubernetes kinds we read. Fields we do not read are kept and not checked: that is the API server's task. */
import { Type } from "typebox";
import type { TypeOf } from "../schema/builders.ts";
import {
  anything,
  bool,
  integer,
  intOrString,
  mapOf,
  object,
  OPEN,
  opt,
  plainList,
  stringMap,
  text,
} from "../schema/builders.ts";
import type { StoredObject } from "../schema/declare.ts";
import { column, kubernetesKind } from "../schema/declare.ts";

const containerPort = object(
  {
    name: opt(text()),
    containerPort: integer({ minimum: 1, maximum: 65_535 }),
    hostPort: opt(integer({ minimum: 0, maximum: 65_535 })),
    hostIP: opt(text()),
    protocol: opt(text()),
  },
  OPEN,
);

const container = object(
  {
    name: text(),
    image: opt(text()),
    command: opt(plainList(text())),
    args: opt(plainList(text())),
    ports: opt(plainList(containerPort)),
    env: opt(plainList(object({ name: text(), value: opt(text()), valueFrom: opt(anything()) }, OPEN))),
  },
  OPEN,
);

const podSpec = object(
  {
    nodeName: opt(text()),
    hostNetwork: opt(bool()),
    serviceAccountName: opt(text()),
    containers: plainList(container),
    initContainers: opt(plainList(container)),
    nodeSelector: opt(stringMap()),
    readinessGates: opt(plainList(object({ conditionType: text() }))),
    terminationGracePeriodSeconds: opt(integer()),
  },
  OPEN,
);

const podCondition = object(
  { type: text(), status: text(), reason: opt(text()), message: opt(text()), lastTransitionTime: opt(anything()) },
  OPEN,
);

const podStatus = object(
  {
    phase: opt(text()),
    podIP: opt(text()),
    podIPs: opt(plainList(object({ ip: opt(text()) }, OPEN))),
    hostIP: opt(text()),
    conditions: opt(plainList(podCondition)),
    startTime: opt(anything()),
  },
  OPEN,
);

export type Pod = StoredObject<"v1", "Pod"> & {
  readonly spec: TypeOf<typeof podSpec>;
  readonly status?: TypeOf<typeof podStatus>;
};
export type Container = TypeOf<typeof container>;

export const pod = kubernetesKind({
  kind: "Pod",
  group: "",
  version: "v1",
  plural: "pods",
  shortNames: ["po"],
  namespaced: true,
  hasStatus: true,
  description: "Containers that share a network namespace.",
  fields: { spec: podSpec, status: podStatus },
  required: ["spec"],
  selectableFields: [".spec.nodeName", ".status.phase", ".status.podIP", ".spec.serviceAccountName"],
  printerColumns: [column("Status", "string", ".status.phase"), column("Node", "string", ".spec.nodeName")],
});

const nodeSpec = object(
  {
    podCIDR: opt(text()),
    podCIDRs: opt(plainList(text())),
    providerID: opt(text()),
    unschedulable: opt(bool()),
    taints: opt(plainList(object({ key: text(), value: opt(text()), effect: text() }, OPEN))),
  },
  OPEN,
);

const nodeStatus = object(
  {
    addresses: opt(plainList(object({ type: text(), address: text() }, OPEN))),
    conditions: opt(plainList(podCondition)),
    capacity: opt(mapOf(Type.Unsafe<string | number>({ "x-kubernetes-int-or-string": true }))),
    allocatable: opt(mapOf(Type.Unsafe<string | number>({ "x-kubernetes-int-or-string": true }))),
  },
  OPEN,
);

export type Node = StoredObject<"v1", "Node"> & {
  readonly spec?: TypeOf<typeof nodeSpec>;
  readonly status?: TypeOf<typeof nodeStatus>;
};

export const node = kubernetesKind({
  kind: "Node",
  group: "",
  version: "v1",
  plural: "nodes",
  shortNames: ["no"],
  hasStatus: true,
  description: "A machine of the cluster.",
  fields: { spec: nodeSpec, status: nodeStatus },
});

const namespaceSpec = object({ finalizers: opt(plainList(text())) }, OPEN);
const namespaceStatus = object({ phase: opt(text()) }, OPEN);

export type Namespace = StoredObject<"v1", "Namespace"> & {
  readonly spec?: TypeOf<typeof namespaceSpec>;
  readonly status?: TypeOf<typeof namespaceStatus>;
};

export const namespace = kubernetesKind({
  kind: "Namespace",
  group: "",
  version: "v1",
  plural: "namespaces",
  shortNames: ["ns"],
  hasStatus: true,
  description: "A scope for names.",
  fields: { spec: namespaceSpec, status: namespaceStatus },
});

export type ServiceAccount = StoredObject<"v1", "ServiceAccount"> & {
  readonly automountServiceAccountToken?: boolean;
};

export const serviceAccount = kubernetesKind({
  kind: "ServiceAccount",
  group: "",
  version: "v1",
  plural: "serviceaccounts",
  shortNames: ["sa"],
  namespaced: true,
  description: "An identity for pods.",
  fields: { automountServiceAccountToken: bool() },
});

const servicePort = object(
  {
    name: opt(text()),
    protocol: opt(text()),
    appProtocol: opt(text()),
    port: integer({ minimum: 1, maximum: 65_535 }),
    targetPort: opt(intOrString()),
    nodePort: opt(integer({ minimum: 0, maximum: 65_535 })),
  },
  OPEN,
);

const serviceSpec = object(
  {
    type: opt(text()),
    selector: opt(stringMap()),
    ports: opt(plainList(servicePort)),
    clusterIP: opt(text()),
    clusterIPs: opt(plainList(text())),
    externalIPs: opt(plainList(text())),
    externalName: opt(text()),
    externalTrafficPolicy: opt(text()),
    internalTrafficPolicy: opt(text()),
    ipFamilies: opt(plainList(text())),
    ipFamilyPolicy: opt(text()),
    loadBalancerClass: opt(text()),
    loadBalancerIP: opt(text()),
    loadBalancerSourceRanges: opt(plainList(text())),
    sessionAffinity: opt(text()),
    healthCheckNodePort: opt(integer()),
    publishNotReadyAddresses: opt(bool()),
  },
  OPEN,
);

const serviceStatus = object(
  {
    loadBalancer: opt(
      object({ ingress: opt(plainList(object({ ip: opt(text()), hostname: opt(text()) }, OPEN))) }, OPEN),
    ),
  },
  OPEN,
);

export type Service = StoredObject<"v1", "Service"> & {
  readonly spec?: TypeOf<typeof serviceSpec>;
  readonly status?: TypeOf<typeof serviceStatus>;
};

export const service = kubernetesKind({
  kind: "Service",
  group: "",
  version: "v1",
  plural: "services",
  shortNames: ["svc"],
  namespaced: true,
  hasStatus: true,
  description: "An address in front of pods.",
  fields: { spec: serviceSpec, status: serviceStatus },
});

const endpoint = object(
  {
    addresses: plainList(text()),
    conditions: opt(object({ ready: opt(bool()), serving: opt(bool()), terminating: opt(bool()) }, OPEN)),
    hostname: opt(text()),
    nodeName: opt(text()),
    zone: opt(text()),
    targetRef: opt(object({ kind: opt(text()), namespace: opt(text()), name: opt(text()), uid: opt(text()) }, OPEN)),
  },
  OPEN,
);

const endpointSlicePort = object(
  { name: opt(text()), protocol: opt(text()), port: opt(integer()), appProtocol: opt(text()) },
  OPEN,
);

const addressType = text();
const endpoints = plainList(endpoint);
const endpointPorts = plainList(endpointSlicePort);

export type EndpointSlice = StoredObject<"discovery.k8s.io/v1", "EndpointSlice"> & {
  readonly addressType: string;
  /** Kubernetes writes null where there are none. */
  readonly endpoints: TypeOf<typeof endpoints> | null;
  readonly ports?: TypeOf<typeof endpointPorts> | null;
};

export const endpointSlice = kubernetesKind({
  kind: "EndpointSlice",
  group: "discovery.k8s.io",
  version: "v1",
  plural: "endpointslices",
  namespaced: true,
  description: "Some of the backends of a Service.",
  fields: { addressType, endpoints, ports: endpointPorts },
  required: ["addressType", "endpoints"],
});

export type Secret = StoredObject<"v1", "Secret"> & {
  readonly type?: string;
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>;
  readonly stringData?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
};

export const secret = kubernetesKind({
  kind: "Secret",
  group: "",
  version: "v1",
  plural: "secrets",
  namespaced: true,
  description: "Values to keep from view.",
  fields: { type: text(), data: stringMap(), stringData: stringMap(), immutable: bool() },
});

export type ConfigMap = StoredObject<"v1", "ConfigMap"> & {
  readonly data?: Readonly<Record<string, string>>;
  /** Base64. */
  readonly binaryData?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
};

export const configMap = kubernetesKind({
  kind: "ConfigMap",
  group: "",
  version: "v1",
  plural: "configmaps",
  shortNames: ["cm"],
  namespaced: true,
  description: "Values.",
  fields: { data: stringMap(), binaryData: stringMap(), immutable: bool() },
});
