/**
 * Every parameter the agent honours, once. A key is the field of FelixConfiguration's spec; the environment variable
 * is `FELIX_` and `env` (or the key) in upper case. Nothing is listed that nothing reads: `used` names the reader.
 *
 * Defaults are upstream's. `live` parameters take effect at once; a change of any other one ends the process with exit code 129,
 * and the supervisor starts it again (restarting is cheap and resets nothing in the kernel).
 * `onBadValue`: `exit` where guessing would open or close the network in a way nobody asked for, else `default`.
 */
import { FAILSAFE_IN, FAILSAFE_OUT } from "@calico-ts/policy-compiler";
import type { ValueType } from "./values.ts";
import {
  boolean,
  failsafePorts,
  integer,
  interfacePatterns,
  listOf,
  markMask,
  matching,
  oneOf,
  regularExpression,
  seconds,
  timeoutOverrides,
} from "./values.ts";

export interface Param<T> {
  readonly type: ValueType<T>;
  readonly fallback: T;
  readonly used: "agent" | "health" | "metrics" | "log" | "rules" | "routes" | "interfaces" | "mtu";
  /** The variable's name after `FELIX_`, where it is not the key. */
  readonly env?: string;
  readonly live?: boolean;
  readonly onBadValue?: "exit" | "default";
}

const param = <T>(type: ValueType<T>, fallback: T, rest: Omit<Param<T>, "type" | "fallback">): Param<T> => ({
  type,
  fallback,
  ...rest,
});

const port = integer(0, 65_535);
const hostName = matching(/^[a-zA-Z0-9:._+-]{1,64}$/, "a host name or address");
const anyText = matching(/^/, "text");
const portRange = matching(/^\d{1,5}(:\d{1,5})?$/, "a port, or a range first:last");
const cidr = matching(/^[0-9a-fA-F:.]+(\/\d{1,3})?$/, "an address or prefix");
const MTU_INTERFACES = /^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)/;

