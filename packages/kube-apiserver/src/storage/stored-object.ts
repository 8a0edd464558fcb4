/**
 * One version of one object in the store, with its encodings.
 *
 * The object is shared with everyone who reads and must not be changed. Its JSON text is made once, on first use, and
 * then shared by gets, lists and all watchers.
 */
import type { KubeObject } from "../meta/object.ts";

export class StoredObject {
  readonly key: string;
  readonly object: KubeObject;
  readonly revision: number;
  #json: string | undefined;

  constructor(key: string, object: KubeObject, revision: number) {
    this.key = key;
    this.object = object;
    this.revision = revision;
  }

  get json(): string {
    this.#json ??= JSON.stringify(this.object);
    return this.#json;
  }
}
