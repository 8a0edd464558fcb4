/** `kill-each`: kills the run's processes one after the other under traffic, and says whether each kept its promise. */
import { CalicoError } from "@calico-ts/std";
import type { Colors } from "picocolors/types.js";
import type { KillResult } from "../kills/kill-each.ts";
import { killEach } from "../kills/kill-each.ts";
import { flowsBetween, startProbePods, stopProbePods } from "../kills/probe-pods.ts";
import type { KillPromise, ProcessKind } from "../kills/process-kinds.ts";
import { SIMULATOR, SIMULATOR_KINDS } from "../kills/process-kinds.ts";
import { EchoStreams } from "../kills/streams.ts";
import type { Victim } from "../kills/victims.ts";
import { listVictims } from "../kills/victims.ts";
import { connectApi } from "../manifests/api-connection.ts";
import { runPaths } from "../run/run-folder.ts";
import type { RunOptions } from "./choose-run.ts";
import { chooseLiveRun } from "./choose-run.ts";
import type { SimulatorPlugins, Terminal } from "./plugins.ts";
import { requireRoot } from "./require-root.ts";
import { formatTable } from "./table.ts";

export interface KillEachOptions extends RunOptions {
  readonly only?: readonly string[];
  readonly oneOfEach?: boolean;
  readonly simulatorToo?: boolean;
  readonly list?: boolean;
  readonly settle: number;
  readonly timeout: number;
  readonly json?: boolean;
}

interface View {
  readonly terminal: Terminal;
  readonly colors: Colors;
}

/** A stretch in which nobody is killed shows that what is lost later is not lost anyway. */
const CONTROL_MS = 1500;
const READY_WITHIN_MS = 60_000;

