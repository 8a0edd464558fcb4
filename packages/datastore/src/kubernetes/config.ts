/**
 * Where the API server is and who we are: from a kubeconfig file, or from what Kubernetes mounts into a pod.
 *
 * The entries are read by the parsers of @kubernetes/client-node, imported one by one: its main door and its KubeConfig
 * class load the generated API (300 ms and 90 MB a process), these modules 4 ms and 3 MB (docs/decisions/0004).
 */
import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { dirname, resolve } from "node:path";
import { CalicoError } from "@calico-ts/std";
import {
  type Cluster,
  newClusters,
  newContexts,
  newUsers,
  type User,
} from "@kubernetes/client-node/dist/config_types.js";
import { parse } from "yaml";

export interface ConnectionConfig {
  /** Base URL without a trailing slash. */
  readonly server: string;
  readonly tls: {
    readonly caFile?: string | undefined;
    readonly ca?: string | undefined;
    readonly serverName?: string | undefined;
    readonly skipVerify: boolean;
  };
  readonly user: UserConfig;
  /** The namespace of the context or of the pod. */
  readonly namespace: string | undefined;
}

export interface UserConfig {
  readonly token?: string | undefined;
  /** Read again and again: the kubelet replaces it before it expires. */
  readonly tokenFile?: string | undefined;
  readonly cert?: string | undefined;
  readonly certFile?: string | undefined;
  readonly key?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly basic?: { readonly username: string; readonly password: string } | undefined;
  readonly impersonate?: string | undefined;
  /** The kubeconfig user with an exec credential plugin. */
  readonly execUser?: User | undefined;
}

/** @throws CalicoError BAD_INPUT naming the file and what is wrong in it */
export function readKubeconfig(file: string, context?: string): ConnectionConfig {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new CalicoError("BAD_INPUT", `cannot read kubeconfig ${file}`, { cause: error });
  }
  return parseKubeconfig(text, { file, context });
}

export function parseKubeconfig(
  text: string,
  source: { readonly file: string; readonly context?: string | undefined },
): ConnectionConfig {
  const bad = (why: string, cause?: unknown): CalicoError =>
    new CalicoError("BAD_INPUT", `kubeconfig ${source.file}: ${why}`, cause === undefined ? {} : { cause });
  const config = readEntries(text, bad);
  const contextName = source.context ?? config.currentContext;
  if (contextName === undefined || contextName === "") throw bad("no current-context is set");
  const context = config.contexts.find((item) => item.name === contextName);
  if (context === undefined) throw bad(`there is no context "${contextName}"`);
  const cluster = config.clusters.find((item) => item.name === context.cluster);
  if (cluster === undefined) throw bad(`there is no cluster "${context.cluster}" (named by context "${contextName}")`);
  const user = config.users.find((item) => item.name === context.user);
  if (user === undefined && (context.user ?? "") !== "") {
    throw bad(`there is no user "${context.user}" (named by context "${contextName}")`);
  }
  if ((cluster.proxyUrl ?? "") !== "") throw bad(`cluster "${cluster.name}": proxy-url is not supported`);
  const base = dirname(source.file);
  return {
    server: checkServer(cluster.server, bad),
    tls: tlsOf(cluster, base),
    user: user === undefined ? {} : userOf(user, config.tokenFiles.get(user.name), { base, bad }),
    namespace: context.namespace,
  };
}

export interface InClusterOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Where `token`, `ca.crt` and `namespace` are mounted. */
  readonly serviceAccountDir?: string;
}

const SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";

