import { formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mergeAs4Path, prependAs } from "../src/wire/attributes/as-path.ts";
import { decodeAttributes, encodeAttributes } from "../src/wire/attributes/decode.ts";
import type { AttributeContext } from "../src/wire/attributes/table.ts";
import type { PathAttributes } from "../src/wire/attributes/values.ts";
import type { Capability } from "../src/wire/capabilities.ts";
import type { RoutedFamily } from "../src/wire/family.ts";
import { encodeMessage, MessageFramer } from "../src/wire/message.ts";
import type { Nlri } from "../src/wire/nlri.ts";
import {
  decodeUtf8,
  describeNotification,
  encodeUtf8,
  NOTIFY,
  shutdownMessage,
  shutdownNotification,
} from "../src/wire/notification.ts";
import { decodeOpen, encodeOpenBody } from "../src/wire/open.ts";
import { decodeRouteRefresh, encodeRouteRefresh } from "../src/wire/route-refresh.ts";
import { decodeUpdate, encodeAnnouncements, encodeEndOfRib, encodeWithdrawals } from "../src/wire/update.ts";

const context = (change: Partial<AttributeContext> = {}): AttributeContext => ({
  fourOctetAs: true,
  addPath: new Set(),
  internal: true,
  ...change,
});
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const address4 = u32.map((value) => ({ family: 4 as const, value: BigInt(value) }));
const address6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((value) => ({ family: 6 as const, value }));

const prefix = (family: RoutedFamily) =>
  family === "ipv4-unicast"
    ? fc.tuple(u32, fc.integer({ min: 0, max: 32 })).map(([value, length]) => {
        const host = BigInt(32 - length);
        return { family: 4 as const, value: (BigInt(value) >> host) << host, length };
      })
    : fc
        .tuple(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 0, max: 128 }))
        .map(([value, length]) => {
          const host = BigInt(128 - length);
          return { family: 6 as const, value: (value >> host) << host, length };
        });

const segment = fc.record({
  kind: fc.constantFrom("set" as const, "sequence" as const),
  ases: fc.array(fc.integer({ min: 1, max: 0xffffffff }), { minLength: 1, maxLength: 20 }),
});

const attributes = (family: RoutedFamily): fc.Arbitrary<PathAttributes> =>
  fc.record(
    {
      origin: fc.constantFrom("igp" as const, "egp" as const, "incomplete" as const),
      asPath: fc.array(segment, { maxLength: 4 }),
      nextHop: family === "ipv4-unicast" ? address4 : address6,
      med: u32,
      localPref: u32,
      atomicAggregate: fc.constant(true as const),
      aggregator: fc.record({ as: fc.integer({ min: 1, max: 0xffffffff }), address: address4 }),
      communities: fc.uniqueArray(u32, { minLength: 1, maxLength: 5 }).map((list) => list.toSorted((a, b) => a - b)),
      originatorId: u32,
      clusterList: fc.array(u32, { minLength: 1, maxLength: 3 }),
      extendedCommunities: fc
        .uniqueArray(fc.tuple(u32, u32), { minLength: 1, maxLength: 3, selector: String })
        .map((list) =>
          list.map(([a, b]) => a.toString(16).padStart(8, "0") + b.toString(16).padStart(8, "0")).toSorted(),
        ),
      onlyToCustomer: u32,
    },
    { requiredKeys: ["origin", "asPath", "nextHop"] },
  );

const families = ["ipv4-unicast", "ipv6-unicast"] as const;

/** Any code points, lone surrogates included. */
const codePoints = fc.array(fc.integer({ min: 0, max: 0x10ffff })).map((list) => String.fromCodePoint(...list));

