/** Inputs: what other implementations said, damaged; lists of attributes and capabilities that are framed well and hold anything; noise. */
import type { AttributeContext } from "../../src/wire/attributes/table.ts";
import type { RoutedFamily } from "../../src/wire/family.ts";
import { WireWriter } from "../../src/wire/writer.ts";
import { readGoldens } from "../../test/support/goldens.ts";
import { join, mutate, type Random } from "./random.ts";

export interface Corpus {
  readonly open: readonly Uint8Array[];
  readonly update: readonly Uint8Array[];
  readonly notification: readonly Uint8Array[];
  readonly refresh: readonly Uint8Array[];
  readonly all: readonly Uint8Array[];
  /** Whole messages. */
  readonly frames: readonly Uint8Array[];
}

export function readCorpus(): Corpus {
  const frames = readGoldens().flatMap((golden) => golden.frames);
  const bodies = (type: string): Uint8Array[] =>
    frames.filter((frame) => frame.type === type).map(({ bytes }) => bytes.slice(19));
  return {
    open: bodies("open"),
    update: bodies("update"),
    notification: bodies("notification"),
    refresh: bodies("route-refresh"),
    all: frames.map(({ bytes }) => bytes.slice(19)),
    frames: frames.map(({ bytes }) => bytes),
  };
}

const FAMILIES: readonly (readonly RoutedFamily[])[] = [
  [],
  ["ipv4-unicast"],
  ["ipv6-unicast"],
  ["ipv4-unicast", "ipv6-unicast"],
];

export const CONTEXTS: readonly AttributeContext[] = [true, false].flatMap((fourOctetAs) =>
  [true, false].flatMap((internal) =>
    FAMILIES.map((addPath) => ({ fourOctetAs, internal, addPath: new Set(addPath) })),
  ),
);

/** A message body of a kind: damaged, made up, or noise. */
export function body(random: Random, corpus: Corpus, kind: "open" | "update" | "notification" | "refresh"): Uint8Array {
  const form = random.below(10);
  if (form < 6) return mutate(random, random.pick(corpus[kind]), corpus.all);
  if (form < 9)
    return kind === "update" ? update(random) : kind === "open" ? open(random) : random.bytes(random.size(40));
  return random.bytes(random.size(120));
}

function open(random: Random): Uint8Array {
  const head = Uint8Array.of(
    4,
    random.next(),
    random.next(),
    0,
    random.pick([0, 1, 2, 3, 90, 255]),
    10,
    0,
    0,
    random.below(3),
  );
  const parameters = Array.from({ length: random.below(4) }, () => {
    const value = capabilities(random);
    return join(Uint8Array.of(random.once(20) ? 1 : 2, Math.min(255, value.length)), value.subarray(0, 255));
  });
  const all = join(...parameters);
  return all.length < 255
    ? join(head, Uint8Array.of(random.once(20) ? random.next() : all.length), all)
    : join(head, Uint8Array.of(255, 255, all.length >> 8, all.length), all);
}

const CAPABILITIES = [1, 2, 5, 6, 9, 64, 65, 69, 70, 71, 73, 128, 200];

/** The value of a Capabilities parameter. */
export function capabilities(random: Random): Uint8Array {
  return join(
    ...Array.from({ length: random.below(5) }, () => {
      const value = random.bytes(random.once(2) ? random.pick([0, 1, 4, 6, 7, 8, 14]) : random.size(20));
      return join(Uint8Array.of(random.pick(CAPABILITIES), random.once(20) ? random.next() : value.length), value);
    }),
  );
}

const CODES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 22, 32, 35, 128, 255];
/** Lengths that make sense for each. */
const LENGTHS: Readonly<Record<number, readonly number[]>> = {
  ...{ 1: [1], 2: [0, 6, 10, 14], 3: [4], 4: [4], 5: [4], 6: [0], 7: [6, 8], 8: [4, 8, 300], 9: [4], 10: [4, 8] },
  ...{ 16: [8, 16], 17: [6, 10], 18: [8], 32: [12, 24], 35: [4] },
};
const FLAGS: Readonly<Record<number, number>> = {
  1: 0x40,
  2: 0x40,
  3: 0x40,
  4: 0x80,
  5: 0x40,
  6: 0x40,
  9: 0x80,
  10: 0x80,
  14: 0x80,
  15: 0x80,
};

/** An attribute list. */
export function attributes(random: Random): Uint8Array {
  return join(...Array.from({ length: random.below(7) }, () => attribute(random, random.pick(CODES))));
}

function attribute(random: Random, code: number): Uint8Array {
  const length = random.once(6) ? random.size(64) : random.pick(LENGTHS[code] ?? [0, 4, 12]);
  let value = random.bytes(length);
  if (code === 1 && length === 1 && !random.once(8)) value = Uint8Array.of(random.below(3));
  if ((code === 2 || code === 17) && !random.once(6)) value = asPath(random);
  if (code === 14 && !random.once(8)) value = reach(random);
  if (code === 15 && !random.once(8)) value = join(Uint8Array.of(0, random.pick([1, 2]), 1), nlri(random));
  const flags = (random.once(16) ? random.next() : (FLAGS[code] ?? 0xc0)) & ~0x10;
  return value.length > 255 || random.once(10)
    ? join(Uint8Array.of(flags | 0x10, code, value.length >> 8, value.length), value)
    : join(Uint8Array.of(flags, code, value.length), value);
}

function asPath(random: Random): Uint8Array {
  const four = random.once(2) ? 4 : 2;
  return join(
    ...Array.from({ length: random.below(3) }, () => {
      const count = random.below(5);
      return join(Uint8Array.of(1 + random.below(4), count), random.bytes(count * four));
    }),
  );
}

function reach(random: Random): Uint8Array {
  const afi = random.pick([1, 2, 2, 3]);
  const hop = random.bytes(random.pick(afi === 1 ? [4, 16, 32] : [16, 32, 32, 4, 24]));
  return join(Uint8Array.of(0, afi, random.once(10) ? 128 : 1, hop.length), hop, Uint8Array.of(0), nlri(random));
}

/** Prefixes, with or without path identifiers, more or less well-formed. */
export function nlri(random: Random): Uint8Array {
  const [longest, identified] = [random.pick([32, 128]), random.once(2)];
  return join(
    ...Array.from({ length: random.below(6) }, () => {
      const length = random.once(20) ? random.below(256) : random.below(longest + 1);
      const size = Math.min((length + 7) >> 3, 16);
      return join(identified ? random.bytes(4) : new Uint8Array(0), Uint8Array.of(length), random.bytes(size));
    }),
  );
}

function update(random: Random): Uint8Array {
  const [withdrawn, list, reachable] = [
    random.once(2) ? nlri(random) : new Uint8Array(0),
    attributes(random),
    random.once(2) ? nlri(random) : new Uint8Array(0),
  ];
  const writer = new WireWriter();
  writer.u16(random.once(30) ? random.next() & 0xffff : withdrawn.length).bytes(withdrawn);
  writer
    .u16(random.once(30) ? random.next() & 0xffff : list.length)
    .bytes(list)
    .bytes(reachable);
  return writer.finish();
}
