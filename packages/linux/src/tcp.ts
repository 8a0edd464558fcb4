/**
 * What TCP connections of routing protocols ask of the kernel beyond an address: signed segments (RFC 2385), TTLs that prove how near the other end is
 * (RFC 5082), and connections that come in as descriptors, so that both can be set on them. Constants: linux/tcp.h, linux/in.h, linux/in6.h, linux/sockios.h.
 */
import { closeSync } from "node:fs";
import { addressBytes, addressFromBytes, type Family, formatAddress, type IpAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import {
  ERRNO,
  errnoName,
  kernelError,
  lastErrno,
  type PollHandle,
  pollReadable,
  sysAccept,
  sysIoctl,
  sysSetSockOpt,
  trySetSockOpt,
} from "./libc.ts";

/** Terms of one connection, ours or the peer's; what is absent is left as the kernel has it. */
export interface TcpTerms {
  /** RFC 2385: segments are signed, and unsigned or wrongly signed ones are dropped. 1 to 80 bytes of UTF-8. */
  readonly password?: string;
  /** Of packets we send, 1 to 255. */
  readonly ttl?: number;
  /** Packets that come with less are dropped, 1 to 255 (RFC 5082: 255 for a neighbour on the link, 256 − hops in general). */
  readonly minTtl?: number;
}

const IPPROTO_IP = 0;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;
const IP_TTL = [IPPROTO_IP, 2] as const;
const IP_MINTTL = [IPPROTO_IP, 21] as const;
const IPV6_UNICAST_HOPS = [IPPROTO_IPV6, 16] as const;
const IPV6_MINHOPCOUNT = [IPPROTO_IPV6, 73] as const;
const TCP_MD5SIG = [IPPROTO_TCP, 14] as const;
export const LONGEST_TCP_PASSWORD = 80;

/** TTLs of a socket; on a listener `ttl` is that of the answers to connections. @throws CalicoError KERNEL, BAD_INPUT */
export function setTcpTtl(fd: number, family: Family, { ttl, minTtl }: Pick<TcpTerms, "ttl" | "minTtl">): void {
  for (const value of [ttl, minTtl]) {
    if (value !== undefined && !(Number.isInteger(value) && value >= 1 && value <= 255)) {
      throw new CalicoError("BAD_INPUT", `a TTL is 1 to 255, not ${value}`);
    }
  }
  if (ttl !== undefined) sysSetSockOpt(fd, family === 4 ? IP_TTL : IPV6_UNICAST_HOPS, ttl);
  if (minTtl !== undefined) sysSetSockOpt(fd, family === 4 ? IP_MINTTL : IPV6_MINHOPCOUNT, minTtl);
}

/** Back to what the kernel does by itself. */
export function resetTcpTtl(fd: number, family: Family): void {
  sysSetSockOpt(fd, family === 4 ? IP_TTL : IPV6_UNICAST_HOPS, -1);
  sysSetSockOpt(fd, family === 4 ? IP_MINTTL : IPV6_MINHOPCOUNT, 0);
}

/**
 * The password of segments from and to an address: on a socket that is to connect, that stands, or that listens (there, one for each peer; connections of others are
 * not touched). Undefined takes it away. Changing it on a standing connection keeps the connection if the other end changes too before it gives up.
 * @throws CalicoError BAD_INPUT (empty, longer than 80 bytes), KERNEL (ENOPROTOOPT: a kernel without CONFIG_TCP_MD5SIG)
 */
export function setTcpPassword(fd: number, peer: IpAddress, password: string | undefined): void {
  const key = new TextEncoder().encode(password ?? "");
  if (password !== undefined && (key.length === 0 || key.length > LONGEST_TCP_PASSWORD)) {
    throw new CalicoError(
      "BAD_INPUT",
      `a TCP MD5 password has 1 to ${LONGEST_TCP_PASSWORD} bytes, this one has ${key.length}`,
    );
  }
  // struct tcp_md5sig: sockaddr_storage (128), flags, prefix length, key length (16 bits, native order), interface (32), key (80).
  const option = new Uint8Array(216);
  option.set(socketAddressOf(peer));
  new Uint16Array(option.buffer, 130, 1)[0] = key.length;
  option.set(key, 136);
  if (trySetSockOpt(fd, TCP_MD5SIG, option)) return;
  const errno = lastErrno();
  if (password === undefined && errno === ERRNO.ENOENT) return;
  const hint = errnoName(errno) === "ENOPROTOOPT" ? { hint: "this kernel lacks CONFIG_TCP_MD5SIG" } : {};
  throw kernelError({ errno, operation: `set the TCP MD5 password of ${formatAddress(peer)}` }, hint);
}

/** All terms at once. */
export function setTcpTerms(fd: number, peer: IpAddress, terms: TcpTerms): void {
  setTcpTtl(fd, peer.family, terms);
  if (terms.password !== undefined) setTcpPassword(fd, peer, terms.password);
}

function socketAddressOf({ family, value }: IpAddress): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? 16 : 28);
  new Uint16Array(bytes.buffer, 0, 1)[0] = family === 4 ? 2 : 10;
  bytes.set(addressBytes({ family, value }), family === 4 ? 4 : 8);
  return bytes;
}

