/** Informers that a test fills by hand: the test is the API server. */
import { Informer, type InformerSource } from "../../src/cluster/kube/informer.ts";
import type { KubeObject } from "../../src/cluster/kube/objects.ts";
import type { Kind, KindObjects } from "../../src/cluster/kube/resource-types.ts";

export class FakeInformers implements InformerSource {
  readonly #informers = new Map<Kind, Informer<KubeObject>>();
  #version = 0;

  of<K extends Kind>(kind: K): Informer<KindObjects[K]> {
    let informer = this.#informers.get(kind);
    if (informer === undefined) this.#informers.set(kind, (informer = new Informer<KubeObject>()));
    return informer as unknown as Informer<KindObjects[K]>;
  }

  /** An object appears or changes, with the next resource version. */
  put<K extends Kind>(kind: K, object: KindObjects[K]): void {
    this.#version += 1;
    const metadata = { uid: object.metadata.name, ...object.metadata, resourceVersion: String(this.#version) };
    this.of(kind).apply("MODIFIED", { ...object, metadata });
  }

  remove(kind: Kind, key: string): void {
    const object = this.of(kind).get(key);
    if (object !== undefined) this.of(kind).apply("DELETED", object);
  }

  /** The first list of these kinds is complete. */
  sync(...kinds: readonly Kind[]): void {
    for (const kind of kinds) this.of(kind).replace([...this.of(kind).values()], String(this.#version));
  }
}
