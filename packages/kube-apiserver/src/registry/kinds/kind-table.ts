/**
 * The built-in kinds, one line each: what discovery says about them and which type of the generated table they have.
 *
 * Behaviour (defaults, validation, allocation) stands in the sibling files and is joined in `registry/builtin.ts`.
 */

export interface KindRow {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly namespaced: boolean;
  readonly type: string;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly subresources?: readonly string[];
}

type Extra = Pick<KindRow, "shortNames" | "categories" | "subresources"> & { readonly type?: string };

const namespaced = (groupVersion: string, kind: string, plural: string, extra: Extra = {}): KindRow => ({
  ...row(groupVersion, kind, plural, extra),
  namespaced: true,
});

const clusterWide = (groupVersion: string, kind: string, plural: string, extra: Extra = {}): KindRow => ({
  ...row(groupVersion, kind, plural, extra),
  namespaced: false,
});

function row(groupVersion: string, kind: string, plural: string, extra: Extra): Omit<KindRow, "namespaced"> {
  const slash = groupVersion.indexOf("/");
  const group = slash < 0 ? "" : groupVersion.slice(0, slash);
  const version = slash < 0 ? groupVersion : groupVersion.slice(slash + 1);
  const { type = `V1${kind}`, ...rest } = extra;
  return { group, version, kind, plural, singular: kind.toLowerCase(), type, ...rest };
}

const ALL = ["all"] as const;
const WORKLOAD = ["status", "scale"] as const;

export const KIND_TABLE: readonly KindRow[] = [
  namespaced("v1", "ConfigMap", "configmaps", { shortNames: ["cm"] }),
  { ...namespaced("v1", "Endpoints", "endpoints", { shortNames: ["ep"] }), singular: "endpoints" },
  namespaced("v1", "Event", "events", { shortNames: ["ev"], type: "CoreV1Event" }),
  namespaced("v1", "LimitRange", "limitranges", { shortNames: ["limits"] }),
  clusterWide("v1", "Namespace", "namespaces", { shortNames: ["ns"], subresources: ["status", "finalize"] }),
  clusterWide("v1", "Node", "nodes", { shortNames: ["no"], subresources: ["status"] }),
  clusterWide("v1", "PersistentVolume", "persistentvolumes", { shortNames: ["pv"], subresources: ["status"] }),
  namespaced("v1", "PersistentVolumeClaim", "persistentvolumeclaims", {
    shortNames: ["pvc"],
    subresources: ["status"],
  }),
  namespaced("v1", "Pod", "pods", {
    shortNames: ["po"],
    categories: ALL,
    subresources: ["status", "binding", "eviction", "log", "ephemeralcontainers"],
  }),
  namespaced("v1", "PodTemplate", "podtemplates"),
  namespaced("v1", "ReplicationController", "replicationcontrollers", {
    shortNames: ["rc"],
    categories: ALL,
    subresources: WORKLOAD,
  }),
  namespaced("v1", "ResourceQuota", "resourcequotas", { shortNames: ["quota"], subresources: ["status"] }),
  namespaced("v1", "Secret", "secrets"),
  namespaced("v1", "Service", "services", { shortNames: ["svc"], categories: ALL, subresources: ["status"] }),
  namespaced("v1", "ServiceAccount", "serviceaccounts", { shortNames: ["sa"], subresources: ["token"] }),
  namespaced("apps/v1", "ControllerRevision", "controllerrevisions"),
  namespaced("apps/v1", "DaemonSet", "daemonsets", { shortNames: ["ds"], categories: ALL, subresources: ["status"] }),
  namespaced("apps/v1", "Deployment", "deployments", {
    shortNames: ["deploy"],
    categories: ALL,
    subresources: WORKLOAD,
  }),
  namespaced("apps/v1", "ReplicaSet", "replicasets", { shortNames: ["rs"], categories: ALL, subresources: WORKLOAD }),
  namespaced("apps/v1", "StatefulSet", "statefulsets", {
    shortNames: ["sts"],
    categories: ALL,
    subresources: WORKLOAD,
  }),
  namespaced("batch/v1", "CronJob", "cronjobs", { shortNames: ["cj"], categories: ALL, subresources: ["status"] }),
  namespaced("batch/v1", "Job", "jobs", { categories: ALL, subresources: ["status"] }),
  namespaced("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", {
    shortNames: ["hpa"],
    categories: ALL,
    subresources: ["status"],
    type: "V2HorizontalPodAutoscaler",
  }),
  namespaced("networking.k8s.io/v1", "Ingress", "ingresses", { shortNames: ["ing"], subresources: ["status"] }),
  clusterWide("networking.k8s.io/v1", "IngressClass", "ingressclasses"),
  namespaced("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", { shortNames: ["netpol"] }),
  namespaced("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
  namespaced("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", {
    shortNames: ["pdb"],
    subresources: ["status"],
  }),
  clusterWide("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
  clusterWide("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
  namespaced("rbac.authorization.k8s.io/v1", "Role", "roles"),
  namespaced("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
  namespaced("coordination.k8s.io/v1", "Lease", "leases"),
  clusterWide("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", { shortNames: ["pc"] }),
  clusterWide("node.k8s.io/v1", "RuntimeClass", "runtimeclasses"),
  clusterWide("storage.k8s.io/v1", "StorageClass", "storageclasses", { shortNames: ["sc"] }),
  clusterWide("storage.k8s.io/v1", "CSIDriver", "csidrivers"),
  clusterWide("storage.k8s.io/v1", "CSINode", "csinodes"),
  clusterWide("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", { subresources: ["status"] }),
  clusterWide("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests", {
    shortNames: ["csr"],
    subresources: ["status", "approval"],
  }),
  namespaced("events.k8s.io/v1", "Event", "events", { shortNames: ["ev"], type: "EventsV1Event" }),
  clusterWide("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", {
    shortNames: ["crd", "crds"],
    categories: ["api-extensions"],
    subresources: ["status"],
  }),
  clusterWide("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", {
    categories: ["api-extensions"],
  }),
  clusterWide("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", {
    categories: ["api-extensions"],
  }),
  clusterWide("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", {
    categories: ["api-extensions"],
    subresources: ["status"],
  }),
  clusterWide(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    {
      categories: ["api-extensions"],
    },
  ),
];

/** Kinds that are asked and answered but never stored. */
export const REVIEW_TABLE: readonly KindRow[] = [
  clusterWide("authentication.k8s.io/v1", "TokenReview", "tokenreviews"),
  clusterWide("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews"),
  namespaced("authorization.k8s.io/v1", "LocalSubjectAccessReview", "localsubjectaccessreviews"),
  clusterWide("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
  clusterWide("authorization.k8s.io/v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
  clusterWide("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews"),
  namespaced("v1", "Binding", "bindings"),
];

/** Where the generator of the type table starts. */
export const ROOT_TYPES: readonly string[] = [
  ...KIND_TABLE.map((kind) => kind.type),
  ...REVIEW_TABLE.map((kind) => kind.type),
  "V1Scale",
  "V1Eviction",
  "AuthenticationV1TokenRequest",
  "V1DeleteOptions",
];
