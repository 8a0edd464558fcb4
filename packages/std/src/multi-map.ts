/** A map from a key to a set of values. A key whose last value goes away is gone. */
export class MultiMap<K, V> {
  readonly #sets = new Map<K, Set<V>>();

  /** True when the pair is new. */
  add(key: K, value: V): boolean {
    const set = this.#sets.get(key);
    if (set === undefined) {
      this.#sets.set(key, new Set([value]));
      return true;
    }
    if (set.has(value)) return false;
    set.add(value);
    return true;
  }

  /** True when the pair was there. */
  delete(key: K, value: V): boolean {
    const set = this.#sets.get(key);
    if (set === undefined || !set.delete(value)) return false;
    if (set.size === 0) this.#sets.delete(key);
    return true;
  }

  deleteKey(key: K): void {
    this.#sets.delete(key);
  }

  has(key: K, value: V): boolean {
    return this.#sets.get(key)?.has(value) ?? false;
  }

  hasKey(key: K): boolean {
    return this.#sets.has(key);
  }

  get(key: K): ReadonlySet<V> {
    return this.#sets.get(key) ?? EMPTY;
  }

  keys(): IterableIterator<K> {
    return this.#sets.keys();
  }

  get size(): number {
    return this.#sets.size;
  }
}

const EMPTY: ReadonlySet<never> = new Set<never>();
