/**
 * Can a selector ever hold, and can it ever fail? Answered from its form alone and on the safe side: false means "perhaps".
 *
 * `all()` is true of everything only where nothing rewrites it: in a selector for namespaces or accounts, or beside one, it means "is
 * in a namespace" or "has an account" (inventory §10.2); say so with `allIsTrue: false`.
 */
import type { SelectorNode } from "@calico-ts/selector";

interface Reading {
  readonly allIsTrue: boolean;
}

export function neverHolds(node: SelectorNode, reading: Reading): boolean {
  switch (node.kind) {
    case "in":
      return node.values.length === 0;
    case "not":
      return alwaysHolds(node.operand, reading);
    case "or":
      return node.operands.every((operand) => neverHolds(operand, reading));
    case "and":
      return node.operands.some((operand) => neverHolds(operand, reading)) || contradicts(node.operands);
    default:
      return false;
  }
}

export function alwaysHolds(node: SelectorNode, reading: Reading): boolean {
  switch (node.kind) {
    case "all":
      return reading.allIsTrue;
    case "not in":
      return node.values.length === 0;
    case "not":
      return neverHolds(node.operand, reading);
    case "and":
      return node.operands.every((operand) => alwaysHolds(operand, reading));
    case "or":
      return (
        node.operands.some((operand) => alwaysHolds(operand, reading)) ||
        contradicts(node.operands.map((operand): SelectorNode => ({ kind: "not", operand })))
      );
    default:
      return false;
  }
}

type Leaf = Extract<SelectorNode, { readonly label: string }>;
type Value = string | undefined;

interface Demand {
  readonly leaf: Leaf;
  readonly not: boolean;
}

/** No value of one label meets all that is demanded of it at once. */
function contradicts(operands: readonly SelectorNode[]): boolean {
  const byLabel = new Map<string, Demand[]>();
  for (const operand of operands) {
    const demand = demandOf(operand, false);
    if (demand === undefined) continue;
    byLabel.set(demand.leaf.label, [...(byLabel.get(demand.leaf.label) ?? []), demand]);
  }
  return [...byLabel.values()].some(isImpossible);
}

function demandOf(node: SelectorNode, not: boolean): Demand | undefined {
  if (node.kind === "not") return demandOf(node.operand, !not);
  return "label" in node ? { leaf: node, not } : undefined;
}

const FUZZY: readonly Leaf["kind"][] = ["contains", "starts with", "ends with"];

function isImpossible(demands: readonly Demand[]): boolean {
  // A value that must be one of a few can be tried out; otherwise any text could be made to fit "contains" and its like.
  const exact = demands.find(({ leaf, not }) => isEquality(leaf, not));
  const absent = demands.some(({ leaf, not }) => leaf.kind === "has" && not);
  if (exact === undefined && !absent && demands.some(({ leaf, not }) => FUZZY.includes(leaf.kind) && !not))
    return false;
  const mentioned = demands.flatMap(({ leaf }) => valuesOf(leaf));
  const tried: readonly Value[] =
    exact === undefined ? [undefined, unlike(mentioned), ...mentioned] : valuesOf(exact.leaf);
  return !tried.some((value) => demands.every(({ leaf, not }) => holds(leaf, value) !== not));
}

const isEquality = (leaf: Leaf, not: boolean): boolean =>
  not ? leaf.kind === "!=" || leaf.kind === "not in" : leaf.kind === "==" || leaf.kind === "in";

const valuesOf = (leaf: Leaf): readonly string[] =>
  leaf.kind === "has" ? [] : "value" in leaf ? [leaf.value] : leaf.values;

/** A text that none of these contains, and that contains none of them but the empty one. */
const unlike = (texts: readonly string[]): string =>
  "\u0000".repeat(1 + texts.reduce((most, text) => Math.max(most, text.length), 0));

function holds(leaf: Leaf, value: Value): boolean {
  switch (leaf.kind) {
    case "has":
      return value !== undefined;
    case "==":
      return value === leaf.value;
    case "!=":
      return value !== leaf.value;
    case "contains":
      return value !== undefined && value.includes(leaf.value);
    case "starts with":
      return value !== undefined && value.startsWith(leaf.value);
    case "ends with":
      return value !== undefined && value.endsWith(leaf.value);
    case "in":
      return value !== undefined && leaf.values.includes(value);
    default:
      return value === undefined || !leaf.values.includes(value);
  }
}
