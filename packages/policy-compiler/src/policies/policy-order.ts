/**
 * The order of evaluation (inventory §10.3). Tiers: those that exist before those that policies merely name; by order, none
 * last; then by name. Policies: by order, none last; then by the text `name/namespace/kind`.
 */
import type { PolicyId } from "@calico-ts/dataplane-api";
import type { PolicyFacts, TierFacts } from "../intake/facts.ts";

export interface NamedTier {
  readonly name: string;
  /** undefined: no such tier. */
  readonly facts: TierFacts | undefined;
}

export function compareTiers(a: NamedTier, b: NamedTier): number {
  const missing = Number(a.facts === undefined) - Number(b.facts === undefined);
  return missing || compareOrder(a.facts?.order, b.facts?.order) || compareText(a.name, b.name);
}

export const comparePolicies = (a: PolicyFacts, b: PolicyFacts): number =>
  compareOrder(a.order, b.order) || compareText(tieText(a.id), tieText(b.id));

const tieText = (id: PolicyId): string => `${id.name}/${id.namespace}/${id.kind}`;

function compareOrder(a: number | undefined, b: number | undefined): number {
  const left = a ?? Number.POSITIVE_INFINITY;
  const right = b ?? Number.POSITIVE_INFINITY;
  return left === right ? 0 : left < right ? -1 : 1;
}

/** By code unit, so that it is the same in every locale. */
const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