/** @throws CalicoError BAD_INPUT when this process does not run in a pod */
export function readInCluster(options: InClusterOptions = {}): ConnectionConfig {
  const env = options.env ?? process.env;
  const dir = options.serviceAccountDir ?? SERVICE_ACCOUNT_DIR;
  const host = env["KUBERNETES_SERVICE_HOST"] ?? "";
  const port = env["KUBERNETES_SERVICE_PORT"] ?? "";
  if (host === "" || port === "") {
    throw new CalicoError(
      "BAD_INPUT",
      "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: run in a pod, or pass a kubeconfig",
    );
  }
  let namespace: string | undefined;
  try {
    namespace = readFileSync(`${dir}/namespace`, "utf8").trim();
  } catch {
    // Only a default for callers that do not name a namespace; absent in projected mounts without it.
  }
  return {
    server: `https://${isIPv6(host) ? `[${host}]` : host}:${port}`,
    tls: { caFile: `${dir}/ca.crt`, skipVerify: false },
    user: { tokenFile: `${dir}/token` },
    namespace,
  };
}

type Complaint = (why: string, cause?: unknown) => CalicoError;

interface Entries {
  readonly clusters: readonly Cluster[];
  readonly contexts: ReturnType<typeof newContexts>;
  readonly users: readonly User[];
  /** tokenFile by user. The library would read it once and keep the text; we read it when it is needed. */
  readonly tokenFiles: ReadonlyMap<string, string>;
  readonly currentContext: string | undefined;
}

function readEntries(text: string, bad: Complaint): Entries {
  try {
    const raw: unknown = parse(text);
    if (!isRecord(raw)) throw bad("not a kubeconfig: expected a mapping with clusters, contexts and users");
    const tokenFiles = new Map<string, string>();
    const users = (Array.isArray(raw["users"]) ? (raw["users"] as readonly unknown[]) : []).map((entry) => {
      if (!isRecord(entry) || !isRecord(entry["user"])) return entry;
      const { tokenFile, ...user } = entry["user"];
      if (typeof tokenFile === "string") tokenFiles.set(String(entry["name"]), tokenFile);
      return { ...entry, user };
    });
    const current = raw["current-context"];
    return {
      clusters: newClusters(raw["clusters"]),
      contexts: newContexts(raw["contexts"]),
      users: newUsers(users),
      tokenFiles,
      currentContext: typeof current === "string" ? current : undefined,
    };
  } catch (error) {
    throw error instanceof CalicoError ? error : bad("it does not parse", error);
  }
}

function checkServer(server: string, bad: Complaint): string {
  const url = URL.parse(server);
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw bad(`server "${server}" is not an http or https URL`);
  }
  return server.replace(/\/$/, "");
}

const tlsOf = (cluster: Cluster, base: string): ConnectionConfig["tls"] => ({
  ca: fromBase64(cluster.caData),
  caFile: absolute(cluster.caFile, base),
  serverName: cluster.tlsServerName,
  skipVerify: cluster.skipTLSVerify,
});

function userOf(
  user: User,
  tokenFile: string | undefined,
  context: { readonly base: string; readonly bad: Complaint },
): UserConfig {
  const { base, bad } = context;
  if (isRecord(user.authProvider)) {
    const name = String(user.authProvider["name"]);
    throw bad(`user "${user.name}": auth-provider "${name}" was removed from Kubernetes; use exec or a token`);
  }
  const { username, password } = user;
  return {
    // The file wins, as in kubectl: the inline token may be a stale copy.
    token: tokenFile === undefined ? (user.token ?? undefined) : undefined,
    tokenFile: absolute(tokenFile, base),
    cert: fromBase64(user.certData),
    certFile: absolute(user.certFile, base),
    key: fromBase64(user.keyData),
    keyFile: absolute(user.keyFile, base),
    basic: username === undefined || username === null ? undefined : { username, password: password ?? "" },
    impersonate: user.impersonateUser ?? undefined,
    execUser: isRecord(user.exec) ? user : undefined,
  };
}

const fromBase64 = (data: string | null | undefined): string | undefined =>
  data === undefined || data === null || data === "" ? undefined : Buffer.from(data, "base64").toString("utf8");

const absolute = (path: string | null | undefined, base: string): string | undefined =>
  path === undefined || path === null || path === "" ? undefined : resolve(base, path);

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
