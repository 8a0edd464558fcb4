import { describe, expect, test } from "vitest";
import { AsyncQueue } from "./async-queue.ts";
import { DirtyLoop } from "./dirty-loop.ts";
import { buildScoped, onDispose, TaskGroup } from "./tasks.ts";
import { FakeClock, settle } from "./testing/fake-clock.ts";

describe("AsyncQueue", () => {
  test("gives items in order, then ends", async () => {
    const queue = new AsyncQueue<number>();
    for (let i = 0; i < 5000; i++) queue.push(i);
    setImmediate(() => {
      queue.push(5000);
      queue.close();
    });
    const seen: number[] = [];
    for await (const item of queue) seen.push(item);
    expect(seen).toEqual(Array.from({ length: 5001 }, (_, i) => i));
    expect(queue.push(1)).toBe(false);
  });

  test("an error comes after what was queued before it", async () => {
    const queue = new AsyncQueue<number>();
    queue.push(1);
    queue.fail(new Error("broken"));
    expect(await queue.next()).toEqual({ done: false, value: 1 });
    await expect(queue.next()).rejects.toThrow("broken");
    expect(await queue.next()).toEqual({ done: true, value: undefined });
  });

  test("a consumer that leaves closes it", async () => {
    const queue = new AsyncQueue<number>();
    queue.push(1);
    for await (const _ of queue) break;
    expect(queue.closed).toBe(true);
  });
});

describe("DirtyLoop", () => {
  test("coalesces, keeps the gap, and never overlaps", async () => {
    const clock = new FakeClock(0);
    const starts: number[] = [];
    let running = 0;
    await using loop = new DirtyLoop({
      clock,
      minGapMs: 100,
      run: async () => {
        expect(++running).toBe(1);
        starts.push(clock.now());
        await clock.sleep(30);
        running--;
      },
    });
    loop.mark();
    loop.mark();
    await clock.advance(10);
    loop.mark(); // while running: one more run afterwards
    await clock.advance(500);
    expect(starts).toEqual([0, 100]);
    expect(loop.idle).toBe(true);
  });

  test("a failed run is repeated with back-off and whenIdle waits for success", async () => {
    const clock = new FakeClock(0);
    let failures = 2;
    const errors: number[] = [];
    await using loop = new DirtyLoop({
      clock,
      backoff: { firstMs: 10, random: () => 1 },
      run: async () => {
        if (failures-- > 0) throw new Error("not yet");
      },
      onError: (_error, retryMs) => errors.push(retryMs),
    });
    loop.mark();
    let idle = false;
    void loop.whenIdle().then(() => (idle = true));
    await clock.advance(9);
    expect(idle).toBe(false);
    await clock.advance(100);
    expect(idle).toBe(true);
    expect(errors).toEqual([10, 20]);
  });

  test("runs by itself after the longest gap; disposing interrupts a run and waits for it", async () => {
    const clock = new FakeClock(0);
    const ended: string[] = [];
    const loop = new DirtyLoop({
      clock,
      maxGapMs: 1000,
      run: async (signal) => {
        await clock.sleep(5000, signal).finally(() => ended.push(`at ${clock.now()}`));
      },
    });
    await clock.advance(1500);
    await loop[Symbol.asyncDispose]();
    expect(ended).toEqual(["at 1500"]);
    expect(clock.sleeping).toBe(0);
  });
});

describe("tasks", () => {
  test("a group aborts and waits for its tasks, and keeps the first failure", async () => {
    const clock = new FakeClock(0);
    const log: string[] = [];
    {
      await using group = new TaskGroup();
      group.start((signal) => clock.sleep(1000, signal).finally(() => log.push("stopped")));
      await settle();
    }
    expect(log).toEqual(["stopped"]);
    const group = new TaskGroup();
    group.start(() => Promise.reject(new Error("first")));
    await expect(group.join()).rejects.toThrow("first");
  });

  test("stages are undone in reverse when a later one fails, and kept when all succeed", async () => {
    const log: string[] = [];
    const stage = (stack: AsyncDisposableStack, name: string): void => {
      stack.use(onDispose(() => void log.push(`undo ${name}`)));
    };
    const failing = buildScoped(async (stack) => {
      stage(stack, "a");
      stage(stack, "b");
      throw new Error("c failed");
    });
    await expect(failing).rejects.toThrow("c failed");
    expect(log.splice(0)).toEqual(["undo b", "undo a"]);
    const built = await buildScoped(async (stack) => {
      stage(stack, "a");
      return 7;
    });
    expect([built.value, log]).toEqual([7, []]);
    await built.scope.disposeAsync();
    expect(log).toEqual(["undo a"]);
  });
});
