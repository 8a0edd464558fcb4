/**
 * A run's state folder: `<state root>/<run>/`, root only.
 *
 * The folder is the lock: it is built aside and renamed to its name, which succeeds once. `run.json` says which process holds it; when that
 * process is gone (pid and start time), the run is dead and its folder a leftover to sweep.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { releaseNamespaceDirectory } from "@calico-ts/linux";
import { CalicoError } from "@calico-ts/std";
import { DEFAULT_STATE_ROOT, RUN_VARIABLE, STATE_VARIABLE } from "../names.ts";
import type { ProcessId } from "./processes.ts";
import { restoreHostLimits } from "./host-limits.ts";
import { identify, isAlive } from "./processes.ts";

export const stateRoot = (): string => process.env[STATE_VARIABLE] ?? DEFAULT_STATE_ROOT;

/** What every process of a run has in its environment: by it the run is found again. */
export const runEnvironment = (run: string): Readonly<Record<string, string>> => ({
  [RUN_VARIABLE]: run,
  [STATE_VARIABLE]: stateRoot(),
});

export interface RunPaths {
  readonly root: string;
  readonly record: string;
  readonly socket: string;
  readonly kubeconfig: string;
  readonly nodes: string;
  readonly routers: string;
  readonly logs: string;
  readonly daemonLog: string;
}

export function runPaths(run: string): RunPaths {
  const root = join(stateRoot(), run);
  const logs = join(root, "logs");
  return {
    root,
    record: join(root, "run.json"),
    socket: join(root, "daemon.sock"),
    kubeconfig: join(root, "kubeconfig"),
    nodes: join(root, "nodes"),
    routers: join(root, "routers"),
    logs,
    daemonLog: join(logs, "daemon.log"),
  };
}

/** What stands for `/` on a node. */
export const hostRootOf = (run: string, node: string): string => join(runPaths(run).nodes, node);

/** Where a failed `up` leaves what is needed to understand it. Begins with a dot, so it is no run. */
export const failuresFolder = (): string => join(stateRoot(), ".failed");

export interface RunRecord {
  readonly run: string;
  /** Who holds the run: `up` until its daemon took over, then the daemon. */
  readonly owner: ProcessId;
  readonly state: "starting" | "running";
  readonly startedAt: string;
  readonly topology: string;
  readonly manifests: readonly string[];
  readonly nodes: readonly RecordedNode[];
  readonly apiServer?: string;
}

export interface RecordedNode {
  readonly name: string;
  readonly netns: string;
  readonly subnet: string;
  readonly addresses: readonly string[];
}

export function readRecord(run: string): RunRecord | undefined {
  try {
    return JSON.parse(readFileSync(runPaths(run).record, "utf8")) as RunRecord;
  } catch {
    return undefined; // not written yet, or cut short by a crash: the same as no owner
  }
}

/** Replaces the record in one step, so no reader sees half of it. */
export function writeRecord(record: RunRecord): void {
  const path = runPaths(record.run).record;
  writeFileSync(`${path}.new`, recordText(record), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

const recordText = (record: RunRecord): string => `${JSON.stringify(record, null, 2)}\n`;

export type RunState = "absent" | "starting" | "running" | "dead";

export function runState(run: string): RunState {
  if (!listRuns().includes(run)) return "absent";
  const record = readRecord(run);
  return record === undefined || !isAlive(record.owner) ? "dead" : record.state;
}

/** Names of all runs that have a folder, dead ones included. @throws CalicoError NO_PERMISSION */
export function listRuns(): string[] {
  try {
    return readdirSync(stateRoot(), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
      .map((entry) => entry.name)
      .toSorted();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new CalicoError("NO_PERMISSION", `cannot look into ${stateRoot()}: only root may`, { cause });
  }
}

/**
 * Takes the run's name for this process: a complete folder appears under the name in one step, or the name is taken.
 * @throws CalicoError ALREADY_EXISTS when there is a folder of that name.
 */
export function claimRun(run: string, facts: Pick<RunRecord, "startedAt" | "topology" | "manifests">): RunRecord {
  const record: RunRecord = { run, owner: selfId(), state: "starting", ...facts, nodes: [] };
  const draft = join(stateRoot(), `.claim-${process.pid}`);
  mkdirSync(stateRoot(), { recursive: true, mode: 0o700 });
  rmSync(draft, { recursive: true, force: true });
  try {
    for (const folder of [draft, join(draft, "logs"), join(draft, "nodes")]) mkdirSync(folder, { mode: 0o700 });
    writeFileSync(join(draft, "run.json"), recordText(record), { mode: 0o600 });
    renameSync(draft, runPaths(run).root);
    return record;
  } catch (cause) {
    rmSync(draft, { recursive: true, force: true });
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== "EEXIST" && code !== "ENOTEMPTY") throw cause;
    throw new CalicoError("ALREADY_EXISTS", `a run named ${run} exists`, { cause });
  }
}

export function selfId(): ProcessId {
  const id = identify(process.pid);
  if (id === undefined) throw new CalicoError("INTERNAL", "/proc does not show this process; is /proc mounted?");
  return id;
}

/** Removes the folder; the last run puts the host back as it was and takes the state root along. */
export function removeRunFolder(run: string): void {
  rmSync(runPaths(run).root, { recursive: true, force: true, maxRetries: 3 });
  tidyStateRoot();
}

export function tidyStateRoot(): void {
  if (listRuns().length === 0) {
    restoreHostLimits(stateRoot());
    releaseNamespaceDirectory();
  }
  removeIfEmpty(failuresFolder());
  removeIfEmpty(stateRoot());
}

function removeIfEmpty(folder: string): void {
  try {
    if (readdirSync(folder).length === 0) rmSync(folder, { recursive: true });
  } catch {
    // not there
  }
}
