/**
 * Sockets in a chosen namespace, as file descriptors for Node: `server.listen({ fd })`, `new net.Socket({ fd })`,
 * `dgram.createSocket(…).bind({ fd })`. The socket stays in its namespace while this process goes on in its own.
 *
 * Connections are non-blocking: `connectTcp` returns at once, `awaitConnected` says how it went.
 */
import { closeSync } from "node:fs";
import {
  addressBytes,
  type Family,
  formatAddress,
  type IpAddress,
  sameAddress,
  addressFromBytes,
} from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { inNamespace } from "./namespace.ts";
import { setTcpTerms, setTcpTtl, type TcpTerms } from "./tcp.ts";
import {
  kernelError,
  pollReadable,
  pollWritable,
  SOCK_NONBLOCK,
  sysBind,
  sysConnect,
  sysGetSockName,
  sysGetSockOptInt,
  sysListen,
  sysRecvFrom,
  sysSendTo,
  sysSetSockOpt,
  sysSocket,
} from "./libc.ts";

const AF = { INET: 2, INET6: 10 } as const;
const SOCK = { STREAM: 1, DGRAM: 2, RAW: 3 } as const;
const IPPROTO = { ICMP: 1, ICMPV6: 58 } as const;
const SOL_SOCKET = 1;
const SO_REUSEADDR = [SOL_SOCKET, 2] as const;
const SO_ERROR = [SOL_SOCKET, 4] as const;
const SO_BINDTODEVICE = [SOL_SOCKET, 25] as const;
const IPV6_V6ONLY = [41, 26] as const;

export interface Place {
  /** A path such as /run/netns/x; absent: the current namespace. */
  readonly netns?: string;
}

export interface Endpoint extends Place {
  readonly address: IpAddress;
  /** 0: the kernel chooses. */
  readonly port: number;
  /** Only this interface. */
  readonly device?: string;
}

const familyNumber = (family: Family): number => (family === 4 ? AF.INET : AF.INET6);

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(address: IpAddress, port: number): Uint8Array {
  const bytes = new Uint8Array(address.family === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, familyNumber(address.family), new Uint8Array(Uint16Array.of(1).buffer)[0] === 1);
  view.setUint16(2, port);
  bytes.set(addressBytes(address), address.family === 4 ? 4 : 8);
  return bytes;
}

const describe = (to: Endpoint): string =>
  `${to.address.family === 4 ? formatAddress(to.address) : `[${formatAddress(to.address)}]`}:${to.port}${to.netns === undefined ? "" : ` in ${to.netns}`}`;

