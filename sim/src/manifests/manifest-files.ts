/**
 * Manifests as people keep them: a file or a folder of files, several documents in each, Lists unfolded.
 *
 * Only the shape every Kubernetes object has is checked here (object, apiVersion, kind, a name), so that a broken file is
 * told before anything is created. Everything else is the API server's to judge; `locate` then finds the line for its
 * complaint.
 */
import { manifestFiles, readInput } from "@calico-ts/runtime";
import type { JsonObject, YamlDocument } from "@calico-ts/schema";
import { isObject, parseYamlDocuments, splitPath } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import type { FieldPath, Problem } from "../problems.ts";
import { formatFieldPath, problemsError } from "../problems.ts";

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly object: JsonObject;
  /** Where it stands, or where one of its fields does. */
  locate(field: string | undefined, message: string): Problem;
}

/** @throws CalicoError BAD_INPUT with the problems of all files. */
export function readManifests(paths: readonly string[]): Manifest[] {
  const manifests: Manifest[] = [];
  const problems: Problem[] = [];
  const broken: CalicoError[] = [];
  for (const file of paths.flatMap(manifestFiles)) {
    try {
      for (const document of parseYamlDocuments(readInput(file, "manifest"), file)) {
        readObject(document, document.value, [], { manifests, problems });
      }
    } catch (error) {
      if (!(error instanceof CalicoError) || error.code !== "BAD_INPUT") throw error;
      broken.push(error); // one file's syntax must not hide the next file's problems
    }
  }
  problems.push(...duplicates(manifests));
  if (broken.length > 0) {
    const rest = problems.length === 0 ? [] : [problemsError(problems).message];
    throw new CalicoError("BAD_INPUT", [...broken.map(({ message }) => message), ...rest].join("\n"));
  }
  if (problems.length > 0) throw problemsError(problems);
  return manifests;
}

interface Found {
  readonly manifests: Manifest[];
  readonly problems: Problem[];
}

function readObject(document: YamlDocument, value: unknown, at: FieldPath, found: Found): void {
  const problem = (path: FieldPath, message: string): Problem => {
    const { file, line, column } = document.position([...at, ...path]);
    return { file, line, column, field: formatFieldPath([...at, ...path]), message };
  };
  if (!isObject(value)) {
    found.problems.push(problem([], "is no Kubernetes object: expected a mapping with apiVersion, kind and metadata"));
    return;
  }
  const apiVersion = value["apiVersion"];
  const kind = value["kind"];
  if (typeof apiVersion !== "string" || apiVersion === "")
    found.problems.push(problem(["apiVersion"], "is missing or no text"));
  if (typeof kind !== "string" || kind === "") found.problems.push(problem(["kind"], "is missing or no text"));
  if (typeof apiVersion !== "string" || typeof kind !== "string" || apiVersion === "" || kind === "") return;
  if (kind.endsWith("List") && Array.isArray(value["items"])) {
    for (const [index, item] of value["items"].entries()) readObject(document, item, [...at, "items", index], found);
    return;
  }
  const metadata = value["metadata"];
  const name = isObject(metadata) ? metadata["name"] : undefined;
  const namespace = isObject(metadata) ? metadata["namespace"] : undefined;
  if (typeof name !== "string" || name === "") {
    found.problems.push(problem(["metadata", "name"], `this ${kind} has no name`));
    return;
  }
  if (namespace !== undefined && typeof namespace !== "string") {
    found.problems.push(problem(["metadata", "namespace"], "is no text"));
    return;
  }
  found.manifests.push({
    apiVersion,
    kind,
    namespace,
    name,
    object: value,
    locate: (field, message) => problem(field === undefined ? [] : splitPath(field), message),
  });
}

export const describeManifest = ({ kind, namespace, name }: Manifest): string =>
  namespace === undefined ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;

function duplicates(manifests: readonly Manifest[]): Problem[] {
  const seen = new Map<string, Manifest>();
  const problems: Problem[] = [];
  for (const manifest of manifests) {
    const key = [manifest.apiVersion, manifest.kind, manifest.namespace ?? "default", manifest.name].join("\0");
    const first = seen.get(key);
    if (first === undefined) seen.set(key, manifest);
    else {
      const { file, line } = first.locate(undefined, "");
      problems.push(
        manifest.locate(
          "metadata.name",
          `a second ${describeManifest(manifest)}; the first is at ${file}:${line ?? 1}`,
        ),
      );
    }
  }
  return problems;
}
