/** Routes as a full table has them, as messages ready to send: about six to an attribute block, paths of two to six, mixed prefix lengths. */
import type { SenderOptions } from "./sender.ts";

export type Message = Uint8Array;

const TYPES = { open: 1, update: 2, keepalive: 4 } as const;

export function frame(type: keyof typeof TYPES, body: readonly number[] = []): Message {
  const length = 19 + body.length;
  return Uint8Array.from([...Array.from({ length: 16 }, () => 255), length >> 8, length & 255, TYPES[type], ...body]);
}

const u16 = (value: number): number[] => [(value >> 8) & 255, value & 255];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value)];

/** IPv4, four-octet AS numbers, and graceful restart if wanted. */
export function openOf({ as, identifier, holdSeconds, gracefulRestart }: SenderOptions): Message {
  const capabilities = [
    ...[1, 4, 0, 1, 0, 1],
    ...[65, 4, ...u32(as)],
    ...(gracefulRestart === true ? [64, 6, 0, 60, 0, 1, 1, 0x80] : []),
  ];
  return frame("open", [
    4,
    // AS_TRANS (RFC 6793 section 4.2.2): FRR takes nothing else.
    ...u16(as > 0xffff ? 23456 : as),
    ...u16(holdSeconds),
    ...u32(identifier),
    capabilities.length + 2,
    2,
    capabilities.length,
    ...capabilities,
  ]);
}

/** /24 mostly, every eighth a /22, every twentieth a /20; no two the same. */
function prefix(index: number): number[] {
  const length = index % 20 === 0 ? 20 : index % 8 === 0 ? 22 : 24;
  const address = ((1 << 24) + index * 4096) >>> 0;
  return [length, address >>> 24, (address >>> 16) & 255, (address >>> 8) & 255];
}

const attribute = (flags: number, code: number, value: readonly number[]): number[] => [
  flags,
  code,
  value.length,
  ...value,
];

export interface RouteStream {
  readonly count: number;
  /** First AS of every path. */
  readonly as: number;
  readonly nextHop: string;
  /** Another peer's view of the same routes has other paths. */
  readonly variant?: number;
}

/** UPDATEs that announce all, then End-of-RIB, in one piece. */
export function announcements({ count, as, nextHop, variant = 0 }: RouteStream): Message {
  const hop = nextHop.split(".").map(Number);
  const parts: Message[] = [];
  let block = variant * 7;
  for (let at = 0; at < count; block++) {
    const size = Math.min(1 + ((block * 7919) % 11), count - at);
    const hops = Array.from({ length: 1 + (block % 5) }, (_, one) => 1000 + ((block * (one + 3)) % 60_000));
    const path = [as, ...hops];
    const attributes = [
      ...attribute(0x40, 1, [0]),
      ...attribute(0x40, 2, [2, path.length, ...path.flatMap(u32)]),
      ...attribute(0x40, 3, hop),
      ...(block % 4 === 0 ? attribute(0x80, 4, u32(block % 100)) : []),
      ...(block % 3 === 0
        ? attribute(0xc0, 8, [...u16(as & 0xffff), ...u16(block % 50), ...u16(as & 0xffff), ...u16(1000)])
        : []),
    ];
    const nlri = Array.from({ length: size }, (_, one) => prefix(at + one)).flat();
    parts.push(frame("update", [0, 0, ...u16(attributes.length), ...attributes, ...nlri]));
    at += size;
  }
  parts.push(frame("update", [0, 0, 0, 0]));
  return Buffer.concat(parts);
}

/** UPDATEs that withdraw all. */
export function withdrawals(count: number): Message {
  const parts: Message[] = [];
  for (let at = 0; at < count; at += 1000) {
    const nlri = Array.from({ length: Math.min(1000, count - at) }, (_, one) => prefix(at + one)).flat();
    parts.push(frame("update", [...u16(nlri.length), ...nlri, 0, 0]));
  }
  return Buffer.concat(parts);
}
