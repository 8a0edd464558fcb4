/**
 * A small untyped-at-the-wire Kubernetes client: REST verbs and watch over HTTPS with kept-alive connections.
 *
 * Kubeconfig and authentication come from @kubernetes/client-node; requests are made with node:https because that library
 * opens a connection per request and parses each object into classes, which costs more than the server's own work when
 * 500 pods start at once. API errors become CalicoErrors by their HTTP status and Status reason; nothing else of an error is
 * interpreted. No retries in here: work queues and informers own those.
 */
import http from "node:http";
import https from "node:https";
import { CalicoError, type ErrorCode } from "@calico-ts/std";
import { KubeConfig } from "@kubernetes/client-node";
import type { KubeObject } from "./objects.ts";
import { type Kind, type KindObjects, resourcePath, resourceTypes } from "./resource-types.ts";

export interface ObjectName {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export interface ListOptions {
  readonly namespace?: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
}

export interface WatchOptions extends ListOptions {
  readonly resourceVersion: string;
  readonly signal: AbortSignal;
}

export type WatchEvent<T> =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: T }
  | { readonly type: "BOOKMARK"; readonly object: KubeObject };

export interface Page<T> {
  readonly items: readonly T[];
  readonly resourceVersion: string;
}

const PAGE_SIZE = 1000;
const REQUEST_TIMEOUT_MS = 30_000;
/** The server ends a watch after this long; a little jitter-free variety comes from the order of opening. */
const WATCH_SECONDS = 540;
const CREDENTIALS_MS = 60_000;

export class KubeClient implements Disposable {
  readonly #config: KubeConfig;
  readonly #base: URL;
  readonly #agent: http.Agent;
  readonly #watchAgent: http.Agent;
  #credentials: { readonly options: Promise<https.RequestOptions>; readonly expiresAt: number } | undefined;

  private constructor(config: KubeConfig, base: URL) {
    this.#config = config;
    this.#base = base;
    const Agent = base.protocol === "https:" ? https.Agent : http.Agent;
    this.#agent = new Agent({ keepAlive: true, maxSockets: 24, scheduling: "lifo" });
    this.#watchAgent = new Agent({ keepAlive: false });
  }

  /** @throws CalicoError BAD_INPUT when the file is no kubeconfig. */
  static open(kubeconfig: string): KubeClient {
    const config = new KubeConfig();
    try {
      config.loadFromFile(kubeconfig);
    } catch (cause) {
      throw new CalicoError("BAD_INPUT", `cannot read the kubeconfig ${kubeconfig}`, { cause });
    }
    const server = config.getCurrentCluster()?.server;
    if (server === undefined || !URL.canParse(server)) {
      throw new CalicoError("BAD_INPUT", `the kubeconfig ${kubeconfig} names no server in its current context`);
    }
    return new KubeClient(config, new URL(server));
  }

  /** PEM of the API server's certificate authority, for programs on nodes. */
  get caData(): string | undefined {
    const data = this.#config.getCurrentCluster()?.caData;
    return data === undefined ? undefined : Buffer.from(data, "base64").toString("utf8");
  }

  async list<K extends Kind>(kind: K, options: ListOptions = {}): Promise<Page<KindObjects[K]>> {
    const items: KindObjects[K][] = [];
    let resourceVersion = "";
    let next: string | undefined;
    do {
      const query = listQuery(options);
      query.set("limit", String(PAGE_SIZE));
      if (next !== undefined) query.set("continue", next);
      const path = `${resourcePath(resourceTypes[kind], options.namespace)}?${query.toString()}`;
      const page = await this.#send<ListBody<KindObjects[K]>>("GET", path);
      for (const item of page.items ?? []) items.push(item);
      resourceVersion = page.metadata?.resourceVersion ?? "";
      next = page.metadata?.continue;
    } while (next !== undefined && next !== "");
    return { items, resourceVersion };
  }

  get<K extends Kind>(kind: K, { namespace, name }: ObjectName): Promise<KindObjects[K]> {
    return this.#send("GET", resourcePath(resourceTypes[kind], namespace, name));
  }

