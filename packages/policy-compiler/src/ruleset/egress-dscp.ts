/**
 * DSCP (RFC 2474) of what endpoints send out of the cluster: to no address of a pool and none of this node. Set after policy and before the
 * source is rewritten, so endpoints are told by their addresses; answers to connections from outside are marked too.
 *
 * There is a set of sources per value and family in use. An address that two endpoints claim gets the larger value.
 */
import type { Family, Prefix } from "@calico-ts/net";
import { addressBits, formatPrefix, hostPrefix, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import type { ChainStore } from "./chain-store.ts";
import { SETS } from "./names.ts";
import type { SetStore } from "./set-store.ts";
import { OwnedSets } from "./set-store.ts";
import type { ChainRule, SetElement } from "./values.ts";
import { addressField, familyMatch, keyType } from "./values.ts";

const CHAIN = "egress-dscp";
const FAMILIES = [4, 6] as const;

interface Marked {
  readonly value: number;
  readonly sources: readonly Prefix[];
}

export class EgressDscp {
  readonly #chains: ChainStore;
  readonly #sets: OwnedSets;
  readonly #marked = new Map<string, Marked>();
  #dirty = false;

  constructor(chains: ChainStore, sets: SetStore) {
    this.#chains = chains;
    this.#sets = new OwnedSets(sets);
  }

  /** `addresses` as text, with or without a prefix length; value undefined: nothing of this owner is marked. */
  set(owner: string, value: number | undefined, addresses: readonly string[]): void {
    const sources = value === undefined ? [] : addresses.flatMap((text) => source(text) ?? []);
    if (value === undefined || sources.length === 0) {
      if (this.#marked.delete(owner)) this.#dirty = true;
      return;
    }
    this.#marked.set(owner, { value, sources });
    this.#dirty = true;
  }

  settle(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    const marked = [...this.#marked.values()];
    const values = [...new Set(marked.map(({ value }) => value))].toSorted((a, b) => a - b);
    const parts = values.flatMap((value) =>
      FAMILIES.map((family) => ({
        value,
        family,
        sources: marked
          .filter((each) => each.value === value)
          .flatMap((each) => each.sources)
          .filter((prefix) => prefix.family === family),
      })).filter(({ sources }) => sources.length > 0),
    );
    const rules = parts.map(({ value, family }) => markRule(value, family));
    this.#chains.put(CHAIN, rules.length === 0 ? [] : [{ name: CHAIN, attach: "dscp-postrouting", rules }]);
    this.#sets.replace(
      parts.map(({ value, family, sources }) => ({
        declaration: { name: sourceSet(value, family), key: [keyType(family)], ranges: false },
        elements: new Map(sources.map((prefix): [string, SetElement] => [formatPrefix(prefix), { key: [prefix] }])),
      })),
    );
  }
}

const sourceSet = (value: number, family: Family): string => `${CHAIN}/${value}/v${family}`;

function source(text: string): Prefix | undefined {
  const address = tryParseAddress(text);
  if (address !== undefined) return hostPrefix(address);
  const prefix = tryParsePrefix(text);
  return prefix?.length === addressBits(prefix?.family ?? 4) ? prefix : undefined;
}

const markRule = (value: number, family: Family): ChainRule => ({
  matches: [
    familyMatch(family),
    { kind: "lookup", set: sourceSet(value, family), fields: [addressField(family, "source")] },
    { kind: "lookup", set: SETS.allPools(family), fields: [addressField(family, "destination")], not: true },
    { kind: "local-address", side: "destination", not: true },
  ],
  actions: [{ kind: "set-dscp", family, value }],
});
