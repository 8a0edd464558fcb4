/**
 * The path attributes, one descriptor each (RFC 4271 section 5, RFC 4760, RFC 4456, RFC 1997, RFC 4360, RFC 6793, RFC 8092, RFC 9234). What a
 * malformed one costs is a column: RFC 7606 section 7 reads off this page. The loop that walks an UPDATE knows none of them by name.
 */
import type { IpAddress } from "@calico-ts/net";
import { addressBytes, addressFromBytes } from "@calico-ts/net";
import type { RoutedFamily } from "../family.ts";
import { routedFamily } from "../family.ts";
import { decodeNlri, encodeNlri } from "../nlri.ts";
import type { WireReader } from "../reader.ts";
import type { WireWriter } from "../writer.ts";
import { AS_TRANS, decodeAsPath, encodeAsPath } from "./as-path.ts";
import type { Aggregator, DecodedAttributes, LargeCommunity, MpReach, MpUnreach, Origin } from "./values.ts";

/** RFC 7606 section 2, strongest first. */
export type Recovery = "session-reset" | "treat-as-withdraw" | "attribute-discard";

/** What both ends agreed on for one direction of a session. */
export interface AttributeContext {
  readonly fourOctetAs: boolean;
  readonly addPath: ReadonlySet<RoutedFamily>;
  /** iBGP: LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST mean something only there (RFC 7606 section 7.5, 7.9, 7.10). */
  readonly internal: boolean;
}

export type AttributeClass = "well-known" | "optional-transitive" | "optional-non-transitive";

export interface AttributeCodec<T> {
  readonly code: number;
  readonly name: string;
  readonly class: AttributeClass;
  readonly onMalformed: Recovery;
  /** Undefined: malformed. The caller checks that every byte was read. */
  readonly decode: (reader: WireReader, context: AttributeContext) => T | undefined;
  readonly encode: (value: T, writer: WireWriter, context: AttributeContext) => void;
  /** From an external peer the attribute is dropped unread. */
  readonly internalOnly?: boolean;
}

type Fields = Required<Omit<DecodedAttributes, "unknown" | "linkLocalNextHop">>;
export type AttributeField = keyof Fields;
type AttributeTable = { readonly [F in AttributeField]: AttributeCodec<Fields[F]> };

const ORIGINS: readonly Origin[] = ["igp", "egp", "incomplete"];

const readAddress4 = (reader: WireReader): IpAddress => ({ family: 4, value: BigInt(reader.u32()) });

function readList<T>(reader: WireReader, size: number, read: () => T): T[] | undefined {
  if (reader.remaining === 0 || reader.remaining % size !== 0) return undefined;
  const out: T[] = [];
  while (reader.remaining > 0) out.push(read());
  return out;
}

/** AS 0 is malformed (RFC 7607 section 2). */
function aggregator(reader: WireReader, fourOctet: boolean): Aggregator | undefined {
  const as = fourOctet ? reader.u32() : reader.u16();
  const address = readAddress4(reader);
  return as === 0 ? undefined : { as, address };
}

const u32Attribute = (
  code: number,
  name: string,
  kind: AttributeClass,
  more: Partial<AttributeCodec<number>> = {},
): AttributeCodec<number> => ({
  code,
  name,
  class: kind,
  onMalformed: "treat-as-withdraw",
  decode: (reader) => reader.u32(),
  encode: (value, writer) => void writer.u32(value),
  ...more,
});