  create<K extends Kind>(kind: K, object: KubeObject): Promise<KindObjects[K]> {
    const body = { apiVersion: resourceTypes[kind].apiVersion, kind, ...object };
    return this.#send("POST", resourcePath(resourceTypes[kind], object.metadata.namespace), body);
  }

  /** Compare-and-swap on metadata.resourceVersion when it is set. */
  update<K extends Kind>(kind: K, object: KindObjects[K], subresource?: "status"): Promise<KindObjects[K]> {
    const body = { apiVersion: resourceTypes[kind].apiVersion, kind, ...object };
    const { namespace, name } = object.metadata;
    return this.#send("PUT", resourcePath(resourceTypes[kind], namespace, name, subresource), body);
  }

  /** A JSON merge patch (RFC 7386). */
  patch<K extends Kind>(
    kind: K,
    { namespace, name }: ObjectName,
    patch: unknown,
    subresource?: "status",
  ): Promise<KindObjects[K]> {
    const path = resourcePath(resourceTypes[kind], namespace, name, subresource);
    return this.#send("PATCH", path, patch, "application/merge-patch+json");
  }

  /** The object as it is after the call when it lives on (grace period, finalizers); undefined when it is gone. */
  async delete(kind: Kind, { namespace, name }: ObjectName, options: DeleteOptions = {}): Promise<unknown> {
    const body = {
      apiVersion: "v1",
      kind: "DeleteOptions",
      ...(options.uid === undefined ? {} : { preconditions: { uid: options.uid } }),
      ...(options.graceSeconds === undefined ? {} : { gracePeriodSeconds: options.graceSeconds }),
      ...(options.propagation === undefined ? {} : { propagationPolicy: options.propagation }),
    };
    return this.#send("DELETE", resourcePath(resourceTypes[kind], namespace, name), body);
  }

  /** POST to a subresource: `pods/x/binding`, `serviceaccounts/x/token`. */
  createSubresource<R>(kind: Kind, { namespace, name }: ObjectName, what: string, body: unknown): Promise<R> {
    return this.#send("POST", resourcePath(resourceTypes[kind], namespace, name, what), body);
  }

  /** Ends normally when the server closes the stream. @throws CalicoError EXPIRED when the version is too old. */
  async *watch<K extends Kind>(kind: K, options: WatchOptions): AsyncGenerator<WatchEvent<KindObjects[K]>> {
    const query = listQuery(options);
    query.set("watch", "true");
    query.set("allowWatchBookmarks", "true");
    query.set("resourceVersion", options.resourceVersion);
    query.set("timeoutSeconds", String(WATCH_SECONDS));
    const path = `${resourcePath(resourceTypes[kind], options.namespace)}?${query.toString()}`;
    const response = await this.#open({ method: "GET", path, agent: this.#watchAgent, signal: options.signal });
    if ((response.statusCode ?? 0) >= 300) throw errorOf("GET", path, response.statusCode ?? 0, await textOf(response));
    try {
      for await (const line of linesOf(response)) yield parseWatchLine<KindObjects[K]>(line, path);
    } catch (error) {
      if (options.signal.aborted) return;
      throw error;
    } finally {
      response.destroy();
    }
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
    this.#watchAgent.destroy();
  }

  async #send<R>(method: string, path: string, body?: unknown, contentType = "application/json"): Promise<R> {
    const response = await this.#open({
      method,
      path,
      agent: this.#agent,
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body), contentType }),
    });
    const text = await textOf(response);
    const status = response.statusCode ?? 0;
    if (status >= 300) throw errorOf(method, path, status, text);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the API server's schema is the proof
    return parseJson(text, path) as R;
  }

  async #open(request: WireRequest): Promise<http.IncomingMessage> {
    const credentials = await this.#authenticate();
    const body = request.body === undefined ? undefined : Buffer.from(request.body, "utf8");
    const options: https.RequestOptions = {
      ...credentials,
      method: request.method,
      hostname: this.#base.hostname.replace(/^\[|\]$/g, ""),
      path: joinPath(this.#base.pathname, request.path),
      headers: {
        accept: "application/json",
        "user-agent": "calico-sim",
        ...(credentials.headers as http.OutgoingHttpHeaders | undefined),
        ...(body === undefined ? {} : { "content-type": request.contentType, "content-length": body.length }),
      },
      agent: request.agent,
      signal: request.signal,
      ...(this.#base.port === "" ? {} : { port: this.#base.port }),
    };
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
    const wire = (this.#base.protocol === "https:" ? https : http).request(options, resolve);
    wire.setNoDelay(true);
    wire.on("error", (cause) => {
      reject(new CalicoError("UNAVAILABLE", `${request.method} ${request.path}: ${cause.message}`, { cause }));
    });
    wire.end(body);
    return promise;
  }

  /** TLS material and Authorization header. Kept for a minute: credential plugins are processes, tokens live for longer. */
  #authenticate(): Promise<https.RequestOptions> {
    const now = Date.now();
    if (this.#credentials === undefined || this.#credentials.expiresAt < now) {
      this.#credentials = { options: this.#readCredentials(), expiresAt: now + CREDENTIALS_MS };
    }
    return this.#credentials.options;
  }

  async #readCredentials(): Promise<https.RequestOptions> {
    const options: https.RequestOptions = {};
    await this.#config.applyToHTTPSOptions(options);
    return options;
  }
}