describe("UPDATE", () => {
  test.each(families)("announcements of %s come back as they were, in as many messages as they need", (family) => {
    fc.assert(
      fc.property(
        attributes(family),
        fc.uniqueArray(prefix(family), { minLength: 1, maxLength: 2000, selector: formatPrefix }),
        fc.boolean(),
        (attrs, prefixes, addPath) => {
          const both = context({ addPath: new Set(addPath ? [family] : []) });
          const nlri: Nlri[] = prefixes.map((one, at) => (addPath ? { prefix: one, pathId: at } : { prefix: one }));
          const bodies = encodeAnnouncements({ family, nlri }, attrs, both, { maxMessage: 4096 });
          const back: Nlri[] = [];
          for (const body of bodies) {
            expect(body.length).toBeLessThanOrEqual(4096 - 19);
            const decoded = decodeUpdate(body, both);
            if (!decoded.ok) throw new Error(decoded.reason);
            expect(decoded.update.problems).toEqual([]);
            expect(decoded.update.attributes).toEqual(attrs);
            back.push(...decoded.update.reachable.flatMap((routes) => routes.nlri));
          }
          expect(back).toEqual(nlri);
        },
      ),
      { numRuns: 60 },
    );
  });

  test.each(families)("withdrawals of %s come back as they were", (family) => {
    fc.assert(
      fc.property(
        fc.uniqueArray(prefix(family), { minLength: 1, maxLength: 1500, selector: formatPrefix }),
        (prefixes) => {
          const nlri = prefixes.map((one) => ({ prefix: one }));
          const back = encodeWithdrawals({ family, nlri }, context(), { maxMessage: 4096 }).flatMap((body) => {
            expect(body.length).toBeLessThanOrEqual(4096 - 19);
            const decoded = decodeUpdate(body, context());
            if (!decoded.ok) throw new Error(decoded.reason);
            return decoded.update.withdrawn.flatMap((routes) => routes.nlri);
          });
          expect(back).toEqual(nlri);
        },
      ),
      { numRuns: 60 },
    );
  });

  test.each(families)("End-of-RIB of %s is recognised", (family) => {
    const decoded = decodeUpdate(encodeEndOfRib(family), context());
    expect(decoded).toMatchObject({
      ok: true,
      update: { endOfRib: { afi: family === "ipv4-unicast" ? 1 : 2, safi: 1 } },
    });
  });

  test("a large AS number reaches a two-octet speaker's neighbour through AS4_PATH", () => {
    const old = context({ fourOctetAs: false });
    const asPath = [{ kind: "sequence" as const, ases: [65001, 4200000001, 7] }];
    const route = { family: "ipv4-unicast" as const, nlri: [{ prefix: parsePrefix("10.0.0.0/8") }] };
    const attrs: PathAttributes = { origin: "igp", asPath, nextHop: parseAddress("192.0.2.1") };
    const [body = new Uint8Array()] = encodeAnnouncements(route, attrs, old, { maxMessage: 4096 });
    expect(decodeUpdate(body, old)).toMatchObject({ ok: true, update: { attributes: { asPath } } });
  });
});

test("a next hop that is only link-local, as BIRD 2.0.12 tells it between link-local addresses", () => {
  const body = Buffer.from(
    "0000003d900e002c0002012000000000000000000000000000000000fe8000000000000000000000000000bb003020010db800054001010040020602010000fdea",
    "hex",
  );
  const decoded = decodeUpdate(body, context({ internal: false }));
  expect(decoded).toMatchObject({ ok: true, update: { attributes: { nextHop: parseAddress("fe80::bb") } } });
  expect(decoded).not.toHaveProperty("update.attributes.linkLocalNextHop");
});

test("attributes meant for internal peers are dropped from external ones", () => {
  const bytes = encodeAttributes({ localPref: 5, originatorId: 6, clusterList: [7] }, context());
  expect(decodeAttributes(bytes, context({ internal: false }))).toEqual({ attributes: {}, problems: [] });
});

test("an AGGREGATOR that is not AS_TRANS makes AS4_AGGREGATOR and AS4_PATH void (RFC 6793 section 4.2.3)", () => {
  const twoOctet = context({ fourOctetAs: false });
  const path = (as: number) => [{ kind: "sequence" as const, ases: [as] }];
  const bytesOf = (aggregatorAs: number): Uint8Array => {
    const list = encodeAttributes(
      {
        ...{ origin: "igp", asPath: path(23456), nextHop: parseAddress("192.0.2.1") },
        aggregator: { as: aggregatorAs, address: parseAddress("192.0.2.9") },
        ...{ as4Path: path(4_200_000_001), as4Aggregator: { as: 4_200_000_002, address: parseAddress("192.0.2.8") } },
      },
      twoOctet,
    );
    return Uint8Array.of(0, 0, 0, list.length, ...list, 8, 10);
  };
  expect(decodeUpdate(bytesOf(64_512), twoOctet)).toMatchObject({
    update: { attributes: { asPath: path(23456), aggregator: { as: 64_512 } } },
  });
  expect(decodeUpdate(bytesOf(23456), twoOctet)).toMatchObject({
    update: { attributes: { asPath: path(4_200_000_001), aggregator: { as: 4_200_000_002 } } },
  });
});

