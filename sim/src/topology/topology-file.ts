/**
 * START HERE for topologies: a file becomes a plan, or one error that tells everything wrong with it.
 *
 * Nothing is created before this has succeeded; the fabric trusts the plan blindly.
 */
import type { JsonSchema } from "@calico-ts/schema";
import { isObject, splitPath } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import type { Manifest } from "../manifests/manifest-files.ts";
import { problemsError } from "../problems.ts";
import type { YamlInput } from "../yaml-input.ts";
import { readYamlInput, schemaProblems } from "../yaml-input.ts";
import { checkTopology } from "./check.ts";
import type { TopologyPlan } from "./plan.ts";
import type { TopologyFile } from "./topology-schema.ts";
import { topologySchema } from "./topology-schema.ts";

export interface LoadOptions {
  /** Replaces the number of counted nodes (`up --nodes N`). */
  readonly nodes?: number;
}

const CALICO_API_VERSION = "projectcalico.org/v3";

/** @throws CalicoError BAD_INPUT with every problem on a line of its own. */
export function loadTopology(file: string, options: LoadOptions = {}): TopologyPlan {
  const input = readYamlInput(file, "topology");
  const wrong = schemaProblems(input, topologySchema as unknown as JsonSchema);
  if (wrong.length > 0) throw problemsError(wrong);
  const written = input.value as TopologyFile; // the schema just said so
  const topology = options.nodes === undefined ? written : withNodeCount(written, options.nodes, file);
  const checked = checkTopology(topology);
  const resources = readResources(topology, input);
  if (checked.ok) return { ...checked.plan, resources };
  throw problemsError(checked.problems.map(({ path, message }) => input.problem(path, message)));
}

/** @throws CalicoError BAD_INPUT */
function readResources(topology: TopologyFile, input: YamlInput): Manifest[] {
  const written = topology.resources ?? [];
  const problems = written.flatMap((value, index) => {
    const path = ["resources", index];
    const metadata = value["metadata"];
    const name = isObject(metadata) ? metadata["name"] : undefined;
    return [
      ...(value["apiVersion"] === CALICO_API_VERSION
        ? []
        : [input.problem([...path, "apiVersion"], `must be ${CALICO_API_VERSION}; other objects go into --manifests`)]),
      ...(typeof value["kind"] === "string" ? [] : [input.problem([...path, "kind"], "is missing or no text")]),
      ...(typeof name === "string" && name !== "" ? [] : [input.problem([...path, "metadata", "name"], "is missing")]),
    ];
  });
  if (problems.length > 0) throw problemsError(problems);
  return written.map((value, index) => {
    const metadata = value["metadata"] as { readonly name: string; readonly namespace?: string };
    return {
      apiVersion: CALICO_API_VERSION,
      kind: String(value["kind"]),
      namespace: metadata.namespace,
      name: metadata.name,
      object: value,
      locate: (field, message) =>
        input.problem(["resources", index, ...(field === undefined ? [] : splitPath(field))], message),
    };
  });
}

/** The same topology with `total` nodes, spread evenly over the entries that have a count. */
export function withNodeCount(topology: TopologyFile, total: number, file: string): TopologyFile {
  const named = topology.nodes.find((node) => node.count === undefined);
  if (named !== undefined) {
    throw new CalicoError(
      "BAD_INPUT",
      `--nodes ${total}: ${file} names its nodes one by one (${named.name ?? "?"}); --nodes goes with entries that have a count`,
    );
  }
  const groups = topology.nodes.length;
  const nodes = topology.nodes
    .map((node, index) => ({ ...node, count: Math.floor(total / groups) + (index < total % groups ? 1 : 0) }))
    .filter((node) => node.count > 0);
  return { ...topology, nodes };
}
