/** What a selector means, as a tree. Values are never evaluated or compared as text once they are in this form. */
export type SelectorNode =
  | { readonly kind: "all" }
  | { readonly kind: "global" }
  | { readonly kind: "has"; readonly label: string }
  | { readonly kind: ValueOperator; readonly label: string; readonly value: string }
  /** `values` is sorted (by code unit) and has no duplicates. An empty set is legal: `in {}` matches nothing. */
  | { readonly kind: SetOperator; readonly label: string; readonly values: readonly string[] }
  | { readonly kind: "not"; readonly operand: SelectorNode }
  | { readonly kind: "and"; readonly operands: readonly SelectorNode[] }
  | { readonly kind: "or"; readonly operands: readonly SelectorNode[] };

export type ValueOperator = "==" | "!=" | "contains" | "starts with" | "ends with";
export type SetOperator = "in" | "not in";

/** Double negation folds: the negation of a negation is the operand itself. */
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
