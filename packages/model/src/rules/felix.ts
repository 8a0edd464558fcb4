/** Rules about FelixConfiguration. */
import { protocolNumber, PROTOCOL_NUMBERS, tryParsePrefix } from "@calico-ts/net";
import type { FieldError } from "@calico-ts/schema";
import { invalid, keyPath } from "@calico-ts/schema";
import type {
  FelixConfiguration,
  FelixConfigurationSpec,
} from "../resources/felix-configuration/felix-configuration.ts";
import {
  durationErrors,
  each,
  filled,
  given,
  interfaceFilterErrors,
  netErrors,
  portErrors,
  regexpErrors,
  selectorErrors,
  when,
} from "./fields.ts";
import { isDnsLabel } from "./metadata.ts";

/** Regular expressions. */
const EXPRESSIONS = [
  "bpfDataIfacePattern",
  "bpfDisableGROForIfaces",
  "bpfL3IfacePattern",
  "logDebugFilenameRegex",
  "mtuIfacePattern",
  "nftablesFlowTableDataIfacePattern",
] as const satisfies readonly (keyof FelixConfigurationSpec)[];

/** Durations whose schema is plain text. */
const DURATIONS = [
  "dataplaneWatchdogTimeout",
  "localSubnetL2ReachabilityRefreshInterval",
  "nftablesRefreshInterval",
] as const satisfies readonly (keyof FelixConfigurationSpec)[];

const INTERFACES = [
  "iptablesNATOutgoingInterfaceFilter",
  "wireguardInterfaceName",
  "wireguardInterfaceNameV6",
] as const satisfies readonly (keyof FelixConfigurationSpec)[];

const PORTS = [
  "debugPort",
  "healthPort",
  "metadataPort",
  "prometheusMetricsPort",
  "vxlanPort",
  "wireguardListeningPort",
  "wireguardListeningPortV6",
] as const satisfies readonly (keyof FelixConfigurationSpec)[];

const ROUTE_PRIORITIES = [
  "ipv4NormalRoutePriority",
  "ipv4ElevatedRoutePriority",
  "ipv6NormalRoutePriority",
  "ipv6ElevatedRoutePriority",
] as const satisfies readonly (keyof FelixConfigurationSpec)[];

/** The agent needs this many characters of a name for its own prefix. */
const OPENSTACK_PREFIX_LENGTH = 17;
const MAX_ROUTE_TABLES = 65_535;
const MAX_ROUTE_TABLE = 4_294_967_295;
const plainPorts = { lowest: 0, named: false } as const;

export function felixConfigurationErrors({ spec }: FelixConfiguration): FieldError[] {
  return [
    ...selectorErrors(spec.nodeSelector, "spec.nodeSelector"),
    ...EXPRESSIONS.flatMap((key) => regexpErrors(spec[key], `spec.${key}`)),
    ...DURATIONS.flatMap((key) => durationErrors(spec[key], `spec.${key}`)),
    ...INTERFACES.flatMap((key) => interfaceFilterErrors(spec[key], `spec.${key}`)),
    ...PORTS.flatMap((key) => given(spec[key], (port) => portErrors(port, `spec.${key}`, plainPorts))),
    ...ROUTE_PRIORITIES.flatMap((key) => given(spec[key], (value) => priorityErrors(value, `spec.${key}`))),
    ...listErrors(spec),
    ...interfaceListErrors(spec),
    ...each(spec.kubeNodePortRanges, "spec.kubeNodePortRanges", (port, at) => portErrors(port, at, plainPorts)),
    ...given(spec.natPortRange, (port) => portErrors(port, "spec.natPortRange", plainPorts)),
    ...given(spec.bpfPSNATPorts, (port) => portErrors(port, "spec.bpfPSNATPorts", plainPorts)),
    ...each(spec.healthTimeoutOverrides, "spec.healthTimeoutOverrides", ({ name, timeout }, at) => [
      ...when(name === "", () => invalid(`${at}.name`, name, "names a part of the agent")),
      ...durationErrors(timeout === "" ? "-" : timeout, `${at}.timeout`),
    ]),
    ...filled(spec.openstackRegion, (region) =>
      when(!isDnsLabel(region) || region.length > 63 - OPENSTACK_PREFIX_LENGTH, () =>
        invalid("spec.openstackRegion", region, `a DNS label of at most ${63 - OPENSTACK_PREFIX_LENGTH} characters`),
      ),
    ),
    ...routeTableErrors(spec),
  ];
}

