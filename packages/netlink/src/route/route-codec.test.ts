import { type Family, formatMac, type IpAddress, type Prefix, prefixOf } from "@calico-ts/net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readMessages } from "../codec/reader.ts";
import { readLinkAddress, writeLinkAddress } from "./address.ts";
import { changeLink, createLink, readLink } from "./link.ts";
import { readNeighbour, writeNeighbour } from "./neighbour.ts";
import { NLM_F } from "../codec/message.ts";
import { MessageWriter } from "../codec/writer.ts";
import { encodeRequest, type RouteRequest, writeRequest } from "./request.ts";
import { readRoute, writeRoute } from "./route.ts";
import { encodeRouteWrites, routeWriteRequest, type RouteTerms } from "./route-batch.ts";
import { addRoutingRule, readRoutingRule } from "./rule.ts";
import type { LinkSpec, Route, RouteType, RoutingRule } from "./values.ts";

const message = (request: RouteRequest) => readMessages(encodeRequest(request, 1))[0];

const address = (family: Family): fc.Arbitrary<IpAddress> =>
  fc.bigInt(1n, family === 4 ? 0xffff_ffffn : (1n << 128n) - 1n).map((value) => ({ family, value }));
const prefix = (family: Family): fc.Arbitrary<Prefix> =>
  fc
    .tuple(address(family), fc.integer({ min: 0, max: family === 4 ? 32 : 128 }))
    .map(([base, length]) => prefixOf(base, length));
const index = fc.integer({ min: 1, max: 0x7fff_ffff });
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(formatMac);
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u8 = fc.integer({ min: 0, max: 255 });
const name = fc.stringMatching(/^[a-z][a-z0-9.-]{0,14}$/);
const family = fc.constantFrom<Family>(4, 6);
const some = <T>(values: fc.Arbitrary<T>) => ({ values });
/** A record whose absent properties are absent, not undefined. */
const partial = <T extends object>(shape: { [K in keyof T]: { values: fc.Arbitrary<T[K]> } }) =>
  fc.record(
    Object.fromEntries(
      Object.entries<{ values: fc.Arbitrary<unknown> }>(shape).map(([key, { values }]) => [key, values]),
    ),
    { requiredKeys: [] },
  );

describe("many routes in one datagram", () => {
  const shared: readonly RouteTerms[] = [
    { protocol: 12, metric: 1024, link: 7, gateway: { family: 4, value: 0xc000_0201n } },
    { protocol: 12, metric: 1024, link: 7, gateway: { family: 6, value: 0xfe80n << 112n } },
    {
      protocol: 12,
      metric: 5,
      nextHops: [
        { link: 7, weight: 1 },
        { link: 8, weight: 2, gateway: { family: 6, value: 9n } },
      ],
    },
    { protocol: 80, type: "blackhole", mtu: 1400 },
  ];
  const writes = fc.array(
    fc.record({
      do: fc.constantFrom("add" as const, "replace" as const, "delete" as const),
      destination: family.chain(prefix),
      terms: fc.constantFrom(...shared),
    }),
    { minLength: 1, maxLength: 40 },
  );

  test("are the bytes of the requests one by one, of which only the last asks to be acknowledged", () => {
    fc.assert(
      fc.property(writes, fc.integer({ min: 1, max: 0xffff }), (batch, sequence) => {
        const out = new MessageWriter();
        for (const [at, write] of batch.entries()) {
          writeRequest(out, routeWriteRequest(write), sequence + at, at < batch.length - 1);
        }
        expect(encodeRouteWrites(batch, sequence)).toEqual(out.bytes());
        const flags = readMessages(out.bytes()).map((one) => (one.flags & NLM_F.ACK) !== 0);
        expect(flags).toEqual(batch.map((_, at) => at === batch.length - 1));
      }),
    );
  });
});

