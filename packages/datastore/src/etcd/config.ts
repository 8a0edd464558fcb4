/** Where etcd is and who we are to it: upstream's environment variables. */
import { readFileSync } from "node:fs";
import { CalicoError } from "@calico-ts/std";

export interface EtcdConfig {
  /** `http(s)://host:port`, one or more. */
  readonly endpoints: readonly string[];
  /** Instead of endpoints: the domain whose SRV records `_etcd-client(-ssl)._tcp` name them. */
  readonly discoverySrv?: string | undefined;
  readonly user?: { readonly name: string; readonly password: string } | undefined;
  /** PEM. */
  readonly ca?: Buffer | undefined;
  readonly cert?: Buffer | undefined;
  readonly key?: Buffer | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * ETCD_ENDPOINTS, ETCD_DISCOVERY_SRV, ETCD_USERNAME, ETCD_PASSWORD, ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE; where one of them
 * is absent, Felix' spelling of it.
 * @throws CalicoError BAD_INPUT: no endpoints, both ways to find them, half a key pair, a file that cannot be read
 */
export function etcdConfigFromEnvironment(env: Environment): EtcdConfig {
  const value = (...names: readonly string[]): string => {
    for (const name of names) if ((env[name] ?? "") !== "") return env[name] ?? "";
    return "";
  };
  const address = value("FELIX_ETCDADDR");
  const fromAddress = address === "" ? "" : `${value("FELIX_ETCDSCHEME") || "http"}://${address}`;
  const endpoints = (value("ETCD_ENDPOINTS", "FELIX_ETCDENDPOINTS") || fromAddress)
    .split(",")
    .map((endpoint) => endpoint.trim())
    .filter((endpoint) => endpoint !== "");
  const discoverySrv = value("ETCD_DISCOVERY_SRV");
  if (endpoints.length > 0 === (discoverySrv !== "")) {
    const why = discoverySrv === "" ? "neither is set" : "both are set";
    throw new CalicoError("BAD_INPUT", `etcd: set ETCD_ENDPOINTS or ETCD_DISCOVERY_SRV; ${why}`);
  }
  for (const endpoint of endpoints) parseEndpoint(endpoint);
  const name = value("ETCD_USERNAME");
  const cert = file("ETCD_CERT_FILE", value("ETCD_CERT_FILE", "FELIX_ETCDCERTFILE"));
  const key = file("ETCD_KEY_FILE", value("ETCD_KEY_FILE", "FELIX_ETCDKEYFILE"));
  if ((cert === undefined) !== (key === undefined)) {
    throw new CalicoError("BAD_INPUT", "etcd: ETCD_CERT_FILE and ETCD_KEY_FILE belong together; only one is set");
  }
  return {
    endpoints,
    discoverySrv: discoverySrv === "" ? undefined : discoverySrv,
    user: name === "" ? undefined : { name, password: value("ETCD_PASSWORD") },
    ca: file("ETCD_CA_CERT_FILE", value("ETCD_CA_CERT_FILE", "FELIX_ETCDCAFILE")),
    cert,
    key,
  };
}

/** @throws CalicoError BAD_INPUT */
export function parseEndpoint(text: string): { readonly target: string; readonly tls: boolean } {
  const match = /^(https?):\/\/([^/]+?):?(\d+)?\/?$/.exec(text);
  if (match?.[2] === undefined) {
    throw new CalicoError("BAD_INPUT", `etcd endpoint "${text}" is not of the form http(s)://host:port`);
  }
  return { target: `${match[2]}:${match[3] ?? "2379"}`, tls: match[1] === "https" };
}

function file(name: string, path: string): Buffer | undefined {
  if (path === "") return undefined;
  try {
    return readFileSync(path);
  } catch (error) {
    throw new CalicoError("BAD_INPUT", `etcd: ${name} names ${path}, which cannot be read`, { cause: error });
  }
}
