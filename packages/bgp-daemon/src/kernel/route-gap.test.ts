import { parsePrefix } from "@calico-ts/net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { RouteGap, type Slot } from "./route-gap.ts";
import { type Way, WaysTable } from "./ways.ts";

const FIRST = parsePrefix("10.0.0.0/8");
const PREFIXES = [FIRST, ...["10.0.0.0/16", "10.1.0.0/16", "fd00::/64", "::/0"].map((one) => parsePrefix(one))];
const ways = new WaysTable();
const hops = [[{ link: 1, weight: 1 }], [{ link: 2, weight: 1 }]];
const WAYS: readonly Way[] = hops.flatMap((one) => [1024, 512].map((metric) => ways.along(one, metric)));
/** Equal in meaning, another object: as the kernel says it. */
const copyOf = (way: Way): Way => ({ ...way, hops: way.hops.map((hop) => ({ ...hop })) });

const at = fc.nat(PREFIXES.length - 1);
const way = fc.option(fc.constantFrom(...WAYS), { nil: undefined });
const changes = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant("want" as const), at, way }),
    fc.record({ do: fc.constant("saw" as const), at, way }),
    fc.record({ do: fc.constant("sawAll" as const), found: fc.array(fc.tuple(at, fc.constantFrom(...WAYS))) }),
    fc.record({ do: fc.constantFrom("write" as const, "remove" as const), refused: fc.boolean() }),
    fc.record({ do: fc.constantFrom("retry" as const, "markStale" as const, "dropStale" as const) }),
  ),
  { maxLength: 40 },
);

type Change = typeof changes extends fc.Arbitrary<(infer C)[]> ? C : never;

/** What is listed, and then done or refused; undefined: nothing is. */
function work(gap: RouteGap, what: "write" | "remove", refused: boolean): Slot | undefined {
  const slot = what === "write" ? gap.nextToWrite() : gap.nextToRemove();
  if (slot === undefined) return undefined;
  const asItWas = { ...slot };
  if (refused) gap.hold(slot);
  else gap.saw(slot, what === "write" ? slot.wanted : undefined);
  return asItWas;
}

function apply(gap: RouteGap, change: Change): Slot | undefined {
  if (change.do === "write" || change.do === "remove") return work(gap, change.do, change.refused);
  if (change.do === "want") gap.want(PREFIXES[change.at] ?? FIRST, change.way);
  else if (change.do === "sawAll") gap.sawAll(change.found.map(([at, seen]) => [PREFIXES[at] ?? FIRST, copyOf(seen)]));
  else if (change.do === "saw") {
    const slot = gap.get(PREFIXES[change.at] ?? FIRST);
    if (slot !== undefined) gap.saw(slot, change.way === undefined ? undefined : copyOf(change.way));
  } else gap[change.do]();
  return undefined;
}

const text = (one: Way | undefined): string => (one === undefined ? "" : JSON.stringify([one.metric, one.hops]));

test("what is listed closes the difference, from any state; what was refused waits for a retry", () => {
  fc.assert(
    fc.property(changes, (all) => {
      const gap = new RouteGap();
      const listed = all.map((change) => apply(gap, change));
      expect(listed.filter((slot) => slot !== undefined && text(slot.wanted) === text(slot.seen))).toEqual([]);
      gap.retry();
      const written: string[] = [];
      for (let slot = gap.nextToWrite(); slot !== undefined; slot = gap.nextToWrite()) {
        written.push(`${slot.address}/${slot.length}`);
        gap.saw(slot, slot.wanted);
      }
      expect(new Set(written).size).toBe(written.length);
      for (let slot = gap.nextToRemove(); slot !== undefined; slot = gap.nextToRemove()) gap.saw(slot, undefined);
      for (const prefix of PREFIXES) expect(text(gap.get(prefix)?.seen)).toBe(text(gap.get(prefix)?.wanted));
      expect(gap.nextToWrite()).toBeUndefined();
      expect([gap.hasChanges, gap.hasSurplus]).toEqual([false, false]);
      // Nothing is kept of a prefix that nobody wants and the kernel does not have.
      const kept = PREFIXES.flatMap((prefix) => gap.get(prefix) ?? []);
      expect(kept.filter(({ wanted }) => wanted === undefined)).toEqual([]);
    }),
  );
});
