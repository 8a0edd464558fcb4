/** The real host behind `sweep.ts`. */
import { existsSync } from "node:fs";
import { deleteNamespace, listNamespaces } from "@calico-ts/linux";
import { CalicoError, hasCode } from "@calico-ts/std";
import { runOfFabricNamespace, STATE_VARIABLE } from "../names.ts";
import type { OwnedProcess } from "./processes.ts";
import { ownedProcesses } from "./processes.ts";
import { listRuns, removeRunFolder, runPaths, stateRoot } from "./run-folder.ts";
import type { SweepHost } from "./sweep.ts";

export const linuxSweepHost: SweepHost = {
  processes: () => ownedProcesses().filter(isOurs),
  kill: (pid, signal) => {
    try {
      process.kill(pid, signal);
    } catch {
      // ended by itself
    }
  },
  namespaces: listNamespaces,
  deleteNamespace: (name) => {
    try {
      deleteNamespace(name);
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND")) throw error;
    }
  },
  runs: () => [...new Set([...knownRuns(linuxSweepHost), ...foreignRuns().keys()])],
  removeFolder: removeRunFolder,
  hasFolder: (run) => existsSync(runPaths(run).root),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
};

const isOurs = (process: OwnedProcess): boolean => process.stateRoot === stateRoot();

/** Every run of this state folder there is a sign of: a folder, a process, a namespace. */
export function knownRuns(host: Pick<SweepHost, "processes" | "namespaces">): string[] {
  const runs = new Set([...listRuns(), ...host.processes().map(({ run }) => run)]);
  for (const namespace of host.namespaces()) {
    const run = runOfFabricNamespace(namespace);
    if (run !== undefined) runs.add(run);
  }
  for (const run of foreignRuns().keys()) runs.delete(run);
  return [...runs].toSorted();
}

/** Runs that live under other state folders, each with its. */
export function foreignRuns(): ReadonlyMap<string, string> {
  const others = ownedProcesses().filter((process) => !isOurs(process));
  return new Map(others.map(({ run, stateRoot: root }) => [run, root]));
}

/** @throws CalicoError ALREADY_EXISTS for a run that lives under another state folder: processes and namespaces of its name are not ours */
export function refuseForeign(run: string): void {
  const root = foreignRuns().get(run);
  if (root !== undefined)
    throw new CalicoError(
      "ALREADY_EXISTS",
      `a run named ${run} lives under ${STATE_VARIABLE}=${root}; set that to end it, or choose another --name`,
    );
}
