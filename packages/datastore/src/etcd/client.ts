/**
 * The datastore on etcd v3, where Calico keeps its resources when it is not to use Kubernetes for that. A write is a transaction that
 * compares modification revisions; resourceVersion is that revision. What lies where, and how, is stored.ts. There is no server that
 * validates or defaults, so the model does (write-rules.ts), as in upstream's etcd mode.
 *
 * Kinds of Kubernetes (pods, namespaces, services) are not in etcd: they are asked from the Kubernetes client, if there is one.
 */
import { randomUUID } from "node:crypto";
import { type KindMap, type KindName, kinds } from "@calico-ts/model";
import { type Clock, cancelled, systemClock } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
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
import { type AnyResource, checkKey, keyOf, prepareOrThrow } from "../resource.ts";
import { compileSelection } from "../selection.ts";
import {
  checkRevisionGiven,
  checkSwap,
  deleted,
  newResource,
  patched,
  statusUpdated,
  updated,
  type Written,
} from "../write-rules.ts";
import type { EtcdConfig } from "./config.ts";
import { EtcdConnection } from "./connection.ts";
import type { KeyValue, RequestOp, TxnResponse } from "./messages.ts";
import { type StoredKind, storedKind } from "./stored.ts";
import { rangeRequest, watchRange } from "./watch.ts";

export interface EtcdOptions {
  readonly config: EtcdConfig;
  /** For the kinds that Kubernetes keeps; closed with this client. */
  readonly kubernetes?: DatastoreClient | undefined;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export interface EtcdDatastore extends DatastoreClient {
  /** Where Kubernetes' own kinds, and its nodes, are asked for. */
  readonly kubernetes: DatastoreClient | undefined;
  revision(): Promise<string>;
  /** Forgets the history before the revision; etcd itself keeps all of it until somebody asks for this. */
  compact(revision: string): Promise<void>;
}

/** Opens nothing yet: the first call connects. */
export const openEtcd = (options: EtcdOptions): EtcdDatastore => new Etcd(options);

/** A resource as it was read, and the key it was under. */
interface Found {
  readonly path: string;
  readonly resource: AnyResource;
  readonly modRevision: number;
}

/** Reads and writes of the same resource by others, in a row, before something must be wrong. */
const MAX_SWAPS = 100;

class Etcd implements EtcdDatastore {
  readonly #connection: EtcdConnection;
  readonly kubernetes: DatastoreClient | undefined;
  readonly #clock: Clock;
  readonly #random: () => number;

  constructor(options: EtcdOptions) {
    this.#connection = new EtcdConnection(options.config);
    this.kubernetes = options.kubernetes;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
  }

  async get<K extends KindName>(kind: K, key: ResourceKey): Promise<KindMap[K]> {
    const stored = storedKind(kind);
    if (stored === undefined) return this.#outside(kind).get(kind, key);
    return (await this.#existing(kind, stored, key)).resource as unknown as KindMap[K];
  }

  async list<K extends KindName>(kind: K, options: ListOptions = {}): Promise<ListResult<KindMap[K]>> {
    const stored = storedKind(kind);
    if (stored === undefined) return this.#outside(kind).list(kind, options);
    if (options.signal?.aborted === true) throw cancelled(options.signal);
    const matches = compileSelection(options);
    const { found, revision } = await this.#range(kind, stored, options.namespace);
    const items = found.map(({ resource }) => resource).filter(matches);
    return { items: items as unknown as KindMap[K][], revision: String(revision) };
  }

  async create<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const stored = storedKind(kind);
    if (stored === undefined) return this.#outside(kind).create(kind, resource);
    const facts = { uid: randomUUID(), nowMs: this.#clock.now(), random: this.#random };
    const made = newResource(kind, resource as unknown as AnyResource, facts);
    const path = stored.pathOf(made);
    const what = describeKey(kind, keyOf(made));
    const { header, succeeded } = await this.#connection.txn(`create ${what}`, {
      compare: [{ key: Buffer.from(path), target: "CREATE", createRevision: 0 }],
      success: [put(path, stored.encode(made))],
      failure: [],
    });
    if (!succeeded) throw new CalicoError("ALREADY_EXISTS", `${what} already exists`);
    return this.#written(stored, path, made, header.revision) as unknown as KindMap[K];
  }

