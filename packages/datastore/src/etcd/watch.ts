/** A watch of one kind: etcd's events of a range of keys → ours, with the selection applied to what was and what is. */
import type { KindName } from "@calico-ts/model";
import { AsyncQueue } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import type { WatchEvent, WatchOptions } from "../client.ts";
import type { AnyResource } from "../resource.ts";
import { compileSelection, type Predicate } from "../selection.ts";
import type { EtcdConnection } from "./connection.ts";
import type { KeyValue, RangeRequest, WatchResponse } from "./messages.ts";
import type { Range, StoredKind } from "./stored.ts";

export interface WatchContext {
  readonly connection: EtcdConnection;
  readonly kind: KindName;
  readonly stored: StoredKind;
  readonly decode: (stored: StoredKind, kv: KeyValue) => AnyResource | undefined;
}

export const rangeRequest = ({ start, end }: Range): RangeRequest => ({
  key: Buffer.from(start),
  rangeEnd: Buffer.from(end),
});

/** A connection that breaks ends it with UNAVAILABLE; the consumer watches again from the last revision it saw. */
export async function* watchRange(
  context: WatchContext,
  options: WatchOptions,
): AsyncIterable<WatchEvent<AnyResource>> {
  const { connection, kind, stored } = context;
  const { signal } = options;
  if (signal.aborted) return;
  const matches = compileSelection(options);
  const revision = Number(options.revision);
  if (!Number.isSafeInteger(revision)) throw expired(kind, options.revision);
  const range = rangeRequest(stored.range(options.namespace));
  const what = `watch of ${kind}`;
  const stream = await connection.watch(what, {
    createRequest: { ...range, startRevision: revision + 1, progressNotify: true, prevKv: true },
  });
  const queue = new AsyncQueue<WatchEvent<AnyResource>>();
  stream.on("data", (response: WatchResponse) => {
    if (response.canceled) {
      connection.refused();
      const lost = new CalicoError("UNAVAILABLE", `etcd ended the watch of ${kind}: ${response.cancelReason}`);
      queue.fail(response.compactRevision > 0 ? expired(kind, options.revision) : lost);
      return;
    }
    for (const event of eventsOf(context, response, matches)) queue.push(event);
  });
  let over = false;
  stream.on("error", (error: unknown) => {
    // Our own end of it is an error to gRPC.
    if (!over) queue.fail(connection.failed(what, error));
  });
  stream.on("end", () => queue.fail(new CalicoError("UNAVAILABLE", `etcd ended the watch of ${kind}`)));
  const onAbort = (): void => void queue.return();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (!signal.aborted) yield* queue;
  } finally {
    signal.removeEventListener("abort", onAbort);
    over = true;
    stream.cancel();
  }
}

function* eventsOf(
  { decode, stored }: WatchContext,
  { created, events, header }: WatchResponse,
  matches: Predicate,
): Iterable<WatchEvent<AnyResource>> {
  // A response without events says that everything up to its revision has been told.
  if (events.length === 0 && !created) yield { type: "bookmark", revision: String(header.revision) };
  for (const { type, kv, prevKv } of events) {
    const before = prevKv === null ? undefined : decode(stored, prevKv);
    const revision = String(kv.modRevision);
    if (type === "DELETE") {
      // Where what was there is forgotten already, its name is all that can be told.
      const last = before ?? decode(stored, { ...kv, value: Buffer.alloc(0) });
      if (last === undefined || (before !== undefined && !matches(before))) continue;
      yield {
        type: "deleted",
        resource: { ...last, metadata: { ...last.metadata, resourceVersion: revision } },
        revision,
      };
      continue;
    }
    const resource = decode(stored, kv);
    if (resource === undefined) continue;
    const was = before === undefined ? kv.createRevision !== kv.modRevision : matches(before);
    const is = matches(resource);
    if (was || is) yield { type: is ? (was ? "modified" : "added") : "deleted", resource, revision };
  }
}

const expired = (kind: KindName, revision: string): CalicoError =>
  new CalicoError("EXPIRED", `etcd no longer has the history of ${kind} since revision ${revision}: list again`);
