/**
 * Roles and bindings every cluster starts with. Source: Kubernetes documentation, "Using RBAC Authorization", default
 * roles. The user-facing roles (admin, edit, view) aggregate others by label; what they sum up is worked out by
 * controllers/aggregation.ts.
 */
import type { JsonObject } from "@calico-ts/schema";
import type { KubeObject } from "../meta/object.ts";

const READ = ["get", "list", "watch"];
const WRITE = ["create", "delete", "deletecollection", "patch", "update"];
const ALL = ["*"];

const rule = (apiGroups: readonly string[], resources: readonly string[], verbs: readonly string[]): JsonObject => ({
  apiGroups,
  resources,
  verbs,
});
const urls = (nonResourceURLs: readonly string[]): JsonObject => ({ nonResourceURLs, verbs: ["get"] });

const labels = { "kubernetes.io/bootstrapping": "rbac-defaults" };
const annotations = { "rbac.authorization.kubernetes.io/autoupdate": "true" };
const API = "rbac.authorization.k8s.io/v1";
const TO = "rbac.authorization.k8s.io/aggregate-to-";

function clusterRole(name: string, rules: readonly JsonObject[], aggregateTo?: string): KubeObject {
  const extra = aggregateTo === undefined ? {} : { [`${TO}${aggregateTo}`]: "true" };
  return {
    apiVersion: API,
    kind: "ClusterRole",
    metadata: { name, labels: { ...labels, ...extra }, annotations },
    rules,
  };
}

const aggregated = (name: string, own: Readonly<Record<string, string>> = {}): KubeObject => ({
  apiVersion: API,
  kind: "ClusterRole",
  metadata: { name, labels: { ...labels, ...own }, annotations },
  aggregationRule: { clusterRoleSelectors: [{ matchLabels: { [`${TO}${name}`]: "true" } }] },
  rules: [],
});

const DISCOVERY = [
  "/api",
  "/api/*",
  "/apis",
  "/apis/*",
  "/healthz",
  "/livez",
  "/openapi",
  "/openapi/*",
  "/readyz",
  "/version",
  "/version/",
];

const APP_RESOURCES: readonly (readonly [string, readonly string[]])[] = [
  [
    "",
    [
      "configmaps",
      "endpoints",
      "persistentvolumeclaims",
      "pods",
      "replicationcontrollers",
      "replicationcontrollers/scale",
      "services",
      "events",
      "serviceaccounts",
    ],
  ],
  [
    "apps",
    [
      "daemonsets",
      "deployments",
      "deployments/scale",
      "replicasets",
      "replicasets/scale",
      "statefulsets",
      "statefulsets/scale",
      "controllerrevisions",
    ],
  ],
  ["autoscaling", ["horizontalpodautoscalers"]],
  ["batch", ["cronjobs", "jobs"]],
  ["networking.k8s.io", ["ingresses", "networkpolicies"]],
  ["policy", ["poddisruptionbudgets"]],
  ["discovery.k8s.io", ["endpointslices"]],
  ["coordination.k8s.io", ["leases"]],
];

export function bootstrapRoles(): KubeObject[] {
  const view = APP_RESOURCES.map(([group, resources]) => rule([group], resources, READ));
  const edit = APP_RESOURCES.filter(([group]) => group !== "discovery.k8s.io").map(([group, resources]) =>
    rule(
      [group],
      resources.filter((name) => name !== "endpoints"),
      WRITE,
    ),
  );
  return [
    clusterRole("cluster-admin", [rule(ALL, ALL, ALL), { nonResourceURLs: ALL, verbs: ALL }]),
    clusterRole("system:discovery", [urls(DISCOVERY)]),
    clusterRole("system:public-info-viewer", [urls(["/healthz", "/livez", "/readyz", "/version", "/version/"])]),
    clusterRole("system:monitoring", [
      urls(["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*"]),
    ]),
    clusterRole("system:basic-user", [
      rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
      rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
    ]),
    clusterRole("system:auth-delegator", [
      rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
      rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
    ]),
    clusterRole("system:service-account-issuer-discovery", [
      urls(["/.well-known/openid-configuration", "/openid/v1/jwks"]),
    ]),
    aggregated("admin"),
    aggregated("edit", { [`${TO}admin`]: "true" }),
    aggregated("view", { [`${TO}edit`]: "true" }),
    clusterRole(
      "system:aggregate-to-view",
      [...view, rule([""], ["namespaces", "pods/log", "pods/status", "limitranges", "resourcequotas"], READ)],
      "view",
    ),
    clusterRole(
      "system:aggregate-to-edit",
      [
        ...edit,
        rule([""], ["secrets"], [...READ, ...WRITE]),
        rule(
          [""],
          ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"],
          [...READ, ...WRITE],
        ),
        rule([""], ["pods/eviction"], ["create"]),
        rule([""], ["serviceaccounts"], ["impersonate"]),
        rule([""], ["serviceaccounts/token"], ["create"]),
      ],
      "edit",
    ),
    clusterRole(
      "system:aggregate-to-admin",
      [
        rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
        rule(["rbac.authorization.k8s.io"], ["rolebindings", "roles"], [...READ, ...WRITE]),
      ],
      "admin",
    ),
    ...componentRoles(),
  ];
}

