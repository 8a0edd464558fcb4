/**
 * One spelling per rule. The kernel hands a rule back with things filled in: registers under their old names, the
 * default log level, NAT flags that follow from the registers, counters that count. Comparing what we asked for with what is there
 * needs both in the same form.
 */
import { sameBytes } from "./bytes.ts";
import { canonicalRegister } from "./registers.ts";
import type { NftExpr, NftRule } from "./values.ts";

const DEFAULT_LOG_LEVEL = 4;
/** NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED: implied by the registers given. */
const IMPLIED_NAT_FLAGS = 3;

export function normalizeRule(rule: NftRule): NftRule {
  const exprs = rule.exprs.map(normalizeExpr);
  return rule.comment === undefined ? { exprs } : { exprs, comment: rule.comment };
}

const REGISTERS = new Set(["dreg", "sreg", "addressMin", "addressMax", "portMin", "portMax"]);

export function normalizeExpr(expr: NftExpr): NftExpr {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(expr)) {
    if (value === undefined || value === false) continue;
    out[key] = REGISTERS.has(key) && typeof value === "number" ? canonicalRegister(value) : value;
  }
  if (out["kind"] === "log" && (out["level"] === DEFAULT_LOG_LEVEL || out["group"] !== undefined)) delete out["level"];
  if (out["offset"] === 0 && (out["kind"] === "numgen" || out["kind"] === "hash")) delete out["offset"];
  if (out["kind"] === "nat" || out["kind"] === "masquerade" || out["kind"] === "redirect") normalizeNat(out);
  return out as unknown as NftExpr;
}

function normalizeNat(out: Record<string, unknown>): void {
  if (out["addressMax"] === out["addressMin"]) delete out["addressMax"];
  if (out["portMax"] === out["portMin"]) delete out["portMax"];
  const flags = typeof out["flags"] === "number" ? out["flags"] & ~IMPLIED_NAT_FLAGS : 0;
  if (flags === 0) delete out["flags"];
  else out["flags"] = flags;
}

/** Same expressions and comment; what a counter has counted does not matter. */
export function sameRule(a: NftRule, b: NftRule): boolean {
  return (
    a.comment === b.comment &&
    a.exprs.length === b.exprs.length &&
    a.exprs.every((expr, at) => {
      const other = b.exprs[at];
      return other !== undefined && sameExpr(expr, other);
    })
  );
}

function sameExpr(a: NftExpr, b: NftExpr): boolean {
  if (a.kind === "counter" && b.kind === "counter") return true;
  return sameValue(normalizeExpr(a), normalizeExpr(b));
}

function sameValue(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (a instanceof Uint8Array) return b instanceof Uint8Array && sameBytes(a, b);
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const left = Object.entries(a);
  const right = new Map(Object.entries(b));
  return left.length === right.size && left.every(([key, value]) => right.has(key) && sameValue(value, right.get(key)));
}
