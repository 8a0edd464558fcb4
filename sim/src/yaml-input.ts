/**
 * A YAML file a person wrote for the simulator (a topology, a list of expectations): read, checked against a schema, and
 * ready to be blamed by line.
 */
import { readInput } from "@calico-ts/runtime";
import type { FieldError, JsonSchema, YamlDocument } from "@calico-ts/schema";
import { cloneJson, fieldErrorBody, parseYamlDocuments, prune, splitPath, validate } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import type { FieldPath, Problem } from "./problems.ts";
import { formatFieldPath, problemsError } from "./problems.ts";

export interface YamlInput {
  readonly value: unknown;
  problem(path: FieldPath, message: string): Problem;
}

/** @throws CalicoError BAD_INPUT when the file cannot be read, is not YAML, or does not hold exactly one document. */
export function readYamlInput(file: string, what: string): YamlInput {
  const documents = parseYamlDocuments(readInput(file, what), file);
  const [document, second] = documents;
  if (document === undefined) throw new CalicoError("BAD_INPUT", `${file}:1:1: holds no ${what}: the file is empty`);
  if (second !== undefined) {
    throw problemsError([
      problemAt(second, [], `a second document; ${what === "" ? "it" : `a ${what} file`} holds one`),
    ]);
  }
  return { value: document.value, problem: (path, message) => problemAt(document, path, message) };
}

export function problemAt(document: YamlDocument, path: FieldPath, message: string): Problem {
  const { file, line, column } = document.position(path);
  return { file, line, column, field: formatFieldPath(path), message };
}

/** What the schema has against the value: unknown fields, missing ones, bad values. */
export function schemaProblems(input: YamlInput, schema: JsonSchema): Problem[] {
  const unknown = prune(schema, cloneJson(input.value), { resource: false, keep: true }).map((path) => {
    const steps = splitPath(path);
    const known = knownFields(schema, steps.slice(0, -1));
    return input.problem(steps, `unknown field${known.length === 0 ? "" : `; known here: ${known.join(", ")}`}`);
  });
  const wrong = validate(schema, input.value)
    .filter((error) => error.type !== "Forbidden")
    .map((error) => input.problem(splitPath(error.path), wordsFor(error)));
  return [...unknown, ...wrong];
}

/** The API server's words without its habit of repeating the path. */
function wordsFor(error: FieldError): string {
  if (error.type === "TypeInvalid") return error.message.replace(`${error.path} in body `, "");
  return fieldErrorBody(error).replace(`${error.path} in body `, "");
}

function knownFields(schema: JsonSchema, path: FieldPath): string[] {
  let at: JsonSchema | undefined = schema;
  for (const step of path) at = typeof step === "number" ? at?.items : at?.properties?.[step];
  return Object.keys(at?.properties ?? {}).filter((name) => !name.startsWith("$"));
}
