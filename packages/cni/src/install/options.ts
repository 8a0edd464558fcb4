/** What the installer's environment says. Variable names are upstream's (inventory §6.1, install-cni). */
import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";

export interface InstallOptions {
  readonly sourceFolder: string;
  readonly binaryFolders: readonly string[];
  readonly configFolder: string;
  readonly configName: string;
  /** The name that the configuration may have had before. */
  readonly oldConfigName: string;
  readonly template: string | undefined;
  readonly skippedBinaries: ReadonlySet<string>;
  readonly updateBinaries: boolean;
  readonly substitutions: Readonly<Record<string, string>>;
}

type Environment = Readonly<Record<string, string | undefined>>;

const CONFIG_FOLDER = "/etc/cni/net.d";
const CONFIG_NAME = "10-calico.conflist";

/** @throws CalicoError BAD_INPUT */
export function readInstallOptions(env: Environment, sourceFolder: string): InstallOptions {
  const hostRoot = env["CALICO_HOST_ROOT"];
  const root = hostRoot ?? "/host";
  const hostConfigFolder = join(hostRoot ?? "/", text(env, "CNI_NET_DIR", CONFIG_FOLDER));
  return {
    sourceFolder: env["CALICO_CNI_SOURCE"] ?? sourceFolder,
    // The second is mounted on hosts whose runtime looks elsewhere.
    binaryFolders: [
      join(root, "opt/cni/bin"),
      ...[join(root, "secondary-bin-dir")].filter((folder) => existsSync(folder)),
    ],
    // CNI_NET_DIR is the host's path; whichever it is, upstream's manifests mount it at one place.
    configFolder: hostRoot === undefined ? join(root, CONFIG_FOLDER) : hostConfigFolder,
    configName: configName(env, "CNI_CONF_NAME"),
    oldConfigName: configName(env, "CNI_OLD_CONF_NAME"),
    template: readTemplate(env),
    skippedBinaries: new Set(
      text(env, "SKIP_CNI_BINARIES", "")
        .split(",")
        .map((name) => name.trim()),
    ),
    updateBinaries: readFlag(env, "UPDATE_CNI_BINARIES", true),
    substitutions: substitutions(env, hostConfigFolder, join(hostRoot ?? "/", "var/run/calico/cni.sock")),
  };
}

/** What stands for what in a template. Credentials stand for nothing: the plugin needs none. */
function substitutions(env: Environment, configFolder: string, socket: string): Record<string, string> {
  return {
    __LOG_LEVEL__: text(env, "LOG_LEVEL", "info"),
    __LOG_FILE_PATH__: text(env, "LOG_FILE_PATH", text(env, "CNI_LOG_FILE_PATH", "/var/log/calico/cni/cni.log")),
    __LOG_FILE_MAX_SIZE__: number(env, "LOG_FILE_MAX_SIZE", "100"),
    __LOG_FILE_MAX_AGE__: number(env, "LOG_FILE_MAX_AGE", "30"),
    __LOG_FILE_MAX_COUNT__: number(env, "LOG_FILE_MAX_COUNT", "10"),
    __DATASTORE_TYPE__: text(env, "DATASTORE_TYPE", "kubernetes"),
    __KUBERNETES_NODE_NAME__: text(env, "KUBERNETES_NODE_NAME", text(env, "NODENAME", hostname().toLowerCase())),
    __KUBECONFIG_FILEPATH__: join(configFolder, "calico-kubeconfig"),
    __KUBERNETES_SERVICE_HOST__: text(env, "KUBERNETES_SERVICE_HOST", ""),
    __KUBERNETES_SERVICE_PORT__: text(env, "KUBERNETES_SERVICE_PORT", ""),
    __SERVICEACCOUNT_TOKEN__: "",
    __CNI_MTU__: number(env, "CNI_MTU", "0"),
    __AGENT_SOCKET__: socket,
    __ETCD_ENDPOINTS__: text(env, "ETCD_ENDPOINTS", ""),
    __ETCD_DISCOVERY_SRV__: text(env, "ETCD_DISCOVERY_SRV", ""),
    __ETCD_CERT_FILE__: "",
    __ETCD_KEY_FILE__: "",
    __ETCD_CA_CERT_FILE__: "",
  };
}

/** Manifests leave variables empty that they do not mean. */
const text = (env: Environment, name: string, otherwise: string): string => env[name] || otherwise;

function number(env: Environment, name: string, otherwise: string): string {
  const value = text(env, name, otherwise);
  if (/^\d+$/.test(value)) return value;
  throw new CalicoError("BAD_INPUT", `${name} must be a number, not "${value}"`);
}

function configName(env: Environment, variable: string): string {
  const name = text(env, variable, CONFIG_NAME);
  if (/^[\w.-]+\.conf(list)?$/.test(name)) return name;
  throw new CalicoError("BAD_INPUT", `${variable} must be a file name ending in .conf or .conflist, not "${name}"`);
}

function readTemplate(env: Environment): string | undefined {
  const file = text(env, "CNI_NETWORK_CONFIG_FILE", "");
  if (file === "") return text(env, "CNI_NETWORK_CONFIG", "") || undefined;
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new CalicoError("BAD_INPUT", `CNI_NETWORK_CONFIG_FILE cannot be read: ${file}`, { cause: error });
  }
}

function readFlag(env: Environment, name: string, otherwise: boolean): boolean {
  const value = text(env, name, String(otherwise)).toLowerCase();
  if (["true", "1", "t", "yes"].includes(value)) return true;
  if (["false", "0", "f", "no"].includes(value)) return false;
  throw new CalicoError("BAD_INPUT", `${name} must be true or false, not "${env[name]}"`);
}
