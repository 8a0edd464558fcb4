import { formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Filter } from "../src/policy/filter.ts";
import { runFilter } from "../src/policy/filter.ts";
import { matchesName } from "../src/policy/name-pattern.ts";
import { AttributeSet, AttributeStore } from "../src/rib/attribute-set.ts";
import type { IntakeContext, IntakeSink } from "../src/rib/intake.ts";
import { ImportPolicy } from "../src/rib/import-policy.ts";
import { takeGenerally, takeUpdate } from "../src/rib/intake.ts";
import { NextHops, REMEMBERED_HOPS } from "../src/rib/next-hop.ts";
import { prefixKey, prefixOfKey } from "../src/rib/prefix-map.ts";
import type { Source } from "../src/rib/route.ts";
import { RibTable } from "../src/rib/table.ts";
import type { AsPath } from "../src/wire/attributes/as-path.ts";
import { encodeAttributes } from "../src/wire/attributes/decode.ts";
import type { PathAttributes } from "../src/wire/attributes/values.ts";
import { encodeAnnouncements, encodeEndOfRib, encodeWithdrawals } from "../src/wire/update.ts";

const sourceOf = (n: number, kind: Source["kind"] = "external"): Source => ({
  peer: `p${n}`,
  address: { family: 4, value: BigInt(n) },
  kind,
  reflectorClient: false,
  identifier: n,
  // As where there are more peers than bits: some share one.
  bit: 1 << (n % 4),
});

const seq = (...ases: number[]): AsPath => [{ kind: "sequence", ases }];

const attributesArbitrary: fc.Arbitrary<PathAttributes> = fc.record(
  {
    origin: fc.constantFrom("igp" as const, "egp" as const, "incomplete" as const),
    asPath: fc
      .array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 })
      .map((ases) => [{ kind: "sequence" as const, ases }]),
    nextHop: fc.integer({ min: 1, max: 3 }).map((n) => ({ family: 4 as const, value: BigInt(n) })),
    med: fc.integer({ min: 0, max: 2 }),
    localPref: fc.constantFrom(100, 200),
    communities: fc.constantFrom([0xffff0006], [1]),
    originatorId: fc.integer({ min: 1, max: 3 }),
    clusterList: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 2 }),
  },
  { requiredKeys: ["origin", "asPath", "nextHop"] },
);

