/**
 * The in-memory store: collections by `group/plural` and one global revision counter, like etcd's.
 *
 * Every write takes the next revision and stamps it into `metadata.resourceVersion`. Writes are synchronous, so a
 * read-check-write without an `await` in between is a transaction. Nothing is kept on disk: the embedding program
 * re-applies its manifests.
 */
import { CalicoError } from "@calico-ts/std";
import type { KubeObject } from "../meta/object.ts";
import { keyOf } from "../meta/object.ts";
import { Collection, type StoreEvent } from "./collection.ts";
import type { StoredObject } from "./stored-object.ts";

export interface StoreOptions {
  /** Events kept per resource for watches and continued lists. */
  readonly watchWindow: number;
}

export type AnyListener = (collection: string, event: StoreEvent) => void;

export class Store {
  readonly #collections = new Map<string, Collection>();
  readonly #listeners = new Set<AnyListener>();
  readonly #options: StoreOptions;
  #revision = 1;

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  /** The revision of the last write. */
  get revision(): number {
    return this.#revision;
  }

  collection(id: string): Collection {
    let found = this.#collections.get(id);
    if (found === undefined) {
      found = new Collection(this.#options.watchWindow, 0);
      found.listen((event) => {
        for (const listener of this.#listeners) listener(id, event);
      });
      this.#collections.set(id, found);
    }
    return found;
  }

  /** Called synchronously for each event of every collection. */
  listen(listener: AnyListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes ownership of the object and stamps its resourceVersion. */
  put(id: string, object: KubeObject): StoredObject {
    const revision = this.#next();
    object.metadata.resourceVersion = String(revision);
    return this.collection(id).put(keyOf(object), object, revision);
  }

  /** Removes what is there; watchers see its last state, stamped with the deletion's revision. */
  remove(id: string, key: string, last?: KubeObject): StoredObject {
    const collection = this.collection(id);
    const stored = collection.get(key);
    if (stored === undefined) throw new CalicoError("NOT_FOUND", `no ${key} in ${id}`);
    const revision = this.#next();
    const base = last ?? stored.object;
    const object = { ...base, metadata: { ...base.metadata, resourceVersion: String(revision) } };
    return collection.remove(key, object, revision);
  }

  /** Forgets all history up to now: watches and continued lists from before answer 410. */
  compact(): void {
    for (const collection of this.#collections.values()) collection.forget(this.#revision);
  }

  #next(): number {
    return ++this.#revision;
  }
}
