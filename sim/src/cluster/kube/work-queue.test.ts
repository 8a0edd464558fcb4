import { CalicoError } from "@calico-ts/std";
import { silentLogger } from "@calico-ts/runtime";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WorkQueue, type WorkQueueOptions } from "./work-queue.ts";

beforeEach(() => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] }));
afterEach(() => vi.useRealTimers());

function queue(work: (key: string) => Promise<void>, options: Partial<WorkQueueOptions> = {}) {
  const life = new AbortController();
  const made = new WorkQueue(
    { name: "q", workers: 2, gatherMs: 10, log: silentLogger, signal: life.signal, ...options },
    work,
  );
  return { queue: made, stop: () => life.abort() };
}

describe("a work queue", () => {
  test("takes together what arrives together, and a key that changes while it is worked on once more", async () => {
    const ran: string[] = [];
    let finish: () => void = () => undefined;
    const { queue: under } = queue(async (key) => {
      ran.push(key);
      await new Promise<void>((resolve) => (finish = resolve));
    });
    under.add("a");
    under.add("a");
    await vi.advanceTimersByTimeAsync(10);
    expect(ran).toEqual(["a"]);
    under.add("a");
    under.add("a");
    finish();
    await vi.advanceTimersByTimeAsync(10);
    expect(ran).toEqual(["a", "a"]);
    finish();
    await vi.advanceTimersByTimeAsync(100);
    expect(ran).toEqual(["a", "a"]);
  });

  test("runs at most so many keys at a time", async () => {
    let running = 0;
    let most = 0;
    const { queue: under } = queue(async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running -= 1;
    });
    for (let at = 0; at < 20; at++) under.add(`k${at}`);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(most).toBe(2);
    expect(running).toBe(0);
  });

  test("tries failures again, later and later", async () => {
    const at: number[] = [];
    const { queue: under } = queue(() => {
      at.push(Date.now());
      return at.length < 5 ? Promise.reject(new CalicoError("CONFLICT", "lost")) : Promise.resolve();
    });
    under.add("a");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(at).toHaveLength(5);
    const gaps = at.slice(1).map((time, index) => time - (at[index] ?? 0));
    expect(gaps).toEqual([...gaps].toSorted((a, b) => a - b));
  });

  test("keeps a least time between two runs of a key, and loses none", async () => {
    const at: number[] = [];
    const { queue: under } = queue(
      () => {
        at.push(Date.now());
        return Promise.resolve();
      },
      { minIntervalMs: 200 },
    );
    for (let round = 0; round < 50; round++) {
      under.add("a");
      await vi.advanceTimersByTimeAsync(10);
    }
    await vi.advanceTimersByTimeAsync(1_000);
    expect(at.length).toBeLessThanOrEqual(4);
    expect(at.length).toBeGreaterThanOrEqual(3);
  });

  test("the earlier of two appointments counts, and a stopped queue does nothing", async () => {
    const ran: string[] = [];
    const { queue: under, stop } = queue((key) => {
      ran.push(key);
      return Promise.resolve();
    });
    under.addAfter("a", 1_000);
    under.addAfter("a", 100);
    under.addAfter("b", 500);
    await vi.advanceTimersByTimeAsync(200);
    expect(ran).toEqual(["a"]);
    stop();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(ran).toEqual(["a"]);
  });
});