export interface AcceptedTcp {
  /** Non-blocking; the caller's to close. */
  readonly fd: number;
  readonly address: IpAddress;
  readonly port: number;
  /** Interface index a link-local peer came in by; 0 otherwise. */
  readonly link: number;
}

/** The listener can take no more for now (EMFILE and its like): polling on would spin. */
const PAUSE_MS = 500;

/**
 * Takes connections off a listener as they come. Disposing closes the listener.
 * `onError`: a connection could not be taken; after a short pause it is tried again.
 */
export function acceptTcp(
  listener: number,
  onConnection: (connection: AcceptedTcp) => void,
  onError: (error: CalicoError) => void,
): Disposable {
  let handle: PollHandle | undefined;
  let pause: NodeJS.Timeout | undefined;
  const begin = (): void => {
    pause = undefined;
    handle = pollReadable(listener, onReadable);
  };
  const onReadable = (): void => {
    while (handle !== undefined) {
      const { fd, from } = sysAccept(listener);
      if (fd >= 0) {
        onConnection({ fd, ...endpointOf(from) });
        continue;
      }
      if (fd === -ERRNO.EAGAIN) return;
      // The peer was gone before we came to it.
      if (fd === -ERRNO.ECONNABORTED) continue;
      handle.close();
      handle = undefined;
      pause = setTimeout(begin, PAUSE_MS);
      onError(kernelError({ errno: -fd, operation: "accept a connection" }));
    }
  };
  begin();
  return {
    [Symbol.dispose]() {
      clearTimeout(pause);
      handle?.close();
      handle = undefined;
      closeSync(listener);
    },
  };
}

function endpointOf(raw: Uint8Array): Omit<AcceptedTcp, "fd"> {
  const port = ((raw[2] ?? 0) << 8) | (raw[3] ?? 0);
  if (raw.length < 28) return { address: addressFromBytes(raw.slice(4, 8)), port, link: 0 };
  return { address: addressFromBytes(raw.slice(8, 24)), port, link: new Uint32Array(raw.slice(24, 28).buffer)[0] ?? 0 };
}

const SIOCGIFNAME = 0x8910;

/** Name of an interface, in the namespace of the socket. @throws CalicoError KERNEL (ENODEV) */
export function interfaceName(fd: number, link: number): string {
  const request = new Uint8Array(40);
  new Int32Array(request.buffer, 16, 1)[0] = link;
  sysIoctl(fd, SIOCGIFNAME, request);
  return new TextDecoder().decode(request.subarray(0, request.indexOf(0)));
}
