/**
 * Limits a pod asks for by annotation: bandwidth, packets, connections, DSCP.
 *
 * Values out of range are moved to the nearest limit, values that depend on one that is missing are dropped; both are told
 * as problems, and neither keeps the pod from running.
 */
import { parseQuantity } from "@calico-ts/schema";

const PREFIX = "qos.projectcalico.org/";
export const DSCP_ANNOTATION = `${PREFIX}dscp`;

/** All numbers are per second where that applies; 0 is never used for "no limit": the field is absent then. */
export interface DirectionLimits {
  /** Bits per second. */
  readonly bandwidth?: number;
  /** Bits. There whenever bandwidth is. */
  readonly burst?: number;
  /** Bits per second, above bandwidth. */
  readonly peakRate?: number;
  /** Bytes, for peakRate; by default it follows from the MTU. */
  readonly minBurst?: number;
  /** Packets per second. */
  readonly packetRate?: number;
  /** Packets. There whenever packetRate is. */
  readonly packetBurst?: number;
  readonly maxConnections?: number;
}

export interface QosControls {
  readonly ingress: DirectionLimits;
  readonly egress: DirectionLimits;
  /** The six bits outgoing packets are marked with. */
  readonly dscp?: number;
}

export interface QosOutcome {
  /** undefined: nothing is asked for. */
  readonly controls: QosControls | undefined;
  readonly problems: readonly string[];
}

type Limit = keyof DirectionLimits;

interface Range {
  readonly annotation: string;
  readonly least: number;
  readonly most: number;
}

const RANGES: { readonly [K in Limit]: Range } = {
  bandwidth: { annotation: "Bandwidth", least: 1e3, most: 1e15 },
  burst: { annotation: "Burst", least: 1e3, most: 34_359_738_360 },
  peakRate: { annotation: "Peakrate", least: 1010, most: 1.01e15 },
  minBurst: { annotation: "Minburst", least: 1e3, most: 1e8 },
  packetRate: { annotation: "PacketRate", least: 1, most: 10_000 },
  packetBurst: { annotation: "PacketBurst", least: 1, most: 10_000 },
  maxConnections: { annotation: "MaxConnections", least: 1, most: 4_294_967_295 },
};

const DEFAULT_BURST = 4 * 2 ** 30;
const DEFAULT_PACKET_BURST = 5;

export function qosControls(annotations: Readonly<Record<string, string>>): QosOutcome {
  const problems: string[] = [];
  const ingress = directionLimits(annotations, "ingress", problems);
  const egress = directionLimits(annotations, "egress", problems);
  const dscp = dscpOf(annotations[DSCP_ANNOTATION], problems);
  const nothing = Object.keys(ingress).length === 0 && Object.keys(egress).length === 0 && dscp === undefined;
  const controls = nothing ? undefined : { ingress, egress, ...(dscp === undefined ? {} : { dscp }) };
  return { controls, problems };
}

type Direction = "ingress" | "egress";

function directionLimits(
  annotations: Readonly<Record<string, string>>,
  direction: Direction,
  problems: string[],
): DirectionLimits {
  const read = (limit: Limit, alias?: string): number | undefined => {
    const key = `${PREFIX}${direction}${RANGES[limit].annotation}`;
    const source = annotations[key] === undefined && alias !== undefined ? alias : key;
    return limitOf(annotations[source], source, RANGES[limit], problems);
  };
  /** A value that means nothing without another. */
  const needs = (value: number | undefined, met: boolean, why: string): number | undefined => {
    if (value !== undefined && !met) problems.push(`${direction} limits: ${why}`);
    return met ? value : undefined;
  };

  // Kubernetes' own annotation counts where ours is not there.
  const bandwidth = read("bandwidth", `kubernetes.io/${direction}-bandwidth`);
  const burst = needs(read("burst"), bandwidth !== undefined, "a burst needs a bandwidth");
  const peak = read("peakRate");
  const above = bandwidth !== undefined && peak !== undefined && peak > bandwidth;
  const peakRate = needs(peak, above, "a peak rate needs a bandwidth below it");
  const minBurst = needs(read("minBurst"), peakRate !== undefined, "a minimum burst needs a peak rate");
  const packetRate = read("packetRate");
  const packetBurst = needs(read("packetBurst"), packetRate !== undefined, "a packet burst needs a packet rate");
  const maxConnections = read("maxConnections");
  return {
    ...(bandwidth === undefined ? {} : { bandwidth, burst: burst ?? DEFAULT_BURST }),
    ...(peakRate === undefined ? {} : { peakRate }),
    ...(minBurst === undefined ? {} : { minBurst }),
    ...(packetRate === undefined ? {} : { packetRate, packetBurst: packetBurst ?? DEFAULT_PACKET_BURST }),
    ...(maxConnections === undefined ? {} : { maxConnections }),
  };
}

const NANO = 1_000_000_000n;

function limitOf(text: string | undefined, key: string, range: Range, problems: string[]): number | undefined {
  if (text === undefined) return undefined;
  const quantity = parseQuantity(text);
  if (quantity === undefined) {
    problems.push(`${key}: "${text}" is not a quantity`);
    return undefined;
  }
  // Fractions round up, as Kubernetes does when it makes a quantity an integer.
  const value = Number((quantity.nano + (quantity.nano > 0n ? NANO - 1n : 0n)) / NANO);
  const within = Math.min(Math.max(value, range.least), range.most);
  if (within !== value) problems.push(`${key}: ${text} is out of range, ${within} is used`);
  return within;
}

/** RFC 2474 (class selectors), 2597 (assured forwarding), 3246 (expedited forwarding). */
const DSCP_NAMES: ReadonlyMap<string, number> = new Map([
  ["DF", 0],
  ["EF", 46],
  ...Array.from({ length: 8 }, (_, level): [string, number] => [`CS${level}`, level * 8]),
  ...[1, 2, 3, 4].flatMap((level) =>
    [1, 2, 3].map((drop): [string, number] => [`AF${level}${drop}`, level * 8 + drop * 2]),
  ),
]);

/** A number from 0 to 63 or a name. */
export function parseDscp(text: string): number | undefined {
  if (/^\d{1,2}$/.test(text)) return Number(text) <= 63 ? Number(text) : undefined;
  return DSCP_NAMES.get(text.toUpperCase());
}

function dscpOf(text: string | undefined, problems: string[]): number | undefined {
  if (text === undefined) return undefined;
  const dscp = parseDscp(text);
  if (dscp === undefined) problems.push(dscpProblem(text));
  return dscp;
}

export const dscpProblem = (text: string): string =>
  `${DSCP_ANNOTATION}: "${text}" is neither 0 to 63 nor a name such as EF or AF11`;
