/**
 * check-status: the probe. `-r`: ready? `-l`: alive? Both when neither is given. Exit code 0: yes; 1: no, and why on standard output; 2: bad
 * arguments.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { readControllersSettings } from "./settings.ts";
import { liveness, readiness, type Verdict } from "./status-file.ts";

function verdicts(): Verdict[] {
  const { values } = parseArgs({
    options: { readiness: { type: "boolean", short: "r" }, liveness: { type: "boolean", short: "l" } },
  });
  const { hostRoot, statusFile } = readControllersSettings(process.env);
  const path = join(hostRoot, statusFile);
  const both = values.readiness !== true && values.liveness !== true;
  return [
    ...(both || values.liveness === true ? [liveness(path)] : []),
    ...(both || values.readiness === true ? [readiness(path)] : []),
  ];
}

try {
  const found = verdicts();
  const worst = found.find(({ exitCode }) => exitCode !== 0) ?? found.at(-1);
  process.stdout.write(`${worst?.text ?? ""}\n`);
  process.exitCode = worst?.exitCode ?? 0;
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
