/**
 * The installation manifests as values: what `kubectl apply -f calico.yaml` creates. `npm run generate` writes them; the CRDs come from the
 * datastore model. Names, labels and environment follow upstream's manifests (inventory §9.3), so that an operator's overlays apply.
 */

type KubernetesObject = Readonly<Record<string, unknown>> & { readonly kind: string };

export interface ManifestVariant {
  readonly file: string;
  readonly about: string;
  readonly backend: "bird" | "vxlan" | "none";
  readonly ipip: "Never" | "Always" | "CrossSubnet";
  readonly vxlan: "Never" | "Always" | "CrossSubnet";
}

export const variants: readonly ManifestVariant[] = [
  {
    file: "calico.yaml",
    about: "Kubernetes datastore, IPIP between nodes",
    backend: "bird",
    ipip: "Always",
    vxlan: "Never",
  },
  {
    file: "calico-vxlan.yaml",
    about: "Kubernetes datastore, VXLAN between nodes",
    backend: "vxlan",
    ipip: "Never",
    vxlan: "Always",
  },
];

const NAMESPACE = "kube-system";
const VERSION = "v0.1.0";
const calicoGroup = "projectcalico.org";

/** Everything of a variant but the CRDs, in the order to apply it. */
export function installation(variant: ManifestVariant): KubernetesObject[] {
  return [
    serviceAccount("calico-node"),
    configMap(variant),
    clusterRole("calico-node", nodeRules),
    clusterRoleBinding("calico-node"),
    daemonSet(variant),
    serviceAccount("calico-kube-controllers"),
    clusterRole("calico-kube-controllers", controllersRules),
    clusterRoleBinding("calico-kube-controllers"),
    deployment(),
  ];
}

function serviceAccount(name: string): KubernetesObject {
  return { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: NAMESPACE } };
}

function configMap(variant: ManifestVariant): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "calico-config", namespace: NAMESPACE },
    data: {
      typha_service_name: "none",
      calico_backend: variant.backend,
      veth_mtu: "0",
      cni_network_config: `${JSON.stringify(
        {
          name: "k8s-pod-network",
          cniVersion: "1.0.0",
          plugins: [
            {
              type: "calico",
              agent_socket: "__AGENT_SOCKET__",
              log_level: "info",
              datastore_type: "kubernetes",
              nodename: "__KUBERNETES_NODE_NAME__",
              mtu: "__CNI_MTU__",
              ipam: { type: "calico-ipam" },
              policy: { type: "k8s" },
            },
          ],
        },
        null,
        2,
      ).replace('"__CNI_MTU__"', "__CNI_MTU__")}\n`,
    },
  };
}

interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

const read = ["get", "list", "watch"];
const write = ["create", "update", "patch", "delete"];

/** What calico-node may do: exactly what its programs call, no more. */
const nodeRules: readonly PolicyRule[] = [
  { apiGroups: [""], resources: ["pods", "nodes", "namespaces", "serviceaccounts", "services"], verbs: read },
  { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: read },
  { apiGroups: ["networking.k8s.io"], resources: ["networkpolicies"], verbs: read },
  { apiGroups: ["policy.networking.k8s.io"], resources: ["clusternetworkpolicies"], verbs: read },
  { apiGroups: [""], resources: ["pods/status", "nodes/status"], verbs: ["patch"] },
  { apiGroups: [""], resources: ["configmaps"], verbs: ["get"] },
  {
    apiGroups: [calicoGroup],
    resources: [
      "bgpconfigurations",
      "bgpfilters",
      "bgppeers",
      "blockaffinities",
      "caliconodestatuses",
      "clusterinformations",
      "felixconfigurations",
      "globalnetworkpolicies",
      "globalnetworksets",
      "hostendpoints",
      "ipamblocks",
      "ipamconfigurations",
      "ipamhandles",
      "ippools",
      "ipreservations",
      "networkpolicies",
      "networksets",
      "stagedglobalnetworkpolicies",
      "stagedkubernetesnetworkpolicies",
      "stagednetworkpolicies",
      "tiers",
    ],
    verbs: read,
  },
  {
    apiGroups: [calicoGroup],
    resources: [
      "bgpconfigurations",
      "clusterinformations",
      "felixconfigurations",
      "ipamconfigurations",
      "ippools",
      "tiers",
    ],
    verbs: ["create", "update"],
  },
  { apiGroups: [calicoGroup], resources: ["blockaffinities", "ipamblocks", "ipamhandles"], verbs: write },
  { apiGroups: [calicoGroup], resources: ["caliconodestatuses/status"], verbs: ["update"] },
  { apiGroups: ["kubevirt.io"], resources: ["virtualmachines", "virtualmachineinstances"], verbs: ["get", "list"] },
];

