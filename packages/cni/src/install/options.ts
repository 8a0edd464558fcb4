/** What the installer's environment says. Variable names are upstream's (inventory §6.1, install-cni). */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";

export interface InstallOptions {
  readonly sourceFolder: string;
  readonly binaryFolders: readonly string[];
  readonly configFolder: string;
  readonly configName: string;
  readonly template: string | undefined;
  readonly skipBinaries: boolean;
  readonly updateBinaries: boolean;
  readonly substitutions: Readonly<Record<string, string>>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws CalicoError BAD_INPUT */
export function readInstallOptions(env: Environment, sourceFolder: string): InstallOptions {
  const root = env["CALICO_HOST_ROOT"] ?? "/host";
  const hostPath = env["CALICO_HOST_ROOT"] ?? "/";
  const configName = env["CNI_CONF_NAME"] ?? "10-calico.conflist";
  if (!/^[\w.-]+\.conf(list)?$/.test(configName)) {
    throw new CalicoError(
      "BAD_INPUT",
      `CNI_CONF_NAME must be a file name ending in .conf or .conflist: "${configName}"`,
    );
  }
  return {
    sourceFolder: env["CALICO_CNI_SOURCE"] ?? sourceFolder,
    // The second is mounted on hosts whose runtime looks elsewhere.
    binaryFolders: [
      join(root, "opt/cni/bin"),
      ...[join(root, "secondary-bin-dir")].filter((folder) => existsSync(folder)),
    ],
    configFolder: join(root, env["CNI_NET_DIR"] ?? "/etc/cni/net.d"),
    configName,
    template: readTemplate(env),
    skipBinaries: readFlag(env, "SKIP_CNI_BINARIES", false),
    updateBinaries: readFlag(env, "UPDATE_CNI_BINARIES", true),
    substitutions: {
      __LOG_LEVEL__: env["LOG_LEVEL"] ?? "Info",
      __LOG_FILE_PATH__: env["CNI_LOG_FILE_PATH"] ?? "/var/log/calico/cni/cni.log",
      __DATASTORE_TYPE__: env["DATASTORE_TYPE"] ?? "kubernetes",
      __KUBERNETES_NODE_NAME__: env["KUBERNETES_NODE_NAME"] ?? env["NODENAME"] ?? "",
      __KUBECONFIG_FILEPATH__: join(hostPath, env["CNI_NET_DIR"] ?? "/etc/cni/net.d", "calico-kubeconfig"),
      __KUBERNETES_SERVICE_HOST__: env["KUBERNETES_SERVICE_HOST"] ?? "",
      __KUBERNETES_SERVICE_PORT__: env["KUBERNETES_SERVICE_PORT"] ?? "",
      __CNI_MTU__: env["CNI_MTU"] ?? "0",
      __AGENT_SOCKET__: join(hostPath, "var/run/calico/cni.sock"),
      __ETCD_ENDPOINTS__: env["ETCD_ENDPOINTS"] ?? "",
    },
  };
}

function readTemplate(env: Environment): string | undefined {
  const file = env["CNI_NETWORK_CONFIG_FILE"];
  if (file === undefined || file === "") return env["CNI_NETWORK_CONFIG"];
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new CalicoError("BAD_INPUT", `CNI_NETWORK_CONFIG_FILE cannot be read: ${file}`, { cause: error });
  }
}

function readFlag(env: Environment, name: string, otherwise: boolean): boolean {
  const text = env[name]?.toLowerCase();
  if (text === undefined || text === "") return otherwise;
  if (["true", "1", "t", "yes"].includes(text)) return true;
  if (["false", "0", "f", "no"].includes(text)) return false;
  throw new CalicoError("BAD_INPUT", `${name} must be true or false, not "${env[name]}"`);
}
