/**
 * `npm run check`: everything that needs neither root nor a network: types, packages, lint, format, boundaries, generated files, unit tests.
 * Runs all of it even after a failure, so that one run shows everything that is wrong.
 */
import { spawnSync } from "node:child_process";

const steps: readonly { readonly name: string; readonly command: readonly [string, ...string[]] }[] = [
  { name: "types", command: ["tsc", "-b"] },
  { name: "packages as npm gives them", command: ["node", "scripts/check-packages.ts"] },
  { name: "lint", command: ["oxlint", "packages", "sim", "e2e", "images", "scripts"] },
  { name: "format", command: ["biome", "format", "."] },
  { name: "boundaries", command: ["turbo", "boundaries"] },
  { name: "generated files", command: ["node", "--conditions=calico-src", "scripts/generate.ts", "--check"] },
  { name: "lock file", command: ["node", "scripts/lockfile.ts", "--check"] },
  { name: "unit tests", command: ["node", "scripts/run-tests.ts", "unit"] },
];

const failed: string[] = [];
for (const { name, command } of steps) {
  const startedAt = performance.now();
  process.stderr.write(`\n==> ${name}: ${command.join(" ")}\n`);
  const [program, ...args] = command;
  const { status } = spawnSync(program, args, {
    stdio: "inherit",
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: "1" },
  });
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  process.stderr.write(`==> ${name}: ${status === 0 ? "ok" : "FAILED"} (${seconds} s)\n`);
  if (status !== 0) failed.push(name);
}
if (failed.length > 0) {
  process.stderr.write(`\nnpm run check failed: ${failed.join(", ")}\n`);
  process.exitCode = 1;
}
