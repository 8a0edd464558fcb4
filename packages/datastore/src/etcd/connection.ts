/**
 * Calls to an etcd cluster: one channel per endpoint, the next one when one does not answer, a token when there is a
 * user, and our error codes. A write is repeated elsewhere only when it certainly was not sent.
 */
import type { SrvRecord } from "node:dns";
import { resolveSrv } from "node:dns/promises";
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { CalicoError, type ErrorCode } from "@calico-ts/std";
import { type EtcdConfig, parseEndpoint } from "./config.ts";
import { METHODS, type TxnRequest, type TxnResponse, type WatchRequest, type WatchResponse } from "./messages.ts";

const CALL_TIMEOUT_MS = 30_000;
const CHANNEL_OPTIONS = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
};

/** Streams of watch responses; `cancel` ends one. */
export type WatchStream = ClientDuplexStream<WatchRequest, WatchResponse>;

export class EtcdConnection {
  readonly #config: EtcdConfig;
  #clients: Promise<readonly Client[]> | undefined;
  #at = 0;
  #token: Promise<string> | undefined;

  constructor(config: EtcdConfig) {
    this.#config = config;
  }

  /** `what` is said when it fails. @throws CalicoError */
  async txn(what: string, request: TxnRequest): Promise<TxnResponse> {
    const reads = [...request.success, ...request.failure].every((op) => "requestRange" in op);
    return this.#call(what, METHODS.txn, request, reads);
  }

  /** Forgets what was before the revision. */
  async compact(revision: number): Promise<void> {
    await this.#call("compaction", METHODS.compact, { revision, physical: false }, false);
  }

  /** What goes wrong later comes out of the stream: `failed` makes a CalicoError of it. @throws CalicoError */
  async watch(what: string, request: WatchRequest): Promise<WatchStream> {
    const client = await this.#client();
    const { path, requestSerialize, responseDeserialize } = METHODS.watch;
    const metadata = await this.#metadata(client).catch((error: unknown) => {
      throw toCalicoError(what, error, this.#config);
    });
    const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
    stream.write(request);
    return stream;
  }

  /** A watch was refused, for which etcd has one reason ("permission denied") also when it no longer knows the token. */
  refused(): void {
    this.#token = undefined;
  }

  /** A stream broke: the next one goes to another endpoint, with a new token if the old one has expired. */
  failed(what: string, error: unknown): CalicoError {
    this.#at++;
    if (isStaleToken(error as ServiceError)) this.#token = undefined;
    return toCalicoError(what, error, this.#config);
  }

  async close(): Promise<void> {
    for (const client of (await this.#clients?.catch(() => [])) ?? []) client.close();
  }

  async #call<Q, R>(what: string, method: MethodDefinition<Q, R>, request: Q, repeatable: boolean): Promise<R> {
    const clients = await this.#open();
    let again = this.#config.user !== undefined;
    for (let tried = 1; ; tried++) {
      const client = await this.#client();
      try {
        return await unary(client, method, request, await this.#metadata(client));
      } catch (error) {
        const failure = error as ServiceError;
        if (again && isStaleToken(failure)) {
          again = false;
          this.#token = undefined;
          continue;
        }
        if (failure.code === status.UNAVAILABLE) {
          this.#at++;
          if (tried < clients.length && (repeatable || wasNotSent(failure))) continue;
        }
        throw toCalicoError(what, failure, this.#config);
      }
    }
  }

  async #client(): Promise<Client> {
    const clients = await this.#open();
    const client = clients[this.#at % clients.length];
    if (client === undefined) throw new CalicoError("INTERNAL", "an etcd configuration has endpoints");
    return client;
  }

  #open(): Promise<readonly Client[]> {
    this.#clients ??= this.#connect().catch((error: unknown) => {
      this.#clients = undefined;
      throw error;
    });
    return this.#clients;
  }

  async #connect(): Promise<readonly Client[]> {
    const { ca, cert, key } = this.#config;
    return (await this.#endpoints()).map((endpoint) => {
      const { target, tls } = parseEndpoint(endpoint);
      const security = tls ? credentials.createSsl(ca, key, cert) : credentials.createInsecure();
      return new Client(target, security, CHANNEL_OPTIONS);
    });
  }

  async #endpoints(): Promise<readonly string[]> {
    const { discoverySrv, endpoints } = this.#config;
    if (discoverySrv === undefined) return endpoints;
    const found = await Promise.allSettled([
      resolveSrv(`_etcd-client-ssl._tcp.${discoverySrv}`),
      resolveSrv(`_etcd-client._tcp.${discoverySrv}`),
    ]);
    const named = found.flatMap((result, at) =>
      result.status === "rejected" ? [] : inOrder(result.value).map(srvEndpoint(at === 0 ? "https" : "http")),
    );
    if (named.length > 0) return named;
    const [reason] = found.flatMap((result): unknown[] => (result.status === "rejected" ? [result.reason] : []));
    throw new CalicoError(
      "UNAVAILABLE",
      `no SRV record of ${discoverySrv} names an etcd server (_etcd-client-ssl._tcp, _etcd-client._tcp): check the domain in ETCD_DISCOVERY_SRV and the node's name servers`,
      { cause: reason },
    );
  }

  async #metadata(client: Client): Promise<Metadata> {
    const metadata = new Metadata();
    const { user } = this.#config;
    if (user === undefined) return metadata;
    this.#token ??= unary(client, METHODS.authenticate, user, new Metadata()).then(({ token }) => token);
    try {
      metadata.set("token", await this.#token);
    } catch (error) {
      this.#token = undefined;
      throw error;
    }
    return metadata;
  }
}

