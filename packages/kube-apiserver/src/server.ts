/**
 * START HERE: the server, top to bottom. Every room is one line of `createCore`, in the order a request meets them.
 *
 *   socket ─▶ authenticate (auth/) ─▶ parse URL (handlers/request-info) ─▶ RBAC (auth/authorize) ─▶ handlers/
 *     read:  store (storage/) ─▶ filter (selectors/) ─▶ text, Table (tables/)
 *     write: decode ─▶ default ─▶ mutate (admission/) ─▶ validate ─▶ store      (objects/, patch/, registry/)
 *   store events ─▶ watchers (handlers/watch) and the server's own controllers (controllers/)
 *
 * One process, one thread, nothing on disk. What this server does not do: exec, attach and port-forward, aggregation of other
 * API servers, CRD conversion webhooks, protobuf, quota and limit-range enforcement, audit.
 */
import { randomInt } from "node:crypto";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { parsePrefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { admission } from "./admission/admission.ts";
import { Authenticator } from "./auth/authenticate.ts";
import { Authorizer } from "./auth/authorize.ts";
import { createAuthority, type Identity, type KeyPair } from "./auth/certificates.ts";
import { TokenService } from "./auth/tokens.ts";
import { bootstrap } from "./controllers/bootstrap.ts";
import { startAggregationController, startDefinitionController } from "./controllers/definitions.ts";
import { startEventExpiry } from "./controllers/event-expiry.ts";
import { startGarbageCollector } from "./controllers/garbage-collector.ts";
import { startNamespaceController } from "./controllers/namespace.ts";
import type { ApiCore, PodLogs } from "./core.ts";
import { handleRequest } from "./handlers/router.ts";
import { formatKubeconfig } from "./kubeconfig.ts";
import { builtinResources, reviewResources } from "./registry/builtin.ts";
import { kubernetesServiceAddress, type ServiceNetwork } from "./registry/kinds/service.ts";
import { Registry } from "./registry/registry.ts";
import type { User } from "./registry/resource.ts";
import { Store } from "./storage/store.ts";

export interface ApiServerOptions {
  /** Address and port of the first listener. Default 127.0.0.1 and a free port. */
  readonly host?: string;
  readonly port?: number;
  /** Listening sockets somebody else opened, e.g. inside other network namespaces. The server takes them over. */
  readonly listenFds?: readonly number[];
  /** More names and addresses the serving certificate is good for. */
  readonly certificateNames?: readonly string[];
  readonly certificateAddresses?: readonly string[];
  /** What the endpoints of the service `kubernetes` say. Default: the first listener. */
  readonly advertise?: { readonly address: string; readonly port: number };
  /** Cluster IP ranges, primary family first. Default 10.96.0.0/12. */
  readonly serviceCidrs?: readonly string[];
  readonly nodePorts?: { readonly first: number; readonly last: number };
  /** Reported by /version. Default v1.32.4. */
  readonly version?: string;
  readonly podLogs?: PodLogs;
  /** Events kept per resource for watches that start in the past. Default 10 000. */
  readonly watchWindow?: number;
  readonly bookmarkIntervalMs?: number;
  readonly staticTokens?: readonly { readonly token: string; readonly user: User }[];
  readonly now?: () => number;
}

export interface ApiServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** PEM of the certificate authority. */
  readonly ca: string;
  readonly store: Store;
  /** A kubeconfig for a member of system:masters; `server` replaces the URL, e.g. for another namespace. */
  adminKubeconfig(options?: { readonly server?: string }): Promise<string>;
  /** A kubeconfig with a fresh client certificate for any user and groups. */
  kubeconfig(identity: Identity, options?: { readonly server?: string }): Promise<string>;
  issueClientCertificate(identity: Identity): Promise<KeyPair>;
  /** A token for an existing service account. */
  issueToken(
    namespace: string,
    account: string,
    options?: { readonly expirationSeconds?: number; readonly audiences?: readonly string[] },
  ): Promise<string>;
  /** Takes over one more listening socket. */
  listenFd(fd: number): Promise<void>;
  close(): Promise<void>;
}

const DEFAULT_SERVICE_CIDR = "10.96.0.0/12";
const LINGER_MS = 50;
const NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789";

