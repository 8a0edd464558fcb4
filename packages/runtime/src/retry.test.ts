import { CalicoError } from "@calico-ts/std";
import { describe, expect, test } from "vitest";
import { Backoff, withRetry } from "./retry.ts";
import { FakeClock } from "./testing/fake-clock.ts";

const unavailable = (retryAfterMs?: number): CalicoError =>
  new CalicoError("UNAVAILABLE", "down", retryAfterMs === undefined ? {} : { detail: { retryAfterMs } });

describe("retry", () => {
  test("delays double up to the limit and are drawn from the upper half", () => {
    const high = new Backoff({ firstMs: 100, maxMs: 500, random: () => 1 });
    expect([1, 2, 3, 4, 5].map(() => high.nextMs())).toEqual([100, 200, 400, 500, 500]);
    high.reset();
    expect(high.nextMs()).toBe(100);
    const low = new Backoff({ firstMs: 100, random: () => 0 });
    expect([low.nextMs(), low.nextMs()]).toEqual([50, 100]);
  });

  test("tries again after transient failures and waits as long as it was asked to", async () => {
    const clock = new FakeClock(0);
    const failures = [unavailable(), unavailable(5000)];
    const delays: number[] = [];
    const result = withRetry(
      async () => {
        const failure = failures.shift();
        if (failure !== undefined) throw failure;
        return clock.now();
      },
      { clock, backoff: { firstMs: 100, random: () => 1 }, onRetry: (_error, ms) => delays.push(ms) },
    );
    await clock.advance(10_000);
    expect(await result).toBe(5100);
    expect(delays).toEqual([100, 5000]);
  });

  test("gives up on other failures, after the last attempt, and on abort", async () => {
    const clock = new FakeClock(0);
    const conflict = new CalicoError("CONFLICT", "lost");
    await expect(withRetry(() => Promise.reject(conflict), { clock })).rejects.toBe(conflict);
    await expect(withRetry(() => Promise.reject(unavailable()), { clock, attempts: 1 })).rejects.toMatchObject({
      code: "UNAVAILABLE",
    });
    const controller = new AbortController();
    const endless = withRetry(() => Promise.reject(unavailable()), { clock, signal: controller.signal });
    const outcome = endless.catch((error: unknown) => error);
    await clock.advance(1000);
    controller.abort();
    expect(await outcome).toMatchObject({ code: "CANCELLED" });
  });
});