const priorityErrors = (value: number, path: string): FieldError[] =>
  when(value < 1 || value > 2_147_483_646, () => invalid(path, value, "a route priority is 1 to 2147483646"));

function listErrors(spec: FelixConfigurationSpec): FieldError[] {
  const failsafe = (list: FelixConfigurationSpec["failsafeInboundHostPorts"], path: string): FieldError[] =>
    each(list, path, ({ port, protocol, net }, at) => [
      ...portErrors(port, `${at}.port`, plainPorts),
      ...filled(protocol, (text) => {
        const number = protocolNumber(text);
        const known =
          number === PROTOCOL_NUMBERS.TCP || number === PROTOCOL_NUMBERS.UDP || number === PROTOCOL_NUMBERS.SCTP;
        return when(!known, () => invalid(`${at}.protocol`, text, "ports go with TCP, UDP or SCTP"));
      }),
      ...filled(net, (text) =>
        when(tryParsePrefix(text, "mask") === undefined, () => invalid(`${at}.net`, text, "not a prefix")),
      ),
    ]);
  return [
    ...failsafe(spec.failsafeInboundHostPorts, "spec.failsafeInboundHostPorts"),
    ...failsafe(spec.failsafeOutboundHostPorts, "spec.failsafeOutboundHostPorts"),
    ...each(spec.externalNodesList, "spec.externalNodesList", (net, at) => netErrors(net, at, 4)),
    ...each(spec.bpfDSROptoutCIDRs, "spec.bpfDSROptoutCIDRs", (net, at) => netErrors(net, at)),
    ...each(spec.bpfExcludeCIDRsFromNAT, "spec.bpfExcludeCIDRsFromNAT", (net, at) => netErrors(net, at)),
    ...each(spec.bpfForceTrackPacketsFromIfaces, "spec.bpfForceTrackPacketsFromIfaces", interfaceFilterErrors),
    ...Object.keys(spec.bpfLogFilters ?? {}).flatMap((key) =>
      key === "all" ? [] : interfaceFilterErrors(key, keyPath("spec.bpfLogFilters", key)),
    ),
  ];
}

/** `interfaceExclude` is a comma list of names and of regular expressions between slashes. */
function interfaceListErrors(spec: FelixConfigurationSpec): FieldError[] {
  return [
    ...filled(spec.interfacePrefix, (prefixes) =>
      when(!/^[a-zA-Z0-9_-]{1,15}(,[a-zA-Z0-9_-]{1,15})*$/.test(prefixes), () =>
        invalid(
          "spec.interfacePrefix",
          prefixes,
          "interface prefixes, separated by commas, at most 15 characters each",
        ),
      ),
    ),
    ...filled(spec.interfaceExclude, (list) =>
      list.split(",").flatMap((part) => {
        const name = part.trim();
        const expression = name.length > 1 && name.startsWith("/") && name.endsWith("/");
        if (expression) return regexpErrors(name.slice(1, -1), "spec.interfaceExclude");
        return interfaceFilterErrors(name === "" ? "?" : name, "spec.interfaceExclude");
      }),
    ),
  ];
}

function routeTableErrors(spec: FelixConfigurationSpec): FieldError[] {
  const ranges = spec.routeTableRanges ?? [];
  const count = ranges.reduce((sum, { min, max }) => sum + Math.max(0, max - min + 1), 0);
  return [
    ...each(ranges, "spec.routeTableRanges", ({ max }, at) =>
      when(max > MAX_ROUTE_TABLE, () => invalid(`${at}.max`, max, `route table indices are 1 to ${MAX_ROUTE_TABLE}`)),
    ),
    ...when(count > MAX_ROUTE_TABLES, () =>
      invalid("spec.routeTableRanges", count, `the ranges hold at most ${MAX_ROUTE_TABLES} tables in all`),
    ),
  ];
}
