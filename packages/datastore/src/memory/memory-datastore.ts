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
import { isDeepStrictEqual } from "node:util";
import { type KindMap, type KindName, kinds } from "@calico-ts/model";
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
import { applyMergePatch } from "../merge-patch.ts";
import { compileSelection } from "../selection.ts";
import { type AnyResource, checkKey, isCustom, keyOf, prepareOrThrow, storageKey, withoutStatus } from "./resource.ts";
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

const GENERATED_ALPHABET = "bcdfghjklmnpqrstvwxz2456789";

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
    const { name: given, generateName, resourceVersion } = (resource as unknown as AnyResource).metadata;
    if (resourceVersion !== undefined && resourceVersion !== "") {
      throw new CalicoError("BAD_INPUT", `creating ${kind} ${given ?? ""}: metadata.resourceVersion must not be set`);
    }
    const name = given === undefined || given === "" ? this.#generate(kind, generateName) : given;
    const draft = withoutStatus(kind, resource as unknown as AnyResource);
    const stored = prepareOrThrow(kind, {
      ...draft,
      metadata: {
        ...draft.metadata,
        name,
        uid: this.#newUid(),
        creationTimestamp: this.#timestamp(),
        generation: 1,
        deletionTimestamp: undefined,
      },
    });
    const key = keyOf(stored);
    checkKey(kind, key);
    if (this.#all(kind).has(storageKey(key))) {
      throw new CalicoError("ALREADY_EXISTS", `${describeKey(kind, key)} already exists`);
    }
    return this.#commit(kind, undefined, stored) as unknown as KindMap[K];
  }

  async update<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const wanted = resource as unknown as AnyResource;
    const old = this.#swapTarget(kind, wanted);
    return this.#replace(kind, old, keepStatus(kind, wanted, old)) as unknown as KindMap[K];
  }

  async updateStatus<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const wanted = resource as unknown as AnyResource;
    const old = this.#swapTarget(kind, wanted);
    return this.#replace(kind, old, statusWrite(kind, old, wanted)) as unknown as KindMap[K];
  }

  async patch<K extends KindName>(
    kind: K,
    key: ResourceKey,
    patch: MergePatch,
    options: PatchOptions = {},
  ): Promise<KindMap[K]> {
    const old = this.#existing(kind, key);
    const patched = applyMergePatch(old, patch) as AnyResource;
    this.#checkSwap(kind, old, patched.metadata);
    const next = options.status === true ? statusWrite(kind, old, patched) : keepStatus(kind, patched, old);
    return this.#replace(kind, old, next) as unknown as KindMap[K];
  }

  async delete(kind: KindName, key: ResourceKey, preconditions: DeletePreconditions = {}): Promise<void> {
    const old = this.#existing(kind, key);
    this.#checkSwap(kind, old, preconditions);
    if ((old.metadata.finalizers ?? []).length === 0) {
      this.#commit(kind, old, undefined);
    } else if (old.metadata.deletionTimestamp === undefined) {
      const metadata = { ...old.metadata, deletionTimestamp: this.#timestamp(), deletionGracePeriodSeconds: 0 };
      this.#commit(kind, old, { ...old, metadata });
    }
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
    if (wanted.metadata.resourceVersion === undefined || wanted.metadata.resourceVersion === "") {
      const what = describeKey(kind, keyOf(wanted));
      throw new CalicoError("BAD_INPUT", `updating ${what}: metadata.resourceVersion must be what a read returned`);
    }
    this.#checkSwap(kind, old, wanted.metadata);
    return old;
  }

  #checkSwap(kind: KindName, old: AnyResource, wanted: DeletePreconditions): void {
    const what = describeKey(kind, keyOf(old));
    if (wanted.uid !== undefined && wanted.uid !== old.metadata.uid) {
      throw new CalicoError("CONFLICT", `${what}: it is another object now (uid ${old.metadata.uid ?? ""})`);
    }
    if (wanted.resourceVersion !== undefined && wanted.resourceVersion !== old.metadata.resourceVersion) {
      throw new CalicoError("CONFLICT", `${what} was changed meanwhile: read it again and repeat the change`);
    }
  }

  /** The common end of every change to an existing resource. */
  #replace(kind: KindName, old: AnyResource, wanted: AnyResource): AnyResource {
    const { uid, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, generation, resourceVersion } =
      old.metadata;
    const kept = { uid, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, generation, resourceVersion };
    const next = prepareOrThrow(kind, { ...wanted, metadata: { ...wanted.metadata, ...kept } }, old);
    if (isDeepStrictEqual(next, old)) return old;
    if (deletionTimestamp !== undefined && (next.metadata.finalizers ?? []).length === 0) {
      this.#commit(kind, old, undefined);
      return next;
    }
    const { metadata: _newMeta, status: _newStatus, ...content } = next;
    const { metadata: _oldMeta, status: _oldStatus, ...before } = old;
    const changed = !isDeepStrictEqual(content, before);
    return this.#commit(
      kind,
      old,
      changed ? { ...next, metadata: { ...next.metadata, generation: (generation ?? 1) + 1 } } : next,
    );
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

  #generate(kind: KindName, generateName: string | undefined): string {
    if (generateName === undefined || generateName === "") {
      throw new CalicoError("BAD_INPUT", `creating a ${kind}: metadata.name or metadata.generateName is required`);
    }
    let name = generateName;
    for (let i = 0; i < 5; i++)
      name += GENERATED_ALPHABET[Math.floor(this.#random() * GENERATED_ALPHABET.length)] ?? "b";
    return name;
  }

  #timestamp(): string {
    return `${new Date(this.#clock.now()).toISOString().slice(0, 19)}Z`;
  }
}

/** Writes that are not to the status subresource keep the status there was. */
const keepStatus = (kind: KindName, next: AnyResource, old: AnyResource): AnyResource =>
  kinds[kind].hasStatus ? withStatus(next, old.status) : next;

const withStatus = (resource: AnyResource, status: unknown): AnyResource => {
  const { status: _dropped, ...rest } = resource;
  return status === undefined ? rest : { ...rest, status };
};

/**
 * What a write to the status subresource changes: for custom resources the status alone; for built-in kinds labels and
 * annotations too (upstream's CNI writes pod annotations that way).
 */
function statusWrite(kind: KindName, old: AnyResource, wanted: AnyResource): AnyResource {
  if (isCustom(kind)) return withStatus(old, wanted.status);
  return { ...withStatus(old, wanted.status), metadata: wanted.metadata };
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const item of Object.values(value)) deepFreeze(item);
  }
  return value;
}
