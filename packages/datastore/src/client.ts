/**
 * The datastore as everything above sees it. Three promises hold on every backend (the contract suite in testing/
 * checks them): an update or delete based on an old revision fails with CONFLICT; a watch that starts at a revision
 * misses nothing that came after it, or fails with EXPIRED; a failure carries a code of ours and never a backend's.
 *
 * START HERE, then memory/memory-datastore.ts (the whole semantics in one process) and kubernetes/client.ts.
 */
import type { KindMap, KindName } from "@calico-ts/model";

export interface ResourceKey {
  readonly name: string;
  /** Present exactly for namespaced kinds. */
  readonly namespace?: string | undefined;
}

export interface Selection {
  /** Absent: every namespace. */
  readonly namespace?: string | undefined;
  /** Kubernetes' text form: `a=b,c!=d,e in (f,g),h,!i`. */
  readonly labelSelector?: string | undefined;
  /** `metadata.name=x`, `spec.nodeName!=y`; which fields a kind offers is the backend's business. */
  readonly fieldSelector?: string | undefined;
}

export interface ListOptions extends Selection {
  readonly signal?: AbortSignal | undefined;
}

export interface WatchOptions extends Selection {
  /** What a list or an earlier event said. Events after it are delivered. */
  readonly revision: string;
  readonly signal: AbortSignal;
}

export interface DeletePreconditions {
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
}

export interface PatchOptions {
  /** Patches the status subresource. */
  readonly status?: boolean | undefined;
}

/** A JSON merge patch (RFC 7396): null removes. With `metadata.resourceVersion` in it, a compare-and-swap. */
export type MergePatch = Readonly<Record<string, unknown>>;

export interface ListResult<T> {
  readonly items: T[];
  /** Where to watch from. */
  readonly revision: string;
}

export type WatchEvent<T> =
  | { readonly type: "added" | "modified" | "deleted"; readonly resource: T; readonly revision: string }
  /** Nothing changed, but everything up to this revision has been delivered. */
  | { readonly type: "bookmark"; readonly revision: string };

export interface DatastoreClient extends AsyncDisposable {
  /** @throws NOT_FOUND */
  get<K extends KindName>(kind: K, key: ResourceKey): Promise<KindMap[K]>;
  /** Of one moment: every item is as it was at `revision`. */
  list<K extends KindName>(kind: K, options?: ListOptions): Promise<ListResult<KindMap[K]>>;
  /** `metadata.generateName` is honoured. @throws ALREADY_EXISTS, BAD_INPUT */
  create<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]>;
  /** Needs `metadata.resourceVersion`; leaves the status of kinds with a status subresource alone. @throws CONFLICT, NOT_FOUND, BAD_INPUT */
  update<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]>;
  /** Writes nothing but the status. @throws as update */
  updateStatus<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]>;
  /** @throws NOT_FOUND, CONFLICT, BAD_INPUT */
  patch<K extends KindName>(kind: K, key: ResourceKey, patch: MergePatch, options?: PatchOptions): Promise<KindMap[K]>;
  /** A resource with finalizers stays, marked with a deletionTimestamp, until they are gone. @throws NOT_FOUND, CONFLICT */
  delete(kind: KindName, key: ResourceKey, preconditions?: DeletePreconditions): Promise<void>;
  /**
   * Changes in order. Ends when the signal aborts; throws EXPIRED when the revision is too old (list again) and
   * UNAVAILABLE when the connection was lost and could not be resumed (watch again from the last revision seen).
   */
  watch<K extends KindName>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>>;
}

export const describeKey = (kind: string, key: ResourceKey): string =>
  key.namespace === undefined ? `${kind} ${key.name}` : `${kind} ${key.namespace}/${key.name}`;
