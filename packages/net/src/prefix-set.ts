/**
 * Lists of prefixes as sets of addresses: union, difference, intersection.
 *
 * Everything goes through sorted, disjoint, non-adjacent ranges, in which each operation is one sweep, and comes back as the
 * shortest list of prefixes for the result, in order. Both families may be mixed; they never meet.
 */
import type { Family, IpAddress } from "./address.ts";
import { addressBits } from "./address.ts";
import type { Prefix } from "./prefix.ts";
import { comparePrefixes, lastAddress } from "./prefix.ts";

/** Both ends belong to it. */
export interface AddressRange {
  readonly first: IpAddress;
  readonly last: IpAddress;
}

/** The shortest list with the same addresses. */
export const mergePrefixes = (prefixes: readonly Prefix[]): Prefix[] => prefixesOf(rangesOf(prefixes));

/** What is in `from` and not in `remove`. */
export function subtractPrefixes(from: readonly Prefix[], remove: readonly Prefix[]): Prefix[] {
  return combine(from, remove, (inFrom, inRemove) => inFrom && !inRemove);
}

/** What is in both. */
export function intersectPrefixes(a: readonly Prefix[], b: readonly Prefix[]): Prefix[] {
  return combine(a, b, (inA, inB) => inA && inB);
}

/** True when every address of `inner` is in `outer`. */
export const coversPrefixes = (outer: readonly Prefix[], inner: readonly Prefix[]): boolean =>
  subtractPrefixes(inner, outer).length === 0;

/** The shortest list of prefixes for the addresses from `first` to `last`; empty when they are the wrong way round. */
export function prefixesOfRange({ first, last }: AddressRange): Prefix[] {
  if (first.family !== last.family) return [];
  return prefixesOf([{ family: first.family, first: first.value, last: last.value }]);
}

interface Range {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
}

function rangesOf(prefixes: readonly Prefix[]): Range[] {
  const ranges: Range[] = [];
  for (const prefix of prefixes.toSorted(comparePrefixes)) {
    const { family, value: first } = prefix;
    const last = lastAddress(prefix).value;
    const previous = ranges.at(-1);
    if (previous !== undefined && previous.family === family && first <= previous.last + 1n) {
      if (last > previous.last) ranges[ranges.length - 1] = { ...previous, last };
    } else {
      ranges.push({ family, first, last });
    }
  }
  return ranges;
}

/** A point where membership changes: from here on. */
interface Edge {
  readonly family: Family;
  readonly at: bigint;
  readonly side: "a" | "b";
  readonly inside: boolean;
}

function combine(a: readonly Prefix[], b: readonly Prefix[], keep: (inA: boolean, inB: boolean) => boolean): Prefix[] {
  const edges = [...edgesOf(a, "a"), ...edgesOf(b, "b")].toSorted(byPlace);
  const inside = { a: false, b: false };
  const result: Range[] = [];
  let first: bigint | undefined;
  edges.forEach((edge, index) => {
    inside[edge.side] = edge.inside;
    // Several edges at one place count together.
    const next = edges[index + 1];
    if (next !== undefined && byPlace(edge, next) === 0) return;
    const kept = keep(inside.a, inside.b);
    if (kept) first ??= edge.at;
    else if (first !== undefined) {
      result.push({ family: edge.family, first, last: edge.at - 1n });
      first = undefined;
    }
  });
  return prefixesOf(result);
}

const edgesOf = (prefixes: readonly Prefix[], side: "a" | "b"): Edge[] =>
  rangesOf(prefixes).flatMap(({ family, first, last }) => [
    { family, at: first, side, inside: true },
    { family, at: last + 1n, side, inside: false },
  ]);

function byPlace(a: Edge, b: Edge): number {
  if (a.family !== b.family) return a.family - b.family;
  return a.at < b.at ? -1 : a.at > b.at ? 1 : 0;
}

/** Takes, from the front, the largest block that starts there and ends inside. */
function prefixesOf(ranges: readonly Range[]): Prefix[] {
  const prefixes: Prefix[] = [];
  for (const { family, first, last } of ranges) {
    const bits = addressBits(family);
    for (let at = first; at <= last; ) {
      let hostBits = 0n;
      while (Number(hostBits) < bits && at % (2n << hostBits) === 0n && at + (2n << hostBits) - 1n <= last) hostBits++;
      prefixes.push({ family, value: at, length: bits - Number(hostBits) });
      at += 1n << hostBits;
    }
  }
  return prefixes;
}
