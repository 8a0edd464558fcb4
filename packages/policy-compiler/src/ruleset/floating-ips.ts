/**
 * Floating addresses: what comes for one goes on to the pod's own address of that family, whether it comes from outside, from a pod or from
 * this node. It is rewritten before routing and policy, which know only the pod's own address, and before the service proxy looks.
 *
 * What the pod sends keeps its own address, as upstream's: a floating address is a way in. The exception is a pod that calls itself by it: its
 * packet would come back from its own address, which no host accepts, so it comes from the floating one.
 *
 * Where pods of this node claim one floating address, the lowest of their own has it; of several of a pod the lowest answers for it. Both as text.
 */
import type { FloatingAddress } from "@calico-ts/dataplane-api";
import type { Family, Prefix } from "@calico-ts/net";
import { formatPrefix, hostPrefix, tryParseAddress } from "@calico-ts/net";
import type { ChainStore } from "./chain-store.ts";
import type { SetStore } from "./set-store.ts";
import { OwnedSets } from "./set-store.ts";
import type { Chain, SetDeclaration, SetElement } from "./values.ts";
import { addressField, familyMatch, keyType } from "./values.ts";

const FAMILIES = [4, 6] as const;
const OWNER = "floating-ips";
const inwardMap = (family: Family): string => `${OWNER}/v${family}`;
const ownMap = (family: Family): string => `${OWNER}-to-themselves/v${family}`;

interface Mapping {
  readonly external: Prefix;
  readonly internal: Prefix;
}

export class FloatingIps {
  readonly #chains: ChainStore;
  readonly #sets: OwnedSets;
  readonly #byInterface = new Map<string, readonly FloatingAddress[]>();
  #enabled = false;
  #dirty = false;

  constructor(chains: ChainStore, sets: SetStore) {
    this.#chains = chains;
    this.#sets = new OwnedSets(sets);
  }

  set(name: string, addresses: readonly FloatingAddress[]): void {
    if (addresses.length > 0) this.#byInterface.set(name, addresses);
    else if (!this.#byInterface.delete(name)) return;
    this.#dirty = true;
  }

  settle(enabled: boolean): void {
    if (!this.#dirty && enabled === this.#enabled) return;
    this.#dirty = false;
    this.#enabled = enabled;
    const all = enabled ? decide([...this.#byInterface.values()].flat()) : [];
    const parts = FAMILIES.map((family) => ({
      family,
      mappings: all.filter(({ external }) => external.family === family),
    })).filter(({ mappings }) => mappings.length > 0);
    this.#chains.put(OWNER, renderChains(parts.map(({ family }) => family)));
    this.#sets.replace(
      parts.flatMap(({ family, mappings }) => [inward(family, mappings), toThemselves(family, mappings)]),
    );
  }
}

/** One own address per floating one, sorted. */
function decide(addresses: readonly FloatingAddress[]): Mapping[] {
  const chosen = new Map<string, string>();
  for (const { external, internal } of addresses) {
    const other = chosen.get(external);
    if (other === undefined || internal < other) chosen.set(external, internal);
  }
  return [...chosen]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([from, to]) => {
      const external = tryParseAddress(from);
      const internal = tryParseAddress(to);
      if (external === undefined || internal === undefined || external.family !== internal.family) return [];
      return [{ external: hostPrefix(external), internal: hostPrefix(internal) }];
    });
}

interface WholeSet {
  readonly declaration: SetDeclaration;
  readonly elements: ReadonlyMap<string, SetElement>;
}

const inward = (family: Family, mappings: readonly Mapping[]): WholeSet => ({
  declaration: { name: inwardMap(family), key: [keyType(family)], ranges: false, addresses: family },
  elements: new Map(
    mappings.map(({ external, internal }) => [formatPrefix(external), { key: [external], address: internal }]),
  ),
});

/** By source and destination, which are the same address. */
function toThemselves(family: Family, mappings: readonly Mapping[]): WholeSet {
  const elements = new Map<string, SetElement>();
  for (const { external, internal } of mappings) {
    const key = formatPrefix(internal);
    if (!elements.has(key)) elements.set(key, { key: [internal, internal], address: external });
  }
  const key = [keyType(family), keyType(family)];
  return { declaration: { name: ownMap(family), key, ranges: false, addresses: family }, elements };
}

function renderChains(families: readonly Family[]): Chain[] {
  if (families.length === 0) return [];
  const inwardRules = families.map((family) => ({
    matches: [familyMatch(family)],
    actions: [
      {
        kind: "translate",
        side: "destination",
        family,
        map: inwardMap(family),
        fields: [addressField(family, "destination")],
      } as const,
    ],
  }));
  const ownRules = families.map((family) => ({
    matches: [familyMatch(family)],
    actions: [
      {
        kind: "translate",
        side: "source",
        family,
        map: ownMap(family),
        fields: [addressField(family, "source"), addressField(family, "destination")],
      } as const,
    ],
  }));
  return [
    { name: "floating-ips-prerouting", attach: "nat-prerouting", rules: inwardRules },
    { name: "floating-ips-output", attach: "nat-output", rules: inwardRules },
    { name: "floating-ips-postrouting", attach: "nat-postrouting-first", rules: ownRules },
  ];
}
