/** A request of rtnetlink before it has a sequence number: several can go into one datagram. */
import type { Family, IpAddress } from "@calico-ts/net";
import { NLM_F } from "../codec/message.ts";
import { MessageWriter } from "../codec/writer.ts";

export interface RouteRequest {
  /** RTM_*. */
  readonly type: number;
  readonly flags: number;
  /** For messages to people: what is asked, of what. */
  readonly operation: string;
  body(out: MessageWriter): void;
}

export const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
  NEWRULE: 32,
  DELRULE: 33,
  GETRULE: 34,
  NEWQDISC: 36,
  DELQDISC: 37,
  GETQDISC: 38,
  NEWTFILTER: 44,
  GETTFILTER: 46,
  NEWNSID: 88,
  GETNSID: 90,
} as const;

export const AF = { UNSPEC: 0, INET: 2, BRIDGE: 7, INET6: 10 } as const;

export const familyNumber = (family: Family | undefined): number =>
  family === undefined ? AF.UNSPEC : family === 4 ? AF.INET : AF.INET6;

export const familyOf = (number: number): Family | undefined =>
  number === AF.INET ? 4 : number === AF.INET6 ? 6 : undefined;

/** Whether an object may or must exist: `ip … add` and `ip … replace`. */
export type WriteMode = "add" | "replace";

export const modeFlags = (mode: WriteMode): number => NLM_F.CREATE | (mode === "add" ? NLM_F.EXCL : NLM_F.REPLACE);

/** `quiet`: the kernel answers only if it refuses (netlink_rcv_skb acknowledges errors in any case). */
export function writeRequest(out: MessageWriter, request: RouteRequest, sequence: number, quiet = false): void {
  const flags = NLM_F.REQUEST | (quiet ? request.flags & ~NLM_F.ACK : request.flags);
  const start = out.beginMessage({ type: request.type, flags, sequence });
  request.body(out);
  out.endMessage(start);
}

export function encodeRequest(request: RouteRequest, sequence: number): Uint8Array {
  const out = new MessageWriter(256);
  writeRequest(out, request, sequence);
  return out.bytes();
}

export const isUnspecified = (address: IpAddress): boolean => address.value === 0n;
