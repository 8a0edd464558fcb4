/**
 * `node scripts/run-tests.ts unit|kernel`: one project of vitest, with a JSON report in artifacts/test/.
 *
 * Two cores shared with other people's work make a rare test miss its moment. So the few files that failed run once more, each by itself; a
 * test that passes then is named as unsteady at the end of `npm test` and its bundle is kept: a defect to mend, but not a broken build. More
 * than MOST_FILES failed files are a broken build, and nothing is repeated.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { relative } from "node:path";

const MOST_FILES = 3;
const [, , project = "unit"] = process.argv;
const FOLDER = "artifacts/test";

function vitest(report: string, ...args: readonly string[]): boolean {
  rmSync(report, { force: true });
  const reports = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const { status } = spawnSync("vitest", ["run", "--project", project, ...reports, ...args], { stdio: "inherit" });
  return status === 0;
}

function failedFiles(report: string): readonly string[] {
  if (!existsSync(report)) return [];
  const { testResults } = JSON.parse(readFileSync(report, "utf8")) as {
    readonly testResults: readonly { readonly name: string; readonly status: string }[];
  };
  return testResults.filter(({ status }) => status === "failed").map(({ name }) => relative(process.cwd(), name));
}

const first = `${FOLDER}/${project}.json`;
if (!vitest(first)) {
  const files = failedFiles(first);
  // No failed file: vitest itself failed, by an error outside of every test.
  const again = files.length > 0 && files.length <= MOST_FILES;
  if (again) process.stderr.write(`\n==> once more, each by itself: ${files.join(", ")}\n`);
  const steady = again && files.map((file, index) => vitest(`${FOLDER}/${project}-again-${index}.json`, file));
  if (steady === false || steady.includes(false)) process.exitCode = 1;
}
