/** The singletons about the cluster as a whole, and a node's report about itself. */
import { bool, integer, list, object, opt, set, stringMap, text, word } from "../schema/builders.ts";
import type { CalicoResource, CalicoResourceWithStatus } from "../schema/declare.ts";
import { calicoKind, column } from "../schema/declare.ts";

const clusterInformationSpec = object({
  clusterGUID: opt(text({ description: "Random identity of the cluster." })),
  clusterType: opt(text({ description: "Comma-separated facts about the cluster: k8s, bgp, kdd, typha, …" })),
  calicoVersion: opt(text({ description: "The version that last started." })),
  datastoreReady: opt(bool({ description: "While false every component waits." })),
  variant: opt(text({ description: "The product." })),
});

export type ClusterInformation = CalicoResource<"ClusterInformation", typeof clusterInformationSpec>;

export const clusterInformation = calicoKind({
  kind: "ClusterInformation",
  plural: "clusterinformations",
  shortNames: ["clusterinfo", "clusterinfos"],
  description: "What components know about the cluster. There is one, named default.",
  spec: clusterInformationSpec,
  printerColumns: [
    column("Version", "string", ".spec.calicoVersion", "The version that last started"),
    column("Ready", "boolean", ".spec.datastoreReady", "Whether components may use the datastore"),
    column("Types", "string", ".spec.clusterType", "Facts about the cluster"),
  ],
});

const nodeStatusSpec = object({
  node: opt(text({ description: "The node that reports." })),
  classes: opt(set(word(["Agent", "BGP", "Routes"]), { description: "What it reports." })),
  updatePeriodSeconds: opt(
    integer({ format: "int32", description: "How often, 0 to 86400; 0 turns reports off. Default: 10." }),
  ),
});

const bird = (family: string) =>
  opt(
    object(
      {
        state: opt(word(["Ready", "NotReady"])),
        version: opt(text()),
        routerID: opt(text()),
        lastBootTime: opt(text()),
        lastReconfigurationTime: opt(text()),
      },
      { description: `The BGP daemon for ${family}.` },
    ),
  );

const bgpPeers = (family: string) =>
  opt(
    list(
      object({
        peerIP: opt(text()),
        type: opt(word(["NodeMesh", "NodePeer", "GlobalPeer"])),
        state: opt(word(["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established", "Close"])),
        since: opt(text()),
      }),
      { description: `${family} sessions.` },
    ),
  );

const routes = (family: string) =>
  opt(
    list(
      object({
        type: opt(word(["FIB", "RIB"])),
        destination: opt(text()),
        gateway: opt(text()),
        interface: opt(text()),
        learnedFrom: opt(
          object({
            sourceType: opt(word(["Kernel", "Static", "Direct", "NodeMesh", "BGPPeer"])),
            peerIP: opt(text()),
          }),
        ),
      }),
      { description: `${family} routes.` },
    ),
  );

const nodeStatusStatus = object({
  lastUpdated: opt(text({ format: "date-time", nullable: true })),
  agent: opt(object({ birdV4: bird("IPv4"), birdV6: bird("IPv6") })),
  bgp: opt(
    object({
      numberEstablishedV4: integer(),
      numberNotEstablishedV4: integer(),
      numberEstablishedV6: integer(),
      numberNotEstablishedV6: integer(),
      peersV4: bgpPeers("IPv4"),
      peersV6: bgpPeers("IPv6"),
    }),
  ),
  routes: opt(object({ routesV4: routes("IPv4"), routesV6: routes("IPv6") })),
});

export type CalicoNodeStatus = CalicoResourceWithStatus<
  "CalicoNodeStatus",
  typeof nodeStatusSpec,
  typeof nodeStatusStatus
>;

export const calicoNodeStatus = calicoKind({
  kind: "CalicoNodeStatus",
  plural: "caliconodestatuses",
  description: "Asks a node to report its BGP and routing state, and holds the report.",
  spec: nodeStatusSpec,
  status: nodeStatusStatus,
  printerColumns: [
    column("Node", "string", ".spec.node", "The node that reports"),
    column("Classes", "string", ".spec.classes", "What it reports"),
  ],
});

