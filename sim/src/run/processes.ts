/**
 * Processes as `/proc` shows them: which run one belongs to, and whether a recorded one still lives.
 *
 * A pid alone proves nothing, since numbers are used again; pid and start time (clock ticks since boot, field 22 of
 * `/proc/<pid>/stat`) name one process for good.
 */
import { readdirSync, readFileSync } from "node:fs";
import { DEFAULT_STATE_ROOT, RUN_VARIABLE, STATE_VARIABLE } from "../names.ts";

export interface ProcessId {
  readonly pid: number;
  readonly startTicks: number;
}

export interface OwnedProcess extends ProcessId {
  readonly run: string;
  /** The simulator's that started it. */
  readonly stateRoot: string;
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

/** Undefined: of no run, gone, or not ours to read. */
function ownerOf(pid: number): Pick<OwnedProcess, "run" | "stateRoot"> | undefined {
  try {
    const entries = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
    const value = (name: string): string =>
      entries.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
    const run = value(RUN_VARIABLE);
    return run === "" ? undefined : { run, stateRoot: value(STATE_VARIABLE) || DEFAULT_STATE_ROOT };
  } catch {
    return undefined;
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
    const owner = ownerOf(pid);
    if (owner === undefined) continue;
    const stat = readStat(pid);
    if (stat === undefined || stat.state === "Z" || stat.state === "X") continue;
    found.push({ pid, ...owner, parent: stat.parent, startTicks: stat.startTicks });
  }
  return found;
}