describe("the decision", () => {
  const kinds = fc.constantFrom<Source["kind"]>("external", "internal");
  const routes = fc.uniqueArray(
    fc.record({ peer: fc.integer({ min: 1, max: 6 }), kind: kinds, attributes: attributesArbitrary }),
    {
      selector: (one) => one.peer,
      minLength: 1,
    },
  );

  test("never depends on the order of arrival, nor on what came and went", () => {
    fc.assert(
      fc.property(
        routes.chain((list) =>
          fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length }), fc.subarray(list)),
        ),
        fc.boolean(),
        ([list, shuffled, passing], alwaysCompareMed) => {
          const best = (order: typeof list, first: typeof list): unknown => {
            const table = new RibTable(
              "ipv4-unicast",
              { store: new AttributeStore(), nextHops: new NextHops() },
              { alwaysCompareMed, maxPaths: 4 },
            );
            const key = { address: 1 << 24, length: 8, pathId: 0, learnedAt: 0 };
            const sources = new Map(list.map(({ peer, kind }) => [peer, sourceOf(peer, kind)]));
            const tell = (one: (typeof list)[number]): void => {
              const set = new AttributeSet(one.attributes);
              const source = sources.get(one.peer);
              if (source !== undefined) table.announce(source, key, set, { accepted: set, rejected: undefined });
            };
            for (const one of first) tell(one);
            table.decide(10, () => undefined);
            for (const one of first) {
              const source = sources.get(one.peer);
              if (source !== undefined) table.withdraw(source, key.address, key.length, 0);
            }
            for (const one of order) tell(one);
            table.decide(10, () => undefined);
            const found = table.find(key.address, key.length);
            return [found?.best?.source.peer, found?.equal?.map(({ route }) => route.source.peer)];
          };
          expect(best(shuffled, passing)).toEqual(best(list, []));
        },
      ),
      { numRuns: 500 },
    );
  });

  const better: [string, PathAttributes, PathAttributes, Source["kind"]?, Source["kind"]?][] = [
    ["higher LOCAL_PREF", { localPref: 200, asPath: seq(1, 2, 3) }, { asPath: seq(1) }],
    ["shorter path", { asPath: seq(1) }, { asPath: seq(1, 2) }],
    ["a set counts one", { asPath: [{ kind: "set", ases: [1, 2, 3] }] }, { asPath: seq(1, 2) }],
    ["lower origin", { origin: "igp" }, { origin: "egp" }],
    ["lower MED of one AS", { asPath: seq(1), med: 1 }, { asPath: seq(1), med: 2 }],
    ["missing MED is zero", { asPath: seq(1) }, { asPath: seq(1), med: 2 }],
    ["external", { asPath: seq(1), med: 9 }, { asPath: seq(2), med: 1 }, "external", "internal"],
    ["not stale", { asPath: seq(1, 2, 3) }, { communities: [0xffff0006] }],
    [
      "lower originator",
      { originatorId: 1, asPath: seq(1) },
      { originatorId: 2, asPath: seq(1) },
      "internal",
      "internal",
    ],
    [
      "shorter cluster list",
      { originatorId: 1, clusterList: [1] },
      { originatorId: 1, clusterList: [1, 2] },
      "internal",
      "internal",
    ],
  ];
  test.each(better)("%s wins", (_what, winner, loser, ...kinds) => {
    const [winnerKind = "external", loserKind = "external"] = kinds;
    const table = new RibTable(
      "ipv4-unicast",
      { store: new AttributeStore(), nextHops: new NextHops() },
      { alwaysCompareMed: false, maxPaths: 1 },
    );
    const entries = [
      [sourceOf(9, winnerKind), winner],
      [sourceOf(5, loserKind), loser],
    ] as const;
    for (const [source, attributes] of entries) {
      const set = new AttributeSet({ origin: "igp", ...attributes });
      table.announce(source, { address: 0, length: 0, pathId: 0, learnedAt: 0 }, set, {
        accepted: set,
        rejected: undefined,
      });
    }
    table.decide(1, () => undefined);
    expect(table.find(0, 0)?.best?.source.identifier).toBe(9);
  });
});

