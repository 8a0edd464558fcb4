/** `down`: ends runs in good order when their daemon lives, and sweeps what is left either way. */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CalicoError, hasCode } from "@calico-ts/std";
import { askDaemon } from "../daemon/control-client.ts";
import { checkRunName } from "../names.ts";
import { identify, isAlive } from "../run/processes.ts";
import { failuresFolder, listRuns, readRecord, runState, tidyStateRoot } from "../run/run-folder.ts";
import { foreignRuns, knownRuns, linuxSweepHost, refuseForeign } from "../run/sweep-host.ts";
import type { SweepResult } from "../run/sweep.ts";
import { sweepRun, sweepStrays, sweptAnything } from "../run/sweep.ts";
import type { Terminal } from "./plugins.ts";
import { requireRoot } from "./require-root.ts";

export interface DownOptions {
  readonly name?: string;
  readonly all?: boolean;
}

/** How long a daemon may take to end its run before it is killed. */
const ORDERLY_MS = 30_000;
const POLL_MS = 20;

export async function down(options: DownOptions, terminal: Terminal): Promise<number> {
  const runs = runsMeant(options);
  requireRoot("down");
  if (runs.length === 0 && options.all !== true) terminal.out("nothing is up");
  for (const run of runs) {
    const state = runState(run);
    const swept = await endRun(run);
    if (state === "absent" && !sweptAnything(swept)) terminal.out(`no run named ${run} is up; nothing to do`);
    else if (state === "running" || state === "starting") terminal.out(`run ${run} is down`);
    else terminal.out(`run ${run} was dead; removed ${describe(swept)}`);
  }
  if (options.all === true) {
    const strays = knownRuns(linuxSweepHost).length === 0 && foreignRuns().size === 0 ? sweepStrays(linuxSweepHost) : 0;
    if (strays > 0) terminal.out(`removed ${strays} namespaces of runs nobody remembers`);
    else if (runs.length === 0) terminal.out("nothing is up");
  }
  return 0;
}

function runsMeant(options: DownOptions): string[] {
  if (options.all === true) return knownRuns(linuxSweepHost);
  if (options.name !== undefined) {
    refuseForeign(checkRunName(options.name));
    return [options.name];
  }
  const runs = listRuns();
  const candidates = runs.length > 0 ? runs : knownRuns(linuxSweepHost);
  if (candidates.length > 1) {
    throw new CalicoError(
      "BAD_INPUT",
      `there are ${candidates.length} runs: ${candidates.join(", ")}; say which with --name, or --all`,
    );
  }
  return candidates;
}

/** Ends one run whatever state it is in. */
export async function endRun(run: string): Promise<SweepResult> {
  const owner = readRecord(run)?.owner;
  if (owner !== undefined && isAlive(owner) && owner.pid !== process.pid) {
    try {
      await askDaemon(run, { op: "down" });
    } catch (error) {
      // No socket yet: a signal says the same. An `up` that still holds the run ends it too.
      if (!hasCode(error, "UNAVAILABLE")) throw error;
      signalOwner(owner.pid);
    }
    for (let waited = 0; waited < ORDERLY_MS && isAlive(owner); waited += POLL_MS) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
  const swept = await sweepRun(linuxSweepHost, run);
  removeFailures(run);
  return swept;
}

function signalOwner(pid: number): void {
  try {
    if (identify(pid) !== undefined) process.kill(pid, "SIGTERM");
  } catch {
    // gone in the meantime
  }
}

/** Bundles of failed attempts under this name. */
function removeFailures(run: string): void {
  const folder = failuresFolder();
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder)) {
    if (entry === run || entry.startsWith(`${run}.`)) rmSync(join(folder, entry), { recursive: true, force: true });
  }
  tidyStateRoot();
}

function describe({ processes, namespaces, folder }: SweepResult): string {
  const parts = [
    `${processes} process${processes === 1 ? "" : "es"}`,
    `${namespaces} namespace${namespaces === 1 ? "" : "s"}`,
  ];
  return folder ? `${parts.join(", ")} and its state folder` : parts.join(" and ");
}
