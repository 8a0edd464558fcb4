/** Cases one after the other until there are enough, time is up, or something is wrong too often. */
import type { Case, Finding, Patience, Rig } from "./rig.ts";
import { packetText } from "./packets/packet.ts";
import type { RigPacket } from "./packets/packet.ts";
import { Prng } from "./prng.ts";
import { randomPackets } from "./generate/packets.ts";
import { changedWorld, randomWorld } from "./generate/world.ts";
import { findingText, sameTrouble } from "./report.ts";
import { shrinkCase } from "./shrink.ts";
import type { World } from "./world.ts";

export interface FuzzOptions {
  readonly seed: string;
  /** Absent: as many as there is time for. */
  readonly cases?: number;
  readonly budgetMs: number;
  /** What the budget is measured with, in milliseconds since some start; absent: the clock on the wall. */
  readonly now?: () => number;
  /** Mismatches after which to stop. */
  readonly enough: number;
  /** How long one mismatch may be shrunk; 0: it is kept as it is. */
  readonly shrinkMs: number;
  readonly progress: (line: string) => void;
  readonly onMismatch?: (mismatch: Mismatch) => void | Promise<void>;
}

export interface Mismatch {
  readonly found: Case;
  readonly finding: Finding;
  /** Rules that the packet met, chain by chain. */
  readonly trace: readonly string[];
}

export interface FuzzResult {
  readonly seed: string;
  readonly cases: number;
  readonly verdicts: number;
  readonly mismatches: number;
  readonly verdictsPerSecond: number;
  /** Share of the verdicts that were "allowed". */
  readonly allowed: number;
  readonly seconds: number;
}

const PACKETS = 110;
const PROGRESS_MS = 5000;

export async function fuzz(rig: Rig, options: FuzzOptions): Promise<FuzzResult> {
  const { seed, progress } = options;
  const now = options.now ?? (() => performance.now());
  const started = now();
  const from = { verdicts: rig.verdicts, allowed: rig.allowed };
  let [cases, mismatches, busy, said] = [0, 0, 0, performance.now()];
  const isOver = (): boolean =>
    cases >= (options.cases ?? Number.POSITIVE_INFINITY) ||
    now() - started >= options.budgetMs ||
    mismatches >= options.enough;
  while (!isOver()) {
    const began = performance.now();
    const wrong = await runCase(rig, `${seed}-${cases}`);
    busy += performance.now() - began;
    cases++;
    if (wrong !== undefined) {
      mismatches++;
      await options.onMismatch?.(await examine(rig, wrong, options));
    }
    if (performance.now() - said > PROGRESS_MS) {
      said = performance.now();
      const verdicts = rig.verdicts - from.verdicts;
      progress(`${cases} cases, ${verdicts} verdicts, ${mismatches} mismatches, ${rate(verdicts, busy)} verdicts/s`);
    }
  }
  const verdicts = rig.verdicts - from.verdicts;
  return {
    seed,
    cases,
    verdicts,
    mismatches,
    verdictsPerSecond: rate(verdicts, busy),
    allowed: verdicts === 0 ? 0 : (rig.allowed - from.allowed) / verdicts,
    seconds: (now() - started) / 1000,
  };
}

/** Of this process so far, in milliseconds: what the kernel does for it counts, what it waits for does not. */
export const processorTime = (): number => {
  const { system, user } = process.cpuUsage();
  return (system + user) / 1000;
};

const rate = (count: number, ms: number): number => (ms === 0 ? 0 : Math.round((count * 1000) / ms));

interface Wrong {
  readonly found: Case;
  readonly finding: Finding;
}

/** The case of a name, always the same; undefined: nothing is wrong with it. */
export async function runCase(rig: Rig, name: string): Promise<Wrong | undefined> {
  const prng = new Prng(name);
  const steps = prng.pick([1, 1, 1, 2, 3, 5]);
  const trial = rig.begin();
  const history: World[] = [];
  for (let step = 0; step < steps; step++) {
    const previous = history.at(-1);
    const world =
      previous === undefined ? randomWorld(prng.fork("world")) : changedWorld(prng.fork("change"), previous);
    history.push(world);
    let packets: readonly RigPacket[] = [];
    const drawn = prng.fork("packets");
    const findings = await trial.step(world, (expectations) => {
      packets = randomPackets(drawn, PACKETS, expectations.stateOf);
      return packets;
    });
    const [finding] = findings;
    if (finding === undefined) continue;
    const relevant = "packet" in finding ? [finding.packet] : finding.kind === "crash" ? packets : [];
    return { found: { name, history, packets: relevant }, finding };
  }
  return undefined;
}

/** Shrinking tries hundreds of cases, most of which do not go wrong as wanted. */
const QUICK: Patience = { first: 30, again: 60 };

async function examine(rig: Rig, { found, finding }: Wrong, options: FuzzOptions): Promise<Mismatch> {
  options.progress(`case ${found.name}: ${findingText(finding).split("\n")[0]}`);
  const keeps: { finding: Finding } = { finding };
  let smallest =
    options.shrinkMs === 0
      ? found
      : await shrinkCase(found, {
          now: options.now ?? (() => performance.now()),
          budgetMs: options.shrinkMs,
          fails: async (candidate) => {
            const same = (await rig.run(candidate, QUICK)).find((other) => sameTrouble(other, finding));
            if (same !== undefined) keeps.finding = same;
            return same !== undefined;
          },
        });
  // Was it impatience?
  if (smallest !== found && !(await rig.run(smallest)).some((other) => sameTrouble(other, finding))) {
    smallest = found;
    keeps.finding = finding;
  }
  const last = smallest.history.at(-1);
  const [packet] = smallest.packets;
  const isVerdict = "packet" in keeps.finding && last !== undefined && packet !== undefined;
  const trace = isVerdict ? await rig.trace(last, packet).catch(() => []) : [];
  if (isVerdict) options.progress(`shrunk to ${last.length} resources: ${packetText(packet)}`);
  return { found: smallest, finding: keeps.finding, trace };
}
