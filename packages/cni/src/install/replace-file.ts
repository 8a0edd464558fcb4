/** A file on the host is there as it was or as it will be, whoever dies meanwhile, and however many installers run. */
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { randomUUID } from "node:crypto";

/** What an installer that was killed has left is this old before another one takes it away: a living one is done by then. */
const LEFTOVER_MS = 10 * 60_000;

/** `write` makes the content at the path it is given, which then takes the place of `target`. @throws Error the system's */
export function replaceFile(target: string, write: (partial: string) => void): void {
  const folder = dirname(target);
  const marks = { start: `.${basename(target)}.`, end: ".partial" };
  const partial = join(folder, `${marks.start}${randomUUID()}${marks.end}`);
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(folder)) {
    if (name.startsWith(marks.start) && name.endsWith(marks.end)) removeLeftover(join(folder, name));
  }
  try {
    write(partial);
    renameSync(partial, target);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}

/** By the time of the last change of its status: a link has its source's other times. */
function removeLeftover(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found !== undefined && Date.now() - found.ctimeMs > LEFTOVER_MS) rmSync(path, { force: true });
}
