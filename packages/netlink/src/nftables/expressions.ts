/**
 * nf_tables expressions ↔ attributes, from one descriptor table per kind (linux/netfilter/nf_tables.h).
 *
 * Several of our kinds share a kernel expression: `meta` that loads and `meta` that sets differ in having a source
 * register. An expression that is not in the tables, or has a value they do not know, decodes to `unknown` with its
 * raw attributes and encodes back to the same bytes: listing a foreign table never fails.
 */
import { CalicoError } from "@calico-ts/std";
import {
  type AttributeTable,
  be16,
  be32,
  be32NonZero,
  be64,
  beBit,
  type Codec,
  oneOf,
  optional,
  readTable,
  required,
  text,
  u8,
  writeTable,
} from "../codec/attributes.ts";
import { readAttributes } from "../codec/reader.ts";
import { textFrom } from "../codec/text.ts";
import type { MessageWriter } from "../codec/writer.ts";
import { dataCodec, type NftData, valueCodec } from "./data.ts";
import type { NftCtKey, NftExpr, NftMetaKey } from "./values.ts";

type Kind = NftExpr["kind"];
type Fields<K extends Kind> = Omit<Extract<NftExpr, { kind: K }>, "kind">;

interface Shape {
  /** The kernel's name. */
  readonly name: string;
  /** Told from other shapes of that name by having this attribute. */
  readonly tellBy?: number;
  readonly write: (out: MessageWriter, expr: NftExpr) => void;
  readonly read: (data: Uint8Array) => NftExpr;
}

function shape<K extends Kind>(kind: K, name: string, table: AttributeTable<Fields<K>>, tellBy?: number): Shape {
  return {
    name,
    ...(tellBy === undefined ? {} : { tellBy }),
    write: (out, expr) => writeTable(out, table, expr as unknown as Fields<K>),
    read: (data) => ({ kind, ...readTable(table, data) }) as unknown as NftExpr,
  };
}

const META_KEYS: Readonly<Record<NftMetaKey, number>> = {
  len: 0,
  protocol: 1,
  priority: 2,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  oiftype: 9,
  skuid: 10,
  nftrace: 12,
  nfproto: 15,
  l4proto: 16,
  pkttype: 19,
  iifgroup: 21,
  oifgroup: 22,
  random: 24,
};

const CT_KEYS: Readonly<Record<NftCtKey, number>> = {
  state: 0,
  direction: 1,
  status: 2,
  mark: 3,
  expiration: 5,
  l3proto: 7,
  src: 8,
  dst: 9,
  protocol: 10,
  "proto-src": 11,
  "proto-dst": 12,
  zone: 17,
  "src-ip": 19,
  "dst-ip": 20,
  "src-ip6": 21,
  "dst-ip6": 22,
};

const metaKey = oneOf(be32, META_KEYS);
const ctKey = oneOf(be32, CT_KEYS);
const direction = oneOf(u8, { original: 0, reply: 1 });
const payloadBase = oneOf(be32, { link: 0, network: 1, transport: 2 });
const cmpOp = oneOf(be32, { eq: 0, neq: 1, lt: 2, lte: 3, gt: 4, gte: 5 });
const rangeOp = oneOf(be32, { eq: 0, neq: 1 });
const NF_IP_FAMILIES = { ip: 2, ip6: 10 } as const;

const FIB_FLAGS = { saddr: 1, daddr: 2, mark: 4, iif: 8, oif: 16, present: 32 } as const;
type FibFlag = keyof typeof FIB_FLAGS;
const FIB_FLAG_NAMES = Object.keys(FIB_FLAGS) as FibFlag[];

const fibFlags: Codec<readonly FibFlag[]> = {
  write: (out, value) => out.be32(value.reduce((sum, name) => sum | FIB_FLAGS[name], 0)),
  read(data) {
    const bits = be32.read(data) ?? 0;
    return FIB_FLAG_NAMES.filter((name) => (bits & FIB_FLAGS[name]) !== 0);
  },
};