  async update<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const stored = storedKind(kind);
    if (stored === undefined) return this.#outside(kind).update(kind, resource);
    const wanted = resource as unknown as AnyResource;
    checkRevisionGiven(kind, wanted);
    if (stored.bare) return (await this.#updateBare(kind, stored, wanted)) as unknown as KindMap[K];
    return (await this.#swap(kind, stored, keyOf(wanted), (old) => {
      checkSwap(kind, old, wanted.metadata);
      return updated(kind, old, wanted);
    })) as unknown as KindMap[K];
  }

  async updateStatus<K extends KindName>(kind: K, resource: KindMap[K]): Promise<KindMap[K]> {
    const stored = storedKind(kind);
    if (stored === undefined) return this.#outside(kind).updateStatus(kind, resource);
    const wanted = resource as unknown as AnyResource;
    checkRevisionGiven(kind, wanted);
    return (await this.#swap(kind, stored, keyOf(wanted), (old) => {
      checkSwap(kind, old, wanted.metadata);
      return statusUpdated(kind, old, wanted);
    })) as unknown as KindMap[K];
  }

  async patch<K extends KindName>(
    kind: K,
    key: ResourceKey,
    patch: MergePatch,
    options: PatchOptions = {},
  ): Promise<KindMap[K]> {
    const stored = storedKind(kind);
    if (stored === undefined) return this.#outside(kind).patch(kind, key, patch, options);
    return (await this.#swap(kind, stored, key, (old) =>
      patched(kind, old, patch, options.status === true),
    )) as unknown as KindMap[K];
  }

  async delete(kind: KindName, key: ResourceKey, preconditions: DeletePreconditions = {}): Promise<void> {
    const stored = storedKind(kind);
    if (stored === undefined) {
      await this.#outside(kind).delete(kind, key, preconditions);
      return;
    }
    await this.#swap(kind, stored, key, (old) => {
      checkSwap(kind, old, preconditions);
      return deleted(old, this.#clock.now());
    });
  }

  async *watch<K extends KindName>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>> {
    const stored = storedKind(kind);
    if (stored === undefined) {
      yield* this.#outside(kind).watch(kind, options);
      return;
    }
    const context = { connection: this.#connection, kind, stored, decode };
    yield* watchRange(context, options) as AsyncIterable<WatchEvent<KindMap[K]>>;
  }

  async revision(): Promise<string> {
    const { header } = await this.#connection.txn("revision", { compare: [], success: [], failure: [] });
    return String(header.revision);
  }

  compact(revision: string): Promise<void> {
    return this.#connection.compact(Number(revision));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close();
    await this.kubernetes?.[Symbol.asyncDispose]();
  }

  #outside(kind: KindName): DatastoreClient {
    if (this.kubernetes !== undefined) return this.kubernetes;
    const { apiVersion } = kinds[kind];
    const message = `${kind} (${apiVersion}) is kept by Kubernetes, not in etcd, and no kubeconfig says where that is: set KUBECONFIG`;
    throw new CalicoError("UNSUPPORTED", message);
  }

  async #range(
    kind: KindName,
    stored: StoredKind,
    namespace: string | undefined,
  ): Promise<{ readonly found: readonly Found[]; readonly revision: number }> {
    const read: RequestOp = { requestRange: rangeRequest(stored.range(namespace)) };
    const { header, responses } = await this.#connection.txn(`list ${kind}`, {
      compare: [],
      success: [read],
      failure: [],
    });
    return { found: foundIn(stored, responses), revision: header.revision };
  }

  /** @throws CalicoError NOT_FOUND, BAD_INPUT */
  async #existing(kind: KindName, stored: StoredKind, key: ResourceKey): Promise<Found> {
    checkKey(kind, key);
    const paths = stored.candidates(key);
    const what = describeKey(kind, key);
    let found: readonly Found[] = [];
    if (paths === undefined) ({ found } = await this.#range(kind, stored, key.namespace));
    else if (paths.length > 0) {
      const success = paths.map((path): RequestOp => ({ requestRange: { key: Buffer.from(path) } }));
      const { responses } = await this.#connection.txn(`get ${what}`, { compare: [], success, failure: [] });
      found = foundIn(stored, responses);
    }
    const match = found.find(({ resource }) => resource.metadata.name === key.name);
    if (match === undefined) throw new CalicoError("NOT_FOUND", `${what} not found`);
    return match;
  }

  /** Reads, decides, writes on the condition that nothing changed; from the beginning when something did. */
  async #swap(
    kind: KindName,
    stored: StoredKind,
    key: ResourceKey,
    decide: (old: AnyResource) => Written,
  ): Promise<AnyResource> {
    const what = describeKey(kind, key);
    for (let tried = 0; tried < MAX_SWAPS; tried++) {
      const found = await this.#existing(kind, stored, key);
      const outcome = decide(found.resource);
      if (outcome.kind === "same") return found.resource;
      const { header, succeeded } = await this.#connection.txn(`write ${what}`, {
        compare: [unchanged(found.path, found.modRevision)],
        success: [
          outcome.kind === "gone"
            ? { requestDeleteRange: { key: Buffer.from(found.path) } }
            : put(found.path, stored.encode(outcome.next)),
        ],
        failure: [],
      });
      if (!succeeded) continue;
      if (outcome.kind === "gone") return outcome.last;
      return this.#written(stored, found.path, outcome.next, header.revision);
    }
    throw new CalicoError("CONFLICT", `${what}: it was changed by others ${MAX_SWAPS} times in a row; try again`);
  }

  /** Records without metadata need no look at what was there: one round trip, as address management writes them all day. */
  async #updateBare(kind: KindName, stored: StoredKind, wanted: AnyResource): Promise<AnyResource> {
    const prepared = prepareOrThrow(kind, wanted);
    // Fields that only a later version knows stay.
    const next = { ...prepared, spec: { ...asFields(wanted["spec"]), ...asFields(prepared["spec"]) } };
    const path = stored.pathOf(next);
    const what = describeKey(kind, keyOf(next));
    const { header, responses, succeeded } = await this.#connection.txn(`write ${what}`, {
      compare: [unchanged(path, Number(wanted.metadata.resourceVersion))],
      success: [put(path, stored.encode(next))],
      failure: [{ requestRange: { key: Buffer.from(path) } }],
    });
    if (succeeded) return this.#written(stored, path, next, header.revision);
    if (foundIn(stored, responses).length === 0) throw new CalicoError("NOT_FOUND", `${what} not found`);
    throw new CalicoError("CONFLICT", `${what} was changed meanwhile: read it again and repeat the change`);
  }

  /** What a later read will return. */
  #written(stored: StoredKind, path: string, resource: AnyResource, revision: number): AnyResource {
    const { uid } = resource.metadata;
    const createRevision = stored.bare && uid !== undefined && /^etcd-\d+$/.test(uid) ? Number(uid.slice(5)) : revision;
    const value = Buffer.from(JSON.stringify(stored.encode(resource)));
    const made = decode(stored, { key: Buffer.from(path), value, createRevision, modRevision: revision });
    if (made === undefined) throw new CalicoError("INTERNAL", `what was written to ${path} cannot be read`);
    return made;
  }
}