function componentRoles(): KubeObject[] {
  const events = rule(["", "events.k8s.io"], ["events"], ["create", "patch", "update"]);
  return [
    clusterRole("system:node", [
      rule(
        [""],
        [
          "nodes",
          "services",
          "pods",
          "configmaps",
          "secrets",
          "persistentvolumeclaims",
          "persistentvolumes",
          "serviceaccounts",
        ],
        READ,
      ),
      rule([""], ["nodes"], ["create", "patch", "update"]),
      rule([""], ["nodes/status", "pods/status"], ["patch", "update"]),
      rule([""], ["pods"], ["create", "delete"]),
      rule([""], ["pods/eviction", "serviceaccounts/token"], ["create"]),
      rule(["coordination.k8s.io"], ["leases"], [...READ, "create", "delete", "patch", "update"]),
      rule(["storage.k8s.io", "node.k8s.io"], ["csidrivers", "csinodes", "volumeattachments", "runtimeclasses"], READ),
      rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
      rule(["authorization.k8s.io"], ["localsubjectaccessreviews", "subjectaccessreviews"], ["create"]),
      events,
    ]),
    clusterRole("system:node-proxier", [
      rule([""], ["endpoints", "services", "nodes"], READ),
      rule(["discovery.k8s.io"], ["endpointslices"], READ),
      events,
    ]),
    clusterRole("system:kube-scheduler", [
      rule(
        [""],
        [
          "nodes",
          "namespaces",
          "persistentvolumeclaims",
          "persistentvolumes",
          "pods",
          "replicationcontrollers",
          "services",
        ],
        READ,
      ),
      rule([""], ["pods"], ["delete"]),
      rule([""], ["bindings", "pods/binding"], ["create"]),
      rule([""], ["pods/status"], ["patch", "update"]),
      rule(["apps"], ["replicasets", "statefulsets"], READ),
      rule(["policy"], ["poddisruptionbudgets"], READ),
      rule(["storage.k8s.io"], ["csidrivers", "csinodes", "storageclasses"], READ),
      rule(["coordination.k8s.io"], ["leases"], [...READ, "create", "update"]),
      events,
    ]),
    clusterRole("system:kube-controller-manager", [
      rule(ALL, ALL, READ),
      rule([""], ["endpoints", "serviceaccounts", "secrets"], ["create", "delete", "patch", "update"]),
      rule([""], ["serviceaccounts/token"], ["create"]),
      rule(["coordination.k8s.io"], ["leases"], ["create", "update"]),
      events,
    ]),
    clusterRole("system:kube-dns", [rule([""], ["endpoints", "services"], ["list", "watch"])]),
  ];
}

export function bootstrapBindings(): KubeObject[] {
  const binding = (
    role: string,
    subjects: readonly (readonly [kind: "Group" | "User", name: string])[],
  ): KubeObject => ({
    apiVersion: API,
    kind: "ClusterRoleBinding",
    metadata: { name: role, labels, annotations },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: role },
    subjects: subjects.map(([kind, name]) => ({ kind, name, apiGroup: "rbac.authorization.k8s.io" })),
  });
  return [
    binding("cluster-admin", [["Group", "system:masters"]]),
    binding("system:discovery", [["Group", "system:authenticated"]]),
    binding("system:basic-user", [["Group", "system:authenticated"]]),
    binding("system:public-info-viewer", [
      ["Group", "system:authenticated"],
      ["Group", "system:unauthenticated"],
    ]),
    binding("system:monitoring", [["Group", "system:monitoring"]]),
    binding("system:service-account-issuer-discovery", [["Group", "system:serviceaccounts"]]),
    binding("system:node", [["Group", "system:nodes"]]),
    binding("system:node-proxier", [["User", "system:kube-proxy"]]),
    binding("system:kube-scheduler", [["User", "system:kube-scheduler"]]),
    binding("system:kube-controller-manager", [["User", "system:kube-controller-manager"]]),
  ];
}
