/** The real host behind `sweep.ts`. */
import { existsSync } from "node:fs";
import { deleteNamespace, listNamespaces } from "@calico-ts/linux";
import { hasCode } from "@calico-ts/std";
import { runOfFabricNamespace } from "../names.ts";
import { ownedProcesses } from "./processes.ts";
import { listRuns, removeRunFolder, runPaths } from "./run-folder.ts";
import type { SweepHost } from "./sweep.ts";

export const linuxSweepHost: SweepHost = {
  processes: ownedProcesses,
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
  runs: () => knownRuns(linuxSweepHost),
  removeFolder: removeRunFolder,
  hasFolder: (run) => existsSync(runPaths(run).root),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
};

/** Every run there is a sign of: a folder, a process, a namespace. */
export function knownRuns(host: Pick<SweepHost, "processes" | "namespaces">): string[] {
  const runs = new Set(listRuns());
  for (const { run } of host.processes()) runs.add(run);
  for (const namespace of host.namespaces()) {
    const run = runOfFabricNamespace(namespace);
    if (run !== undefined) runs.add(run);
  }
  return [...runs].toSorted();
}
