/**
 * The part of FelixConfiguration that shapes rules, parsed once from the text of `config-update`. A value that does not
 * parse counts as absent, so the default applies: the datastore refuses bad values, and rules must not stop for one.
 */
import type { PortRange, Prefix } from "@calico-ts/net";
import { protocolNumber, tryParsePrefix } from "@calico-ts/net";
import type { Variant } from "./names.ts";
import type { LogRate } from "./values.ts";

export interface RulesetConfig {
  readonly interfacePrefixes: readonly string[];
  readonly endpointToHost: "accept" | "drop" | "return";
  readonly deny: "drop" | "reject";
  /** One bit of `nftablesMarkMask`: an untracked or preDNAT policy allowed the packet, normal ones are spared. */
  readonly acceptMark: number;
  /** Another: set while a packet has been passed out of the current tier. */
  readonly passMark: number;
  readonly dropInvalid: boolean;
  readonly allowVxlanFromWorkloads: boolean;
  readonly allowIpipFromWorkloads: boolean;
  readonly vxlanPort: number;
  /** undefined: as the pools say. */
  readonly vxlanEnabled?: boolean;
  readonly ipipEnabled?: boolean;
  readonly natPorts?: PortRange;
  readonly natAddress?: Prefix;
  readonly natExcludesHosts: boolean;
  readonly natInterfaceFilter?: string;
  readonly logPrefix: string;
  readonly logRate?: LogRate;
  /** A flow-log collector listens to NFLOG groups 1 and 2. */
  readonly flowLogs: boolean;
  readonly spoofingAllowed: boolean;
  readonly floatingIps: boolean;
  /** What becomes of packets to a service address that nobody takes. */
  readonly serviceLoop: "disabled" | "drop" | "reject";
  /** More members than this are refused, per IP set and family. */
  readonly maxSetSize: number;
  readonly externalNodes: readonly Prefix[];
  readonly failsafeIn: readonly Failsafe[];
  readonly failsafeOut: readonly Failsafe[];
}

export interface Failsafe {
  readonly protocol: number;
  readonly port: number;
  /** Only from, or to, these addresses. */
  readonly net?: Prefix;
}

export const FAILSAFE_IN = "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";
export const FAILSAFE_OUT = "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";

const MASK = 0xffff0000;
const SECONDS: Readonly<Record<string, number>> = { second: 1, minute: 60, hour: 3600, day: 86_400 };

export function rulesetConfig(values: Readonly<Record<string, string>>): RulesetConfig {
  const text = (key: string): string | undefined => (values[key] === "" ? undefined : values[key]);
  const flag = (key: string): boolean | undefined => boolean(text(key));
  const vxlanEnabled = flag("vxlanEnabled");
  const ipipEnabled = flag("ipipEnabled");
  const natPorts = portRange(text("natPortRange"));
  const natAddress = text("natOutgoingAddress") === undefined ? undefined : prefix(text("natOutgoingAddress"));
  const natInterfaceFilter = text("iptablesNATOutgoingInterfaceFilter")?.replace(/\+$/, "*");
  const logRate = rate(text("logActionRateLimit"), integer(text("logActionRateLimitBurst")) ?? 5);
  return {
    interfacePrefixes: list(text("interfacePrefix") ?? "cali").filter((name) => /^[a-zA-Z0-9_-]{1,15}$/.test(name)),
    endpointToHost: word(text("defaultEndpointToHostAction"), ["accept", "drop", "return"] as const) ?? "drop",
    deny: word(text("nftablesFilterDenyAction"), ["drop", "reject"] as const) ?? "drop",
    acceptMark: markBit(integer(text("nftablesMarkMask")) ?? MASK, 0),
    passMark: markBit(integer(text("nftablesMarkMask")) ?? MASK, 1),
    dropInvalid: flag("disableConntrackInvalidCheck") !== true,
    allowVxlanFromWorkloads: flag("allowVXLANPacketsFromWorkloads") === true,
    allowIpipFromWorkloads: flag("allowIPIPPacketsFromWorkloads") === true,
    vxlanPort: integer(text("vxlanPort")) ?? 4789,
    ...(vxlanEnabled === undefined ? {} : { vxlanEnabled }),
    ...(ipipEnabled === undefined ? {} : { ipipEnabled }),
    ...(natPorts === undefined || natPorts.last === 0 ? {} : { natPorts }),
    ...(natAddress === undefined ? {} : { natAddress }),
    natExcludesHosts: text("natOutgoingExclusions")?.toLowerCase() === "ippoolsandhostips",
    ...(natInterfaceFilter === undefined || !/^[a-zA-Z0-9:._-]{1,14}[a-zA-Z0-9:._*-]$/.test(natInterfaceFilter)
      ? {}
      : { natInterfaceFilter }),
    logPrefix: text("logPrefix") ?? "calico-packet",
    ...(logRate === undefined ? {} : { logRate }),
    flowLogs:
      text("flowLogsGoldmaneServer") !== undefined || text("flowLogsLocalReporter")?.toLowerCase() === "enabled",
    spoofingAllowed: text("workloadSourceSpoofing")?.toLowerCase() === "any",
    floatingIps: text("floatingIPs")?.toLowerCase() === "enabled",
    serviceLoop: word(text("serviceLoopPrevention"), ["disabled", "drop", "reject"] as const) ?? "drop",
    maxSetSize: integer(text("maxIpsetSize")) ?? 1_048_576,
    externalNodes: list(text("externalNodesList") ?? "").flatMap((item) => prefix(item) ?? []),
    failsafeIn: failsafes(text("failsafeInboundHostPorts") ?? FAILSAFE_IN),
    failsafeOut: failsafes(text("failsafeOutboundHostPorts") ?? FAILSAFE_OUT),
  };
}

