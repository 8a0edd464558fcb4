/** `npm run bench [-- NAME… [OPTIONS]]`: runs the named benchmarks, or all. Each is a program that prints a table and writes JSON to artifacts/bench; a single one gets the options. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const BENCHMARKS: Readonly<Record<string, { readonly file: string; readonly about: string }>> = {
  policy: { file: "e2e/bench/policy.ts", about: "policy from resources into the kernel, beside nft -f; the oracle" },
  cni: { file: "packages/agent/bench/cni.ts", about: "ADD and DEL against the reference plugins, 100 pods at once" },
  ipam: {
    file: "packages/ipam/bench/ipam.ts",
    about: "addresses a second: in memory, and cluster-wide over a slow store",
  },
  bgp: {
    file: "packages/bgp-daemon/bench/bgp.ts",
    about: "full tables, many peers, kernel routes, restarts: our daemon beside BIRD, FRR and GoBGP",
  },
  sim: { file: "e2e/bench/sim.ts", about: "bringing clusters up, policy latency on every node, memory of agents" },
};

const root = join(import.meta.dirname, "..");
const words = process.argv.slice(2);
const firstOption = words.findIndex((word) => word.startsWith("-"));
const names = firstOption < 0 ? words : words.slice(0, firstOption);
const options = names.length === 1 && firstOption > 0 ? words.slice(firstOption) : [];
const unknown = names.filter((name) => !Object.hasOwn(BENCHMARKS, name));
if (unknown.length > 0 || process.argv.includes("--help")) {
  const known = Object.entries(BENCHMARKS).map(([name, { about }]) => `  ${name.padEnd(8)} ${about}`);
  process.stdout.write(
    `${unknown.map((name) => `unknown benchmark: ${name}\n`).join("")}benchmarks:\n${known.join("\n")}\n`,
  );
  process.exit(unknown.length > 0 ? 2 : 0);
}
for (const [name, { file }] of Object.entries(BENCHMARKS)) {
  if (names.length > 0 && !names.includes(name)) continue;
  const { status } = spawnSync(process.execPath, ["--conditions=calico-src", join(root, file), ...options], {
    stdio: "inherit",
    cwd: root,
  });
  if (status !== 0) process.exitCode = 1;
}
