import { CalicoError } from "@calico-ts/std";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readMessages } from "../codec/reader.ts";
import { MessageWriter } from "../codec/writer.ts";
import { encodeBatch } from "./batch.ts";
import { concatKey, keyLength, portKey } from "./bytes.ts";
import { readNftMessage, type NftObject } from "./dump.ts";
import { elementsFromWire, type WireElement } from "./elements.ts";
import { expressionCodec } from "./expressions.ts";
import { normalizeRule, sameRule } from "./normalize.ts";
import { registerAt } from "./registers.ts";
import type {
  NftBaseChain,
  NftCommand,
  NftDataType,
  NftElement,
  NftExpr,
  NftMetaKey,
  NftSet,
  NftTable,
  NftVerdict,
} from "./values.ts";

const table: NftTable = { family: "inet", name: "calico" };

const outcome = (action: () => unknown): unknown => {
  try {
    action();
    return "fine";
  } catch (error) {
    return error instanceof CalicoError ? "fine" : error;
  }
};

/** What the kernel would be told, object by object. */
function objectsOf(commands: readonly NftCommand[]): NftObject[] {
  return readMessages(encodeBatch(commands, 1).bytes)
    .filter((message) => message.type >> 8 === 10)
    .map(readNftMessage);
}

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const positive = fc.integer({ min: 1, max: 0xffff_ffff });
const u64 = fc.bigInt(0n, (1n << 64n) - 1n);
const u8 = fc.integer({ min: 0, max: 255 });
const u16 = fc.integer({ min: 0, max: 0xffff });
const register = fc.integer({ min: 0, max: 15 }).map(registerAt);
const data = fc.uint8Array({ minLength: 1, maxLength: 16 });
const name = fc.stringMatching(/^[a-zA-Z][a-zA-Z0-9._-]{0,30}$/);
const verdict: fc.Arbitrary<NftVerdict> = fc.oneof(
  fc.constantFrom("accept" as const, "drop" as const, "return" as const, "continue" as const).map((kind) => ({ kind })),
  fc.record({ kind: fc.constantFrom("jump" as const, "goto" as const), chain: name }),
);
const metaKeys: NftMetaKey[] = [
  "len",
  "protocol",
  "nfproto",
  "l4proto",
  "priority",
  "mark",
  "iif",
  "oif",
  "iifname",
  "oifname",
  "iifgroup",
  "oifgroup",
  "iiftype",
  "oiftype",
  "skuid",
  "pkttype",
  "nftrace",
  "random",
];
const ctKeys = [
  "state",
  "direction",
  "status",
  "mark",
  "expiration",
  "l3proto",
  "src",
  "dst",
  "protocol",
  "proto-src",
  "proto-dst",
  "zone",
  "src-ip",
  "dst-ip",
  "src-ip6",
  "dst-ip6",
] as const;
const base = fc.constantFrom("link" as const, "network" as const, "transport" as const);
type Fields = Record<string, fc.Arbitrary<unknown>>;
const record = (kind: NftExpr["kind"], required: Fields, optional: Fields = {}): fc.Arbitrary<NftExpr> =>
  fc.record<Record<string, unknown>>(
    { kind: fc.constant(kind), ...required, ...optional },
    { requiredKeys: ["kind", ...Object.keys(required)] },
  ) as unknown as fc.Arbitrary<NftExpr>;
const on = fc.constant(true);