export const variantConfig = (config: RulesetConfig, variant: Variant = "plain"): RulesetConfig =>
  variant === "dropping" ? { ...config, deny: "drop" } : config;

const list = (text: string): string[] => text.split(/[\s,]+/).filter((item) => item !== "");
const prefix = (text: string | undefined): Prefix | undefined =>
  text === undefined ? undefined : tryParsePrefix(text, "mask");
const boolean = (text: string | undefined): boolean | undefined =>
  text === undefined
    ? undefined
    : /^(true|1|yes|y|t)$/i.test(text) || (/^(false|0|no|n|f)$/i.test(text) ? false : undefined);

function integer(text: string | undefined): number | undefined {
  if (text === undefined || !/^(0x[0-9a-f]+|\d+)$/i.test(text)) return undefined;
  return Number(text);
}

function word<W extends string>(text: string | undefined, words: readonly W[]): W | undefined {
  return words.find((candidate) => candidate === text?.toLowerCase());
}

function portRange(text: string | undefined): PortRange | undefined {
  const match = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text ?? "");
  if (match === null) return undefined;
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  return first <= last && last <= 65_535 ? { first, last } : undefined;
}

function rate(text: string | undefined, burst: number): LogRate | undefined {
  const match = /^([1-9]\d{0,3})\/(second|minute|hour|day)$/.exec(text ?? "");
  if (match === null) return undefined;
  return { packets: Number(match[1]), perSeconds: SECONDS[match[2] ?? "second"] ?? 1, burst };
}

/** `none`: no failsafes. */
const failsafes = (text: string): Failsafe[] => list(text).flatMap((item) => parseFailsafe(item) ?? []);

/** `tcp:22`, `udp:10.0.0.0/8:53`, `tcp:[fd00::/8]:22`, or a bare port for TCP. */
export function parseFailsafe(item: string): Failsafe | undefined {
  const match = /^(?:(tcp|udp|sctp):)?(?:\[?([0-9a-f.:]+(?:\/\d+)?)\]?:)?(\d{1,5})$/i.exec(item);
  const protocol = protocolNumber(match?.[1] ?? "tcp");
  const port = Number(match?.[3]);
  if (match === null || protocol === undefined || port > 65_535) return undefined;
  if (match[2] === undefined) return { protocol, port };
  const net = prefix(match[2]);
  return net === undefined ? undefined : { protocol, port, net };
}

/** As upstream hands out the bits of the mask: the lowest for "accepted", the next for "passed". */
function markBit(mask: number, index: 0 | 1): number {
  const bits = (mask: number): number[] =>
    Array.from({ length: 32 }, (_, at) => 2 ** at).filter((bit) => (mask & bit) !== 0);
  return bits(mask)[index] ?? bits(MASK)[index] ?? 0;
}
