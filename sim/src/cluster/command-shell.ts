/**
 * Short commands in a network namespace, started by a small shell instead of by this process.
 *
 * Forking costs page tables: in a daemon of 500 MB one `spawn` holds the event loop for some 20 ms, and a cluster that comes up
 * starts a thousand plugin processes. A `sh` in the namespace forks in a third of a millisecond and on another core. It gets one
 * script per command on its standard input, runs it in the background, and reports two lines: the process id and the exit status.
 * Output goes through files of a private directory, since one pipe cannot carry several outputs side by side.
 *
 * A shell is found by the namespace itself (its inode), not by its path, which may be a new namespace tomorrow. It ends with this process,
 * when told to, and after a while without work.
 */
import type { ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { readFile, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { namespaceInode, startProgram } from "@calico-ts/linux";
import { CalicoError } from "@calico-ts/std";
import { runEnvironment } from "../run/run-folder.ts";

export interface ShellCommand {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly signal?: AbortSignal;
}

export interface ShellResult {
  /** As shells tell it: 127 for a command that is not there, 128 + signal number for one that was killed. */
  readonly exitCode: number;
  readonly stdout: string;
  /** Of a command that failed; nobody reads what a plugin that did its work had to complain about. */
  readonly stderr: string;
}

interface Pending {
  readonly resolve: (exitCode: number) => void;
  readonly reject: (error: CalicoError) => void;
  pid: number | undefined;
  killed: boolean;
}

const IDLE_MS = 120_000;
const shells = new Map<string, CommandShell>();
const directories = new Map<string, string>();

/** Where the shells of a run keep outputs: below the run's own folder, so that sweeping the run after a crash sweeps them too. */
export function keepShellOutputs(run: string, dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  directories.set(run, dir);
}

/** Runs a command to its end. `signal` ends it with SIGKILL, which is an exit status and no error. */
export function runInShell(
  where: { readonly netns: string; readonly run: string },
  command: ShellCommand,
): Promise<ShellResult> {
  const key = `${where.run} ${namespaceInode(where.netns)}`;
  let shell = shells.get(key);
  if (shell === undefined || shell.closed) {
    const fresh = new CommandShell(where, () => {
      if (shells.get(key) === fresh) shells.delete(key);
    });
    shell = fresh;
    shells.set(key, fresh);
  }
  return shell.run(command);
}

/** Ends the shells of a run, or of one of its namespaces. Commands under way are killed. */
export async function closeShells(run: string, netns?: string): Promise<void> {
  const wanted = netns === undefined ? undefined : `${run} ${inodeOrNone(netns)}`;
  const closing = [...shells].filter(([key]) => (wanted === undefined ? key.startsWith(`${run} `) : key === wanted));
  await Promise.all(closing.map(([, shell]) => shell.close()));
  if (netns === undefined) directories.delete(run);
}

function inodeOrNone(netns: string): string {
  try {
    return namespaceInode(netns);
  } catch {
    return "none";
  }
}

export class CommandShell {
  readonly #child: ChildProcess;
  readonly #dir: string;
  readonly #pending = new Map<string, Pending>();
  readonly #exited = Promise.withResolvers<void>();
  readonly #onClosed: () => void;
  #sequence = 0;
  #idle: NodeJS.Timeout | undefined;
  closed = false;

  constructor({ netns, run }: { readonly netns: string; readonly run: string }, onClosed: () => void) {
    this.#onClosed = onClosed;
    this.#dir = mkdtempSync(join(directories.get(run) ?? tmpdir(), "calico-sim-sh-"));
    const env = { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", ...runEnvironment(run) };
    this.#child = startProgram("/bin/sh", [], { netns, env, detached: true, stdio: ["pipe", "pipe", "ignore"] });
    this.#child.on("error", () => this.#gone());
    this.#child.on("close", () => this.#gone());
    this.#child.stdin?.on("error", () => undefined); // "close" tells the rest
    if (this.#child.stdout !== null) {
      createInterface({ input: this.#child.stdout }).on("line", (line) => this.#heard(line));
    }
    this.#rest();
  }

  async run(command: ShellCommand): Promise<ShellResult> {
    if (command.argv.length === 0) throw new CalicoError("BAD_INPUT", "an empty command cannot be run");
    if (this.closed) throw new CalicoError("CANCELLED", "the namespace is going away");
    this.#sequence += 1;
    const id = String(this.#sequence);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const pending: Pending = { resolve, reject, pid: undefined, killed: false };
    this.#pending.set(id, pending);
    clearTimeout(this.#idle);
    const kill = (): void => {
      pending.killed = true;
      if (pending.pid !== undefined) killProcess(pending.pid);
    };
    command.signal?.addEventListener("abort", kill, { once: true });
    if (command.signal?.aborted === true) pending.killed = true;
    const file = join(this.#dir, id);
    this.#child.stdin?.write(shellScript(id, file, command));
    try {
      const exitCode = await promise;
      const stdout = await outputIn(`${file}.out`);
      const stderr = exitCode === 0 ? "" : await outputIn(`${file}.err`);
      return { exitCode, stdout, stderr };
    } finally {
      command.signal?.removeEventListener("abort", kill);
      this.#pending.delete(id);
      this.#rest();
      void Promise.allSettled([unlink(`${file}.out`), unlink(`${file}.err`)]);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const pending of this.#pending.values()) {
      pending.killed = true; // one that has not told its pid yet is killed when it does
      if (pending.pid !== undefined) killProcess(pending.pid);
    }
    this.#child.stdin?.end();
    await this.#exited.promise;
  }

  /** `<id> p <pid>` when the command has begun, `<id> e <status>` when it has ended. */
  #heard(line: string): void {
    const [id = "", what, value] = line.split(" ");
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    if (what === "e") pending.resolve(Number(value));
    else {
      pending.pid = Number(value);
      if (pending.killed) killProcess(pending.pid);
    }
  }

  #rest(): void {
    clearTimeout(this.#idle);
    if (this.#pending.size > 0 || this.closed) return;
    this.#idle = setTimeout(() => void this.close(), IDLE_MS);
    this.#idle.unref();
  }

  #gone(): void {
    this.closed = true;
    clearTimeout(this.#idle);
    for (const { reject } of this.#pending.values())
      reject(new CalicoError("UNAVAILABLE", "the shell that ran the command is gone"));
    this.#pending.clear();
    rmSync(this.#dir, { recursive: true, force: true });
    this.#onClosed();
    this.#exited.resolve();
  }
}

/** Nothing, when the shell has gone and taken its directory along. */
const outputIn = (path: string): Promise<string> => readFile(path, "utf8").catch(() => "");

/** Everything is quoted; the only words the shell reads as its own are written here. */
export function shellScript(id: string, file: string, { argv, env, stdin }: ShellCommand): string {
  const variables = Object.entries(env);
  const plain = variables.every(([name]) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  // An assignment before a command takes only what the shell thinks is a name; `env` takes any, for one more exec.
  const command = plain
    ? [...variables.map(([name, value]) => `${name}=${quote(value)}`), ...argv.map(quote)]
    : ["/usr/bin/env", ...variables.map(([name, value]) => quote(`${name}=${value}`)), ...argv.map(quote)];
  const marker = `END_OF_INPUT_${id}`;
  const safe = stdin?.split("\n").includes(marker) === true ? stdin.replaceAll(marker, `${marker} `) : stdin;
  const input = safe === undefined ? "</dev/null" : `<<'${marker}'`;
  const body = safe === undefined ? "" : `${safe}\n${marker}\n`;
  return (
    `( ${command.join(" ")} >${quote(`${file}.out`)} 2>${quote(`${file}.err`)} ${input} &\n${body}` +
    `p=$!; echo "${id} p $p"; wait $p; echo "${id} e $?" ) &\n`
  );
}

export const quote = (word: string): string => `'${word.replaceAll("'", "'\\''").replaceAll("\0", "")}'`;

function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}
