/**
 * The canonical text of a selector: equal trees have equal text, and the text parses back to the same tree. Unique ids
 * are made from it and name kernel sets, so this form is fixed: one blank around operators, parentheses around every
 * `&&` and `||` list, double quotes unless the value contains one, set values sorted. Upstream's, but for `!(!x)`, whose two signs it keeps.
 */
import { unreachable } from "@calico-ts/std";
import type { SelectorNode } from "./ast.ts";

export function canonicalText(node: SelectorNode): string {
  switch (node.kind) {
    case "all":
    case "global":
      return `${node.kind}()`;
    case "has":
      return `has(${node.label})`;
    case "==":
    case "!=":
    case "contains":
    case "starts with":
    case "ends with":
      return `${node.label} ${node.kind} ${quote(node.value)}`;
    case "in":
    case "not in":
      return `${node.label} ${node.kind} {${node.values.map(quote).join(", ")}}`;
    case "not":
      return `!${canonicalText(node.operand)}`;
    case "and":
      return `(${node.operands.map(canonicalText).join(" && ")})`;
    case "or":
      return `(${node.operands.map(canonicalText).join(" || ")})`;
    default:
      return unreachable(node);
  }
}

/** There are no escapes: a value that came from one kind of quotes never contains both. */
const quote = (value: string): string => (value.includes('"') ? `'${value}'` : `"${value}"`);
