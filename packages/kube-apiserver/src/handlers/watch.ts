/**
 * Watches. A watcher gets the events of a collection after a revision, filtered by its selectors: an object that
 * starts or stops matching is ADDED or DELETED to it.
 *
 * The text of an event is made once per shape and result type and shared by all watchers. A watcher that does not
 * read is cut off when its backlog passes a limit; it lists again, as after any broken watch.
 *
 * A write to a socket costs more than the event in it (a TLS record, a system call, a wake-up of the client), and when a cluster comes
 * up there are hundreds of events a second for each of dozens of watchers. So an event that comes after a quiet time is sent at
 * once, and those that follow it closely are sent together.
 */
import type { ServerResponse } from "node:http";
import { badRequest, expiredError, type Status } from "../meta/api-error.ts";
import type { KubeObject } from "../meta/object.ts";
import type { ResourceInfo } from "../registry/resource.ts";
import type { EventType, StoreEvent } from "../storage/collection.ts";
import type { StoredObject } from "../storage/stored-object.ts";
import { columnDefinitions, type IncludeObject, partialMetadata, tableOf, tableRow } from "../tables/table.ts";
import type { Exchange, Shape } from "./exchange.ts";
import { type Filter, includeObject, jsonOf, requestFilter } from "./read.ts";

const MAX_BACKLOG = 32 * 1024 * 1024;
const DEFAULT_TIMEOUT_S = 1800;
/** Events that come sooner than this after the last write wait for the rest of it. */
const GATHER_MS = 20;
const INITIAL_END = "k8s.io/initial-events-end";

interface Watcher {
  readonly exchange: Exchange;
  readonly resource: ResourceInfo;
  readonly namespacePrefix: string;
  readonly filter: Filter;
  readonly shape: Shape;
  readonly include: IncludeObject;
  /** Tables carry column definitions in their first event only. */
  definitionsSent: boolean;
  sentRevision: number;
  readonly out: WatchOutput;
}

