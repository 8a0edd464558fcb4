/**
 * From the selectors of v3 policies to one selector over endpoint labels.
 *
 * Endpoints inherit the labels of their namespace under `pcns.` and of their service account under `pcsa.`, and carry
 * `projectcalico.org/namespace` and `projectcalico.org/serviceaccount`. So a namespace selector becomes a selector over
 * prefixed labels, `all()` in it means "is in some namespace" and `global()` "is in none" (host endpoints and global
 * network sets). In global policies `all()` is replaced in the whole combined selector, also in the endpoint part; in
 * service-account selectors of namespaced policies and of rules it is not. Both are upstream's behaviour, and both can
 * change which endpoints match.
 */
import type { SelectorNode } from "./ast.ts";
import { mapLeaves, setValues } from "./ast.ts";
import { parseNode } from "./parser.ts";
import { Selector } from "./selector.ts";

export const NAMESPACE_LABEL = "projectcalico.org/namespace";
export const SERVICE_ACCOUNT_LABEL = "projectcalico.org/serviceaccount";
export const NAMESPACE_LABEL_PREFIX = "pcns.";
export const SERVICE_ACCOUNT_LABEL_PREFIX = "pcsa.";

export interface PolicySelectors {
  readonly selector?: string;
  readonly namespaceSelector?: string;
  readonly serviceAccountSelector?: string;
}

/** One side (source or destination) of a policy rule. */
export interface EntitySelectors {
  readonly selector?: string;
  readonly notSelector?: string;
  readonly namespaceSelector?: string;
  readonly serviceAccounts?: { readonly names?: readonly string[]; readonly selector?: string };
}

/** Both selectors must hold. The result nests, it does not flatten: the canonical text stays the one upstream has. */
export const andSelectors = (a: Selector, b: Selector): Selector =>
  new Selector({ kind: "and", operands: [a.ast, b.ast] });

/** Every label name gets the prefix. */
export const prefixLabels = (selector: Selector, prefix: string): Selector =>
  new Selector(prefixNode(selector.ast, prefix));

/** What a NetworkPolicy of that namespace applies to. @throws CalicoError BAD_INPUT */
export function networkPolicySelector(namespace: string, spec: Omit<PolicySelectors, "namespaceSelector">): Selector {
  const own = given(spec.selector) ? parseNode(spec.selector) : undefined;
  const node = and(own, inNamespace(namespace));
  const accounts = spec.serviceAccountSelector;
  return new Selector(given(accounts) ? and(node, prefixed(accounts, SERVICE_ACCOUNT_LABEL_PREFIX)) : node);
}

/** What a GlobalNetworkPolicy applies to. @throws CalicoError BAD_INPUT */
export function globalPolicySelector(spec: PolicySelectors): Selector {
  const own = given(spec.selector) ? parseNode(spec.selector) : undefined;
  const inNamespaces = append(own, spec.namespaceSelector, NAMESPACE);
  return new Selector(append(inNamespaces, spec.serviceAccountSelector, SERVICE_ACCOUNT) ?? { kind: "all" });
}

/**
 * The endpoints and network sets one side of a rule selects; undefined when the side does not select by label. In a
 * namespaced policy, a side that does and names no namespaces means its own. `notSelector` is not part of the result: it
 * negates the whole match, addresses unknown to Calico included, and is neither namespaced nor prefixed.
 * @throws CalicoError BAD_INPUT
 */
export function entitySelector(entity: EntitySelectors, policyNamespace?: string): Selector | undefined {
  const accounts = accountsNode(entity.serviceAccounts);
  const own = given(entity.selector) ? parseNode(entity.selector) : undefined;
  const selected = own === undefined ? accounts : and(accounts, own);

  let scope: SelectorNode | undefined;
  if (given(entity.namespaceSelector)) {
    scope = mapLeaves(prefixed(entity.namespaceSelector, NAMESPACE_LABEL_PREFIX), namespaceScope);
  } else if (given(policyNamespace) && (selected !== undefined || given(entity.notSelector))) {
    scope = inNamespace(policyNamespace);
  }
  const node = selected === undefined ? scope : and(scope, selected);
  return node === undefined ? undefined : new Selector(node);
}

/** Service accounts by label and by name: both must hold when both are given. */
function accountsNode(accounts: EntitySelectors["serviceAccounts"]): SelectorNode | undefined {
  const byLabel = given(accounts?.selector) ? prefixed(accounts.selector, SERVICE_ACCOUNT_LABEL_PREFIX) : undefined;
  const names = setValues(accounts?.names ?? []);
  return names.length === 0 ? byLabel : and(byLabel, { kind: "in", label: SERVICE_ACCOUNT_LABEL, values: names });
}

interface Inheritance {
  readonly prefix: string;
  readonly label: string;
}

const NAMESPACE: Inheritance = { prefix: NAMESPACE_LABEL_PREFIX, label: NAMESPACE_LABEL };
const SERVICE_ACCOUNT: Inheritance = { prefix: SERVICE_ACCOUNT_LABEL_PREFIX, label: SERVICE_ACCOUNT_LABEL };

function append(
  node: SelectorNode | undefined,
  text: string | undefined,
  inherited: Inheritance,
): SelectorNode | undefined {
  return given(text) ? allMeans(and(node, prefixed(text, inherited.prefix)), inherited.label) : node;
}

const and = (a: SelectorNode | undefined, b: SelectorNode): SelectorNode =>
  a === undefined ? b : { kind: "and", operands: [a, b] };

const inNamespace = (namespace: string): SelectorNode => ({ kind: "==", label: NAMESPACE_LABEL, value: namespace });

const prefixed = (text: string, prefix: string): SelectorNode => prefixNode(parseNode(text), prefix);

const prefixNode = (node: SelectorNode, prefix: string): SelectorNode =>
  mapLeaves(node, (leaf) => ("label" in leaf ? { ...leaf, label: prefix + leaf.label } : leaf));

const allMeans = (node: SelectorNode, label: string): SelectorNode =>
  mapLeaves(node, (leaf) => (leaf.kind === "all" ? { kind: "has", label } : leaf));

function namespaceScope(leaf: SelectorNode): SelectorNode {
  if (leaf.kind === "all") return { kind: "has", label: NAMESPACE_LABEL };
  if (leaf.kind === "global") return { kind: "not", operand: { kind: "has", label: NAMESPACE_LABEL } };
  return leaf;
}

/** Blank text selects everything and so says nothing; upstream compares with the empty string only. */
const given = (text: string | undefined): text is string => text !== undefined && text !== "";
