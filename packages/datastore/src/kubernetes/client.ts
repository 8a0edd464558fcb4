/**
 * The datastore on a Kubernetes API server: Calico kinds as custom resources, Kubernetes kinds as they are. The server
 * validates, defaults and keeps revisions; this is REST, pages and watches (watch-stream.ts).
 */
import { type KindInfo, type KindMap, type KindName, kinds } from "@calico-ts/model";
import { type Clock, throwIfAborted, systemClock } from "@calico-ts/runtime";
import { CalicoError, hasCode } from "@calico-ts/std";
import {
  type DatastoreClient,
  type DeletePreconditions,
  describeKey,
  type ListOptions,
  type ListResult,
  type MergePatch,
  type PatchOptions,
  type ResourceKey,
  type WatchEvent,
  type WatchOptions,
} from "../client.ts";
import { type ConnectionConfig, type InClusterOptions, readInCluster, readKubeconfig } from "./config.ts";
import { ApiHttp, type ApiRequest } from "./http.ts";
import { collectionPath, resourcePath, withQuery } from "./paths.ts";
import { watchStream } from "./watch-stream.ts";

export interface KubernetesOptions {
  /** A kubeconfig file and, if not its current one, a context. */
  readonly kubeconfig?: string;
  readonly context?: string;
  /** What Kubernetes mounts into a pod. One of the three is required. */
  readonly inCluster?: true | InClusterOptions;
  readonly connection?: ConnectionConfig;
  readonly clock?: Clock;
  readonly userAgent?: string;
  readonly callTimeoutMs?: number;
  /** Items asked for at once. */
  readonly pageSize?: number;
  /** A watch on which nothing at all (bookmarks included) is heard for this long is opened anew. */
  readonly watchIdleMs?: number;
}

/** Opens nothing yet: the first call connects. @throws CalicoError BAD_INPUT for a bad kubeconfig */
export function openKubernetes(options: KubernetesOptions): DatastoreClient {
  return new KubernetesDatastore(connectionOf(options), options);
}

function connectionOf(options: KubernetesOptions): ConnectionConfig {
  if (options.connection !== undefined) return options.connection;
  if (options.kubeconfig !== undefined) return readKubeconfig(options.kubeconfig, options.context);
  if (options.inCluster !== undefined) return readInCluster(options.inCluster === true ? {} : options.inCluster);
  throw new CalicoError("BAD_INPUT", "openKubernetes needs a kubeconfig, inCluster or a connection");
}

interface ObjectList {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly Readonly<Record<string, unknown>>[] | null;
}

class KubernetesDatastore implements DatastoreClient {
  readonly #http: ApiHttp;
  readonly #clock: Clock;
  readonly #pageSize: number;
  readonly #watchIdleMs: number;

  constructor(connection: ConnectionConfig, options: KubernetesOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#http = new ApiHttp(connection, {
      clock: this.#clock,
      userAgent: options.userAgent ?? "calico-ts",
      callTimeoutMs: options.callTimeoutMs ?? 30_000,
    });
    this.#pageSize = options.pageSize ?? 500;
    this.#watchIdleMs = options.watchIdleMs ?? 150_000;
  }

  async get<K extends KindName>(kind: K, key: ResourceKey): Promise<KindMap[K]> {
    return this.#call<KindMap[K]>({
      what: `get ${describeKey(kind, key)}`,
      method: "GET",
      path: resourcePath(kind, key),
    });
  }

  async list<K extends KindName>(kind: K, options: ListOptions = {}): Promise<ListResult<KindMap[K]>> {
    try {
      return await this.#listPages(kind, options, this.#pageSize);
    } catch (error) {
      // The continuation outlived the server's history: one page of everything always works.
      if (!hasCode(error, "EXPIRED")) throw error;
      return this.#listPages(kind, options, undefined);
    }
  }

  async create<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const { metadata } = resource;
    const path = collectionPath(kind, metadata.namespace);
    const what = `create ${describeKey(kind, metadata)}`;
    return this.#call<KindMap[K]>({ what, method: "POST", path, body: withIdentity(kinds[kind], resource) });
  }

  async update<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    return this.#put(kind, resource, "");
  }

  async updateStatus<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    return this.#put(kind, resource, "status");
  }

  async patch<K extends KindName>(
    kind: K,
    key: ResourceKey,
    patch: MergePatch,
    options: PatchOptions = {},
  ): Promise<KindMap[K]> {
    return this.#call<KindMap[K]>({
      what: `patch ${describeKey(kind, key)}`,
      method: "PATCH",
      path: resourcePath(kind, key, options.status === true ? "status" : ""),
      body: patch,
      contentType: "application/merge-patch+json",
    });
  }

  async delete(kind: KindName, key: ResourceKey, preconditions: DeletePreconditions = {}): Promise<void> {
    const { uid, resourceVersion } = preconditions;
    const conditions = {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    };
    await this.#call({
      what: `delete ${describeKey(kind, key)}`,
      method: "DELETE",
      path: resourcePath(kind, key),
      body: { apiVersion: "v1", kind: "DeleteOptions", preconditions: conditions },
    });
  }

  watch<K extends KindName>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>> {
    const source = { http: this.#http, clock: this.#clock, idleMs: this.#watchIdleMs };
    return watchStream<KindMap[K]>(source, kind, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#http[Symbol.asyncDispose]();
  }

  async #listPages<K extends KindName>(
    kind: K,
    options: ListOptions,
    limit: number | undefined,
  ): Promise<ListResult<KindMap[K]>> {
    const info = kinds[kind];
    const items: KindMap[K][] = [];
    let next: string | undefined;
    let revision = "";
    do {
      throwIfAborted(options.signal);
      const page = await this.#call<ObjectList>({
        what: `list ${info.plural}`,
        method: "GET",
        path: withQuery(collectionPath(kind, options.namespace), {
          labelSelector: options.labelSelector,
          fieldSelector: options.fieldSelector,
          limit: limit === undefined ? undefined : String(limit),
          continue: next,
        }),
        signal: options.signal,
      });
      for (const item of page.items ?? []) items.push(withIdentity(info, item) as unknown as KindMap[K]);
      revision = page.metadata?.resourceVersion ?? revision;
      next = page.metadata?.continue === "" ? undefined : page.metadata?.continue;
    } while (next !== undefined);
    return { items, revision };
  }

  async #put<K extends KindName>(kind: K, resource: KindMap[K], subresource: string): Promise<KindMap[K]> {
    const { metadata } = resource;
    const what = `update ${describeKey(kind, metadata)}`;
    if ((metadata.resourceVersion ?? "") === "") {
      throw new CalicoError("BAD_INPUT", `${what}: metadata.resourceVersion must be what a read returned`);
    }
    const path = resourcePath(kind, metadata, subresource);
    return this.#call<KindMap[K]>({ what, method: "PUT", path, body: withIdentity(kinds[kind], resource) });
  }

  /** The caller names what the server promises to answer with: its schema was enforced there. */
  async #call<T>(request: ApiRequest): Promise<T> {
    return (await this.#http.call(request)) as T;
  }
}

/** Items of a list carry neither kind nor apiVersion; callers need not write them either. */
function withIdentity(info: KindInfo, resource: object): Record<string, unknown> {
  return { ...resource, apiVersion: info.apiVersion, kind: info.kind };
}
