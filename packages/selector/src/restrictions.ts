/**
 * What labels a matching object must have, worked out from the selector alone. An index uses it to look only at the
 * objects that could match; leaving a restriction out costs time, never correctness, so anything uncertain is left out.
 */
import type { SelectorNode } from "./ast.ts";

export interface LabelRestriction {
  /** The label must be there. */
  readonly present: boolean;
  /** The label must not be there. */
  readonly absent: boolean;
  /** The label must have one of these values. Empty: nothing can match. */
  readonly values?: ReadonlySet<string>;
}

export type LabelRestrictions = ReadonlyMap<string, LabelRestriction>;

const NONE: LabelRestrictions = new Map();

export function labelRestrictions(node: SelectorNode): LabelRestrictions {
  switch (node.kind) {
    case "has":
    case "contains":
    case "starts with":
    case "ends with":
      return new Map([[node.label, { present: true, absent: false }]]);
    case "==":
      return new Map([[node.label, { present: true, absent: false, values: new Set([node.value]) }]]);
    case "in":
      return new Map([[node.label, { present: true, absent: false, values: new Set(node.values) }]]);
    case "not":
      return node.operand.kind === "has" ? new Map([[node.operand.label, { present: false, absent: true }]]) : NONE;
    case "and":
      return all(node.operands.map(labelRestrictions));
    case "or":
      return any(node.operands.map(labelRestrictions));
    default:
      return NONE;
  }
}

function all(operands: readonly LabelRestrictions[]): LabelRestrictions {
  const merged = new Map<string, LabelRestriction>();
  for (const operand of operands) {
    for (const [label, restriction] of operand) {
      const other = merged.get(label);
      merged.set(label, other === undefined ? restriction : intersect(other, restriction));
    }
  }
  return merged;
}

function intersect(a: LabelRestriction, b: LabelRestriction): LabelRestriction {
  const flags = { present: a.present || b.present, absent: a.absent || b.absent };
  if (a.values === undefined) return b.values === undefined ? flags : { ...flags, values: b.values };
  const other = b.values;
  const values = other === undefined ? a.values : new Set([...a.values].filter((value) => other.has(value)));
  return { ...flags, values };
}

/** What all of them ask of a label. */
function any(operands: readonly LabelRestrictions[]): LabelRestrictions {
  const merged = new Map<string, LabelRestriction>();
  for (const label of operands[0]?.keys() ?? []) {
    const each = operands.flatMap((operand) => operand.get(label) ?? []);
    if (each.length < operands.length) continue;
    const flags = { present: each.every(({ present }) => present), absent: each.every(({ absent }) => absent) };
    if (each.every(({ values }) => values !== undefined)) {
      merged.set(label, { ...flags, values: new Set(each.flatMap(({ values = [] }) => [...values])) });
    } else if (flags.present || flags.absent) {
      merged.set(label, flags);
    }
  }
  return merged;
}