/** 0 when every promise was kept; 1 otherwise, and when it was interrupted. */
export async function kill(options: KillEachOptions, plugins: SimulatorPlugins, view: View): Promise<number> {
  requireRoot("kill-each");
  const run = chooseLiveRun(options);
  const { terminal } = view;
  const kinds = [...(plugins.processes ?? []), ...SIMULATOR_KINDS];
  const victims = choose(listVictims(run, kinds), options);
  if (options.list === true) {
    terminal.out(options.json === true ? JSON.stringify(victims.map(listed)) : formatList(victims));
    return 0;
  }
  const stop = new AbortController();
  const onSignal = (): void => stop.abort(new CalicoError("CANCELLED", "interrupted"));
  // npm passes an interrupt on that the terminal has sent already: the second one must not cut the cleaning up short.
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    const results = await underTraffic({ run, kinds, victims, options, plugins, signal: stop.signal }, terminal);
    const missing = stop.signal.aborted;
    if (options.json === true) terminal.out(JSON.stringify({ ...results, interrupted: missing }));
    else if (results.results.length > 0) terminal.out(formatResults(results, view.colors));
    return !missing && results.results.every(({ kept }) => kept) ? 0 : 1;
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

function choose(victims: readonly Victim[], options: KillEachOptions): Victim[] {
  const only = options.only ?? [];
  const wanted = victims.filter(
    ({ kind, place }) =>
      (kind !== SIMULATOR || options.simulatorToo === true) &&
      (only.length === 0 || only.some((text) => kind.name.includes(text) || place.includes(text))),
  );
  const first = wanted.filter(({ kind }, index) => wanted.findIndex((each) => each.kind === kind) === index);
  const chosen = options.oneOfEach === true ? first : wanted;
  if (chosen.length > 0) return chosen;
  const there = victims.map(({ kind, place }) => `${kind.name} in ${place}`);
  throw new CalicoError("BAD_INPUT", `--only ${only.join(", ")}: no such process; there are: ${there.join(", ")}`);
}

interface Work {
  readonly run: string;
  readonly kinds: readonly ProcessKind[];
  readonly victims: readonly Victim[];
  readonly options: KillEachOptions;
  readonly plugins: SimulatorPlugins;
  readonly signal: AbortSignal;
}

interface Results {
  readonly flows: number;
  /** Packets a second of each flow, of the slowest in the control. */
  readonly rate: number;
  readonly results: readonly KillResult[];
}

async function underTraffic(
  { run, kinds, victims, options, plugins, signal }: Work,
  terminal: Terminal,
): Promise<Results> {
  using api = connectApi(runPaths(run).kubeconfig);
  const pods = { run, api, timeoutMs: READY_WITHIN_MS, signal };
  const results: KillResult[] = [];
  let facts = { flows: 0, rate: 0 };
  try {
    const flows = flowsBetween(await startProbePods(pods));
    using streams = new EchoStreams(flows);
    facts = { flows: flows.length, rate: await control(streams, signal) };
    const { settle, timeout } = options;
    const work = { run, kinds, streams, settleMs: settle * 1000, timeoutMs: timeout * 1000, signal };
    for await (const result of killEach(victims, {
      ...work,
      nodeTrouble: plugins.nodeTrouble ?? (() => Promise.resolve([])),
    })) {
      results.push(result);
      terminal.note(progress(result, results.length, victims.length));
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    terminal.note("interrupted: taking the probing pods away");
  } finally {
    // The run may be over, when its own daemon was among the victims.
    if (!results.some(({ process }) => process === SIMULATOR.name))
      await stopProbePods({ ...pods, signal: new AbortController().signal });
  }
  return { ...facts, results };
}

/** Waits until every flow is answered, then for a stretch without loss. @throws CalicoError UNAVAILABLE */
async function control(streams: EchoStreams, signal: AbortSignal): Promise<number> {
  const giveUpAt = performance.now() + READY_WITHIN_MS;
  for (let mark = streams.mark(); ; ) {
    await new Promise((resolve) => setTimeout(resolve, CONTROL_MS));
    signal.throwIfAborted();
    const [loss, next] = await streams.lossSince(mark);
    if (loss.lost === 0) return Math.round(loss.rate);
    mark = next;
    if (performance.now() < giveUpAt) continue;
    const silent = loss.flows.map(({ flow, lost }) => `${streams.flows[flow]?.name ?? "?"} (${lost} lost)`);
    throw new CalicoError(
      "UNAVAILABLE",
      `packets are lost although nothing was killed: ${silent.slice(0, 5).join(", ")}; does a policy deny ping to pods of the namespace kill-each?`,
    );
  }
}

const word = ({ gapMs }: KillPromise): string => (gapMs === 0 ? "no loss" : `gap ≤ ${gapMs / 1000} s`);

function progress(result: KillResult, done: number, all: number): string {
  const { process, place, lost, longestGapMs, recoveredMs, trouble } = result;
  const cost = lost === 0 ? "nothing lost" : `${lost} packets lost, longest gap ${longestGapMs} ms`;
  const back =
    recoveredMs === undefined ? trouble.slice(0, 3).join("; ") : `well again after ${inSeconds(recoveredMs)}`;
  return `[${done}/${all}] ${process} in ${place}: ${cost}${back === "" ? "" : `, ${back}`}`;
}

const inSeconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

function formatResults({ flows, rate, results }: Results, colors: Colors): string {
  const rows = results.map(({ process, place, sent, lost, longestGapMs, recoveredMs, trouble, promise, kept }) => [
    process,
    place,
    String(sent),
    String(lost),
    lost === 0 ? "" : `${longestGapMs} ms`,
    recoveredMs === undefined ? (trouble.length === 0 ? "never" : "NO") : inSeconds(recoveredMs),
    word(promise),
    kept ? colors.green("yes") : colors.red("NO"),
  ]);
  const table = formatTable(["KILLED", "IN", "SENT", "LOST", "LONGEST GAP", "WELL AGAIN", "PROMISE", "KEPT"], rows);
  const details = results.flatMap((result) => [
    ...(result.lost === 0 ? [] : [`  ${result.process} in ${result.place} lost most here: ${result.worst.join("; ")}`]),
    ...(result.hostDropped === 0
      ? []
      : [
          `  ${result.process} in ${result.place}: this host itself dropped ${result.hostDropped} packets for want of time`,
        ]),
    ...(result.trouble.length === 0
      ? []
      : [`  ${result.process} in ${result.place} is not well again: ${result.trouble.join("; ")}`]),
  ]);
  const reasons = new Map(
    results.map(({ process, promise }) => [`  ${process}, ${word(promise)}: ${promise.because}`, 0]),
  );
  return [
    `${flows} flows between pods of every pair of nodes, ${rate} packets a second each`,
    "",
    table,
    ...(details.length === 0 ? [] : ["", ...details]),
    "",
    "why:",
    ...reasons.keys(),
  ].join("\n");
}

const listed = ({ kind, place, pid }: Victim) => ({ process: kind.name, place, pid, promise: kind.promise });

const formatList = (victims: readonly Victim[]): string =>
  formatTable(
    ["PROCESS", "IN", "PID", "PROMISE", "BECAUSE"],
    victims.map(({ kind, place, pid }) => [kind.name, place, String(pid), word(kind.promise), kind.promise.because]),
  );
