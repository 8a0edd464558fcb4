/**
 * Several kinds as one stream: first what exists, then what changes. START HERE.
 *
 * Each kind has a `KindSource` of its own that lists and watches; all of them put into one `PendingUpdates`, from which
 * the consumer takes batches at its own pace. In-sync is said once, with the batch that completes the last kind's first
 * list; nothing else makes it true. Not here: order between kinds. A consumer must bear a pod before its namespace.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { KindName } from "@calico-ts/model";
import { type BackoffOptions, type Clock, type Logger, silentLogger, systemClock, TaskGroup } from "@calico-ts/runtime";
import { KindSource, type KindSourceOptions, type KindStatus } from "./kind-source.ts";
import { PendingUpdates } from "./pending-updates.ts";
import type { KindSelection, SyncBatch, SyncKind } from "./update.ts";

export interface SyncerOptions {
  readonly client: DatastoreClient;
  readonly kinds: readonly SyncKind[];
  readonly signal: AbortSignal;
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly backoff?: BackoffOptions;
}

/** One consumer: iterate it once. The iteration ends when the signal aborts or the syncer is disposed. */
export interface Syncer extends AsyncIterable<SyncBatch>, AsyncDisposable {
  /** For health and debugging. */
  readonly status: readonly KindStatus[];
}

/** Starts listing at once; nothing is lost if the first batch is asked for later. */
export function openSyncer(options: SyncerOptions): Syncer {
  const { client, signal, log = silentLogger, clock = systemClock } = options;
  const pending = new PendingUpdates();
  const group = new TaskGroup({
    parent: signal,
    onError: (error) => log.error("sync.source_failed", { error }),
  });
  let unlisted = options.kinds.length;
  const sourceOptions: KindSourceOptions = {
    client,
    clock,
    log,
    backoff: { firstMs: 200, maxMs: 10_000, ...options.backoff },
    emit: (update, isNew) => pending.add(update, isNew),
    onListed: () => {
      unlisted--;
      if (unlisted === 0) pending.setInSync();
    },
  };
  const sources = options.kinds.map((kind) => new KindSource(selectionOf(kind), sourceOptions));
  for (const source of sources) group.start((stop) => source.run(stop));
  if (unlisted === 0) pending.setInSync();
  group.signal.addEventListener("abort", () => pending.wake(), { once: true });

  return {
    get status() {
      return sources.map((source) => source.status);
    },
    async *[Symbol.asyncIterator]() {
      let inSync = false;
      while (!group.signal.aborted) {
        await pending.untilSomething();
        if (group.signal.aborted) return;
        if (pending.isEmpty) continue;
        const batch = pending.take();
        if (batch.inSync && !inSync) log.info("sync.in_sync", { kinds: sources.length });
        inSync = batch.inSync;
        yield batch;
      }
    },
    [Symbol.asyncDispose]: () => group[Symbol.asyncDispose](),
  };
}

const selectionOf = (kind: SyncKind): KindSelection<KindName> =>
  typeof kind === "string" ? { kind } : (kind as unknown as KindSelection<KindName>);
