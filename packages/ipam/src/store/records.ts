/**
 * Reading, writing and deleting the three kinds of record, with compare-and-swap.
 *
 * Upstream deletes in two steps, because its client cannot delete conditionally: it marks a record `deleted`, then
 * removes it. So a record with that mark is absent to us too, and whoever wants its name removes it first. We delete in one step,
 * on the condition that uid and revision are those we saw.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { KindMap } from "@calico-ts/model";
import { hasCode } from "@calico-ts/std";

export type RecordKind = "IPAMBlock" | "IPAMHandle" | "BlockAffinity";
type Stored<K extends RecordKind> = KindMap[K];

export class Records<K extends RecordKind> {
  readonly #client: DatastoreClient;
  readonly #kind: K;

  constructor(client: DatastoreClient, kind: K) {
    this.#client = client;
    this.#kind = kind;
  }

  /** undefined when there is none, or only one that is being deleted. */
  async find(name: string): Promise<Stored<K> | undefined> {
    const found = await this.#findAny(name);
    return found?.spec.deleted === true ? undefined : found;
  }

  async list(labelSelector?: string): Promise<Stored<K>[]> {
    const { items } = await this.#client.list(this.#kind, { labelSelector });
    return items.filter((item) => item.spec.deleted !== true);
  }

  /** undefined when a living record of that name exists. */
  async create(resource: Stored<K>): Promise<Stored<K> | undefined> {
    for (;;) {
      try {
        return await this.#client.create(this.#kind, resource);
      } catch (error) {
        if (!hasCode(error, "ALREADY_EXISTS")) throw error;
        const existing = await this.#findAny(resource.metadata.name);
        if (existing !== undefined && existing.spec.deleted !== true) return undefined;
        // Left by somebody who stopped between the two steps of a deletion.
        if (existing !== undefined) await this.delete(existing);
      }
    }
  }

  /** undefined when the record is not what it was when it was read, or is gone. */
  async update(resource: Stored<K>): Promise<Stored<K> | undefined> {
    try {
      return await this.#client.update(this.#kind, resource);
    } catch (error) {
      if (hasCode(error, "CONFLICT") || hasCode(error, "NOT_FOUND")) return undefined;
      throw error;
    }
  }

  /** False when the record is not what it was when it was read. Already gone is fine. */
  async delete(resource: Stored<K>): Promise<boolean> {
    const { name, uid, resourceVersion } = resource.metadata;
    try {
      await this.#client.delete(this.#kind, { name }, { uid, resourceVersion });
      return true;
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return true;
      if (hasCode(error, "CONFLICT")) return false;
      throw error;
    }
  }

  async #findAny(name: string): Promise<Stored<K> | undefined> {
    try {
      return await this.#client.get(this.#kind, { name });
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return undefined;
      throw error;
    }
  }
}