export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const closing = new AbortController();
  const network: ServiceNetwork = {
    ranges: (options.serviceCidrs ?? [DEFAULT_SERVICE_CIDR]).map((text) => parsePrefix(text)),
    nodePorts: options.nodePorts ?? { first: 30_000, last: 32_767 },
  };
  const core = await createCore(options, network, closing.signal);
  const host = options.host ?? "127.0.0.1";
  const tls = await servingCertificate(core, options, network);
  const sockets = new Set<Duplex>();
  const createListener = (): Server => {
    const server = createServer(
      {
        ...tls,
        ca: core.authority.certificate,
        requestCert: true,
        rejectUnauthorized: false,
        keepAliveTimeout: 120_000,
      },
      (request, response) => {
        void handleRequest(core, request, response);
      },
    );
    server.on("connection", (socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    });
    server.requestTimeout = 0;
    server.timeout = 0;
    return server;
  };
  const listeners: Server[] = [];
  const listen = async (
    where: { readonly fd: number } | { readonly host: string; readonly port: number },
  ): Promise<Server> => {
    const server = createListener();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", (error) =>
      reject(
        new CalicoError("UNAVAILABLE", `the API server cannot listen on ${JSON.stringify(where)}`, { cause: error }),
      ),
    );
    server.listen(where, resolve);
    await promise;
    listeners.push(server);
    return server;
  };
  const first = await listen({ host, port: options.port ?? 0 });
  const { port } = first.address() as AddressInfo;
  for (const fd of options.listenFds ?? []) await listen({ fd });

  const controllers = [
    startNamespaceController(core),
    startGarbageCollector(core),
    startDefinitionController(core),
    startEventExpiry(core),
  ];
  await bootstrap(core, { network, advertise: options.advertise ?? { address: host, port } });
  controllers.push(startAggregationController(core));

  const url = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  const kubeconfig: ApiServer["kubeconfig"] = async (identity, { server = url } = {}) =>
    formatKubeconfig({
      server,
      ca: core.authority.certificate,
      user: identity.user,
      pair: await core.authority.issueClient(identity),
    });
  const close = async (): Promise<void> => {
    closing.abort();
    for (const controller of controllers) controller[Symbol.dispose]();
    await Promise.all(listeners.splice(0).map((server) => closeListener(server, sockets)));
  };
  return {
    url,
    port,
    ca: core.authority.certificate,
    store: core.store,
    kubeconfig,
    adminKubeconfig: (where) => kubeconfig({ user: "kubernetes-admin", groups: ["system:masters"] }, where),
    issueClientCertificate: (identity) => core.authority.issueClient(identity),
    async issueToken(namespace, account, { expirationSeconds = 3600, audiences = [] } = {}) {
      return (await core.tokens.issue({ namespace, account, audiences, expirationSeconds })).token;
    },
    async listenFd(fd) {
      await listen({ fd });
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function createCore(options: ApiServerOptions, network: ServiceNetwork, closing: AbortSignal): Promise<ApiCore> {
  const now = options.now ?? Date.now;
  const store = new Store({ watchWindow: options.watchWindow ?? 10_000 });
  const registry = new Registry(builtinResources(network), reviewResources(), store);
  const tokens = new TokenService(store, now);
  const authenticator = new Authenticator(tokens);
  for (const token of options.staticTokens ?? []) authenticator.addStaticToken(token);
  return {
    store,
    registry,
    tokens,
    authenticator,
    authorizer: new Authorizer(store),
    authority: await createAuthority(now),
    admission,
    version: options.version ?? "v1.32.4",
    podLogs: options.podLogs,
    now,
    suffix: (length) => Array.from({ length }, () => NAME_LETTERS[randomInt(NAME_LETTERS.length)]).join(""),
    bookmarkIntervalMs: options.bookmarkIntervalMs ?? 60_000,
    closing,
  };
}

async function servingCertificate(
  core: ApiCore,
  options: ApiServerOptions,
  network: ServiceNetwork,
): Promise<{ key: string; cert: string }> {
  const names = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    ...(options.certificateNames ?? []),
  ];
  const addresses = new Set([
    "127.0.0.1",
    "::1",
    ...network.ranges.map(kubernetesServiceAddress),
    ...(options.certificateAddresses ?? []),
  ]);
  if (options.host !== undefined) addresses.add(options.host);
  if (options.advertise !== undefined) addresses.add(options.advertise.address);
  const pair = await core.authority.issueServer(
    names,
    [...addresses].filter((text) => text !== "0.0.0.0" && text !== "::"),
  );
  return { key: pair.key, cert: `${pair.certificate}${core.authority.certificate}` };
}

/** Watches ended when `closing` aborted; what is still open a moment later belongs to clients that do not hang up. */
function closeListener(server: Server, sockets: ReadonlySet<Duplex>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, LINGER_MS);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    server.closeIdleConnections();
  });
}
