/**
 * Handles whose addresses have to go back. Held in memory: an agent that dies before it returned one leaves an allocation whose pod is
 * gone, which is what address garbage collection is for.
 */
import type { Clock, Logger } from "@calico-ts/runtime";
import { Backoff } from "@calico-ts/runtime";

export interface ReleaseQueueOptions {
  readonly release: (handle: string) => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Releases of different containers run side by side; the allocator joins their writes. */
const PARALLEL = 16;

export class ReleaseQueue {
  readonly #options: ReleaseQueueOptions;
  readonly #waiting = new Map<string, () => Promise<void>>();
  readonly #underWay = new Map<string, Promise<void>>();
  #wake: (() => void) | undefined;

  constructor(options: ReleaseQueueOptions) {
    this.#options = options;
  }

  /** `work`: what has to be done in place of the release of a handle; repeated until it succeeds. */
  push(handle: string, work: () => Promise<void> = () => this.#options.release(handle)): void {
    this.#waiting.set(handle, work);
    this.#wake?.();
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Works until the signal aborts. A failure waits with back-off and stays in the queue. */
  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ firstMs: 100, maxMs: 10_000 });
    while (!signal.aborted) {
      const batch = [...this.#waiting.keys()].slice(0, PARALLEL);
      if (batch.length === 0) {
        await this.#somethingToDo(signal);
        continue;
      }
      const outcomes = await Promise.allSettled(batch.map((handle) => this.#releaseOne(handle)));
      const failure = outcomes.find((outcome) => outcome.status === "rejected");
      if (failure === undefined) {
        backoff.reset();
        continue;
      }
      const delayMs = Math.round(backoff.nextMs());
      this.#options.log.warning("cni.release_failed", {
        waiting: this.#waiting.size,
        retryInMs: delayMs,
        error: failure.reason,
      });
      await this.#options.clock.sleep(delayMs, signal).catch(() => undefined);
    }
  }

  /** Before a handle is used again: its old release is over, or this throws what it failed with. */
  async drain(handle: string): Promise<void> {
    if (this.#waiting.has(handle)) await this.#releaseOne(handle);
  }

  #releaseOne(handle: string): Promise<void> {
    const underWay = this.#underWay.get(handle);
    if (underWay !== undefined) return underWay;
    const work = this.#waiting.get(handle) ?? (() => Promise.resolve());
    const release = work()
      .then(() => void this.#waiting.delete(handle))
      .finally(() => this.#underWay.delete(handle));
    this.#underWay.set(handle, release);
    return release;
  }

  #somethingToDo(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        signal.removeEventListener("abort", done);
        this.#wake = undefined;
        resolve();
      };
      this.#wake = done;
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
