/** Tables, chains, rules and sets ↔ attributes (linux/netfilter/nf_tables.h), from descriptor tables. */
import {
  type AttributeTable,
  be32,
  be64,
  beS32,
  bytes,
  listOf,
  nested,
  oneOf,
  optional,
  required,
  text,
} from "../codec/attributes.ts";
import type { MessageWriter } from "../codec/writer.ts";
import { DATA_TYPE_LENGTH, keyLength } from "./bytes.ts";
import { expressionCodec } from "./expressions.ts";
import { commentData, readComment, setUserData } from "./userdata.ts";
import type { NftBaseChain, NftChain, NftDataType, NftExpr, NftFamily, NftHook, NftRule, NftSet } from "./values.ts";

export const FAMILY_NUMBERS: Readonly<Record<NftFamily, number>> = {
  inet: 1,
  ip: 2,
  arp: 3,
  netdev: 5,
  bridge: 7,
  ip6: 10,
};

export function familyName(number: number): NftFamily | undefined {
  return Object.entries(FAMILY_NUMBERS).find(([, value]) => value === number)?.[0] as NftFamily | undefined;
}

export interface WireTable {
  readonly name: string;
  readonly flags?: number;
}
export const tableTable: AttributeTable<WireTable> = { name: required(1, text), flags: optional(2, be32) };

interface WireHook {
  readonly number: number;
  readonly priority: number;
  readonly device?: string;
}
export interface WireChain {
  readonly table: string;
  readonly handle?: bigint;
  readonly name: string;
  readonly hook?: WireHook;
  readonly policy?: "drop" | "accept";
  readonly type?: string;
}
export const chainTable: AttributeTable<WireChain> = {
  table: required(1, text),
  handle: optional(2, be64),
  name: required(3, text),
  hook: optional(
    4,
    nested<WireHook>({ number: required(1, be32), priority: required(2, beS32), device: optional(3, text) }),
  ),
  policy: optional(5, oneOf(be32, { drop: 0, accept: 1 })),
  type: optional(7, text),
};

const IP_HOOKS: Readonly<Record<NftHook, number>> = {
  prerouting: 0,
  input: 1,
  forward: 2,
  output: 3,
  postrouting: 4,
  ingress: 5,
};
const ARP_HOOKS: Readonly<Partial<Record<NftHook, number>>> = { input: 0, output: 1 };
const NETDEV_HOOKS: Readonly<Partial<Record<NftHook, number>>> = { ingress: 0 };

const hooksOf = (family: NftFamily): Readonly<Partial<Record<NftHook, number>>> =>
  family === "arp" ? ARP_HOOKS : family === "netdev" ? NETDEV_HOOKS : IP_HOOKS;

export function chainToWire(table: { readonly family: NftFamily; readonly name: string }, chain: NftChain): WireChain {
  const { base } = chain;
  if (base === undefined) return { table: table.name, name: chain.name };
  // A hook the family does not have becomes a number the kernel refuses by name of the chain.
  const number = hooksOf(table.family)[base.hook] ?? 255;
  const hook: WireHook =
    base.device === undefined
      ? { number, priority: base.priority }
      : { number, priority: base.priority, device: base.device };
  return { table: table.name, name: chain.name, hook, policy: base.policy, type: base.type };
}

export function chainFromWire(family: NftFamily, wire: WireChain): NftChain {
  const { hook, name } = wire;
  if (hook === undefined) return { name };
  const names = Object.entries(hooksOf(family)) as [NftHook, number][];
  const base: NftBaseChain = {
    type: (wire.type ?? "filter") as NftBaseChain["type"],
    hook: names.find(([, number]) => number === hook.number)?.[0] ?? "ingress",
    priority: hook.priority,
    policy: wire.policy ?? "accept",
    ...(hook.device === undefined ? {} : { device: hook.device }),
  };
  return { name, base };
}

export interface WireRule {
  readonly table: string;
  readonly chain?: string;
  readonly handle?: bigint;
  readonly exprs?: readonly NftExpr[];
  readonly position?: bigint;
  readonly userdata?: Uint8Array;
}
export const ruleTable: AttributeTable<WireRule> = {
  table: required(1, text),
  chain: optional(2, text),
  handle: optional(3, be64),
  exprs: optional(4, listOf(1, expressionCodec)),
  position: optional(6, be64),
  userdata: optional(7, bytes),
};

export const ruleToWire = (rule: NftRule): Pick<WireRule, "exprs" | "userdata"> =>
  rule.comment === undefined ? { exprs: rule.exprs } : { exprs: rule.exprs, userdata: commentData(rule.comment) };

/** The attributes of a new rule as `ruleTable` would write them, without its detours: a table may begin with tens of thousands. */
export function writeNewRule(
  out: MessageWriter,
  place: { readonly table: string; readonly chain: string },
  { exprs, comment }: NftRule,
): void {
  out.attributeText(1, place.table);
  out.attributeText(2, place.chain);
  const list = out.beginNested(4);
  for (const expr of exprs) {
    const item = out.beginNested(1);
    expressionCodec.write(out, expr);
    out.end(item);
  }
  out.end(list);
  if (comment !== undefined) out.attributeBytes(7, commentData(comment));
}

