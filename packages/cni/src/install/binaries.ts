/** Copies the executables beside this program into a folder on the host: atomically, verified, and only when they differ. */
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";

export const EXECUTABLES: readonly string[] = ["calico", "calico-ipam"];

export interface InstallBinariesOptions {
  /** UPDATE_CNI_BINARIES: false leaves executables alone that are already there. */
  readonly update: boolean;
  readonly say: (line: string) => void;
}

/**
 * A read-only folder is tolerated when both executables are there already, as upstream does with `update` off.
 * @throws CalicoError NOT_FOUND (nothing to install from), NO_PERMISSION (folder not writable)
 */
export function installBinaries(from: string, to: string, options: InstallBinariesOptions): void {
  for (const name of EXECUTABLES) {
    const source = join(from, name);
    const target = join(to, name);
    if (!existsSync(source)) {
      throw new CalicoError("NOT_FOUND", `${source} is not there: this image or build is incomplete (npm run build)`);
    }
    if (existsSync(target) && !options.update) {
      options.say(`${target} exists and UPDATE_CNI_BINARIES is false: left alone`);
      continue;
    }
    if (existsSync(target) && sameContent(target, source)) {
      options.say(`${target} is current`);
      continue;
    }
    copyVerified(source, target, to);
    options.say(`installed ${target}`);
  }
}

function copyVerified(source: string, target: string, folder: string): void {
  const partial = join(folder, `.${target.slice(folder.length + 1)}.partial`);
  try {
    mkdirSync(folder, { recursive: true });
    rmSync(partial, { force: true });
    if (!linked(source, partial)) {
      copyFileSync(source, partial);
      chmodSync(partial, 0o755);
    }
    if (!sameContent(partial, source)) {
      throw new CalicoError(
        "INTERNAL",
        `${partial} differs from ${source} after copying: is the disk full or failing?`,
      );
    }
    renameSync(partial, target);
  } catch (error) {
    rmSync(partial, { force: true });
    if (error instanceof CalicoError) throw error;
    throw new CalicoError("NO_PERMISSION", `${target} cannot be written`, { cause: error });
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
