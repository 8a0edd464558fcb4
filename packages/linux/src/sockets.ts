/**
 * Sockets in a chosen namespace, as file descriptors for Node: `server.listen({ fd })`, `new net.Socket({ fd })`,
 * `dgram.createSocket(…).bind({ fd })`. The socket stays in its namespace while this process goes on in its own.
 *
 * Connections are non-blocking: `connectTcp` returns at once, `awaitConnected` says how it went.
 */
import { closeSync } from "node:fs";
import { addressBytes, type Family, formatAddress, type IpAddress, addressFromBytes } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { inNamespace } from "./namespace.ts";
import { setTcpTerms, setTcpTtl, type TcpTerms } from "./tcp.ts";
import {
  kernelError,
  pollWritable,
  SOCK_NONBLOCK,
  sysBind,
  sysConnect,
  sysGetSockName,
  sysGetSockOptInt,
  sysListen,
  sysSetSockOpt,
  sysSocket,
} from "./libc.ts";

const AF = { INET: 2, INET6: 10 } as const;
const SOCK = { STREAM: 1, DGRAM: 2 } as const;
const SOL_SOCKET = 1;
const SO_REUSEADDR = [SOL_SOCKET, 2] as const;
const SO_ERROR = [SOL_SOCKET, 4] as const;
const SO_BINDTODEVICE = [SOL_SOCKET, 25] as const;
const IPV6_V6ONLY = [41, 26] as const;
/** Of an address that is not there (yet); linux/in.h, linux/in6.h. */
const FREEBIND = { 4: [0, 15], 6: [41, 78] } as const;

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

export const familyNumber = (family: Family): number => (family === 4 ? AF.INET : AF.INET6);

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: IpAddress, port: number): Uint8Array {
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
export function openIn(place: Place, make: () => number, setUp: (fd: number) => void): number {
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

export interface ListenEndpoint extends Endpoint {
  readonly backlog?: number;
  readonly ttl?: number;
  /** The address need not be there: connections come in as soon as it is. */
  readonly freeBind?: boolean;
}

/** @throws CalicoError KERNEL (EADDRINUSE, EADDRNOTAVAIL), NOT_FOUND (no such namespace) */
export function listenTcp(endpoint: ListenEndpoint): number {
  return openIn(
    endpoint,
    () => sysSocket(familyNumber(endpoint.address.family), SOCK.STREAM | SOCK_NONBLOCK, 0),
    (fd) => {
      sysSetSockOpt(fd, SO_REUSEADDR, 1);
      if (endpoint.freeBind === true) sysSetSockOpt(fd, FREEBIND[endpoint.address.family], 1);
      bindTo(fd, endpoint);
      if (endpoint.ttl !== undefined) setTcpTtl(fd, endpoint.address.family, { ttl: endpoint.ttl });
      sysListen(fd, endpoint.backlog ?? 511);
    },
  );
}

export function bindUdp(endpoint: Endpoint): number {
  return openIn(
    endpoint,
    () => sysSocket(familyNumber(endpoint.address.family), SOCK.DGRAM | SOCK_NONBLOCK, 0),
    (fd) => bindTo(fd, endpoint),
  );
}

/** A UDP socket that sends to, and receives from, one peer only; errors that ICMP reports surface on it. */
export function connectUdp(endpoint: Endpoint): number {
  return openIn(
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
  return openIn(
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
