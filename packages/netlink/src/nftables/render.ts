/**
 * Rules, elements and commands as text in the manner of `nft`, for goldens, logs and people.
 *
 * Not a serialisation: nothing reads it back, and what nft infers (`meta nfproto ipv4` before `ip saddr`) is spelt out.
 * Bytes whose meaning is not known are shown in hexadecimal.
 */
import { addressFromBytes, formatAddress, formatMac, protocolName } from "@calico-ts/net";
import { unreachable } from "@calico-ts/std";
import { LITTLE_ENDIAN_HOST } from "../codec/byte-order.ts";
import { textFrom } from "../codec/text.ts";
import { viewOf } from "../codec/reader.ts";
import { CT_STATE_BITS, CT_STATUS_BITS } from "./build.ts";
import { DATA_TYPE_LENGTH, hex, padTo4 } from "./bytes.ts";
import { FIELDS } from "./fields.ts";
import { canonicalRegister } from "./registers.ts";
import type { NftChain, NftCommand, NftDataType, NftElement, NftExpr, NftRule, NftSet, NftVerdict } from "./values.ts";

type ValueType = NftDataType | "family" | "ct state" | "ct status" | "address type" | "raw";

/** What a register holds at a point of the rule. */
interface Loaded {
  readonly text: string;
  readonly type: ValueType;
  /** Bytes of the whole field; a comparison with fewer is one with a prefix. */
  readonly length: number;
}

export function renderRule(rule: NftRule): string {
  const registers = new Map<number, Loaded>();
  // Loads since the last use, in order: the fields of a concatenation.
  let pending: Loaded[] = [];
  const words: string[] = [];
  const load = (register: number, value: Loaded): void => {
    registers.set(canonicalRegister(register), value);
    pending.push(value);
  };
  for (const expr of rule.exprs) {
    const loaded = loadOf(expr);
    if (loaded !== undefined) {
      load(loaded.dreg, loaded.value);
      continue;
    }
    if (expr.kind === "bitwise") {
      const before = registers.get(canonicalRegister(expr.sreg)) ?? UNKNOWN;
      const after = { ...before, text: maskedText(before, expr) };
      registers.set(canonicalRegister(expr.dreg), after);
      pending = [after];
      continue;
    }
    const text = useText(expr, { of: (register) => registers.get(canonicalRegister(register)) ?? UNKNOWN, pending });
    pending = [];
    words.push(text);
  }
  if (rule.comment !== undefined) words.push(`comment ${JSON.stringify(rule.comment)}`);
  return words.join(" ");
}

const UNKNOWN: Loaded = { text: "register", type: "raw", length: 0 };

function loadOf(expr: NftExpr): { readonly dreg: number; readonly value: Loaded } | undefined {
  switch (expr.kind) {
    case "meta":
      return { dreg: expr.dreg, value: metaLoad(expr.key) };
    case "payload":
      return { dreg: expr.dreg, value: payloadLoad(expr) };
    case "ct": {
      const type: ValueType =
        expr.key === "state" ? "ct state" : expr.key === "status" ? "ct status" : expr.key === "mark" ? "mark" : "raw";
      const direction = expr.direction === undefined ? "" : `${expr.direction} `;
      return { dreg: expr.dreg, value: { text: `ct ${direction}${expr.key}`, type, length: 4 } };
    }
    case "fib": {
      const type = expr.result === "type" ? "address type" : expr.result === "oifname" ? "ifname" : "raw";
      return { dreg: expr.dreg, value: { text: `fib ${expr.flags.join(" . ")} ${expr.result}`, type, length: 4 } };
    }
    case "numgen": {
      const offset = expr.offset === undefined ? "" : ` offset ${expr.offset}`;
      const text = `numgen ${expr.mode === "random" ? "random" : "inc"} mod ${expr.modulus}${offset}`;
      return { dreg: expr.dreg, value: { text, type: "integer", length: 4 } };
    }
    case "immediate":
      return { dreg: expr.dreg, value: { text: immediateText(expr.data), type: "raw", length: expr.data.length } };
    case "hash":
      return { dreg: expr.dreg, value: { text: `jhash mod ${expr.modulus}`, type: "integer", length: 4 } };
    case "lookup":
      // A data map loads; a verdict map and a plain set act.
      if (expr.dreg === undefined || expr.dreg === 0) return undefined;
      return { dreg: expr.dreg, value: { text: `map @${expr.set}`, type: "raw", length: 0 } };
    default:
      return undefined;
  }
}

