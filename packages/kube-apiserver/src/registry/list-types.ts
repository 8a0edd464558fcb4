/**
 * What the type tables do not say about lists and maps of the built-in kinds: how strategic merge patch and server-side
 * apply merge them. Facts of the Kubernetes API (`x-kubernetes-patch-merge-key`, `x-kubernetes-list-map-keys`, …).
 * A list without an entry is atomic; an object type named in ATOMIC_TYPES is replaced as a whole by server-side apply.
 */

export interface ListFacts {
  /** Server-side apply: items are identified by these fields. */
  readonly mapKeys?: readonly string[];
  /** Server-side apply: a set of scalars. */
  readonly set?: true;
  /** Strategic merge patch: merge items by this field; "" merges scalars. */
  readonly mergeKey?: string;
  /** Strategic merge patch: honours `$retainKeys`. */
  readonly retainKeys?: true;
}

const by = (mergeKey: string, ...mapKeys: readonly string[]): ListFacts => ({
  mergeKey,
  mapKeys: mapKeys.length === 0 ? [mergeKey] : mapKeys,
});

export const LIST_FACTS: { readonly [type: string]: { readonly [field: string]: ListFacts } } = {
  V1ObjectMeta: { ownerReferences: by("uid"), finalizers: { set: true, mergeKey: "" } },
  V1PodSpec: {
    containers: by("name"),
    initContainers: by("name"),
    ephemeralContainers: by("name"),
    volumes: { ...by("name"), retainKeys: true },
    imagePullSecrets: by("name"),
    hostAliases: by("ip"),
    topologySpreadConstraints: by("topologyKey", "topologyKey", "whenUnsatisfiable"),
    schedulingGates: by("name"),
    resourceClaims: { ...by("name"), retainKeys: true },
  },
  V1Container: {
    ports: by("containerPort", "containerPort", "protocol"),
    env: by("name"),
    volumeMounts: by("mountPath"),
    volumeDevices: by("devicePath"),
  },
  V1EphemeralContainer: {
    ports: by("containerPort", "containerPort", "protocol"),
    env: by("name"),
    volumeMounts: by("mountPath"),
    volumeDevices: by("devicePath"),
  },
  V1ResourceRequirements: { claims: { mapKeys: ["name"] } },
  V1PodStatus: {
    conditions: by("type"),
    podIPs: by("ip"),
    hostIPs: { mergeKey: "ip" },
    resourceClaimStatuses: { ...by("name"), retainKeys: true },
  },
  V1NodeSpec: { podCIDRs: { set: true, mergeKey: "" } },
  V1NodeStatus: { conditions: by("type"), addresses: by("type") },
  V1NamespaceStatus: { conditions: by("type") },
  V1ServiceSpec: { ports: by("port", "port", "protocol") },
  V1ServiceStatus: { conditions: by("type") },
  V1ServiceAccount: { secrets: by("name") },
  V1EndpointSlice: {},
  V1Endpoint: { addresses: { set: true } },
  V1DeploymentSpec: { strategy: { retainKeys: true } },
  V1DeploymentStatus: { conditions: by("type") },
  V1ReplicaSetStatus: { conditions: by("type") },
  V1DaemonSetStatus: { conditions: by("type") },
  V1StatefulSetStatus: { conditions: by("type") },
  V1ReplicationControllerStatus: { conditions: by("type") },
  V1JobStatus: { conditions: { mergeKey: "type" } },
  V1PersistentVolumeClaimStatus: { conditions: by("type") },
  V1PodDisruptionBudgetStatus: { conditions: by("type") },
  V2HorizontalPodAutoscalerStatus: { conditions: by("type") },
  V1CertificateSigningRequestStatus: { conditions: by("type") },
  V1CustomResourceDefinitionStatus: { conditions: by("type") },
  V1ValidatingAdmissionPolicyStatus: { conditions: by("type") },
  V1MutatingWebhookConfiguration: { webhooks: by("name") },
  V1ValidatingWebhookConfiguration: { webhooks: by("name") },
  V1MutatingWebhook: { matchConditions: by("name") },
  V1ValidatingWebhook: { matchConditions: by("name") },
  V1ValidatingAdmissionPolicySpec: { matchConditions: by("name"), variables: by("name") },
  V1CSINodeSpec: { drivers: by("name") },
};

export const ATOMIC_TYPES: ReadonlySet<string> = new Set([
  "V1LabelSelector",
  "V1ObjectReference",
  "V1LocalObjectReference",
  "V1SecretKeySelector",
  "V1ConfigMapKeySelector",
  "V1ObjectFieldSelector",
  "V1ResourceFieldSelector",
  "V1NodeSelector",
  "V1NodeSelectorTerm",
  "V1OwnerReference",
  "V1TypedLocalObjectReference",
  "V1SecretReference",
  "V1RoleRef",
  "RbacV1Subject",
  "V1EndpointAddress",
  "CoreV1EndpointPort",
  "DiscoveryV1EndpointPort",
  "V1ScopeSelector",
]);

/** Maps that server-side apply replaces as a whole. */
export const ATOMIC_MAPS: { readonly [type: string]: readonly string[] } = {
  V1ServiceSpec: ["selector"],
  V1ReplicationControllerSpec: ["selector"],
  V1PodSpec: ["nodeSelector"],
};
