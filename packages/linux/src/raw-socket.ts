/**
 * Packets as bytes, in a chosen namespace: on a link (packet(7), without the Ethernet header) or at the IP layer (raw(7), with the IP
 * header given by the caller). Everything here is synchronous and never waits: for tests and probes that send many packets and look
 * at what arrives.
 */
import { closeSync } from "node:fs";
import { addressBytes, type Family, type IpAddress, parseMac } from "@calico-ts/net";
import { inNamespace } from "./namespace.ts";
import {
  ERRNO,
  kernelError,
  SOCK_NONBLOCK,
  sysBind,
  sysRecv,
  sysSendTo,
  sysSetSockOpt,
  sysSocket,
  trySetSockOpt,
} from "./libc.ts";
import type { Place } from "./sockets.ts";

const AF = { INET: 2, INET6: 10, PACKET: 17 } as const;
const SOCK = { DGRAM: 2, RAW: 3 } as const;
const IPPROTO_RAW = 255;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = [SOL_SOCKET, 33] as const;
const SO_RCVBUF = [SOL_SOCKET, 8] as const;
const SO_MARK = [SOL_SOCKET, 36] as const;
const PACKET_IGNORE_OUTGOING = [263, 23] as const;
const IPV6_HDRINCL = [41, 36] as const;
const ETH_P = { ALL: 0x0003, IP: 0x0800, IPV6: 0x86dd } as const;

const BUFFER_BYTES = 8 << 20;
const littleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

interface Receiving extends Disposable {
  /** The next packet, IP header first, into the buffer: its length, or 0 when there is none. */
  receive(buffer: Uint8Array): number;
}

export interface LinkSocket extends Receiving {
  /** An IP packet, to the station. Packets the kernel refuses (link down, too long) are errors. */
  send(packet: Uint8Array): void;
}

export interface LinkSocketOptions extends Place {
  /** Index of the link in that namespace. */
  readonly link: number;
  /** Whom packets are sent to. */
  readonly peerMac: string;
}

/** Everything that comes in by the link, whatever filters make of it afterwards; what goes out is not seen. */
export function openLinkSocket(options: LinkSocketOptions): LinkSocket {
  const { link, peerMac } = options;
  const address = (protocol: number): Uint8Array => {
    const bytes = new Uint8Array(20); // struct sockaddr_ll
    const view = new DataView(bytes.buffer);
    view.setUint16(0, AF.PACKET, littleEndian);
    view.setUint16(2, protocol);
    view.setInt32(4, link, littleEndian);
    bytes[11] = 6;
    bytes.set(parseMac(peerMac), 12);
    return bytes;
  };
  const fd = opened(options, AF.PACKET, [SOCK.DGRAM, 0], (fd) => {
    sysSetSockOpt(fd, PACKET_IGNORE_OUTGOING, 1);
    sysBind(fd, address(ETH_P.ALL), `link ${link}`);
  });
  const v4 = address(ETH_P.IP);
  const v6 = address(ETH_P.IPV6);
  return {
    send: (packet) => sent(sysSendTo(fd, packet, (packet[0] ?? 0) >> 4 === 4 ? v4 : v6), `send on link ${link}`),
    receive: (buffer) => received(fd, buffer),
    [Symbol.dispose]: () => closeSync(fd),
  };
}

export interface RawSenderOptions extends Place {
  readonly family: Family;
  /** Of the packets, as `meta mark` sees it. */
  readonly mark?: number;
}

export interface RawSender extends Disposable {
  /** A whole IP packet, routed as the namespace's own. False: the kernel refused it (no route, a filter on output). */
  send(packet: Uint8Array, to: IpAddress): boolean;
}

export function openRawSender(options: RawSenderOptions): RawSender {
  const { family, mark } = options;
  const fd = opened(options, family === 4 ? AF.INET : AF.INET6, [SOCK.RAW, IPPROTO_RAW], (fd) => {
    if (family === 6) sysSetSockOpt(fd, IPV6_HDRINCL, 1);
    if (mark !== undefined) sysSetSockOpt(fd, SO_MARK, mark);
  });
  return {
    send: (packet, to) => sysSendTo(fd, packet, socketAddress(to)) >= 0,
    [Symbol.dispose]: () => closeSync(fd),
  };
}

export interface RawReceiverOptions extends Place {
  readonly family: Family;
  readonly protocol: number;
}

/** Copies of packets of the protocol that are delivered to this namespace. IPv6: without the IP header, as raw(7) has it. */
export function openRawReceiver(options: RawReceiverOptions): Receiving {
  const { family, protocol } = options;
  const fd = opened(options, family === 4 ? AF.INET : AF.INET6, [SOCK.RAW, protocol], () => {});
  return {
    receive: (buffer) => received(fd, buffer),
    [Symbol.dispose]: () => closeSync(fd),
  };
}

export type RawReceiver = Receiving;

function opened(
  place: Place,
  family: number,
  [type, protocol]: readonly [number, number],
  setUp: (fd: number) => void,
): number {
  const make = (): number => {
    const fd = sysSocket(family, type | SOCK_NONBLOCK, protocol);
    try {
      if (!trySetSockOpt(fd, SO_RCVBUFFORCE, BUFFER_BYTES)) trySetSockOpt(fd, SO_RCVBUF, BUFFER_BYTES);
      setUp(fd);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  };
  return place.netns === undefined ? make() : inNamespace(place.netns, make);
}

/** struct sockaddr_in or sockaddr_in6 without a port: raw IPv6 sockets refuse one. */
function socketAddress(address: IpAddress): Uint8Array {
  const bytes = new Uint8Array(address.family === 4 ? 16 : 28);
  new DataView(bytes.buffer).setUint16(0, address.family === 4 ? AF.INET : AF.INET6, littleEndian);
  bytes.set(addressBytes(address), address.family === 4 ? 4 : 8);
  return bytes;
}

function sent(result: number, operation: string): void {
  if (result < 0) throw kernelError({ errno: -result, operation });
}

function received(fd: number, buffer: Uint8Array): number {
  for (;;) {
    const length = sysRecv(fd, buffer, 0);
    if (length > 0) return length;
    if (length === 0 || length === -ERRNO.EAGAIN) return 0;
    // An ICMP error that came back for something sent; nobody asked.
    if (-length !== 111 && -length !== 113 && -length !== 101)
      throw kernelError({ errno: -length, operation: "receive" });
  }
}
