/**
 * A watch cache of one kind: list, then watch, for as long as it is open, with indices and change notifications.
 *
 * - All parts of the cluster share one informer per kind (`InformerSet`): one stream and one parsed copy of every object,
 *   however many controllers, kubelets and proxies look at it.
 * - Write-through: the answer of a write is put into the cache at once (`assume`), so that a controller never decides on a state
 *   older than its own last write. This is what client-go's "expectations" are for, with less machinery. It needs resource
 *   versions that can be compared as numbers, which the Kubernetes API guarantees for its built-in kinds.
 * - A watch that ends is resumed from the last version seen; one that expired leads to a new list, whose difference from the
 *   cache is announced, deletions included.
 */
import { CalicoError, hasCode, MultiMap } from "@calico-ts/std";
import type { Logger } from "@calico-ts/runtime";
import type { KubeClient, ListOptions } from "./client.ts";
import { type KubeObject, keyOf, uidOf } from "./objects.ts";
import type { Kind, KindObjects } from "./resource-types.ts";

export interface Change<T> {
  readonly key: string;
  readonly before: T | undefined;
  readonly after: T | undefined;
}

export type ChangeHandler<T> = (change: Change<T>) => void;
/** Names under which an object is found with `byIndex`. */
export type IndexFunction<T> = (object: T) => readonly string[];

export interface InformerDeps {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

const RETRY_MS = [100, 200, 500, 1000, 2000, 5000] as const;

export class Informer<T extends KubeObject> {
  readonly #objects = new Map<string, T>();
  readonly #indices = new Map<string, { readonly of: IndexFunction<T>; readonly entries: MultiMap<string, string> }>();
  readonly #handlers: ChangeHandler<T>[] = [];
  /** Objects removed ahead of their DELETED event; older events about them must not bring them back. */
  readonly #gone = new Map<string, number>();
  readonly #synced = Promise.withResolvers<void>();
  #hasSynced = false;