describe("no bytes from outside can crash a decoder", () => {
  test("UPDATE", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), fc.boolean(), (bytes, four, addPath) => {
        decodeUpdate(bytes, context({ fourOctetAs: four, addPath: new Set(addPath ? families : []) }));
      }),
      { numRuns: 3000 },
    );
  });

  test("OPEN, NOTIFICATION text, ROUTE-REFRESH", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        decodeOpen(Uint8Array.of(4, ...bytes));
        shutdownMessage({ code: 6, subcode: 2, data: bytes });
        decodeRouteRefresh(bytes, true);
      }),
      { numRuns: 3000 },
    );
  });

  test("a stream, in any portions", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 8 }), (portions) => {
        const framer = new MessageFramer();
        for (const portion of portions) framer.push(portion);
      }),
    );
  });
});

describe("OPEN", () => {
  const capabilities: Capability[] = [
    { kind: "multiprotocol", afi: 1, safi: 1 },
    { kind: "multiprotocol", afi: 2, safi: 1 },
    { kind: "route-refresh" },
    { kind: "extended-next-hop", entries: [{ afi: 1, safi: 1, nextHopAfi: 2 }] },
    { kind: "extended-message" },
    { kind: "role", role: "customer" },
    {
      kind: "graceful-restart",
      restarted: true,
      notification: true,
      restartSeconds: 120,
      families: [{ afi: 1, safi: 1, forwardingPreserved: true }],
    },
    { kind: "four-octet-as", as: 4200000001 },
    { kind: "add-path", families: [{ afi: 1, safi: 1, receive: true, send: false }] },
    { kind: "enhanced-route-refresh" },
    {
      kind: "long-lived-graceful-restart",
      families: [{ afi: 2, safi: 1, forwardingPreserved: false, staleSeconds: 86_400 }],
    },
    { kind: "host-name", host: "node-1", domain: "" },
    { kind: "unknown", code: 200, value: Uint8Array.of(1, 2, 3) },
  ];
  const open = { version: 4 as const, as: 4200000001, holdSeconds: 90, identifier: 0x0a000001, capabilities };

  test("comes back as it was", () => {
    expect(decodeOpen(encodeOpenBody(open))).toEqual({ ok: true, open: { ...open, malformedCapabilities: [] } });
  });

  test("with more than 255 bytes of parameters uses the extended length (RFC 9072)", () => {
    const many = {
      ...open,
      capabilities: [...capabilities, { kind: "unknown" as const, code: 201, value: new Uint8Array(240) }],
    };
    expect(decodeOpen(encodeOpenBody(many))).toEqual({ ok: true, open: { ...many, malformedCapabilities: [] } });
  });

  test("with extended parameters whose short length is another than 255 is understood all the same", () => {
    const body = encodeOpenBody({
      ...open,
      capabilities: [{ kind: "unknown", code: 201, value: new Uint8Array(251) }],
    });
    const other = body.slice();
    other[9] = 1;
    expect(body[9]).toBe(255);
    expect(decodeOpen(other)).toEqual(decodeOpen(body));
  });

  test("with a malformed capability is accepted without it", () => {
    const body = Uint8Array.of(4, 0, 1, 0, 90, 1, 2, 3, 4, 5, 2, 3, 65, 1, 9);
    expect(decodeOpen(body)).toMatchObject({
      ok: true,
      open: { as: 1, capabilities: [], malformedCapabilities: [65] },
    });
  });

  test.each<[string, readonly [number, number], number[]]>([
    ["version 3", NOTIFY.unsupportedVersion, [3, 0, 1, 0, 90, 1, 2, 3, 4, 0]],
    ["hold time 1", NOTIFY.unacceptableHoldTime, [4, 0, 1, 0, 1, 1, 2, 3, 4, 0]],
    ["identifier 0", NOTIFY.badIdentifier, [4, 0, 1, 0, 90, 0, 0, 0, 0, 0]],
    ["AS 0", NOTIFY.badPeerAs, [4, 0, 0, 0, 90, 1, 2, 3, 4, 0]],
    ["an unknown parameter", NOTIFY.unsupportedParameter, [4, 0, 1, 0, 90, 1, 2, 3, 4, 3, 1, 1, 0]],
    ["parameters longer than the message", NOTIFY.openUnspecific, [4, 0, 1, 0, 90, 1, 2, 3, 4, 9, 2, 0]],
  ])("with %s is refused with the right code", (_what, [code, subcode], bytes) => {
    expect(decodeOpen(Uint8Array.from(bytes))).toMatchObject({ ok: false, notify: { code, subcode } });
  });
});

