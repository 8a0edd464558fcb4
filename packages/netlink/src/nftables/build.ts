/**
 * Expressions for rules, from the words a rule renderer thinks in. Each function returns the list of expressions of
 * one match or one action; a rule is their concatenation:
 *
 * ```ts
 * rule([...matchFamily(4), ...matchProtocol(6), ...matchDestinationPort({ first: 80, last: 80 }), ...accept()], "why")
 * ```
 *
 * Two things a caller must know:
 * - In an `inet` table the address helpers read bytes at fixed offsets: put `matchFamily` before them, and
 *   `matchProtocol` before ports and ICMP types (`matchPorts…` on an ICMP packet would read its type and code).
 * - Registers are named the way the kernel dumps them (1, 9, 10, 11, 2, …), so that rules compare equal to dumps.
 *   Every helper starts over at register 1: nothing survives from one match to the next.
 */
import type { Family, IpAddress, PortRange, Prefix } from "@calico-ts/net";
import { addressBits, addressBytes, prefixAddress } from "@calico-ts/net";
import { hostUint32, interfaceBytes, interfaceKey, portKey } from "./bytes.ts";
import { FIELDS, type NftField } from "./fields.ts";
import { registerAt } from "./registers.ts";
import type { NftExpr, NftRegister, NftRule, NftVerdict } from "./values.ts";

export interface MatchOptions {
  /** True: the rule matches when the packet does not. */
  readonly not?: boolean;
}

const R1: NftRegister = 1;

// Rules are counted in tens of thousands, and most of each is one of a few expressions: those are made once and shared.
const FIELD_LOADS = new Map<NftField, NftExpr[]>();

/** The field in the n-th 32-bit register, n from 0. */
function loadField(name: NftField, slot: number): NftExpr {
  let loads = FIELD_LOADS.get(name);
  if (loads === undefined) FIELD_LOADS.set(name, (loads = []));
  return (loads[slot] ??= FIELDS[name].load(registerAt(slot)));
}

/** A byte in register 1, equal or not, by its value. */
const BYTE_CMPS: Readonly<Record<"eq" | "neq", NftExpr[]>> = { eq: [], neq: [] };

function cmpByte(value: number, { not }: MatchOptions): NftExpr {
  return (BYTE_CMPS[not === true ? "neq" : "eq"][value & 255] ??= cmp(Uint8Array.of(value), { not: not === true }));
}

const cmp = (data: Uint8Array, options: MatchOptions): NftExpr => ({
  kind: "cmp",
  op: options.not === true ? "neq" : "eq",
  sreg: R1,
  data,
});

export const rule = (exprs: readonly NftExpr[], comment?: string): NftRule =>
  comment === undefined ? { exprs } : { exprs, comment };

/** One field equal to the bytes given. */
export const matchField = (field: NftField, data: Uint8Array, options: MatchOptions = {}): NftExpr[] => [
  loadField(field, 0),
  cmp(data, options),
];

/** A name, or a prefix of names written with a final `*` (`cali*`). */
function matchInterface(key: "iifname" | "oifname", name: string, options: MatchOptions): NftExpr[] {
  const wildcard = name.endsWith("*");
  // Without its NUL padding the comparison covers the first characters only: that is the whole trick of a wildcard.
  const data = wildcard ? interfaceBytes(name.slice(0, -1), 15) : interfaceKey(name);
  return [{ kind: "meta", key, dreg: R1 }, cmp(data, options)];
}

export const matchIifname = (name: string, options: MatchOptions = {}): NftExpr[] =>
  matchInterface("iifname", name, options);

export const matchOifname = (name: string, options: MatchOptions = {}): NftExpr[] =>
  matchInterface("oifname", name, options);

const LOAD_FAMILY: NftExpr = { kind: "meta", key: "nfproto", dreg: R1 };

/** IPv4 or IPv6 (`meta nfproto`). */
export const matchFamily = (family: Family, options: MatchOptions = {}): NftExpr[] => [
  LOAD_FAMILY,
  cmpByte(family === 4 ? 2 : 10, options),
];

/** The transport protocol, extension headers skipped (`meta l4proto`). */
export const matchProtocol = (protocol: number, options: MatchOptions = {}): NftExpr[] => [
  loadField("l4proto", 0),
  cmpByte(protocol, options),
];

