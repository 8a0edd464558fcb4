import { getHeapStatistics } from "node:v8";
import { expect, test, vi } from "vitest";
import { HeapKeeper } from "./heap.ts";

const usedMb = (): number => getHeapStatistics().used_heap_size / 2 ** 20;

test("what a burst leaves behind goes when it is quiet, although nothing asks for memory", async () => {
  using keeper = new HeapKeeper();
  let burst: number[][] | undefined = Array.from({ length: 150 }, (_, n) =>
    Array.from({ length: 131_072 }, (_, m) => n + m / 2),
  );
  const full = usedMb();
  keeper.worked();
  keeper.worked();
  expect(burst.length).toBe(150);
  burst = undefined;
  await vi.waitFor(() => expect(usedMb()).toBeLessThan(full - 100), { timeout: 30_000, interval: 100 });
});
