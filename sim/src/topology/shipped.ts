/** The topologies that come with the simulator. Apart from their reading, which every command would have to load to list them in its help. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";

/** Beside the sources, beside the build, and in the repository as seen from a bundle in another package's dist/bin. */
const TOPOLOGY_FOLDERS = ["../../topologies", "../../../sim/topologies"].map((path) => join(import.meta.dirname, path));

/** Their file names without `.yaml` are names for `--topology`. */
const shippedTopologies = TOPOLOGY_FOLDERS.find((folder) => existsSync(folder));

export const DEFAULT_TOPOLOGY = "default";

/** A path, or the name of a shipped topology. @throws CalicoError BAD_INPUT */
export function topologyPath(nameOrPath: string): string {
  if (existsSync(nameOrPath)) return nameOrPath;
  if (shippedTopologies !== undefined && shippedNames().includes(nameOrPath)) {
    return join(shippedTopologies, `${nameOrPath}.yaml`);
  }
  throw new CalicoError(
    "BAD_INPUT",
    `--topology ${nameOrPath}: no such file, and none of the topologies that come with the simulator: ${shippedNames().join(", ")}`,
  );
}

export function shippedNames(): string[] {
  if (shippedTopologies === undefined) return [];
  return readdirSync(shippedTopologies)
    .filter((file) => file.endsWith(".yaml"))
    .map((file) => file.slice(0, -".yaml".length))
    .toSorted();
}