function matchPrefix(side: "saddr" | "daddr", prefix: Prefix, options: MatchOptions): NftExpr[] {
  if (prefix.length === 0 && options.not !== true) return [];
  const family = prefix.family === 4 ? "ip" : "ip6";
  const { offset } = FIELDS[`${family} ${side}`];
  const base = addressBytes(prefixAddress(prefix));
  const whole = prefix.length > 0 && prefix.length % 8 === 0;
  const length = whole ? prefix.length / 8 : base.length;
  const load: NftExpr = { kind: "payload", base: "network", offset, length, dreg: R1 };
  if (whole) return [load, cmp(base.slice(0, length), options)];
  return [
    load,
    { kind: "bitwise", sreg: R1, dreg: R1, mask: maskBytes(prefix), xor: new Uint8Array(length) },
    cmp(base, options),
  ];
}

function maskBytes(prefix: Prefix): Uint8Array {
  const bits = addressBits(prefix.family);
  const ones = ((1n << BigInt(prefix.length)) - 1n) << BigInt(bits - prefix.length);
  return addressBytes({ family: prefix.family, value: ones });
}

/** Needs `matchFamily` before it in an `inet` table. A /0 matches everything and costs nothing. */
export const matchSourceAddress = (prefix: Prefix, options: MatchOptions = {}): NftExpr[] =>
  matchPrefix("saddr", prefix, options);

/** Needs `matchFamily` before it in an `inet` table. */
export const matchDestinationAddress = (prefix: Prefix, options: MatchOptions = {}): NftExpr[] =>
  matchPrefix("daddr", prefix, options);

function matchPort(offset: 0 | 2, range: PortRange, options: MatchOptions): NftExpr[] {
  const load = loadField(offset === 0 ? "th sport" : "th dport", 0);
  if (range.first === range.last) return [load, cmp(portKey(range.first), options)];
  const op = options.not === true ? "neq" : "eq";
  return [load, { kind: "range", op, sreg: R1, from: portKey(range.first), to: portKey(range.last) }];
}

/** Needs `matchProtocol` of a protocol with ports before it. */
export const matchSourcePort = (range: PortRange, options: MatchOptions = {}): NftExpr[] =>
  matchPort(0, range, options);

/** Needs `matchProtocol` of a protocol with ports before it. */
export const matchDestinationPort = (range: PortRange, options: MatchOptions = {}): NftExpr[] =>
  matchPort(2, range, options);

/** Type, or type and code together, of ICMP and ICMPv6. Needs `matchProtocol` (1 or 58) before it. */
export function matchIcmp(
  icmp: { readonly type: number; readonly code?: number },
  options: MatchOptions = {},
): NftExpr[] {
  const data = icmp.code === undefined ? Uint8Array.of(icmp.type) : Uint8Array.of(icmp.type, icmp.code);
  return [{ kind: "payload", base: "transport", offset: 0, length: data.length, dreg: R1 }, cmp(data, options)];
}

/** Bits of `ct state` (NF_CT_STATE_BIT in nf_conntrack_common.h). */
export const CT_STATE_BITS = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
export type CtState = keyof typeof CT_STATE_BITS;

/** Bits of `ct status` (enum ip_conntrack_status). */
export const CT_STATUS_BITS = { expected: 1, "seen-reply": 2, assured: 4, confirmed: 8, snat: 16, dnat: 32 } as const;
export type CtStatus = keyof typeof CT_STATUS_BITS;

/** In any of the states; with `not`, in none of them. */
export const matchCtState = (states: readonly CtState[], options: MatchOptions = {}): NftExpr[] =>
  anyBit({ kind: "ct", key: "state", dreg: R1 }, states, { bits: CT_STATE_BITS, not: options.not === true });

/** Any of the bits; with `not`, none of them. `dnat`: the connection's destination was rewritten. */
export const matchCtStatus = (statuses: readonly CtStatus[], options: MatchOptions = {}): NftExpr[] =>
  anyBit({ kind: "ct", key: "status", dreg: R1 }, statuses, { bits: CT_STATUS_BITS, not: options.not === true });

function anyBit<K extends string>(
  load: NftExpr,
  names: readonly K[],
  how: { readonly bits: Readonly<Record<K, number>>; readonly not: boolean },
): NftExpr[] {
  const wanted = names.reduce((sum, name) => sum | how.bits[name], 0);
  return [
    load,
    { kind: "bitwise", sreg: R1, dreg: R1, mask: hostUint32(wanted), xor: hostUint32(0) },
    { kind: "cmp", op: how.not ? "eq" : "neq", sreg: R1, data: hostUint32(0) },
  ];
}

