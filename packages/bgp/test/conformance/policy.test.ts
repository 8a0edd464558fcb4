/** What may be heard and told, as tables from the texts: RFC 1997 and RFC 3765 communities, RFC 4456 reflection, RFC 8326 graceful shutdown, RFC 9234 section 5. */
import { describe, expect, test } from "vitest";
import type { PeerConfig } from "../../src/config.ts";
import { AttributeSet } from "../../src/rib/attribute-set.ts";
import type { ExportTerms } from "../../src/rib/export-policy.ts";
import { ExportPolicy } from "../../src/rib/export-policy.ts";
import type { ImportTerms } from "../../src/rib/import-policy.ts";
import { ImportPolicy } from "../../src/rib/import-policy.ts";
import { NextHops } from "../../src/rib/next-hop.ts";
import type { Source } from "../../src/rib/route.ts";
import type { AsPath } from "../../src/wire/attributes/as-path.ts";
import type { PathAttributes } from "../../src/wire/attributes/values.ts";
import type { Role } from "../../src/wire/capabilities.ts";
import { addressOf, peerOf } from "../support/network.ts";

const OURS = 65000;
const THEIRS = 65001;
const seq = (...ases: number[]): AsPath => [{ kind: "sequence", ases }];
const KEY = { address: 0x0a00_0000, length: 8 };

const sourceOf = (kind: Source["kind"], change: Partial<Source> = {}): Source => ({
  peer: kind === "local" ? undefined : "from",
  address: addressOf(9),
  kind,
  reflectorClient: false,
  identifier: 9,
  bit: 2,
  ...change,
});

/** What becomes of a route towards a peer; a string: why it is not told. */
function told(attributes: PathAttributes, source: Source, change: Partial<ExportTerms>): PathAttributes | string {
  const terms: ExportTerms = {
    family: "ipv4-unicast",
    internal: false,
    reflectorClient: false,
    localAs: OURS,
    clusterId: 1,
    nextHop: "auto",
    self: addressOf(1),
    filter: undefined,
    requireFilters: false,
    role: undefined,
    gracefulShutdown: false,
    longLived: false,
    extendedNextHop: false,
    addPath: false,
    fourOctetAs: true,
    maxMessage: 4096,
    nextHops: new NextHops(),
    ...change,
  };
  const set = new AttributeSet({ origin: "igp", asPath: seq(THEIRS), nextHop: addressOf(9), ...attributes });
  const verdict = new ExportPolicy(terms).judge(KEY, set, source);
  return verdict.accept ? verdict.set.attributes : verdict.by;
}

/** What becomes of a route from a peer; a string: why it is refused. */
function heard(attributes: PathAttributes, peer: Partial<PeerConfig>, internal = false): PathAttributes | string {
  const terms: ImportTerms = {
    peer: peerOf("from", 9, { remoteAs: internal ? OURS : THEIRS, ...peer }),
    localAs: OURS,
    routerId: 1,
    clusterId: 7,
    internal,
    localAddress: addressOf(1),
    nextHops: new NextHops(),
  };
  const asPath = internal ? [] : seq(THEIRS);
  const set = new AttributeSet({ origin: "igp", asPath, nextHop: addressOf(9), ...attributes });
  const { accepted, rejected } = new ImportPolicy(terms, sourceOf(internal ? "internal" : "external")).judge(
    KEY,
    set,
    0,
  );
  return accepted?.attributes ?? rejected ?? "";
}

describe("well-known communities (RFC 1997)", () => {
  const cases: readonly (readonly [name: string, community: number, internal: boolean, external: boolean])[] = [
    ["NO_EXPORT", 0xffff_ff01, true, false],
    ["NO_ADVERTISE", 0xffff_ff02, false, false],
    ["NO_EXPORT_SUBCONFED", 0xffff_ff03, true, false],
    // For the peer's policy: nothing tells which external peers are peers in its sense.
    ["NOPEER (RFC 3765)", 0xffff_ff04, true, true],
    ["BLACKHOLE (RFC 7999)", 0xffff_029a, true, true],
    ["any other", 0xfde8_0001, true, true],
  ];
  test.each(cases)("%s", (_name, community, internal, external) => {
    const isTold = (terms: Partial<ExportTerms>): boolean =>
      typeof told({ communities: [community] }, sourceOf("external"), terms) !== "string";
    expect([isTold({ internal: true }), isTold({ internal: false })]).toEqual([internal, external]);
  });
});

describe("attributes towards a peer (RFC 4271 section 5.1)", () => {
  const route: PathAttributes = { localPref: 200, med: 5, originatorId: 3, clusterList: [4], onlyToCustomer: 65010 };

  test("an external one gets its own view: no LOCAL_PREF, no MED of somebody else, nothing of reflectors", () => {
    const { origin, asPath, nextHop, ...rest } = told(route, sourceOf("internal"), {}) as PathAttributes;
    expect({ origin, asPath, nextHop }).toEqual({ origin: "igp", asPath: seq(OURS, THEIRS), nextHop: addressOf(1) });
    expect(rest).toEqual({ onlyToCustomer: 65010 });
  });

  test("an internal one gets a route from outside as it is, with a LOCAL_PREF", () => {
    expect(told({ med: 5 }, sourceOf("external"), { internal: true })).toEqual({
      origin: "igp",
      asPath: seq(THEIRS),
      nextHop: addressOf(9),
      med: 5,
      localPref: 100,
    });
  });

  test("our own MED goes to external peers", () => {
    expect(told({ med: 5 }, sourceOf("local"), {})).toMatchObject({ med: 5 });
  });

  test.each<[string, boolean, boolean]>([
    ["a client's route to a client", true, true],
    ["a client's route to another", true, false],
    ["another's route to a client", false, true],
  ])("reflection (RFC 4456 section 6): %s", (_what, fromClient, reflectorClient) => {
    const source = sourceOf("internal", { reflectorClient: fromClient });
    const said = told({ clusterList: [4] }, source, { internal: true, reflectorClient });
    expect(said).toMatchObject({ originatorId: 9, clusterList: [1, 4] });
  });

  test("no reflection where neither end is a client", () => {
    expect(told({}, sourceOf("internal"), { internal: true })).toMatch(/neither end/);
  });
});

