import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { anyAddress, anyPrefix } from "../testing/arbitraries.ts";
import { addressBits, formatAddress, parseAddress } from "./address.ts";
import {
  addressAt,
  comparePrefixes,
  containsAddress,
  containsPrefix,
  formatPrefix,
  hostPrefix,
  lastAddress,
  overlaps,
  parsePrefix,
  prefixAddress,
  prefixSize,
  samePrefix,
  tryParsePrefix,
} from "./prefix.ts";

describe("text", () => {
  test.each([
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["10.0.0.1", "10.0.0.1/32"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["::/0", "::/0"],
    ["fd00::1", "fd00::1/128"],
    ["FD00::/8", "fd00::/8"],
  ])("%s is %s", (text, written) => {
    expect(formatPrefix(parsePrefix(text))).toBe(written);
  });

  test.each([
    "",
    "/8",
    "10.0.0.0/",
    "10.0.0.0/33",
    "::/129",
    "10.0.0.0/08",
    "10.0.0.0/-1",
    "10.0.0.0/8/8",
    "10.0.0.0/ 8",
  ])("%j is none", (text) => {
    expect(tryParsePrefix(text, "mask")).toBeUndefined();
    expect(() => parsePrefix(text)).toThrow(expect.objectContaining({ code: "BAD_INPUT" }));
  });

  test("host bits: refused with a suggestion, or cut off", () => {
    expect(() => parsePrefix("10.0.0.7/8")).toThrow("did you mean 10.0.0.0/8?");
    expect(formatPrefix(parsePrefix("10.0.0.7/8", "mask"))).toBe("10.0.0.0/8");
    expect(formatPrefix(parsePrefix("fd00::1/64", "mask"))).toBe("fd00::/64");
  });

  test("leads back", () => {
    fc.assert(
      fc.property(anyPrefix, (prefix) => {
        expect(parsePrefix(formatPrefix(prefix))).toEqual(prefix);
      }),
    );
  });
});

describe("properties", () => {
  test("a prefix contains its first and last address and not the ones beside them", () => {
    fc.assert(
      fc.property(anyPrefix, (prefix) => {
        const last = lastAddress(prefix);
        expect(containsAddress(prefix, prefixAddress(prefix))).toBe(true);
        expect(containsAddress(prefix, last)).toBe(true);
        expect(last.value - prefix.value + 1n).toBe(prefixSize(prefix));
        expect(containsAddress(prefix, { family: prefix.family, value: last.value + 1n })).toBe(false);
        expect(containsAddress(prefix, addressAt(prefix, -1n))).toBe(false);
      }),
    );
  });

  test("two prefixes are nested or apart", () => {
    fc.assert(
      fc.property(anyPrefix, anyPrefix, (a, b) => {
        const apart = a.family !== b.family || lastAddress(a).value < b.value || lastAddress(b).value < a.value;
        expect(overlaps(a, b)).toBe(!apart);
        expect(containsPrefix(a, b) && containsPrefix(b, a)).toBe(samePrefix(a, b));
        expect(comparePrefixes(a, b) === 0).toBe(samePrefix(a, b));
      }),
    );
  });

  test("the families never meet", () => {
    expect(overlaps(parsePrefix("0.0.0.0/0"), parsePrefix("::/0"))).toBe(false);
    expect(containsAddress(parsePrefix("::/0"), parseAddress("10.0.0.1"))).toBe(false);
  });

  test("a host prefix is its address", () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        expect(formatPrefix(hostPrefix(address))).toBe(`${formatAddress(address)}/${addressBits(address.family)}`);
      }),
    );
  });
});
