/**
 * Desired and observed, and the difference between them (design §3).
 *
 * Managers say what should exist with `want`; a driver reports what it found with `observed` and what it did with
 * `wrote` and `removed`. The tracker only knows the gap: it holds no order and performs nothing.
 */
export class DeltaTracker<V> {
  readonly #desired = new Map<string, V>();
  readonly #observed = new Map<string, V>();
  readonly #dirty = new Set<string>();
  readonly #same: (a: V, b: V) => boolean;

  constructor(same: (a: V, b: V) => boolean = Object.is) {
    this.#same = same;
  }

  want(id: string, value: V): void {
    this.#desired.set(id, value);
    this.#mark(id);
  }

  unwant(id: string): void {
    if (this.#desired.delete(id)) this.#mark(id);
  }

  /** Replaces the whole desired set. */
  wantAll(entries: Iterable<readonly [string, V]>): void {
    const next = new Map(entries);
    for (const id of this.#desired.keys()) if (!next.has(id)) this.unwant(id);
    for (const [id, value] of next) this.want(id, value);
  }

  /** Replaces what we believe the kernel holds. Pass only objects recognised as ours. */
  observed(entries: Iterable<readonly [string, V]>): void {
    const before = [...this.#observed.keys()];
    this.#observed.clear();
    for (const [id, value] of entries) {
      this.#observed.set(id, value);
      this.#mark(id);
    }
    for (const id of before) this.#mark(id);
    for (const id of this.#desired.keys()) this.#mark(id);
  }

  /** One object was seen (or seen to be gone) outside a full listing, for example in a kernel notification. */
  observedOne(id: string, value: V | undefined): void {
    if (value === undefined) this.#observed.delete(id);
    else this.#observed.set(id, value);
    this.#mark(id);
  }

  wrote(id: string, value: V): void {
    this.observedOne(id, value);
  }

  removed(id: string): void {
    this.observedOne(id, undefined);
  }

  desired(id: string): V | undefined {
    return this.#desired.get(id);
  }

  seen(id: string): V | undefined {
    return this.#observed.get(id);
  }

  desiredEntries(): IterableIterator<[string, V]> {
    return this.#desired.entries();
  }

  observedEntries(): IterableIterator<[string, V]> {
    return this.#observed.entries();
  }

  get inSync(): boolean {
    return this.#dirty.size === 0;
  }

  *toWrite(): IterableIterator<readonly [string, V]> {
    for (const id of this.#dirty) {
      const value = this.#desired.get(id);
      if (value !== undefined) yield [id, value];
    }
  }

  *toRemove(): IterableIterator<string> {
    for (const id of this.#dirty) if (!this.#desired.has(id)) yield id;
  }

  #mark(id: string): void {
    const want = this.#desired.get(id);
    const have = this.#observed.get(id);
    const equal = want === undefined ? have === undefined : have !== undefined && this.#same(want, have);
    if (equal) this.#dirty.delete(id);
    else this.#dirty.add(id);
  }
}