describe("prefixes that are nobody's (RFC 4271 section 6.3)", () => {
  const terms = {
    localAs: 65001,
    routerId: 1,
    clusterId: 1,
    internal: true,
    localAddress: undefined,
    nextHops: new NextHops(),
  };
  const peer = { name: "p", address: parseAddress("192.0.2.1"), remoteAs: 65001, families: ["ipv4-unicast"] as const };
  const policy = new ImportPolicy({ ...terms, peer }, sourceOf(1, "internal"));
  const verdictOn = (
    prefix: string,
    nextHop = parseAddress(prefix.includes(":") ? "2001:db8::1" : "192.0.2.1"),
  ): string | undefined => {
    return policy.judge(prefixKey(parsePrefix(prefix)), new AttributeSet({ origin: "igp", asPath: [], nextHop }), 0)
      .rejected;
  };

  test.each([
    ...["0.0.0.0/8", "0.1.0.0/16", "127.0.0.0/8", "127.0.0.1/32"],
    ...["224.0.0.0/4", "239.1.2.3/32", "255.255.255.255/32"],
    ...["::/128", "::1/128", "fe80::/10", "fe80::/64", "febf::1/128", "ff00::/8", "ff02::1/128"],
  ])("%s is refused, in runs with good ones too", (prefix) => {
    expect(verdictOn(prefix)).toContain("RFC 4271 section 6.3");
    expect(verdictOn("10.0.0.0/8")).toBeUndefined();
    expect(verdictOn(prefix)).toContain("RFC 4271 section 6.3");
  });

  test.each([
    ...["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "126.0.0.0/8", "128.0.0.0/8", "169.254.0.0/16"],
    ...["168.0.0.0/5", "223.255.255.0/24", "224.0.0.0/3", "240.0.0.0/4", "255.255.255.254/32"],
    ...["::/0", "::/96", "::2/128", "64:ff9b::/96", "fc00::/7", "fec0::/10", "2001:db8::/32", "fe00::/8"],
  ])("%s is taken", (prefix) => {
    expect(verdictOn(prefix)).toBeUndefined();
  });

  test("next hops are hosts: also of what was reserved, where there are clusters", () => {
    const refused = (nextHop: string): boolean => verdictOn("10.0.0.0/8", parseAddress(nextHop)) !== undefined;
    expect(
      ["0.0.0.1", "127.0.0.1", "224.0.0.5", "255.255.255.255", "::", "::1", "ff02::5"].filter(refused),
    ).toHaveLength(7);
    expect(["1.0.0.1", "223.0.0.1", "240.0.0.1", "255.255.255.254", "2001:db8::1"].filter(refused)).toEqual([]);
  });
});

describe("intake", () => {
  const contextOf = (change: Partial<IntakeContext> = {}): IntakeContext => ({
    fourOctetAs: true,
    addPath: new Set(),
    internal: true,
    families: ["ipv4-unicast", "ipv6-unicast"],
    ...change,
  });

  /** What a sink was told, as text. */
  function trace(take: (sink: IntakeSink) => { failure?: unknown; problems: readonly unknown[] }): unknown {
    const said: string[] = [];
    let current = "";
    const text = (address: number | bigint, length: number, pathId: number): string =>
      `${formatPrefix(prefixOfKey({ address, length }))} ${pathId}`;
    const result = take({
      begin: (family, set) => void (current = `${family} ${set.signature}`),
      announce: (address, length, pathId) => void said.push(`+${current} ${text(address, length, pathId)}`),
      withdraw: (family, { address, length, pathId }) => void said.push(`-${family} ${text(address, length, pathId)}`),
      endOfRib: (family) => void said.push(`end ${family}`),
    });
    return { said, failed: result.failure !== undefined, problems: result.problems.length };
  }

  const attributes: PathAttributes = {
    origin: "igp",
    asPath: seq(1, 2),
    nextHop: parseAddress("192.0.2.1"),
    communities: [5],
  };
  const six = { ...attributes, nextHop: parseAddress("2001:db8::1") };
  const limits = { maxMessage: 4096 };
  const seeds: Uint8Array[] = [
    ...encodeAnnouncements(
      {
        family: "ipv4-unicast",
        nlri: ["10.0.0.0/8", "10.1.2.0/23", "0.0.0.0/0", "1.2.3.4/32"].map((p) => ({ prefix: parsePrefix(p) })),
      },
      attributes,
      contextOf(),
      limits,
    ),
    ...encodeAnnouncements(
      {
        family: "ipv6-unicast",
        nlri: ["2001:db8::/32", "::/0", "fd00::1/128"].map((p) => ({ prefix: parsePrefix(p) })),
      },
      six,
      contextOf(),
      limits,
    ),
    ...encodeWithdrawals(
      { family: "ipv4-unicast", nlri: [{ prefix: parsePrefix("10.0.0.0/9") }] },
      contextOf(),
      limits,
    ),
    ...encodeWithdrawals({ family: "ipv6-unicast", nlri: [{ prefix: parsePrefix("fd00::/9") }] }, contextOf(), limits),
    encodeEndOfRib("ipv4-unicast"),
    encodeEndOfRib("ipv6-unicast"),
    mixed(),
  ];

  /** IPv4 the classic way and IPv6 by MP_REACH in one message (RFC 7606 section 5.1 asks to accept it). */
  function mixed(): Uint8Array {
    const mpReach = {
      afi: 2,
      safi: 1,
      nextHops: [parseAddress("2001:db8::1")],
      nlri: [{ prefix: parsePrefix("fd00::/16") }],
    };
    const list = encodeAttributes({ ...attributes, mpReach }, contextOf());
    return Uint8Array.of(0, 0, list.length >> 8, list.length & 255, ...list, 8, 11);
  }

  test("the fast way and the general way say the same, also of damaged messages, also the second time", () => {
    const damage = fc.record({
      seed: fc.integer({ min: 0, max: seeds.length - 1 }),
      edits: fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 3 }),
      cut: fc.option(fc.nat(80)),
      four: fc.boolean(),
      addPath: fc.boolean(),
      internal: fc.boolean(),
    });
    fc.assert(
      fc.property(damage, ({ seed, edits, cut, four, addPath, internal }) => {
        let body = (seeds[seed] ?? new Uint8Array()).slice();
        for (const [at, value] of edits) if (at < body.length) body[at] = value;
        if (cut !== null) body = body.slice(0, Math.max(4, body.length - cut));
        const context = contextOf({ fourOctetAs: four, internal, addPath: new Set(addPath ? ["ipv4-unicast"] : []) });
        const store = new AttributeStore();
        const general = trace((sink) => takeGenerally(body, context, sink));
        expect(trace((sink) => takeUpdate(body, context, store, sink))).toEqual(general);
        expect(trace((sink) => takeUpdate(body, context, store, sink))).toEqual(general);
        expect(store.size).toBe(0);
        expect(attributesAfter(body, context, store)).toEqual(attributesAfter(body, context));
      }),
      { numRuns: 3000 },
    );
  });

  /** What is said of routes when the UPDATE is over and somebody holds on to them: of shared blocks only the bytes are left by then. */
  function attributesAfter(body: Uint8Array, context: IntakeContext, store?: AttributeStore): unknown {
    const held: AttributeSet[] = [];
    const sink: IntakeSink = {
      begin: (_family, set) => {
        set.retain();
        held.push(set);
      },
      announce: () => undefined,
      withdraw: () => undefined,
      endOfRib: () => undefined,
    };
    if (store === undefined) takeGenerally(body, context, sink);
    else takeUpdate(body, context, store, sink);
    return held.map(({ attributes: said }) => said);
  }

  test("each family of a mixed message has its own next hop", () => {
    const hops: unknown[] = [];
    takeUpdate(mixed(), contextOf(), new AttributeStore(), {
      begin: (family, set) => void hops.push([family, set.attributes.nextHop]),
      announce: () => undefined,
      withdraw: () => undefined,
      endOfRib: () => undefined,
    });
    expect(hops).toEqual([
      ["ipv4-unicast", attributes.nextHop],
      ["ipv6-unicast", six.nextHop],
    ]);
  });
});

