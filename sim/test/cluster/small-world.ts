/**
 * A world of objects that performs actions as an API server would, without one: enough to run reconcile functions to their end.
 * Every write raises the resource version; creations get uid and name; spec changes raise the generation.
 */
import { applyMergePatch } from "@calico-ts/datastore";
import type { Action } from "../../src/cluster/kube/actions.ts";
import { controllerOf, type KubeObject, keyOf, type Pod, uidOf } from "../../src/cluster/kube/objects.ts";
import type { Kind, KindObjects } from "../../src/cluster/kube/resource-types.ts";

export const START_MS = Date.UTC(2026, 0, 1);

export class SmallWorld {
  nowMs = START_MS;
  readonly #objects = new Map<Kind, Map<string, KubeObject>>();
  #counter = 0;

  all<K extends Kind>(kind: K): KindObjects[K][] {
    return [...this.#of(kind).values()] as unknown as KindObjects[K][];
  }

  get<K extends Kind>(kind: K, key: string): KindObjects[K] {
    const object = this.#of(kind).get(key);
    if (object === undefined) throw new Error(`no ${kind} ${key}`);
    return object as unknown as KindObjects[K];
  }

  ownedBy<K extends Kind>(kind: K, owner: KubeObject): KindObjects[K][] {
    return this.all(kind).filter((object) => controllerOf(object)?.uid === uidOf(owner));
  }

  put<K extends Kind>(kind: K, object: KindObjects[K]): KindObjects[K] {
    this.#counter += 1;
    const { metadata } = object;
    const name =
      metadata.name === ""
        ? `${metadata.generateName ?? ""}${this.#counter.toString(36).padStart(5, "0")}`
        : metadata.name;
    const made = {
      ...object,
      metadata: {
        uid: `u${this.#counter}`,
        generation: 1,
        creationTimestamp: new Date(this.nowMs).toISOString(),
        ...metadata,
        name,
        resourceVersion: String(this.#counter),
      },
    };
    this.#of(kind).set(keyOf(made), made);
    return made as unknown as KindObjects[K];
  }

  /** As a user's or a status write. */
  patch(kind: Kind, key: string, patch: Readonly<Record<string, unknown>>): void {
    const before: Readonly<Record<string, unknown>> = { ...this.get(kind, key) };
    const after = applyMergePatch(before, patch) as KubeObject;
    const respecified =
      "spec" in patch && JSON.stringify(before["spec"]) !== JSON.stringify((after as { spec?: unknown }).spec);
    this.#counter += 1;
    const generation = (after.metadata.generation ?? 1) + (respecified ? 1 : 0);
    this.#of(kind).set(key, {
      ...after,
      metadata: { ...after.metadata, generation, resourceVersion: String(this.#counter) },
    });
  }

  remove(kind: Kind, key: string): void {
    this.#of(kind).delete(key);
  }

  /** True when anything was written. */
  perform(actions: readonly Action[]): boolean {
    let wrote = false;
    for (const action of actions) {
      if (action.do === "create") {
        if (this.#of(action.kind).has(keyOf(action.object)))
          throw new Error(`${action.kind} ${keyOf(action.object)} exists`);
        this.put(action.kind, action.object);
      } else if (action.do === "patch") {
        const { namespace, name } = action.name;
        this.patch(action.kind, namespace === undefined ? name : `${namespace}/${name}`, action.patch as never);
      } else if (action.do === "delete") this.remove(action.kind, keyOf(action.object));
      else continue;
      wrote = true;
    }
    return wrote;
  }

  /** What a kubelet would say of a pod. */
  setReady(pod: Pod, ready: boolean): void {
    const lastTransitionTime = new Date(this.nowMs).toISOString();
    const conditions = [{ type: "Ready", status: ready ? "True" : "False", lastTransitionTime }];
    this.patch("Pod", keyOf(pod), { status: { phase: "Running", conditions } });
  }

  #of(kind: Kind): Map<string, KubeObject> {
    let objects = this.#objects.get(kind);
    if (objects === undefined) this.#objects.set(kind, (objects = new Map()));
    return objects;
  }
}
