/**
 * A set of keys that need work: what runs every controller.
 *
 * A key is processed by one worker at a time; a key added while it is processed is processed again after. Keys added within
 * `gatherMs` of each other are taken together, which turns a burst of pod events into one status write. A failure puts the
 * key back with a growing delay; conflicts are no news and are retried quickly and silently.
 */
import { hasCode } from "@calico-ts/std";
import type { Logger } from "@calico-ts/runtime";

export interface WorkQueueOptions {
  readonly name: string;
  readonly workers: number;
  readonly gatherMs: number;
  /** Least time between two runs of one key: under churn a key is worked on this often, when all is quiet at once. */
  readonly minIntervalMs?: number;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

const MAX_BACKOFF_MS = 30_000;

export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #work: (key: string) => Promise<void>;
  /** Insertion order is processing order. */
  readonly #waiting = new Set<string>();
  readonly #active = new Set<string>();
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #timers = new Map<string, { readonly timer: NodeJS.Timeout; readonly due: number }>();
  readonly #lastRun = new Map<string, number>();
  #gathering: NodeJS.Timeout | undefined;
  #idle: PromiseWithResolvers<void> | undefined;

  constructor(options: WorkQueueOptions, work: (key: string) => Promise<void>) {
    this.#options = options;
    this.#work = work;
    options.signal.addEventListener("abort", () => this.#stop(), { once: true });
  }

  add(key: string): void {
    if (this.#options.signal.aborted) return;
    if (this.#active.has(key)) {
      this.#again.add(key);
      return;
    }
    const early = this.#tooEarly(key);
    if (early > 0) {
      this.addAfter(key, early);
      return;
    }
    this.#waiting.add(key);
    this.#gathering ??= setTimeout(() => {
      this.#gathering = undefined;
      this.#pump();
    }, this.#options.gatherMs);
  }

  /** Once, after a delay. An earlier appointment wins over a later one. */
  addAfter(key: string, delayMs: number): void {
    if (this.#options.signal.aborted) return;
    const due = Date.now() + delayMs;
    const existing = this.#timers.get(key);
    if (existing !== undefined) {
      if (existing.due <= due) return;
      clearTimeout(existing.timer);
    }
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      this.add(key);
    }, delayMs);
    this.#timers.set(key, { timer, due });
  }

  /** Resolves when nothing is waiting or being worked on (delayed keys do not count). */
  whenIdle(): Promise<void> {
    if (this.#waiting.size === 0 && this.#active.size === 0) return Promise.resolve();
    this.#idle ??= Promise.withResolvers<void>();
    return this.#idle.promise;
  }

  /** Milliseconds until the key may run again. */
  #tooEarly(key: string): number {
    const { minIntervalMs = 0 } = this.#options;
    const last = minIntervalMs === 0 ? undefined : this.#lastRun.get(key);
    return last === undefined ? 0 : Math.ceil(last + minIntervalMs - performance.now());
  }

  #pump(): void {
    for (const key of this.#waiting) {
      if (this.#active.size >= this.#options.workers) return;
      this.#waiting.delete(key);
      this.#active.add(key);
      void this.#process(key);
    }
  }

  async #process(key: string): Promise<void> {
    if (this.#options.minIntervalMs !== undefined) this.#remember(key);
    try {
      await this.#work(key);
      this.#failures.delete(key);
    } catch (error) {
      this.#failed(key, error);
    }
    this.#active.delete(key);
    if (this.#again.delete(key)) this.add(key);
    if (this.#gathering === undefined) this.#pump();
    if (this.#waiting.size === 0 && this.#active.size === 0) {
      this.#idle?.resolve();
      this.#idle = undefined;
    }
  }

  #remember(key: string): void {
    const now = performance.now();
    if (this.#lastRun.size > 10_000) {
      for (const [old, at] of this.#lastRun) if (at < now - 60_000) this.#lastRun.delete(old);
    }
    this.#lastRun.set(key, now);
  }

  #failed(key: string, error: unknown): void {
    if (this.#options.signal.aborted) return;
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    const delayMs = Math.min(25 * 2 ** failures, MAX_BACKOFF_MS);
    const expected = hasCode(error, "CONFLICT") || hasCode(error, "NOT_FOUND");
    if (!expected || failures > 5) {
      this.#options.log.warning("reconcile.failed", { queue: this.#options.name, key, error, retryMs: delayMs });
    }
    this.addAfter(key, delayMs);
  }

  #stop(): void {
    clearTimeout(this.#gathering);
    for (const { timer } of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#waiting.clear();
    this.#again.clear();
    if (this.#active.size === 0) this.#idle?.resolve();
  }
}
