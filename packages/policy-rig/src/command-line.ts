/** `npm run fuzz -- policy …`: options, output, exit codes. 0: no mismatch; 1: some; 2: bad usage. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { CalicoError, errorText, hasCode } from "@calico-ts/std";
import { caseText, parseCase } from "./case-file.ts";
import type { Mismatch } from "./fuzz.ts";
import { fuzz } from "./fuzz.ts";
import { findingText } from "./report.ts";
import { Rig } from "./rig.ts";
import { replay } from "./replay.ts";
import { defectsPage, tryDefects } from "./defects/try-defects.ts";

const USAGE = `usage: npm run fuzz -- policy [options]

  --seed S       what the random worlds depend on (default: a new one, printed)
  --cases N      how many (default: as many as there is time for)
  --seconds T    how long (default: 60, or no limit with --cases)
  --backend nft  the dataplane on trial; nft is the only one
  --json         one JSON object on standard output
  --keep DIR     where mismatches go (default: e2e/regression)
  --replay FILE  one kept case again
  --defects      try the deliberate defects; writes docs/generated/policy-defects.md
  --only NAME    with --defects: only those whose name contains it
`;

const OPTIONS = {
  seed: { type: "string" },
  cases: { type: "string" },
  seconds: { type: "string" },
  backend: { type: "string", default: "nft" },
  json: { type: "boolean", default: false },
  keep: { type: "string" },
  replay: { type: "string" },
  defects: { type: "boolean", default: false },
  only: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

/** Of the names of namespaces of this process. */
export const rigPrefix = (): string => `ct-${process.pid}-rig`;

export interface Surroundings {
  /** Of the repository. */
  readonly root: string;
  /** A seed nobody has used yet. */
  readonly freshSeed: () => string;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

export async function runFuzz(args: readonly string[], around: Surroundings): Promise<number> {
  try {
    const { values } = parseArgs({ args: [...args], options: OPTIONS });
    if (values.help) {
      around.out(USAGE);
      return 0;
    }
    if (values.backend !== "nft") throw new CalicoError("BAD_INPUT", `unknown backend "${values.backend}": use nft`);
    using rig = new Rig({ prefix: rigPrefix() });
    if (values.replay !== undefined) return await runReplay(rig, values.replay, around);
    const seed = values.seed ?? around.freshSeed();
    if (values.defects) return await runDefects(rig, { seed, only: values.only, json: values.json }, around);
    return await runCases(rig, { ...values, seed }, around);
  } catch (error) {
    const usage = hasCode(error, "BAD_INPUT") || hasCode(error, "ERR_PARSE_ARGS_UNKNOWN_OPTION" as never);
    around.err(`${errorText(error)}\n${usage ? `\n${USAGE}` : ""}`);
    return 2;
  }
}

interface CaseOptions {
  readonly seed: string;
  readonly cases?: string | undefined;
  readonly seconds?: string | undefined;
  readonly json: boolean;
  readonly keep?: string | undefined;
}

async function runCases(rig: Rig, options: CaseOptions, around: Surroundings): Promise<number> {
  const cases = options.cases === undefined ? undefined : count(options.cases, "--cases");
  const limit = cases === undefined ? 60 : 1_000_000;
  const seconds = options.seconds === undefined ? limit : count(options.seconds, "--seconds");
  const folder = options.keep ?? join(around.root, "e2e/regression");
  around.err(`seed ${options.seed}\n`);
  const say = options.json ? around.err : around.out;
  const result = await fuzz(rig, {
    seed: options.seed,
    ...(cases === undefined ? {} : { cases }),
    budgetMs: seconds * 1000,
    enough: 5,
    shrinkMs: 60_000,
    progress: (line) => around.err(`${line}\n`),
    onMismatch: (mismatch) => say(keep(mismatch, folder, around.root)),
  });
  const { allowed, seconds: took, ...summary } = result;
  if (options.json) around.out(`${JSON.stringify(summary)}\n`);
  else {
    around.out(
      `seed ${result.seed}: ${result.cases} cases, ${result.verdicts} kernel verdicts (${Math.round(allowed * 100)}% allowed), ` +
        `${result.mismatches} mismatches, ${result.verdictsPerSecond} verdicts/s, ${took.toFixed(1)} s\n`,
    );
  }
  return result.mismatches > 0 ? 1 : 0;
}

/** Writes the case down and returns what to print. */
function keep({ found, finding, trace }: Mismatch, folder: string, root: string): string {
  mkdirSync(folder, { recursive: true });
  const name = `${finding.kind}-${found.name.replaceAll(/[^A-Za-z0-9-]/g, "_")}`;
  const file = join(folder, `${name}.yaml`);
  const text = caseText({ ...found, name, about: findingText(finding) });
  writeFileSync(file, text);
  const steps = trace.length === 0 ? "" : `rules the packet met:\n  ${trace.join("\n  ")}\n`;
  const again = `npm run fuzz -- policy --replay ${relative(root, file)}`;
  return `\nMISMATCH ${findingText(finding)}\n${steps}\n${text}\nagain: ${again}\n`;
}

async function runReplay(rig: Rig, file: string, around: Surroundings): Promise<number> {
  const source = parseCase(readFileSync(file, "utf8"), file);
  const wrong = await replay(rig, source);
  around.out(wrong.length === 0 ? `${source.name}: as it should be\n` : `${source.name}:\n${wrong.join("\n")}\n`);
  return wrong.length === 0 ? 0 : 1;
}

interface DefectOptions {
  readonly seed: string;
  readonly only?: string | undefined;
  readonly json: boolean;
}

async function runDefects(rig: Rig, options: DefectOptions, around: Surroundings): Promise<number> {
  const results = await tryDefects(rig, {
    seed: options.seed,
    only: options.only ?? "",
    budgetMs: 60_000,
    progress: (line) => around.err(`${line}\n`),
  });
  const found = results.filter((result) => result.found).length;
  if (options.only === undefined) {
    const path = join(around.root, "docs/generated/policy-defects.md");
    writeFileSync(path, defectsPage(results));
    around.err(`written: ${relative(around.root, path)}\n`);
  }
  if (options.json) around.out(`${JSON.stringify({ seed: options.seed, defects: results.length, found, results })}\n`);
  else around.out(`${found} of ${results.length} defects found\n`);
  return found * 100 >= results.length * 95 ? 0 : 1;
}

function count(text: string, option: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) {
    throw new CalicoError("BAD_INPUT", `${option} ${text}: not a whole number above 0`);
  }
  return value;
}
