import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { survivingSide } from "../src/fsm/collision.ts";
import type { LocalTerms, Negotiated } from "../src/fsm/negotiate.ts";
import { localCapabilities, negotiate } from "../src/fsm/negotiate.ts";
import type { Role } from "../src/wire/capabilities.ts";
import { NOTIFICATION_NAMES } from "../src/wire/notification.ts";
import type { OpenMessage } from "../src/wire/open.ts";

const terms = (change: Partial<LocalTerms> = {}): LocalTerms => ({
  as: 65001,
  remoteAs: 65002,
  identifier: 1,
  holdSeconds: 90,
  families: ["ipv4-unicast", "ipv6-unicast"],
  addPathReceive: false,
  addPathSend: false,
  extendedMessages: true,
  extendedNextHop: false,
  strictRole: false,
  ...change,
});

const openOf = (peer: LocalTerms): OpenMessage => ({
  version: 4,
  as: peer.as,
  holdSeconds: peer.holdSeconds,
  identifier: peer.identifier,
  capabilities: localCapabilities(peer),
  malformedCapabilities: [],
});

const peerTerms = (change: Partial<LocalTerms> = {}): LocalTerms =>
  terms({ as: 65002, remoteAs: 65001, identifier: 2, ...change });

function agree(ours: Partial<LocalTerms>, theirs: Partial<LocalTerms>): Negotiated {
  const result = negotiate(terms(ours), openOf(peerTerms(theirs)));
  if (!result.ok) throw new Error(result.reason);
  return result.negotiated;
}

describe("two OPEN messages agree on", () => {
  test("the shorter hold time, and keepalives of at most a third of it", () => {
    expect(agree({ holdSeconds: 90 }, { holdSeconds: 30 })).toMatchObject({ holdSeconds: 30, keepaliveSeconds: 10 });
    expect(agree({ keepaliveSeconds: 5 }, {})).toMatchObject({ keepaliveSeconds: 5 });
    expect(agree({ keepaliveSeconds: 60 }, { holdSeconds: 9 })).toMatchObject({ keepaliveSeconds: 3 });
    expect(agree({ holdSeconds: 0 }, {})).toMatchObject({ holdSeconds: 0 });
  });

  test("the families of both", () => {
    expect(agree({}, { families: ["ipv6-unicast"] }).families).toEqual(["ipv6-unicast"]);
    const silent = negotiate(terms(), { ...openOf(peerTerms()), capabilities: [] });
    expect(silent).toMatchObject({ ok: true, negotiated: { families: ["ipv4-unicast"], fourOctetAs: false } });
  });

  test("additional paths where one sends what the other receives", () => {
    const receives = agree({ addPathReceive: true }, { addPathSend: true, families: ["ipv4-unicast"] });
    expect([receives.addPathReceive, receives.addPathSend]).toEqual([new Set(["ipv4-unicast"]), new Set()]);
    const neither = agree({ addPathReceive: true }, { addPathReceive: true });
    expect(neither.addPathReceive.size).toBe(0);
  });

  test("extended messages and next hops when both have them", () => {
    expect(agree({}, { extendedMessages: false }).maxMessage).toBe(4096);
    expect(agree({}, {}).maxMessage).toBe(65535);
    expect(agree({ extendedNextHop: true }, { extendedNextHop: true }).extendedNextHop).toEqual(
      new Set(["ipv4-unicast"]),
    );
  });

  test("graceful restart for the families of both, long-lived only on top of it", () => {
    const gracefulRestart = {
      restartSeconds: 120,
      restarted: false,
      forwardingPreserved: true,
      longLivedSeconds: 3600,
    };
    const both = agree({ gracefulRestart }, { gracefulRestart, families: ["ipv4-unicast"] });
    expect(both.restart).toMatchObject({ restartSeconds: 120, notification: true });
    expect([...(both.restart?.families.keys() ?? [])]).toEqual(["ipv4-unicast"]);
    expect(both.longLived.get("ipv4-unicast")).toMatchObject({ staleSeconds: 3600 });
    expect(agree({}, { gracefulRestart }).restart).toBeUndefined();
    expect(
      agree({ gracefulRestart: { ...gracefulRestart, longLivedSeconds: 0 } }, { gracefulRestart }).longLived.size,
    ).toBe(0);
  });
});

describe("an OPEN is refused for", () => {
  const refusal = (ours: Partial<LocalTerms>, theirs: Partial<LocalTerms>): string | undefined => {
    const result = negotiate(terms(ours), openOf(peerTerms(theirs)));
    return result.ok ? undefined : NOTIFICATION_NAMES[result.notify.code]?.subcodes[result.notify.subcode];
  };

  test("another AS than configured", () => expect(refusal({ remoteAs: 65003 }, {})).toBe("Bad Peer AS"));

  test("our own identifier inside our AS, though not from another AS (RFC 6286)", () => {
    expect(refusal({ remoteAs: 65001 }, { as: 65001, identifier: 1 })).toBe("Bad BGP Identifier");
    expect(refusal({}, { identifier: 1 })).toBeUndefined();
  });

  test("no family in common", () => {
    expect(refusal({ families: ["ipv4-unicast"] }, { families: ["ipv6-unicast"] })).toBe("Unsupported Capability");
  });

  test.each<[Role | undefined, Role | undefined, boolean, boolean]>([
    ["provider", "customer", false, true],
    ["customer", "provider", false, true],
    ["rs", "rs-client", true, true],
    ["peer", "peer", false, true],
    ["peer", "provider", false, false],
    ["provider", "provider", false, false],
    ["provider", undefined, false, true],
    ["provider", undefined, true, false],
    [undefined, "provider", false, true],
  ])("roles: we %s, the peer %s, strict %s: accepted %s", (role, theirs, strictRole, accepted) => {
    const outcome = refusal({ ...(role && { role }), strictRole }, theirs ? { role: theirs } : {});
    expect(outcome).toBe(accepted ? undefined : "Role Mismatch");
  });
});

test("both ends of a collision keep the same connection", () => {
  const speaker = fc.record({ identifier: fc.integer({ min: 1, max: 4 }), as: fc.integer({ min: 1, max: 4 }) });
  fc.assert(
    fc.property(speaker, speaker, (a, b) => {
      fc.pre(a.identifier !== b.identifier || a.as !== b.as);
      expect(survivingSide(a, b) === "outgoing").toBe(survivingSide(b, a) === "incoming");
    }),
  );
});