/** What kube-controllers may do. */
const controllersRules: readonly PolicyRule[] = [
  { apiGroups: [""], resources: ["nodes", "pods", "namespaces", "services"], verbs: read },
  { apiGroups: [""], resources: ["services/status"], verbs: ["patch"] },
  { apiGroups: ["kubevirt.io"], resources: ["virtualmachines", "virtualmachineinstances"], verbs: ["list"] },
  {
    apiGroups: [calicoGroup],
    resources: ["clusterinformations", "ipamconfigurations", "ippools", "ipreservations"],
    verbs: read,
  },
  { apiGroups: [calicoGroup], resources: ["blockaffinities", "ipamblocks", "ipamhandles"], verbs: [...read, ...write] },
  { apiGroups: [calicoGroup], resources: ["kubecontrollersconfigurations"], verbs: [...read, "create", "update"] },
  { apiGroups: [calicoGroup], resources: ["kubecontrollersconfigurations/status"], verbs: ["update"] },
];

function clusterRole(name: string, rules: readonly PolicyRule[]): KubernetesObject {
  return { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRole", metadata: { name }, rules };
}

function clusterRoleBinding(name: string): KubernetesObject {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
    subjects: [{ kind: "ServiceAccount", name, namespace: NAMESPACE }],
  };
}

const env = (name: string, value: string): object => ({ name, value });
const fromConfig = (name: string, key: string): object => ({
  name,
  valueFrom: { configMapKeyRef: { name: "calico-config", key } },
});
const fromField = (name: string, fieldPath: string): object => ({ name, valueFrom: { fieldRef: { fieldPath } } });
const hostPath = (name: string, path: string, type?: string): object => ({
  name,
  hostPath: { path, ...(type !== undefined && { type }) },
});

function daemonSet(variant: ManifestVariant): KubernetesObject {
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "calico-node", namespace: NAMESPACE, labels: { "k8s-app": "calico-node" } },
    spec: {
      selector: { matchLabels: { "k8s-app": "calico-node" } },
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
      template: {
        metadata: { labels: { "k8s-app": "calico-node" } },
        spec: {
          nodeSelector: { "kubernetes.io/os": "linux" },
          hostNetwork: true,
          tolerations: [
            { effect: "NoSchedule", operator: "Exists" },
            { key: "CriticalAddonsOnly", operator: "Exists" },
            { effect: "NoExecute", operator: "Exists" },
          ],
          serviceAccountName: "calico-node",
          terminationGracePeriodSeconds: 0,
          priorityClassName: "system-node-critical",
          initContainers: [installCni()],
          containers: [calicoNode(variant)],
          volumes: [
            hostPath("var-run-calico", "/var/run/calico", "DirectoryOrCreate"),
            hostPath("var-lib-calico", "/var/lib/calico", "DirectoryOrCreate"),
            hostPath("netns", "/var/run/netns", "DirectoryOrCreate"),
            hostPath("cni-bin-dir", "/opt/cni/bin", "DirectoryOrCreate"),
            hostPath("cni-net-dir", "/etc/cni/net.d", "DirectoryOrCreate"),
          ],
        },
      },
    },
  };
}