describe("framing", () => {
  test("messages come out whole whatever the portions", () => {
    const messages = [
      encodeMessage("keepalive"),
      encodeMessage("update", encodeEndOfRib("ipv6-unicast")),
      encodeMessage("keepalive"),
    ];
    const stream = Uint8Array.from(messages.flatMap((bytes) => [...bytes]));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: stream.length }), (portion) => {
        const framer = new MessageFramer();
        const types: string[] = [];
        for (let at = 0; at < stream.length; at += portion)
          types.push(...framer.push(stream.subarray(at, at + portion)).frames.map((frame) => frame.type));
        expect(types).toEqual(["keepalive", "update", "keepalive"]);
      }),
    );
  });

  test.each<[string, readonly [number, number], (bytes: Uint8Array) => void]>([
    ["a broken marker", NOTIFY.notSynchronized, (bytes) => void (bytes[3] = 0)],
    ["length 18", NOTIFY.badMessageLength, (bytes) => void (bytes[17] = 18)],
    ["a keepalive of 20 bytes", NOTIFY.badMessageLength, (bytes) => void (bytes[17] = 20)],
    [
      "length 5000 without extended messages",
      NOTIFY.badMessageLength,
      (bytes) => bytes.set([5000 >> 8, 5000 & 255], 16),
    ],
    ["type 9", NOTIFY.badMessageType, (bytes) => void (bytes[18] = 9)],
  ])("%s ends the stream with the right code", (_what, [code, subcode], damage) => {
    const bytes = encodeMessage("keepalive");
    damage(bytes);
    const framer = new MessageFramer();
    expect(framer.push(bytes).failure).toMatchObject({ code, subcode });
    expect(framer.push(encodeMessage("keepalive")).frames).toEqual([]);
  });
});

describe("notifications", () => {
  test("carry a shutdown message, cut at a character when it is too long", () => {
    const short = shutdownNotification(NOTIFY.administrativeShutdown, "maintenance until 14:00 ☕");
    expect(describeNotification(short)).toBe('Cease: Administrative Shutdown ("maintenance until 14:00 ☕")');
    const long = shutdownNotification(NOTIFY.administrativeReset, "☕".repeat(100));
    expect(long.data.length).toBeLessThanOrEqual(256);
    expect(shutdownMessage(long)).toBe("☕".repeat(85));
  });

  test("text survives encoding", () => {
    fc.assert(
      fc.property(codePoints, (text) => {
        expect(decodeUtf8(encodeUtf8(text))).toBe(text.toWellFormed());
      }),
    );
  });

  test("route refresh survives encoding", () => {
    for (const kind of ["request", "begin", "end"] as const) {
      expect(decodeRouteRefresh(encodeRouteRefresh({ afi: 2, safi: 1, kind }), true)).toEqual({
        afi: 2,
        safi: 1,
        kind,
      });
    }
  });
});

describe("AS paths", () => {
  test("AS4_PATH replaces the tail it knows", () => {
    const path = [{ kind: "sequence" as const, ases: [65010, 23456, 23456] }];
    expect(mergeAs4Path(path, [{ kind: "sequence", ases: [4200000001, 4200000002] }])).toEqual([
      { kind: "sequence", ases: [65010, 4200000001, 4200000002] },
    ]);
    expect(mergeAs4Path(path, [{ kind: "sequence", ases: [1, 2, 3, 4] }])).toEqual(path);
  });

  test("prepending keeps segments within 255", () => {
    const full = [{ kind: "sequence" as const, ases: Array.from({ length: 255 }, () => 1) }];
    expect(prependAs(full, 7)).toHaveLength(2);
    expect(prependAs([], 7, 2)).toEqual([{ kind: "sequence", ases: [7, 7] }]);
  });
});
