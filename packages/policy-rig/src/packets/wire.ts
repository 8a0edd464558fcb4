/**
 * Packets as bytes, and the number by which a receiver knows one again. The number travels where nothing on the way looks: the
 * sequence number of TCP, the initiate tag of SCTP, the unused word of an ICMP error, the payload of the rest. Checksums are
 * right: connection tracking calls packets with wrong ones invalid.
 *
 * Formats: RFC 791, 8200 (IP), 768 (UDP), 9293 (TCP), 792, 4443 (ICMP), 9260 (SCTP), 3828 (UDP-Lite).
 */
import { addressBytes, addressFromBytes, formatAddress, parseAddress } from "@calico-ts/net";
import type { Family } from "@calico-ts/net";
import type { RigPacket } from "./packet.ts";
import { destinationOf, PROTOCOL, sourceOf } from "./packet.ts";

const HEADER: Readonly<Record<Family, number>> = { 4: 20, 6: 40 };

export function packetBytes(packet: RigPacket, id: number): Uint8Array {
  return ipPacket(packet.family, packet.protocol, {
    source: sourceOf(packet),
    destination: destinationOf(packet),
    body: transport(packet, id),
  });
}

const addresses = new Map<string, Uint8Array>();

function bytesOf(address: string): Uint8Array {
  const known = addresses.get(address);
  if (known !== undefined) return known;
  const bytes = addressBytes(parseAddress(address));
  addresses.set(address, bytes);
  return bytes;
}

interface Envelope {
  readonly source: string;
  readonly destination: string;
  readonly body: Uint8Array;
}

function ipPacket(family: Family, protocol: number, { source, destination, body }: Envelope): Uint8Array {
  const header = HEADER[family];
  const bytes = new Uint8Array(header + body.length);
  const view = new DataView(bytes.buffer);
  const from = bytesOf(source);
  const to = bytesOf(destination);
  if (family === 4) {
    view.setUint8(0, 0x45);
    view.setUint16(2, bytes.length);
    view.setUint8(8, 64);
    view.setUint8(9, protocol);
    bytes.set(from, 12);
    bytes.set(to, 16);
    view.setUint16(10, internetChecksum(bytes.subarray(0, header)));
  } else {
    view.setUint32(0, 0x6000_0000);
    view.setUint16(4, body.length);
    view.setUint8(6, protocol);
    view.setUint8(7, 64);
    bytes.set(from, 8);
    bytes.set(to, 24);
  }
  bytes.set(body, header);
  sealTransport(bytes, header, protocol);
  return bytes;
}

function transport(packet: RigPacket, id: number): Uint8Array {
  const { protocol, sourcePort = 0, destinationPort = 0, icmp, invalid } = packet;
  switch (protocol) {
    case PROTOCOL.TCP:
      return tcp({ sourcePort, destinationPort, sequence: id, flags: invalid === true ? 0 : TCP_SYN });
    case PROTOCOL.UDP:
    case PROTOCOL.UDPLITE:
      return udp(sourcePort, destinationPort, id, protocol);
    case PROTOCOL.SCTP:
      return sctpInit(sourcePort, destinationPort, id);
    case PROTOCOL.ICMP:
    case PROTOCOL.ICMP6: {
      const { type, code } = icmp ?? { type: 8, code: 0 };
      return words([(type << 24) | (code << 16), echoIdentity(id), id, 0]);
    }
    default:
      return words([id, id]);
  }
}

/** Identifier and sequence number: the identifier is what tells echoes apart, so it gets the half that changes. */
const echoIdentity = (id: number): number => ((id << 16) | (id >>> 16)) >>> 0;

const TCP_SYN = 0x02;
const TCP_SYN_ACK = 0x12;

interface TcpHeader {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledged?: number;
  readonly flags: number;
}

const tcp = ({ sourcePort, destinationPort, sequence, acknowledged = 0, flags }: TcpHeader): Uint8Array =>
  words([ports(sourcePort, destinationPort), sequence, acknowledged, (5 << 28) | (flags << 16) | 1024, 0]);

const udp = (sourcePort: number, destinationPort: number, id: number, protocol: number): Uint8Array =>
  words([ports(sourcePort, destinationPort), protocol === PROTOCOL.UDP ? 12 << 16 : 0, id]);

/** One INIT chunk: streams 1 and 1, a window of 64 KiB. */
const sctpInit = (sourcePort: number, destinationPort: number, id: number): Uint8Array =>
  words([ports(sourcePort, destinationPort), 0, 0, 0x0100_0014, id, 0x1_0000, 0x0001_0001, 1]);

const ports = (source: number, destination: number): number => ((source << 16) | destination) >>> 0;

function words(list: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(list.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [at, word] of list.entries()) view.setUint32(at * 4, word >>> 0);
  return bytes;
}

/** Where the checksum of each protocol is. */
const CHECKSUM_AT: Readonly<Record<number, number>> = {
  [PROTOCOL.TCP]: 16,
  [PROTOCOL.UDP]: 6,
  [PROTOCOL.UDPLITE]: 6,
  [PROTOCOL.ICMP]: 2,
  [PROTOCOL.ICMP6]: 2,
};

