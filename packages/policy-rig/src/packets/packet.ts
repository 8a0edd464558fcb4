/** A packet of a case: who sends what to whom. Protocols are IANA numbers. */
import type { Family } from "@calico-ts/net";
import { protocolName } from "@calico-ts/net";
import { addressOf, NODE_ADDRESS, slotOf } from "../lab/plan.ts";

/** A local pod by its slot, an address outside (remote pods too), or the node itself. */
export type PacketParty = { readonly pod: string } | { readonly address: string } | { readonly node: true };

export interface RigPacket {
  readonly from: PacketParty;
  readonly to: PacketParty;
  readonly family: Family;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  /** The source address it pretends to have. */
  readonly forged?: string;
  /** A TCP packet that no connection can begin with. */
  readonly invalid?: true;
  /** What somebody else marked it with, for packets of the node. */
  readonly mark?: number;
}

export const PROTOCOL = { ICMP: 1, IPIP: 4, TCP: 6, UDP: 17, ICMP6: 58, SCTP: 132, UDPLITE: 136, OTHER: 253 } as const;

export const isPod = (party: PacketParty): party is { readonly pod: string } => "pod" in party;

function partyAddress(party: PacketParty, family: Family): string {
  if ("address" in party) return party.address;
  if ("node" in party) return NODE_ADDRESS[family];
  const slot = slotOf(party.pod);
  return slot === undefined ? "" : addressOf(slot, family);
}

export const sourceOf = (packet: RigPacket): string => packet.forged ?? partyAddress(packet.from, packet.family);
export const destinationOf = (packet: RigPacket): string => partyAddress(packet.to, packet.family);

/** Packets with equal keys are one connection to the kernel, whichever way round. */
export function flowKey(packet: RigPacket): string {
  const { protocol, sourcePort, destinationPort, icmp } = packet;
  // Echoes get an identifier of their own each.
  if (icmp !== undefined) return "";
  const ends = [`${sourceOf(packet)} ${sourcePort ?? ""}`, `${destinationOf(packet)} ${destinationPort ?? ""}`];
  return `${protocol} ${ends.toSorted().join(" ")}`;
}

/** The same for the connection as it is when its source has been rewritten to the node's. */
export const rewrittenFlowKey = (packet: RigPacket): string =>
  isPod(packet.from) && "address" in packet.to ? flowKey({ ...packet, forged: NODE_ADDRESS[packet.family] }) : "";

const partyText = (party: PacketParty): string =>
  "pod" in party ? party.pod : "node" in party ? "the node" : party.address;

export function packetText(packet: RigPacket): string {
  const { family, protocol, sourcePort, destinationPort, icmp, forged, invalid } = packet;
  const what = [
    `IPv${family}`,
    protocolName(protocol),
    ...(icmp === undefined ? [] : [`type ${icmp.type} code ${icmp.code}`]),
    ...(destinationPort === undefined ? [] : [`port ${sourcePort ?? "?"} to ${destinationPort}`]),
    ...(forged === undefined ? [] : [`claiming to be ${forged}`]),
    ...(invalid === true ? ["of no connection"] : []),
  ];
  return `${partyText(packet.from)} → ${partyText(packet.to)}: ${what.join(" ")}`;
}