export const params = {
  dataplaneWatchdogTimeout: param(seconds, 90, { used: "health" }),
  healthEnabled: param(boolean, false, { used: "health" }),
  healthHost: param(hostName, "localhost", { used: "health" }),
  healthPort: param(port, 9099, { used: "health" }),
  healthTimeoutOverrides: param<ReadonlyMap<string, number>>(timeoutOverrides, new Map(), { used: "health" }),
  prometheusMetricsEnabled: param(boolean, false, { used: "metrics" }),
  prometheusMetricsHost: param(matching(/^[a-zA-Z0-9:._+-]{0,64}$/, "a host name or address"), "", {
    used: "metrics",
  }),
  prometheusMetricsPort: param(port, 9091, { used: "metrics" }),
  logSeverityScreen: param(oneOf("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL"), "INFO", {
    used: "log",
    live: true,
  }),

  interfacePrefix: param(matching(/^[a-zA-Z0-9_-]{1,15}(,[a-zA-Z0-9_-]{1,15})*$/, "interface name prefixes"), "cali", {
    used: "interfaces",
    onBadValue: "exit",
  }),
  interfaceExclude: param(interfacePatterns, ["kube-ipvs0"], { used: "interfaces", onBadValue: "exit" }),
  interfaceRefreshInterval: param(seconds, 90, { used: "interfaces" }),
  ipForwarding: param(oneOf("Enabled", "Disabled"), "Enabled", { used: "interfaces" }),
  ipv6Support: param(boolean, true, { used: "interfaces" }),
  workloadSourceSpoofing: param(oneOf("Any", "Disabled"), "Disabled", { used: "interfaces" }),

  routeRefreshInterval: param(seconds, 90, { used: "routes" }),
  routeSyncDisabled: param(boolean, false, { used: "routes" }),
  removeExternalRoutes: param(boolean, true, { used: "routes" }),
  programClusterRoutes: param(
    oneOf("Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly", "Enabled"),
    "EnabledIPIPOnly",
    { used: "routes" },
  ),
  ipv4NormalRoutePriority: param(integer(1, 2_147_483_646), 1024, { used: "routes" }),
  ipv6NormalRoutePriority: param(integer(1, 2_147_483_646), 1024, { used: "routes" }),
  vxlanEnabled: param<boolean | undefined>(boolean, undefined, { used: "routes" }),
  vxlanPort: param(integer(1, 65_535), 4789, { used: "routes" }),
  vxlanVNI: param(integer(1, 16_777_215), 4096, { used: "routes" }),
  ipipEnabled: param<boolean | undefined>(boolean, undefined, { env: "IpInIpEnabled", used: "routes" }),

  mtuIfacePattern: param(regularExpression, MTU_INTERFACES, { used: "mtu" }),
  vxlanMTU: param(integer(0, 65_535), 0, { used: "mtu" }),
  vxlanMTUV6: param(integer(0, 65_535), 0, { used: "mtu" }),
  ipipMTU: param(integer(0, 65_535), 0, { env: "IpInIpMtu", used: "mtu" }),

  nftablesRefreshInterval: param(seconds, 180, { used: "rules" }),
  nftablesMarkMask: param(markMask, 0xffff0000, { used: "rules", onBadValue: "exit" }),
  nftablesFilterDenyAction: param(oneOf("DROP", "REJECT"), "DROP", { used: "rules", onBadValue: "exit" }),
  defaultEndpointToHostAction: param(oneOf("DROP", "RETURN", "ACCEPT"), "DROP", { used: "rules", onBadValue: "exit" }),
  failsafeInboundHostPorts: param(failsafePorts, FAILSAFE_IN, { used: "rules", live: true, onBadValue: "exit" }),
  failsafeOutboundHostPorts: param(failsafePorts, FAILSAFE_OUT, { used: "rules", live: true, onBadValue: "exit" }),
  disableConntrackInvalidCheck: param(boolean, false, { used: "rules" }),
  allowVXLANPacketsFromWorkloads: param(boolean, false, { used: "rules" }),
  allowIPIPPacketsFromWorkloads: param(boolean, false, { used: "rules" }),
  floatingIPs: param(oneOf("Enabled", "Disabled"), "Disabled", { used: "rules" }),
  externalNodesList: param(listOf(cidr), [], { env: "ExternalNodesCIDRList", used: "rules", onBadValue: "exit" }),
  serviceLoopPrevention: param(oneOf("Disabled", "Drop", "Reject"), "Drop", { used: "rules" }),
  natPortRange: param(portRange, "0", { used: "rules" }),
  natOutgoingAddress: param(matching(/^[0-9.]*$/, "an IPv4 address"), "", { used: "rules" }),
  natOutgoingExclusions: param(oneOf("IPPoolsOnly", "IPPoolsAndHostIPs"), "IPPoolsOnly", { used: "rules" }),
  iptablesNATOutgoingInterfaceFilter: param(matching(/^[a-zA-Z0-9:._+-]{0,15}$/, "an interface name"), "", {
    used: "rules",
  }),
  logPrefix: param(anyText, "calico-packet", { used: "rules" }),
  logActionRateLimit: param(matching(/^([1-9]\d{0,3}\/(second|minute|hour|day))?$/, "such as 10/second"), "", {
    used: "rules",
  }),
  logActionRateLimitBurst: param(integer(0, 9999), 5, { used: "rules" }),
  flowLogsGoldmaneServer: param(anyText, "", { used: "rules" }),
  flowLogsLocalReporter: param(oneOf("Disabled", "Enabled"), "Disabled", { used: "rules" }),
  maxIpsetSize: param(integer(1, 2_147_483_647), 1_048_576, { used: "rules" }),
} as const;

export type ParamName = keyof typeof params;
type ParamValue<P> = P extends Param<infer T> ? T : never;
export type AgentConfig = { readonly [K in ParamName]: ParamValue<(typeof params)[K]> };

export const paramNames = Object.keys(params) as readonly ParamName[];

/** The variable that sets a parameter: `FELIX_HEALTHPORT`. Compared without regard to case, like upstream. */
export const environmentName = (name: ParamName): string => {
  const declared: Param<unknown> = params[name];
  return `FELIX_${(declared.env ?? name).toUpperCase()}`;
};