const SWITCH = ["Enabled", "Disabled"] as const;
const period = (what: string) => opt(text({ description: `${what} Default: 5m.` }));
const reconciled = (what: string) =>
  opt(object({ reconcilerPeriod: period("How often everything is compared.") }, { description: what }));

const hostEndpointTemplate = object({
  generateName: opt(text({ maxLength: 253, description: "Becomes part of the host endpoint's name." })),
  interfaceCIDRs: opt(set(text(), { description: "Interfaces with an address in one of these." })),
  interfacePattern: opt(text({ description: "Interfaces whose name matches this regular expression." })),
  labels: opt(stringMap()),
  annotations: opt(stringMap()),
  nodeSelector: opt(text({ description: "Nodes the template is for." })),
});

/** The running configuration in the status has the same form as the spec. */
const kubeControllersSettings = {
  logSeverityScreen: opt(
    word(["None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic"], { description: "Log level. Default: Info." }),
  ),
  healthChecks: opt(word(SWITCH, { default: "Enabled", description: "Whether health is reported." })),
  prometheusMetricsPort: opt(
    integer({ minimum: 0, maximum: 65_535, description: "TCP port for metrics; 0 turns it off. Default: 9094." }),
  ),
  debugProfilePort: opt(
    integer({ format: "int32", minimum: 0, maximum: 65_535, description: "Port for profiles; off when absent." }),
  ),
  etcdV3CompactionPeriod: opt(text({ description: "How often etcd is compacted; 0 turns it off. Default: 10m." })),
  controllers: object(
    {
      node: opt(
        object({
          reconcilerPeriod: period("How often nodes are compared."),
          syncLabels: opt(word(SWITCH, { description: "Copy Kubernetes node labels (etcd only). Default: Enabled." })),
          leakGracePeriod: opt(
            text({
              description: "How long an address may look leaked before it is freed; 0 turns it off. Default: 15m.",
            }),
          ),
          hostEndpoint: opt(
            object({
              autoCreate: opt(word(SWITCH, { description: "Make a host endpoint for each node. Default: Disabled." })),
              createDefaultHostEndpoint: opt(text({ description: "Make one for all interfaces. Default: Enabled." })),
              templates: opt(list(hostEndpointTemplate, { description: "Further host endpoints to make." })),
            }),
          ),
        }),
      ),
      policy: reconciled("Copies Kubernetes policies to etcd."),
      workloadEndpoint: reconciled("Copies pod labels to etcd."),
      serviceAccount: reconciled("Copies service accounts to etcd."),
      namespace: reconciled("Copies namespaces to etcd."),
      loadBalancer: opt(
        object({
          assignIPs: opt(
            word(["AllServices", "RequestedServicesOnly"], {
              default: "AllServices",
              description: "Which LoadBalancer services get an address.",
            }),
          ),
        }),
      ),
      migration: opt(
        object({
          policyNameMigrator: opt(
            word(["Disabled", "Enabled"], {
              default: "Enabled",
              description: "Renames policies stored with a tier prefix.",
            }),
          ),
        }),
      ),
    },
    { description: "A controller runs when its entry is present." },
  ),
};

const kubeControllersSpec = object(kubeControllersSettings);
const kubeControllersStatus = object({
  runningConfig: opt(object(kubeControllersSettings, { description: "What is in force." })),
  environmentVars: opt(stringMap({ description: "Environment variables that took precedence." })),
});

export type KubeControllersConfiguration = CalicoResourceWithStatus<
  "KubeControllersConfiguration",
  typeof kubeControllersSpec,
  typeof kubeControllersStatus
>;

export const kubeControllersConfiguration = calicoKind({
  kind: "KubeControllersConfiguration",
  plural: "kubecontrollersconfigurations",
  shortNames: ["kcc", "kccs"],
  description: "Settings of kube-controllers. There is one, named default.",
  spec: kubeControllersSpec,
  status: kubeControllersStatus,
});
