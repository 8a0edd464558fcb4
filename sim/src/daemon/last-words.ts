/** What programs of pods that are not ready said last: usually the reason why a cluster did not come up. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { PodView } from "../cluster/cluster-port.ts";

const LINES = 8;
const PROGRAMS = 3;
/** Enough for the last lines of any log, and a bound for those that are one line. */
const TAIL_BYTES = 16_384;

/** Lines for people; none when every program's pod is ready. */
export function programLastWords(pods: readonly PodView[], logs: string): string[] {
  const troubled = pods.filter((pod) => !pod.stub && !pod.ready && pod.phase !== "Succeeded" && pod.node !== undefined);
  const files = troubled.flatMap((pod) => logFiles(join(logs, pod.node ?? ""), `${pod.namespace}_${pod.name}_`));
  return files.slice(0, PROGRAMS).flatMap((file) => [`last lines of ${file.slice(logs.length + 1)}:`, ...tail(file)]);
}

/** The newest first: the program that wrote last is the one that got furthest. */
function logFiles(folder: string, prefix: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.startsWith(prefix) && name.endsWith(".log"))
      .map((name) => join(folder, name))
      .filter((file) => statSync(file).size > 0)
      .toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)
      .slice(0, 1);
  } catch {
    return [];
  }
}

function tail(file: string): string[] {
  const text = readFileSync(file).subarray(-TAIL_BYTES).toString("utf8").trimEnd();
  return text
    .split("\n")
    .slice(-LINES)
    .map((line) => `  ${line}`);
}
