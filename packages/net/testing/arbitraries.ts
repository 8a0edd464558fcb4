/** Random addresses and prefixes of both families for property tests. */
import fc from "fast-check";
import { addressBits, type IpAddress } from "../src/address.ts";
import { type Prefix, prefixOf } from "../src/prefix.ts";

export const anyAddress: fc.Arbitrary<IpAddress> = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }).map((value): IpAddress => ({ family: 4, value })),
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((value): IpAddress => ({ family: 6, value })),
);

export const anyPrefix: fc.Arbitrary<Prefix> = fc
  .tuple(anyAddress, fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([address, share]) => prefixOf(address, Math.round(share * addressBits(address.family))));
