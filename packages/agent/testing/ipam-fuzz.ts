/**
 * `npm run fuzz -- ipam [--schedules N] [--seed S] [--json]`: plays stories of address management (cni-story.ts), one per seed. A story that ends badly
 * is shrunk and printed step by step; exit code 1.
 */
import { parseArgs } from "node:util";
import { shrinkChoices } from "@calico-ts/ipam/testing";
import { play, type Verdict } from "./cni-story.ts";

const { values } = parseArgs({
  options: {
    schedules: { type: "string", default: "1000" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const schedules = Number(values.schedules);
const seed = Number(values.seed);
if (!Number.isSafeInteger(schedules) || schedules < 1 || !Number.isSafeInteger(seed)) {
  process.stderr.write("fuzz ipam: --schedules must be a positive integer and --seed an integer\n");
  process.exit(2);
}

const SHOWN_FAILURES = 3;

async function verdictOf(options: Parameters<typeof play>[0]): Promise<Verdict> {
  try {
    return await play(options);
  } catch (error) {
    return { problems: [error instanceof Error ? error.message : String(error)], trace: [], choices: [] };
  }
}

async function report(failed: number, { choices }: Verdict): Promise<void> {
  const small = await shrinkChoices(choices, async (next) => (await verdictOf({ choices: next })).problems.length > 0);
  const { problems, trace } = await verdictOf({ choices: small });
  process.stderr.write(`\nseed ${failed}, shrunk to ${small.length} choices [${small.join()}]: ${problems[0] ?? ""}\n`);
  for (const [at, line] of trace.entries()) process.stderr.write(`  ${String(at + 1).padStart(3)} ${line}\n`);
}

let violations = 0;
const startedAt = performance.now();
for (let at = 0; at < schedules; at++) {
  const verdict = await verdictOf({ seed: seed + at });
  if (verdict.problems.length > 0 && violations++ < SHOWN_FAILURES) await report(seed + at, verdict);
  if ((at + 1) % 5000 === 0) process.stderr.write(`${at + 1} schedules, ${violations} violations\n`);
}
const seconds = (performance.now() - startedAt) / 1000;
process.stdout.write(
  values.json
    ? `${JSON.stringify({ schedules, violations, seed })}\n`
    : `${schedules} schedules from seed ${seed}: ${violations} violations (${seconds.toFixed(1)} s)\n`,
);
process.exitCode = violations > 0 ? 1 : 0;
