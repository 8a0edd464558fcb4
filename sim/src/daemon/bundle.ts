/**
 * What a failed `up` leaves behind to be understood by: logs, the run's record, and the kernel's state of every namespace,
 * as JSON, read over netlink before anything is taken down.
 */
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Kernel } from "@calico-ts/linux";
import { openKernel } from "@calico-ts/linux";
import { errorText } from "@calico-ts/std";
import { namespacePath, ownsNamespace } from "../names.ts";
import { failuresFolder, runPaths } from "../run/run-folder.ts";
import { linuxSweepHost } from "../run/sweep-host.ts";

/** The bundle's folder, or undefined when there was nothing to keep. Never throws: it must not hide the failure itself. */
export function saveBundle(run: string, error: unknown): string | undefined {
  const folder = join(failuresFolder(), run);
  try {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(
      join(folder, "error.txt"),
      `${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n\n${errorText(error)}\n`,
    );
    const paths = runPaths(run);
    if (existsSync(paths.logs)) cpSync(paths.logs, join(folder, "logs"), { recursive: true });
    if (existsSync(paths.record)) cpSync(paths.record, join(folder, "run.json"));
    const kernelFolder = join(folder, "kernel");
    mkdirSync(kernelFolder);
    const others = linuxSweepHost.runs().filter((other) => other !== run);
    for (const name of linuxSweepHost.namespaces().filter((name) => ownsNamespace(run, name, others))) {
      writeFileSync(join(kernelFolder, `${name}.json`), JSON.stringify(kernelState(name), printable, 2));
    }
    return folder;
  } catch {
    return existsSync(folder) ? folder : undefined;
  }
}

function kernelState(namespace: string): Record<string, unknown> {
  try {
    using kernel = openKernel({ netns: namespacePath(namespace) });
    return readState(kernel);
  } catch (error) {
    return { error: errorText(error) };
  }
}

const readState = (kernel: Kernel): Record<string, unknown> => ({
  links: kernel.links.list(),
  addresses: kernel.addresses.list(),
  routes: kernel.routes.list(),
  rules: kernel.rules.list(),
  neighbours: kernel.neighbours.list(),
});

const printable = (_key: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);
