/**
 * Frame of the server's own controllers: a set of keys to look at, worked off one turn later, outside the write that
 * caused them. A key that fails is tried again after a pause; work is idempotent and reads the latest state.
 */
import type { ApiCore } from "../core.ts";

const RETRY_MS = 200;

export interface WorkQueue extends Disposable {
  add(key: string): void;
}

export function createQueue(core: ApiCore, work: (key: string) => Promise<void>): WorkQueue {
  const waiting = new Set<string>();
  const timers = new Set<NodeJS.Timeout>();
  let running = false;
  let stopped = false;

  const drain = async (): Promise<void> => {
    // A turn of the event loop lets the write that caused this finish, answer included.
    await new Promise((resolve) => setImmediate(resolve));
    for (;;) {
      const [key] = waiting;
      if (key === undefined || stopped) break;
      waiting.delete(key);
      try {
        await work(key);
      } catch {
        // Conflicts and webhooks that are down: the reason does not matter, the state is read again.
        const timer = setTimeout(() => {
          timers.delete(timer);
          queue.add(key);
        }, RETRY_MS);
        timer.unref();
        timers.add(timer);
      }
    }
    running = false;
  };

  const queue: WorkQueue = {
    add(key) {
      if (stopped || core.closing.aborted) return;
      waiting.add(key);
      if (running) return;
      running = true;
      void drain();
    },
    [Symbol.dispose]() {
      stopped = true;
      for (const timer of timers) clearTimeout(timer);
    },
  };
  return queue;
}
