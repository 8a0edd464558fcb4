/**
 * HTTP to an API server over node:http(s): kept-alive connections, new ones when the credentials change, an idle timer
 * on every socket, abort, and the little that has to be repeated (401 after a token rotation, a kept-alive connection
 * that the server closed under a read, an answer that says when to come back).
 *
 * HTTP/1.1: a watch holds a connection of its own; calls share a few, since a hundred at once (pods that start together) would
 * otherwise shake hands a hundred times. The socket timers are Node's, not a `Clock`'s.
 */
import * as http from "node:http";
import * as https from "node:https";
import { type Clock, cancelled, throwIfAborted } from "@calico-ts/runtime";
import { CalicoError, hasCode } from "@calico-ts/std";
import type { ConnectionConfig } from "./config.ts";
import { Credentials, type TlsMaterial } from "./credentials.ts";
import { parseStatusBody, retryAfterHeaderMs, statusError } from "./status-error.ts";

export interface ApiRequest {
  /** In words, for errors. */
  readonly what: string;
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** From the server's root, with the query. */
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpOptions {
  readonly clock: Clock;
  readonly userAgent: string;
  /** A call must be answered within this. */
  readonly callTimeoutMs: number;
}

const MAX_ASKED_RETRIES = 5;
const TOO_LATE = "no answer in time";
const TCP_KEEPALIVE_MS = 15_000;
/** Connections for calls; more wait for one of them. */
const CALLS_AT_ONCE = 16;
const KEPT_CONNECTIONS = 8;

interface Pool {
  readonly fingerprint: string;
  readonly calls: http.Agent;
  readonly watches: http.Agent;
}

export class ApiHttp implements AsyncDisposable {
  readonly #config: ConnectionConfig;
  readonly #options: HttpOptions;
  readonly #credentials: Credentials;
  readonly #closing = new AbortController();
  #pool: Pool | undefined;

  constructor(config: ConnectionConfig, options: HttpOptions) {
    this.#config = config;
    this.#options = options;
    this.#credentials = new Credentials(config, options.clock);
  }

  /** The parsed JSON of a 2xx answer. @throws CalicoError by the table in status-error.ts */
  async call(request: ApiRequest): Promise<unknown> {
    for (let asked = 0; ; asked++) {
      try {
        return await this.#callOnce(request);
      } catch (error) {
        const waitMs = error instanceof CalicoError ? error.detail["retryAfterMs"] : undefined;
        // The server refused without doing anything and said when to come back.
        if (typeof waitMs !== "number" || !hasCode(error, "UNAVAILABLE") || asked >= MAX_ASKED_RETRIES) throw error;
        await this.#options.clock.sleep(waitMs, request.signal);
      }
    }
  }

  /** An open 2xx answer whose body is still coming. Silence longer than `idleMs` breaks it with TIMEOUT. */
  async open(request: ApiRequest, idleMs: number): Promise<http.IncomingMessage> {
    const response = await this.#send(request, "watches", idleMs);
    if (isSuccess(response)) return response;
    throw await refusal(request, response);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new CalicoError("CANCELLED", "the datastore client was closed"));
    this.#pool?.watches.destroy();
    this.#pool?.calls.destroy(); // also the connections in use: what waits on them is told CANCELLED
  }