describe("routes", () => {
  const types: RouteType[] = ["unicast", "local", "blackhole", "unreachable", "prohibit", "throw"];
  const routes = family.chain((f) => {
    // An IPv4 route may have an IPv6 gateway (RTA_VIA).
    const gateway = fc.oneof(address(f), address(6));
    const hop = fc.record(
      { gateway, link: index, weight: fc.integer({ min: 1, max: 256 }), onlink: fc.constant(true) },
      { requiredKeys: ["weight"] },
    );
    const common = { destination: prefix(f), type: fc.constantFrom(...types), table: u32, protocol: u8, scope: u8 };
    const extras = { tos: fc.integer({ min: 1, max: 255 }), metric: u32, preferredSource: address(f), mtu: u32 };
    const required = ["destination", "type", "table", "protocol", "scope"] as const;
    return fc.oneof(
      fc.record(
        { ...common, ...extras, gateway, link: index, onlink: fc.constant(true) },
        { requiredKeys: [...required] },
      ),
      fc.record(
        { ...common, ...extras, nextHops: fc.array(hop, { minLength: 1, maxLength: 5 }) },
        { requiredKeys: [...required, "nextHops"] },
      ),
    );
  });

  test("decode(encode(route)) is the route", () => {
    fc.assert(
      fc.property(routes, (route) => {
        expect(readRoute(message(writeRoute(route as Route, "add")))).toEqual(route);
      }),
    );
  });

  test("scope follows from the route as `ip route` chooses it", () => {
    const scopeOf = (spec: Parameters<typeof writeRoute>[0]) => readRoute(message(writeRoute(spec, "add")))?.scope;
    const destination = prefixOf({ family: 4, value: 0x0a000000n }, 24);
    const gateway: IpAddress = { family: 4, value: 0x0a010001n };
    expect(scopeOf({ destination, link: 3 })).toBe(253);
    expect(scopeOf({ destination, gateway })).toBe(0);
    expect(scopeOf({ destination, type: "blackhole" })).toBe(0);
    expect(scopeOf({ destination, type: "local", link: 1 })).toBe(254);
    expect(scopeOf({ destination: prefixOf({ family: 6, value: 1n }, 128), link: 3 })).toBe(0);
  });
});

test("addresses: decode(encode(x)) equals x", () => {
  const specs = family.chain((f) =>
    fc.record(
      {
        link: index,
        address: address(f),
        prefixLength: fc.integer({ min: 0, max: f === 4 ? 32 : 128 }),
        broadcast: address(f),
        label: name,
        scope: u8,
      },
      { requiredKeys: ["link", "address", "prefixLength", "scope"] },
    ),
  );
  fc.assert(
    fc.property(specs, (spec) => {
      expect(readLinkAddress(message(writeLinkAddress(spec, "replace")))).toEqual({ ...spec, flags: 0 });
    }),
  );
  const flagged = writeLinkAddress(
    { link: 1, address: { family: 6, value: 1n }, prefixLength: 64, noDad: true, noPrefixRoute: true },
    "add",
  );
  expect(readLinkAddress(message(flagged))?.flags).toBe(0x202);
});

test("a point-to-point address keeps its peer", () => {
  const spec = {
    link: 4,
    address: { family: 4, value: 1n } as IpAddress,
    peer: { family: 4, value: 2n } as IpAddress,
    prefixLength: 32,
    scope: 0,
  };
  expect(readLinkAddress(message(writeLinkAddress(spec, "add")))).toEqual({ ...spec, flags: 0 });
});

test("rules: decode(encode(x)) equals x", () => {
  const rules = family.chain((f) => {
    const common = {
      family: fc.constant(f),
      priority: u32,
      source: prefix(f),
      destination: prefix(f),
      iif: name,
      oif: name,
      invert: fc.constant(true),
      ipProtocol: fc.integer({ min: 1, max: 255 }),
      protocol: fc.integer({ min: 1, max: 255 }),
      suppressPrefixLength: fc.integer({ min: 0, max: 128 }),
    };
    return fc.oneof(
      fc.record(
        { ...common, action: fc.constant("lookup" as const), table: u32 },
        { requiredKeys: ["family", "priority", "action", "table"] },
      ),
      fc.record(
        {
          ...common,
          action: fc.constantFrom("blackhole" as const, "unreachable" as const, "prohibit" as const),
          mark: u32,
          mask: u32,
        },
        { requiredKeys: ["family", "priority", "action", "mark", "mask"] },
      ),
    );
  });
  fc.assert(
    fc.property(rules, (rule) => {
      const decoded = readRoutingRule(message(addRoutingRule(rule)));
      const { mark, mask, ...rest } = rule as RoutingRule;
      // No mark at all and mark 0 with mask 0 are one rule.
      expect(decoded).toEqual((mark ?? 0) === 0 && (mask ?? 0) === 0 ? rest : rule);
    }),
  );
});

