/** Test clients: one server per file, raw HTTPS as any user, watches as lists of events. */
import { request as httpsRequest, type RequestOptions } from "node:https";
import type { IncomingMessage } from "node:http";
import { type ApiServer, type ApiServerOptions, startApiServer } from "../src/index.ts";

export interface Answer {
  readonly code: number;
  readonly headers: IncomingMessage["headers"];
  // oxlint-disable-next-line typescript/no-explicit-any -- tests look at whatever JSON comes back
  readonly body: any;
  readonly text: string;
}

export interface CallOptions {
  readonly body?: unknown;
  readonly type?: string;
  readonly token?: string;
  readonly accept?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Harness extends AsyncDisposable {
  readonly server: ApiServer;
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  get(path: string, options?: CallOptions): Promise<Answer>;
  create(path: string, body: unknown): Promise<Answer>;
  patch(path: string, type: string, body: unknown): Promise<Answer>;
  /** As the admin with a certificate unless a token is given. "" is nobody. */
  watch(path: string): Watching;
}

export interface WatchedEvent {
  readonly type: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- see Answer
  readonly object: any;
}

export interface Watching {
  readonly events: WatchedEvent[];
  readonly ended: Promise<void>;
  until(condition: (events: readonly WatchedEvent[]) => boolean): Promise<void>;
  stop(): void;
}

export async function startHarness(options: ApiServerOptions = {}): Promise<Harness> {
  const server = await startApiServer(options);
  const admin = await server.issueClientCertificate({ user: "admin", groups: ["system:masters"] });
  const optionsFor = (method: string, path: string, { token, type, accept, headers }: CallOptions): RequestOptions => ({
    host: "127.0.0.1",
    port: server.port,
    method,
    path,
    ca: server.ca,
    agent: false,
    ...(token === undefined ? { cert: admin.certificate, key: admin.key } : {}),
    headers: {
      ...(token === undefined || token === "" ? {} : { authorization: `Bearer ${token}` }),
      "content-type": type ?? "application/json",
      accept: accept ?? "application/json",
      "user-agent": "test/1",
      ...headers,
    },
  });
  const call: Harness["call"] = (method, path, how = {}) => {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const outgoing = httpsRequest(optionsFor(method, path, how), (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const json = text.startsWith("{") || text.startsWith("[");
        resolve({
          code: response.statusCode ?? 0,
          headers: response.headers,
          text,
          body: json ? JSON.parse(text) : undefined,
        });
      });
    });
    outgoing.on("error", reject);
    const { body } = how;
    const bytes =
      body === undefined || typeof body === "string" || body instanceof Buffer ? (body ?? "") : JSON.stringify(body);
    // Without a length Node sends the body of a DELETE unframed.
    outgoing.setHeader("content-length", Buffer.byteLength(bytes));
    outgoing.end(bytes);
    return promise;
  };
  return {
    server,
    call,
    get: (path, how) => call("GET", path, how),
    create: (path, body) => call("POST", path, { body }),
    patch: (path, type, body) => call("PATCH", path, { body, type }),
    watch: (path) => openWatch(optionsFor("GET", path, {})),
    [Symbol.asyncDispose]: () => server.close(),
  };
}

function openWatch(options: RequestOptions): Watching {
  const events: WatchedEvent[] = [];
  let waiting: (() => void)[] = [];
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  let pending = "";
  const outgoing = httpsRequest(options, (response) => {
    response.on("data", (chunk: Buffer) => {
      const lines = (pending + chunk.toString("utf8")).split("\n");
      pending = lines.pop() ?? "";
      for (const line of lines) events.push(JSON.parse(line) as WatchedEvent);
      for (const wake of waiting.splice(0)) wake();
    });
    response.on("close", () => end());
  });
  outgoing.on("error", () => end());
  outgoing.end();
  return {
    events,
    ended,
    async until(condition) {
      const deadline = Date.now() + 5000;
      while (!condition(events)) {
        if (Date.now() > deadline)
          throw new Error(
            `the watch did not show what was expected: ${JSON.stringify(events.map((e) => [e.type, e.object.metadata?.name]))}`,
          );
        await Promise.race([
          new Promise<void>((wake) => waiting.push(wake)),
          new Promise((wake) => setTimeout(wake, 50)),
        ]);
      }
      waiting = [];
    },
    stop: () => outgoing.destroy(),
  };
}

/** Waits until the condition holds. */
export async function eventually(condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error("the condition did not come true within 5 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export const pod = (name: string, extra: object = {}): object => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, ...extra },
  spec: { containers: [{ name: "c", image: "nginx:1" }] },
});

export const PODS = "/api/v1/namespaces/default/pods";
