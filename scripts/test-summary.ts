/** Adds up vitest's JSON reports: what was skipped by name, and one closing line for people and machines. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly message?: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

const [, , folder = "artifacts/test"] = process.argv;
const files = globSync(join(folder, "*.json"));
const tests = files.flatMap((file) =>
  (JSON.parse(readFileSync(file, "utf8")) as Report).testResults.flatMap((suite) =>
    // A file that could not be loaded has no tests, and is a failure all the same.
    suite.assertionResults.length === 0 && suite.status === "failed"
      ? [{ status: "failed", fullName: suite.name }]
      : suite.assertionResults,
  ),
);
const count = (status: string): number => tests.filter((one) => one.status === status).length;
const [passed, failed] = [count("passed"), count("failed")];
const skipped = tests.length - passed - failed;
for (const one of tests.filter(({ status }) => status !== "passed" && status !== "failed")) {
  process.stdout.write(`not run: ${one.fullName.trim()}\n`);
}
process.stdout.write(`tests: ${passed} passed, ${failed} failed, ${skipped} skipped\n`);
if (failed > 0 || passed === 0) process.exitCode = 1;
