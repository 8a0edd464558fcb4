/**
 * One kind, kept current: list, then watch from there, for ever.
 *
 * What goes wrong decides how it goes on: a broken or refused watch is opened again from the last revision after a
 * back-off; a revision that is too old (EXPIRED), or a watch that failed several times in a row, means a new list.
 * A list is compared with what is known, so it yields changes and deletions only. Nothing fails for good: a missing
 * right or resource type is logged, shown in `status`, and tried again, because an operator may grant or install it.
 */
import type { DatastoreClient, WatchEvent } from "@calico-ts/datastore";
import type { KindMap, KindName } from "@calico-ts/model";
import { Backoff, type BackoffOptions, type Clock, type Logger, retryAfterMs } from "@calico-ts/runtime";
import { CalicoError, errorText, hasCode } from "@calico-ts/std";
import type { KindSelection, SyncKey, SyncUpdate } from "./update.ts";

export interface KindStatus {
  readonly kind: KindName;
  /** Listed completely at least once. */
  readonly listed: boolean;
  /** Following changes at this moment. */
  readonly connected: boolean;
  readonly resources: number;
  /** Why it is not connected. */
  readonly problem: string | undefined;
}

export interface KindSourceOptions {
  readonly client: DatastoreClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly backoff: BackoffOptions;
  readonly emit: (update: SyncUpdate, isNew: boolean) => void;
  readonly onListed: () => void;
}

const WATCH_FAILURES_BEFORE_LIST = 5;
/** A watch that stood this long without an event was not failing. */
const QUIET_IS_HEALTHY_MS = 30_000;

export class KindSource<K extends KindName> {
  readonly #selection: KindSelection<K>;
  readonly #options: KindSourceOptions;
  /** Resource → identity of the version handed over: unchanged resources of a second list are recognised by it. */
  readonly #known = new Map<string, { readonly key: SyncKey; readonly version: string }>();
  #listed = false;
  #connected = false;
  #problem: string | undefined;

  constructor(selection: KindSelection<K>, options: KindSourceOptions) {
    this.#selection = selection;
    this.#options = options;
  }

  get status(): KindStatus {
    return {
      kind: this.#selection.kind,
      listed: this.#listed,
      connected: this.#connected,
      resources: this.#known.size,
      problem: this.#problem,
    };
  }

  /** Runs until the signal aborts, and then rejects with CANCELLED or resolves. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const backoff = new Backoff(this.#options.backoff);
    let revision: string | undefined;
    let failures = 0;
    while (!signal.aborted) {
      const started = clock.monotonic();
      try {
        if (revision === undefined) {
          revision = await this.#list(signal);
          failures = 0;
        }
        for await (const event of this.#watch(revision, signal)) {
          revision = event.revision;
          failures = 0;
          backoff.reset();
          this.#apply(event);
        }
        if (!signal.aborted) throw new CalicoError("UNAVAILABLE", "the watch ended");
      } catch (error) {
        if (signal.aborted) break;
        if (clock.monotonic() - started > QUIET_IS_HEALTHY_MS) {
          failures = 0;
          backoff.reset();
        }
        failures++;
        if (hasCode(error, "EXPIRED") || failures >= WATCH_FAILURES_BEFORE_LIST) revision = undefined;
        const delayMs = Math.max(backoff.nextMs(), retryAfterMs(error) ?? 0);
        this.#problem = errorText(error);
        log.warning("sync.interrupted", { kind: this.#selection.kind, relist: revision === undefined, delayMs, error });
        await clock.sleep(delayMs, signal);
      } finally {
        this.#connected = false;
      }
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { kind, namespace, labelSelector, fieldSelector } = this.#selection;
    const { client, log } = this.#options;
    const { items, revision } = await client.list(kind, { namespace, labelSelector, fieldSelector, signal });
    const gone = new Map(this.#known);
    let changed = 0;
    for (const item of items) {
      const id = identity(item.metadata);
      gone.delete(id);
      if (this.#known.get(id)?.version === version(item.metadata)) continue;
      changed++;
      this.#put(item);
    }
    for (const [id, { key }] of gone) this.#remove(id, key);
    log.debug("sync.listed", { kind, resources: items.length, changed, deleted: gone.size, revision });
    if (!this.#listed) {
      this.#listed = true;
      this.#options.onListed();
    }
    return revision;
  }

  async *#watch(revision: string, signal: AbortSignal): AsyncGenerator<WatchEvent<KindMap[K]>> {
    const { kind, namespace, labelSelector, fieldSelector } = this.#selection;
    this.#connected = true;
    this.#problem = undefined;
    yield* this.#options.client.watch(kind, { revision, namespace, labelSelector, fieldSelector, signal });
  }

  #apply(event: WatchEvent<KindMap[K]>): void {
    switch (event.type) {
      case "added":
      case "modified":
        this.#put(event.resource);
        break;
      case "deleted":
        this.#remove(identity(event.resource.metadata), keyOf(event.resource.metadata));
        break;
      case "bookmark":
        break;
    }
  }

  #put(resource: KindMap[K]): void {
    const { metadata } = resource;
    const key = keyOf(metadata);
    const id = identity(metadata);
    const isNew = !this.#known.has(id);
    this.#known.set(id, { key, version: version(metadata) });
    this.#emit(key, this.#selection.project?.(resource) ?? resource, isNew);
  }

  #remove(id: string, key: SyncKey): void {
    if (this.#known.delete(id)) this.#emit(key, undefined, false);
  }

  #emit(key: SyncKey, resource: KindMap[K] | undefined, isNew: boolean): void {
    // The pair (kind, resource) is consistent by construction; TypeScript cannot follow it through the union.
    this.#options.emit({ kind: this.#selection.kind, key, resource } as unknown as SyncUpdate, isNew);
  }
}

interface Meta {
  readonly name: string;
  readonly namespace?: string | undefined;
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
}

const keyOf = (metadata: Meta): SyncKey =>
  metadata.namespace === undefined ? { name: metadata.name } : { name: metadata.name, namespace: metadata.namespace };

const identity = (metadata: Meta): string => `${metadata.namespace ?? ""}/${metadata.name}`;

const version = (metadata: Meta): string => `${metadata.uid ?? ""}@${metadata.resourceVersion ?? ""}`;
