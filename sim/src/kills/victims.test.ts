import { describe, expect, test } from "vitest";
import { isKept, OTHER, type ProcessKind, SIMULATOR, SIMULATOR_KINDS } from "./process-kinds.ts";
import { arrange, type SeenProcess, type Victim, victimName } from "./victims.ts";

const product: ProcessKind = {
  name: "product",
  commandLine: /product\.mjs/,
  promise: { gapMs: 0, because: "" },
  comesBack: "at once",
};
const kinds = [product, ...SIMULATOR_KINDS];
const seen = (pid: number, parent: number, place: string, commandLine: string): SeenProcess => ({
  pid,
  parent,
  place,
  commandLine,
  startTicks: 0,
});

const RUN = [
  seen(10, 1, "host", 'node calico-sim.mjs daemon {"run":"x"} '),
  seen(11, 10, "router.tor-2", "bird -f -c /x/bird.conf "),
  seen(12, 10, "router.tor-10", "bird -f -c /x/bird.conf "),
  seen(13, 10, "router.b", "/usr/lib/frr/bgpd -f /x/bgpd.conf "),
  seen(20, 10, "node-2", "node product.mjs "),
  seen(21, 20, "node-2", "something it started "),
  seen(30, 10, "node-1", "/bin/sh "),
  seen(31, 30, "node-1", "/bin/sh "),
  seen(32, 31, "node-1", "node product.mjs health "),
];

describe("the processes of a run", () => {
  const found = arrange(RUN, kinds);

  test("stand in the order of their kinds and places, short commands left out, the simulator last", () => {
    expect(found.map(victimName)).toEqual([
      "product in node-2",
      "bird in router.tor-2",
      "bird in router.tor-10",
      "bgpd in router.b",
      "shell in node-1",
      "other in node-2",
      "simulator in host",
    ]);
    expect(found.at(-1)?.kind).toBe(SIMULATOR);
    expect(found.at(-2)?.kind).toBe(OTHER);
  });

  test("take along what they started, except the simulator, which started everything", () => {
    const names = (victim: Victim | undefined): string[] => (victim?.children ?? []).map(victimName);
    expect(names(found[0])).toEqual(["other in node-2"]);
    expect(names(found.at(-1))).toEqual([]);
  });
});

test.each([
  [0, { lost: 0, longestGapMs: 0, hostDropped: 0 }, true],
  [0, { lost: 1, longestGapMs: 8, hostDropped: 0 }, false],
  [0, { lost: 3, longestGapMs: 8, hostDropped: 3 }, true],
  [0, { lost: 4, longestGapMs: 8, hostDropped: 3 }, false],
  [500, { lost: 400, longestGapMs: 500, hostDropped: 0 }, true],
  [500, { lost: 400, longestGapMs: 501, hostDropped: 0 }, false],
])("a gap of %i ms is allowed, and %o was found: kept is %s", (gapMs, found, kept) => {
  expect(isKept({ gapMs, because: "" }, found)).toBe(kept);
});

test("every kind that this simulator starts is known by its command line", () => {
  for (const [line, name] of [
    ["bird -f -c /r/bird.conf -s /r/bird.ctl ", "bird"],
    ["/usr/lib/frr/zebra -f /r/zebra.conf ", "zebra"],
    ["/usr/lib/frr/bgpd -f /r/bgpd.conf ", "bgpd"],
    ["gobgpd -t json -f /r/gobgp.json ", "gobgpd"],
    ["/x/node /y/calico-speaker.mjs run /r ", "calico-speaker"],
    ["/bin/sh ", "shell"],
  ] as const)
    expect(arrange([seen(2, 1, "p", line)], SIMULATOR_KINDS).map(({ kind }) => kind.name)).toEqual([name]);
});
