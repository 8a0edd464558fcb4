/** Environment variables of calico-node (inventory §9.2): names and defaults are upstream's. */
import type { Environment, LogLevel, Setting, SettingValues } from "@calico-ts/runtime";
import { durationMs, flag, integer, logLevel, oneOf, readSettings, setting, text } from "@calico-ts/runtime";

type Text = Setting<string>;
const optionalText = (env: string, help: string): Text => setting(env, { parse: text, default: "", help });
export type PoolMode = "Never" | "Always" | "CrossSubnet";
const mode = oneOf("Never", "Always", "CrossSubnet");

export const nodeSettings = {
  nodename: optionalText("NODENAME", "Name of this node; default: the host name in lower case."),
  nodenameFile: setting("CALICO_NODENAME_FILE", {
    parse: text,
    default: "/var/lib/calico/nodename",
    help: "Where the node's name is written for the CNI plugin.",
  }),
  hostRoot: setting("CALICO_HOST_ROOT", { parse: text, default: "/", help: "Folder that host paths are under." }),
  logLevel: setting<LogLevel>("CALICO_STARTUP_LOGLEVEL", {
    parse: logLevel,
    default: "Info",
    help: "Log level of start-up.",
  }),
  waitForDatastore: setting("WAIT_FOR_DATASTORE", {
    parse: flag,
    default: true,
    help: "Wait for the datastore instead of failing when it is not there.",
  }),
  kubeconfig: optionalText("KUBECONFIG", "Kubeconfig file; default: the service account of the pod."),
  backend: setting<"bird" | "vxlan" | "none">("CALICO_NETWORKING_BACKEND", {
    parse: oneOf("bird", "vxlan", "none"),
    default: "bird",
    help: "Which routing the node runs.",
  }),
  clusterType: optionalText("CLUSTER_TYPE", "Appended to ClusterInformation.clusterType."),
  ip: optionalText("IP", "IPv4 address[/length] of the node, `autodetect`, or `none`."),
  ip6: optionalText("IP6", "IPv6 address[/length] of the node, `autodetect`, or `none`; only used when set."),
  ipMethod: setting("IP_AUTODETECTION_METHOD", { parse: text, default: "first-found", help: "How IPv4 is detected." }),
  ip6Method: setting("IP6_AUTODETECTION_METHOD", {
    parse: text,
    default: "first-found",
    help: "How IPv6 is detected.",
  }),
  pollIntervalMs: setting("AUTODETECT_POLL_INTERVAL", {
    parse: durationMs,
    default: 60_000,
    help: "How often addresses are detected again.",
  }),
  as: optionalText("AS", "AS number of the node."),
  disableIpCheck: setting("DISABLE_NODE_IP_CHECK", {
    parse: flag,
    default: false,
    help: "Do not look whether another node has this address.",
  }),
  noDefaultPools: setting("NO_DEFAULT_POOLS", { parse: flag, default: false, help: "Create no pools." }),
  pool4Cidr: optionalText("CALICO_IPV4POOL_CIDR", "CIDR of the default IPv4 pool; `none` for no pool."),
  pool4BlockSize: setting("CALICO_IPV4POOL_BLOCK_SIZE", {
    parse: integer(20, 32),
    default: 26,
    help: "Its block size.",
  }),
  pool4Ipip: setting<PoolMode>("CALICO_IPV4POOL_IPIP", { parse: mode, default: "Never", help: "Its IPIP mode." }),
  pool4Vxlan: setting<PoolMode>("CALICO_IPV4POOL_VXLAN", { parse: mode, default: "Never", help: "Its VXLAN mode." }),
  pool4Nat: setting("CALICO_IPV4POOL_NAT_OUTGOING", { parse: flag, default: true, help: "Its natOutgoing." }),
  pool4NodeSelector: setting("CALICO_IPV4POOL_NODE_SELECTOR", {
    parse: text,
    default: "all()",
    help: "Its nodeSelector.",
  }),
  pool4DisableBgp: setting("CALICO_IPV4POOL_DISABLE_BGP_EXPORT", {
    parse: flag,
    default: false,
    help: "Its disableBGPExport.",
  }),
  pool6Cidr: optionalText("CALICO_IPV6POOL_CIDR", "CIDR of the default IPv6 pool; `none` for no pool."),
  pool6BlockSize: setting("CALICO_IPV6POOL_BLOCK_SIZE", {
    parse: integer(116, 128),
    default: 122,
    help: "Its block size.",
  }),
  pool6Vxlan: setting<PoolMode>("CALICO_IPV6POOL_VXLAN", { parse: mode, default: "Never", help: "Its VXLAN mode." }),
  pool6Nat: setting("CALICO_IPV6POOL_NAT_OUTGOING", { parse: flag, default: false, help: "Its natOutgoing." }),
  pool6NodeSelector: setting("CALICO_IPV6POOL_NODE_SELECTOR", {
    parse: text,
    default: "all()",
    help: "Its nodeSelector.",
  }),
  pool6DisableBgp: setting("CALICO_IPV6POOL_DISABLE_BGP_EXPORT", {
    parse: flag,
    default: false,
    help: "Its disableBGPExport.",
  }),
  healthHost: setting("FELIX_HEALTHHOST", {
    parse: text,
    default: "localhost",
    help: "Where the agent answers probes.",
  }),
  healthPort: setting("FELIX_HEALTHPORT", { parse: integer(1, 65_535), default: 9099, help: "Its port." }),
  disableAgent: setting("CALICO_DISABLE_FELIX", { parse: flag, default: false, help: "Do not run the agent." }),
} as const;

export type NodeSettings = SettingValues<typeof nodeSettings>;

/** @throws CalicoError BAD_INPUT naming every variable that is wrong */
export const readNodeSettings = (env: Environment): NodeSettings => readSettings(nodeSettings, env);