// The kernel wants lengths and checksum types that our values imply: those go through a form of their own.
interface WireBitwise extends Fields<"bitwise"> {
  readonly length: number;
  readonly op?: number;
}
const bitwiseTable: AttributeTable<WireBitwise> = {
  sreg: required(1, be32),
  dreg: required(2, be32),
  length: required(3, be32),
  mask: required(4, valueCodec),
  xor: required(5, valueCodec),
  op: optional(6, be32NonZero),
};
const bitwise: Shape = {
  name: "bitwise",
  write(out, expr) {
    if (expr.kind !== "bitwise") return;
    const { sreg, dreg, mask, xor } = expr;
    if (mask.length !== xor.length) {
      throw new CalicoError("BAD_INPUT", `bitwise: mask has ${mask.length} bytes, xor ${xor.length}`);
    }
    writeTable(out, bitwiseTable, { sreg, dreg, length: mask.length, mask, xor });
  },
  read(data) {
    const { sreg, dreg, mask, xor, op } = readTable(bitwiseTable, data);
    if (op !== undefined) throw new CalicoError("BAD_INPUT", `bitwise: operation ${op} is not known`);
    return { kind: "bitwise", sreg, dreg, mask, xor };
  },
};

interface WirePayloadSet extends Fields<"payload-set"> {
  readonly checksumType?: number;
  readonly checksumFlags?: number;
}
const NFT_PAYLOAD_CSUM_INET = 1;
const payloadSetTable: AttributeTable<WirePayloadSet> = {
  sreg: required(5, be32),
  base: required(2, payloadBase),
  offset: required(3, be32),
  length: required(4, be32),
  checksumType: optional(6, be32NonZero),
  checksumOffset: optional(7, be32),
  checksumFlags: optional(8, be32NonZero),
};
const payloadSet: Shape = {
  name: "payload",
  tellBy: 5,
  write(out, expr) {
    if (expr.kind !== "payload-set") return;
    const { kind: _, ...fields } = expr;
    writeTable(
      out,
      payloadSetTable,
      fields.checksumOffset === undefined ? fields : { ...fields, checksumType: NFT_PAYLOAD_CSUM_INET },
    );
  },
  read(data) {
    const { checksumType, checksumFlags, checksumOffset, ...fields } = readTable(payloadSetTable, data);
    if (checksumFlags !== undefined) throw new CalicoError("BAD_INPUT", "payload: checksum flags are not known");
    // The kernel dumps an offset of zero beside "no checksum".
    return checksumType === undefined || checksumOffset === undefined
      ? { kind: "payload-set", ...fields }
      : { kind: "payload-set", ...fields, checksumOffset };
  },
};

interface WireImmediate {
  readonly dreg: number;
  readonly data: NftData;
}
const immediateTable: AttributeTable<WireImmediate> = { dreg: required(1, be32), data: required(2, dataCodec) };
const immediate: Shape = {
  name: "immediate",
  write(out, expr) {
    if (expr.kind === "verdict") writeTable(out, immediateTable, { dreg: 0, data: expr.verdict });
    else if (expr.kind === "immediate") writeTable(out, immediateTable, { dreg: expr.dreg, data: expr.data });
  },
  read(data) {
    const wire = readTable(immediateTable, data);
    if (wire.data instanceof Uint8Array) return { kind: "immediate", dreg: wire.dreg, data: wire.data };
    return { kind: "verdict", verdict: wire.data };
  },
};

