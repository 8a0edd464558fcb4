/**
 * The datastore in one process: for tests, the simulator's fast paths and deterministic schedules. It keeps Kubernetes'
 * rules: one revision counter for all kinds, bounded history (an older watch gets EXPIRED), compare-and-swap, uid
 * preconditions, finalizers, generateName, a status that only status writes touch, no event for a write that changes
 * nothing. Defaults and validation come from the model, as upstream does client-side in etcd mode.
 *
 * Stored resources are frozen: a caller that modifies what it was given fails here instead of in production.
 * Nothing here waits, so no timers: bookmarks are sent when asked (`bookmark`) and when a watcher falls behind.
 */
import { randomUUID } from "node:crypto";
import type { KindMap, KindName } from "@calico-ts/model";
import { type Clock, cancelled, systemClock } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import {
  type DatastoreClient,
  type DeletePreconditions,
  describeKey,
  type ListOptions,
  type ListResult,
  type MergePatch,
  type PatchOptions,
  type ResourceKey,
  type WatchEvent,
  type WatchOptions,
} from "../client.ts";
import { compileSelection } from "../selection.ts";
import { type AnyResource, checkKey, keyOf, storageKey } from "../resource.ts";
import {
  checkRevisionGiven,
  checkSwap,
  deleted,
  newResource,
  patched,
  statusUpdated,
  updated,
  type Written,
} from "../write-rules.ts";
import { History } from "./history.ts";

export interface MemoryOptions {
  readonly clock?: Clock;
  /** In [0, 1): names from generateName. */
  readonly random?: () => number;
  readonly newUid?: () => string;
  /** Changes kept for watches that start in the past. */
  readonly historyLimit?: number;
}

export interface MemoryDatastore extends DatastoreClient {
  readonly revision: string;
  /** Forgets all history: every watch from an earlier revision is told EXPIRED, as after an etcd compaction. */
  compact(): void;
  /** Sends every watch a bookmark with the newest revision. */
  bookmark(): void;
  /** Ends every watch with UNAVAILABLE, as a restart of the API server does. */
  breakWatches(): void;
}

export const openMemory = (options: MemoryOptions = {}): MemoryDatastore => new Memory(options);

class Memory implements MemoryDatastore {
  readonly #kinds = new Map<KindName, Map<string, AnyResource>>();
  readonly #history: History;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #newUid: () => string;

  constructor(options: MemoryOptions) {
    this.#history = new History(options.historyLimit ?? 10_000);
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#newUid = options.newUid ?? randomUUID;
  }

  get revision(): string {
    return String(this.#history.revision);
  }

  compact(): void {
    this.#history.compact();
  }

  bookmark(): void {
    this.#history.bookmark();
  }

  breakWatches(): void {
    this.#history.breakWatches(new CalicoError("UNAVAILABLE", "the memory datastore dropped its watches"));
  }

  async get<K extends KindName>(kind: K, key: ResourceKey): Promise<KindMap[K]> {
    return this.#existing(kind, key) as unknown as KindMap[K];
  }

  async list<K extends KindName>(kind: K, options: ListOptions = {}): Promise<ListResult<KindMap[K]>> {
    if (options.signal?.aborted === true) throw cancelled(options.signal);
    const matches = compileSelection(options);
    const items = [...this.#all(kind)].filter(([, item]) => matches(item)).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return { items: items.map(([, item]) => item as unknown as KindMap[K]), revision: this.revision };
  }

  async create<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const stored = newResource(kind, resource as unknown as AnyResource, {
      uid: this.#newUid(),
      nowMs: this.#clock.now(),
      random: this.#random,
    });
    const key = keyOf(stored);
    if (this.#all(kind).has(storageKey(key))) {
      throw new CalicoError("ALREADY_EXISTS", `${describeKey(kind, key)} already exists`);
    }
    return this.#commit(kind, undefined, stored) as unknown as KindMap[K];
  }

  async update<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const wanted = resource as unknown as AnyResource;
    const old = this.#swapTarget(kind, wanted);
    return this.#apply(kind, old, updated(kind, old, wanted)) as unknown as KindMap[K];
  }

  async updateStatus<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const wanted = resource as unknown as AnyResource;
    const old = this.#swapTarget(kind, wanted);
    return this.#apply(kind, old, statusUpdated(kind, old, wanted)) as unknown as KindMap[K];
  }

  async patch<K extends KindName>(
    kind: K,
    key: ResourceKey,
    patch: MergePatch,
    options: PatchOptions = {},
  ): Promise<KindMap[K]> {
    const old = this.#existing(kind, key);
    return this.#apply(kind, old, patched(kind, old, patch, options.status === true)) as unknown as KindMap[K];
  }

  async delete(kind: KindName, key: ResourceKey, preconditions: DeletePreconditions = {}): Promise<void> {
    const old = this.#existing(kind, key);
    checkSwap(kind, old, preconditions);
    this.#apply(kind, old, deleted(old, this.#clock.now()));
  }

  watch<K extends KindName>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>> {
    return this.#history.watch(kind, compileSelection(options), options) as unknown as AsyncIterable<
      WatchEvent<KindMap[K]>
    >;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.breakWatches();
  }

  #all(kind: KindName): Map<string, AnyResource> {
    let all = this.#kinds.get(kind);
    if (all === undefined) {
      all = new Map();
      this.#kinds.set(kind, all);
    }
    return all;
  }

  #existing(kind: KindName, key: ResourceKey): AnyResource {
    checkKey(kind, key);
    const found = this.#all(kind).get(storageKey(key));
    if (found === undefined) throw new CalicoError("NOT_FOUND", `${describeKey(kind, key)} not found`);
    return found;
  }

  #swapTarget(kind: KindName, wanted: AnyResource): AnyResource {
    const old = this.#existing(kind, keyOf(wanted));
    checkRevisionGiven(kind, wanted);
    checkSwap(kind, old, wanted.metadata);
    return old;
  }

  #apply(kind: KindName, old: AnyResource, written: Written): AnyResource {
    switch (written.kind) {
      case "same":
        return old;
      case "stored":
        return this.#commit(kind, old, written.next);
      case "gone":
        this.#commit(kind, old, undefined);
        return written.last;
    }
  }

  #commit(kind: KindName, old: AnyResource | undefined, next: AnyResource | undefined): AnyResource {
    const revision = this.#history.nextRevision();
    const base = next ?? old;
    if (base === undefined) throw new CalicoError("INTERNAL", "a change has a before or an after");
    const stamped = deepFreeze({ ...base, metadata: { ...base.metadata, resourceVersion: String(revision) } });
    const at = storageKey(keyOf(stamped));
    if (next === undefined) this.#all(kind).delete(at);
    else this.#all(kind).set(at, stamped);
    this.#history.append({ revision, kind, old, next: next === undefined ? undefined : stamped, last: stamped });
    return stamped;
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const item of Object.values(value)) deepFreeze(item);
  }
  return value;
}
