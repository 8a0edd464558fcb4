/** `npm run fuzz -- TARGET [OPTION…]`: runs the fuzzer of that name; options go to it. Each prints its seed, and the same seed is the same run. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const TARGETS: Readonly<Record<string, { readonly file: string; readonly about: string }>> = {
  bgp: {
    file: "packages/bgp/testing/fuzz/main.ts",
    about: "every decoder and whole sessions on hostile input [--inputs N] [--seed S] [--law NAME] [--json]",
  },
  ipam: {
    file: "packages/agent/testing/ipam-fuzz.ts",
    about: "interleavings and crashes of address management [--schedules N] [--seed S] [--json]",
  },
  kills: {
    file: "e2e/testing/kills.ts",
    about:
      "every process of every shipped topology killed under traffic, as root [--topology NAME]… [--settle SECONDS]",
  },
  policy: {
    file: "packages/policy-rig/src/main.ts",
    about: "the kernel's verdicts against the oracle's, as root [--seed S] [--cases N] [--seconds T] [--json] [--help]",
  },
};

const root = join(import.meta.dirname, "..");
const [name = "--help", ...options] = process.argv.slice(2);
const target = Object.hasOwn(TARGETS, name) ? TARGETS[name] : undefined;
if (target === undefined) {
  const known = Object.entries(TARGETS).map(([key, { about }]) => `  ${key.padEnd(8)} ${about}`);
  process.stdout.write(
    `${name.startsWith("-") ? "" : `unknown target: ${name}\n`}npm run fuzz -- TARGET [OPTION...]\n${known.join("\n")}\n`,
  );
  process.exit(name === "--help" ? 0 : 2);
}
// An interrupt reaches the fuzzer too, which cleans up; until it has ended this process waits.
process.on("SIGINT", () => {});
const run = spawnSync(process.execPath, ["--conditions=calico-src", join(root, target.file), ...options], {
  stdio: "inherit",
  cwd: root,
});
process.exitCode = run.status ?? 1;
