/**
 * Waiting between attempts: exponential with full-range jitter around half, so that a thousand agents whose API server
 * comes back do not call it in the same millisecond.
 */
import { CalicoError, hasCode } from "@calico-ts/std";
import { type Clock, throwIfAborted } from "./clock.ts";

export interface BackoffOptions {
  readonly firstMs?: number;
  readonly maxMs?: number;
  readonly factor?: number;
  /** In [0, 1): a test or a deterministic scheduler passes its own. */
  readonly random?: () => number;
}

/** Delays that grow from `firstMs` to `maxMs`; each is drawn from the upper half of its step. */
export class Backoff {
  readonly #options: Required<BackoffOptions>;
  #next: number;

  constructor(options: BackoffOptions = {}) {
    this.#options = { firstMs: 100, maxMs: 30_000, factor: 2, random: Math.random, ...options };
    this.#next = this.#options.firstMs;
  }

  nextMs(): number {
    const step = this.#next;
    this.#next = Math.min(this.#options.maxMs, step * this.#options.factor);
    return step / 2 + (this.#options.random() * step) / 2;
  }

  reset(): void {
    this.#next = this.#options.firstMs;
  }
}

export interface RetryOptions {
  readonly clock: Clock;
  readonly signal?: AbortSignal;
  /** Attempts in all. Absent: until the signal aborts. */
  readonly attempts?: number;
  readonly backoff?: BackoffOptions;
  /** Which failures are worth another attempt. Default: UNAVAILABLE and TIMEOUT. */
  readonly retryable?: (error: unknown) => boolean;
  readonly onRetry?: (error: unknown, delayMs: number) => void;
}

export const isTransient = (error: unknown): boolean => hasCode(error, "UNAVAILABLE") || hasCode(error, "TIMEOUT");

/** Runs `attempt` until it succeeds, fails for good, or attempts run out; then the last failure is thrown as it was. */
export async function withRetry<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  const backoff = new Backoff(options.backoff);
  const retryable = options.retryable ?? isTransient;
  for (let made = 1; ; made++) {
    throwIfAborted(options.signal);
    try {
      return await attempt();
    } catch (error) {
      if (made >= (options.attempts ?? Number.POSITIVE_INFINITY) || !retryable(error)) throw error;
      const delayMs = Math.max(backoff.nextMs(), retryAfterMs(error) ?? 0);
      options.onRetry?.(error, delayMs);
      await options.clock.sleep(delayMs, options.signal);
    }
  }
}

/** What the other side asked for: `detail.retryAfterMs` of our errors (an HTTP Retry-After, for example). */
export function retryAfterMs(error: unknown): number | undefined {
  if (!(error instanceof CalicoError)) return undefined;
  const asked = error.detail["retryAfterMs"];
  return typeof asked === "number" ? asked : undefined;
}