/** Immediates are addresses and ports for NAT or numbers for marks; their length tells. */
function immediateText(data: Uint8Array): string {
  if (data.length === 2) return String(viewOf(data).getUint16(0));
  if (data.length === 16) return formatAddress(addressFromBytes(data));
  return `0x${hex(data)}`;
}

function metaLoad(key: string): Loaded {
  switch (key) {
    case "iifname":
    case "oifname":
      return { text: key, type: "ifname", length: 16 };
    case "iifgroup":
    case "oifgroup":
      return { text: key, type: "devgroup", length: 4 };
    case "mark":
      return { text: "meta mark", type: "mark", length: 4 };
    case "nfproto":
      return { text: "meta nfproto", type: "family", length: 1 };
    case "l4proto":
      return { text: "meta l4proto", type: "inet_proto", length: 1 };
    default:
      return { text: `meta ${key}`, type: "raw", length: 0 };
  }
}

const PAYLOAD_FIELDS = Object.entries(FIELDS).flatMap(([name, field]) => {
  const load = field.load(1);
  return load.kind === "payload" ? [{ name, field, base: load.base }] : [];
});

function payloadLoad(expr: Extract<NftExpr, { kind: "payload" }>): Loaded {
  const found =
    PAYLOAD_FIELDS.find(
      ({ field, base }) => base === expr.base && field.offset === expr.offset && field.length === expr.length,
    ) ??
    // A prefix of whole bytes loads only those; two bytes at 0 are a source port or an ICMP type and code.
    PAYLOAD_FIELDS.find(
      ({ field, base }) =>
        base === "network" && base === expr.base && field.offset === expr.offset && field.length > expr.length,
    );
  if (found !== undefined) return { text: found.name, type: found.field.type, length: found.field.length };
  if (expr.base === "transport" && expr.offset === 0 && expr.length === 1)
    return { text: "icmp type", type: "raw", length: 1 };
  return { text: `@${expr.base},${expr.offset * 8},${expr.length * 8}`, type: "raw", length: expr.length };
}

function maskedText(before: Loaded, expr: Extract<NftExpr, { kind: "bitwise" }>): string {
  const zero = expr.xor.every((byte) => byte === 0);
  const value = (bytes: Uint8Array): string =>
    valueText(before.type === "mark" ? "mark" : before.type, bytes, before.length);
  return zero ? `${before.text} & ${value(expr.mask)}` : `${before.text} & ${value(expr.mask)} | ${value(expr.xor)}`;
}

interface Registers {
  of(register: number): Loaded;
  readonly pending: readonly Loaded[];
}

const OPERATORS = { eq: "", neq: "!= ", lt: "< ", lte: "<= ", gt: "> ", gte: ">= " } as const;

function useText(expr: NftExpr, registers: Registers): string {
  switch (expr.kind) {
    case "cmp": {
      const loaded = registers.of(expr.sreg);
      return `${loaded.text} ${OPERATORS[expr.op]}${valueText(loaded.type, expr.data, loaded.length)}`;
    }
    case "range": {
      const loaded = registers.of(expr.sreg);
      const text = (bytes: Uint8Array): string => valueText(loaded.type, bytes, loaded.length);
      return `${loaded.text} ${expr.op === "neq" ? "!= " : ""}${text(expr.from)}-${text(expr.to)}`;
    }
    case "lookup": {
      const key = registers.pending.map((loaded) => loaded.text).join(" . ") || registers.of(expr.sreg).text;
      const verb = expr.dreg === 0 ? "vmap " : expr.invert === true ? "!= " : "";
      return `${key} ${verb}@${expr.set}`;
    }
    case "meta-set":
      return `meta ${expr.key} set ${registers.of(expr.sreg).text}`;
    case "ct-set":
      return `ct ${expr.key} set ${registers.of(expr.sreg).text}`;
    case "payload-set":
      return `@${expr.base},${expr.offset * 8},${expr.length * 8} set ${registers.of(expr.sreg).text}`;
    case "verdict":
      return verdictText(expr.verdict);
    case "nat":
      return `${expr.type} ${expr.family} to ${natTarget(registers, expr)}`;
    case "masquerade":
      return `masquerade${expr.flags === undefined ? "" : ` flags 0x${expr.flags.toString(16)}`}`;
    case "redirect":
      return `redirect${expr.portMin === undefined ? "" : ` to :${registers.of(expr.portMin).text}`}`;
    default:
      return actionText(expr);
  }
}

