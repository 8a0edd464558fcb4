/** Chains by owner (a policy, a walk, the static part): an owner hands over all its chains, the store knows what changed. */
import type { Chain } from "./values.ts";

export class ChainStore {
  readonly #chains = new Map<string, Chain>();
  readonly #names = new Map<string, readonly string[]>();
  readonly #changed = new Set<string>();

  has(name: string): boolean {
    return this.#chains.has(name);
  }

  /** The owner's chains are exactly these from now on. */
  put(owner: string, chains: readonly Chain[]): void {
    const names = chains.map((chain) => chain.name);
    const kept = new Set(names);
    for (const name of this.#names.get(owner) ?? []) {
      if (kept.has(name)) continue;
      this.#chains.delete(name);
      this.#changed.add(name);
    }
    for (const chain of chains) {
      this.#chains.set(chain.name, chain);
      this.#changed.add(chain.name);
    }
    if (names.length === 0) this.#names.delete(owner);
    else this.#names.set(owner, names);
  }

  remove(owner: string): void {
    this.put(owner, []);
  }

  /** undefined: the chain is gone. Contents may equal what they were. */
  take(): Map<string, Chain | undefined> {
    const changes = new Map([...this.#changed].map((name) => [name, this.#chains.get(name)]));
    this.#changed.clear();
    return changes;
  }
}