export const ATTRIBUTES: AttributeTable = {
  origin: {
    code: 1,
    name: "ORIGIN",
    class: "well-known",
    onMalformed: "treat-as-withdraw",
    decode: (reader) => ORIGINS[reader.u8()],
    encode: (value, writer) => void writer.u8(ORIGINS.indexOf(value)),
  },
  asPath: {
    code: 2,
    name: "AS_PATH",
    class: "well-known",
    onMalformed: "treat-as-withdraw",
    decode: (reader, { fourOctetAs }) => decodeAsPath(reader, fourOctetAs),
    encode: (value, writer, { fourOctetAs }) => encodeAsPath(value, writer, fourOctetAs),
  },
  nextHop: {
    code: 3,
    name: "NEXT_HOP",
    class: "well-known",
    onMalformed: "treat-as-withdraw",
    decode: readAddress4,
    encode: (value, writer) => void writer.bytes(addressBytes(value)),
  },
  med: u32Attribute(4, "MULTI_EXIT_DISC", "optional-non-transitive"),
  localPref: u32Attribute(5, "LOCAL_PREF", "well-known", { internalOnly: true }),
  atomicAggregate: {
    code: 6,
    name: "ATOMIC_AGGREGATE",
    class: "well-known",
    onMalformed: "attribute-discard",
    decode: () => true,
    encode: () => undefined,
  },
  aggregator: {
    code: 7,
    name: "AGGREGATOR",
    class: "optional-transitive",
    onMalformed: "attribute-discard",
    decode: (reader, { fourOctetAs }) => aggregator(reader, fourOctetAs),
    encode: ({ as, address }, writer, { fourOctetAs }) => {
      if (fourOctetAs) writer.u32(as);
      else writer.u16(as > 0xffff ? AS_TRANS : as);
      writer.bytes(addressBytes(address));
    },
  },
  communities: {
    code: 8,
    name: "COMMUNITIES",
    class: "optional-transitive",
    onMalformed: "treat-as-withdraw",
    decode: (reader) => {
      const list = readList(reader, 4, () => reader.u32());
      return list && [...new Set(list)].toSorted((a, b) => a - b);
    },
    encode: (value, writer) => {
      for (const community of value) writer.u32(community);
    },
  },
  originatorId: u32Attribute(9, "ORIGINATOR_ID", "optional-non-transitive", { internalOnly: true }),
  clusterList: {
    code: 10,
    name: "CLUSTER_LIST",
    class: "optional-non-transitive",
    onMalformed: "treat-as-withdraw",
    internalOnly: true,
    decode: (reader) => readList(reader, 4, () => reader.u32())?.slice(),
    encode: (value, writer) => {
      for (const id of value) writer.u32(id);
    },
  },
  mpReach: {
    code: 14,
    name: "MP_REACH_NLRI",
    class: "optional-non-transitive",
    onMalformed: "session-reset",
    decode: decodeMpReach,
    encode: encodeMpReach,
  },
  mpUnreach: {
    code: 15,
    name: "MP_UNREACH_NLRI",
    class: "optional-non-transitive",
    onMalformed: "session-reset",
    decode: decodeMpUnreach,
    encode: encodeMpUnreach,
  },
  extendedCommunities: {
    code: 16,
    name: "EXTENDED COMMUNITIES",
    class: "optional-transitive",
    onMalformed: "treat-as-withdraw",
    decode: (reader) => {
      const list = readList(reader, 8, () => hex(reader.u32()) + hex(reader.u32()));
      return list && [...new Set(list)].toSorted();
    },
    encode: (value, writer) => {
      for (const text of value) {
        writer.u32(Number.parseInt(text.slice(0, 8), 16)).u32(Number.parseInt(text.slice(8, 16), 16));
      }
    },
  },
  as4Path: {
    code: 17,
    name: "AS4_PATH",
    class: "optional-transitive",
    onMalformed: "attribute-discard",
    decode: (reader) => decodeAsPath(reader, true),
    encode: (value, writer) => encodeAsPath(value, writer, true),
  },
  as4Aggregator: {
    code: 18,
    name: "AS4_AGGREGATOR",
    class: "optional-transitive",
    onMalformed: "attribute-discard",
    decode: (reader) => aggregator(reader, true),
    encode: ({ as, address }, writer) => void writer.u32(as).bytes(addressBytes(address)),
  },
  largeCommunities: {
    code: 32,
    name: "LARGE_COMMUNITY",
    class: "optional-transitive",
    onMalformed: "treat-as-withdraw",
    decode: (reader) => {
      const list = readList(reader, 12, () => ({ global: reader.u32(), local1: reader.u32(), local2: reader.u32() }));
      return list && sortedLarge(list);
    },
    encode: (value, writer) => {
      for (const { global, local1, local2 } of value) writer.u32(global).u32(local1).u32(local2);
    },
  },
  onlyToCustomer: u32Attribute(35, "ONLY_TO_CUSTOMER", "optional-transitive"),
};