export function handleWatch(exchange: Exchange, resource: ResourceInfo, namespace: string | undefined): void {
  const { core, query, response } = exchange;
  const asked = query.get("resourceVersion") ?? "";
  if (asked !== "" && !/^\d+$/.test(asked))
    throw badRequest(`Invalid value: ${JSON.stringify(asked)}: resourceVersion must be a number`);
  const sendInitial = query.get("sendInitialEvents") === "true";
  if (sendInitial && query.get("resourceVersionMatch") !== "NotOlderThan") {
    throw badRequest("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
  }
  const watcher: Watcher = {
    exchange,
    resource,
    namespacePrefix: namespace === undefined ? "" : `${namespace}/`,
    filter: requestFilter(resource, query),
    shape: exchange.shape,
    include: includeObject(query),
    definitionsSent: false,
    sentRevision: core.store.revision,
    out: new WatchOutput(response),
  };
  const collection = core.store.collection(resource.collection);
  response.writeHead(200, { "content-type": "application/json", "cache-control": "no-cache, private" });
  response.flushHeaders();

  if (asked === "" || asked === "0" || sendInitial) {
    for (const stored of collection.list(namespace))
      if (watcher.filter?.(stored.object) !== false) sendState(watcher, stored);
    if (sendInitial) sendBookmark(watcher, true);
  } else {
    const missed = collection.since(Number(asked));
    if (missed === "expired") {
      const { status } = expiredError(`too old resource version: ${asked} (${collection.oldestRevision + 1})`);
      sendFailure(watcher, status);
      return;
    }
    for (const event of missed) sendEvent(watcher, event);
  }
  follow(
    watcher,
    collection.listen((event) => sendEvent(watcher, event)),
  );
}

/** Ends with the client, the time limit, or the server. */
function follow(watcher: Watcher, stop: () => void): void {
  const { core, query, response } = watcher.exchange;
  const { out } = watcher;
  const seconds = Number(query.get("timeoutSeconds") ?? "0") || DEFAULT_TIMEOUT_S * (1 + Math.random());
  const bookmarks = query.get("allowWatchBookmarks") === "true";
  const ticker = bookmarks ? setInterval(() => sendBookmark(watcher, false), core.bookmarkIntervalMs) : undefined;
  const finish = (): void => {
    stop();
    clearTimeout(timer);
    clearInterval(ticker);
    core.closing.removeEventListener("abort", finish);
    out.end();
  };
  const timer = setTimeout(
    () => {
      if (bookmarks) sendBookmark(watcher, false);
      finish();
    },
    Math.min(seconds * 1000, 2 ** 31 - 1),
  );
  timer.unref();
  ticker?.unref();
  response.on("close", finish);
  core.closing.addEventListener("abort", finish);
}

/** What the event is to this watcher. */
function sendEvent(watcher: Watcher, event: StoreEvent): void {
  const { current, previous } = event;
  if (!current.key.startsWith(watcher.namespacePrefix)) return;
  const type = visibleType(watcher.filter, event);
  watcher.sentRevision = event.revision;
  if (type === undefined) return;
  // One that stops matching is shown as it was, at the revision of the change.
  const shown =
    type === "DELETED" && event.type !== "DELETED" && previous !== undefined
      ? restamped(previous.object, event.revision)
      : current.object;
  const first = watcher.shape === "table" && !watcher.definitionsSent;
  watcher.definitionsSent = true;
  const { shape, include, resource } = watcher;
  const id = `${type} ${shape} ${include} ${resource.version} ${first}`;
  let bytes = event.encodings.get(id);
  if (bytes === undefined) {
    const text =
      shape === "object" && shown === current.object ? jsonOf(resource, current) : encode(watcher, shown, first);
    bytes = Buffer.from(`{"type":"${type}","object":${text}}\n`);
    event.encodings.set(id, bytes);
  }
  watcher.out.write(bytes);
}

function visibleType(filter: Filter, { type, current, previous }: StoreEvent): EventType | undefined {
  if (filter === undefined) return type;
  const before = previous !== undefined && filter(previous.object);
  const after = type !== "DELETED" && filter(current.object);
  if (after) return before ? "MODIFIED" : "ADDED";
  return before ? "DELETED" : undefined;
}

const restamped = (object: KubeObject, revision: number): KubeObject => ({
  ...object,
  metadata: { ...object.metadata, resourceVersion: String(revision) },
});

function sendState(watcher: Watcher, stored: StoredObject): void {
  const first = watcher.shape === "table" && !watcher.definitionsSent;
  watcher.definitionsSent = true;
  const text = watcher.shape === "object" ? jsonOf(watcher.resource, stored) : encode(watcher, stored.object, first);
  watcher.out.write(Buffer.from(`{"type":"ADDED","object":${text}}\n`));
}

function encode({ shape, resource, include, exchange }: Watcher, object: KubeObject, first: boolean): string {
  switch (shape) {
    case "table": {
      const row = tableRow(resource, object, exchange.core.now(), include);
      const resourceVersion = object.metadata.resourceVersion ?? "";
      return JSON.stringify(tableOf(first ? columnDefinitions(resource) : undefined, [row], { resourceVersion }));
    }
    case "metadata":
      return JSON.stringify(partialMetadata(object));
    case "object":
      return JSON.stringify({ ...object, apiVersion: resource.apiVersion });
  }
}

function sendBookmark(watcher: Watcher, initialEnd: boolean): void {
  const { resource, exchange, shape, out } = watcher;
  const resourceVersion = String(exchange.core.store.revision);
  const annotations = initialEnd ? { annotations: { [INITIAL_END]: "true" } } : {};
  const metadata = { resourceVersion, creationTimestamp: null, ...annotations };
  const object =
    shape === "table"
      ? tableOf(
          undefined,
          [{ cells: [], object: { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata } }],
          { resourceVersion },
        )
      : {
          kind: shape === "metadata" ? "PartialObjectMetadata" : resource.kind,
          apiVersion: shape === "metadata" ? "meta.k8s.io/v1" : resource.apiVersion,
          metadata,
        };
  out.write(Buffer.from(`${JSON.stringify({ type: "BOOKMARK", object })}\n`));
}

function sendFailure({ out }: Watcher, status: Status): void {
  out.write(Buffer.from(`${JSON.stringify({ type: "ERROR", object: status })}\n`));
  out.end();
}

/** The answer of one watch: what is written within a moment leaves in one piece. */
class WatchOutput {
  readonly #response: ServerResponse;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #sentAt = Number.NEGATIVE_INFINITY;
  #waiting: (() => void) | undefined;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  write(bytes: Buffer): void {
    const response = this.#response;
    if (response.writableEnded || response.destroyed) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (response.writableLength + this.#queuedBytes > MAX_BACKLOG) response.destroy();
    else this.#waiting ??= this.#later();
  }

  end(): void {
    this.#flush();
    this.#response.end();
  }

  /** Calls `#flush` when it is time; returns what takes that back. */
  #later(): () => void {
    const rest = this.#sentAt + GATHER_MS - performance.now();
    if (rest > 0) {
      const timer = setTimeout(() => this.#flush(), rest);
      return () => clearTimeout(timer);
    }
    const turn = setImmediate(() => this.#flush());
    return () => clearImmediate(turn);
  }

  #flush(): void {
    this.#waiting?.();
    this.#waiting = undefined;
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    const [first] = queue;
    if (first === undefined || this.#response.writableEnded || this.#response.destroyed) return;
    this.#sentAt = performance.now();
    this.#response.write(queue.length === 1 ? first : Buffer.concat(queue));
  }
}
