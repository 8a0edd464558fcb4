/** IPReservations as a test on addresses. */
import type { IPReservation } from "@calico-ts/model";
import {
  containsAddress,
  containsPrefix,
  lastAddress,
  overlaps,
  type Prefix,
  prefixAddress,
  prefixSize,
  tryParsePrefix,
} from "@calico-ts/net";
import { nothingReserved, type Reserved } from "./block.ts";

export class Reservations {
  readonly #prefixes: readonly Prefix[];
  readonly #all: Reserved;

  constructor(prefixes: readonly Prefix[]) {
    // Those inside others add nothing, and counting relies on them not overlapping.
    this.#prefixes = prefixes.filter(
      (prefix, at) =>
        !prefixes.some(
          (other, otherAt) =>
            otherAt !== at && containsPrefix(other, prefix) && (other.length < prefix.length || otherAt < at),
        ),
    );
    this.#all =
      this.#prefixes.length === 0
        ? nothingReserved
        : (address) => this.#prefixes.some((prefix) => containsAddress(prefix, address));
  }

  /** Entries that do not parse reserve nothing. */
  static of(resources: readonly IPReservation[]): Reservations {
    const texts = resources.flatMap((resource) => resource.spec.reservedCIDRs ?? []);
    return new Reservations(texts.flatMap((text) => tryParsePrefix(text, "mask") ?? []));
  }

  get reserved(): Reserved {
    return this.#all;
  }

  /** Whether no address of the block could ever be given out. */
  coversAll(block: Prefix): boolean {
    return this.countIn(block) === prefixSize(block);
  }

  countIn(range: Prefix): bigint {
    let count = 0n;
    for (const prefix of this.#prefixes) {
      if (!overlaps(prefix, range)) continue;
      const first = max(prefixAddress(prefix).value, prefixAddress(range).value);
      const last = min(lastAddress(prefix).value, lastAddress(range).value);
      count += last - first + 1n;
    }
    return count;
  }
}

const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