/** Opens a socket in the place and sets it up; closes it again when that fails. */
function open(place: Place, make: () => number, setUp: (fd: number) => void): number {
  const both = (): number => {
    const fd = make();
    try {
      setUp(fd);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  };
  return place.netns === undefined ? both() : inNamespace(place.netns, both);
}

function bindTo(fd: number, endpoint: Endpoint): void {
  if (endpoint.address.family === 6) sysSetSockOpt(fd, IPV6_V6ONLY, 1);
  if (endpoint.device !== undefined) sysSetSockOpt(fd, SO_BINDTODEVICE, new TextEncoder().encode(endpoint.device));
  sysBind(fd, socketAddress(endpoint.address, endpoint.port), describe(endpoint));
}

/** @throws CalicoError KERNEL (EADDRINUSE, EADDRNOTAVAIL), NOT_FOUND (no such namespace) */
export function listenTcp(endpoint: Endpoint & { readonly backlog?: number; readonly ttl?: number }): number {
  return open(
    endpoint,
    () => sysSocket(familyNumber(endpoint.address.family), SOCK.STREAM | SOCK_NONBLOCK, 0),
    (fd) => {
      sysSetSockOpt(fd, SO_REUSEADDR, 1);
      bindTo(fd, endpoint);
      if (endpoint.ttl !== undefined) setTcpTtl(fd, endpoint.address.family, { ttl: endpoint.ttl });
      sysListen(fd, endpoint.backlog ?? 511);
    },
  );
}

export function bindUdp(endpoint: Endpoint): number {
  return open(
    endpoint,
    () => sysSocket(familyNumber(endpoint.address.family), SOCK.DGRAM | SOCK_NONBLOCK, 0),
    (fd) => bindTo(fd, endpoint),
  );
}

/** A UDP socket that sends to, and receives from, one peer only; errors that ICMP reports surface on it. */
export function connectUdp(endpoint: Endpoint): number {
  return open(
    endpoint,
    () => sysSocket(familyNumber(endpoint.address.family), SOCK.DGRAM | SOCK_NONBLOCK, 0),
    (fd) => sysConnect(fd, socketAddress(endpoint.address, endpoint.port), describe(endpoint)),
  );
}

export interface TcpTarget extends Endpoint, TcpTerms {
  readonly source?: { readonly address: IpAddress; readonly port?: number };
}

/** Begins a connection. @throws CalicoError KERNEL for what fails at once (ENETUNREACH). */
export function connectTcp(target: TcpTarget): number {
  return open(
    target,
    () => sysSocket(familyNumber(target.address.family), SOCK.STREAM | SOCK_NONBLOCK, 0),
    (fd) => {
      if (target.device !== undefined) sysSetSockOpt(fd, SO_BINDTODEVICE, new TextEncoder().encode(target.device));
      if (target.source !== undefined) {
        const { address, port = 0 } = target.source;
        sysSetSockOpt(fd, SO_REUSEADDR, 1);
        sysBind(fd, socketAddress(address, port), describe({ address, port }));
      }
      setTcpTerms(fd, target.address, target);
      sysConnect(fd, socketAddress(target.address, target.port), describe(target));
    },
  );
}

/**
 * Resolves when the connection stands. The descriptor stays open either way: the caller closes it.
 * @throws CalicoError KERNEL (ECONNREFUSED, EHOSTUNREACH, …), TIMEOUT
 */
export async function awaitConnected(fd: number, timeoutMs: number): Promise<void> {
  const errno = await new Promise<number | undefined>((resolve) => {
    const timer = setTimeout(() => settle(undefined), timeoutMs);
    const handle = pollWritable(fd, () => settle(sysGetSockOptInt(fd, SO_ERROR)));
    const settle = (result: number | undefined): void => {
      clearTimeout(timer);
      handle.close();
      resolve(result);
    };
  });
  if (errno === undefined) throw new CalicoError("TIMEOUT", `no answer to the connection in ${timeoutMs} ms`);
  if (errno !== 0) throw kernelError({ errno, operation: "connect" });
}

/** The address and port a socket is bound to. */
export function localEndpoint(fd: number): { readonly address: IpAddress; readonly port: number } {
  const raw = sysGetSockName(fd);
  const port = ((raw[2] ?? 0) << 8) | (raw[3] ?? 0);
  return { address: addressFromBytes(raw.length >= 28 ? raw.slice(8, 24) : raw.slice(4, 8)), port };
}

/** A raw ICMP or ICMPv6 socket, non-blocking. */
export function pingSocket(options: Place & { readonly family: Family }): number {
  const { family } = options;
  const protocol = family === 4 ? IPPROTO.ICMP : IPPROTO.ICMPV6;
  return open(
    options,
    () => sysSocket(familyNumber(family), SOCK.RAW | SOCK_NONBLOCK, protocol),
    () => {},
  );
}

export interface PingOptions extends Place {
  readonly address: IpAddress;
  readonly timeoutMs: number;
  /** Bytes after the ICMP header; 56 when absent. */
  readonly size?: number;
}

let nextPing = process.pid & 0xffff;

/**
 * One echo request; resolves to the round trip in milliseconds.
 * @throws CalicoError TIMEOUT; KERNEL when it cannot be sent (no route, refused by the output path)
 */
export async function ping(options: PingOptions): Promise<number> {
  const { address, timeoutMs } = options;
  const fd = pingSocket({ family: address.family, ...(options.netns === undefined ? {} : { netns: options.netns }) });
  try {
    nextPing = (nextPing + 1) & 0xffff;
    const id = nextPing;
    const started = performance.now();
    const sent = sysSendTo(fd, echoRequest(address.family, id, options.size ?? 56), socketAddress(address, 0));
    if (sent < 0) throw kernelError({ errno: -sent, operation: `ping ${formatAddress(address)}` });
    const answered = await awaitEcho(fd, { address, id, timeoutMs });
    if (!answered) throw new CalicoError("TIMEOUT", `no echo reply from ${formatAddress(address)} in ${timeoutMs} ms`);
    return performance.now() - started;
  } finally {
    closeSync(fd);
  }
}

interface EchoWanted {
  readonly address: IpAddress;
  readonly id: number;
  readonly timeoutMs: number;
}

function awaitEcho(fd: number, wanted: EchoWanted): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => settle(false), wanted.timeoutMs);
    const buffer = new Uint8Array(65_536);
    const handle = pollReadable(fd, () => {
      for (;;) {
        const { length, from } = sysRecvFrom(fd, buffer);
        if (length < 0) return;
        if (isEcho(buffer.subarray(0, length), from, wanted)) return settle(true);
      }
    });
    const settle = (answered: boolean): void => {
      clearTimeout(timer);
      handle.close();
      resolve(answered);
    };
  });
}

/** A raw socket sees every ICMP packet of the namespace: ours has our id and comes from whom we asked. */
function isEcho(packet: Uint8Array, from: Uint8Array, wanted: EchoWanted): boolean {
  const v4 = wanted.address.family === 4;
  // IPv4 raw sockets deliver the IP header too (RFC 791: length in the low half of the first byte).
  const icmp = v4 ? packet.subarray(((packet[0] ?? 0) & 15) * 4) : packet;
  const sender = v4 ? from.slice(4, 8) : from.slice(8, 24);
  return (
    icmp.length >= 8 &&
    icmp[0] === (v4 ? 0 : 129) &&
    (((icmp[4] ?? 0) << 8) | (icmp[5] ?? 0)) === wanted.id &&
    sameAddress(addressFromBytes(sender), wanted.address)
  );
}

/** RFC 792, RFC 4443 §4.1. The kernel fills in the ICMPv6 checksum, not the ICMP one. */
function echoRequest(family: Family, id: number, size: number): Uint8Array {
  const packet = new Uint8Array(8 + size);
  packet.set([family === 4 ? 8 : 128, 0, 0, 0, id >> 8, id & 255, 0, 1]);
  if (family === 4) {
    const sum = checksum(packet);
    packet[2] = sum >> 8;
    packet[3] = sum & 255;
  }
  return packet;
}

/** RFC 1071. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
