/**
 * ICMP and ICMPv6 echo (RFC 792, RFC 4443 section 4) in a chosen namespace: one question with its answer, and a socket for those who keep
 * asking. The other kernel answers, so no program there has to run.
 */
import { closeSync } from "node:fs";
import { addressFromBytes, type Family, formatAddress, type IpAddress, sameAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import {
  kernelError,
  pollReadable,
  SOCK_NONBLOCK,
  sysRecv,
  sysRecvFrom,
  sysSendTo,
  sysSocket,
  trySetSockOpt,
} from "./libc.ts";
import { familyNumber, openIn, type Place, socketAddress } from "./sockets.ts";

const SOCK_RAW = 3;
const IPPROTO = { ICMP: 1, ICMPV6: 58 } as const;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = [SOL_SOCKET, 33] as const;
const HEADER_BYTES = 8;
/** Answers that wait while this process has something else to do. */
const BUFFER_BYTES = 8 << 20;
const LONGEST_PACKET = 65_536;

/** A raw ICMP or ICMPv6 socket, non-blocking. */
export function pingSocket(options: Place & { readonly family: Family }): number {
  const { family } = options;
  const protocol = family === 4 ? IPPROTO.ICMP : IPPROTO.ICMPV6;
  return openIn(
    options,
    () => sysSocket(familyNumber(family), SOCK_RAW | SOCK_NONBLOCK, protocol),
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
    const request = echoRequest(address.family, { id, sequence: 1, payload: new Uint8Array(options.size ?? 56) });
    const started = performance.now();
    const sent = sysSendTo(fd, request, socketAddress(address, 0));
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
  const icmp = icmpOf(v4 ? 4 : 6, packet);
  const sender = v4 ? from.slice(4, 8) : from.slice(8, 24);
  return (
    icmp.length >= HEADER_BYTES &&
    icmp[0] === (v4 ? 0 : 129) &&
    (((icmp[4] ?? 0) << 8) | (icmp[5] ?? 0)) === wanted.id &&
    sameAddress(addressFromBytes(sender), wanted.address)
  );
}

/** RFC 792, RFC 4443 §4.1. The kernel fills in the ICMPv6 checksum, not the ICMP one. */
function echoRequest(family: Family, { id, sequence, payload }: Echo): Uint8Array {
  const packet = new Uint8Array(HEADER_BYTES + payload.length);
  packet.set([family === 4 ? 8 : 128, 0, 0, 0, id >> 8, id & 255, sequence >> 8, sequence & 255]);
  packet.set(payload, HEADER_BYTES);
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

/** IPv4 raw sockets deliver the IP header too (RFC 791: length in the low half of the first byte). */
const icmpOf = (family: Family, packet: Uint8Array): Uint8Array =>
  family === 4 ? packet.subarray(((packet[0] ?? 0) & 15) * 4) : packet;

export interface Echo {
  /** 16 bits each. */
  readonly id: number;
  readonly sequence: number;
  /** Comes back as it was sent. */
  readonly payload: Uint8Array;
}

export interface EchoSocket extends Disposable {
  /** A request. False: the kernel refused it (no route, a filter on output). */
  send(to: IpAddress, echo: Echo): boolean;
  /**
   * The next reply that has arrived, whoever asked: a raw socket sees those to other sockets of the namespace too. Undefined: none.
   * The payload is good until the next call.
   */
  receive(): Echo | undefined;
}

/** For many requests side by side: nothing here waits. Needs CAP_NET_RAW. @throws CalicoError KERNEL */
export function openEchoSocket(options: Place & { readonly family: Family }): EchoSocket {
  const { family } = options;
  const fd = pingSocket(options);
  trySetSockOpt(fd, SO_RCVBUFFORCE, BUFFER_BYTES);
  const buffer = new Uint8Array(LONGEST_PACKET);
  const reply = family === 4 ? 0 : 129;
  return {
    send: (to, echo) => sysSendTo(fd, echoRequest(family, echo), socketAddress(to, 0)) >= 0,
    receive: () => {
      for (;;) {
        const length = sysRecv(fd, buffer, 0);
        if (length < 0) return undefined; // nothing there, or an ICMP error about a request that stays unanswered
        const icmp = icmpOf(family, buffer.subarray(0, length));
        if (icmp.length < HEADER_BYTES || icmp[0] !== reply) continue;
        const view = new DataView(icmp.buffer, icmp.byteOffset);
        return { id: view.getUint16(4), sequence: view.getUint16(6), payload: icmp.subarray(HEADER_BYTES) };
      }
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}
