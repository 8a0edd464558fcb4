/**
 * What reconcile functions answer: a list of writes. They are pure, so a test reads the list; `ActionRunner` performs it.
 *
 * Actions run in order, except that neighbours in the list of the same verb run side by side (a ReplicaSet of 100 pods is created
 * in parallel). Writes are put through to the informers. A create that meets ALREADY_EXISTS and a write or delete
 * that meets NOT_FOUND are failures of the whole reconcile: the cache was stale, and the next round sees better.
 */
import type { EventRecorder } from "./event-recorder.ts";
import type { KubeClient, ObjectName } from "./client.ts";
import type { InformerSet } from "./informer.ts";
import { type KubeObject, keyOf, uidOf } from "./objects.ts";
import type { Kind } from "./resource-types.ts";

export interface EventNote {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export type Action =
  | { readonly do: "create"; readonly kind: Kind; readonly object: KubeObject }
  | {
      readonly do: "patch";
      readonly kind: Kind;
      readonly name: ObjectName;
      readonly patch: unknown;
      readonly status?: boolean;
    }
  | { readonly do: "delete"; readonly kind: Kind; readonly object: KubeObject; readonly orphan?: boolean }
  | { readonly do: "event"; readonly kind: Kind; readonly about: KubeObject; readonly event: EventNote }
  /** Look at the key again then, for example when minReadySeconds have passed. */
  | { readonly do: "again"; readonly afterMs: number };

export interface ActionDeps {
  readonly client: KubeClient;
  readonly informers: InformerSet;
  readonly events: EventRecorder;
}

const SIDE_BY_SIDE = 16;

export class ActionRunner {
  readonly #deps: ActionDeps;

  constructor(deps: ActionDeps) {
    this.#deps = deps;
  }

  /** Answers the delay of the earliest "again". */
  async run(actions: readonly Action[]): Promise<number | undefined> {
    let again: number | undefined;
    for (const batch of batches(actions)) {
      const results = await Promise.allSettled(batch.map((action) => this.#perform(action)));
      for (const result of results) if (result.status === "rejected") throw result.reason;
      for (const action of batch) {
        if (action.do === "again") again = Math.min(again ?? action.afterMs, action.afterMs);
      }
    }
    return again;
  }

  async #perform(action: Action): Promise<void> {
    const { client, informers, events } = this.#deps;
    switch (action.do) {
      case "create":
        informers.existing(action.kind)?.assume(await client.create(action.kind, action.object));
        return;
      case "patch": {
        const subresource = action.status === true ? "status" : undefined;
        informers
          .existing(action.kind)
          ?.assume(await client.patch(action.kind, action.name, action.patch, subresource));
        return;
      }
      case "delete":
        await deleteThrough(this.#deps, action.kind, action.object, action.orphan === true ? "Orphan" : "Background");
        return;
      case "event":
        events.record(action.kind, action.about, action.event);
        return;
      case "again":
        return;
    }
  }
}

/** Deletes by uid and tells the cache: gone, or as the server answered (a grace period, a finalizer). */
export async function deleteThrough(
  { client, informers }: Pick<ActionDeps, "client" | "informers">,
  kind: Kind,
  object: KubeObject,
  propagation?: "Background" | "Orphan",
): Promise<void> {
  const uid = uidOf(object);
  const answer = await client.delete(kind, object.metadata, {
    uid,
    ...(propagation === undefined ? {} : { propagation }),
  });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a Status or the object; told apart right here
  const left = answer as Partial<KubeObject> & { kind?: string };
  const informer = informers.existing(kind);
  if (left.kind === "Status" || left.metadata?.deletionTimestamp === undefined)
    informer?.assumeGone(keyOf(object), uid);
  // The answer of a delete without grace is the last state of an object that is gone; grace 0 tells.
  else if (left.metadata.deletionGracePeriodSeconds === 0 && (left.metadata.finalizers ?? []).length === 0) {
    informer?.assumeGone(keyOf(object), uid);
  } else informer?.assume(left as never);
}

function* batches(actions: readonly Action[]): Generator<readonly Action[]> {
  let batch: Action[] = [];
  for (const action of actions) {
    const first = batch[0];
    if (first !== undefined && (first.do !== action.do || batch.length >= SIDE_BY_SIDE)) {
      yield batch;
      batch = [];
    }
    batch.push(action);
  }
  if (batch.length > 0) yield batch;
}