const expression: fc.Arbitrary<NftExpr> = fc.oneof(
  record("meta", { key: fc.constantFrom(...metaKeys), dreg: register }),
  record("meta-set", { key: fc.constantFrom(...metaKeys), sreg: register }),
  record("payload", { base, offset: u32, length: u32, dreg: register }),
  record("payload-set", { base, offset: u32, length: u32, sreg: register }, { checksumOffset: u32 }),
  record("cmp", { op: fc.constantFrom("eq", "neq", "lt", "lte", "gt", "gte"), sreg: register, data }),
  record("range", { op: fc.constantFrom("eq", "neq"), sreg: register, from: data, to: data }),
  fc.integer({ min: 1, max: 16 }).chain((length) => {
    const bytes = fc.uint8Array({ minLength: length, maxLength: length });
    return record("bitwise", { sreg: register, dreg: register, mask: bytes, xor: bytes });
  }),
  record("lookup", { set: name, sreg: register }, { dreg: fc.oneof(fc.constant(0), register), invert: on }),
  record("immediate", { dreg: register, data }),
  record("verdict", { verdict }),
  record(
    "ct",
    { key: fc.constantFrom(...ctKeys), dreg: register },
    { direction: fc.constantFrom("original", "reply") },
  ),
  record("ct-set", { key: fc.constantFrom(...ctKeys), sreg: register }),
  record("counter", {}, { packets: u64, bytes: u64 }),
  record("log", {}, { prefix: name, snaplen: positive, level: fc.integer({ min: 0, max: 3 }) }),
  record("log", { group: u16 }, { prefix: name, snaplen: positive }),
  record("limit", { rate: u64, perSeconds: u32, burst: u32, type: fc.constantFrom("packets", "bytes") }, { over: on }),
  record("connlimit", { count: u32 }, { over: on }),
  record(
    "nat",
    { type: fc.constantFrom("snat", "dnat"), family: fc.constantFrom("ip", "ip6"), addressMin: fc.constant(1) },
    { addressMax: fc.constant(2), portMin: fc.constant(3), portMax: fc.constant(4), flags: fc.constantFrom(4, 16, 20) },
  ),
  record("masquerade", {}, { portMin: fc.constant(1), flags: fc.constantFrom(4, 16) }),
  record("redirect", {}, { portMin: fc.constant(1), flags: fc.constantFrom(4, 16) }),
  record("fib", {
    result: fc.constantFrom("oif", "oifname", "type"),
    flags: fc.subarray(["saddr", "daddr", "mark", "iif", "oif", "present"]),
    dreg: register,
  }),
  record("reject", { type: fc.constantFrom("icmp", "tcp-reset", "icmpx") }, { code: u8 }),
  fc.constant<NftExpr>({ kind: "notrack" }),
  record(
    "numgen",
    { mode: fc.constantFrom("incremental", "random"), modulus: u32, dreg: register },
    { offset: positive },
  ),
  record("hash", { sreg: register, length: u32, modulus: u32, dreg: register }, { seed: u32, offset: positive }),
);

describe("expressions", () => {
  test("decode(encode(expression)) is the expression", () => {
    fc.assert(
      fc.property(expression, (expr) => {
        const out = new MessageWriter();
        expressionCodec.write(out, expr);
        expect(expressionCodec.read(out.bytes())).toEqual(expr);
      }),
      { numRuns: 2000 },
    );
  });

  test("what the tables do not know survives byte for byte", () => {
    const unknown: NftExpr = { kind: "unknown", name: "tproxy", data: Uint8Array.of(8, 0, 1, 0, 0, 0, 0, 2) };
    const out = new MessageWriter();
    expressionCodec.write(out, unknown);
    expect(expressionCodec.read(out.bytes())).toEqual(unknown);
    // A known expression with a value from a newer kernel.
    const odd = new MessageWriter();
    odd.attributeText(1, "meta");
    const start = odd.beginNested(2);
    odd.attributeBe32(2, 9999);
    odd.attributeBe32(1, 1);
    odd.end(start);
    expect(expressionCodec.read(odd.bytes())).toMatchObject({ kind: "unknown", name: "meta" });
  });

  test("arbitrary bytes never crash the reader", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 80 }),
        fc.constantFrom("meta", "cmp", "limit", "nat", "fib"),
        (bytes, kind) => {
          const out = new MessageWriter();
          out.attributeText(1, kind);
          out.attributeBytes(2, bytes);
          expect(outcome(() => expressionCodec.read(out.bytes()))).toBe("fine");
        },
      ),
    );
  });
});

