/**
 * How things are, in a file, for probes that run in the same container: `check-status -r`. Written whole, under another name first, so that a reader
 * never finds half of it. The form is upstream's.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { isDeepStrictEqual } from "node:util";

export interface Condition {
  readonly Ready: boolean;
  readonly Reason: string;
}

export class StatusFile {
  readonly #path: string;
  readonly #conditions: Record<string, Condition> = {};

  constructor(path: string) {
    this.#path = path;
    mkdirSync(dirname(path), { recursive: true });
  }

  /** Reason: why it is not ready. */
  set(name: string, ready: boolean, reason = ""): void {
    const next = { Ready: ready, Reason: ready ? "" : reason };
    if (isDeepStrictEqual(this.#conditions[name], next)) return;
    this.#conditions[name] = next;
    const partial = `${this.#path}.partial`;
    writeFileSync(partial, `${JSON.stringify({ Readiness: this.#conditions })}\n`);
    renameSync(partial, this.#path);
  }
}

export interface Verdict {
  readonly exitCode: number;
  readonly text: string;
}

/** Ready when everything is; a file that is not there yet is not ready. */
export function readiness(path: string): Verdict {
  const conditions = read(path);
  if (conditions === undefined) return { exitCode: 1, text: `${path}: no status has been written yet` };
  const bad = Object.entries(conditions).flatMap(([name, { Ready, Reason }]) => (Ready ? [] : [`${name}: ${Reason}`]));
  if (Object.keys(conditions).length === 0) return { exitCode: 1, text: "nothing has been reported yet" };
  return bad.length === 0 ? { exitCode: 0, text: "Ready" } : { exitCode: 1, text: bad.join("; ") };
}

/** Alive when a status can be read: the process has come so far as to write one. */
export function liveness(path: string): Verdict {
  return read(path) === undefined ? { exitCode: 1, text: `${path} cannot be read` } : { exitCode: 0, text: "Live" };
}

function read(path: string): Readonly<Record<string, Condition>> | undefined {
  try {
    const parsed = JSON.parse(readFileSync(path, "utf8")) as { readonly Readiness?: Record<string, Condition> };
    return parsed.Readiness ?? {};
  } catch {
    return undefined;
  }
}