test("neighbours and forwarding entries: decode(encode(x)) equals x", () => {
  const u16 = fc.integer({ min: 0, max: 0xffff });
  const entries = fc.oneof(
    family.chain((f) =>
      fc.record(
        { kind: fc.constant("neighbour" as const), link: index, address: address(f), mac, state: u16, flags: u8 },
        { requiredKeys: ["kind", "link", "address", "state", "flags"] },
      ),
    ),
    family.chain((f) =>
      fc.record(
        {
          kind: fc.constant("fdb" as const),
          link: index,
          mac,
          destination: address(f),
          vlan: u16,
          vni: u32,
          port: u16,
          state: u16,
          flags: u8,
        },
        { requiredKeys: ["kind", "link", "mac", "state", "flags"] },
      ),
    ),
  );
  fc.assert(
    fc.property(entries, (entry) => {
      expect(readNeighbour(message(writeNeighbour(entry as never, "add")))).toEqual(entry);
    }),
  );
  const defaults = readNeighbour(message(writeNeighbour({ kind: "fdb", link: 1, mac: "02:00:00:00:00:01" }, "add")));
  expect(defaults).toMatchObject({ state: 0x80, flags: 2 });
});

describe("links", () => {
  const common = { name, mac, mtu: u32, master: index, txQueueLength: u32, group: u32, alias: name };
  const bool = fc.boolean();
  const vxlan = family.chain((f) =>
    partial({
      port: some(fc.integer({ min: 0, max: 0xffff })),
      local: some(address(f)),
      remote: some(address(f)),
      underlay: some(index),
      ttl: some(u8),
      tos: some(u8),
      learning: some(bool),
      ageing: some(u32),
      proxy: some(bool),
      l2miss: some(bool),
      l3miss: some(bool),
      udpChecksum: some(bool),
      udpZeroChecksum6Tx: some(bool),
      udpZeroChecksum6Rx: some(bool),
      collectMetadata: some(bool),
      gbp: some(fc.constant(true)),
    }),
  );
  const ipip = partial({
    local: some(address(4)),
    remote: some(address(4)),
    underlay: some(index),
    ttl: some(u8),
    tos: some(u8),
    pmtuDiscovery: some(bool),
  });
  const bridge = partial({
    stp: some(bool),
    forwardDelay: some(u32),
    ageingTime: some(u32),
    vlanFiltering: some(bool),
    multicastSnooping: some(bool),
  });
  const head = fc.record(common, { requiredKeys: ["name"] });

  const roundTrip = (spec: Record<string, unknown>, info: Record<string, unknown>): void => {
    const link = readLink(message(createLink(spec as unknown as LinkSpec)));
    expect(link).toMatchObject(
      Object.fromEntries(
        Object.keys(common)
          .filter((key) => key in spec)
          .map((key) => [key, spec[key]]),
      ),
    );
    expect(link?.info).toEqual(info);
  };

  test("vxlan, ipip, bridge and veth: decode(encode(x)) equals x", () => {
    fc.assert(
      fc.property(head, vxlan, u32, (spec, options, id) =>
        roundTrip({ kind: "vxlan", ...spec, id, ...options }, { kind: "vxlan", id, ...options }),
      ),
    );
    fc.assert(
      fc.property(head, ipip, (spec, options) =>
        roundTrip({ kind: "ipip", ...spec, ...options }, { kind: "ipip", ...options }),
      ),
    );
    fc.assert(
      fc.property(head, bridge, (spec, options) =>
        roundTrip({ kind: "bridge", ...spec, ...options }, { kind: "bridge", ...options }),
      ),
    );
    fc.assert(
      fc.property(head, name, (spec, peer) =>
        roundTrip({ kind: "veth", ...spec, peer: { name: peer } }, { kind: "veth" }),
      ),
    );
  });

  test("bridge port options: decode(encode(x)) equals x", () => {
    const options = partial({
      state: some(u8),
      cost: some(u32),
      priority: some(fc.integer({ min: 0, max: 0xffff })),
      hairpin: some(bool),
      guard: some(bool),
      learning: some(bool),
      unicastFlood: some(bool),
      multicastFlood: some(bool),
      broadcastFlood: some(bool),
      proxyArp: some(bool),
      neighbourSuppress: some(bool),
      isolated: some(bool),
    });
    fc.assert(
      fc.property(index, options, (link, bridgePort) => {
        const decoded = readLink(message(changeLink(link, { bridgePort })));
        expect(decoded).toMatchObject({ index: link, bridgePort });
      }),
    );
  });
});
