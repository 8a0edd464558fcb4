/**
 * Everything wrong with a file a person wrote, gathered before anything is created and shown at once.
 *
 * A problem knows where (file, line, column, field) and says what and why; the sentence ends with what to do when that is
 * not plain.
 */
import { CalicoError } from "@calico-ts/std";

export type FieldPath = readonly (string | number)[];

export interface Problem {
  readonly file: string;
  readonly line?: number;
  readonly column?: number;
  readonly field?: string;
  readonly message: string;
}

/** `nodes[2].address` */
export function formatFieldPath(path: FieldPath): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else if (/^[A-Za-z0-9_$-]+$/.test(step)) text += text === "" ? step : `.${step}`;
    else text += `[${JSON.stringify(step)}]`;
  }
  return text;
}

/** `file:line:column: field: message`, as compilers write it, so that editors and terminals link it. */
export function formatProblem(problem: Problem): string {
  const { file, line, column, field, message } = problem;
  const where = line === undefined ? file : `${file}:${line}${column === undefined ? "" : `:${column}`}`;
  return `${where}: ${field === undefined || field === "" ? "" : `${field}: `}${message}`;
}

/** In the order a reader meets them in the files. */
export function sortProblems(problems: readonly Problem[]): Problem[] {
  return problems.toSorted(
    (a, b) =>
      (a.file < b.file ? -1 : a.file > b.file ? 1 : 0) ||
      (a.line ?? 0) - (b.line ?? 0) ||
      (a.column ?? 0) - (b.column ?? 0),
  );
}

/** One BAD_INPUT error that tells all of them. */
export function problemsError(problems: readonly Problem[]): CalicoError {
  const lines = sortProblems(problems).map(formatProblem);
  return new CalicoError("BAD_INPUT", lines.join("\n"), { detail: { problems: lines.length } });
}
