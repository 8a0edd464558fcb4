/** The CNI network configuration: from the operator's template or our default, with upstream's `__NAME__` substitutions. */
import { mkdirSync, readdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";
import type { InstallOptions } from "./options.ts";

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
  return withAgentSocket(parsed, options.substitutions["__AGENT_SOCKET__"] ?? "");
}

/** Templates written for upstream have no socket: theirs is filled in, so that they work as they are. */
function withAgentSocket(config: object, socket: string): string {
  const plugins = "plugins" in config && Array.isArray(config.plugins) ? (config.plugins as unknown[]) : [config];
  for (const plugin of plugins) {
    if (typeof plugin !== "object" || plugin === null || !("type" in plugin)) continue;
    if (plugin.type === "calico" && !("agent_socket" in plugin)) Object.assign(plugin, { agent_socket: socket });
  }
  return `${JSON.stringify(config, null, 2)}\n`;
}

/**
 * Writes the file atomically and removes the configuration it supersedes: the other spelling of our own file
 * (`10-calico.conf` against `10-calico.conflist`), since runtimes take the first name in order.
 */
export function writeConfig(options: InstallOptions, text: string, say: (line: string) => void): void {
  mkdirSync(options.configFolder, { recursive: true });
  const path = join(options.configFolder, options.configName);
  if (readIfThere(path) === text) {
    say(`${path} is current`);
  } else {
    const partial = join(options.configFolder, `.${options.configName}.partial`);
    writeFileSync(partial, text, { mode: 0o644 });
    renameSync(partial, path);
    say(`wrote ${path}`);
  }
  const stem = options.configName.replace(/\.conf(list)?$/, "");
  for (const name of readdirSync(options.configFolder)) {
    if (name !== options.configName && (name === `${stem}.conf` || name === `${stem}.conflist`)) {
      unlinkSync(join(options.configFolder, name));
      say(`removed ${name}, which ${options.configName} supersedes`);
    }
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
