/** What a selector means, as a tree. Values are never evaluated or compared as text once they are in this form. */
export type SelectorNode =
  | { readonly kind: "all" }
  | { readonly kind: "global" }
  | { readonly kind: "has"; readonly label: string }
  | { readonly kind: ValueOperator; readonly label: string; readonly value: string }
  /** `values` as `setValues` gives them. An empty set is legal: `in {}` matches nothing. */
  | { readonly kind: SetOperator; readonly label: string; readonly values: readonly string[] }
  | { readonly kind: "not"; readonly operand: SelectorNode }
  | { readonly kind: "and"; readonly operands: readonly SelectorNode[] }
  | { readonly kind: "or"; readonly operands: readonly SelectorNode[] };

export type ValueOperator = "==" | "!=" | "contains" | "starts with" | "ends with";
export type SetOperator = "in" | "not in";

/** Without duplicates, sorted by code point: the order of UTF-8 bytes, in which upstream has them. */
export const setValues = (values: Iterable<string>): string[] => [...new Set(values)].toSorted(byCodePoint);

function byCodePoint(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let at = 0; at < shared; at++) {
    const [x, y] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (x !== y) return rank(x) - rank(y);
  }
  return a.length - b.length;
}

/** Of a UTF-16 code unit: halves of characters beyond U+FFFF come after all others. */
const rank = (unit: number): number => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit);

/** Double negation folds, `!(!x)` too: the negation of a negation is the operand itself. */
export const negate = (node: SelectorNode): SelectorNode =>
  node.kind === "not" ? node.operand : { kind: "not", operand: node };

/** The same tree with every leaf (every node that has no operands) put through `change`. */
export function mapLeaves(node: SelectorNode, change: (leaf: SelectorNode) => SelectorNode): SelectorNode {
  switch (node.kind) {
    case "not":
      return negate(mapLeaves(node.operand, change));
    case "and":
    case "or":
      return { kind: node.kind, operands: node.operands.map((operand) => mapLeaves(operand, change)) };
    default:
      return change(node);
  }
}
