/**
 * `npm run fuzz -- bgp [--inputs N] [--seed S] [--json] [--law NAME]`: N inputs over all laws, each law its share. Prints what broke, made small, as a line for
 * test/regressions.json; exit code 1. Besides the laws: an input that takes longer than ten seconds of CPU is a hang, and memory that stays after the run is a leak.
 */
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { readCorpus } from "./inputs.ts";
import { LAWS } from "./laws.ts";
import { type Finding, runLaw } from "./run.ts";
import { SESSION_LAW } from "./session-law.ts";

const { values } = parseArgs({
  options: {
    inputs: { type: "string", default: "200000" },
    seed: { type: "string", default: "1" },
    law: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const inputs = Number(values.inputs);
const seed = Number(values.seed);
/** A session costs as much as a hundred of the others. */
const SESSION_SHARE = 1;
const all = [
  ...LAWS.map((law) => ({ law, share: (law.share * (100 - SESSION_SHARE)) / 100 })),
  { law: SESSION_LAW, share: SESSION_SHARE },
];
const chosen =
  values.law === undefined
    ? all
    : all.filter(({ law }) => law.name === values.law).map(({ law }) => ({ law, share: 100 }));
if (!Number.isSafeInteger(inputs) || inputs < 1 || !Number.isSafeInteger(seed) || chosen.length === 0) {
  process.stderr.write(
    `fuzz bgp: --inputs is a positive integer, --seed an integer, --law one of ${all.map(({ law }) => law.name).join(", ")}\n`,
  );
  process.exit(2);
}

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const heap = (): number => {
  collect();
  return process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
};
const LEAK_BYTES = 32 * 2 ** 20;
const HANG_SECONDS = 10;
const PORTION = 10_000;

const corpus = readCorpus();
const findings: Finding[] = [];
const problems: string[] = [];
const rows: { law: string; inputs: number; seconds: number }[] = [];
const began = performance.now();
for (const { law, share } of chosen) {
  const count = Math.max(1, Math.round((inputs * share) / 100));
  const from = performance.now();
  let before = 0;
  let slowest = 0;
  for (let done = 0; done < count && findings.length < 10; done += PORTION) {
    const { user } = process.cpuUsage();
    findings.push(...runLaw(law, corpus, seed + done, Math.min(PORTION, count - done)));
    slowest = Math.max(slowest, (process.cpuUsage().user - user) / 1e6);
    // After the first portion everything that is made once has been made.
    if (done === 0) before = heap();
  }
  const left = heap() - before;
  if (left > LEAK_BYTES)
    problems.push(
      `${law.name}: ${Math.round(left / 2 ** 20)} MB more after ${count} inputs than after the first ${PORTION}`,
    );
  if (slowest > HANG_SECONDS * 10) problems.push(`${law.name}: ${PORTION} inputs took ${slowest.toFixed(0)} s of CPU`);
  rows.push({ law: law.name, inputs: count, seconds: (performance.now() - from) / 1000 });
}
const seconds = (performance.now() - began) / 1000;
const total = rows.reduce((sum, row) => sum + row.inputs, 0);
const kept = findings.map(({ law, what, input, choice }) => ({
  law,
  choice,
  hex: Buffer.from(input).toString("hex"),
  what,
}));
if (values.json) {
  process.stdout.write(
    `${JSON.stringify({ inputs: total, seed, seconds, perSecond: Math.round(total / seconds), findings: kept, problems, laws: rows })}\n`,
  );
} else {
  for (const row of rows) {
    process.stdout.write(
      `${row.law.padEnd(14)} ${String(row.inputs).padStart(9)} inputs  ${row.seconds.toFixed(1).padStart(7)} s  ${String(Math.round(row.inputs / row.seconds)).padStart(7)} /s\n`,
    );
  }
  for (const one of kept) process.stdout.write(`\nbroken: ${JSON.stringify(one)}\n`);
  for (const problem of problems) process.stdout.write(`\n${problem}\n`);
  process.stdout.write(
    `${total} inputs from seed ${seed}: ${kept.length + problems.length} findings (${seconds.toFixed(0)} s, ${Math.round(total / seconds)} a second)\n`,
  );
}
process.exitCode = kept.length + problems.length > 0 ? 1 : 0;
