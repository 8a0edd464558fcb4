/**
 * A queue from callbacks to one `for await` loop. Unbounded: use it where the producer is bounded by nature or
 * coalesces beforehand (sync does). One consumer at a time; a second one would steal items.
 */
export class AsyncQueue<T> implements AsyncIterable<T>, AsyncIterator<T, undefined> {
  #items: T[] = [];
  #head = 0;
  #waiting: PromiseWithResolvers<IteratorResult<T, undefined>>[] = [];
  #closed: { readonly error?: unknown } | undefined;

  get size(): number {
    return this.#items.length - this.#head;
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** False, and the item is dropped, once the queue is closed. */
  push(item: T): boolean {
    if (this.#closed !== undefined) return false;
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#items.push(item);
    else waiter.resolve({ done: false, value: item });
    return true;
  }

  /** The consumer gets what is queued and then ends. */
  close(): void {
    this.#finish({});
  }

  /** The consumer gets what is queued and then the error. */
  fail(error: unknown): void {
    this.#finish({ error });
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#head < this.#items.length) {
      const value = this.#items[this.#head] as T;
      this.#head++;
      // Dropping the consumed front only when it outweighs the rest keeps shifting cheap.
      if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
        this.#items = this.#items.slice(this.#head);
        this.#head = 0;
      }
      return Promise.resolve({ done: false, value });
    }
    if (this.#closed !== undefined) return this.#ending();
    const waiter = Promise.withResolvers<IteratorResult<T, undefined>>();
    this.#waiting.push(waiter);
    return waiter.promise;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#items = [];
    this.#head = 0;
    this.#finish({});
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(how: { readonly error?: unknown }): void {
    if (this.#closed !== undefined) return;
    this.#closed = how;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) this.#ending().then(waiter.resolve, waiter.reject);
  }

  #ending(): Promise<IteratorResult<T, undefined>> {
    const closed = this.#closed;
    if (closed !== undefined && "error" in closed) {
      this.#closed = {}; // the error is told once; after that the queue has simply ended
      return Promise.reject(closed.error);
    }
    return Promise.resolve({ done: true, value: undefined });
  }
}
