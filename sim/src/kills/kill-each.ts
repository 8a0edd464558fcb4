/**
 * START HERE: kills the processes of a run one after the other while packets go between pods of every pair of nodes, and tells what each cost.
 *
 * A process is well again when another one is in its place (and those it had started), every pod is ready, every BGP session that stood before
 * stands, and the product's own programs say so.
 */
import { CalicoError } from "@calico-ts/std";
import type { SimulatorPlugins } from "../cli/plugins.ts";
import { pause } from "../cluster/kube/informer.ts";
import { askDaemon } from "../daemon/control-client.ts";
import { isAlive } from "../run/processes.ts";
import { readRecord } from "../run/run-folder.ts";
import { ESTABLISHED } from "../routers/speaker.ts";
import { hostRootOf } from "../run/run-folder.ts";
import type { Loss, Mark } from "./loss.ts";
import type { KillPromise, ProcessKind } from "./process-kinds.ts";
import { isKept, OTHER } from "./process-kinds.ts";
import type { EchoStreams } from "./streams.ts";
import { hostDrops } from "./streams.ts";
import type { Victim } from "./victims.ts";
import { listVictims, victimName } from "./victims.ts";

export interface KillResult {
  readonly process: string;
  readonly place: string;
  readonly sent: number;
  readonly lost: number;
  readonly longestGapMs: number;
  /** Of `lost`: what this host's own queues dropped at most. */
  readonly hostDropped: number;
  /** Undefined: not within the timeout, or never meant to. */
  readonly recoveredMs: number | undefined;
  readonly trouble: readonly string[];
  readonly promise: KillPromise;
  readonly kept: boolean;
  /** The flows that lost most: name, packets, gap. */
  readonly worst: readonly string[];
}

export interface KillOptions {
  readonly run: string;
  readonly kinds: readonly ProcessKind[];
  readonly streams: EchoStreams;
  readonly nodeTrouble: NonNullable<SimulatorPlugins["nodeTrouble"]>;
  /** Goes on for so long after everything is well again. */
  readonly settleMs: number;
  /** How long recovery may take. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

const POLL_MS = 100;
const WORST = 3;
/** The run does not come back, so there is nothing to wait for but packets. */
const LAST_LOOK_MS = 3000;

/** One result for each victim, handed out as it is found. */
export async function* killEach(victims: readonly Victim[], options: KillOptions): AsyncGenerator<KillResult> {
  const { streams, signal } = options;
  const usual = new Set(await troubles(options));
  let mark = streams.mark();
  for (const { kind, place } of victims) {
    const now = await present({ kind, place }, options);
    if (now === undefined) continue;
    const [result, next] = await killOne(now, { options, usual, mark });
    mark = next;
    yield result;
    if (kind.comesBack === "never") return;
    signal.throwIfAborted();
  }
}

/** The process that is there now by this name. A shell may come with the next probe only; what nobody knows may have ended by itself. */
async function present(wanted: Pick<Victim, "kind" | "place">, options: KillOptions): Promise<Victim | undefined> {
  const key = victimName(wanted);
  const giveUpAt = performance.now() + options.timeoutMs;
  for (;;) {
    const found = listVictims(options.run, options.kinds).find((each) => victimName(each) === key);
    if (found !== undefined || wanted.kind === OTHER) return found;
    if (performance.now() > giveUpAt) throw new CalicoError("NOT_FOUND", `${key} was there before, and is no more`);
    await wait(POLL_MS, options.signal);
  }
}

interface Before {
  readonly options: KillOptions;
  readonly usual: ReadonlySet<string>;
  readonly mark: Mark;
}

async function killOne(victim: Victim, before: Before): Promise<readonly [KillResult, Mark]> {
  const { options, mark } = before;
  const { streams, signal, settleMs } = options;
  const dropsBefore = hostDrops();
  const startedAt = performance.now();
  process.kill(victim.pid, "SIGKILL");
  const trouble = await untilWell(victim, before);
  const recoveredMs =
    trouble.length === 0 && victim.kind.comesBack !== "never" ? performance.now() - startedAt : undefined;
  await wait(victim.kind.comesBack === "never" ? LAST_LOOK_MS : settleMs, signal);
  const [loss, next] = await streams.lossSince(mark);
  const hostDropped = hostDrops() - dropsBefore;
  const { promise } = victim.kind;
  const result: KillResult = {
    process: victim.kind.name,
    place: victim.place,
    sent: loss.sent,
    lost: loss.lost,
    longestGapMs: Math.round(loss.longestGapMs),
    hostDropped,
    recoveredMs: recoveredMs === undefined ? undefined : Math.round(recoveredMs),
    trouble,
    promise,
    kept: isKept(promise, { ...loss, hostDropped }) && trouble.length === 0,
    worst: worstFlows(loss, streams),
  };
  return [result, next];
}

const worstFlows = ({ flows }: Loss, streams: EchoStreams): string[] =>
  flows
    .slice(0, WORST)
    .map(({ flow, lost, gapMs }) => `${streams.flows[flow]?.name ?? "?"}: ${lost} lost, ${Math.round(gapMs)} ms`);

/** Resolves to nothing when all is well, or to what is not when time is up. */
async function untilWell(victim: Victim, { options, usual }: Before): Promise<readonly string[]> {
  if (victim.kind.comesBack === "never") return [];
  const { run, kinds, timeoutMs, signal } = options;
  const giveUpAt = performance.now() + timeoutMs;
  for (;;) {
    const missing = victim.kind.comesBack === "when needed" ? [] : notReplaced(victim, listVictims(run, kinds));
    const trouble = missing.length > 0 ? missing : (await troubles(options)).filter((text) => !usual.has(text));
    if (trouble.length === 0 || performance.now() > giveUpAt) return trouble;
    await wait(POLL_MS, signal);
  }
}

/** The victim, and everything that goes with it, must be gone and have a successor. */
function notReplaced(victim: Victim, now: readonly Victim[]): string[] {
  return [victim, ...victim.children].flatMap((old) => {
    const key = victimName(old);
    if (isAlive(old)) return [`${key} has not ended`];
    return now.some((each) => victimName(each) === key) ? [] : [`${key} is not back`];
  });
}

/** What is not as it should be, in words that stay the same while it lasts. */
async function troubles({ run, nodeTrouble }: KillOptions): Promise<string[]> {
  const status = await askDaemon(run, { op: "status" });
  const sessions = status.routers.flatMap(({ name, sessions }) =>
    sessions.flatMap(({ neighbour, state }) => (state === ESTABLISHED ? [] : [`${name} with ${neighbour}: ${state}`])),
  );
  const nodes = await Promise.all(
    (readRecord(run)?.nodes ?? []).map(async ({ name }) =>
      (await nodeTrouble(hostRootOf(run, name))).map((text) => `${name}: ${text}`),
    ),
  );
  return [...status.waitingFor, ...sessions, ...nodes.flat()];
}

async function wait(ms: number, signal: AbortSignal): Promise<void> {
  await pause(ms, signal);
  signal.throwIfAborted();
}
