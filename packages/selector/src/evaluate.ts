import { unreachable } from "@calico-ts/std";
import type { SelectorNode } from "./ast.ts";

/** Whatever has labels: a map, a view that falls back to inherited labels, … An absent label is undefined. */
export interface LabelSource {
  get(name: string): string | undefined;
}

export type Matcher = (labels: LabelSource) => boolean;

/**
 * Builds a function from a tree, once per selector: evaluation is the inner loop of the label index.
 *
 * An absent label fails `==`, `in`, `contains`, `starts with`, `ends with` and passes `!=` and `not in`. `global()` alone
 * is true for everything; `rewrite.ts` gives it its meaning.
 */
export function compileMatcher(node: SelectorNode): Matcher {
  switch (node.kind) {
    case "all":
    case "global":
      return () => true;
    case "has":
      return (labels) => labels.get(node.label) !== undefined;
    case "==":
      return (labels) => labels.get(node.label) === node.value;
    case "!=":
      return (labels) => labels.get(node.label) !== node.value;
    case "contains":
      return (labels) => labels.get(node.label)?.includes(node.value) ?? false;
    case "starts with":
      return (labels) => labels.get(node.label)?.startsWith(node.value) ?? false;
    case "ends with":
      return (labels) => labels.get(node.label)?.endsWith(node.value) ?? false;
    case "in":
      return setMatcher(node.label, node.values, true);
    case "not in":
      return setMatcher(node.label, node.values, false);
    case "not": {
      const operand = compileMatcher(node.operand);
      return (labels) => !operand(labels);
    }
    case "and": {
      const operands = node.operands.map(compileMatcher);
      return (labels) => operands.every((operand) => operand(labels));
    }
    case "or": {
      const operands = node.operands.map(compileMatcher);
      return (labels) => operands.some((operand) => operand(labels));
    }
    default:
      return unreachable(node);
  }
}

function setMatcher(label: string, values: readonly string[], whenMember: boolean): Matcher {
  const members = new Set(values);
  return (labels) => {
    const value = labels.get(label);
    return (value !== undefined && members.has(value)) === whenMember;
  };
}