describe("rules", () => {
  const comment = fc.stringMatching(/^[ -~]{1,127}$/);
  const rules = fc.record({ exprs: fc.array(expression, { maxLength: 12 }), comment }, { requiredKeys: ["exprs"] });

  test("decode(encode(rule)) is the rule", () => {
    fc.assert(
      fc.property(rules, (rule) => {
        expect(objectsOf([{ do: "add-rule", table, chain: "c", rule }])).toEqual([
          { kind: "rule", gone: false, table, chain: "c", handle: 0n, rule },
        ]);
        expect(sameRule(rule, normalizeRule(rule))).toBe(true);
      }),
    );
  });

  test("a comment the kernel would cut is refused, with the command's place", () => {
    const rule = { exprs: [], comment: "x".repeat(128) };
    const commands: NftCommand[] = [
      { do: "add-table", table },
      { do: "add-rule", table, chain: "c", rule },
    ];
    expect(() => encodeBatch(commands, 1)).toThrow(
      expect.objectContaining({ code: "BAD_INPUT", detail: expect.objectContaining({ commandIndex: 1 }) }),
    );
  });

  test("what the kernel fills in does not make a rule another one", () => {
    const asked: NftExpr[] = [
      { kind: "meta", key: "mark", dreg: 8 },
      { kind: "counter" },
      { kind: "log", prefix: "p" },
      { kind: "nat", type: "dnat", family: "ip", addressMin: 8, portMin: 12 },
    ];
    const dumped: NftExpr[] = [
      { kind: "meta", key: "mark", dreg: 1 },
      { kind: "counter", packets: 7n, bytes: 9n },
      { kind: "log", prefix: "p", level: 4 },
      { kind: "nat", type: "dnat", family: "ip", addressMin: 1, addressMax: 1, portMin: 2, portMax: 2, flags: 3 },
    ];
    expect(sameRule({ exprs: asked }, { exprs: dumped })).toBe(true);
    expect(sameRule({ exprs: asked }, { exprs: dumped.slice(1) })).toBe(false);
    expect(sameRule({ exprs: asked, comment: "a" }, { exprs: asked, comment: "b" })).toBe(false);
  });
});

test("chains and tables: decode(encode(x)) equals x", () => {
  const bases: fc.Arbitrary<NftBaseChain> = fc.record(
    {
      type: fc.constantFrom("filter" as const, "nat" as const, "route" as const),
      hook: fc.constantFrom(
        "prerouting" as const,
        "input" as const,
        "forward" as const,
        "output" as const,
        "postrouting" as const,
        "ingress" as const,
      ),
      priority: fc.integer({ min: -400, max: 400 }),
      policy: fc.constantFrom("accept" as const, "drop" as const),
      device: name,
    },
    { requiredKeys: ["type", "hook", "priority", "policy"] },
  );
  fc.assert(
    fc.property(name, fc.option(bases, { nil: undefined }), (chainName, chainBase) => {
      const chain = chainBase === undefined ? { name: chainName } : { name: chainName, base: chainBase };
      expect(
        objectsOf([
          { do: "add-table", table },
          { do: "add-chain", table, chain },
        ]),
      ).toEqual([
        { kind: "table", gone: false, table },
        { kind: "chain", gone: false, table, chain },
      ]);
    }),
  );
});

const dataType = fc.constantFrom<NftDataType>(
  "ipv4_addr",
  "ipv6_addr",
  "ether_addr",
  "inet_proto",
  "inet_service",
  "mark",
  "devgroup",
  "ifname",
  "integer",
);
const sets: fc.Arbitrary<NftSet> = fc.record(
  {
    name,
    keyTypes: fc.array(dataType, { minLength: 1, maxLength: 4 }),
    interval: fc.constant(true as const),
    mapTo: fc.oneof(dataType, fc.constant("verdict" as const)),
    size: positive,
  },
  { requiredKeys: ["name", "keyTypes"] },
);

test("sets: decode(encode(set)) is the set", () => {
  fc.assert(
    fc.property(sets, (set) => {
      expect(objectsOf([{ do: "add-set", table, set }])).toEqual([{ kind: "set", gone: false, table, set }]);
    }),
  );
});

/** The elements a kernel would list after these messages. */
const elementsIn = (set: NftSet, commands: readonly NftCommand[]): NftElement[] => {
  const wire: WireElement[] = objectsOf(commands).flatMap((object) =>
    object.kind === "elements" ? object.elements : [],
  );
  return elementsFromWire(set, wire);
};

