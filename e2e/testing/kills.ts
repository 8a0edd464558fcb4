/**
 * `npm run fuzz -- kills`: brings every shipped topology up in turn and kills every process of it under traffic, the simulator's own daemon last.
 * Each table is `kill-each`'s. Exit code 1 when a promise was broken or something is left behind.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { shippedNames } from "@calico-ts/sim";
import { sim, traces } from "../test/simulator.ts";

const PROGRAM = join(import.meta.dirname, "../dist/bin/calico-sim.mjs");
const NAME = `kills-${process.pid}`;

const { values } = parseArgs({
  options: { topology: { type: "string", multiple: true }, settle: { type: "string", default: "3" } },
});
const topologies = values.topology ?? shippedNames();

let interrupted = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => (interrupted = true));

/** A command of the simulator with this terminal: its exit code. An interrupt reaches it too, and it cleans up after itself. */
function shown(...args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [PROGRAM, ...args, "--name", NAME], { stdio: "inherit" });
  return new Promise((resolve) => child.once("close", (code) => resolve(code ?? 1)));
}

const failed: string[] = [];
for (const topology of topologies) {
  if (interrupted) break;
  process.stdout.write(`\n==> ${topology}\n`);
  const up = await shown("up", "--topology", topology);
  const kept = up === 0 && (await shown("kill-each", "--simulator-too", "--settle", values.settle)) === 0;
  await sim("down", "--name", NAME);
  const left = traces(NAME);
  if (left.length > 0) process.stdout.write(`left behind:\n  ${left.join("\n  ")}\n`);
  if (!kept || left.length > 0) failed.push(topology);
}
process.stdout.write(
  `\n${topologies.length} topologies; ${interrupted ? "interrupted" : failed.length === 0 ? "every promise kept" : `broken promises: ${failed.join(", ")}`}\n`,
);
process.exitCode = interrupted || failed.length > 0 ? 1 : 0;
