/**
 * `install-cni`: puts the CNI executables and the network configuration on the node. Runs as an init container of calico-node.
 * `install-cni uninstall` takes them away again.
 *
 * Paths are those of the host, mounted under `/host` as upstream's manifests do; `CALICO_HOST_ROOT` replaces `/host` where host paths
 * are reachable directly, and then the agent's socket is looked for below it too.
 */
import { errorText } from "@calico-ts/std";
import { installBinaries } from "./binaries.ts";
import { renderConfig, writeConfig } from "./conflist.ts";
import { readInstallOptions } from "./options.ts";
import { uninstall } from "./uninstall.ts";

const USAGE = `install-cni              puts the CNI executables and the network configuration on this node
install-cni uninstall    takes them away again

The environment says the rest: CNI_CONF_NAME, CNI_NETWORK_CONFIG, CNI_MTU and others (README of @calico-ts/cni).
`;

function main(args: readonly string[]): number {
  const [command, ...more] = args;
  if (command === "--help" || command === "-h") {
    process.stdout.write(USAGE);
    return 0;
  }
  if ((command !== undefined && command !== "uninstall") || more.length > 0) {
    process.stderr.write(`install-cni: unknown arguments: ${args.join(" ")}\n${USAGE}`);
    return 1;
  }
  const options = readInstallOptions(process.env, import.meta.dirname);
  const say = (line: string): void => void process.stdout.write(`install-cni: ${line}\n`);
  if (command === "uninstall") {
    uninstall(options, say);
    say("uninstalled");
    return 0;
  }
  const config = renderConfig(options); // before anything is touched: it may be refused
  installBinaries(options, say);
  writeConfig(options, config, say);
  say("done");
  return 0;
}

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`install-cni: ${errorText(error)}\n`);
  process.exitCode = 1;
}
