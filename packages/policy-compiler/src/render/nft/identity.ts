/**
 * When is what the kernel has the same as what we want? Text that is equal for equal rules and elements: packet counters
 * do not count, and values the kernel fills in when they are absent are filled in here too.
 */
import type { NftElement, NftExpr, NftRule } from "@calico-ts/netlink";
import { canonicalRegister } from "@calico-ts/netlink";

export function ruleIdentity(rule: NftRule): string {
  return JSON.stringify([rule.comment ?? "", rule.exprs.map(exprIdentity)]);
}

/** Identity of an element inside its set. */
export function elementKey(element: NftElement): string {
  const key = hex(element.key);
  const end = element.keyEnd === undefined ? key : hex(element.keyEnd);
  return end === key ? key : `${key}-${end}`;
}

/** The same plus what the element leads to: what drift is measured on. */
export function elementIdentity(element: NftElement): string {
  const { value } = element;
  if (value === undefined) return elementKey(element);
  const text =
    value instanceof Uint8Array ? hex(value) : "chain" in value ? `${value.kind} ${value.chain}` : value.kind;
  return `${elementKey(element)} ${text}`;
}

const MAP_IPS = 1 << 0;
const PROTO_SPECIFIED = 1 << 1;
const LOGLEVEL_WARNING = 4;

/** The expression with the kernel's defaults made explicit, as sorted entries. */
function exprIdentity(expr: NftExpr): unknown {
  switch (expr.kind) {
    case "counter":
      return "counter";
    case "nat": {
      const implied =
        (expr.addressMin === undefined ? 0 : MAP_IPS) | (expr.portMin === undefined ? 0 : PROTO_SPECIFIED);
      return entries({
        ...expr,
        addressMax: expr.addressMax ?? expr.addressMin,
        portMax: expr.portMax ?? expr.portMin,
        flags: (expr.flags ?? 0) | implied,
      });
    }
    case "masquerade":
    case "redirect": {
      const implied = expr.portMin === undefined ? 0 : PROTO_SPECIFIED;
      return entries({ ...expr, portMax: expr.portMax ?? expr.portMin, flags: (expr.flags ?? 0) | implied });
    }
    case "log":
      return entries(expr.group === undefined ? { ...expr, level: expr.level ?? LOGLEVEL_WARNING } : expr);
    default:
      return entries(expr);
  }
}

const REGISTERS = new Set(["sreg", "dreg", "addressMin", "addressMax", "portMin", "portMax"]);

function entries(expr: object): unknown {
  return Object.entries(expr)
    .filter(([, value]) => value !== undefined && value !== false && value !== 0)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => [name, plain(name, value)]);
}

function plain(name: string, value: unknown): unknown {
  if (value instanceof Uint8Array) return hex(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number" && REGISTERS.has(name)) return canonicalRegister(value);
  if (Array.isArray(value)) return value.map(String).toSorted();
  return value;
}

function hex(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += DIGITS[byte] ?? "";
  return out;
}

const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
