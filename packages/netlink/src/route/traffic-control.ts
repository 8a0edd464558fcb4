/**
 * Shaping ↔ RTM_*QDISC and RTM_*TFILTER messages (linux/pkt_sched.h, linux/pkt_cls.h): token buckets at a link's root, and what enters a link sent
 * through another one, where a token bucket can hold it back.
 */
import {
  type AttributeTable,
  bytes,
  type Codec,
  optional,
  readTable,
  text,
  u32,
  writeTable,
} from "../codec/attributes.ts";
import { LITTLE_ENDIAN_HOST } from "../codec/byte-order.ts";
import { NLM_F } from "../codec/message.ts";
import { type MessageView, need, readAttributes, viewOf } from "../codec/reader.ts";
import { MessageWriter } from "../codec/writer.ts";
import { AF, RTM, type RouteRequest } from "./request.ts";
import type { Qdisc, TokenBucket } from "./values.ts";

const TC_H_ROOT = 0xffff_ffff;
const TC_H_INGRESS = 0xffff_fff1;
const INGRESS_HANDLE = 0xffff_0000;
/** TC_LINKLAYER_ETHERNET: the kernel works its tables out by itself. */
const LINKLAYER_ETHERNET = 1;
const ETH_P_ALL_BE = 0x0300;
const TC_ACT_STOLEN = 4;
const TCA_EGRESS_REDIR = 1;
const TC_U32_TERMINAL = 1;
const U32_MAX = 0xffff_ffff;

const u64: Codec<bigint> = {
  write: (out, value) => out.u64(value),
  read: (data) => viewOf(need(data, 8)).getBigUint64(0, LITTLE_ENDIAN_HOST),
};

interface WireTc {
  readonly kind?: string;
  readonly options?: Uint8Array;
}
const tcTable: AttributeTable<WireTc> = { kind: optional(1, text), options: optional(2, bytes) };

interface WireTbf {
  readonly parameters?: Uint8Array;
  readonly rate?: bigint;
  readonly peakRate?: bigint;
  readonly burst?: number;
  readonly peakBurst?: number;
}
const tbfTable: AttributeTable<WireTbf> = {
  parameters: optional(1, bytes),
  rate: optional(4, u64),
  peakRate: optional(5, u64),
  burst: optional(6, u32),
  peakBurst: optional(7, u32),
};

interface Header {
  readonly link?: number;
  readonly handle?: number;
  readonly parent?: number;
  readonly info?: number;
}

/** struct tcmsg */
function writeHeader(out: MessageWriter, { link = 0, handle = 0, parent = 0, info = 0 }: Header): void {
  out.u8(AF.UNSPEC);
  out.u8(0);
  out.u16(0);
  out.u32(link);
  out.u32(handle);
  out.u32(parent);
  out.u32(info);
}
const HEADER_BYTES = 20;

/** struct tc_ratespec: rates of 2^32 bytes a second and more are in an attribute of their own. */
function writeRate(out: MessageWriter, bytesPerSecond: number): void {
  out.u8(0);
  out.u8(bytesPerSecond === 0 ? 0 : LINKLAYER_ETHERNET);
  out.u16(0);
  out.u16(0);
  out.u16(0);
  out.u32(Math.min(bytesPerSecond, U32_MAX));
}

/** struct tc_tbf_qopt */
function bucketParameters({ rate, peakRate = 0, limit }: TokenBucket): Uint8Array {
  const out = new MessageWriter(64);
  writeRate(out, rate);
  writeRate(out, peakRate);
  out.u32(Math.min(limit, U32_MAX));
  out.u32(0);
  out.u32(0);
  return out.bytes();
}

/** Makes the link's root a token bucket, or changes the one that is there under this handle (its major number). */
export const setTokenBucket = (link: number, handle: number, bucket: TokenBucket): RouteRequest => ({
  type: RTM.NEWQDISC,
  flags: NLM_F.ACK | NLM_F.CREATE | NLM_F.REPLACE,
  operation: `limit link ${link} to ${bucket.rate} bytes/s`,
  body(out) {
    writeHeader(out, { link, handle: (handle << 16) >>> 0, parent: TC_H_ROOT });
    out.attributeText(1, "tbf");
    const { rate, burst, peakRate, minBurst } = bucket;
    const options = out.beginNested(2);
    writeTable<WireTbf>(out, tbfTable, {
      parameters: bucketParameters(bucket),
      ...(rate > U32_MAX && { rate: BigInt(rate) }),
      ...(peakRate !== undefined && peakRate > U32_MAX && { peakRate: BigInt(peakRate) }),
      burst: Math.min(burst, U32_MAX),
      ...(peakRate !== undefined && { peakBurst: Math.min(minBurst ?? burst, U32_MAX) }),
    });
    out.end(options);
  },
});

export type QdiscPlace = "root" | "ingress";