function sealTransport(bytes: Uint8Array, header: number, protocol: number): void {
  const body = bytes.subarray(header);
  const view = new DataView(bytes.buffer, header);
  if (protocol === PROTOCOL.SCTP) return view.setUint32(8, crc32c(body), true);
  const at = CHECKSUM_AT[protocol];
  if (at === undefined) return;
  // Linux checks UDP-Lite with UDP's number in the pseudo header (udplite_error in nf_conntrack_proto_udp.c), so that packets as
  // RFC 3828 wants them are invalid to it whatever the rules say. The rig is about rules.
  const number = protocol === PROTOCOL.UDPLITE ? PROTOCOL.UDP : protocol;
  const pseudo =
    protocol === PROTOCOL.ICMP ? 0 : sum(bytes.subarray(header === 20 ? 12 : 8, header)) + number + body.length;
  const checksum = internetChecksum(body, pseudo);
  view.setUint16(at, checksum === 0 && protocol !== PROTOCOL.ICMP ? 0xffff : checksum);
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let at = 0; at < bytes.length; at += 2) total += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return total;
}

/** RFC 1071. */
function internetChecksum(bytes: Uint8Array, start = 0): number {
  let total = sum(bytes) + start;
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x1_0000);
  return ~total & 0xffff;
}

const CRC32C = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  return crc;
});

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) crc = (CRC32C[(crc ^ byte) & 255] ?? 0) ^ (crc >>> 8);
  return ~crc >>> 0;
}

const ICMP_ERRORS = new Map<number, number>([
  [PROTOCOL.ICMP, 3],
  [PROTOCOL.ICMP6, 1],
]);

/** The number in a packet, or undefined for one that is none of ours. `header`: where its transport header begins. */
export function readId(bytes: Uint8Array, protocol: number, header: number): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const at = header + idOffset(protocol, bytes[header] ?? 0);
  return at + 4 <= bytes.length ? view.getUint32(at) : undefined;
}

function idOffset(protocol: number, first: number): number {
  switch (protocol) {
    case PROTOCOL.TCP:
      return 4;
    case PROTOCOL.SCTP:
      return 16;
    case PROTOCOL.UDP:
    case PROTOCOL.UDPLITE:
      return 8;
    case PROTOCOL.ICMP:
    case PROTOCOL.ICMP6:
      return ICMP_ERRORS.get(protocol) === first ? 4 : 8;
    default:
      return 0;
  }
}

/** Family, protocol and start of the transport header. Extension headers are none of ours. */
export function ipHeader(bytes: Uint8Array): { readonly protocol: number; readonly header: number } {
  return (bytes[0] ?? 0) >> 4 === 4
    ? { protocol: bytes[9] ?? 0, header: ((bytes[0] ?? 0) & 15) * 4 }
    : { protocol: bytes[6] ?? 0, header: 40 };
}

/** Who sent a packet, as it says: address and, where the protocol has them, port. */
export function readSource(bytes: Uint8Array): { readonly address: string; readonly port: number } {
  const { header } = ipHeader(bytes);
  const address = bytes.slice(...(header === 40 ? [8, 24] : [12, 16]));
  const port = ((bytes[header] ?? 0) << 8) | (bytes[header + 1] ?? 0);
  return { address: formatAddress(addressFromBytes(address)), port };
}

export type AnswerKind = "reply" | "error";

/** How the receiver of the packet answers, in a way that belongs to the connection; most do not. The same for equal packets. */
export function answerTo(packet: RigPacket): AnswerKind | undefined {
  const { protocol, icmp, invalid, to, sourcePort = 0 } = packet;
  if (invalid === true) return undefined;
  // The node has refused the connection by then: it has a protocol stack.
  if (protocol === PROTOCOL.TCP && "node" in to) return undefined;
  if (protocol === PROTOCOL.TCP || protocol === PROTOCOL.UDP) {
    return sourcePort % 8 === 0 ? "reply" : sourcePort % 8 === 1 ? "error" : undefined;
  }
  const isEcho = icmp !== undefined && (icmp.type === 8 || icmp.type === 128) && icmp.code === 0;
  return isEcho ? "reply" : undefined;
}

/** What the receiver sends back: an answer of the protocol, or an ICMP error about the packet. */
export function answerBytes(
  packet: RigPacket,
  kind: AnswerKind,
  id: { readonly own: number; readonly of: number },
): Uint8Array {
  const { family, protocol, sourcePort = 0, destinationPort = 0 } = packet;
  const ends = { source: destinationOf(packet), destination: sourceOf(packet) };
  if (kind === "error") {
    const v4 = family === 4;
    const original = packetBytes(packet, id.of);
    // Destination unreachable: port.
    const body = new Uint8Array(8 + original.length);
    body.set(words([v4 ? 0x0303_0000 : 0x0104_0000, id.own]));
    body.set(original, 8);
    return ipPacket(family, v4 ? PROTOCOL.ICMP : PROTOCOL.ICMP6, { ...ends, body });
  }
  if (protocol === PROTOCOL.TCP) {
    const body = tcp({
      sourcePort: destinationPort,
      destinationPort: sourcePort,
      sequence: id.own,
      acknowledged: id.of + 1,
      flags: TCP_SYN_ACK,
    });
    return ipPacket(family, protocol, { ...ends, body });
  }
  if (protocol === PROTOCOL.UDP) {
    return ipPacket(family, protocol, { ...ends, body: udp(destinationPort, sourcePort, id.own, protocol) });
  }
  // The identifier of the request is what makes it an answer; the number stands behind it.
  return ipPacket(family, protocol, {
    ...ends,
    body: words([family === 4 ? 0 : 129 << 24, echoIdentity(id.of), id.own, 0]),
  });
}
