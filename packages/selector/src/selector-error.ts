import { CalicoError } from "@calico-ts/std";

const EXCERPT = 100;

/** A BAD_INPUT error that shows the selector with a caret under the offending column (1-based in `detail.column`). */
export function selectorError(text: string, at: number, problem: string): CalicoError {
  // A long selector is cut around the problem, and control characters are shown, so that the caret stays in place.
  const from = Math.max(0, at - EXCERPT / 2);
  const shown = text.slice(from, from + EXCERPT).replaceAll(/[^\u0020-\uD7FF\uE000-\uFFFF]/g, "\u00B7");
  return new CalicoError(
    "BAD_INPUT",
    `selector does not parse: ${problem} (column ${at + 1})\n  ${shown}\n  ${" ".repeat(at - from)}^`,
    { detail: { column: at + 1, selector: text } },
  );
}
