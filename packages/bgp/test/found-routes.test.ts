import { parseAddress, parsePrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { FilterMatch } from "../src/policy/filter.ts";
import { runFilter } from "../src/policy/filter.ts";
import { AttributeSet, AttributeStore, type OwnRouteFacts } from "../src/rib/attribute-set.ts";
import { NextHops } from "../src/rib/next-hop.ts";
import { prefixKey } from "../src/rib/prefix-map.ts";
import type { Source } from "../src/rib/route.ts";
import { RibTable } from "../src/rib/table.ts";

const local: Source = {
  peer: undefined,
  address: undefined,
  kind: "local",
  reflectorClient: false,
  identifier: 9,
  bit: 1,
};
const peer: Source = {
  peer: "p",
  address: parseAddress("192.0.2.1"),
  kind: "internal",
  reflectorClient: false,
  bit: 2,
  identifier: 1,
};
const key = prefixKey(parsePrefix("10.0.0.0/8"));

function winner(own: { localPref: number; facts?: OwnRouteFacts }, heard: number): string {
  const store = new AttributeStore();
  const options = { alwaysCompareMed: false, maxPaths: 4 };
  const table = new RibTable("ipv4-unicast", { store, nextHops: new NextHops() }, options);
  const route = { ...key, pathId: 0, learnedAt: 0 };
  const sets = [
    [local, new AttributeSet({ localPref: own.localPref }, own.facts)],
    [peer, new AttributeSet({ localPref: heard })],
  ] as const;
  for (const [source, set] of sets) table.announce(source, route, set, { accepted: set, rejected: undefined });
  table.decide(10, () => undefined);
  return table.find(key.address, key.length)?.best?.source.kind ?? "none";
}

describe("routes that were found", () => {
  test.each<[string, number, OwnRouteFacts | undefined, number, "local" | "internal"]>([
    ["a configured route comes before a peer's", 100, undefined, 100, "local"],
    ["a peer's with higher LOCAL_PREF comes before a configured one", 100, undefined, 200, "internal"],
    ["one that yields where equal", 100, { found: true, yields: "equal" }, 100, "internal"],
    ["one that yields where equal has higher LOCAL_PREF", 200, { found: true, yields: "equal" }, 100, "local"],
    [
      "one that always yields, whatever its LOCAL_PREF",
      2_147_482_623,
      { found: true, yields: "always" },
      1,
      "internal",
    ],
  ])("%s", (_what, ...[localPref, facts, heard, expected]) => {
    expect(winner({ localPref, ...(facts !== undefined && { facts }) }, heard)).toBe(expected);
  });

  const matches = (match: FilterMatch, source: Source, facts?: OwnRouteFacts): boolean =>
    runFilter(
      { name: "f", rules: [{ action: "accept", match }], otherwise: "reject" },
      { key, set: new AttributeSet({ localPref: 100 }, facts), source, peerType: "internal" },
    ).accept;

  test.each<[FilterMatch, boolean, boolean, boolean]>([
    [{ source: "peer" }, true, false, false],
    [{ source: "local" }, false, true, true],
    [{ source: "configured" }, false, true, false],
    [{ source: "found" }, false, false, true],
    [{ gateway: true }, false, false, true],
    [{ gateway: false }, false, true, false],
    [{ localPrefAbove: 99 }, true, true, true],
    [{ localPrefAbove: 100 }, false, false, false],
  ])("%o matches a peer's %s, a configured %s, a found one with a gateway %s", (match, heard, configured, found) => {
    expect(matches(match, peer)).toBe(heard);
    expect(matches(match, local)).toBe(configured);
    expect(matches(match, local, { found: true, gateway: true })).toBe(found);
  });
});
