/** Drives the simulator as a user does: its command line, kubectl, and the machine's own tools as witnesses. */
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { KillResult } from "@calico-ts/sim";

const ROOT = join(import.meta.dirname, "../..");
const PROGRAM = join(ROOT, "e2e/dist/bin/calico-sim.mjs");

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProbeResult {
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly protocol: string;
  /** Where pods have both. */
  readonly family?: 4 | 6;
  readonly verdict: "allowed" | "denied" | "error";
  readonly latencyMs: number;
  readonly detail: string;
}

export function command(
  program: string,
  args: readonly string[],
  options: { env?: Record<string, string>; timeoutMs?: number; input?: string } = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = execFile(
      program,
      args,
      {
        cwd: ROOT,
        env: { ...process.env, ...options.env },
        timeout: options.timeoutMs ?? 60_000,
        maxBuffer: 64 * 1024 * 1024,
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : 255;
        resolve({ code, stdout, stderr });
      },
    );
    if (options.input !== undefined) child.stdin?.end(options.input);
  });
}

/** The simulator's command line, as scripts/sim.sh starts it. */
export const sim = (...args: readonly string[]): Promise<CommandResult> =>
  command(process.execPath, [PROGRAM, ...args], {
    env: { NODE_COMPILE_CACHE: join(ROOT, "node_modules/.cache/node-compile") },
    timeoutMs: args[0] === "kill-each" ? KILLING_MS : 180_000,
  });

/** What a machine with everything else to do may need to kill one process of each kind, and to be well again after each. */
export const KILLING_MS = 600_000;

/** A run that is taken down when the test is over, however it ended. */
export class Run implements AsyncDisposable {
  readonly name: string;
  readonly kubeconfig: string;

  private constructor(name: string, kubeconfig: string) {
    this.name = name;
    this.kubeconfig = kubeconfig;
  }

  static async up(name: string, ...args: readonly string[]): Promise<Run> {
    const result = await sim("up", "--name", name, ...args);
    if (result.code !== 0) {
      // Exit code 2 means that nothing was created: what is up under this name is somebody else's.
      if (result.code !== 2) await sim("down", "--name", name);
      throw new Error(`up failed with ${result.code}:\n${result.stdout}\n${result.stderr}`);
    }
    const { stdout } = await sim("kubeconfig", "--name", name);
    return new Run(name, stdout.trim());
  }

  async sim(verb: string, ...args: readonly string[]): Promise<CommandResult> {
    const split = args.indexOf("--");
    const own = split < 0 ? args : args.slice(0, split);
    const rest = split < 0 ? [] : args.slice(split);
    return sim(verb, "--name", this.name, ...own, ...rest);
  }

  async json<T>(verb: string, ...args: readonly string[]): Promise<T> {
    const result = await this.sim(verb, ...args, "--json");
    try {
      return JSON.parse(result.stdout) as T;
    } catch {
      throw new Error(`${verb} printed no JSON (exit ${result.code}):\n${result.stdout}\n${result.stderr}`);
    }
  }

  async kubectl(...args: readonly string[]): Promise<CommandResult> {
    return command("kubectl", args, { env: { KUBECONFIG: this.kubeconfig } });
  }

  /** kubectl that must succeed. */
  async must(...args: readonly string[]): Promise<string> {
    const result = await this.kubectl(...args);
    if (result.code !== 0) throw new Error(`kubectl ${args.join(" ")} failed:\n${result.stdout}${result.stderr}`);
    return result.stdout;
  }

  async matrix(...args: readonly string[]): Promise<readonly ProbeResult[]> {
    return this.json<ProbeResult[]>("matrix", ...args);
  }

  async probe(from: string, to: string, port: number, protocol = "tcp"): Promise<ProbeResult> {
    return this.json<ProbeResult>("probe", "--from", from, "--to", to, "--port", String(port), "--protocol", protocol);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await sim("down", "--name", this.name);
  }
}

export interface Kills {
  readonly flows: number;
  readonly rate: number;
  readonly results: readonly KillResult[];
}

/**
 * What one process of each of these kinds costs, or of each kind there is: the kinds, and the results that break a promise.
 *
 * A network's tests name the kinds that packets depend on. What the others (kube-controllers, the kubelet's shells) cost is the same on every
 * network, and cluster.kernel.test.ts finds it out.
 */
export async function killOneOfEach(
  run: Run,
  kinds: readonly string[] = [],
): Promise<{ readonly killed: string[]; readonly broken: readonly KillResult[] }> {
  const only = kinds.flatMap((kind) => ["--only", kind]);
  const simulator = kinds.includes("simulator") ? ["--simulator-too"] : [];
  const { results } = await run.json<Kills>("kill-each", "--one-of-each", "--settle", "0.5", ...only, ...simulator);
  return { killed: results.map(({ process }) => process), broken: results.filter(({ kept }) => !kept) };
}

/** `shop/web-7d9f-x1` → `shop/web`: the workload a Deployment's pod belongs to. */
export const workloadOf = (pod: string): string => pod.replace(/-[a-z0-9]{5,10}-[a-z0-9]{5}$/, "");

/** What of a run is on this machine: namespaces, processes, state. Empty after `down`. */
export function traces(name: string): string[] {
  const found: string[] = [];
  if (existsSync("/run/netns")) {
    found.push(
      ...readdirSync("/run/netns")
        .filter((entry) => entry.startsWith(`cs-${name}-`))
        .map((entry) => `namespace ${entry}`),
    );
  }
  if (existsSync(`/var/lib/calico-sim/${name}`)) found.push(`folder /var/lib/calico-sim/${name}`);
  for (const pid of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      if (readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(`CALICO_SIM_RUN=${name}`)) {
        found.push(`process ${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")}`);
      }
    } catch {
      // the process ended while we looked
    }
  }
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  found.push(
    ...mounts
      .filter((line) => line.includes(`cs-${name}-`) || line.includes(`calico-sim/${name}`))
      .map((line) => `mount ${line}`),
  );
  return found;
}

/** Repeats a question until the answer is the wanted one, or says what it was last. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T>,
  accept: (answer: T) => boolean,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (accept(answer)) return answer;
    if (performance.now() > deadline) throw new Error(`${what}: still ${JSON.stringify(answer)} after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
