/**
 * NFT_MSG_TRACE (linux/netfilter/nf_tables.h, enum nft_trace_attributes): what the kernel tells listeners of NFNLGRP_NFTRACE about
 * a packet whose `nftrace` bit is set, one message for each rule all of whose conditions it met, and for each end of a chain.
 *
 * Headers come with the first message of a packet in each attached chain only, at most 40 bytes of the network and 20 of the
 * transport header. `id` is the same in all messages of a packet in a namespace; the kernel uses it again for later packets.
 */
import type { Family, IpAddress } from "@calico-ts/net";
import { addressFromBytes } from "@calico-ts/net";
import {
  type AttributeTable,
  be32,
  be64,
  beS32,
  bytes,
  type Codec,
  oneOf,
  optional,
  readTable,
  required,
  text,
} from "../codec/attributes.ts";
import { type MessageView, need } from "../codec/reader.ts";
import { NFT_MSG, nftMessageType } from "./batch.ts";
import { VERDICT_NAMES } from "./data.ts";
import { familyName } from "./objects.ts";
import type { NftTable, NftVerdict } from "./values.ts";

/** `other`: a verdict without a name here, such as a queue's. */
export type TraceVerdict = NftVerdict | { readonly kind: "other"; readonly code: number };

/** What could be read of the packet's headers. */
export interface TracedHeaders {
  readonly family: Family;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** IANA number. */
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** TCP's flag byte: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK. */
  readonly tcpFlags?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
}

export interface NftTrace {
  readonly id: number;
  readonly table: NftTable;
  readonly chain: string;
  /** `rule`: it met all conditions of rule `handle`; without a handle it is the end of the chain's rules. `return`: a chain ended. `policy`: an attached chain ended, and its policy decided. */
  readonly type: "rule" | "return" | "policy";
  readonly handle?: bigint;
  readonly verdict: TraceVerdict;
  /** Index of the interface it came in by. */
  readonly input?: number;
  readonly output?: number;
  readonly mark?: number;
  readonly headers?: TracedHeaders;
  /** Bits of `CT_STATE_BITS`; kernels from 6.16 on tell. */
  readonly connectionState?: number;
}

const verdictCodec: Codec<TraceVerdict> = {
  write: () => {},
  read(data) {
    const { code, chain } = readTable(verdictTable, data);
    const name = VERDICT_NAMES.get(code);
    if (name === "jump" || name === "goto") return chain === undefined ? undefined : { kind: name, chain };
    return name === undefined ? { kind: "other", code } : { kind: name };
  },
};
const verdictTable: AttributeTable<{ readonly code: number; readonly chain?: string }> = {
  code: required(1, beS32),
  chain: optional(2, text),
};

interface WireTrace {
  readonly table: string;
  readonly chain: string;
  readonly handle?: bigint;
  readonly type: "rule" | "return" | "policy";
  readonly verdict?: TraceVerdict;
  readonly id: number;
  readonly network?: Uint8Array;
  readonly transport?: Uint8Array;
  readonly input?: number;
  readonly output?: number;
  readonly mark?: number;
  readonly policy?: number;
  readonly connectionState?: number;
}
const traceTable: AttributeTable<WireTrace> = {
  table: required(1, text),
  chain: required(2, text),
  handle: optional(3, be64),
  type: required(4, oneOf(be32, { policy: 1, return: 2, rule: 3 })),
  verdict: optional(5, verdictCodec),
  id: required(6, be32),
  network: optional(8, bytes),
  transport: optional(9, bytes),
  input: optional(10, be32),
  output: optional(12, be32),
  mark: optional(14, be32),
  policy: optional(16, be32),
  connectionState: optional(21, be32),
};

/** Undefined for other messages. @throws CalicoError BAD_INPUT */
export function readNftTrace(message: MessageView): NftTrace | undefined {
  if (message.type !== nftMessageType(NFT_MSG.TRACE)) return undefined;
  const body = need(message.body, 4);
  const family = familyName(body[0] ?? 0);
  if (family === undefined) return undefined;
  const wire = readTable(traceTable, body.subarray(4));
  const { id, chain, type, handle, input, output, mark, connectionState } = wire;
  const policy: TraceVerdict = { kind: wire.policy === 0 ? "drop" : "accept" };
  const headers = wire.network === undefined ? undefined : readHeaders(wire.network, wire.transport);
  return {
    id,
    table: { family, name: wire.table },
    chain,
    type,
    ...(handle === undefined ? {} : { handle }),
    verdict: wire.verdict ?? (type === "policy" ? policy : { kind: "continue" }),
    ...(input === undefined ? {} : { input }),
    ...(output === undefined ? {} : { output }),
    ...(mark === undefined ? {} : { mark }),
    ...(headers === undefined ? {} : { headers }),
    ...(connectionState === undefined ? {} : { connectionState }),
  };
}

const TCP = 6;
const ICMP = new Set([1, 58]);
/** UDP, SCTP and UDPLite have their ports where TCP has them. */
const WITH_PORTS = new Set([TCP, 17, 132, 136]);

/** RFC 791, RFC 8200: the first header only; an IPv6 packet with extension headers is known by its first next header. */
function readHeaders(network: Uint8Array, transport: Uint8Array | undefined): TracedHeaders | undefined {
  const version = (network[0] ?? 0) >> 4;
  if (version !== 4 && version !== 6) return undefined;
  if (network.length < (version === 4 ? 20 : 40)) return undefined;
  const [at, length] = version === 4 ? [12, 4] : [8, 16];
  const protocol = network[version === 4 ? 9 : 6] ?? 0;
  return {
    family: version,
    source: addressFromBytes(network.slice(at, at + length)),
    destination: addressFromBytes(network.slice(at + length, at + 2 * length)),
    protocol,
    ...(transport === undefined ? {} : readTransport(protocol, transport)),
  };
}

function readTransport(protocol: number, data: Uint8Array): Partial<TracedHeaders> {
  const word = (at: number): number => ((data[at] ?? 0) << 8) | (data[at + 1] ?? 0);
  if (ICMP.has(protocol) && data.length >= 2) return { icmp: { type: data[0] ?? 0, code: data[1] ?? 0 } };
  if (!WITH_PORTS.has(protocol) || data.length < 4) return {};
  const ports = { sourcePort: word(0), destinationPort: word(2) };
  return protocol === TCP && data.length >= 14 ? { ...ports, tcpFlags: data[13] ?? 0 } : ports;
}