function natTarget(registers: Registers, expr: Extract<NftExpr, { kind: "nat" }>): string {
  const addressText = expr.addressMin === undefined ? "" : natAddress(registers.of(expr.addressMin).text);
  return expr.portMin === undefined ? addressText : `${addressText}:${registers.of(expr.portMin).text}`;
}

function natAddress(text: string): string {
  const match = /^0x([0-9a-f]{8})$/.exec(text);
  return match?.[1] === undefined ? text : formatAddress({ family: 4, value: BigInt(`0x${match[1]}`) });
}

function actionText(expr: NftExpr): string {
  switch (expr.kind) {
    case "counter":
      return "counter";
    case "notrack":
      return "notrack";
    case "log": {
      const prefix = expr.prefix === undefined ? "" : ` prefix ${JSON.stringify(expr.prefix)}`;
      return `log${prefix}${expr.group === undefined ? "" : ` group ${expr.group}`}${expr.snaplen === undefined ? "" : ` snaplen ${expr.snaplen}`}`;
    }
    case "limit":
      return `limit rate ${expr.over === true ? "over " : ""}${expr.rate}/${expr.perSeconds}s burst ${expr.burst} ${expr.type}`;
    case "connlimit":
      return `ct count ${expr.over === true ? "over " : ""}${expr.count}`;
    case "reject":
      return `reject with ${expr.type}${expr.code === undefined ? "" : ` ${expr.code}`}`;
    case "unknown":
      return `[${expr.name} ${hex(expr.data)}]`;
    default:
      return expr.kind;
  }
}

export function verdictText(verdict: NftVerdict): string {
  return verdict.kind === "jump" || verdict.kind === "goto" ? `${verdict.kind} ${verdict.chain}` : verdict.kind;
}

const FAMILIES: Readonly<Record<number, string>> = { 2: "ipv4", 10: "ipv6" };
const ADDRESS_TYPES: Readonly<Record<number, string>> = { 1: "unicast", 2: "local", 3: "broadcast", 5: "multicast" };

const hostNumber = (bytes: Uint8Array): number =>
  bytes.length >= 4 ? viewOf(bytes).getUint32(0, LITTLE_ENDIAN_HOST) : 0;

function bitNames(bits: number, names: Readonly<Record<string, number>>): string {
  const found = Object.entries(names).filter(([, bit]) => (bits & bit) !== 0);
  return found.length === 0 ? "0" : found.map(([name]) => name).join(",");
}

