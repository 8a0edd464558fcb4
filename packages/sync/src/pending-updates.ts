/**
 * What the consumer has not taken yet: the newest state per resource, however often it changed meanwhile. So memory is
 * bounded by the number of resources, and a consumer that was slow sees the present and not the history of it.
 */
import type { SyncUpdate } from "./update.ts";

interface Pending {
  readonly update: SyncUpdate;
  /** The consumer has never seen this resource: if it goes away now there is nothing to say. */
  readonly unseen: boolean;
}

export class PendingUpdates {
  #byResource = new Map<string, Pending>();
  #taken: PromiseWithResolvers<void> | undefined;
  #inSyncDue = false;
  #inSync = false;

  get size(): number {
    return this.#byResource.size;
  }

  /** `isNew`: the source did not know the resource before this update. */
  add(update: SyncUpdate, isNew: boolean): void {
    const id = `${update.kind}\0${update.key.namespace ?? ""}\0${update.key.name}`;
    const unseen = this.#byResource.get(id)?.unseen ?? isNew;
    // To the end: a resource re-made after another change is told after it.
    this.#byResource.delete(id);
    if (unseen && update.resource === undefined) return;
    this.#byResource.set(id, { update, unseen });
    this.#taken?.resolve();
  }

  /** Everything that existed at the start has been added. */
  setInSync(): void {
    if (this.#inSync || this.#inSyncDue) return;
    this.#inSyncDue = true;
    this.#taken?.resolve();
  }

  /** Ends a wait without anything to take. */
  wake(): void {
    this.#taken?.resolve();
  }

  get inSync(): boolean {
    return this.#inSync || this.#inSyncDue;
  }

  get isEmpty(): boolean {
    return this.#byResource.size === 0 && !this.#inSyncDue;
  }

  async untilSomething(): Promise<void> {
    if (!this.isEmpty) return;
    this.#taken = Promise.withResolvers();
    await this.#taken.promise;
    this.#taken = undefined;
  }

  take(): { readonly updates: readonly SyncUpdate[]; readonly inSync: boolean } {
    const updates = [...this.#byResource.values()].map((pending) => pending.update);
    this.#byResource = new Map();
    if (this.#inSyncDue) this.#inSync = true;
    this.#inSyncDue = false;
    return { updates, inSync: this.#inSync };
  }
}
