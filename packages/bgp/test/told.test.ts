/** What a peer that is nothing but bytes is told, and when: refreshes (RFC 2918, RFC 7313), flapping, and long-lived stale routes (RFC 9494). */
import { parsePrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { Filter } from "../src/policy/filter.ts";
import type { AttributeSet } from "../src/rib/attribute-set.ts";
import type { Capability } from "../src/wire/capabilities.ts";
import { encodeRouteRefresh } from "../src/wire/route-refresh.ts";
import { ByHand, type ByHandOptions } from "./support/by-hand.ts";

const ENHANCED: Capability = { kind: "enhanced-route-refresh" };
const REQUEST = encodeRouteRefresh({ afi: 1, safi: 1, kind: "request" });

describe("a refresh", () => {
  /** More routes than one tick tells. */
  const withManyRoutes = (options: ByHandOptions): ByHand => {
    const one = new ByHand(options);
    for (let at = 0; at < 5000; at++)
      one.speaker.originate({ family: 4, value: BigInt(0x0a00_0000 + at * 256), length: 24 }, {}, 0);
    return one.settle();
  };
  /** The order of things, routes in between as one. */
  const course = ({ heard }: ByHand): string[] =>
    heard.map((word) => (word.startsWith("+") ? "routes" : word)).filter((word, at, all) => word !== all[at - 1]);

  test("asked for while the first telling goes on comes after it: End-of-RIB is not lost", () => {
    const one = withManyRoutes({}).up().tick().say("route-refresh", REQUEST).settle();
    expect(course(one)).toEqual(["open", "keepalive", "routes", "end-of-rib", "routes"]);
    expect(one.heard.filter((word) => word.startsWith("+"))).toHaveLength(10_000);
  });

  test("with demarcation begins after End-of-RIB too (RFC 7313 section 3.2)", () => {
    const one = withManyRoutes({ capabilities: [ENHANCED] })
      .up()
      .tick()
      .say("route-refresh", REQUEST)
      .settle();
    expect(course(one).slice(2)).toEqual(["routes", "end-of-rib", "route-refresh 1", "routes", "route-refresh 2"]);
  });

  test("another policy while the first telling goes on does not lose End-of-RIB either", () => {
    const one = withManyRoutes({}).up().tick();
    const peers = one.speaker.config.peers.map((peer) => ({ ...peer, gracefulShutdown: true }));
    one.speaker.configure({ ...one.speaker.config, peers }, 0);
    one.settle();
    expect(one.heard.at(-1)).toBe("end-of-rib");
    expect(one.attributes.communities).toEqual([0xffff0000]);
  });

  test.each([0, 1, 2])("of 5 bytes and subtype %i is an error (RFC 7313 section 5)", (subtype) => {
    const one = new ByHand({ capabilities: [ENHANCED] }).up().settle();
    one.say("route-refresh", Uint8Array.of(0, 1, subtype, 1, 0));
    expect(one.heard.at(-1)).toBe("notification 7/1");
  });

  test("of a peer that does not announce the capability itself is answered (RFC 2918 section 4)", () => {
    const one = new ByHand();
    one.speaker.originate(parsePrefix("10.0.0.0/8"), {}, 0);
    one.up().settle().say("route-refresh", REQUEST).settle();
    expect(one.heard.slice(2)).toEqual(["+10.0.0.0/8", "end-of-rib", "+10.0.0.0/8"]);
  });

  test("of a family that was not agreed on is nothing", () => {
    const one = new ByHand().up().settle();
    one.say("route-refresh", encodeRouteRefresh({ afi: 2, safi: 1, kind: "request" })).settle();
    expect(one.heard).toEqual(["open", "keepalive", "end-of-rib"]);
  });
});

describe("a peer that flaps", () => {
  const exportFilter: Filter = {
    name: "out",
    rules: [{ action: "accept", operations: [{ do: "set-med", value: 5 }] }],
    otherwise: "reject",
  };
  const setOf = ({ speaker }: ByHand, address: number): AttributeSet | undefined =>
    speaker.routing.tables.get("ipv4-unicast")?.find(address, 8)?.best?.received;

  test("leaves nothing behind on the attributes of routes that stay", () => {
    const one = new ByHand({ peer: { exportFilter } });
    one.speaker.originate(parsePrefix("11.0.0.0/8"), { med: 1 }, 0);
    const after = Array.from({ length: 3 }, () => {
      one
        .up()
        .settle()
        .down()
        .settle(one.now + 60_000);
      return setOf(one, 0x0b00_0000)?.derivations;
    });
    expect(one.heard.filter((word) => word === "+11.0.0.0/8")).toHaveLength(3);
    // What the filter makes stays, as long as the filter.
    expect(after).toEqual([1, 1, 1]);
    one.speaker.configure({ ...one.speaker.config, peers: [] }, one.now);
    expect(setOf(one, 0x0b00_0000)?.derivations).toBe(0);
  });

  test("nor on its own, which graceful restart keeps", () => {
    const restart: Capability = {
      kind: "graceful-restart",
      restarted: false,
      notification: false,
      restartSeconds: 600,
      families: [{ afi: 1, safi: 1, forwardingPreserved: true }],
    };
    const one = new ByHand({
      peer: { role: "customer", gracefulRestart: { restartSeconds: 600 } },
      capabilities: [restart],
    });
    const after = Array.from({ length: 3 }, () => {
      one
        .up()
        .announce("10.0.0.0/8")
        .down()
        .settle(one.now + 60_000);
      return setOf(one, 0x0a00_0000)?.derivations;
    });
    expect(after).toEqual([1, 1, 1]);
  });
});

test.each([
  ["keeps another connection in place of this one", [6, 7], 1],
  ["resets the session", [6, 4], 0],
] as const)("a peer that %s", (_what, said, kept) => {
  const restart: Capability = {
    kind: "graceful-restart",
    restarted: false,
    notification: false,
    restartSeconds: 60,
    families: [{ afi: 1, safi: 1, forwardingPreserved: true }],
  };
  const one = new ByHand({ capabilities: [restart], peer: { gracefulRestart: { restartSeconds: 60 } } }).up();
  one.announce("10.0.0.0/8").say("notification", Uint8Array.from(said)).settle();
  expect(one.speaker.routing.tables.get("ipv4-unicast")?.size).toBe(kept);
});

describe("long-lived graceful restart (RFC 9494)", () => {
  const family = { afi: 1, safi: 1, forwardingPreserved: true };
  const restart = (families: readonly (typeof family)[], restartSeconds: number): Capability => ({
    kind: "graceful-restart",
    restarted: false,
    notification: false,
    restartSeconds,
    families,
  });
  const longLived: Capability = { kind: "long-lived-graceful-restart", families: [{ ...family, staleSeconds: 100 }] };
  const peer = { gracefulRestart: { restartSeconds: 60, longLivedSeconds: 100 } };
  const stale = (one: ByHand): string[] => {
    const table = one.speaker.routing.tables.get("ipv4-unicast");
    const found = table?.find(0x0a00_0000, 8)?.best;
    return found === undefined || found === null
      ? []
      : [found.accepted?.longLivedStale === true ? "long-lived" : "kept"];
  };

  test.each([
    ["after the time of the first kind", [restart([family], 10), longLived], ["kept"], ["long-lived"]],
    [
      "at once for a family that only the long-lived capability names",
      [restart([], 10), longLived],
      ["long-lived"],
      ["long-lived"],
    ],
    ["never without the graceful restart capability (section 3.1)", [longLived], [], []],
  ])("begins %s", (_what, capabilities, first, later) => {
    const one = new ByHand({ peer, capabilities }).up().announce("10.0.0.0/8").down();
    expect(stale(one)).toEqual(first);
    expect(stale(one.settle(10_000))).toEqual(later);
    expect(stale(one.settle(120_000))).toEqual([]);
  });

  test("does not keep what is marked NO_LLGR", () => {
    const one = new ByHand({ peer, capabilities: [restart([family], 10), longLived] }).up();
    one.announce("10.0.0.0/8", { communities: [0xffff0007] }).down();
    expect(stale(one)).toEqual(["kept"]);
    expect(stale(one.settle(10_000))).toEqual([]);
  });

  test.each([
    ["those that know what it means", [restart([family], 10), longLived], ["+10.9.0.0/16"]],
    ["nobody else", [restart([family], 10)], []],
  ])("what is marked stale is told to %s", (_what, capabilities, told) => {
    const one = new ByHand({ peer, capabilities }).up().settle();
    one.speaker.originate(parsePrefix("10.9.0.0/16"), { communities: [0xffff0006] }, 0);
    expect(one.settle().heard.filter((word) => word.startsWith("+"))).toEqual(told);
  });
});