/** `(mark & mask) == value`. */
export function matchMark(value: number, mask = 0xffff_ffff, options: MatchOptions = {}): NftExpr[] {
  const load: NftExpr = { kind: "meta", key: "mark", dreg: R1 };
  if (mask >>> 0 === 0xffff_ffff) return [load, cmp(hostUint32(value), options)];
  return [
    load,
    { kind: "bitwise", sreg: R1, dreg: R1, mask: hostUint32(mask), xor: hostUint32(0) },
    cmp(hostUint32(value), options),
  ];
}

/** The routing table says what the address is: `local` is an address of this namespace. */
export const matchAddressType = (
  side: "saddr" | "daddr",
  type: "unicast" | "local" | "broadcast" | "multicast",
  options: MatchOptions = {},
): NftExpr[] => [
  { kind: "fib", result: "type", flags: [side], dreg: R1 },
  cmp(hostUint32({ unicast: 1, local: 2, broadcast: 3, multicast: 5 }[type]), options),
];

/** The route to the source leads through the interface the packet came by (strict reverse path): the index found is not 0. */
export const matchRoutedBack = (): NftExpr[] => [
  { kind: "fib", result: "oif", flags: ["saddr", "iif"], dreg: R1 },
  cmp(hostUint32(0), { not: true }),
];

/** Loads the fields side by side into registers, in the layout of a concatenated key. */
export function loadFields(fields: readonly NftField[]): NftExpr[] {
  let slot = 0;
  return fields.map((name) => {
    const load = loadField(name, slot);
    slot += Math.ceil(FIELDS[name].length / 4);
    return load;
  });
}

/** The fields, concatenated, are an element of the set: `lookup("allow", ["ip saddr", "l4proto", "th dport"])`. */
export const lookup = (set: string, fields: readonly NftField[], options: MatchOptions = {}): NftExpr[] => [
  ...loadFields(fields),
  options.not === true ? { kind: "lookup", set, sreg: R1, invert: true } : { kind: "lookup", set, sreg: R1 },
];

/** Looks the fields up in a verdict map and does what it says; goes on with the next rule when there is no entry. */
export const verdictMap = (map: string, fields: readonly NftField[]): NftExpr[] => [
  ...loadFields(fields),
  { kind: "lookup", set: map, sreg: R1, dreg: 0 },
];

/** Even choice: a number 0 … modulus−1 (map key type `integer`) looked up in a verdict map. */
export const randomVerdict = (map: string, modulus: number): NftExpr[] => [
  { kind: "numgen", mode: "random", modulus, dreg: R1 },
  { kind: "lookup", set: map, sreg: R1, dreg: 0 },
];

const verdict = (value: NftVerdict): NftExpr[] => [{ kind: "verdict", verdict: value }];

const ACCEPT: NftExpr = { kind: "verdict", verdict: { kind: "accept" } };
const DROP: NftExpr = { kind: "verdict", verdict: { kind: "drop" } };
const RETURN: NftExpr = { kind: "verdict", verdict: { kind: "return" } };
const COUNTER: NftExpr = { kind: "counter" };

export const accept = (): NftExpr[] => [ACCEPT];
export const drop = (): NftExpr[] => [DROP];
/** Back to the calling chain; in a base chain, its policy. */
export const returnVerdict = (): NftExpr[] => [RETURN];
export const jump = (chain: string): NftExpr[] => verdict({ kind: "jump", chain });
export const goto = (chain: string): NftExpr[] => verdict({ kind: "goto", chain });

export const counter = (): NftExpr[] => [COUNTER];

/** Without a group: the kernel log, at a level of syslog (4, warning, by default). With one: NFLOG. */
export const log = (
  options: {
    readonly prefix?: string;
    readonly group?: number;
    readonly snaplen?: number;
    readonly level?: number;
  } = {},
): NftExpr[] => [{ kind: "log", ...options }];

export const limit = (options: {
  readonly rate: number;
  readonly perSeconds?: number;
  readonly burst?: number;
  /** Matches what is over the rate, not what is within it. */
  readonly over?: boolean;
}): NftExpr[] => [
  {
    kind: "limit",
    rate: BigInt(options.rate),
    perSeconds: options.perSeconds ?? 1,
    burst: options.burst ?? 5,
    type: "packets",
    ...(options.over === true ? { over: true } : {}),
  },
];

