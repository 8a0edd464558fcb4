/**
 * Runs a command of this machine under another kernel: user-mode Linux (Debian package `user-mode-linux`), a Linux kernel that is a
 * process. It sees the host's files, read-only; it has the modules that the host's kernel lacks, ipip among them.
 *
 * Debian builds it without the families of nf_tables (`CONFIG_NF_TABLES_INET`, `_IPV4`, `_IPV6`), so no rule set can be loaded in it, and
 * without seccomp mode, so a process runs about ten times slower than outside (Node starts in 0.4 s). Tests in it are single programs.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const KERNEL = "/usr/bin/linux.uml";
const INIT = join(import.meta.dirname, "init.sh");
const MEMORY = "1G";

export interface UmlOptions {
  readonly argv: readonly string[];
  readonly modules: readonly string[];
  readonly timeoutMs: number;
}

export interface UmlResult {
  /** Undefined: it was cut off, or did not come that far; `console` tells. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly console: string;
}

export const hasUml = (): boolean => existsSync(KERNEL);

export async function runInUml({ argv, modules, timeoutMs }: UmlOptions): Promise<UmlResult> {
  const folder = mkdtempSync(join(tmpdir(), `ct-uml-${process.pid}-`));
  try {
    writeFileSync(join(folder, "command"), `exec ${argv.map(quoted).join(" ")}\n`);
    const output = await boot(
      [
        ...["rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/sh", `mem=${MEMORY}`, "quiet", "loglevel=1"],
        // Its name and control socket are in a folder of their own, so runs do not meet.
        ...[`umid=${process.pid}`, `uml_dir=${folder}`, "con=null", "con0=fd:0,fd:1"],
        // What the kernel does not know it gives to the first process, as its environment.
        ...[`UML_SCRIPT=${INIT}`, `UML_FOLDER=${folder}`, `UML_MODULES=${modules.join(" ")}`].map((word) =>
          word.includes(" ") ? `"${word}"` : word,
        ),
        "--",
        INIT,
      ],
      timeoutMs,
    );
    const read = (name: string): string => {
      const path = join(folder, name);
      return existsSync(path) ? readFileSync(path, "utf8") : "";
    };
    const code = read("exit-code").trim();
    const exitCode = code === "" ? undefined : Number(code);
    return { exitCode, stdout: read("stdout"), stderr: read("stderr"), console: output };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Everything it printed. It leads a group of its own processes, all of which end with it. */
function boot(args: readonly string[], timeoutMs: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const machine = spawn(KERNEL, args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
  const late = setTimeout(() => killGroup(machine.pid), timeoutMs);
  let text = "";
  for (const stream of [machine.stdout, machine.stderr])
    stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
  machine.once("error", reject);
  machine.once("close", () => {
    clearTimeout(late);
    killGroup(machine.pid);
    resolve(text);
  });
  return promise;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // all of them ended
  }
}

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
