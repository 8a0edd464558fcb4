import { silentLogger, systemClock } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { expect, test } from "vitest";
import { ReleaseQueue } from "./release-queue.ts";

function queueOver(release: (handle: string) => Promise<void>): ReleaseQueue {
  return new ReleaseQueue({ release, clock: systemClock, log: silentLogger });
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 500 && !condition(); turn++) await new Promise((resolve) => setTimeout(resolve, 5));
}

test("a release that fails is tried again and others are not held up", async () => {
  const released: string[] = [];
  let refusals = 2;
  const queue = queueOver(async (handle) => {
    if (handle === "a" && refusals-- > 0) throw new CalicoError("UNAVAILABLE", "the API server does not answer");
    released.push(handle);
  });
  const stop = new AbortController();
  const running = queue.run(stop.signal);
  queue.push("a");
  queue.push("b");
  await until(() => queue.size === 0);
  stop.abort();
  await running;
  expect(released.toSorted()).toEqual(["a", "b"]);
});

test("drain waits for the release that is under way and runs it only once", async () => {
  let count = 0;
  let finish = (): void => undefined;
  const queue = queueOver(async () => {
    count++;
    await new Promise<void>((resolve) => (finish = resolve));
  });
  const stop = new AbortController();
  const running = queue.run(stop.signal);
  queue.push("a");
  await until(() => count === 1);
  const drained = queue.drain("a");
  finish();
  await drained;
  expect({ count, size: queue.size }).toEqual({ count: 1, size: 0 });
  stop.abort();
  await running;
});

test("drain of a handle that nobody released is free", async () => {
  const queue = queueOver(() => Promise.reject(new Error("never called")));
  await queue.drain("unknown");
});
