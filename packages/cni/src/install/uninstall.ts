/**
 * Takes away what the installer put on the node. The configuration goes first: a runtime that still found it would call executables that are no longer there. Nothing
 * that is not ours is touched, and what is gone already is fine.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";
import { EXECUTABLES } from "./binaries.ts";
import type { InstallOptions } from "./options.ts";
import { removeLeftovers } from "./replace-file.ts";

/** @throws CalicoError NO_PERMISSION */
export function uninstall(options: InstallOptions, say: (line: string) => void): void {
  const names = EXECUTABLES.filter((name) => !options.skippedBinaries.has(name));
  const binaries = options.binaryFolders.flatMap((folder) => names.map((name) => join(folder, name)));
  for (const path of [join(options.configFolder, options.configName), ...binaries]) {
    try {
      removeLeftovers(path, 0);
      rmSync(path);
      say(`removed ${path}`);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") continue;
      throw new CalicoError("NO_PERMISSION", `${path} cannot be removed`, { cause: error });
    }
  }
}