function valueText(type: ValueType, bytes: Uint8Array, length: number): string {
  switch (type) {
    case "ipv4_addr":
    case "ipv6_addr": {
      if (bytes.length >= length) return formatAddress(addressFromBytes(bytes));
      const whole = new Uint8Array(length);
      whole.set(bytes);
      return `${formatAddress(addressFromBytes(whole))}/${bytes.length * 8}`;
    }
    case "ether_addr":
      return formatMac(bytes);
    case "inet_proto":
      return protocolName(bytes[0] ?? 0).toLowerCase();
    case "inet_service":
      return String(((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0));
    case "ifname":
      return JSON.stringify(`${textFrom(bytes)}${bytes.length < 16 ? "*" : ""}`);
    case "mark":
      return `0x${hostNumber(bytes).toString(16)}`;
    case "devgroup":
    case "integer":
      return String(hostNumber(bytes));
    case "family":
      return FAMILIES[bytes[0] ?? 0] ?? hex(bytes);
    case "address type":
      return ADDRESS_TYPES[hostNumber(bytes)] ?? hex(bytes);
    case "ct state":
      return bitNames(hostNumber(bytes), CT_STATE_BITS);
    case "ct status":
      return bitNames(hostNumber(bytes), CT_STATUS_BITS);
    case "raw":
      return bytes.length === 1 ? String(bytes[0]) : `0x${hex(bytes)}`;
    default:
      return unreachable(type);
  }
}

/** The fields of a key joined by ` . `, ranges as `from-to`, a map's value after a colon. */
export function renderElement(set: NftSet, element: NftElement): string {
  const to = element.keyEnd;
  let at = 0;
  const fields = set.keyTypes.map((type) => {
    const length = DATA_TYPE_LENGTH[type];
    const text = (key: Uint8Array): string => valueText(type, key.subarray(at, at + length), length);
    const field = text(element.key) + (to === undefined || text(to) === text(element.key) ? "" : `-${text(to)}`);
    at += padTo4(length);
    return field;
  });
  const comment = element.comment === undefined ? "" : ` comment ${JSON.stringify(element.comment)}`;
  return fields.join(" . ") + comment + mappedText(set, element);
}

function mappedText(set: NftSet, { value }: NftElement): string {
  if (value === undefined) return "";
  if (!(value instanceof Uint8Array)) return ` : ${verdictText(value)}`;
  const { mapTo } = set;
  return ` : ${mapTo === undefined || mapTo === "verdict" ? `0x${hex(value)}` : valueText(mapTo, value, DATA_TYPE_LENGTH[mapTo])}`;
}

export function renderSet(set: NftSet): string {
  const type = set.keyTypes.join(" . ") + (set.mapTo === undefined ? "" : ` : ${set.mapTo}`);
  const flags = set.interval === true ? "; flags interval" : "";
  return `${set.mapTo === undefined ? "set" : "map"} ${set.name} { type ${type}${flags}${set.size === undefined ? "" : `; size ${set.size}`}; }`;
}

export function renderChain({ name, base }: NftChain): string {
  if (base === undefined) return `chain ${name}`;
  const device = base.device === undefined ? "" : ` device ${base.device}`;
  return `chain ${name} { type ${base.type} hook ${base.hook}${device} priority ${base.priority}; policy ${base.policy}; }`;
}

/** One line a command, as one would type it at `nft -i`. */
export function renderCommand(command: NftCommand): string {
  const table = `${command.table.family} ${command.table.name}`;
  switch (command.do) {
    case "add-table":
      return command.owned === true ? `add table ${table} { flags owner; }` : `add table ${table}`;
    case "delete-table":
      return `${command.ifExists === true ? "destroy" : "delete"} table ${table}`;
    case "add-chain":
      return `add ${renderChain(command.chain).replace("chain ", `chain ${table} `)}`;
    case "flush-chain":
      return `flush chain ${table} ${command.chain}`;
    case "delete-chain":
      return `delete chain ${table} ${command.chain}`;
    case "add-rule":
      return `add rule ${table} ${command.chain} ${renderRule(command.rule)}`;
    case "insert-rule": {
      const before = command.beforeHandle === undefined ? "" : ` handle ${command.beforeHandle}`;
      return `insert rule ${table} ${command.chain}${before} ${renderRule(command.rule)}`;
    }
    case "replace-rule":
      return `replace rule ${table} ${command.chain} handle ${command.handle} ${renderRule(command.rule)}`;
    case "delete-rule":
      return `delete rule ${table} ${command.chain} handle ${command.handle}`;
    case "add-set":
      return `add ${renderSet(command.set).replace(" ", ` ${table} `)}`;
    case "delete-set":
      return `delete set ${table} ${command.set}`;
    case "flush-set":
      return `flush set ${table} ${command.set}`;
    case "add-elements":
    case "delete-elements": {
      const verb = command.do === "add-elements" ? "add" : "delete";
      const elements = command.elements.map((element) => renderElement(command.set, element)).join(", ");
      return `${verb} element ${table} ${command.set.name} { ${elements} }`;
    }
    default:
      return unreachable(command);
  }
}
