/** Counts references per key. `add` and `release` say when a key appears and when it is gone. */
export class RefCounts<K> {
  readonly #counts = new Map<K, number>();

  /** True when this is the first reference. */
  add(key: K): boolean {
    const count = this.#counts.get(key) ?? 0;
    this.#counts.set(key, count + 1);
    return count === 0;
  }

  /** True when this was the last reference; false, too, for a key nobody holds. */
  release(key: K): boolean {
    const count = this.#counts.get(key);
    if (count === undefined) return false;
    if (count > 1) {
      this.#counts.set(key, count - 1);
      return false;
    }
    this.#counts.delete(key);
    return true;
  }

  count(key: K): number {
    return this.#counts.get(key) ?? 0;
  }

  keys(): IterableIterator<K> {
    return this.#counts.keys();
  }
}
