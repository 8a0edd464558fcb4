/**
 * `up`: checks everything that can be checked without touching the host, takes the run's name, starts the daemon and waits
 * until the cluster is ready.
 *
 * The daemon is a session of its own, so a terminal's Ctrl-C reaches this process alone, which asks the daemon to take
 * everything down and waits. Should this process be killed the hard way, the daemon loses its channel and does the same.
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { ErrorCode } from "@calico-ts/std";
import { CalicoError, errorText, hasCode } from "@calico-ts/std";
import type { DaemonMessage, UpMessage, UpSummary } from "../daemon/control-protocol.ts";
import type { DaemonOptions } from "../daemon/daemon-options.ts";
import { readManifests } from "../manifests/manifest-files.ts";
import { checkRunName, DEFAULT_RUN } from "../names.ts";
import { raiseHostLimits } from "../run/host-limits.ts";
import { claimRun, removeRunFolder, runEnvironment, runPaths, runState, stateRoot } from "../run/run-folder.ts";
import { linuxSweepHost, refuseForeign } from "../run/sweep-host.ts";
import { sweepRun } from "../run/sweep.ts";
import type { TopologyPlan } from "../topology/plan.ts";
import { DEFAULT_TOPOLOGY, topologyPath } from "../topology/shipped.ts";
import { loadTopology } from "../topology/topology-file.ts";
import type { SimulatorPlugins, Terminal } from "./plugins.ts";
import { requireSpeakers } from "../routers/router-set.ts";
import { requireKernel } from "./preflight.ts";
import { requireRoot } from "./require-root.ts";

export interface UpOptions {
  readonly name?: string;
  readonly topology?: string;
  readonly nodes?: number;
  readonly manifests?: readonly string[];
  readonly kubeconfig?: string;
  readonly timeout: number;
}

const EXIT_INTERRUPTED = 130;
const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export async function up(options: UpOptions, plugins: SimulatorPlugins, terminal: Terminal): Promise<number> {
  const run = checkRunName(options.name ?? DEFAULT_RUN);
  const { daemonOptions, plan } = checkInput(run, options, plugins);
  requireRoot("up");
  await requireKernel(plan);
  requireSpeakers(plan, plugins.speaker);
  using interruptions = new Interruptions();
  await takeName(run, daemonOptions, terminal);
  if (interruptions.count > 0) {
    removeRunFolder(run);
    return EXIT_INTERRUPTED;
  }
  raiseLimits(terminal);
  const outcome = await watchDaemon(startDaemon(daemonOptions), interruptions, terminal);
  switch (outcome.kind) {
    case "ready":
      say(terminal, { run, summary: outcome.summary, plugins });
      return 0;
    case "interrupted":
      await sweepRun(linuxSweepHost, run);
      terminal.note(`interrupted: run ${run} is gone, nothing is left`);
      return EXIT_INTERRUPTED;
    case "failed": {
      const lastWords = outcome.code === "DIED" ? lastLines(runPaths(run).daemonLog) : [];
      await sweepRun(linuxSweepHost, run);
      const lines = [outcome.message, ...lastWords];
      if (outcome.bundle !== undefined) lines.push(`everything needed to understand this is in ${outcome.bundle}`);
      const code: ErrorCode = outcome.code === "DIED" ? "INTERNAL" : (outcome.code as ErrorCode);
      throw new CalicoError(code, lines.join("\n"));
    }
  }
}

/** Everything a person may have got wrong, before anything is made. @throws CalicoError BAD_INPUT */
function checkInput(
  run: string,
  options: UpOptions,
  plugins: SimulatorPlugins,
): { daemonOptions: DaemonOptions; plan: TopologyPlan } {
  const problems: string[] = [];
  const attempt = <T>(check: () => T): T | undefined => {
    try {
      return check();
    } catch (error) {
      if (!hasCode(error, "BAD_INPUT")) throw error;
      problems.push(errorText(error));
      return undefined;
    }
  };
  const topology = attempt(() => topologyPath(options.topology ?? DEFAULT_TOPOLOGY));
  const plan =
    topology === undefined
      ? undefined
      : attempt(() => loadTopology(topology, options.nodes === undefined ? {} : { nodes: options.nodes }));
  attempt(() => readManifests(options.manifests ?? []));
  if (options.kubeconfig !== undefined && !existsSync(options.kubeconfig)) {
    problems.push(`--kubeconfig ${options.kubeconfig}: no such file`);
  }
  if (plan?.bgp !== undefined && plugins.bgpManifests === undefined)
    problems.push(`--topology ${topology ?? ""}: its nodes speak BGP, which this command line's product does not`);
  if (topology === undefined || plan === undefined || problems.length > 0) {
    throw new CalicoError("BAD_INPUT", problems.join("\n"));
  }
  plugins.check?.();
  const daemonOptions: DaemonOptions = {
    run,
    topology,
    manifests: options.manifests ?? [],
    timeoutSeconds: options.timeout,
    ...(options.nodes === undefined ? {} : { nodes: options.nodes }),
    ...(options.kubeconfig === undefined ? {} : { kubeconfig: resolve(options.kubeconfig) }),
  };
  return { daemonOptions, plan };
}

/** Makes the run's folder, and sweeps what a dead run of that name left. @throws CalicoError ALREADY_EXISTS */
async function takeName(run: string, options: DaemonOptions, terminal: Terminal): Promise<void> {
  const facts = { startedAt: new Date().toISOString(), topology: options.topology, manifests: options.manifests };
  const claim = (): boolean => {
    try {
      claimRun(run, facts);
      return true;
    } catch (error) {
      if (hasCode(error, "ALREADY_EXISTS")) return false;
      throw error;
    }
  };
  if (!claim()) {
    if (runState(run) !== "dead") throw nameTaken(run, `is ${runState(run)}`);
    await sweepRun(linuxSweepHost, run);
    terminal.note(`a dead run ${run} was in the way; removed what was left of it`);
    if (!claim()) throw nameTaken(run, "was started a moment ago");
  }
  // The name is ours. A run that lives under another state folder is not ours to end, and its namespaces have these names.
  try {
    refuseForeign(run);
  } catch (error) {
    removeRunFolder(run);
    throw error;
  }
  await sweepRun(linuxSweepHost, run, { keepFolder: true });
}