/** Lowest priority number first; of equals the one with the largest share (RFC 2782: a client tries them so, choosing among equals as it likes). */
const inOrder = (records: readonly SrvRecord[]): SrvRecord[] =>
  records.toSorted((a, b) => a.priority - b.priority || b.weight - a.weight);

const srvEndpoint =
  (scheme: "http" | "https") =>
  ({ name, port }: SrvRecord): string =>
    `${scheme}://${name}:${port}`;

function unary<Q, R>(client: Client, method: MethodDefinition<Q, R>, request: Q, metadata: Metadata): Promise<R> {
  const { promise, resolve, reject } = Promise.withResolvers<R>();
  client.makeUnaryRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    metadata,
    { deadline: Date.now() + CALL_TIMEOUT_MS },
    (error, value) => {
      if (error !== null) reject(error);
      else if (value === undefined) reject(new CalicoError("INTERNAL", `${method.path} answered nothing`));
      else resolve(value);
    },
  );
  return promise;
}

const isStaleToken = (error: ServiceError): boolean =>
  error.code === status.UNAUTHENTICATED || /invalid auth token/.test(error.details ?? "");

const wasNotSent = (error: ServiceError): boolean =>
  /no connection established|failed to connect|ECONNREFUSED|name resolution/i.test(error.details ?? "");

const CODES: Readonly<Partial<Record<status, ErrorCode>>> = {
  [status.UNAVAILABLE]: "UNAVAILABLE",
  [status.RESOURCE_EXHAUSTED]: "UNAVAILABLE",
  [status.CANCELLED]: "UNAVAILABLE",
  [status.UNKNOWN]: "UNAVAILABLE",
  [status.DEADLINE_EXCEEDED]: "TIMEOUT",
  [status.UNAUTHENTICATED]: "UNAUTHORIZED",
  [status.PERMISSION_DENIED]: "FORBIDDEN",
  [status.OUT_OF_RANGE]: "EXPIRED",
  [status.UNIMPLEMENTED]: "UNSUPPORTED",
};

function toCalicoError(what: string, error: unknown, config: EtcdConfig): CalicoError {
  if (error instanceof CalicoError) return error;
  const { code, details } = error as ServiceError;
  // etcd says so with INVALID_ARGUMENT: authentication is on and no user was given, or the password is wrong.
  const credentialsWrong = /user name is empty|authentication failed/.test(details);
  const ours = credentialsWrong ? "UNAUTHORIZED" : (CODES[code] ?? "INTERNAL");
  const where = config.discoverySrv ?? config.endpoints.join(", ");
  return new CalicoError(ours, `etcd at ${where}: ${what}: ${details}`, { cause: error });
}
