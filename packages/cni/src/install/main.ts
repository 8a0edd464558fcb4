/**
 * `install-cni`: puts the CNI executables and the network configuration on the node. Runs as an init container of calico-node.
 * `install-cni uninstall` takes them away again.
 *
 * Paths are those of the host, mounted under `/host` as upstream's manifests do; `CALICO_HOST_ROOT` replaces `/host` where host paths
 * are reachable directly, and then the agent's socket is looked for below it too.
 */
import { join } from "node:path";
import { errorText } from "@calico-ts/std";
import { installBinaries } from "./binaries.ts";
import { renderConfig, writeConfig } from "./conflist.ts";
import { readInstallOptions } from "./options.ts";
import { uninstall } from "./uninstall.ts";

function main(): void {
  const options = readInstallOptions(process.env, join(import.meta.dirname));
  const say = (line: string): void => void process.stdout.write(`install-cni: ${line}\n`);
  if (process.argv[2] === "uninstall") {
    uninstall(options, say);
    say("uninstalled");
    return;
  }
  if (options.skipBinaries) {
    say("SKIP_CNI_BINARIES is set: no executables installed");
  } else {
    for (const folder of options.binaryFolders)
      installBinaries(options.sourceFolder, folder, { update: options.updateBinaries, say });
  }
  const text = renderConfig(options);
  writeConfig(options, text, say);
  say("done");
}

try {
  main();
} catch (error) {
  process.stderr.write(`install-cni: ${errorText(error)}\n`);
  process.exitCode = 1;
}
