/**
 * Requests to a Kubernetes API server, whichever it is: kubeconfig and credentials through @kubernetes/client-node, then
 * plain HTTPS. Answers come back whole, refusals included, because applying manifests lives off the details of refusals.
 */
import http from "node:http";
import https from "node:https";
import { isObject } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import { KubeConfig } from "@kubernetes/client-node";

export interface ApiRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
}

export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
  /** Texts of `Warning` headers. */
  readonly warnings: readonly string[];
}

export interface ApiConnection extends Disposable {
  readonly server: URL;
  /** @throws CalicoError UNAVAILABLE when there is no answer at all. */
  send(request: ApiRequest): Promise<ApiAnswer>;
}

const REQUEST_TIMEOUT_MS = 30_000;

/** @throws CalicoError BAD_INPUT when the file is no kubeconfig. */
export function connectApi(kubeconfig: string): ApiConnection {
  const config = new KubeConfig();
  try {
    config.loadFromFile(kubeconfig);
  } catch (cause) {
    throw new CalicoError("BAD_INPUT", `${kubeconfig}: cannot be read as a kubeconfig`, { cause });
  }
  const text = config.getCurrentCluster()?.server;
  if (text === undefined || !URL.canParse(text)) {
    throw new CalicoError("BAD_INPUT", `${kubeconfig}: its current context names no server`);
  }
  const server = new URL(text);
  const secure = server.protocol === "https:";
  const agent = new (secure ? https : http).Agent({ keepAlive: true, maxSockets: 16 });
  let credentials: Promise<https.RequestOptions> | undefined;
  const authenticate = async (): Promise<https.RequestOptions> => {
    const options: https.RequestOptions = {};
    try {
      await config.applyToHTTPSOptions(options);
    } catch (cause) {
      throw new CalicoError("BAD_INPUT", `${kubeconfig}: its credentials cannot be used`, { cause });
    }
    return options;
  };

  const send = async ({ method, path, body, contentType }: ApiRequest): Promise<ApiAnswer> => {
    credentials ??= authenticate();
    const { headers, ...tls } = await credentials;
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const { promise, resolve, reject } = Promise.withResolvers<ApiAnswer>();
    const request = (secure ? https : http).request(
      {
        ...tls,
        agent,
        method,
        hostname: server.hostname.replaceAll(/^\[|\]$/g, ""),
        port: server.port,
        path: `${server.pathname.replace(/\/$/, "")}${path}`,
        headers: {
          accept: "application/json",
          "user-agent": "calico-sim",
          ...(headers as http.OutgoingHttpHeaders | undefined),
          ...(payload === undefined
            ? {}
            : { "content-type": contentType ?? "application/json", "content-length": payload.length }),
        },
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            body: parseBody(Buffer.concat(chunks).toString("utf8")),
            warnings: readWarnings(response.headers["warning"]),
          }),
        );
      },
    );
    request.on("error", reject);
    request.end(payload);
    try {
      return await promise;
    } catch (cause) {
      throw new CalicoError("UNAVAILABLE", `${method} ${server.origin}${path}: no answer from the API server`, {
        cause,
      });
    }
  };
  return { server, send, [Symbol.dispose]: () => agent.destroy() };
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** `299 - "unknown field \"spec.x\"", 299 - "…"` (RFC 9111 §5.5, as Kubernetes writes it). */
export function readWarnings(header: string | string[] | undefined): string[] {
  const text = Array.isArray(header) ? header.join(", ") : (header ?? "");
  return [...text.matchAll(/\d{3} \S+ "((?:[^"\\]|\\.)*)"/g)].map((match) =>
    (match[1] ?? "").replaceAll(/\\(.)/g, "$1"),
  );
}

/** The message of a Status object, or the best there is. */
export function answerText({ status, body }: ApiAnswer): string {
  if (isObject(body) && typeof body["message"] === "string") return body["message"];
  return `HTTP ${status}`;
}
