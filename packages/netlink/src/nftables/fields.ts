/** Packet and connection fields by nft's names: where they are, how long they are, which set key type fits them. */
import type { NftDataType, NftExpr, NftRegister } from "./values.ts";

export interface NftFieldInfo {
  readonly type: NftDataType;
  /** Bytes the load fills, before padding to the register. */
  readonly length: number;
  /** In its header; 0 for what is not in the packet. */
  readonly offset: number;
  load(dreg: NftRegister): NftExpr;
}

export type NftField =
  | "ip saddr"
  | "ip daddr"
  | "ip6 saddr"
  | "ip6 daddr"
  | "ether saddr"
  | "ether daddr"
  | "th sport"
  | "th dport"
  | "l4proto"
  | "iifname"
  | "oifname"
  | "iifgroup"
  | "oifgroup"
  | "mark"
  | "ct mark";

function payload(
  type: NftDataType,
  base: "link" | "network" | "transport",
  at: { readonly offset: number; readonly length: number },
): NftFieldInfo {
  return { type, ...at, load: (dreg) => ({ kind: "payload", base, ...at, dreg }) };
}

type MetaField = "l4proto" | "iifname" | "oifname" | "iifgroup" | "oifgroup" | "mark";

const meta = (type: NftDataType, key: MetaField, length: number): NftFieldInfo => ({
  type,
  length,
  offset: 0,
  load: (dreg) => ({ kind: "meta", key, dreg }),
});

/** Offsets: RFC 791 §3.1, RFC 8200 §3, RFC 9293 §3.1 (ports lie at the same place in TCP, UDP, SCTP, UDPLite). */
export const FIELDS: Readonly<Record<NftField, NftFieldInfo>> = {
  "ip saddr": payload("ipv4_addr", "network", { offset: 12, length: 4 }),
  "ip daddr": payload("ipv4_addr", "network", { offset: 16, length: 4 }),
  "ip6 saddr": payload("ipv6_addr", "network", { offset: 8, length: 16 }),
  "ip6 daddr": payload("ipv6_addr", "network", { offset: 24, length: 16 }),
  "ether saddr": payload("ether_addr", "link", { offset: 6, length: 6 }),
  "ether daddr": payload("ether_addr", "link", { offset: 0, length: 6 }),
  "th sport": payload("inet_service", "transport", { offset: 0, length: 2 }),
  "th dport": payload("inet_service", "transport", { offset: 2, length: 2 }),
  l4proto: meta("inet_proto", "l4proto", 1),
  iifname: meta("ifname", "iifname", 16),
  oifname: meta("ifname", "oifname", 16),
  iifgroup: meta("devgroup", "iifgroup", 4),
  oifgroup: meta("devgroup", "oifgroup", 4),
  mark: meta("mark", "mark", 4),
  "ct mark": { type: "mark", length: 4, offset: 0, load: (dreg) => ({ kind: "ct", key: "mark", dreg }) },
};
