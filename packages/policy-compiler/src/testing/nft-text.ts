/** A ruleset as text close to nft's own, for goldens: complete, stable, and readable without a kernel. */
import type { NftElement, NftExpr, NftRule, NftSet } from "@calico-ts/netlink";
import type { Ruleset } from "../index.ts";

export function rulesetText(ruleset: Ruleset): string {
  const byName = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number => (a < b ? -1 : 1);
  const sets = [...ruleset.sets].toSorted(byName).map(([name, { set, elements }]) => {
    const list = [...elements.values()].map((element) => elementText(set, element)).toSorted();
    const flags = set.interval === true ? " interval" : "";
    const kind = set.mapTo === undefined ? "set" : "map";
    return [`${kind} ${name} (${set.keyTypes.join(" . ")}${flags})`, ...list.map((text) => `  ${text}`)].join("\n");
  });
  const chains = [...ruleset.chains].toSorted(byName).map(([name, { chain, rules }]) => {
    const { base } = chain;
    const hook = base === undefined ? "" : ` (${base.type} ${base.hook} ${base.priority} ${base.policy})`;
    return [`chain ${name}${hook}`, ...rules.map((rule) => `  ${ruleText(rule)}`)].join("\n");
  });
  return `${[...sets, ...chains].join("\n\n")}\n`;
}

export function ruleText(rule: NftRule): string {
  const words: string[] = [];
  const loaded = new Map<number, string>();
  for (const expr of rule.exprs) {
    const text = exprText(expr, loaded);
    if (text !== "") words.push(text);
  }
  if (rule.comment !== undefined) words.push(`# ${rule.comment}`);
  return words.join(" ");
}

const HEADER: Readonly<Record<string, string>> = {
  "network 12 4": "ip saddr",
  "network 16 4": "ip daddr",
  "network 8 16": "ip6 saddr",
  "network 24 16": "ip6 daddr",
  "transport 0 2": "th sport",
  "transport 2 2": "th dport",
  "transport 0 1": "icmp type",
};

function exprText(expr: NftExpr, loaded: Map<number, string>): string {
  switch (expr.kind) {
    case "meta":
    case "ct":
      loaded.set(expr.dreg, `${expr.kind} ${expr.key}`);
      return "";
    case "fib":
      loaded.set(expr.dreg, `fib ${expr.flags.join(" . ")} ${expr.result}`);
      return "";
    case "payload": {
      const key = `${expr.base} ${expr.offset} ${expr.length}`;
      loaded.set(expr.dreg, HEADER[key] ?? `@${key.replaceAll(" ", ",")}`);
      return "";
    }
    case "bitwise":
      loaded.set(expr.dreg, `${loaded.get(expr.sreg) ?? "?"} & ${hex(expr.mask)} ^ ${hex(expr.xor)}`);
      return "";
    case "immediate":
      loaded.set(expr.dreg, hex(expr.data));
      return "";
    case "cmp":
      return `${loaded.get(expr.sreg) ?? "?"} ${expr.op === "eq" ? "==" : "!="} ${valueText(loaded.get(expr.sreg), expr.data)}`;
    case "range":
      return `${loaded.get(expr.sreg) ?? "?"} ${expr.op === "eq" ? "==" : "!="} ${number(expr.from)}-${number(expr.to)}`;
    case "lookup": {
      const verb = expr.dreg === 0 ? "vmap" : expr.invert === true ? "not in" : "in";
      const fields = [...loaded.values()].join(" . ");
      loaded.clear();
      if (expr.dreg !== undefined && expr.dreg !== 0) {
        loaded.set(expr.dreg, `${fields} map @${expr.set}`);
        return "";
      }
      return `${fields} ${verb} @${expr.set}`;
    }
    case "meta-set":
      return `${expr.key} := ${loaded.get(expr.sreg) ?? "?"}`;
    case "verdict":
      return "chain" in expr.verdict ? `${expr.verdict.kind} ${expr.verdict.chain}` : expr.verdict.kind;
    case "log":
      return `log ${JSON.stringify(expr.prefix ?? "")}`;
    case "limit":
      return `limit ${expr.over === true ? "over " : ""}${expr.rate}/${expr.perSeconds}s burst ${expr.burst}`;
    case "connlimit":
      return `connections ${expr.over === true ? "over " : ""}${expr.count}`;
    case "payload-set":
      return `@${expr.base},${expr.offset},${expr.length} := ${loaded.get(expr.sreg) ?? "?"}`;
    case "masquerade":
      return expr.portMin === undefined
        ? "masquerade"
        : `masquerade ports ${loaded.get(1) ?? ""}-${loaded.get(2) ?? ""}`;
    case "nat":
      return `${expr.type} ${loaded.get(1) ?? ""}`;
    default:
      return expr.kind;
  }
}

function valueText(field: string | undefined, data: Uint8Array): string {
  if (field === "meta iifname" || field === "meta oifname") return nameText(data);
  if (field === "meta nfproto") return data[0] === 2 ? "ipv4" : "ipv6";
  if (field === "meta l4proto" || field?.startsWith("th ") === true) return number(data);
  return hex(data);
}

function elementText(set: NftSet, element: NftElement): string {
  const parts = split(set, element.key);
  const ends = element.keyEnd === undefined ? undefined : split(set, element.keyEnd);
  const key = parts
    .map((part, at) => (ends?.[at] === undefined || ends[at] === part ? part : `${part}-${ends[at]}`))
    .join(" . ");
  const { value } = element;
  const to =
    value instanceof Uint8Array
      ? ` : ${set.mapTo === "ipv4_addr" ? value.join(".") : hex(value)}`
      : value !== undefined && "chain" in value
        ? ` : ${value.kind} ${value.chain}`
        : "";
  return `${key}${to}`;
}

const LENGTHS: Readonly<Record<string, number>> = {
  ipv4_addr: 4,
  ipv6_addr: 16,
  inet_proto: 1,
  inet_service: 2,
  ifname: 16,
  devgroup: 4,
};

function split(set: NftSet, key: Uint8Array): string[] {
  let at = 0;
  return set.keyTypes.map((type) => {
    const length = LENGTHS[type] ?? 4;
    const bytes = key.subarray(at, at + length);
    at += Math.ceil(length / 4) * 4;
    if (type === "ifname") return nameText(bytes);
    if (type === "devgroup") return String(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true));
    if (type === "ipv4_addr") return bytes.join(".");
    return type === "ipv6_addr" ? hex(bytes) : number(bytes);
  });
}

const hex = (bytes: Uint8Array): string =>
  `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
const number = (bytes: Uint8Array): string => String(bytes.reduce((sum, byte) => sum * 256 + byte, 0));
const nameText = (bytes: Uint8Array): string =>
  `"${Array.from(bytes, (byte) => (byte === 0 ? "" : String.fromCharCode(byte))).join("")}${bytes.length < 16 ? "*" : ""}"`;
