/**
 * Fills the cluster: the product's manifests, the topology's pools, the user's manifests, in this order.
 *
 * Pools stand before the product starts, so it finds its address ranges instead of making a default one. A refusal of a user's
 * object is bad input and ends `up`; a refusal of one of ours is a failure of the simulator or the product.
 */
import { CalicoError } from "@calico-ts/std";
import type { ApplyReport } from "../manifests/apply.ts";
import { applyManifests } from "../manifests/apply.ts";
import { connectApi } from "../manifests/api-connection.ts";
import type { Manifest } from "../manifests/manifest-files.ts";
import { formatProblem, problemsError, sortProblems } from "../problems.ts";
import type { TopologyPlan } from "../topology/plan.ts";
import { topologyManifests } from "./topology-manifests.ts";

export interface InstallOptions {
  readonly kubeconfig: string;
  readonly product: readonly Manifest[];
  readonly user: readonly Manifest[];
  readonly plan: TopologyPlan;
  /** The server is somebody's: ask whether it would take the user's manifests before changing anything. */
  readonly rehearse: boolean;
  readonly signal: AbortSignal;
}

export interface Installed {
  readonly applied: number;
  /** What was ignored and why, one line each. */
  readonly notes: readonly string[];
}

export async function installManifests(options: InstallOptions): Promise<Installed> {
  const { product, user, plan, signal } = options;
  using api = connectApi(options.kubeconfig);
  if (options.rehearse) {
    const rehearsal = await applyManifests(api, user, { signal, rehearse: true });
    if (rehearsal.problems.length > 0) throw problemsError(rehearsal.problems);
  }
  // Definitions first, in a round of their own: pools are described by them, and the product's pods must find pools.
  const isDefinition = (manifest: Manifest): boolean => manifest.kind === "CustomResourceDefinition";
  const definitions = await applyManifests(api, product.filter(isDefinition), { signal });
  const hasPools = product.some((manifest) => isDefinition(manifest) && manifest.name.startsWith("ippools."));
  const poolReport = hasPools ? await applyManifests(api, topologyManifests(plan), { signal }) : undefined;
  const rest = await applyManifests(
    api,
    product.filter((manifest) => !isDefinition(manifest)),
    { signal },
  );
  const ours = [definitions, rest].filter((report) => report.problems.length > 0);
  if (ours.length > 0) throw refusal("the API server refused the product's own manifests", ours);
  const written = poolReport?.problems.filter(({ line }) => line !== undefined) ?? [];
  if (written.length > 0) throw problemsError(written); // in the topology file, by line
  if (poolReport !== undefined && poolReport.problems.length > 0)
    throw refusal("the API server refused the topology's pools", [poolReport]);
  const theirs = await applyManifests(api, user, { signal });
  if (theirs.problems.length > 0) throw problemsError(theirs.problems);
  return {
    applied: definitions.applied + (poolReport?.applied ?? 0) + rest.applied + theirs.applied,
    notes: sortProblems([...rest.notes, ...theirs.notes]).map(formatProblem),
  };
}

function refusal(what: string, reports: readonly ApplyReport[]): CalicoError {
  const lines = reports.flatMap((report) => report.problems.map(formatProblem));
  return new CalicoError("INTERNAL", [`${what}:`, ...lines].join("\n"));
}
