import { getHeapStatistics } from "node:v8";
import { expect, test, vi } from "vitest";
import { HeapKeeper } from "./heap.ts";

const usedMb = (): number => getHeapStatistics().used_heap_size / 2 ** 20;

test("what a burst leaves behind goes when it is quiet; without a burst nothing is done", async () => {
  using keeper = new HeapKeeper();
  using idle = new HeapKeeper();
  let burst: number[][] | undefined = Array.from({ length: 150 }, (_, n) =>
    Array.from({ length: 131_072 }, (_, m) => n + m / 2),
  );
  const full = usedMb();
  using late = new HeapKeeper();
  keeper.worked();
  late.worked();
  expect(burst).toHaveLength(150);
  burst = undefined;
  await vi.waitFor(() => expect(keeper.times).toBe(1), { timeout: 30_000, interval: 50 });
  expect(usedMb()).toBeLessThan(full - 100);
  expect([idle.times, late.times]).toEqual([0, 0]);
});
