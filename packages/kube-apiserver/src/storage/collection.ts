/**
 * The objects of one resource: current state, recent history, watchers.
 *
 * History is a bounded window of events. It serves watches that start in the past and lists at an exact past
 * revision (continued lists): state at revision R is the current state with every event after R undone. What is older
 * than the window answers `expired`, like a compacted etcd.
 */
import type { KubeObject } from "../meta/object.ts";
import { StoredObject } from "./stored-object.ts";

export type EventType = "ADDED" | "MODIFIED" | "DELETED";

export interface StoreEvent {
  readonly type: EventType;
  readonly revision: number;
  /** The object after the event; for DELETED the last state, stamped with the deletion's revision. */
  readonly current: StoredObject;
  readonly previous: StoredObject | undefined;
  /** Encodings made for one watcher and good for all others of the same kind; the watch handler owns the keys. */
  readonly encodings: Map<string, Buffer>;
}

export type StoreListener = (event: StoreEvent) => void;

export class Collection {
  readonly #objects = new Map<string, StoredObject>();
  #sortedKeys: string[] | undefined = [];
  readonly #history: StoreEvent[] = [];
  readonly #window: number;
  /** Events up to and including this revision are forgotten. */
  #forgotten: number;
  readonly #listeners = new Set<StoreListener>();

  constructor(window: number, startRevision: number) {
    this.#window = window;
    this.#forgotten = startRevision;
  }

  get size(): number {
    return this.#objects.size;
  }

  get oldestRevision(): number {
    return this.#forgotten;
  }

  get(key: string): StoredObject | undefined {
    return this.#objects.get(key);
  }

  values(): IterableIterator<StoredObject> {
    return this.#objects.values();
  }

  /** Objects in key order, of one namespace or all. */
  list(namespace: string | undefined): StoredObject[] {
    const keys = (this.#sortedKeys ??= [...this.#objects.keys()].toSorted(byText));
    const out: StoredObject[] = [];
    if (namespace === undefined) {
      for (const key of keys) push(out, this.#objects.get(key));
      return out;
    }
    const prefix = `${namespace}/`;
    for (let at = lowerBound(keys, prefix); at < keys.length; at++) {
      const key = keys[at];
      if (key === undefined || !key.startsWith(prefix)) break;
      push(out, this.#objects.get(key));
    }
    return out;
  }

  /** The list as it was at a past revision, or "expired". */
  listAt(revision: number, namespace: string | undefined): StoredObject[] | "expired" {
    if (revision < this.#forgotten) return "expired";
    const undone = new Map<string, StoredObject | undefined>();
    for (let at = this.#history.length - 1; at >= 0; at--) {
      const event = this.#history[at];
      if (event === undefined || event.revision <= revision) break;
      undone.set(event.current.key, event.previous);
    }
    if (undone.size === 0) return this.list(namespace);
    const prefix = namespace === undefined ? "" : `${namespace}/`;
    const now = this.list(namespace).filter((stored) => !undone.has(stored.key));
    for (const [key, stored] of undone) if (stored !== undefined && key.startsWith(prefix)) now.push(stored);
    return now.toSorted((a, b) => byText(a.key, b.key));
  }

  /** Events after a revision, oldest first, or "expired". */
  since(revision: number): readonly StoreEvent[] | "expired" {
    if (revision < this.#forgotten) return "expired";
    let low = 0;
    let high = this.#history.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#history[middle]?.revision ?? 0) <= revision) low = middle + 1;
      else high = middle;
    }
    return this.#history.slice(low);
  }

  /** Called synchronously for each event; must not write to the store. */
  listen(listener: StoreListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  put(key: string, object: KubeObject, revision: number): StoredObject {
    const previous = this.#objects.get(key);
    const current = new StoredObject(key, object, revision);
    this.#objects.set(key, current);
    if (previous === undefined) this.#sortedKeys = undefined;
    this.#record({
      type: previous === undefined ? "ADDED" : "MODIFIED",
      revision,
      current,
      previous,
      encodings: new Map(),
    });
    return current;
  }

  remove(key: string, last: KubeObject, revision: number): StoredObject {
    const previous = this.#objects.get(key);
    this.#objects.delete(key);
    this.#sortedKeys = undefined;
    const current = new StoredObject(key, last, revision);
    this.#record({ type: "DELETED", revision, current, previous, encodings: new Map() });
    return current;
  }

  /** Forgets history up to a revision, as compaction does. */
  forget(revision: number): void {
    const kept = this.#history.findIndex((event) => event.revision > revision);
    this.#history.splice(0, kept < 0 ? this.#history.length : kept);
    this.#forgotten = Math.max(this.#forgotten, revision);
  }

  #record(event: StoreEvent): void {
    this.#history.push(event);
    // Trimmed a tenth at a time: shifting an array for each event would cost more than the event.
    if (this.#history.length > this.#window * 1.1) {
      const dropped = this.#history.splice(0, this.#history.length - this.#window);
      this.#forgotten = dropped.at(-1)?.revision ?? this.#forgotten;
    }
    for (const listener of this.#listeners) listener(event);
    // Everyone who listens has written by now; kept texts would triple the cost of history.
    event.encodings.clear();
  }
}

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function push(out: StoredObject[], stored: StoredObject | undefined): void {
  if (stored !== undefined) out.push(stored);
}

function lowerBound(keys: readonly string[], text: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] ?? "") < text) low = middle + 1;
    else high = middle;
  }
  return low;
}
