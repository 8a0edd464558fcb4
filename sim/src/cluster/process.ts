/**
 * Starting processes inside a network namespace, and ending them.
 *
 * Each process leads its own group, so that a SIGKILL reaches what it started too, and carries the
 * run's name in its environment, by which a later sweep finds it.
 */
import type { ChildProcess, StdioOptions } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";
import { startProgram } from "@calico-ts/linux";
import { CalicoError } from "@calico-ts/std";
import { runEnvironment } from "../run/run-folder.ts";
import { runInShell } from "./command-shell.ts";
import type { ExecResult, ProgramContext, RunningProgram } from "./program.ts";

export interface ProcessSpec {
  readonly netns: string;
  readonly run: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

const OUTPUT_BYTES = 10 * 1024;
/** A signal's exit status as shells tell it. */
const SIGNAL_BASE = 128;
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The usual body of `NodeProgram.start`. */
export function spawnInNamespace(
  context: ProgramContext,
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<RunningProgram> {
  return startLogged(
    { netns: context.netns, run: context.run, argv, env: { ...context.env, ...env } },
    context.logFile,
  );
}

/** The usual body of `NodeProgram.exec`. */
export function execInNamespace(
  context: ProgramContext,
  argv: readonly string[],
  options: { readonly signal: AbortSignal; readonly env?: Readonly<Record<string, string>> },
): Promise<ExecResult> {
  const { netns, run } = context;
  return runToEnd({ netns, run, argv, env: { ...context.env, ...options.env } }, options.signal);
}

/** @throws CalicoError NOT_FOUND or NO_PERMISSION when the executable cannot be started. */
export async function startLogged(spec: ProcessSpec, logFile: string): Promise<RunningProgram> {
  mkdirSync(dirname(logFile), { recursive: true });
  const log = openSync(logFile, "a");
  try {
    const child = spawnIn(spec, ["ignore", log, log]);
    await spawned(child, spec);
    return new SpawnedProgram(child);
  } finally {
    closeSync(log);
  }
}

/** Runs a command to its end; a command that cannot be started exits with 127, as in a shell. */
export async function runToEnd(spec: ProcessSpec, signal: AbortSignal): Promise<ExecResult> {
  const env = { ...spec.env, ...runEnvironment(spec.run) };
  const { exitCode, stdout, stderr } = await runInShell(spec, { argv: spec.argv, env, signal });
  return { exitCode, output: (stdout + stderr).slice(-OUTPUT_BYTES) };
}

function spawnIn(spec: ProcessSpec, stdio: StdioOptions): ChildProcess {
  const [command, ...args] = spec.argv;
  if (command === undefined) throw new CalicoError("BAD_INPUT", "an empty command cannot be started");
  const env = { PATH: process.env["PATH"] ?? DEFAULT_PATH, ...spec.env, ...runEnvironment(spec.run) };
  const { netns, cwd } = spec;
  return startProgram(command, args, { netns, env, stdio, detached: true, ...(cwd === undefined ? {} : { cwd }) });
}

function spawned(child: ChildProcess, spec: ProcessSpec): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause: NodeJS.ErrnoException) => {
      const code = cause.code === "EACCES" ? "NO_PERMISSION" : "NOT_FOUND";
      reject(new CalicoError(code, `cannot start ${spec.argv[0] ?? ""}: ${cause.message}`, { cause }));
    });
  });
}

function exitOf(child: ChildProcess): Promise<number> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => {
    child.once("close", (code, signal) => {
      resolve(code ?? SIGNAL_BASE + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Gone already.
  }
}

class SpawnedProgram implements RunningProgram {
  readonly pid: number;
  readonly exited: Promise<number>;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.exited = exitOf(child).then((code) => {
      // What it left behind in its group would keep ports and sockets of the next start busy.
      killGroup(child, "SIGKILL");
      return code;
    });
  }

  async stop(graceMs: number): Promise<void> {
    if (graceMs > 0) this.#child.kill("SIGTERM");
    else killGroup(this.#child, "SIGKILL");
    const timer = setTimeout(() => killGroup(this.#child, "SIGKILL"), Math.max(graceMs, 1));
    await this.exited;
    clearTimeout(timer);
  }
}