describe("loops", () => {
  interface Loop {
    readonly what: string;
    readonly attributes: PathAttributes;
    readonly peer?: Partial<PeerConfig>;
    readonly internal?: boolean;
    /** Absent: none. */
    readonly problem?: RegExp;
  }
  test.each<Loop>([
    { what: "our AS in the path", attributes: { asPath: seq(THEIRS, OURS) }, problem: /AS loop/ },
    {
      what: "our AS in a set",
      attributes: { asPath: [...seq(THEIRS), { kind: "set", ases: [1, OURS] }] },
      problem: /AS loop/,
    },
    {
      what: "our AS as often as allowed",
      attributes: { asPath: seq(THEIRS, OURS, OURS) },
      peer: { allowedLocalAs: 2 },
    },
    {
      what: "our AS once more than allowed",
      attributes: { asPath: seq(THEIRS, OURS, OURS) },
      peer: { allowedLocalAs: 1 },
      problem: /AS loop/,
    },
    { what: "a path of another AS first", attributes: { asPath: seq(65009, THEIRS) }, problem: /does not begin/ },
    { what: "an external path that is empty", attributes: { asPath: [] }, problem: /does not begin/ },
    {
      what: "our router id as ORIGINATOR_ID (RFC 4456 section 8)",
      attributes: { originatorId: 1 },
      internal: true,
      problem: /reflected back/,
    },
    {
      what: "our cluster id in CLUSTER_LIST (RFC 4456 section 8)",
      attributes: { clusterList: [3, 7] },
      internal: true,
      problem: /cluster loop/,
    },
    { what: "another's CLUSTER_LIST", attributes: { clusterList: [3], originatorId: 3 }, internal: true },
    {
      what: "ourselves as the next hop (RFC 4271 section 5.1.3)",
      attributes: { nextHop: addressOf(1) },
      problem: /our own address/,
    },
  ])("$what", ({ attributes, peer = {}, internal, problem = /^accepted$/ }) => {
    const said = heard(attributes, peer, internal);
    expect(typeof said === "string" ? said : "accepted").toMatch(problem);
  });
});

describe("graceful shutdown (RFC 8326)", () => {
  const communities = [0xffff_0000];
  test("a route that an external peer has marked is the last choice, and so is any of a peer that is about to go", () => {
    expect(heard({ communities }, {})).toMatchObject({ localPref: 0 });
    expect(heard({}, { gracefulShutdown: true })).toMatchObject({ localPref: 0 });
  });

  test("inside the AS LOCAL_PREF has been set already", () => {
    expect(heard({ communities, localPref: 50 }, {}, true)).toMatchObject({ localPref: 50 });
  });

  test("marks what is told to a peer that we are about to leave", () => {
    expect(told({}, sourceOf("local"), { gracefulShutdown: true })).toMatchObject({ communities });
  });
});

describe("roles (RFC 9234 section 5), ours", () => {
  const LEAK = "leak";
  // With ONLY_TO_CUSTOMER absent, of the peer's AS, of another AS: what it is then.
  test.each<[Role, number | undefined, number | string, number | string]>([
    ["provider", undefined, LEAK, LEAK],
    ["rs", undefined, LEAK, LEAK],
    ["peer", THEIRS, THEIRS, LEAK],
    ["customer", THEIRS, THEIRS, 65010],
    ["rs-client", THEIRS, THEIRS, 65010],
  ])("%s: what is heard", (role, absent, same, other) => {
    const otc = (attributes: PathAttributes): number | string | undefined => {
      const said = heard(attributes, { role });
      return typeof said === "string" ? LEAK : said.onlyToCustomer;
    };
    expect([otc({}), otc({ onlyToCustomer: THEIRS }), otc({ onlyToCustomer: 65010 })]).toEqual([absent, same, other]);
  });

  // With ONLY_TO_CUSTOMER absent, and of another AS: what it is then.
  test.each<[Role, number | undefined, number | string]>([
    ["provider", OURS, 65010],
    ["rs", OURS, 65010],
    ["peer", OURS, LEAK],
    ["customer", undefined, LEAK],
    ["rs-client", undefined, LEAK],
  ])("%s: what is told", (role, absent, present) => {
    const otc = (attributes: PathAttributes): number | string | undefined => {
      const said = told(attributes, sourceOf("external"), { role });
      return typeof said === "string" ? LEAK : said.onlyToCustomer;
    };
    expect([otc({}), otc({ onlyToCustomer: 65010 })]).toEqual([absent, present]);
  });

  test("inside an AS there are none", () => {
    expect(told({ onlyToCustomer: 65010 }, sourceOf("external"), { role: "peer", internal: true })).toBeTypeOf(
      "object",
    );
    expect(heard({ onlyToCustomer: 65010 }, { role: "provider" }, true)).toBeTypeOf("object");
  });
});
