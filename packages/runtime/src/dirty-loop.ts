/**
 * Runs a function when something changed: never twice at once, not more often than a minimum gap, and once more when
 * a change came in while it ran. A failed run is retried with back-off and leaves the loop dirty.
 */
import { type Clock, throwIfAborted } from "./clock.ts";
import { Backoff, type BackoffOptions } from "./retry.ts";

export interface DirtyLoopOptions {
  readonly clock: Clock;
  readonly run: (signal: AbortSignal) => Promise<void>;
  /** Least time between the starts of two runs. */
  readonly minGapMs?: number;
  /** Runs even when nothing changed, this long after the last run: periodic resync. */
  readonly maxGapMs?: number;
  readonly backoff?: BackoffOptions;
  readonly onError?: (error: unknown, retryMs: number) => void;
}

export class DirtyLoop implements AsyncDisposable {
  readonly #options: DirtyLoopOptions;
  readonly #stop = new AbortController();
  readonly #finished: Promise<void>;
  #dirty = false;
  #wake: PromiseWithResolvers<void> = Promise.withResolvers();
  #running = false;
  #idle: PromiseWithResolvers<void>[] = [];

  constructor(options: DirtyLoopOptions) {
    this.#options = options;
    this.#finished = this.#loop();
  }

  /** Asks for a run; many calls before it starts are one run. */
  mark(): void {
    this.#dirty = true;
    this.#wake.resolve();
  }

  /** True when nothing runs and nothing is asked for. */
  get idle(): boolean {
    return !this.#dirty && !this.#running;
  }

  /** Resolves when everything marked so far has been run successfully, or the loop was disposed. */
  whenIdle(): Promise<void> {
    if (this.idle || this.#stop.signal.aborted) return Promise.resolve();
    const waiter = Promise.withResolvers<void>();
    this.#idle.push(waiter);
    return waiter.promise;
  }

  /** Stops asking for runs, tells a running one through its signal, and waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake.resolve();
    await this.#finished;
  }

  async #loop(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff(this.#options.backoff);
    let lastStart = Number.NEGATIVE_INFINITY;
    try {
      for (;;) {
        await this.#untilDirty();
        const gap = lastStart + (this.#options.minGapMs ?? 0) - clock.monotonic();
        if (gap > 0) await clock.sleep(gap, signal);
        throwIfAborted(signal);
        lastStart = clock.monotonic();
        const failure = await this.#runOnce();
        if (failure === undefined) {
          backoff.reset();
          if (this.idle) this.#tellIdle();
        } else {
          this.#dirty = true;
          const retryMs = backoff.nextMs();
          this.#options.onError?.(failure.error, retryMs);
          await clock.sleep(retryMs, signal);
        }
      }
    } catch (error) {
      // The only way out is the abort of dispose; anything else is a fault of the loop and must be seen.
      if (!signal.aborted) throw error;
    } finally {
      this.#tellIdle();
    }
  }

  async #runOnce(): Promise<{ error: unknown } | undefined> {
    this.#dirty = false;
    this.#wake = Promise.withResolvers();
    this.#running = true;
    try {
      await this.#options.run(this.#stop.signal);
      return undefined;
    } catch (error) {
      throwIfAborted(this.#stop.signal);
      return { error };
    } finally {
      this.#running = false;
    }
  }

  async #untilDirty(): Promise<void> {
    throwIfAborted(this.#stop.signal);
    if (this.#dirty) return;
    if (this.#options.maxGapMs === undefined) {
      await this.#wake.promise;
    } else {
      const timer = new AbortController();
      const ring = this.#options.clock.sleep(this.#options.maxGapMs, timer.signal).catch(() => undefined);
      await Promise.race([this.#wake.promise, ring]);
      timer.abort();
    }
    throwIfAborted(this.#stop.signal);
  }

  #tellIdle(): void {
    for (const waiter of this.#idle.splice(0)) waiter.resolve();
  }
}
