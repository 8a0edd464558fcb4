/** Connection tracking entries ↔ ctnetlink messages (linux/netfilter/nfnetlink_conntrack.h). */
import type { Family, IpAddress } from "@calico-ts/net";
import {
  type AttributeTable,
  addressOf,
  be16,
  be32,
  nested,
  optional,
  readTable,
  required,
  u32,
  u8,
  writeTable,
} from "./codec/attributes.ts";
import { NLM_F } from "./codec/message.ts";
import { type MessageView, need } from "./codec/reader.ts";
import { MessageWriter } from "./codec/writer.ts";
import { familyNumber, familyOf } from "./route/request.ts";

const NFNL_SUBSYS_CTNETLINK = 1;
const MSG = { NEW: 0, GET: 1, DELETE: 2 } as const;
const messageType = (message: number): number => (NFNL_SUBSYS_CTNETLINK << 8) | message;

/** One direction of a connection. ICMP has an identifier in place of ports. */
export interface ConntrackTuple {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly id: number; readonly type: number; readonly code: number };
}

export interface ConntrackEntry {
  readonly family: Family;
  readonly original: ConntrackTuple;
  readonly reply: ConntrackTuple;
  /** IPS_*: 8 confirmed, 16 source rewritten, 32 destination rewritten. */
  readonly status: number;
  readonly mark: number;
  /** enum tcp_conntrack: 1 SYN_SENT, 2 SYN_RECV, 3 ESTABLISHED, 4 FIN_WAIT, 5 CLOSE_WAIT, 6 LAST_ACK, 7 TIME_WAIT, 8 CLOSE, 9 SYN_SENT2. */
  readonly tcpState?: number;
  /** Seconds until it is forgotten. */
  readonly timeout?: number;
  readonly zone: number;
  /** Tells the entry from a later one with the same tuple. */
  readonly id?: number;
}

interface WireIp {
  readonly source4?: IpAddress;
  readonly destination4?: IpAddress;
  readonly source6?: IpAddress;
  readonly destination6?: IpAddress;
}
const ipTable: AttributeTable<WireIp> = {
  source4: optional(1, addressOf(4)),
  destination4: optional(2, addressOf(4)),
  source6: optional(3, addressOf(6)),
  destination6: optional(4, addressOf(6)),
};

interface WireProtocol {
  readonly number: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmpId?: number;
  readonly icmpType?: number;
  readonly icmpCode?: number;
  readonly icmp6Id?: number;
  readonly icmp6Type?: number;
  readonly icmp6Code?: number;
}
const protocolTable: AttributeTable<WireProtocol> = {
  number: required(1, u8),
  sourcePort: optional(2, be16),
  destinationPort: optional(3, be16),
  icmpId: optional(4, be16),
  icmpType: optional(5, u8),
  icmpCode: optional(6, u8),
  icmp6Id: optional(7, be16),
  icmp6Type: optional(8, u8),
  icmp6Code: optional(9, u8),
};

interface WireTuple {
  readonly ip: WireIp;
  readonly protocol: WireProtocol;
}
const tupleTable: AttributeTable<WireTuple> = {
  ip: required(1, nested(ipTable)),
  protocol: required(2, nested(protocolTable)),
};

interface WireProtocolInfo {
  readonly tcp?: { readonly state?: number };
}
const protocolInfoTable: AttributeTable<WireProtocolInfo> = {
  tcp: optional(1, nested<{ readonly state?: number }>({ state: optional(1, u8) })),
};

/** CTA_FILTER: which parts of a tuple of the request must be the same (enum ctattr_filter, nf_internals.h). */
interface WireFilter {
  readonly original?: number;
  readonly reply?: number;
}
const filterTable: AttributeTable<WireFilter> = { original: optional(1, u32), reply: optional(2, u32) };
const FILTER = { source: 1, destination: 2 } as const;

interface WireEnds {
  readonly ip: WireIp;
}
const endsTable: AttributeTable<WireEnds> = { ip: required(1, nested(ipTable)) };

interface WireMatch {
  readonly original?: WireEnds;
  readonly reply?: WireEnds;
  readonly filter: WireFilter;
}
const matchTable: AttributeTable<WireMatch> = {
  original: optional(1, nested(endsTable)),
  reply: optional(2, nested(endsTable)),
  filter: required(25, nested(filterTable)),
};

interface WireEntry {
  readonly original?: WireTuple;
  readonly reply?: WireTuple;
  readonly status?: number;
  readonly protocolInfo?: WireProtocolInfo;
  readonly timeout?: number;
  readonly mark?: number;
  readonly id?: number;
  readonly zone?: number;
}
const entryTable: AttributeTable<WireEntry> = {
  original: optional(1, nested(tupleTable)),
  reply: optional(2, nested(tupleTable)),
  status: optional(3, be32),
  protocolInfo: optional(4, nested(protocolInfoTable)),
  timeout: optional(7, be32),
  mark: optional(8, be32),
  id: optional(12, be32),
  zone: optional(18, be16),
};