export function ruleFromWire(wire: WireRule): NftRule {
  const comment = wire.userdata === undefined ? undefined : readComment(wire.userdata);
  const exprs = wire.exprs ?? [];
  return comment === undefined ? { exprs } : { exprs, comment };
}

/** nft's numbers for data types; informational for the kernel, but `nft list` prints keys by them. */
const TYPE_NUMBERS: Readonly<Record<NftDataType, number>> = {
  integer: 4,
  ipv4_addr: 7,
  ipv6_addr: 8,
  ether_addr: 9,
  inet_proto: 12,
  inet_service: 13,
  mark: 19,
  devgroup: 35,
  ifname: 41,
};
const TYPE_BITS = 6;
const VERDICT_TYPE = 0xffff_ff00;

const packTypes = (types: readonly NftDataType[]): number =>
  types.reduce((packed, type) => ((packed << TYPE_BITS) | TYPE_NUMBERS[type]) >>> 0, 0);

/** Undefined when one of the types is not ours. */
function unpackTypes(packed: number): NftDataType[] | undefined {
  const types: NftDataType[] = [];
  for (let rest = packed; rest !== 0; rest >>>= TYPE_BITS) {
    const number = rest & ((1 << TYPE_BITS) - 1);
    const name = Object.entries(TYPE_NUMBERS).find(([, value]) => value === number)?.[0];
    if (name === undefined) return undefined;
    types.unshift(name as NftDataType);
  }
  return types;
}

export const SET_FLAG = { INTERVAL: 0x4, MAP: 0x8, CONCAT: 0x80 } as const;

interface WireDescription {
  readonly size?: number;
  readonly fields?: readonly { readonly length: number }[];
}
export interface WireSet {
  readonly table: string;
  readonly name: string;
  readonly flags?: number;
  readonly keyType?: number;
  readonly keyLength?: number;
  readonly dataType?: number;
  readonly dataLength?: number;
  readonly description?: WireDescription;
  readonly id?: number;
  readonly userdata?: Uint8Array;
}
export const setTable: AttributeTable<WireSet> = {
  table: required(1, text),
  name: required(2, text),
  flags: optional(3, be32),
  keyType: optional(4, be32),
  keyLength: optional(5, be32),
  dataType: optional(6, be32),
  dataLength: optional(7, be32),
  description: optional(
    9,
    nested<WireDescription>({
      size: optional(1, be32),
      fields: optional(2, listOf(1, nested<{ readonly length: number }>({ length: required(1, be32) }))),
    }),
  ),
  id: optional(10, be32),
  userdata: optional(13, bytes),
};

export function setToWire(table: string, set: NftSet, id: number): WireSet {
  const concat = set.keyTypes.length > 1;
  const flags =
    (set.interval === true ? SET_FLAG.INTERVAL : 0) |
    (set.mapTo === undefined ? 0 : SET_FLAG.MAP) |
    (concat && set.interval === true ? SET_FLAG.CONCAT : 0);
  // Ranges over concatenations live in the pipapo set, which must know where the fields end.
  const description: WireDescription = {
    ...(set.size === undefined ? {} : { size: set.size }),
    ...(concat && set.interval === true
      ? { fields: set.keyTypes.map((type) => ({ length: DATA_TYPE_LENGTH[type] })) }
      : {}),
  };
  return {
    table,
    name: set.name,
    flags,
    keyType: packTypes(set.keyTypes),
    keyLength: keyLength(set.keyTypes),
    ...(set.mapTo === undefined ? {} : mapAttributes(set.mapTo)),
    ...(Object.keys(description).length === 0 ? {} : { description }),
    id,
    userdata: setUserData(set.keyTypes, set.mapTo),
  };
}

const mapAttributes = (to: NftDataType | "verdict"): Pick<WireSet, "dataType" | "dataLength"> =>
  to === "verdict" ? { dataType: VERDICT_TYPE } : { dataType: TYPE_NUMBERS[to], dataLength: DATA_TYPE_LENGTH[to] };

/** A set of another program with a key type we do not know comes back with no key types. */
export function setFromWire(wire: WireSet): NftSet {
  const flags = wire.flags ?? 0;
  const types = unpackTypes(wire.keyType ?? 0);
  const known = types !== undefined && types.length > 0 && keyLength(types) === wire.keyLength;
  const size = wire.description?.size;
  const mapTo = (flags & SET_FLAG.MAP) === 0 ? undefined : mapTarget(wire.dataType);
  return {
    name: wire.name,
    keyTypes: known ? types : [],
    ...((flags & SET_FLAG.INTERVAL) === 0 ? {} : { interval: true }),
    ...(mapTo === undefined ? {} : { mapTo }),
    ...(size === undefined ? {} : { size }),
  };
}

function mapTarget(number: number | undefined): NftDataType | "verdict" | undefined {
  if (number === VERDICT_TYPE) return "verdict";
  const [type, ...more] = unpackTypes(number ?? 0) ?? [];
  return more.length === 0 ? type : undefined;
}
