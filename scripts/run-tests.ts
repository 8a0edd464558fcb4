/**
 * `node scripts/run-tests.ts unit|kernel`: one project of vitest, with JSON reports in artifacts/test/.
 *
 * Kernel tests run in two lanes side by side, one file at a time in each: what boots the whole product, and what does not. Much of their time they
 * wait for timers, and one such cluster at a time is what two cores carry. What both lanes make, they tell apart by process id.
 *
 * Two cores shared with other people's work make a rare test miss its moment. So the few files that failed run once more, each by itself; a
 * test that passes then is named as unsteady at the end of `npm test` and its bundle is kept: a defect to mend, but not a broken build. More
 * than MOST_FILES failed files are a broken build, and nothing is repeated.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

const MOST_FILES = 3;
const FOLDER = "artifacts/test";

interface Lane {
  readonly report: string;
  /** Together they are the roots of vitest.config.ts. Empty: all. */
  readonly folders: readonly string[];
}

const LANES: Readonly<Record<string, readonly Lane[]>> = {
  unit: [{ report: "unit", folders: [] }],
  kernel: [
    { report: "kernel-clusters", folders: ["e2e/"] },
    { report: "kernel-packages", folders: ["packages/", "sim/", "images/"] },
  ],
};

const [, , project = "unit"] = process.argv;

async function vitest(report: string, args: readonly string[]): Promise<boolean> {
  const file = `${FOLDER}/${report}.json`;
  rmSync(file, { force: true });
  const reports = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
  // Piped, so that vitest writes line by line and lanes do not paint over each other.
  const child = spawn("vitest", ["run", "--project", project, ...reports, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...(process.stdout.isTTY && { FORCE_COLOR: "1" }) },
  });
  pass(child.stdout, process.stdout);
  pass(child.stderr, process.stderr);
  const [code] = await once(child, "close");
  return code === 0;
}

function pass(from: Readable, to: NodeJS.WriteStream): void {
  createInterface(from).on("line", (line) => to.write(`${line}\n`));
}

function failedFiles(report: string): readonly string[] {
  const file = `${FOLDER}/${report}.json`;
  if (!existsSync(file)) return [];
  const { testResults } = JSON.parse(readFileSync(file, "utf8")) as {
    readonly testResults: readonly { readonly name: string; readonly status: string }[];
  };
  return testResults.filter(({ status }) => status === "failed").map(({ name }) => relative(process.cwd(), name));
}

const lanes = LANES[project] ?? [];
const passed = await Promise.all(
  lanes.map(({ report, folders }) =>
    vitest(
      report,
      folders.map((folder) => join(process.cwd(), folder)),
    ),
  ),
);
const failed = lanes.filter((_lane, index) => passed[index] === false).map(({ report }) => failedFiles(report));
if (failed.length > 0) {
  const files = failed.flat();
  // A lane without a failed file: vitest itself failed, by an error outside of every test.
  const again = failed.every((some) => some.length > 0) && files.length <= MOST_FILES;
  if (again) process.stderr.write(`\n==> once more, each by itself: ${files.join(", ")}\n`);
  let steady = again;
  for (const [index, file] of again ? files.entries() : [])
    steady = (await vitest(`${project}-again-${index}`, [file])) && steady;
  if (!steady) process.exitCode = 1;
}
