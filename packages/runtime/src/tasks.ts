/**
 * Background work with an owner. A `TaskGroup` holds promises somebody must wait for: disposing it aborts their
 * signal and waits. The first failure is kept and thrown by `join`, so nothing fails unseen.
 */
import { hasCode } from "@calico-ts/std";

export class TaskGroup implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #onError: ((error: unknown) => void) | undefined;
  readonly signal: AbortSignal;
  #failure: { readonly error: unknown } | undefined;

  /** `parent`: aborting it aborts the group. `onError` hears each failure that is not a cancellation. */
  constructor(options: { readonly parent?: AbortSignal; readonly onError?: (error: unknown) => void } = {}) {
    const own = this.#controller.signal;
    this.signal = options.parent === undefined ? own : AbortSignal.any([own, options.parent]);
    this.#onError = options.onError;
  }

  start(task: (signal: AbortSignal) => Promise<void>): void {
    const running = Promise.resolve()
      .then(() => task(this.signal))
      .catch((error: unknown) => {
        if (this.signal.aborted && (hasCode(error, "CANCELLED") || isAbortError(error))) return;
        this.#failure ??= { error };
        this.#onError?.(error);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  get size(): number {
    return this.#running.size;
  }

  /** Waits for everything started, then throws the first failure. */
  async join(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  abort(reason?: unknown): void {
    this.#controller.abort(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort();
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}

/** A disposable from a function: for `stack.use(onDispose(() => …))` and for returning from one. */
export const onDispose = (release: () => void | Promise<void>): AsyncDisposable => ({
  [Symbol.asyncDispose]: async () => {
    await release();
  },
});

/**
 * Builds something in stages: each stage registers its undo on the stack; when a later stage throws, all are undone in
 * reverse; on success the stack is handed to `T`'s owner.
 */
export async function buildScoped<T>(
  build: (stack: AsyncDisposableStack) => Promise<T>,
): Promise<{ readonly value: T; readonly scope: AsyncDisposableStack }> {
  await using stack = new AsyncDisposableStack();
  const value = await build(stack);
  return { value, scope: stack.move() };
}

const isAbortError = (error: unknown): boolean => error instanceof Error && error.name === "AbortError";
