import { describe, expect, test } from "vitest";
import { systemClock } from "./clock.ts";
import { FakeClock } from "./testing/fake-clock.ts";

describe("clock", () => {
  test("the real one sleeps and stops sleeping when told", async () => {
    const start = systemClock.monotonic();
    await systemClock.sleep(10);
    expect(systemClock.monotonic() - start).toBeGreaterThan(8);
    const controller = new AbortController();
    const sleeping = systemClock.sleep(60_000, controller.signal);
    controller.abort();
    await expect(sleeping).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(systemClock.sleep(1, AbortSignal.abort())).rejects.toMatchObject({ code: "CANCELLED" });
  });

  test("the fake one wakes sleepers in order, also those who sleep again on the way", async () => {
    const clock = new FakeClock(0);
    const woke: string[] = [];
    const nap = async (name: string, ...lengths: readonly number[]): Promise<void> => {
      for (const ms of lengths) {
        await clock.sleep(ms);
        woke.push(`${name}@${clock.now()}`);
      }
    };
    void nap("a", 30, 30);
    void nap("b", 10, 30);
    await clock.advance(100);
    expect(woke).toEqual(["b@10", "a@30", "b@40", "a@60"]);
    expect(clock.sleeping).toBe(0);
  });

  test("a jump of the wall clock wakes nobody", async () => {
    const clock = new FakeClock(0);
    let woke = false;
    void clock.sleep(10).then(() => (woke = true));
    clock.jump(3_600_000);
    await clock.advance(9);
    expect(woke).toBe(false);
    await clock.advance(1);
    expect(woke).toBe(true);
    expect(clock.now()).toBe(3_600_010);
  });
});
