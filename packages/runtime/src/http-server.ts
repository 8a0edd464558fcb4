/**
 * The three small HTTP servers of a process: health, metrics, debug. Only GET, only exact paths, a short text or JSON
 * answer; no framework. Close waits for answers under way and drops idle connections.
 */
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { CalicoError, errorText } from "@calico-ts/std";
import type { Registry } from "prom-client";
import { formatHealth, type Health } from "./health.ts";

export interface HttpReply {
  readonly status: number;
  readonly contentType?: string;
  readonly body: string;
}

export type HttpRoutes = Readonly<Record<string, (url: URL) => HttpReply | Promise<HttpReply>>>;

export interface HttpServerOptions {
  /** 0: any free port; read the result's `port`. */
  readonly port: number;
  readonly host?: string;
  readonly routes: HttpRoutes;
  /** Listens on this descriptor (a socket opened in another network namespace) instead of host and port. */
  readonly fd?: number;
}

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
}

/** @throws CalicoError UNAVAILABLE when the address is taken, NO_PERMISSION when the port is privileged. */
export async function openHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const server = createServer((request, response) => {
    request.resume();
    void answer(options.routes, { method: request.method ?? "", url: request.url ?? "/" }, response);
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  await listen(server, options);
  const address = server.address() as AddressInfo | null;
  return {
    port: address?.port ?? options.port,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
        // A client that holds its connection open must not hold up the end of the process.
        setTimeout(() => server.closeAllConnections(), 1000).unref();
      }),
  };
}

/** `/liveness` and `/readiness`: 200 or 503, with the table of reporters. */
export function openHealthServer(
  health: Health,
  options: { readonly port: number; readonly host?: string },
): Promise<HttpServer> {
  const reply = (which: "live" | "ready") => (): HttpReply => {
    const summary = health.summary();
    return { status: summary[which] ? 200 : 503, body: formatHealth(summary) };
  };
  return openHttpServer({ ...options, routes: { "/liveness": reply("live"), "/readiness": reply("ready") } });
}

/** `/metrics` in the Prometheus text format. */
export function openMetricsServer(
  registry: Registry,
  options: { readonly port: number; readonly host?: string },
): Promise<HttpServer> {
  const metrics = async (): Promise<HttpReply> => ({
    status: 200,
    contentType: registry.contentType,
    body: await registry.metrics(),
  });
  return openHttpServer({ ...options, routes: { "/metrics": metrics } });
}

/** `/debug/<name>`: whatever the sources say about themselves, as JSON; `/debug` lists them. */
export function openDebugServer(
  sources: Readonly<Record<string, () => unknown>>,
  options: { readonly port: number; readonly host?: string },
): Promise<HttpServer> {
  const json = (value: unknown): HttpReply => ({
    status: 200,
    contentType: "application/json",
    body: `${JSON.stringify(value, (_key, item: unknown) => (typeof item === "bigint" ? String(item) : item), 2)}\n`,
  });
  const routes: Record<string, () => HttpReply> = { "/debug": () => json(Object.keys(sources)) };
  for (const [name, read] of Object.entries(sources)) routes[`/debug/${name}`] = () => json(read());
  return openHttpServer({ host: "localhost", ...options, routes });
}

async function answer(
  routes: HttpRoutes,
  request: { readonly method: string; readonly url: string },
  response: ServerResponse,
): Promise<void> {
  const send = ({ status, contentType = "text/plain; charset=utf-8", body }: HttpReply): void => {
    response.writeHead(status, { "content-type": contentType, "content-length": Buffer.byteLength(body) });
    response.end(request.method === "HEAD" ? undefined : body);
  };
  try {
    if (request.method !== "GET" && request.method !== "HEAD") {
      send({ status: 405, body: "only GET is answered here\n" });
      return;
    }
    const url = new URL(request.url, "http://localhost");
    const handler = Object.hasOwn(routes, url.pathname) ? routes[url.pathname] : undefined;
    send(handler === undefined ? { status: 404, body: "not found\n" } : await handler(url));
  } catch (error) {
    if (response.headersSent) response.destroy();
    else send({ status: 500, body: `${errorText(error)}\n` });
  }
}

function listen(server: Server, options: HttpServerOptions): Promise<void> {
  const { port, host = "localhost", fd } = options;
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const code = error.code === "EACCES" ? "NO_PERMISSION" : "UNAVAILABLE";
      const hint = error.code === "EADDRINUSE" ? "; another process listens there: stop it or choose another port" : "";
      reject(new CalicoError(code, `cannot listen on ${host}:${port}${hint}`, { cause: error }));
    });
    const listening = (): void => resolve();
    if (fd === undefined) server.listen({ port, host }, listening);
    else server.listen({ fd }, listening);
  });
}
