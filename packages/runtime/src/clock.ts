/**
 * Time as a port. Everything that waits takes a `Clock`, so a 90-second timer is tested in a millisecond and a
 * scheduler of tests can choose what happens between two ticks (`FakeClock` in ./testing).
 */
import { CalicoError } from "@calico-ts/std";

export interface Clock {
  /** Wall-clock milliseconds since the epoch: for records other machines read. It may jump. */
  now(): number;
  /** Milliseconds that never jump or run backwards: for measuring and for deadlines. */
  monotonic(): number;
  /** Resolves after `ms`, or rejects with CANCELLED as soon as the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** setTimeout's limit; a longer delay would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(cancelled(signal));
        return;
      }
      const onAbort = (): void => {
        clearTimeout(timer);
        reject(cancelled(signal));
      };
      const timer = setTimeout(
        () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
        Math.min(Math.max(ms, 0), LONGEST_TIMER_MS),
      );
      signal?.addEventListener("abort", onAbort, { once: true });
    }),
};

/** The error of an operation whose signal aborted; the abort's own reason is the cause. */
export function cancelled(signal: AbortSignal | undefined): CalicoError {
  const reason: unknown = signal?.reason;
  if (reason instanceof CalicoError) return reason;
  return new CalicoError("CANCELLED", "the operation was cancelled", { cause: reason });
}

/** Like `signal.throwIfAborted()`, with our error type. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw cancelled(signal);
}