function raiseLimits(terminal: Terminal): void {
  const { raised, failed } = raiseHostLimits(stateRoot());
  const what = "the limits of this host's neighbour table (net.*.neigh.default.gc_thresh*), which all namespaces share";
  if (Object.keys(raised).length > 0) terminal.note(`raised ${what}; they come back with the last \`down\``);
  if (failed.length > 0) terminal.note(`could not raise ${what}; some hundred pods may lose packets`);
}

const nameTaken = (run: string, why: string): CalicoError =>
  new CalicoError(
    "ALREADY_EXISTS",
    `a run named ${run} ${why}; choose another --name, or end it with \`down --name ${run}\``,
  );

function startDaemon(options: DaemonOptions): ChildProcess {
  const paths = runPaths(options.run);
  mkdirSync(paths.logs, { recursive: true });
  const log = openSync(paths.daemonLog, "a", 0o600);
  try {
    return spawn(process.execPath, [...process.execArgv, process.argv[1] ?? "", "daemon", JSON.stringify(options)], {
      detached: true,
      stdio: ["ignore", log, log, "ipc"],
      env: { ...process.env, ...runEnvironment(options.run) },
    });
  } finally {
    closeSync(log);
  }
}

type Outcome =
  | { readonly kind: "ready"; readonly summary: UpSummary }
  | { readonly kind: "interrupted" }
  | { readonly kind: "failed"; readonly code: string; readonly message: string; readonly bundle: string | undefined };

/** Ctrl-C and its kin, from before anything is made. */
class Interruptions implements Disposable {
  count = 0;
  /** Told of each one; those before it was set are in `count`. */
  listener: (() => void) | undefined;
  readonly #onSignal = (): void => {
    this.count++;
    this.listener?.();
  };

  constructor() {
    for (const signal of INTERRUPTS) process.on(signal, this.#onSignal);
  }

  [Symbol.dispose](): void {
    for (const signal of INTERRUPTS) process.off(signal, this.#onSignal);
  }
}

function watchDaemon(daemon: ChildProcess, interruptions: Interruptions, terminal: Terminal): Promise<Outcome> {
  return new Promise((settle) => {
    let failure: Outcome | undefined;
    const tell = (message: DaemonMessage): void => {
      if (daemon.connected) daemon.send(message, () => undefined);
    };
    const interrupted = (): boolean => interruptions.count > 0;
    interruptions.listener = () => {
      if (interruptions.count > 1)
        daemon.kill("SIGKILL"); // no more patience; the sweep does the rest
      else terminal.note("interrupted: taking everything down (once more to force it)");
      tell({ type: "cancel" });
    };
    const finish = (outcome: Outcome): void => {
      interruptions.listener = undefined;
      daemon.removeAllListeners();
      settle(outcome);
    };
    daemon.on("message", (message: UpMessage) => {
      switch (message.type) {
        case "progress":
          terminal.note(message.text);
          return;
        case "failed":
          // The daemon still cleans up; its end is the signal that this is over.
          failure = { kind: "failed", code: message.code, message: message.message, bundle: message.bundle };
          return;
        case "ready":
          if (interrupted()) return; // too late: the daemon has been told to stop
          daemon.send({ type: "detach" } satisfies DaemonMessage, () => {
            daemon.disconnect();
            daemon.unref();
            finish({ kind: "ready", summary: message.summary });
          });
      }
    });
    daemon.on("error", (error) => finish(failedToRun(`the daemon could not be started: ${error.message}`)));
    daemon.on("exit", (code, signal) => {
      if (interrupted()) finish({ kind: "interrupted" });
      else
        finish(
          failure ??
            failedToRun(`the daemon ended before the cluster was ready (${signal ?? `exit code ${code ?? "?"}`})`),
        );
    });
  });
}

const failedToRun = (message: string): Outcome => ({ kind: "failed", code: "DIED", message, bundle: undefined });

function lastLines(file: string): string[] {
  try {
    const lines = readFileSync(file, "utf8").trimEnd().split("\n").slice(-15);
    return ["its last words:", ...lines.map((line) => `  ${line}`)];
  } catch {
    return [];
  }
}

function say(
  terminal: Terminal,
  ready: { readonly run: string; readonly summary: UpSummary; readonly plugins: SimulatorPlugins },
): void {
  const { run, summary, plugins } = ready;
  const stubs =
    summary.stubWorkloads === 0
      ? ""
      : `\nContainer images are not pulled: stub servers answer for ${summary.stubWorkloads} workloads.`;
  terminal.out(
    `Run ${run} is up: ${summary.nodes} nodes, ${summary.pods} pods ready. API server: ${summary.apiServer}.${stubs}\n\n${hints(run, plugins)}`,
  );
}

/** What to do with a run that is up, to copy and paste. */
export function hints(run: string, plugins: SimulatorPlugins): string {
  const command = plugins.command ?? "calico-sim";
  const name = run === DEFAULT_RUN ? "" : ` --name ${run}`;
  return [
    `  export KUBECONFIG=${runPaths(run).kubeconfig}`,
    "  kubectl get pods -A -o wide",
    `  ${command} matrix${name}`,
    `  ${command} status${name}`,
    `  ${command} down${name}`,
  ].join("\n");
}
