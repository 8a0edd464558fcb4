/**
 * Names of everything a run owns. Sweeping after a crash has no memory but these names, so they are decided here alone.
 *
 * A run `demo` owns the network namespaces `cs-demo-…`. Run names may hold dashes, so the prefix of the run `a` also fits the
 * namespaces of a run `a-b`; `ownsNamespace` tells them apart as long as both runs are known.
 */
import { CalicoError } from "@calico-ts/std";

/** The variable every process of a run carries; `/proc/<pid>/environ` tells whose it is. */
export const RUN_VARIABLE = "CALICO_SIM_RUN";

/** Where runs keep their state; processes carry it too, so that simulators with different ones leave each other's runs alone. */
export const STATE_VARIABLE = "CALICO_SIM_STATE";
export const DEFAULT_STATE_ROOT = "/var/lib/calico-sim";

/** Where a command of `exec` runs: it tells a user's processes from the run's. */
export const EXEC_VARIABLE = "CALICO_SIM_TARGET";

export const DEFAULT_RUN = "sim";

const RUN_NAME = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;

/** @throws CalicoError BAD_INPUT */
export function checkRunName(name: string): string {
  if (RUN_NAME.test(name)) return name;
  throw new CalicoError(
    "BAD_INPUT",
    `--name ${JSON.stringify(name)}: a run's name has 1 to 32 lower-case letters, digits and dashes, ` +
      "and begins and ends with a letter or digit",
  );
}

/** Every namespace of the run begins with this. */
export const namespacePrefix = (run: string): string => `cs-${run}-`;

/** What every simulator's namespaces begin with. */
export const ANY_NAMESPACE_PREFIX = "cs-";

/** The namespace's name for a part of the run: `fabric/layout.ts` has its parts, the kubelets add `pod-…`. */
export const namespaceName = (run: string, part: string): string => `${namespacePrefix(run)}${part}`;

export const namespacePath = (name: string): string => `/run/netns/${name}`;

/** Whether a namespace is the run's, and not that of another run whose name begins alike (`a` and `a-b`). */
export function ownsNamespace(run: string, namespace: string, otherRuns: readonly string[]): boolean {
  if (!namespace.startsWith(namespacePrefix(run))) return false;
  return !otherRuns.some((other) => other.length > run.length && namespace.startsWith(namespacePrefix(other)));
}

/** The run of a namespace that only the fabric makes (its names have a dot, which no run's and no node's has). */
export const runOfFabricNamespace = (namespace: string): string | undefined =>
  /^cs-([a-z0-9-]+)-(?:control|switch|router)\./.exec(namespace)?.[1];