describe("elements", () => {
  const elementsOf = (set: NftSet): fc.Arbitrary<NftElement[]> => {
    const key = fc.uint8Array({ minLength: keyLength(set.keyTypes), maxLength: keyLength(set.keyTypes) });
    const value = set.mapTo === "verdict" ? verdict : data;
    const optional = { comment: fc.stringMatching(/^[ -~]{1,100}$/) };
    return fc.uniqueArray(
      set.mapTo === undefined
        ? fc.record({ key, ...optional }, { requiredKeys: ["key"] })
        : fc.record({ key, value, ...optional }, { requiredKeys: ["key", "value"] }),
      { selector: (element) => String(element.key), maxLength: 30 },
    );
  };

  test("hash sets and maps: decode(encode(elements)) are the elements", () => {
    const cases = sets
      .map((set): NftSet => {
        const { interval, ...hash } = set;
        return interval === undefined ? set : hash;
      })
      .chain((set) => elementsOf(set).map((elements) => ({ set, elements })));
    fc.assert(
      fc.property(cases, ({ set, elements }) => {
        expect(elementsIn(set, [{ do: "add-elements", table, set, elements }])).toEqual(elements);
      }),
    );
  });

  test("interval sets: disjoint ranges come back, adjacent ones apart, the last one to the largest key", () => {
    const set: NftSet = { name: "ports", keyTypes: ["inet_service"], interval: true };
    const bounds = fc.uniqueArray(u16, { minLength: 2, maxLength: 40 }).map((list) => list.toSorted((a, b) => a - b));
    fc.assert(
      fc.property(bounds, fc.boolean(), (list, toTheEnd) => {
        const ends = toTheEnd ? [...list.slice(0, -1), 0xffff] : list;
        const elements: NftElement[] = [];
        for (let at = 0; at + 1 < ends.length; at += 2) {
          const [first, last] = [ends[at], ends[at + 1]];
          if (elements.length > 0 && first > last) continue;
          elements.push(first === last ? { key: portKey(first) } : { key: portKey(first), keyEnd: portKey(last) });
        }
        expect(elementsIn(set, [{ do: "add-elements", table, set, elements }])).toEqual(elements);
      }),
    );
    const adjacent = [
      { key: portKey(0), keyEnd: portKey(9) },
      { key: portKey(10) },
      { key: portKey(11), keyEnd: portKey(65_535) },
    ];
    expect(elementsIn(set, [{ do: "add-elements", table, set, elements: adjacent }])).toEqual(adjacent);
  });

  test("ranges over concatenations keep an end per field", () => {
    const set: NftSet = { name: "x", keyTypes: ["inet_proto", "inet_service"], interval: true };
    const elements: NftElement[] = [
      { key: concatKey(Uint8Array.of(6), portKey(80)), keyEnd: concatKey(Uint8Array.of(6), portKey(90)) },
      { key: concatKey(Uint8Array.of(17), portKey(53)) },
    ];
    expect(elementsIn(set, [{ do: "add-elements", table, set, elements }])).toEqual(elements);
  });

  test("a long list is spread over messages that each fit 64 KiB, none lost", () => {
    const set: NftSet = { name: "big", keyTypes: ["ipv6_addr"], interval: true };
    const elements = Array.from({ length: 5000 }, (_, n): NftElement => {
      const key = new Uint8Array(16);
      new DataView(key.buffer).setUint32(8, n * 2);
      const keyEnd = key.slice().fill(255, 12);
      return { key, keyEnd };
    });
    const commands: NftCommand[] = [{ do: "add-elements", table, set, elements }];
    const batch = encodeBatch(commands, 10);
    const messages = readMessages(batch.bytes).filter((message) => message.type >> 8 === 10);
    expect(messages.length).toBeGreaterThan(5);
    for (const message of messages) expect(batch.commandOf(message.sequence)).toBe(0);
    expect(elementsIn(set, commands)).toEqual(elements);
  });
});

describe("batches", () => {
  test("begin, messages in order, end; consecutive numbers; the last message alone asks for an answer", () => {
    const commands: NftCommand[] = [
      { do: "delete-table", table, ifExists: true },
      { do: "add-table", table },
      { do: "delete-elements", table, set: { name: "s", keyTypes: ["mark"] }, elements: [] },
      { do: "delete-rule", table, chain: "c", handle: 7n },
    ];
    const batch = encodeBatch(commands, 100);
    const messages = readMessages(batch.bytes);
    expect(messages.map((message) => message.sequence)).toEqual([100, 101, 102, 103, 104, 105]);
    expect(messages.map((message) => message.type)).toEqual([16, 0xa00, 0xa02, 0xa00, 0xa08, 17]);
    expect(messages.map((message) => (message.flags & 4) !== 0)).toEqual([false, false, false, false, true, false]);
    expect([100, 101, 102, 103, 104, 105].map((sequence) => batch.commandOf(sequence))).toEqual([
      undefined,
      0,
      0,
      1,
      3,
      undefined,
    ]);
    expect(batch.lastSequence).toBe(104);
  });
});
