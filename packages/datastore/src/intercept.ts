/**
 * A client that asks a hook before and after every operation: to count, to delay, to fail, to crash between any two
 * writes, or to hand control to a deterministic scheduler. The client inside does the real work.
 */
import type { KindMap, KindName } from "@calico-ts/model";
import type { DatastoreClient, DeletePreconditions, MergePatch, PatchOptions, ResourceKey } from "./client.ts";

export interface Operation {
  readonly verb: "get" | "list" | "create" | "update" | "updateStatus" | "patch" | "delete" | "watch";
  readonly kind: KindName;
  readonly key: ResourceKey | undefined;
  readonly writes: boolean;
}

export interface InterceptHooks {
  /** Throwing here: the operation never happened. */
  readonly before?: (operation: Operation) => void | Promise<void>;
  /** Throwing here: it happened, but the caller does not learn so. */
  readonly after?: (operation: Operation) => void | Promise<void>;
}

export function intercept(client: DatastoreClient, hooks: InterceptHooks): DatastoreClient {
  async function around<T>(
    verb: Operation["verb"],
    target: { readonly kind: KindName; readonly key?: ResourceKey | undefined },
    run: () => Promise<T>,
  ): Promise<T> {
    const writes = verb !== "get" && verb !== "list" && verb !== "watch";
    const operation: Operation = { verb, kind: target.kind, key: target.key, writes };
    await hooks.before?.(operation);
    const result = await run();
    await hooks.after?.(operation);
    return result;
  }
  return {
    get: (kind, key) => around("get", { kind, key }, () => client.get(kind, key)),
    list: (kind, options) => around("list", { kind }, () => client.list(kind, options)),
    create: <K extends KindName>(kind: K, resource: KindMap[K]) =>
      around("create", { kind, key: resource.metadata }, () => client.create(kind, resource)),
    update: <K extends KindName>(kind: K, resource: KindMap[K]) =>
      around("update", { kind, key: resource.metadata }, () => client.update(kind, resource)),
    updateStatus: <K extends KindName>(kind: K, resource: KindMap[K]) =>
      around("updateStatus", { kind, key: resource.metadata }, () => client.updateStatus(kind, resource)),
    patch: <K extends KindName>(kind: K, key: ResourceKey, patch: MergePatch, options?: PatchOptions) =>
      around("patch", { kind, key }, () => client.patch(kind, key, patch, options)),
    delete: (kind: KindName, key: ResourceKey, preconditions?: DeletePreconditions) =>
      around("delete", { kind, key }, () => client.delete(kind, key, preconditions)),
    async *watch(kind, options) {
      await hooks.before?.({ verb: "watch", kind, key: undefined, writes: false });
      yield* client.watch(kind, options);
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}
