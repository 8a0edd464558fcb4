import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { anyAddress } from "../testing/arbitraries.ts";
import {
  addressBytes,
  addressFromBytes,
  compareAddresses,
  formatAddress,
  parseAddress,
  sameAddress,
  tryParseAddress,
} from "./address.ts";
import { formatMac, parseMac } from "./mac.ts";
import { mergePortRanges } from "./port-range.ts";
import { hasPorts, protocolName, protocolNumber } from "./protocol.ts";

describe("addresses", () => {
  test.each([
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["FD00:0:0:0:0:0:0:1", "fd00::1"],
    ["::ffff:10.0.0.1", undefined],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ])("%s is written %s", (text, written) => {
    const address = parseAddress(text);
    expect(written === undefined ? address.family : formatAddress(address)).toBe(written ?? 6);
  });

  test.each([
    "",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "256.1.1.1",
    "1.2.3.-4",
    " 1.2.3.4",
    "1.2.3.4/32",
    "fe80::1%eth0",
    "::1/128",
    ":::",
    "1::2::3",
    "g::",
    "1:2:3:4:5:6:7:8:9",
    "٣.2.3.4",
  ])("%j is none", (text) => {
    expect(tryParseAddress(text)).toBeUndefined();
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: "BAD_INPUT" }));
  });

  test("text and bytes lead back", () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        expect(parseAddress(formatAddress(address))).toEqual(address);
        expect(addressFromBytes(addressBytes(address))).toEqual(address);
      }),
    );
  });

  test("have an order", () => {
    fc.assert(
      fc.property(anyAddress, anyAddress, (a, b) => {
        expect(Math.sign(compareAddresses(a, b))).toBe(0 - Math.sign(compareAddresses(b, a)) || 0);
        expect(compareAddresses(a, b) === 0).toBe(sameAddress(a, b));
      }),
    );
  });

  test("any text parses or is refused", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f:.%/]{0,40}$/)), (text) => {
        const address = tryParseAddress(text);
        expect(address === undefined || formatAddress(address).length > 0).toBe(true);
      }),
    );
  });

  test("bytes of another length are refused", () => {
    expect(() => addressFromBytes(new Uint8Array(5))).toThrow("5");
  });
});

describe("MAC addresses", () => {
  test("there and back, in lower case", () => {
    expect(formatMac(parseMac("EE:ee:00:01:aB:Ff"))).toBe("ee:ee:00:01:ab:ff");
  });

  test.each(["", "ee:ee:ee:ee:ee", "ee-ee-ee-ee-ee-ee", "ee:ee:ee:ee:ee:e", "gg:ee:ee:ee:ee:ee"])(
    "%j is none",
    (text) => {
      expect(() => parseMac(text)).toThrow(expect.objectContaining({ code: "BAD_INPUT" }));
    },
  );
});

test("port ranges merge when they meet", () => {
  const range = fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 5 })).map(([first, size]) => ({
    first,
    last: first + size,
  }));
  fc.assert(
    fc.property(fc.array(range, { maxLength: 8 }), (ranges) => {
      const merged = mergePortRanges(ranges);
      const inside = (port: number, list: typeof ranges): boolean =>
        list.some(({ first, last }) => first <= port && port <= last);
      for (let port = 0; port < 50; port++) expect(inside(port, merged)).toBe(inside(port, ranges));
      for (const [index, { first }] of merged.entries())
        expect(first).toBeGreaterThan((merged[index - 1]?.last ?? -2) + 1);
    }),
  );
});

describe("protocols", () => {
  test.each([
    ["tcp", 6],
    ["ICMPV6", 58],
    ["UDPLite", 136],
    ["132", 132],
    [255, 255],
    ["0", undefined],
    ["256", undefined],
    [1.5, undefined],
    ["http", undefined],
    ["", undefined],
  ])("%j is %s", (text, number) => {
    expect(protocolNumber(text)).toBe(number);
  });

  test("names, and which have ports", () => {
    expect([1, 6, 17, 58, 89, 132, 136].map(protocolName)).toEqual([
      "ICMP",
      "TCP",
      "UDP",
      "ICMPv6",
      "89",
      "SCTP",
      "UDPLite",
    ]);
    expect([1, 6, 17, 58, 89, 132, 136].filter(hasPorts)).toEqual([6, 17, 132, 136]);
  });
});