  async #callOnce(request: ApiRequest): Promise<unknown> {
    const { callTimeoutMs } = this.#options;
    // By hand: AbortSignal.timeout and .any would keep an object per call alive until the timeout, answered or not.
    const controller = new AbortController();
    const late = setTimeout(() => controller.abort(TOO_LATE), callTimeoutMs);
    const onAbort = (): void => controller.abort(request.signal?.reason);
    request.signal?.addEventListener("abort", onAbort, { once: true });
    if (request.signal?.aborted === true) onAbort();
    try {
      const response = await this.#send({ ...request, signal: controller.signal }, "calls", callTimeoutMs);
      if (!isSuccess(response)) throw await refusal(request, response);
      const text = await readAll(request, response);
      return text === "" ? undefined : JSON.parse(text);
    } catch (error) {
      if (request.signal?.aborted === true) throw cancelled(request.signal);
      if (controller.signal.aborted) throw noAnswer(request, `no answer within ${callTimeoutMs} ms`, error);
      throw error instanceof SyntaxError ? noAnswer(request, "the answer is not JSON", error) : error;
    } finally {
      clearTimeout(late);
      request.signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Sends, once more when credentials were rotated under us or a kept-alive connection had gone away. */
  async #send(request: ApiRequest, lane: Lane, idleMs: number): Promise<http.IncomingMessage> {
    for (let attempt = 0; ; attempt++) {
      let stale = false;
      try {
        const response = await this.#exchange(request, { lane, idleMs }, () => {
          stale = true;
        });
        if (response.statusCode !== 401 || attempt > 0) return response;
        response.resume();
        this.#credentials.invalidate();
      } catch (error) {
        // Only reads: a write may have been done before the connection broke.
        const repeatable = stale && request.method === "GET" && attempt === 0 && hasCode(error, "UNAVAILABLE");
        if (!repeatable || request.signal?.aborted === true) throw error;
      }
    }
  }

  async #exchange(
    request: ApiRequest,
    { lane, idleMs }: { readonly lane: Lane; readonly idleMs: number },
    onStale: () => void,
  ): Promise<http.IncomingMessage> {
    const { tls, headers } = await this.#credentials.current();
    throwIfAborted(this.#closing.signal);
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const secure = this.#config.server.startsWith("https:");
    const outgoing = (secure ? https : http).request(`${this.#config.server}${request.path}`, {
      method: request.method,
      agent: this.#connections(tls, secure)[lane],
      ...(request.signal === undefined ? {} : { signal: request.signal }),
      timeout: idleMs,
      headers: {
        ...headers,
        Accept: "application/json",
        "User-Agent": this.#options.userAgent,
        ...(body === undefined
          ? {}
          : { "Content-Type": request.contentType ?? "application/json", "Content-Length": body.length }),
      },
    });
    outgoing.on("response", resolve);
    outgoing.on("timeout", () => {
      outgoing.destroy(new CalicoError("TIMEOUT", `${request.what}: nothing heard for ${idleMs} ms`));
    });
    outgoing.on("socket", (socket) => socket.setKeepAlive(true, TCP_KEEPALIVE_MS));
    outgoing.on("error", (error) => {
      if (outgoing.reusedSocket) onStale();
      if (this.#closing.signal.aborted) reject(cancelled(this.#closing.signal));
      else if (request.signal?.aborted === true) reject(cancelled(request.signal));
      else
        reject(error instanceof CalicoError ? error : noAnswer(request, `cannot reach ${this.#config.server}`, error));
    });
    outgoing.end(body);
    return promise;
  }

  #connections(tls: TlsMaterial, secure: boolean): Pool {
    if (this.#pool?.fingerprint === tls.fingerprint) return this.#pool;
    // Requests under way on the old pool end by themselves; only its idle connections are let go.
    const old = this.#pool;
    const { serverName, skipVerify } = this.#config.tls;
    const open = (limits: http.AgentOptions): http.Agent =>
      secure
        ? new https.Agent({
            keepAlive: true,
            ...limits,
            ...(tls.ca === undefined ? {} : { ca: tls.ca }),
            ...(tls.cert === undefined ? {} : { cert: tls.cert }),
            ...(tls.key === undefined ? {} : { key: tls.key }),
            ...(serverName === undefined ? {} : { servername: serverName }),
            rejectUnauthorized: !skipVerify,
          })
        : new http.Agent({ keepAlive: true, ...limits });
    this.#pool = {
      fingerprint: tls.fingerprint,
      calls: open({ maxSockets: CALLS_AT_ONCE, maxFreeSockets: KEPT_CONNECTIONS }),
      watches: open({ maxFreeSockets: 1 }),
    };
    for (const agent of [old?.calls, old?.watches]) {
      for (const sockets of Object.values(agent?.freeSockets ?? {}))
        for (const socket of sockets ?? []) socket.destroy();
    }
    return this.#pool;
  }
}

type Lane = "calls" | "watches";

const isSuccess = (response: http.IncomingMessage): boolean =>
  response.statusCode !== undefined && response.statusCode >= 200 && response.statusCode < 300;

async function refusal(request: ApiRequest, response: http.IncomingMessage): Promise<CalicoError> {
  const text = await readAll(request, response);
  const retryAfterMs = retryAfterHeaderMs(response.headers["retry-after"]);
  return statusError(request.what, { status: response.statusCode ?? 0, retryAfterMs }, parseStatusBody(text));
}

async function readAll(request: ApiRequest, response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch (error) {
    throw error instanceof CalicoError
      ? error
      : noAnswer(request, "the connection broke in the middle of the answer", error);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function noAnswer(request: ApiRequest, why: string, cause: unknown): CalicoError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return new CalicoError("UNAVAILABLE", `${request.what}: ${why}`, {
    cause,
    ...(code === "" ? {} : { detail: { network: code } }),
  });
}
