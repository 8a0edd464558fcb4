/**
 * Walks in use, counted, and the policies and profiles they jump to. A chain that a walk jumps to must exist; `isReferred`
 * says which do although nobody has defined them (they deny).
 */
import { policyIdText } from "@calico-ts/dataplane-api";
import { RefCounts } from "@calico-ts/std";
import type { ChainStore } from "./chain-store.ts";
import type { Variant } from "./names.ts";
import { policyChain, profileChain } from "./names.ts";
import type { Direction } from "./provenance.ts";
import type { RulesetConfig } from "./ruleset-config.ts";
import { profilesOf, renderWalk, type Walk, walkName } from "./walk.ts";

export const policyOwner = (idText: string): string => `policy ${idText}`;
export const profileOwner = (name: string): string => `profile ${name}`;

type ChainName = (direction: Direction, variant: Variant) => string;

export class WalkStore {
  readonly #chains: ChainStore;
  readonly #onReferent: (owner: string) => void;
  readonly #walks = new Map<string, Walk>();
  readonly #users = new RefCounts<string>();
  readonly #referred = new RefCounts<string>();
  /** Those that walks of the dropping variant refer to. */
  readonly #dropping = new RefCounts<string>();
  readonly #chainNames = new Map<string, ChainName>();

  /** `onReferent`: an owner of chains begins or ceases to be referred to. */
  constructor(chains: ChainStore, onReferent: (owner: string) => void) {
    this.#chains = chains;
    this.#onReferent = onReferent;
  }

  /** The name of the walk's chain, which exists until it has been released as often. */
  use(walk: Walk, config: RulesetConfig): string {
    const name = walkName(walk);
    if (!this.#users.add(name)) return name;
    this.#walks.set(name, walk);
    this.#chains.put(name, [renderWalk(walk, config)]);
    for (const [owner, chainName] of referents(walk)) {
      this.#chainNames.set(owner, chainName);
      if (this.#referred.add(owner)) this.#onReferent(owner);
      if (walk.variant === "dropping" && this.#dropping.add(owner)) this.#onReferent(owner);
    }
    return name;
  }

  release(name: string): void {
    const walk = this.#walks.get(name);
    if (walk === undefined || !this.#users.release(name)) return;
    this.#walks.delete(name);
    this.#chains.remove(name);
    for (const [owner] of referents(walk)) {
      if (walk.variant === "dropping" && this.#dropping.release(owner)) this.#onReferent(owner);
      if (!this.#referred.release(owner)) continue;
      this.#chainNames.delete(owner);
      this.#onReferent(owner);
    }
  }

  /** How the chains of an owner that walks refer to are named; undefined when none does. */
  chainNames(owner: string): ChainName | undefined {
    return this.#chainNames.get(owner);
  }

  /** The chains of an owner that have to be there. */
  variants(owner: string): readonly Variant[] {
    return this.#dropping.count(owner) > 0 ? ["plain", "dropping"] : ["plain"];
  }

  /** Owners that walks refer to. */
  owners(): Iterable<string> {
    return this.#referred.keys();
  }

  renderAll(config: RulesetConfig): void {
    for (const [name, walk] of this.#walks) this.#chains.put(name, [renderWalk(walk, config)]);
  }
}

function referents(walk: Walk): [string, ChainName][] {
  return [
    ...walk.tiers
      .flatMap((tier) => tier[walk.direction])
      .map((id): [string, ChainName] => [
        policyOwner(policyIdText(id)),
        (direction, variant) => policyChain(id, direction, variant),
      ]),
    ...profilesOf(walk).map((name): [string, ChainName] => [
      profileOwner(name),
      (direction, variant) => profileChain(name, direction, variant),
    ]),
  ];
}
