/** Events live for an hour after they were last written, as upstream; otherwise they would fill the memory. */
import type { ApiCore } from "../core.ts";

const TTL_MS = 3_600_000;
const SWEEP_MS = 60_000;
const COLLECTIONS = ["/events", "events.k8s.io/events"] as const;

export function startEventExpiry(core: ApiCore): Disposable {
  const written = new Map<string, Map<string, number>>(COLLECTIONS.map((collection) => [collection, new Map()]));
  const stop = core.store.listen((collection, event) => {
    const times = written.get(collection);
    if (event.type === "DELETED") times?.delete(event.current.key);
    else times?.set(event.current.key, core.now());
  });
  const timer = setInterval(() => sweep(core, written), SWEEP_MS);
  timer.unref();
  return {
    [Symbol.dispose]() {
      stop();
      clearInterval(timer);
    },
  };
}

function sweep(core: ApiCore, written: ReadonlyMap<string, ReadonlyMap<string, number>>): void {
  const oldest = core.now() - TTL_MS;
  for (const [collection, times] of written) {
    for (const [key, time] of Array.from(times)) if (time < oldest) core.store.remove(collection, key);
  }
}
