/** Copies the executables beside this program into folders on the host: atomically, verified, and only when they differ. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, existsSync, linkSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CalicoError, errorText } from "@calico-ts/std";
import type { InstallOptions } from "./options.ts";
import { replaceFile } from "./replace-file.ts";

export const EXECUTABLES: readonly string[] = ["calico", "calico-ipam"];

type Say = (line: string) => void;

/**
 * A folder that takes no change is passed over where another one has the executables, and is no matter where it has them itself.
 * @throws CalicoError NOT_FOUND (nothing to install from), NO_PERMISSION (no folder can be written)
 */
export function installBinaries(options: InstallOptions, say: Say): void {
  const refused: CalicoError[] = [];
  for (const folder of options.binaryFolders) {
    try {
      installInto(folder, options, say);
    } catch (error) {
      if (!(error instanceof CalicoError) || error.code !== "NO_PERMISSION") throw error;
      refused.push(error);
    }
  }
  const [first] = refused;
  if (first === undefined) return;
  if (refused.length === options.binaryFolders.length) throw first;
  for (const error of refused) say(`passed over: ${errorText(error)}`);
}

function installInto(folder: string, options: InstallOptions, say: Say): void {
  for (const name of EXECUTABLES) {
    const source = join(options.sourceFolder, name);
    const target = join(folder, name);
    if (options.skippedBinaries.has(name)) {
      say(`${target}: left out, as SKIP_CNI_BINARIES says`);
      continue;
    }
    if (!existsSync(source)) {
      throw new CalicoError("NOT_FOUND", `${source} is not there: this image or build is incomplete (npm run build)`);
    }
    if (existsSync(target) && !options.updateBinaries) {
      say(`${target} exists and UPDATE_CNI_BINARIES is false: left alone`);
    } else if (existsSync(target) && sameContent(target, source)) {
      say(`${target} is current`);
    } else {
      copyVerified(source, target);
      say(`installed ${target}: ${versionOf(target)}`);
    }
  }
}

function copyVerified(source: string, target: string): void {
  try {
    replaceFile(target, (partial) => {
      if (!linked(source, partial)) {
        copyFileSync(source, partial);
        chmodSync(partial, 0o755);
      }
      if (sameContent(partial, source)) return;
      throw new CalicoError(
        "INTERNAL",
        `${partial} differs from ${source} after copying: is the disk full or failing?`,
      );
    });
  } catch (error) {
    if (error instanceof CalicoError) throw error;
    throw new CalicoError("NO_PERMISSION", `${target} cannot be written`, { cause: error });
  }
}

/** What it says of itself; an image for another kind of machine shows here, and a folder that executes nothing in this container. */
function versionOf(target: string): string {
  try {
    return execFileSync(target, ["-v"], { encoding: "utf8", stdio: "pipe", timeout: 10_000 }).trim();
  } catch (error) {
    return `it does not run here (${errorText(error)})`;
  }
}

/**
 * The executables carry a runtime of a hundred megabytes: on one file system a link saves copying it. Nobody writes to an installed file, it
 * is only ever replaced, so sharing the content is safe.
 */
function linked(source: string, partial: string): boolean {
  if ((statSync(source).mode & 0o777) !== 0o755) return false;
  try {
    linkSync(source, partial);
    return true;
  } catch {
    return false; // another file system, or one without links: copied instead
  }
}

function sameContent(a: string, b: string): boolean {
  const [one, other] = [statSync(a), statSync(b)];
  if (one.dev === other.dev && one.ino === other.ino) return true;
  return one.size === other.size && sha256(a) === sha256(b);
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
