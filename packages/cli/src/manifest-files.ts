/** Files and folders as documents. A folder's files in name order, not deeper ones, as `kubectl apply -f` reads them. */
import { manifestFiles, readInput } from "@calico-ts/runtime";
import type { SourcePosition, YamlDocument } from "@calico-ts/schema";
import { parseYamlDocuments } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";

export interface SyntaxMistake {
  readonly message: string;
  readonly position: SourcePosition;
}

export interface ManifestDocuments {
  readonly documents: readonly YamlDocument[];
  /** Files that are no YAML; the others were read all the same. */
  readonly mistakes: readonly SyntaxMistake[];
}

const STDIN = "-";

/** @throws CalicoError BAD_INPUT when a file cannot be read. */
export function readManifestFiles(paths: readonly string[]): ManifestDocuments {
  const documents: YamlDocument[] = [];
  const mistakes: SyntaxMistake[] = [];
  for (const file of paths.flatMap((path) => (path === STDIN ? [STDIN] : manifestFiles(path)))) {
    const text = readInput(file === STDIN ? 0 : file, "manifest");
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
