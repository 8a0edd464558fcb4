/**
 * Container engines of our own: all they keep is in one temporary folder, without bridge and firewall rules, so that they neither see nor disturb
 * an engine that runs already. Docker needs its daemon, which is ended by process id; Podman is only a command.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const START_MS = 30_000;
const STOP_MS = 15_000;

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class Engine implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "ct-engine-"));
  readonly #command: readonly [string, ...string[]];
  readonly #env: NodeJS.ProcessEnv;
  #daemon: ChildProcess | undefined;

  private constructor(name: "docker" | "podman") {
    const folder = this.#folder;
    // One layer for a whole Dockerfile: three times as fast, and nobody keeps it.
    this.#env = { ...process.env, CONTAINERS_CONF: join(folder, "containers.conf"), BUILDAH_LAYERS: "false" };
    // Its locks would otherwise be in a shared memory segment that outlives it.
    writeFileSync(join(folder, "containers.conf"), '[engine]\nlock_type = "file"\nevents_logger = "file"\n');
    this.#command =
      name === "docker"
        ? ["docker", `--host=unix://${folder}/socket`]
        : [
            "podman",
            `--root=${folder}/data`,
            `--runroot=${folder}/run`,
            `--tmpdir=${folder}/tmp`,
            "--cgroup-manager=cgroupfs",
            "--runtime=runc",
          ];
  }

  /** The engine, or why there is none on this machine. */
  static async start(name: "docker" | "podman"): Promise<Engine | string> {
    const needed = name === "docker" ? ["dockerd", "docker", "containerd", "runc"] : ["podman", "runc"];
    const missing = needed.filter((program) => !onPath(program));
    if (missing.length > 0) return `not installed: ${missing.join(", ")}`;
    const engine = new Engine(name);
    const reason = name === "docker" ? await engine.#startDaemon() : undefined;
    if (reason === undefined) return engine;
    await engine[Symbol.asyncDispose]();
    return reason;
  }

  /** What keeps it from starting. */
  async #startDaemon(): Promise<string | undefined> {
    const folder = this.#folder;
    const log = openSync(join(folder, "log"), "w");
    const options = ["--storage-driver=overlay2", "--bridge=none", "--iptables=false", "--ip6tables=false"];
    const places = [`--data-root=${folder}/data`, `--exec-root=${folder}/exec`, `--pidfile=${folder}/pid`];
    const daemon = spawn("dockerd", [...options, ...places, `--host=unix://${folder}/socket`], {
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.#daemon = daemon;
    const giveUpAt = Date.now() + START_MS;
    while (daemon.exitCode === null && daemon.signalCode === null && Date.now() < giveUpAt) {
      if (existsSync(`${folder}/socket`) && (await this.run("version")).code === 0) return undefined;
      await sleep(100);
    }
    const said = readFileSync(join(folder, "log"), "utf8").trim().split("\n").at(-1) ?? "";
    return `dockerd does not start here: ${said}`;
  }

  /** A command of the engine; both understand the same. */
  async run(...args: readonly string[]): Promise<Output> {
    const [program, ...global] = this.#command;
    return run(program, [...global, ...args], { env: this.#env });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const containerdPid = readPid(join(this.#folder, "exec/containerd/containerd.pid"));
    if (this.#daemon !== undefined) await end(this.#daemon);
    // A daemon that had to be killed leaves the containerd that it started.
    if (containerdPid !== undefined && commandLine(containerdPid).includes(this.#folder)) process.kill(containerdPid);
    const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
    for (const line of mounts.toReversed()) {
      const [, point = ""] = line.split(" ");
      if (point.startsWith(`${this.#folder}/`)) execFileSync("umount", ["--lazy", point]);
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Runs to the end, whatever the end. */
export async function run(
  command: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly input?: string } = {},
): Promise<Output> {
  const running = promisify(execFile)(command, [...args], {
    encoding: "utf8",
    ...(options.env && { env: options.env }),
  });
  running.child.stdin?.end(options.input ?? "");
  try {
    return { code: 0, ...(await running) };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: unknown; stdout?: string; stderr?: string };
    if (typeof code !== "number") throw error;
    return { code, stdout: stdout ?? "", stderr: stderr ?? "" };
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await gone;
  clearTimeout(timer);
}

function onPath(program: string): boolean {
  return (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
}

function readPid(file: string): number | undefined {
  return existsSync(file) ? Number(readFileSync(file, "utf8")) : undefined;
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}
