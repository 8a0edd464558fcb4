/**
 * Reads manifests: several YAML documents (or JSON) in one text, each field traceable to its line.
 *
 * YAML 1.2 core schema plus what kubectl's reader (sigs.k8s.io/yaml) knows beyond it and manifests rely on: `yes`, `no`, `on` and
 * `off` are booleans, so that a label `country: no` is told here and not by the API server, and `<<` merges. (`y` and `n`, which it takes
 * for booleans as well, stay text.) Duplicate keys are refused because the last one silently
 * winning has hidden many a policy rule. Empty documents are skipped. Aliases expand to at most 100 copies, so that a
 * "billion laughs" file cannot take the process down.
 */
import { CalicoError } from "@calico-ts/std";
import type { Document, Node, ScalarTag } from "yaml";
import { isMap, isPair, isScalar, isSeq, LineCounter, parseAllDocuments } from "yaml";
import { splitPath } from "./schema.ts";

export interface SourcePosition {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface YamlDocument {
  readonly file: string;
  /** 0 for the first document of the file. */
  readonly index: number;
  readonly value: unknown;
  /** Where a field stands: of the field itself, or else of the nearest parent that exists. Takes `spec.ports[0]` too. */
  position(path: string | readonly (string | number)[]): SourcePosition;
}

/** `file:line:column`, as editors and terminals understand it. */
export const formatPosition = (position: SourcePosition): string =>
  `${position.file}:${position.line}:${position.column}`;

/** Booleans of YAML 1.1 beside `true` and `false`. */
const OLD_BOOLEAN: ScalarTag = {
  default: true,
  tag: "tag:yaml.org,2002:bool",
  test: /^(?:yes|no|on|off|Yes|No|On|Off|YES|NO|ON|OFF)$/,
  resolve: (text) => /^(?:yes|on)$/i.test(text),
};

/** @throws CalicoError BAD_INPUT with file, line and column of the first mistake. */
export function parseYamlDocuments(text: string, file: string): YamlDocument[] {
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, {
    lineCounter: lines,
    uniqueKeys: true,
    prettyErrors: false,
    version: "1.2",
    merge: true,
    logLevel: "error",
    customTags: (tags) => [OLD_BOOLEAN, ...tags],
  });
  const documents: YamlDocument[] = [];
  if (!Array.isArray(parsed)) return documents;
  const at = (offset: number): SourcePosition => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  for (const document of parsed) {
    const mistake = document.errors[0];
    if (mistake !== undefined) throw badYaml(at(mistake.pos[0]), mistake.message);
    if (document.contents === null) continue;
    const value = plainValue(document, at);
    if (value === null || value === undefined) continue;
    const index = documents.length;
    documents.push({
      file,
      index,
      value,
      position: (path) => at(offsetOf(document.contents, typeof path === "string" ? splitPath(path) : path)),
    });
  }
  return documents;
}

function plainValue(document: Document, at: (offset: number) => SourcePosition): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 }) as unknown;
  } catch (error) {
    throw badYaml(at(document.range?.[0] ?? 0), error instanceof Error ? error.message : String(error));
  }
}

function badYaml(position: SourcePosition, message: string): CalicoError {
  const { file, line, column } = position;
  return new CalicoError("BAD_INPUT", `${formatPosition(position)}: ${message}`, { detail: { file, line, column } });
}

/** Offset of the key (or list item) the path leads to, stopping where the document has no more. */
function offsetOf(root: unknown, path: readonly (string | number)[]): number {
  let node: unknown = root;
  let offset = startOf(root) ?? 0;
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(part),
      );
      if (pair === undefined) break;
      offset = startOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      const item = node.items[Number(part)];
      if (item === undefined) break;
      offset = startOf(item) ?? offset;
      node = item;
    } else break;
  }
  return offset;
}

const startOf = (node: unknown): number | undefined => (node as Node | null | undefined)?.range?.[0];
