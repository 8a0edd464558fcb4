/**
 * Removes what a run left, knowing nothing but its name: processes by the variable they carry, network namespaces by name
 * prefix, the state folder. Used after a crash, and at the end of every `down` as the second pair of eyes.
 *
 * Order is data: processes first, since a live one could make namespaces and files again; the folder last, since it is the
 * lock and the only sign that a run of this name exists.
 */
import { ANY_NAMESPACE_PREFIX, ownsNamespace } from "../names.ts";
import type { OwnedProcess } from "./processes.ts";

/** The host as far as sweeping sees it. */
export interface SweepHost {
  /** Processes of any run; the sweeping process and its ancestors are not among them. */
  processes(): readonly OwnedProcess[];
  kill(pid: number, signal: "SIGTERM" | "SIGKILL"): void;
  namespaces(): readonly string[];
  deleteNamespace(name: string): void;
  /** Names of all runs there is a sign of. */
  runs(): readonly string[];
  removeFolder(run: string): void;
  hasFolder(run: string): boolean;
  sleep(ms: number): Promise<void>;
}

export interface SweepResult {
  readonly processes: number;
  readonly namespaces: number;
  readonly folder: boolean;
}

export interface SweepOptions {
  /** How long processes may take to end by themselves. */
  readonly graceMs?: number;
  /** Leave the state folder: the sweeper holds it. */
  readonly keepFolder?: boolean;
}

const POLL_MS = 20;

export async function sweepRun(host: SweepHost, run: string, options: SweepOptions = {}): Promise<SweepResult> {
  const processes = await endProcesses(host, run, options.graceMs ?? 0);
  const others = host.runs().filter((other) => other !== run);
  const namespaces = host.namespaces().filter((name) => ownsNamespace(run, name, others));
  for (const name of namespaces) host.deleteNamespace(name);
  const folder = options.keepFolder !== true && host.hasFolder(run);
  if (folder) host.removeFolder(run);
  return { processes, namespaces: namespaces.length, folder };
}

/** Namespaces of runs nobody remembers any more. Only when no run lives: it takes every simulator's namespace there is. */
export function sweepStrays(host: Pick<SweepHost, "namespaces" | "deleteNamespace">): number {
  const strays = host.namespaces().filter((name) => name.startsWith(ANY_NAMESPACE_PREFIX));
  for (const name of strays) host.deleteNamespace(name);
  return strays.length;
}

/** Whatever was swept at all. */
export const sweptAnything = (result: SweepResult): boolean =>
  result.processes > 0 || result.namespaces > 0 || result.folder;

async function endProcesses(host: SweepHost, run: string, graceMs: number): Promise<number> {
  const mine = (): OwnedProcess[] => host.processes().filter((process) => process.run === run);
  const seen = new Set<number>();
  const signal = (signal: "SIGTERM" | "SIGKILL"): void => {
    for (const { pid } of mine()) {
      seen.add(pid);
      host.kill(pid, signal);
    }
  };
  if (graceMs > 0) {
    signal("SIGTERM");
    for (let waited = 0; waited < graceMs && mine().length > 0; waited += POLL_MS) await host.sleep(POLL_MS);
  }
  // A process may start another one between two looks; a few rounds end every chain of that kind.
  for (let round = 0; round < 250 && mine().length > 0; round++) {
    signal("SIGKILL");
    await host.sleep(POLL_MS);
  }
  return seen.size;
}
