/**
 * Processes as `/proc` shows them: which run one belongs to, and whether a recorded one still lives.
 *
 * A pid alone proves nothing, since numbers are used again; pid and start time (clock ticks since boot, field 22 of
 * `/proc/<pid>/stat`) name one process for good.
 */
import { readdirSync, readFileSync } from "node:fs";
import { RUN_VARIABLE } from "../names.ts";

export interface ProcessId {
  readonly pid: number;
  readonly startTicks: number;
}

export interface OwnedProcess extends ProcessId {
  readonly run: string;
  readonly parent: number;
}

interface ProcStat {
  readonly parent: number;
  readonly state: string;
  readonly startTicks: number;
}

function readStat(pid: number): ProcStat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command's name stands in parentheses and may hold spaces and parentheses itself.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0] ?? "", parent: Number(fields[1]), startTicks: Number(fields[19]) };
  } catch {
    return undefined;
  }
}

/** The identity of a live process; undefined for none and for one that only waits to be reaped. */
export function identify(pid: number): ProcessId | undefined {
  const stat = readStat(pid);
  return stat === undefined || stat.state === "Z" || stat.state === "X"
    ? undefined
    : { pid, startTicks: stat.startTicks };
}

export const isAlive = (id: ProcessId): boolean => identify(id.pid)?.startTicks === id.startTicks;

function runOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/environ`, "latin1");
    const prefix = `${RUN_VARIABLE}=`;
    return text
      .split("\0")
      .find((entry) => entry.startsWith(prefix))
      ?.slice(prefix.length);
  } catch {
    return undefined; // gone, or not ours to read
  }
}

/** Every live process that carries a run's name, this one and its ancestors left out. */
export function ownedProcesses(): OwnedProcess[] {
  const spared = new Set<number>();
  for (let pid = process.pid; pid > 1 && !spared.has(pid); ) {
    spared.add(pid);
    pid = readStat(pid)?.parent ?? 0;
  }
  const found: OwnedProcess[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || spared.has(pid)) continue;
    const run = runOf(pid);
    if (run === undefined || run === "") continue;
    const stat = readStat(pid);
    if (stat === undefined || stat.state === "Z" || stat.state === "X") continue;
    found.push({ pid, run, parent: stat.parent, startTicks: stat.startTicks });
  }
  return found;
}
