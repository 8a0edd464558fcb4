/** Which run a command means: the one named, or the only one there is. */
import { CalicoError } from "@calico-ts/std";
import { checkRunName } from "../names.ts";
import { listRuns, runState } from "../run/run-folder.ts";

export interface RunOptions {
  readonly name?: string;
}

/** @throws CalicoError BAD_INPUT when several could be meant, UNAVAILABLE when the run is not up. */
export function chooseLiveRun(options: RunOptions): string {
  if (options.name !== undefined) {
    const name = checkRunName(options.name);
    const state = runState(name);
    if (state === "absent") throw new CalicoError("NOT_FOUND", `no run named ${name} is up${others()}`);
    if (state === "dead") throw deadRun(name);
    return name;
  }
  const live = listRuns().filter((run) => runState(run) !== "dead");
  const [only] = live;
  if (live.length > 1) {
    throw new CalicoError("BAD_INPUT", `${live.length} runs are up: ${live.join(", ")}; say which one with --name`);
  }
  if (only !== undefined) return only;
  const [dead] = listRuns();
  if (dead !== undefined) throw deadRun(dead);
  throw new CalicoError("NOT_FOUND", "no run is up; start one with `up`");
}

const deadRun = (name: string): CalicoError =>
  new CalicoError("UNAVAILABLE", `run ${name} is dead: its daemon is gone. Clean up with \`down --name ${name}\``);

function others(): string {
  const runs = listRuns();
  return runs.length === 0 ? "" : `; there is: ${runs.join(", ")}`;
}