export const deleteQdisc = (link: number, place: QdiscPlace): RouteRequest => ({
  type: RTM.DELQDISC,
  flags: NLM_F.ACK,
  operation: `remove the ${place} discipline of link ${link}`,
  body: (out) => writeHeader(out, { link, parent: place === "root" ? TC_H_ROOT : TC_H_INGRESS }),
});

/** The place where filters of what enters the link go. */
export const addIngress = (link: number): RouteRequest => ({
  type: RTM.NEWQDISC,
  flags: NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL,
  operation: `add the ingress discipline of link ${link}`,
  body(out) {
    writeHeader(out, { link, handle: INGRESS_HANDLE, parent: TC_H_INGRESS });
    out.attributeText(1, "ingress");
  },
});

/** Everything that enters `link` leaves through `target` first: a u32 filter that matches all, with a mirred action. */
export const redirectIngress = (link: number, target: number): RouteRequest => ({
  type: RTM.NEWTFILTER,
  flags: NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL,
  operation: `send what enters link ${link} through link ${target}`,
  body(out) {
    writeHeader(out, { link, parent: INGRESS_HANDLE, info: (1 << 16) | ETH_P_ALL_BE });
    out.attributeText(1, "u32");
    const options = out.beginNested(2);
    const actions = out.beginNested(7);
    const first = out.beginNested(1);
    out.attributeText(1, "mirred");
    const action = out.beginNested(2);
    const parameters = out.begin(2); // struct tc_mirred
    for (const value of [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, target]) out.u32(value);
    out.end(parameters);
    out.end(action);
    out.end(first);
    out.end(actions);
    const selector = out.begin(5); // struct tc_u32_sel with one key that matches anything
    out.u8(TC_U32_TERMINAL);
    out.u8(0);
    out.u8(1);
    out.u8(0);
    for (let word = 0; word < 7; word++) out.u32(0);
    out.end(selector);
    out.end(options);
  },
});

export const dumpQdiscs = (): RouteRequest => ({
  type: RTM.GETQDISC,
  flags: NLM_F.DUMP,
  operation: "list queueing disciplines",
  body: (out) => writeHeader(out, {}),
});

/** Those of what enters the link. */
export const dumpIngressFilters = (link: number): RouteRequest => ({
  type: RTM.GETTFILTER,
  flags: NLM_F.DUMP,
  operation: `list filters of link ${link}`,
  body: (out) => writeHeader(out, { link, parent: INGRESS_HANDLE }),
});

/** Undefined for what is no discipline at a link's root or ingress. @throws CalicoError BAD_INPUT */
export function readQdisc(message: MessageView): Qdisc | undefined {
  if (message.type !== RTM.NEWQDISC) return undefined;
  const view = viewOf(need(message.body, HEADER_BYTES));
  const parent = view.getUint32(12, LITTLE_ENDIAN_HOST);
  if (parent !== TC_H_ROOT && parent !== TC_H_INGRESS) return undefined;
  const { kind = "", options } = readTable(tcTable, message.body.subarray(HEADER_BYTES));
  const bucket = kind === "tbf" && options !== undefined ? readBucket(options) : undefined;
  return {
    link: view.getInt32(4, LITTLE_ENDIAN_HOST),
    handle: view.getUint32(8, LITTLE_ENDIAN_HOST) >>> 16,
    place: parent === TC_H_ROOT ? "root" : "ingress",
    kind,
    ...(bucket === undefined ? {} : { bucket }),
  };
}

function readBucket(options: Uint8Array): Qdisc["bucket"] {
  const { parameters, rate, peakRate } = readTable(tbfTable, options);
  if (parameters === undefined) return undefined;
  const view = viewOf(need(parameters, 36));
  const peak = peakRate === undefined ? view.getUint32(20, LITTLE_ENDIAN_HOST) : Number(peakRate);
  return {
    rate: rate === undefined ? view.getUint32(8, LITTLE_ENDIAN_HOST) : Number(rate),
    limit: view.getUint32(24, LITTLE_ENDIAN_HOST),
    ...(peak === 0 ? {} : { peakRate: peak }),
  };
}

/** Index of the link that a filter made by `redirectIngress` sends to; undefined for other filters. @throws CalicoError BAD_INPUT */
export function readRedirect(message: MessageView): number | undefined {
  if (message.type !== RTM.NEWTFILTER) return undefined;
  const { options } = readTable(tcTable, need(message.body, HEADER_BYTES).subarray(HEADER_BYTES));
  let data = options;
  for (const type of [7, 1, 2, 2]) data = data === undefined ? undefined : attribute(data, type);
  return data === undefined || data.length < 28 ? undefined : viewOf(data).getInt32(24, LITTLE_ENDIAN_HOST);
}

function attribute(data: Uint8Array, type: number): Uint8Array | undefined {
  for (const one of readAttributes(data)) if (one.type === type) return one.data;
  return undefined;
}