test("the distance of a next hop is asked for once, but not for ever remembered", () => {
  const hops = new NextHops();
  let asked = 0;
  hops.setResolver(() => ++asked);
  const metric = (value: number): number | undefined =>
    hops.metric(new AttributeSet({ nextHop: { family: 4, value: BigInt(value) } }));
  for (let at = 1; at <= REMEMBERED_HOPS; at++) metric(at);
  expect([metric(1), metric(REMEMBERED_HOPS), asked]).toEqual([1, REMEMBERED_HOPS, REMEMBERED_HOPS]);
  metric(REMEMBERED_HOPS + 1);
  expect(metric(1)).toBe(REMEMBERED_HOPS + 2);
});

describe("blocks of attributes", () => {
  test("are shared, and gone with the last route that has them", () => {
    const store = new AttributeStore();
    const table = new RibTable(
      "ipv4-unicast",
      { store, nextHops: new NextHops() },
      { alwaysCompareMed: false, maxPaths: 1 },
    );
    const set = store.add("block", { origin: "igp" });
    const source = sourceOf(1);
    for (const address of [1, 2, 3, 2])
      table.announce(source, { address, length: 32, pathId: 0, learnedAt: 0 }, set, {
        accepted: set,
        rejected: undefined,
      });
    expect([table.count(source), store.size]).toEqual([3, 1]);
    table.withdrawWhere(source, () => true);
    table.decide(10, () => undefined);
    expect([table.count(source), store.size, table.size]).toEqual([0, 0, 0]);
  });
});