  /** Resolves after the first complete list. Never rejects; it stays pending if the informer is closed before. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  values(): IterableIterator<T> {
    return this.#objects.values();
  }

  keys(): IterableIterator<string> {
    return this.#objects.keys();
  }

  get size(): number {
    return this.#objects.size;
  }

  /** Must be called before objects arrive. */
  addIndex(name: string, of: IndexFunction<T>): void {
    if (this.#indices.has(name)) return;
    const index = { of, entries: new MultiMap<string, string>() };
    for (const [key, object] of this.#objects) for (const entry of of(object)) index.entries.add(entry, key);
    this.#indices.set(name, index);
  }

  byIndex(name: string, entry: string): T[] {
    const index = this.#indices.get(name);
    if (index === undefined) throw new CalicoError("INTERNAL", `no index "${name}"`);
    const found: T[] = [];
    for (const key of index.entries.get(entry)) {
      const object = this.#objects.get(key);
      if (object !== undefined) found.push(object);
    }
    return found;
  }

  /** The handler hears of every object already there, then of every change. Returns how to stop. */
  onChange(handler: ChangeHandler<T>): () => void {
    this.#handlers.push(handler);
    for (const [key, after] of this.#objects) handler({ key, before: undefined, after });
    return () => {
      const at = this.#handlers.indexOf(handler);
      if (at >= 0) this.#handlers.splice(at, 1);
    };
  }

  /** What a write of ours answered. Ignored unless newer than what is cached. */
  assume(object: T): void {
    const key = keyOf(object);
    if (this.#gone.has(uidOf(object))) return;
    const cached = this.#objects.get(key);
    if (cached !== undefined && uidOf(cached) === uidOf(object) && versionOf(cached) >= versionOf(object)) return;
    this.#put(key, object);
  }

  /** A delete of ours removed the object for good. */
  assumeGone(key: string, uid: string): void {
    const cached = this.#objects.get(key);
    if (cached === undefined || uidOf(cached) !== uid) return;
    this.#gone.set(uid, Date.now());
    this.#put(key, undefined);
  }

  /** One event of the watch. Public for tests, which play the server. */
  apply(type: "ADDED" | "MODIFIED" | "DELETED", object: T): void {
    const key = keyOf(object);
    const uid = uidOf(object);
    const cached = this.#objects.get(key);
    if (type === "DELETED") {
      this.#gone.delete(uid);
      if (cached !== undefined && (uidOf(cached) === uid || versionOf(cached) < versionOf(object))) {
        this.#put(key, undefined);
      }
      return;
    }
    if (this.#gone.has(uid)) return;
    if (cached !== undefined && versionOf(cached) >= versionOf(object)) return;
    this.#put(key, object);
  }

  /** A complete list. Objects we wrote after it was taken stay. */
  replace(items: readonly T[], resourceVersion: string): void {
    const listed = new Set<string>();
    for (const item of items) {
      listed.add(keyOf(item));
      this.apply("MODIFIED", item);
    }
    const listVersion = Number(resourceVersion);
    for (const [key, object] of this.#objects) {
      if (!listed.has(key) && !(versionOf(object) > listVersion)) this.#put(key, undefined);
    }
    this.#forgetGone();
    if (!this.#hasSynced) {
      this.#hasSynced = true;
      this.#synced.resolve();
    }
  }

  #put(key: string, after: T | undefined): void {
    const before = this.#objects.get(key);
    if (after === undefined) this.#objects.delete(key);
    else this.#objects.set(key, after);
    for (const index of this.#indices.values()) {
      if (before !== undefined) for (const entry of index.of(before)) index.entries.delete(entry, key);
      if (after !== undefined) for (const entry of index.of(after)) index.entries.add(entry, key);
    }
    for (const handler of this.#handlers) handler({ key, before, after });
  }

  /** A DELETED event missed in a broken watch would leave its mark for ever. */
  #forgetGone(): void {
    const old = Date.now() - 60_000;
    for (const [uid, at] of this.#gone) if (at < old) this.#gone.delete(uid);
  }
}

/** Runs list and watch until the signal aborts. Trouble is logged once per kind of trouble and retried for ever. */
export async function feedInformer<K extends Kind>(
  kind: K,
  informer: Informer<KindObjects[K]>,
  deps: InformerDeps,
  options: ListOptions = {},
): Promise<void> {
  const { client, log, signal } = deps;
  let failures = 0;
  let version: string | undefined;
  while (!signal.aborted) {
    try {
      if (version === undefined) {
        const page = await client.list(kind, options);
        informer.replace(page.items, page.resourceVersion);
        version = page.resourceVersion;
      }
      for await (const event of client.watch(kind, { ...options, resourceVersion: version, signal })) {
        version = event.object.metadata.resourceVersion ?? version;
        if (event.type !== "BOOKMARK") informer.apply(event.type, event.object);
        failures = 0;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (hasCode(error, "EXPIRED")) {
        version = undefined;
        continue;
      }
      if (failures === 0) log.warning("watch.failed", { kind, error });
      await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 1000, signal);
      failures += 1;
    }
  }
}

/** What gives out informers: the set of the run, or a test's own. */
export interface InformerSource {
  of<K extends Kind>(kind: K): Informer<KindObjects[K]>;
}

/** Informers by kind, created and started on first use. */
export class InformerSet implements InformerSource {
  readonly #deps: InformerDeps;
  readonly #informers = new Map<Kind, { readonly informer: Informer<KubeObject>; readonly fed: Promise<void> }>();

  constructor(deps: InformerDeps) {
    this.#deps = deps;
  }

  of<K extends Kind>(kind: K): Informer<KindObjects[K]> {
    let entry = this.#informers.get(kind);
    if (entry === undefined) {
      const informer = new Informer<KindObjects[K]>();
      const fed = feedInformer(kind, informer, this.#deps);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the map's key decides the object type
      entry = { informer: informer as unknown as Informer<KubeObject>, fed };
      this.#informers.set(kind, entry);
    }
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the map's key decides the object type
    return entry.informer as unknown as Informer<KindObjects[K]>;
  }

  /** Only for a kind somebody asked for: a write of ours to a kind nobody watches needs no cache. */
  existing<K extends Kind>(kind: K): Informer<KindObjects[K]> | undefined {
    return this.#informers.has(kind) ? this.of(kind) : undefined;
  }

  /** Brings the cache up to what the server holds at this moment, for those who must not miss a write of a minute ago. */
  async refresh(kind: Kind): Promise<void> {
    const page = await this.#deps.client.list(kind);
    const informer: Informer<KubeObject> = this.of(kind);
    informer.replace(page.items, page.resourceVersion);
  }

  async synced(): Promise<void> {
    await Promise.all([...this.#informers.values()].map((entry) => entry.informer.synced));
  }

  /** After the signal of the deps aborted. */
  async closed(): Promise<void> {
    await Promise.all([...this.#informers.values()].map((entry) => entry.fed));
  }
}

/** Resolves early, without complaint, when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) return Promise.resolve();
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", done, { once: true });
  function done(): void {
    clearTimeout(timer);
    signal.removeEventListener("abort", done);
    resolve();
  }
  return promise;
}

/** Not a number (so every comparison is false) for a server whose versions are none: then only events count. */
const versionOf = (object: KubeObject): number => Number(object.metadata.resourceVersion ?? Number.NaN);
