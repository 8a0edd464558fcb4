/**
 * One HTTP request and its answer: parsed target, user, body, content negotiation, warnings.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { gzip } from "node:zlib";
import { promisify } from "node:util";
import { parse as parseYaml } from "yaml";
import type { ApiCore } from "../core.ts";
import { ApiError, badRequest, internalError, type Status } from "../meta/api-error.ts";
import type { User } from "../registry/resource.ts";
import { decodeProtobuf } from "../wire/decode.ts";
import type { RequestInfo } from "./request-info.ts";

const MAX_BODY = 3 * 1024 * 1024;
const GZIP_FROM = 128 * 1024;
const compress = promisify(gzip);

export type Shape = "object" | "table" | "metadata";

export class Exchange {
  readonly core: ApiCore;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly user: User;
  readonly info: RequestInfo;
  readonly query: URLSearchParams;
  readonly #warnings: string[] = [];

  constructor(
    core: ApiCore,
    http: { readonly request: IncomingMessage; readonly response: ServerResponse },
    asked: { readonly user: User; readonly info: RequestInfo; readonly query: URLSearchParams },
  ) {
    this.core = core;
    this.request = http.request;
    this.response = http.response;
    this.user = asked.user;
    this.info = asked.info;
    this.query = asked.query;
  }

  readonly warn = (text: string): void => {
    if (!this.#warnings.includes(text) && this.#warnings.length < 50) this.#warnings.push(text);
  };

  /** What the client wants objects turned into: `;as=Table`, `;as=PartialObjectMetadata(List)`. */
  get shape(): Shape {
    for (const part of (this.request.headers.accept ?? "").split(",")) {
      if (/;\s*as=Table/.test(part) && part.includes("application/json")) return "table";
      if (/;\s*as=PartialObjectMetadata(List)?/.test(part) && part.includes("application/json")) return "metadata";
      if (/^\s*(application\/json|\*\/\*|application\/\*)\s*(;\s*(q|stream)=[^;]*)?$/.test(part)) return "object";
    }
    return "object";
  }

  /** The user agent up to the first slash is the field manager of clients that name none. */
  get fieldManager(): string {
    const named = this.query.get("fieldManager");
    if (named !== null && named !== "") return named;
    return (this.request.headers["user-agent"] ?? "unknown").split("/")[0] ?? "unknown";
  }

  get dryRun(): boolean {
    const values = this.query.getAll("dryRun");
    if (values.length === 0) return false;
    if (values.every((value) => value === "All")) return true;
    throw new ApiError(
      422,
      "Invalid",
      `Invalid value: ${JSON.stringify(values)}: dryRun: Unsupported value: ${JSON.stringify(values[0])}: supported values: "All"`,
    );
  }

  /** @throws ApiError 413, 400 */
  async readBody(): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.request) {
      const bytes = chunk as Buffer;
      size += bytes.length;
      if (size > MAX_BODY) {
        throw new ApiError(413, "RequestEntityTooLarge", `Request entity too large: limit is ${MAX_BODY}`);
      }
      chunks.push(bytes);
    }
    return Buffer.concat(chunks);
  }

  /** JSON, or YAML where the content type says so. Undefined for an empty body. */
  async readValue(): Promise<unknown> {
    const bytes = await this.readBody();
    const type = this.request.headers["content-type"] ?? "";
    if (bytes.length > 0 && type.includes("application/vnd.kubernetes.protobuf")) {
      return decodeProtobuf(bytes, (apiVersion, kind) => typeOfKind(this.core, apiVersion, kind));
    }
    const text = bytes.toString("utf8");
    if (text.trim() === "") return undefined;
    return parseBody(text, type.includes("yaml"));
  }

  sendJson(code: number, text: string): void {
    const { response } = this;
    this.#headers(code, "application/json");
    const bytes = Buffer.from(text);
    if (bytes.length > GZIP_FROM && /\bgzip\b/.test(this.request.headers["accept-encoding"] ?? "")) {
      void this.#sendPacked(bytes);
      return;
    }
    response.setHeader("content-length", bytes.length);
    this.#finish(bytes);
  }

  async #sendPacked(bytes: Buffer): Promise<void> {
    const packed = await compress(bytes, { level: 1 });
    this.response.setHeader("content-encoding", "gzip");
    this.response.setHeader("vary", "Accept-Encoding");
    this.response.setHeader("content-length", packed.length);
    this.#finish(packed);
  }

  sendText(code: number, text: string, type = "text/plain; charset=utf-8"): void {
    this.#headers(code, type);
    this.#finish(Buffer.from(text));
  }

  sendBytes(code: number, bytes: Uint8Array, type: string): void {
    this.#headers(code, type);
    this.#finish(bytes);
  }

  sendStatus(status: Status): void {
    const retry = status.details?.retryAfterSeconds;
    if (retry !== undefined && !this.response.headersSent) this.response.setHeader("retry-after", retry);
    this.sendJson(status.code ?? 200, JSON.stringify(status));
  }

  sendError(error: unknown): void {
    if (this.response.headersSent) {
      this.response.destroy();
      return;
    }
    this.sendStatus(
      (error instanceof ApiError ? error : internalError(error instanceof Error ? error.message : String(error)))
        .status,
    );
  }

  #headers(code: number, type: string): void {
    this.response.statusCode = code;
    this.response.setHeader("content-type", type);
    if (this.#warnings.length > 0) {
      this.response.setHeader(
        "warning",
        this.#warnings.map((text) => `299 - ${quoted(text)}`),
      );
    }
  }

  #finish(bytes: Uint8Array): void {
    if (this.request.method === "HEAD") this.response.end();
    else this.response.end(bytes);
  }
}

/** Kinds that are asked of subresources, besides those the registry knows. */
const SUBRESOURCE_TYPES: { readonly [kind: string]: string } = {
  "policy/v1 Eviction": "V1Eviction",
  "authentication.k8s.io/v1 TokenRequest": "AuthenticationV1TokenRequest",
  "autoscaling/v1 Scale": "V1Scale",
};

function typeOfKind({ registry }: ApiCore, apiVersion: string, kind: string): string | undefined {
  const known =
    registry.findKind(apiVersion, kind) ??
    registry.reviews().find((review) => review.apiVersion === apiVersion && review.kind === kind);
  return known?.schema["x-type"] ?? SUBRESOURCE_TYPES[`${apiVersion} ${kind}`];
}

/** A quoted-string of RFC 9110; characters a header cannot carry are replaced. */
const quoted = (text: string): string =>
  `"${text.replaceAll(/[^\t\u0020-\u007e]/g, "?").replaceAll(/["\\]/g, "\\$&")}"`;

function parseBody(text: string, yaml: boolean): unknown {
  if (!yaml || text.trimStart().startsWith("{")) {
    try {
      return JSON.parse(text) as unknown;
    } catch (error) {
      if (!yaml)
        throw badRequest(
          `the object provided is unrecognized (must be of type JSON): ${error instanceof Error ? error.message : ""}`,
        );
    }
  }
  try {
    return parseYaml(text, { maxAliasCount: 100 }) as unknown;
  } catch (error) {
    throw badRequest(`error converting YAML to JSON: ${error instanceof Error ? error.message : ""}`);
  }
}
