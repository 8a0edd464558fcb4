/** SCENARIOS.md names tests: they are there. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");
const text = readFileSync(join(import.meta.dirname, "../SCENARIOS.md"), "utf8");

/** Test names are strings, or templates, wherever they stand: an identifier of the same name is no test. */
const testNames = (source: string): string => (source.match(/"[^"\n]*"|`[^`]*`/g) ?? []).join("\n");

const files = new Map(
  [...text.matchAll(/^\| ([A-Z]+) \| `([^`]+)` \|$/gm)].map(([, letter = "", path = ""]) => [
    letter,
    testNames(readFileSync(join(ROOT, path), "utf8")),
  ]),
);
const rows = text
  .split("\n")
  .filter((line) => /^\| (?![A-Z]+ \|)[^|]+ \| [^|]+ \|$/.test(line) && !line.includes("| test |"));

test("every row of the scenario lists names tests that exist, or a reason", () => {
  expect(rows.length).toBeGreaterThan(90);
  const wrong: string[] = [];
  for (const row of rows) {
    const tests = [...row.matchAll(/\b([A-Z]+) "([^"]+)"/g)];
    if (tests.length === 0 && !row.includes("— ")) wrong.push(`neither test nor reason: ${row}`);
    for (const [, letter = "", name = ""] of tests) {
      if (files.get(letter)?.includes(name) !== true) wrong.push(`${letter} has no "${name}"`);
    }
  }
  expect(wrong).toEqual([]);
});