function tupleFromWire(wire: WireTuple): ConntrackTuple | undefined {
  const source = wire.ip.source4 ?? wire.ip.source6;
  const destination = wire.ip.destination4 ?? wire.ip.destination6;
  if (source === undefined || destination === undefined) return undefined;
  const { number, sourcePort, destinationPort } = wire.protocol;
  const id = wire.protocol.icmpId ?? wire.protocol.icmp6Id;
  const type = wire.protocol.icmpType ?? wire.protocol.icmp6Type;
  const code = wire.protocol.icmpCode ?? wire.protocol.icmp6Code;
  return {
    source,
    destination,
    protocol: number,
    ...(sourcePort === undefined ? {} : { sourcePort }),
    ...(destinationPort === undefined ? {} : { destinationPort }),
    ...(id === undefined || type === undefined || code === undefined ? {} : { icmp: { id, type, code } }),
  };
}

function tupleToWire(tuple: ConntrackTuple): WireTuple {
  const { source, destination, icmp, sourcePort, destinationPort } = tuple;
  const v4 = source.family === 4;
  const icmpFields =
    icmp === undefined
      ? {}
      : v4
        ? { icmpId: icmp.id, icmpType: icmp.type, icmpCode: icmp.code }
        : { icmp6Id: icmp.id, icmp6Type: icmp.type, icmp6Code: icmp.code };
  return {
    ip: v4 ? { source4: source, destination4: destination } : { source6: source, destination6: destination },
    protocol: {
      number: tuple.protocol,
      ...(sourcePort === undefined ? {} : { sourcePort }),
      ...(destinationPort === undefined ? {} : { destinationPort }),
      ...icmpFields,
    },
  };
}

/** Undefined for other messages and for entries that are not of IP. @throws CalicoError BAD_INPUT */
export function readConntrack(message: MessageView): ConntrackEntry | undefined {
  if (message.type >> 8 !== NFNL_SUBSYS_CTNETLINK || (message.type & 255) === MSG.GET) return undefined;
  const body = need(message.body, 4);
  const family = familyOf(body[0] ?? 0);
  const wire = readTable(entryTable, body.subarray(4));
  const original = wire.original === undefined ? undefined : tupleFromWire(wire.original);
  const reply = wire.reply === undefined ? undefined : tupleFromWire(wire.reply);
  if (family === undefined || original === undefined || reply === undefined) return undefined;
  return {
    family,
    original,
    reply,
    status: wire.status ?? 0,
    mark: wire.mark ?? 0,
    ...(wire.protocolInfo?.tcp?.state === undefined ? {} : { tcpState: wire.protocolInfo.tcp.state }),
    ...(wire.timeout === undefined ? {} : { timeout: wire.timeout }),
    zone: wire.zone ?? 0,
    ...(wire.id === undefined ? {} : { id: wire.id }),
  };
}

interface ConntrackMessage {
  readonly message: number;
  readonly flags: number;
  readonly family: Family | undefined;
  readonly sequence: number;
}

const encode = (header: ConntrackMessage, entry: WireEntry): Uint8Array => encodeTable(header, entryTable, entry);

function encodeTable<T>(header: ConntrackMessage, table: AttributeTable<T>, value: T): Uint8Array {
  const out = new MessageWriter(256);
  const start = out.beginMessage({
    type: messageType(header.message),
    flags: NLM_F.REQUEST | header.flags,
    sequence: header.sequence,
  });
  out.u8(familyNumber(header.family));
  out.u8(0);
  out.be16(0);
  writeTable(out, table, value);
  out.endMessage(start);
  return out.bytes();
}

export const encodeConntrackDump = (family: Family | undefined, sequence: number): Uint8Array =>
  encode({ message: MSG.GET, flags: NLM_F.DUMP, family, sequence }, {});

/** Everything the namespace tracks is forgotten. */
export const encodeConntrackFlush = (sequence: number): Uint8Array =>
  encode({ message: MSG.DELETE, flags: NLM_F.ACK, family: undefined, sequence }, {});

/** One end of one direction of a connection. */
export interface ConntrackEnd {
  readonly direction: "original" | "reply";
  readonly end: "source" | "destination";
  readonly address: IpAddress;
}

/**
 * Every connection with this address at this end is forgotten; the kernel looks for them itself. Since Linux 6.8; an older one refuses (EINVAL), because it misses
 * the rest of the tuple.
 */
export function encodeConntrackForget({ address, direction, end }: ConntrackEnd, sequence: number): Uint8Array {
  const { family } = address;
  const ends = { ip: { [`${end}${family}`]: address } };
  const match: WireMatch = { [direction]: ends, filter: { [direction]: FILTER[end] } };
  return encodeTable({ message: MSG.DELETE, flags: NLM_F.ACK, family, sequence }, matchTable, match);
}

export function encodeConntrackDelete(entry: ConntrackEntry, sequence: number): Uint8Array {
  return encode(
    { message: MSG.DELETE, flags: NLM_F.ACK, family: entry.family, sequence },
    {
      original: tupleToWire(entry.original),
      ...(entry.id === undefined ? {} : { id: entry.id }),
      ...(entry.zone === 0 ? {} : { zone: entry.zone }),
    },
  );
}
