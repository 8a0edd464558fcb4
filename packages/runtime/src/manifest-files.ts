/** Which files a person means who names a file or a folder of manifests, and their text. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CalicoError, errorText } from "@calico-ts/std";

const EXTENSIONS = [".yaml", ".yml", ".json"];

/** Files of the simulator's that people keep beside their manifests. */
const NOT_MANIFESTS = /^(expectations|topology)\.ya?ml$/;

/**
 * A file is itself; of a folder its files in name order, not deeper ones, as `kubectl apply -f` reads them.
 * @throws CalicoError BAD_INPUT when there is nothing of that name, or the folder holds no manifest
 */
export function manifestFiles(path: string): string[] {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new CalicoError("BAD_INPUT", `${path}: no such file or folder`);
  if (!stat.isDirectory()) return [path];
  const files = readdirSync(path)
    .filter(
      (name) =>
        !name.startsWith(".") && !NOT_MANIFESTS.test(name) && EXTENSIONS.some((extension) => name.endsWith(extension)),
    )
    .toSorted()
    .map((name) => join(path, name));
  if (files.length === 0)
    throw new CalicoError("BAD_INPUT", `${path}: the folder holds no ${EXTENSIONS.join(", ")} file`);
  return files;
}

/**
 * @param file a path, or 0 for standard input
 * @param what for the message: `manifest`, `topology`
 * @throws CalicoError BAD_INPUT when it cannot be read
 */
export function readInput(file: string | 0, what: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new CalicoError(
      "BAD_INPUT",
      `${file === 0 ? "standard input" : file}: cannot read the ${what}: ${errorText(cause)}`,
    );
  }
}