const asFields = (value: unknown): object => (typeof value === "object" && value !== null ? value : {});

const put = (path: string, value: unknown): RequestOp => ({
  requestPut: { key: Buffer.from(path), value: Buffer.from(JSON.stringify(value)) },
});

const unchanged = (path: string, modRevision: number) =>
  ({ key: Buffer.from(path), target: "MOD", modRevision }) as const;

function foundIn(stored: StoredKind, responses: TxnResponse["responses"]): Found[] {
  return responses.flatMap(({ responseRange }) =>
    (responseRange?.kvs ?? []).flatMap((kv) => {
      const resource = decode(stored, kv);
      return resource === undefined ? [] : [{ path: kv.key.toString(), resource, modRevision: kv.modRevision }];
    }),
  );
}

/** undefined when it is of another kind, or nobody can read it. */
function decode(stored: StoredKind, { key, value, createRevision, modRevision }: KeyValue): AnyResource | undefined {
  let parsed: unknown;
  try {
    parsed = value.length === 0 ? {} : JSON.parse(value.toString());
  } catch {
    return undefined;
  }
  const resource = stored.decode(key.toString(), parsed);
  if (resource === undefined) return undefined;
  const uid = stored.bare ? { uid: `etcd-${createRevision}` } : {};
  return { ...resource, metadata: { ...resource.metadata, ...uid, resourceVersion: String(modRevision) } };
}