/**
 * Adds the packet's connection to those this rule has seen and that still live; matches when they are more than `count`. The list belongs to the
 * rule: a rule that replaces it starts with none (net/netfilter/nft_connlimit.c).
 */
export const connectionCount = (count: number): NftExpr[] => [{ kind: "connlimit", count, over: true }];

/** Six bits (RFC 2474). IPv4: the second byte's upper six, and the checksum at 10; IPv6: bits 4 to 9 of the header. */
export function setDscp(family: Family, value: number): NftExpr[] {
  const shift = family === 4 ? 2 : 6;
  const at = { base: "network", offset: 0, length: 2 } as const;
  return [
    { kind: "payload", ...at, dreg: R1 },
    { kind: "bitwise", sreg: R1, dreg: R1, mask: portKey(0xffff & ~(0x3f << shift)), xor: portKey(value << shift) },
    { kind: "payload-set", ...at, sreg: R1, ...(family === 4 ? { checksumOffset: 10 } : {}) },
  ];
}

/** `mark = (mark & ~mask) | value`; `value` must lie within `mask`. */
export function setMark(value: number, mask = 0xffff_ffff): NftExpr[] {
  if (mask >>> 0 === 0xffff_ffff) {
    return [
      { kind: "immediate", dreg: R1, data: hostUint32(value) },
      { kind: "meta-set", key: "mark", sreg: R1 },
    ];
  }
  return [
    { kind: "meta", key: "mark", dreg: R1 },
    { kind: "bitwise", sreg: R1, dreg: R1, mask: hostUint32(~mask), xor: hostUint32(value) },
    { kind: "meta-set", key: "mark", sreg: R1 },
  ];
}

/** Copies the packet's mark into the connection's, or back. */
export const saveMark = (): NftExpr[] => [
  { kind: "meta", key: "mark", dreg: R1 },
  { kind: "ct-set", key: "mark", sreg: R1 },
];
export const restoreMark = (): NftExpr[] => [
  { kind: "ct", key: "mark", dreg: R1 },
  { kind: "meta-set", key: "mark", sreg: R1 },
];

function nat(type: "snat" | "dnat", to: { readonly address: IpAddress; readonly port?: number }): NftExpr[] {
  const family = to.address.family === 4 ? "ip" : "ip6";
  const exprs: NftExpr[] = [{ kind: "immediate", dreg: 1, data: addressBytes(to.address) }];
  if (to.port === undefined) {
    exprs.push({ kind: "nat", type, family, addressMin: 1 });
  } else {
    exprs.push({ kind: "immediate", dreg: 2, data: portKey(to.port) });
    exprs.push({ kind: "nat", type, family, addressMin: 1, portMin: 2 });
  }
  return exprs;
}

/** Only in a `nat` chain; with a port, needs `matchProtocol` before it. */
export const dnat = (to: { readonly address: IpAddress; readonly port?: number }): NftExpr[] => nat("dnat", to);
export const snat = (to: { readonly address: IpAddress; readonly port?: number }): NftExpr[] => nat("snat", to);

/** To the address that a map has for the fields; the next rule when it has none. Only in a `nat` chain. */
export const natByMap = (
  type: "snat" | "dnat",
  family: Family,
  { map, fields }: { readonly map: string; readonly fields: readonly NftField[] },
): NftExpr[] => [
  ...loadFields(fields),
  { kind: "lookup", set: map, sreg: R1, dreg: R1 },
  { kind: "nat", type, family: family === 4 ? "ip" : "ip6", addressMin: R1 },
];

const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 1 << 4;

export const masquerade = (options: { readonly fullyRandom?: boolean } = {}): NftExpr[] => [
  options.fullyRandom === true
    ? { kind: "masquerade", flags: NF_NAT_RANGE_PROTO_RANDOM_FULLY }
    : { kind: "masquerade" },
];

/** Only in a chain of the raw priority (−300): the connection tracker never sees the packet. */
export const notrack = (): NftExpr[] => [{ kind: "notrack" }];

/** Answers: a TCP reset for TCP (needs `matchProtocol(6)`), else "port unreachable" in the packet's own family. */
export const reject = (type: "tcp-reset" | "port-unreachable" = "port-unreachable"): NftExpr[] => [
  type === "tcp-reset" ? { kind: "reject", type: "tcp-reset" } : { kind: "reject", type: "icmpx", code: 1 },
];
