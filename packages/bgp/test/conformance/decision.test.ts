/** RFC 4271 section 9.1.2.2, with RFC 4456 section 9: two or three routes, and which steps remove all but the best. */
import { describe, expect, test } from "vitest";
import { AttributeSet } from "../../src/rib/attribute-set.ts";
import type { Candidate } from "../../src/rib/decision.ts";
import { choose, traceDecision } from "../../src/rib/decision.ts";
import type { Source } from "../../src/rib/route.ts";
import type { AsPath } from "../../src/wire/attributes/as-path.ts";
import type { PathAttributes } from "../../src/wire/attributes/values.ts";
import { addressOf } from "../support/network.ts";

interface Told extends PathAttributes {
  readonly name: string;
  readonly kind?: Source["kind"];
  readonly identifier?: number;
  readonly address?: number;
  readonly metric?: number;
}

const seq = (...ases: number[]): AsPath => [{ kind: "sequence", ases }];

function candidate({
  name,
  kind = "external",
  identifier = 1,
  address = 1,
  metric = 0,
  ...attributes
}: Told): Candidate {
  const set = new AttributeSet({ origin: "igp", asPath: seq(1), nextHop: addressOf(1), ...attributes });
  const source = { peer: name, address: addressOf(address), kind, reflectorClient: false, identifier, bit: 1 };
  const route = {
    source,
    pathId: 0,
    received: set,
    accepted: set,
    rejected: undefined,
    stale: 0,
    exportId: 0,
    learnedAt: 0,
    next: undefined,
  };
  return { route, set, metric };
}

/** The best, and the steps that removed others. */
function outcome(routes: readonly Told[], alwaysCompareMed = false): readonly (string | undefined)[] {
  const { best, steps } = traceDecision(routes.map(candidate), { alwaysCompareMed });
  const chosen = choose(routes.toReversed().map(candidate), { alwaysCompareMed }, false);
  expect(chosen?.best.route.source.peer).toBe(best?.route.source.peer);
  return [best?.route.source.peer, ...steps.map(({ name }) => name)];
}

describe("one step decides", () => {
  test.each<[string, Told, Told]>([
    ["local-pref", { name: "a", localPref: 101, asPath: seq(1, 2) }, { name: "b" }],
    ["as-path-length", { name: "a", origin: "incomplete" }, { name: "b", asPath: seq(1, 1) }],
    ["origin", { name: "a", med: 9 }, { name: "b", origin: "egp" }],
    ["med", { name: "a", med: 1, kind: "internal" }, { name: "b", med: 2 }],
    ["external", { name: "a", metric: 9 }, { name: "b", kind: "internal" }],
    ["metric", { name: "a", metric: 1, identifier: 2 }, { name: "b", metric: 2, identifier: 1 }],
    ["router-id", { name: "a", identifier: 1, address: 2 }, { name: "b", identifier: 2, address: 1 }],
    [
      "router-id",
      { name: "a", kind: "internal", identifier: 9, originatorId: 1, clusterList: [1, 2] },
      { name: "b", kind: "internal", identifier: 2 },
    ],
    [
      "cluster-list",
      { name: "a", kind: "internal", originatorId: 5, clusterList: [1], address: 2 },
      { name: "b", kind: "internal", originatorId: 5, clusterList: [1, 2], address: 1 },
    ],
    ["cluster-list", { name: "a", kind: "internal", address: 2 }, { name: "b", kind: "internal", clusterList: [1] }],
    ["peer-address", { name: "a", address: 1 }, { name: "b", address: 2 }],
  ])("%s", (step, better, worse) => {
    expect(outcome([better, worse])).toEqual(["a", step]);
    expect(outcome([worse, better])).toEqual(["a", step]);
  });
});

describe("MULTI_EXIT_DISC (section 9.1.2.2 c)", () => {
  const other = { name: "b", asPath: seq(2), med: 9, identifier: 1 } as const;

  test("of different neighbouring ASes is not compared, unless asked for", () => {
    const one = { name: "a", asPath: seq(1), med: 1, identifier: 2 } as const;
    expect(outcome([one, other])).toEqual(["b", "router-id"]);
    expect(outcome([one, other], true)).toEqual(["a", "med"]);
  });

  test("removes a route within its own AS before anything else is compared, whatever is between them", () => {
    // Pairwise, a loses to b, b to c and c to a: only comparing groups has an answer that does not depend on the order.
    const routes: Told[] = [
      { name: "a", asPath: seq(1), med: 1, identifier: 3 },
      { ...other, identifier: 2 },
      { name: "c", asPath: seq(1), med: 2, identifier: 1 },
    ];
    const orders = [
      [0, 1, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
      [1, 0, 2],
      [0, 2, 1],
    ];
    for (const order of orders) {
      expect(outcome(order.flatMap((at) => routes[at] ?? []))).toEqual(["b", "med", "router-id"]);
    }
  });

  test("of our own AS's routes is compared: an empty path, or one that begins with a set, has no neighbour", () => {
    const set: AsPath = [{ kind: "set", ases: [7] }];
    const inside = { kind: "internal", origin: "igp" } as const;
    expect(
      outcome([
        { name: "a", ...inside, asPath: [], med: 1, identifier: 2 },
        { name: "b", ...inside, asPath: [], med: 2 },
      ]),
    ).toEqual(["a", "med"]);
    expect(
      outcome([
        { name: "a", ...inside, asPath: set, med: 1, identifier: 2 },
        { name: "b", ...inside, asPath: set, med: 2 },
      ]),
    ).toEqual(["a", "med"]);
  });
});
