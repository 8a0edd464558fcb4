/**
 * Selectors as the oracle evaluates them: over the parsed tree, with what `all()` and `global()` mean in the place the
 * selector stands in. (The compiler rewrites selectors into one text instead; that the two agree is a test.)
 */
import type { LabelSelector } from "@calico-ts/model";
import type { SelectorNode } from "@calico-ts/selector";
import { parseSelector } from "@calico-ts/selector";
import type { Demand } from "./oracle-policy.ts";
import type { Entity } from "./world.ts";

export type EntityTest = (entity: Entity) => boolean;

export interface Meaning {
  /** Before every label name. */
  readonly prefix: string;
  readonly all: EntityTest;
  readonly global: EntityTest;
}

const always: EntityTest = () => true;
export const hasLabel =
  (name: string): EntityTest =>
  (entity) =>
    entity.labels.has(name);

export const PLAIN: Meaning = { prefix: "", all: always, global: always };

/** @throws CalicoError BAD_INPUT */
export const selectorTest = (text: string, meaning: Meaning = PLAIN): EntityTest =>
  nodeTest(parseSelector(text).ast, meaning);

function nodeTest(node: SelectorNode, meaning: Meaning): EntityTest {
  switch (node.kind) {
    case "all":
      return meaning.all;
    case "global":
      return meaning.global;
    case "not": {
      const inner = nodeTest(node.operand, meaning);
      return (entity) => !inner(entity);
    }
    case "and": {
      const tests = node.operands.map((operand) => nodeTest(operand, meaning));
      return (entity) => tests.every((test) => test(entity));
    }
    case "or": {
      const tests = node.operands.map((operand) => nodeTest(operand, meaning));
      return (entity) => tests.some((test) => test(entity));
    }
    default: {
      const label = meaning.prefix + node.label;
      const test = valueTest(node);
      return (entity) => test(entity.labels.get(label));
    }
  }
}

/** What the selector demands of a label, when it does; undefined for one that cannot be read. */
export function selectorDemand(text: string, prefix = ""): Demand | undefined {
  try {
    const demand = nodeDemand(parseSelector(text).ast);
    return demand === undefined ? undefined : { ...demand, label: prefix + demand.label };
  } catch {
    return undefined;
  }
}

function nodeDemand(node: SelectorNode): Demand | undefined {
  switch (node.kind) {
    case "==":
      return { label: node.label, values: [node.value] };
    case "in":
      return { label: node.label, values: node.values };
    case "and":
      for (const operand of node.operands) {
        const demand = nodeDemand(operand);
        if (demand !== undefined) return demand;
      }
      return undefined;
    default:
      return undefined;
  }
}

type Leaf = Extract<SelectorNode, { readonly label: string }>;

function valueTest(leaf: Leaf): (value: string | undefined) => boolean {
  switch (leaf.kind) {
    case "has":
      return (value) => value !== undefined;
    case "==":
      return (value) => value === leaf.value;
    case "!=":
      return (value) => value !== leaf.value;
    case "contains":
      return (value) => value !== undefined && value.includes(leaf.value);
    case "starts with":
      return (value) => value !== undefined && value.startsWith(leaf.value);
    case "ends with":
      return (value) => value !== undefined && value.endsWith(leaf.value);
    case "in":
      return (value) => value !== undefined && leaf.values.includes(value);
    default:
      return (value) => value === undefined || !leaf.values.includes(value);
  }
}

/** Kubernetes' own selectors, over labels with the prefix. undefined: it cannot be read. */
export function kubernetesTest(
  selector: LabelSelector | undefined,
  prefix = "",
): ((labels: ReadonlyMap<string, string>) => boolean) | undefined {
  const tests: ((labels: ReadonlyMap<string, string>) => boolean)[] = [];
  for (const [name, value] of Object.entries(selector?.matchLabels ?? {})) {
    if (!isLabelName(name) || !isLabelValue(value)) return undefined;
    tests.push((labels) => labels.get(prefix + name) === value);
  }
  for (const { key: name, operator, values = [] } of selector?.matchExpressions ?? []) {
    if (!isLabelName(name) || !Array.isArray(values) || !values.every(isLabelValue)) return undefined;
    const key = prefix + name;
    if (operator === "In") tests.push((labels) => values.includes(labels.get(key) ?? "") && labels.has(key));
    else if (operator === "NotIn") tests.push((labels) => !labels.has(key) || !values.includes(labels.get(key) ?? ""));
    else if (operator === "Exists") tests.push((labels) => labels.has(key));
    else if (operator === "DoesNotExist") tests.push((labels) => !labels.has(key));
    else return undefined;
  }
  return (labels) => tests.every((test) => test(labels));
}

/** What a Calico selector can say; stored objects may hold anything. */
const isLabelName = (name: string): boolean => /^[a-zA-Z0-9_./-]{1,512}$/.test(name);
const isLabelValue = (value: unknown): boolean =>
  typeof value === "string" && !(value.includes("'") && value.includes('"'));
