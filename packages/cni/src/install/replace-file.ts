/** A file on the host is there as it was or as it will be, whoever dies meanwhile, and however many installers run. */
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { randomUUID } from "node:crypto";

/** What an installer that was killed has left is this old before another one takes it away: a living one is done by then. */
const LEFTOVER_MS = 10 * 60_000;

/** `write` makes the content at the path it is given, which then takes the place of `target`. @throws Error the system's */
export function replaceFile(target: string, write: (partial: string) => void): void {
  const partial = join(dirname(target), `.${basename(target)}.${randomUUID()}.partial`);
  mkdirSync(dirname(target), { recursive: true });
  removeLeftovers(target, LEFTOVER_MS);
  try {
    write(partial);
    renameSync(partial, target);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}

/** By the time of the last change of their status: a link has its source's other times. */
export function removeLeftovers(target: string, olderThanMs: number): void {
  const folder = dirname(target);
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(`.${basename(target)}.`) || !name.endsWith(".partial")) continue;
    const path = join(folder, name);
    const found = statSync(path, { throwIfNoEntry: false });
    if (found !== undefined && Date.now() - found.ctimeMs >= olderThanMs) rmSync(path, { force: true });
  }
}