export interface DeleteOptions {
  readonly uid?: string;
  readonly graceSeconds?: number;
  readonly propagation?: "Background" | "Foreground" | "Orphan";
}

interface WireRequest {
  readonly method: string;
  readonly path: string;
  readonly agent: http.Agent;
  readonly signal: AbortSignal;
  readonly body?: string;
  readonly contentType?: string;
}

interface ListBody<T> {
  readonly items?: readonly T[] | null;
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
}

interface StatusBody {
  readonly reason?: string;
  readonly message?: string;
  readonly code?: number;
}

function listQuery(options: ListOptions): URLSearchParams {
  const query = new URLSearchParams();
  if (options.fieldSelector !== undefined) query.set("fieldSelector", options.fieldSelector);
  if (options.labelSelector !== undefined) query.set("labelSelector", options.labelSelector);
  return query;
}

const joinPath = (base: string, path: string): string => (base === "/" ? path : base.replace(/\/$/, "") + path);

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CalicoError("UNAVAILABLE", `${path}: the answer is not JSON`, { cause });
  }
}

async function textOf(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- no encoding was set, so chunks are buffers
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch (cause) {
    throw new CalicoError("UNAVAILABLE", "the API server closed the connection in the middle of an answer", { cause });
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function* linesOf(response: http.IncomingMessage): AsyncGenerator<string> {
  response.setEncoding("utf8");
  let rest = "";
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- an encoding was set, so chunks are strings
  for await (const chunk of response as AsyncIterable<string>) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield line;
  }
}

function parseWatchLine<T>(line: string, path: string): WatchEvent<T> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the API server's schema is the proof
  const event = parseJson(line, path) as { readonly type: string; readonly object: T };
  switch (event.type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED":
      return { type: event.type, object: event.object };
    case "BOOKMARK":
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- bookmarks carry an object of metadata alone
      return { type: "BOOKMARK", object: event.object as unknown as KubeObject };
    default: {
      const status = event.object as StatusBody;
      throw errorOf("WATCH", path, status.code ?? 500, JSON.stringify(status));
    }
  }
}

function errorOf(method: string, path: string, status: number, text: string): CalicoError {
  let body: StatusBody = {};
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every field is optional and only read
    body = JSON.parse(text) as StatusBody;
  } catch {
    // A proxy's HTML page or nothing at all: the status code has to do.
  }
  const message = `${method} ${path}: ${body.message ?? `HTTP ${status}`}`;
  return new CalicoError(codeOf(status, body.reason), message, {
    detail: { status, reason: body.reason ?? "" },
  });
}

function codeOf(status: number, reason: string | undefined): ErrorCode {
  switch (status) {
    case 401:
      return "UNAUTHORIZED";
    case 403:
      return "FORBIDDEN";
    case 404:
      return "NOT_FOUND";
    case 409:
      return reason === "AlreadyExists" ? "ALREADY_EXISTS" : "CONFLICT";
    case 410:
      return "EXPIRED";
    case 400:
    case 405:
    case 406:
    case 413:
    case 415:
    case 422:
      return "BAD_INPUT";
    default:
      return "UNAVAILABLE";
  }
}
