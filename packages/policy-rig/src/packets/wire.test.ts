import { describe, expect, test } from "vitest";
import type { RigPacket } from "./packet.ts";
import { PROTOCOL } from "./packet.ts";
import { answerBytes, answerTo, ipHeader, packetBytes, readId } from "./wire.ts";

const PROTOCOLS = Object.values(PROTOCOL);

const packetOf = (family: 4 | 6, protocol: number): RigPacket => ({
  from: { pod: "a/p0" },
  to: { address: family === 4 ? "9.9.9.9" : "2001:db8::1" },
  family,
  protocol,
  sourcePort: 1024,
  destinationPort: 80,
  ...(protocol === 1 || protocol === 58 ? { icmp: { type: protocol === 1 ? 8 : 128, code: 0 } } : {}),
});

/** RFC 1071, with the pseudo header: the sum over everything, checksum included, is all ones. */
function sumOf(bytes: Uint8Array, family: 4 | 6, number: number): number {
  const header = family === 4 ? 20 : 40;
  const body = bytes.subarray(header);
  const addresses = number === 1 ? new Uint8Array() : bytes.subarray(family === 4 ? 12 : 8, header);
  let sum = number === 1 ? 0 : number + body.length;
  for (const part of [addresses, body])
    for (let at = 0; at < part.length; at += 2) sum += ((part[at] ?? 0) << 8) | (part[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

describe.each([4, 6] as const)("IPv%d", (family) => {
  test.each(PROTOCOLS)("protocol %d: a receiver reads the number that was put in", (protocol) => {
    for (const id of [1, 0x1_0000, 0xdead_beef]) {
      const bytes = packetBytes(packetOf(family, protocol), id);
      const header = ipHeader(bytes);
      expect(header).toEqual({ protocol, header: family === 4 ? 20 : 40 });
      expect(readId(bytes, header.protocol, header.header)).toBe(id);
    }
  });

  test("checksums are right", () => {
    const own = family === 4 ? PROTOCOL.ICMP : PROTOCOL.ICMP6;
    for (const protocol of [PROTOCOL.TCP, PROTOCOL.UDP, own])
      expect(sumOf(packetBytes(packetOf(family, protocol), 77), family, protocol)).toBe(0xffff);
  });

  test("answers go back the way the packet came, with a number of their own", () => {
    const packet = packetOf(family, PROTOCOL.UDP);
    expect(answerTo(packet)).toBe("reply");
    for (const kind of ["reply", "error"] as const) {
      const bytes = answerBytes(packet, kind, { own: 12, of: 11 });
      const { protocol, header } = ipHeader(bytes);
      expect(readId(bytes, protocol, header)).toBe(12);
      const there = packetBytes(packet, 11);
      const at = family === 4 ? 12 : 8;
      const size = family === 4 ? 4 : 16;
      expect(bytes.subarray(at, at + size)).toEqual(there.subarray(at + size, at + 2 * size));
    }
  });
});

test("an SCTP packet has the checksum of RFC 9260", () => {
  const bytes = packetBytes(packetOf(4, PROTOCOL.SCTP), 5).subarray(20);
  const stored = new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true);
  const zeroed = Uint8Array.from(bytes).fill(0, 8, 12);
  let crc = 0xffff_ffff;
  for (const byte of zeroed) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  expect(stored).toBe(~crc >>> 0);
});
