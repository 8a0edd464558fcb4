/**
 * The revision counter, the recent changes, and the watches that follow them. A watch that starts before the oldest
 * change kept is told EXPIRED; so is one whose consumer lets more changes pile up than the history holds.
 */
import type { KindName } from "@calico-ts/model";
import { AsyncQueue } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import type { WatchEvent, WatchOptions } from "../client.ts";
import type { Predicate } from "../selection.ts";
import type { AnyResource } from "../resource.ts";

export interface Change {
  readonly revision: number;
  readonly kind: KindName;
  readonly old: AnyResource | undefined;
  readonly next: AnyResource | undefined;
  /** The resource as it was last, with this change's revision. */
  readonly last: AnyResource;
}

interface Watcher {
  readonly kind: KindName;
  readonly matches: Predicate;
  readonly queue: AsyncQueue<WatchEvent<AnyResource>>;
  toldRevision: number;
}

export class History {
  readonly #limit: number;
  readonly #changes: Change[] = [];
  readonly #watchers = new Set<Watcher>();
  #revision = 1;
  /** Watches must start here or later. */
  #oldest = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get revision(): number {
    return this.#revision;
  }

  nextRevision(): number {
    return ++this.#revision;
  }

  append(change: Change): void {
    this.#changes.push(change);
    // Trimmed in bulk: shifting an array of thousands on every write would cost more than the write.
    if (this.#changes.length > this.#limit * 2) this.#trim(this.#limit);
    for (const watcher of this.#watchers) this.#tell(watcher, change);
  }

  compact(): void {
    this.#changes.length = 0;
    this.#oldest = this.#revision;
  }

  bookmark(): void {
    for (const watcher of this.#watchers) this.#bookmark(watcher);
  }

  breakWatches(error: CalicoError): void {
    for (const watcher of this.#watchers) this.#end(watcher, error);
  }

  async *watch(kind: KindName, matches: Predicate, options: WatchOptions): AsyncGenerator<WatchEvent<AnyResource>> {
    const { signal } = options;
    if (signal.aborted) return;
    const start = Number(options.revision);
    if (!Number.isSafeInteger(start) || start < this.#oldest) throw expired(kind, options.revision);
    const watcher: Watcher = { kind, matches, queue: new AsyncQueue(), toldRevision: start };
    for (const change of this.#changes) if (change.revision > start) this.#tell(watcher, change);
    const onAbort = (): void => void watcher.queue.return();
    signal.addEventListener("abort", onAbort, { once: true });
    this.#watchers.add(watcher);
    try {
      yield* watcher.queue;
    } finally {
      this.#watchers.delete(watcher);
      signal.removeEventListener("abort", onAbort);
    }
  }

  #tell(watcher: Watcher, change: Change): void {
    if (change.kind !== watcher.kind) {
      if (change.revision - watcher.toldRevision > this.#limit / 2) this.#bookmark(watcher);
      return;
    }
    const was = change.old !== undefined && watcher.matches(change.old);
    const is = change.next !== undefined && watcher.matches(change.next);
    if (!was && !is) return;
    if (watcher.queue.size >= this.#limit) {
      this.#end(watcher, expired(watcher.kind, String(watcher.toldRevision)));
      return;
    }
    const type = !is ? "deleted" : was ? "modified" : "added";
    watcher.toldRevision = change.revision;
    watcher.queue.push({ type, resource: change.last, revision: String(change.revision) });
  }

  #bookmark(watcher: Watcher): void {
    watcher.toldRevision = this.#revision;
    watcher.queue.push({ type: "bookmark", revision: String(this.#revision) });
  }

  #end(watcher: Watcher, error: CalicoError): void {
    this.#watchers.delete(watcher);
    watcher.queue.fail(error);
  }

  #trim(keep: number): void {
    const dropped = this.#changes.splice(0, this.#changes.length - keep);
    this.#oldest = dropped.at(-1)?.revision ?? this.#oldest;
  }
}

const expired = (kind: KindName, revision: string): CalicoError =>
  new CalicoError("EXPIRED", `the history of ${kind} no longer reaches back to revision ${revision}: list again`);