describe("filters", () => {
  const run = (
    filter: Omit<Filter, "name">,
    prefix: string,
    attributes: PathAttributes = {},
    interfaceName?: string,
  ): ReturnType<typeof runFilter> =>
    runFilter(
      { name: "f", ...filter },
      {
        key: prefixKey(parsePrefix(prefix)),
        set: new AttributeSet(attributes, interfaceName === undefined ? undefined : { interface: interfaceName }),
        source: sourceOf(1),
        peerType: "external",
      },
    );
  const accepts = (
    match: NonNullable<Filter["rules"][number]["match"]>,
    prefix: string,
    attributes: PathAttributes = {},
    interfaceName?: string,
  ): boolean =>
    run({ rules: [{ action: "accept", match }], otherwise: "reject" }, prefix, attributes, interfaceName).accept;

  const ten = parsePrefix("10.0.0.0/8");
  test.each<["equal" | "not-equal" | "in" | "not-in", string, boolean]>([
    ["equal", "10.0.0.0/8", true],
    ["equal", "10.0.0.0/9", false],
    ["not-equal", "10.0.0.0/9", true],
    ["not-equal", "10.0.0.0/8", false],
    ["in", "10.0.0.0/8", true],
    ["in", "10.255.0.0/24", true],
    ["in", "11.0.0.0/24", false],
    ["in", "0.0.0.0/0", false],
    ["not-in", "11.0.0.0/24", true],
    ["not-in", "10.0.0.0/24", false],
    ["in", "fd00::/8", false],
    ["not-in", "fd00::/8", false],
  ])("10.0.0.0/8 %s %s: %s", (operator, prefix, expected) => {
    expect(accepts({ prefix: { operator, prefix: ten } }, prefix)).toBe(expected);
  });

  test("length bounds, interfaces, communities, paths", () => {
    const bounds = { prefix: { operator: "in" as const, prefix: ten, minLength: 16, maxLength: 24 } };
    expect(["10.0.0.0/15", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.0/25"].map((p) => accepts(bounds, p))).toEqual([
      false,
      true,
      true,
      false,
    ]);
    const names = ["cali1", "eth0", "eth10", "xeth0"];
    expect(names.map((name) => accepts({ interface: "eth*" }, "10.0.0.0/8", {}, name))).toEqual([
      false,
      true,
      true,
      false,
    ]);
    expect(names.map((name) => accepts({ interface: "*0" }, "10.0.0.0/8", {}, name))).toEqual([
      false,
      true,
      true,
      true,
    ]);
    expect(accepts({ interface: "*" }, "10.0.0.0/8")).toBe(false);
    expect(accepts({ communities: [1, 2] }, "10.0.0.0/8", { communities: [1, 2, 3] })).toBe(true);
    expect(accepts({ communities: [1, 4] }, "10.0.0.0/8", { communities: [1, 2, 3] })).toBe(false);
    expect(accepts({ asPathPrefix: [1, 2] }, "10.0.0.0/8", { asPath: seq(1, 2, 3) })).toBe(true);
    expect(accepts({ asPathPrefix: [2] }, "10.0.0.0/8", { asPath: seq(1, 2, 3) })).toBe(false);
  });

  test("operations apply in order, and the rule that decided is named", () => {
    const result = run(
      {
        rules: [
          { action: "continue", operations: [{ do: "set-local-pref", value: 7 }] },
          { action: "reject", match: { localPref: 8 } },
          {
            action: "accept",
            match: { localPref: 7 },
            operations: [{ do: "prepend-as-path", ases: [5, 6] }],
            because: "rule three",
          },
        ],
        otherwise: "reject",
      },
      "10.0.0.0/8",
      { asPath: seq(1) },
    );
    expect(result).toMatchObject({
      accept: true,
      by: "rule three",
      set: { attributes: { localPref: 7, asPath: seq(5, 6, 1) } },
    });
  });
});

test.each([
  ["eth*", "eth0", true],
  ["eth*", "veth0", false],
  ["*0", "eth0", true],
  ["*", "eth0", true],
  ["*", "", false],
  ["e*h*0", "eth10", true],
  ["eth0*0", "eth0", false],
  ["a.b", "axb", false],
  ["vxlan.calico", "vxlan.calico", true],
])("the pattern %s for the interface %j: %s", (pattern, name, expected) => {
  expect(matchesName(pattern, name)).toBe(expected);
});
