/** The newest state of every resource that was heard of, by kind. */
import { isDeepStrictEqual } from "node:util";
import type { KindMap, KindName } from "@calico-ts/model";
import type { SyncUpdate } from "@calico-ts/sync";

export class ResourceCache {
  readonly #kinds = new Map<KindName, Map<string, KindMap[KindName]>>();

  /** False: as far as it is kept (`kinds.ts`), the resource is what it was. */
  apply({ kind, key, resource }: SyncUpdate): boolean {
    const id = `${key.namespace ?? ""}/${key.name}`;
    const known = this.#kinds.get(kind) ?? new Map<string, KindMap[KindName]>();
    this.#kinds.set(kind, known);
    if (resource === undefined) return known.delete(id);
    if (isDeepStrictEqual(known.get(id), resource)) return false;
    known.set(id, resource);
    return true;
  }

  /** Sorted by namespace and name, so that what is made of it does not depend on the order of arrival. */
  list<K extends KindName>(kind: K): KindMap[K][] {
    const known = this.#kinds.get(kind) as Map<string, KindMap[K]> | undefined;
    return [...(known ?? [])].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, resource]) => resource);
  }

  get<K extends KindName>(kind: K, name: string, namespace = ""): KindMap[K] | undefined {
    return (this.#kinds.get(kind) as Map<string, KindMap[K]> | undefined)?.get(`${namespace}/${name}`);
  }
}