/** One, and a new one only when the old one is gone. On the host's network: what collects addresses must not need one to start. */
function deployment(): KubernetesObject {
  const probe = (flag: string): object => ({
    exec: { command: ["check-status", flag] },
    periodSeconds: 10,
    timeoutSeconds: 10,
  });
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: "calico-kube-controllers",
      namespace: NAMESPACE,
      labels: { "k8s-app": "calico-kube-controllers" },
    },
    spec: {
      replicas: 1,
      selector: { matchLabels: { "k8s-app": "calico-kube-controllers" } },
      strategy: { type: "Recreate" },
      template: {
        metadata: { labels: { "k8s-app": "calico-kube-controllers" } },
        spec: {
          nodeSelector: { "kubernetes.io/os": "linux" },
          hostNetwork: true,
          tolerations: [
            { key: "CriticalAddonsOnly", operator: "Exists" },
            { key: "node-role.kubernetes.io/master", effect: "NoSchedule" },
            { key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule" },
          ],
          serviceAccountName: "calico-kube-controllers",
          priorityClassName: "system-cluster-critical",
          containers: [
            {
              name: "calico-kube-controllers",
              image: `calico-ts/kube-controllers:${VERSION}`,
              imagePullPolicy: "IfNotPresent",
              command: ["calico-kube-controllers"],
              env: [env("ENABLED_CONTROLLERS", "node,loadbalancer"), env("DATASTORE_TYPE", "kubernetes")],
              livenessProbe: { ...probe("-l"), initialDelaySeconds: 10, failureThreshold: 6 },
              readinessProbe: probe("-r"),
              volumeMounts: [{ name: "status", mountPath: "/status" }],
            },
          ],
          volumes: [{ name: "status", emptyDir: {} }],
        },
      },
    },
  };
}

function installCni(): object {
  return {
    name: "install-cni",
    image: `calico-ts/cni:${VERSION}`,
    imagePullPolicy: "IfNotPresent",
    command: ["install-cni"],
    env: [
      env("CNI_CONF_NAME", "10-calico.conflist"),
      fromConfig("CNI_NETWORK_CONFIG", "cni_network_config"),
      fromField("KUBERNETES_NODE_NAME", "spec.nodeName"),
      fromConfig("CNI_MTU", "veth_mtu"),
    ],
    securityContext: { privileged: true },
    volumeMounts: [
      { name: "cni-bin-dir", mountPath: "/host/opt/cni/bin" },
      { name: "cni-net-dir", mountPath: "/host/etc/cni/net.d" },
    ],
  };
}

function calicoNode(variant: ManifestVariant): object {
  const bgp = variant.backend === "bird";
  return {
    name: "calico-node",
    image: `calico-ts/node:${VERSION}`,
    imagePullPolicy: "IfNotPresent",
    command: ["calico-node"],
    env: [
      env("DATASTORE_TYPE", "kubernetes"),
      env("WAIT_FOR_DATASTORE", "true"),
      fromField("NODENAME", "spec.nodeName"),
      ...(bgp ? [fromField("NAMESPACE", "metadata.namespace")] : []),
      fromConfig("CALICO_NETWORKING_BACKEND", "calico_backend"),
      env("CLUSTER_TYPE", variant.backend === "bird" ? "k8s,bgp" : "k8s"),
      env("IP", "autodetect"),
      env("CALICO_IPV4POOL_IPIP", variant.ipip),
      env("CALICO_IPV4POOL_VXLAN", variant.vxlan),
      env("CALICO_IPV6POOL_VXLAN", "Never"),
      fromConfig("FELIX_IPINIPMTU", "veth_mtu"),
      fromConfig("FELIX_VXLANMTU", "veth_mtu"),
      env("CALICO_DISABLE_FILE_LOGGING", "true"),
      env("FELIX_DEFAULTENDPOINTTOHOSTACTION", "ACCEPT"),
      env("FELIX_IPV6SUPPORT", "false"),
      env("FELIX_HEALTHENABLED", "true"),
    ],
    securityContext: { privileged: true },
    resources: { requests: { cpu: "250m" } },
    lifecycle: { preStop: { exec: { command: ["calico-node", "shutdown"] } } },
    livenessProbe: {
      exec: { command: ["calico-node", "health", "--felix-live", ...(bgp ? ["--bird-live"] : [])] },
      periodSeconds: 10,
      initialDelaySeconds: 10,
      failureThreshold: 6,
      timeoutSeconds: 10,
    },
    readinessProbe: {
      exec: { command: ["calico-node", "health", "--felix-ready", ...(bgp ? ["--bird-ready"] : [])] },
      periodSeconds: 10,
      timeoutSeconds: 10,
    },
    volumeMounts: [
      { name: "var-run-calico", mountPath: "/var/run/calico" },
      { name: "var-lib-calico", mountPath: "/var/lib/calico" },
      { name: "netns", mountPath: "/var/run/netns", mountPropagation: "HostToContainer" },
    ],
  };
}