export const ATTRIBUTE_FIELDS = Object.keys(ATTRIBUTES) as AttributeField[];

export const FIELD_BY_CODE: ReadonlyMap<number, AttributeField> = new Map(
  ATTRIBUTE_FIELDS.map((field) => [ATTRIBUTES[field].code, field]),
);

function sortedLarge(list: readonly LargeCommunity[]): LargeCommunity[] {
  const sorted = list.toSorted((a, b) => a.global - b.global || a.local1 - b.local1 || a.local2 - b.local2);
  return sorted.filter((one, at) => {
    const before = sorted[at - 1];
    return (
      before === undefined ||
      before.global !== one.global ||
      before.local1 !== one.local1 ||
      before.local2 !== one.local2
    );
  });
}

const hex = (value: number): string => value.toString(16).padStart(8, "0");

/** Next hop lengths: 4, 16 (RFC 8950 for IPv4 routes), or 32 with a link-local address (RFC 2545 section 3), which may be the only one. */
function decodeMpReach(reader: WireReader, { addPath }: AttributeContext): MpReach | undefined {
  const afi = reader.u16();
  const safi = reader.u8();
  const nextHop = reader.bytes(reader.u8());
  reader.u8();
  if (reader.overran) return undefined;
  const family = routedFamily({ afi, safi });
  if (family === undefined) {
    reader.rest();
    return { afi, safi, nextHops: [], nlri: [] };
  }
  const nextHops = nextHopsOf(nextHop, family);
  const nlri = decodeNlri(reader, { family, addPath: addPath.has(family) });
  return nextHops && nlri && { afi, safi, nextHops, nlri };
}

function nextHopsOf(bytes: Uint8Array, family: RoutedFamily): IpAddress[] | undefined {
  if (bytes.length === 4 && family === "ipv4-unicast") return [addressFromBytes(bytes)];
  if (bytes.length === 16) return [addressFromBytes(bytes)];
  if (bytes.length !== 32) return undefined;
  const [first, linkLocal] = [addressFromBytes(bytes.subarray(0, 16)), addressFromBytes(bytes.subarray(16))];
  // BIRD's way of saying that there is only the link-local one; FRR writes that twice.
  return first.value === 0n ? [linkLocal] : [first, linkLocal];
}

function encodeMpReach(value: MpReach, writer: WireWriter, { addPath }: AttributeContext): void {
  writer.u16(value.afi).u8(value.safi);
  const hops = value.nextHops.map(addressBytes);
  writer.u8(hops.reduce((sum, bytes) => sum + bytes.length, 0));
  for (const bytes of hops) writer.bytes(bytes);
  writer.u8(0);
  writeNlri(value, writer, addPath);
}

function decodeMpUnreach(reader: WireReader, { addPath }: AttributeContext): MpUnreach | undefined {
  const afi = reader.u16();
  const safi = reader.u8();
  if (reader.overran) return undefined;
  const family = routedFamily({ afi, safi });
  if (family === undefined) {
    reader.rest();
    return { afi, safi, nlri: [] };
  }
  const nlri = decodeNlri(reader, { family, addPath: addPath.has(family) });
  return nlri && { afi, safi, nlri };
}

function encodeMpUnreach(value: MpUnreach, writer: WireWriter, { addPath }: AttributeContext): void {
  writer.u16(value.afi).u8(value.safi);
  writeNlri(value, writer, addPath);
}

function writeNlri(value: MpUnreach, writer: WireWriter, addPath: ReadonlySet<RoutedFamily>): void {
  const family = routedFamily(value);
  if (family === undefined) return;
  for (const nlri of value.nlri) encodeNlri(writer, nlri, { family, addPath: addPath.has(family) });
}
