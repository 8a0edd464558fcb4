import type { Prefix } from "@calico-ts/net";
import { comparePrefixes, containsPrefix } from "@calico-ts/net";

/**
 * The prefixes that no other contains, sorted. Prefixes are nested or disjoint, so the result does not overlap: an
 * interval set of the kernel refuses overlapping elements.
 */
export function maximalPrefixes(prefixes: readonly Prefix[]): Prefix[] {
  const kept: Prefix[] = [];
  // Sorted by base, shorter first: whatever contains a prefix comes before it, and the last one kept is the only candidate.
  for (const prefix of prefixes.toSorted(comparePrefixes)) {
    const last = kept.at(-1);
    if (last === undefined || !containsPrefix(last, prefix)) kept.push(prefix);
  }
  return kept;
}
