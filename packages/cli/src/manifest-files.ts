/** Files and folders as documents. A folder's files in name order, not deeper ones, as `kubectl apply -f` reads them. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { SourcePosition, YamlDocument } from "@calico-ts/schema";
import { parseYamlDocuments } from "@calico-ts/schema";
import { CalicoError, errorText } from "@calico-ts/std";

export interface SyntaxMistake {
  readonly message: string;
  readonly position: SourcePosition;
}

export interface ManifestDocuments {
  readonly documents: readonly YamlDocument[];
  /** Files that are no YAML; the others were read all the same. */
  readonly mistakes: readonly SyntaxMistake[];
}

const EXTENSIONS = [".yaml", ".yml", ".json"];
const STDIN = "-";

/** Files of the simulator's that people keep beside their manifests. */
const NOT_MANIFESTS = /^(expectations|topology)\.ya?ml$/;

/** @throws CalicoError BAD_INPUT when a file cannot be read. */
export function readManifestFiles(paths: readonly string[]): ManifestDocuments {
  const documents: YamlDocument[] = [];
  const mistakes: SyntaxMistake[] = [];
  for (const file of paths.flatMap(filesOf)) {
    const text = readText(file);
    try {
      documents.push(...parseYamlDocuments(text, file));
    } catch (error) {
      if (!(error instanceof CalicoError) || error.code !== "BAD_INPUT") throw error;
      const { line, column } = error.detail;
      const position = { file, line: Number(line ?? 1), column: Number(column ?? 1) };
      mistakes.push({ message: error.message.replace(/^.*?:\d+:\d+: /, ""), position });
    }
  }
  return { documents, mistakes };
}

function filesOf(path: string): string[] {
  if (path === STDIN) return [STDIN];
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new CalicoError("BAD_INPUT", `${path}: no such file or folder`);
  if (!stat.isDirectory()) return [path];
  const files = readdirSync(path)
    .filter(
      (name) =>
        !name.startsWith(".") && !NOT_MANIFESTS.test(name) && EXTENSIONS.some((extension) => name.endsWith(extension)),
    )
    .toSorted()
    .map((name) => join(path, name));
  if (files.length === 0)
    throw new CalicoError("BAD_INPUT", `${path}: the folder holds no ${EXTENSIONS.join(", ")} file`);
  return files;
}

function readText(file: string): string {
  try {
    return readFileSync(file === STDIN ? 0 : file, "utf8");
  } catch (cause) {
    throw new CalicoError("BAD_INPUT", `${file}: cannot be read: ${errorText(cause)}`);
  }
}
