/** The CNI network configuration: from the operator's template or our default, with upstream's `__NAME__` substitutions. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";
import type { InstallOptions } from "./options.ts";
import { replaceFile } from "./replace-file.ts";

/** No `kubernetes.kubeconfig`: the plugin asks the agent, so no token lies on the node. */
const DEFAULT_TEMPLATE = `{
  "name": "k8s-pod-network",
  "cniVersion": "1.0.0",
  "plugins": [
    {
      "type": "calico",
      "agent_socket": "__AGENT_SOCKET__",
      "datastore_type": "__DATASTORE_TYPE__",
      "nodename": "__KUBERNETES_NODE_NAME__",
      "log_level": "__LOG_LEVEL__",
      "mtu": __CNI_MTU__,
      "ipam": { "type": "calico-ipam" },
      "policy": { "type": "k8s" }
    }
  ]
}
`;

/** @throws CalicoError BAD_INPUT when the result is not a CNI configuration */
export function renderConfig(options: InstallOptions): string {
  let text = options.template ?? DEFAULT_TEMPLATE;
  for (const [name, value] of Object.entries(options.substitutions)) text = text.replaceAll(name, value);
  const left = /__[A-Z0-9_]+__/.exec(text);
  if (left !== null) {
    throw new CalicoError(
      "BAD_INPUT",
      `the CNI configuration template holds ${left[0]}, which is no known substitution`,
    );
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new CalicoError("BAD_INPUT", "the CNI configuration is not JSON after substitution", { cause: error });
  }
  if (typeof parsed !== "object" || parsed === null || !("name" in parsed)) {
    throw new CalicoError("BAD_INPUT", 'the CNI configuration has no "name"');
  }
  const plugins = "plugins" in parsed && Array.isArray(parsed.plugins) ? (parsed.plugins as unknown[]) : [parsed];
  if (!plugins.some(isPlugin)) throw new CalicoError("BAD_INPUT", 'the CNI configuration has no plugin with a "type"');
  // Templates written for upstream have no socket: theirs is filled in, so that they work as they are.
  for (const plugin of plugins.filter(isPlugin)) {
    if (plugin.type === "calico") plugin.agent_socket ??= options.substitutions["__AGENT_SOCKET__"];
  }
  return `${JSON.stringify(parsed, null, 2)}\n`;
}

const isPlugin = (value: unknown): value is { readonly type: unknown; agent_socket?: unknown } =>
  typeof value === "object" && value !== null && "type" in value;

/**
 * Writes the file atomically and removes the configurations it supersedes: the one of an earlier name, and the other spelling of its own
 * (`10-calico.conf` against `10-calico.conflist`), since runtimes take the first name in order.
 * @throws CalicoError NO_PERMISSION
 */
export function writeConfig(options: InstallOptions, text: string, say: (line: string) => void): void {
  const { configFolder, configName, oldConfigName } = options;
  const path = join(configFolder, configName);
  const stem = configName.replace(/\.conf(list)?$/, "");
  const superseded = [oldConfigName, `${stem}.conf`, `${stem}.conflist`];
  try {
    if (readIfThere(path) === text) {
      say(`${path} is current`);
    } else {
      replaceFile(path, (partial) => writeFileSync(partial, text, { mode: 0o644 }));
      say(`wrote ${path}`);
    }
    for (const name of readdirSync(configFolder)) {
      if (name === configName || !superseded.includes(name)) continue;
      rmSync(join(configFolder, name), { force: true });
      say(`removed ${name}, which ${configName} supersedes`);
    }
  } catch (error) {
    throw new CalicoError("NO_PERMISSION", `the CNI configuration cannot be put into ${configFolder}`, {
      cause: error,
    });
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
