/** An inclusive range of ports, 0–65535. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

export const singlePort = (port: number): PortRange => ({ first: port, last: port });

/** Sorted, with overlapping and adjacent ranges joined. */
export function mergePortRanges(ranges: readonly PortRange[]): PortRange[] {
  const merged: PortRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.first - b.first || a.last - b.last)) {
    const previous = merged.at(-1);
    if (previous !== undefined && range.first <= previous.last + 1) {
      merged[merged.length - 1] = { first: previous.first, last: Math.max(previous.last, range.last) };
    } else {
      merged.push(range);
    }
  }
  return merged;
}