const SHAPES: Readonly<Record<Exclude<Kind, "unknown">, Shape>> = {
  "meta-set": shape("meta-set", "meta", { key: required(2, metaKey), sreg: required(3, be32) }, 3),
  meta: shape("meta", "meta", { key: required(2, metaKey), dreg: required(1, be32) }),
  "payload-set": payloadSet,
  payload: shape("payload", "payload", {
    dreg: required(1, be32),
    base: required(2, payloadBase),
    offset: required(3, be32),
    length: required(4, be32),
  }),
  cmp: shape("cmp", "cmp", { sreg: required(1, be32), op: required(2, cmpOp), data: required(3, valueCodec) }),
  range: shape("range", "range", {
    sreg: required(1, be32),
    op: required(2, rangeOp),
    from: required(3, valueCodec),
    to: required(4, valueCodec),
  }),
  bitwise,
  lookup: shape("lookup", "lookup", {
    set: required(1, text),
    sreg: required(2, be32),
    dreg: optional(3, be32),
    invert: optional(5, beBit(1)),
  }),
  immediate,
  verdict: immediate,
  "ct-set": shape("ct-set", "ct", { key: required(2, ctKey), sreg: required(4, be32) }, 4),
  ct: shape("ct", "ct", { dreg: required(1, be32), key: required(2, ctKey), direction: optional(3, direction) }),
  counter: shape("counter", "counter", { bytes: optional(1, be64), packets: optional(2, be64) }),
  log: shape("log", "log", {
    group: optional(1, be16),
    prefix: optional(2, text),
    snaplen: optional(3, be32NonZero),
    level: optional(5, be32),
  }),
  limit: shape("limit", "limit", {
    rate: required(1, be64),
    perSeconds: required(2, {
      write: (out, value) => out.be64(BigInt(value)),
      read: (data) => Number(be64.read(data)),
    }),
    burst: required(3, be32),
    type: required(4, oneOf(be32, { packets: 0, bytes: 1 })),
    over: optional(5, beBit(1)),
  }),
  connlimit: shape("connlimit", "connlimit", { count: required(1, be32), over: optional(2, beBit(1)) }),
  nat: shape("nat", "nat", {
    type: required(1, oneOf(be32, { snat: 0, dnat: 1 })),
    family: required(2, oneOf(be32, NF_IP_FAMILIES)),
    addressMin: optional(3, be32),
    addressMax: optional(4, be32),
    portMin: optional(5, be32),
    portMax: optional(6, be32),
    flags: optional(7, be32NonZero),
  }),
  masquerade: shape("masquerade", "masq", {
    flags: optional(1, be32NonZero),
    portMin: optional(2, be32),
    portMax: optional(3, be32),
  }),
  redirect: shape("redirect", "redir", {
    portMin: optional(1, be32),
    portMax: optional(2, be32),
    flags: optional(3, be32NonZero),
  }),
  fib: shape("fib", "fib", {
    dreg: required(1, be32),
    result: required(2, oneOf(be32, { oif: 1, oifname: 2, type: 3 })),
    flags: required(3, fibFlags),
  }),
  reject: shape("reject", "reject", {
    type: required(1, oneOf(be32, { icmp: 0, "tcp-reset": 1, icmpx: 2 })),
    code: optional(2, u8),
  }),
  notrack: shape("notrack", "notrack", {}),
  numgen: shape("numgen", "numgen", {
    dreg: required(1, be32),
    modulus: required(2, be32),
    mode: required(3, oneOf(be32, { incremental: 0, random: 1 })),
    offset: optional(4, be32NonZero),
  }),
  hash: shape("hash", "hash", {
    sreg: required(1, be32),
    dreg: required(2, be32),
    length: required(3, be32),
    modulus: required(4, be32),
    seed: optional(5, be32),
    offset: optional(6, be32NonZero),
  }),
};

const byKernelName = Map.groupBy(new Set(Object.values(SHAPES)), (entry) => entry.name);

const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;

export const expressionCodec: Codec<NftExpr> = {
  nested: true,
  write(out, expr) {
    if (expr.kind === "unknown") {
      out.attributeText(NFTA_EXPR_NAME, expr.name);
      out.attributeBytes(NFTA_EXPR_DATA | 0x8000, expr.data);
      return;
    }
    const { name, write } = SHAPES[expr.kind];
    out.attributeText(NFTA_EXPR_NAME, name);
    const start = out.beginNested(NFTA_EXPR_DATA);
    write(out, expr);
    out.end(start);
  },
  read(data) {
    let name = "";
    let content = new Uint8Array(0);
    for (const attribute of readAttributes(data)) {
      if (attribute.type === NFTA_EXPR_NAME) name = textFrom(attribute.data);
      else if (attribute.type === NFTA_EXPR_DATA) content = attribute.data.slice();
    }
    return readExpression(name, content);
  },
};

function readExpression(name: string, content: Uint8Array): NftExpr {
  try {
    const shapes = byKernelName.get(name) ?? [];
    const types = new Set(readAttributes(content).map((attribute) => attribute.type));
    const found =
      shapes.find((entry) => entry.tellBy !== undefined && types.has(entry.tellBy)) ??
      shapes.find((entry) => entry.tellBy === undefined);
    if (found !== undefined) return found.read(content);
  } catch (error) {
    // A value outside our tables: keep the bytes.
    if (!(error instanceof CalicoError)) throw error;
  }
  return { kind: "unknown", name, data: content };
}
