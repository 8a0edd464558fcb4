/**
 * `npm run bench -- policy`: from resources to the kernel, beside `nft -f` on the same rules in the same run. Needs root.
 *
 * Ours is what an agent does: compile, render, encode, commit. The peer is the `nft` program with the same change as text: loading
 * the program, reading its cache and talking to the kernel, as upstream runs it. Machines differ and are busy, so the ratio counts.
 *
 * Both columns say processor time too ("CPU", the kernel's part included). A pod that goes over to policies others have costs the kernel an
 * element of a set and the group of a link; one whose list of policies nobody had before costs elements of verdict maps, of which the kernel's
 * part grows with the rules behind them. How much that part is stands beside it: one such element changed by a batch that says nothing else.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { createNamespace, deleteNamespace, type Kernel, namespacePath, openKernel } from "@calico-ts/linux";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import {
  applyChange,
  CALICO_TABLE,
  createCompiler,
  createOracle,
  NftPolicyRenderer,
  NodePlanKernel,
} from "@calico-ts/policy-compiler";
import { globalPolicy, namespace } from "@calico-ts/policy-compiler/testing";
import { connectionRates } from "./policy-connections.ts";
import {
  DAY,
  day,
  dayNamespace,
  LARGE,
  largeSet,
  memberPod,
  oracleWorld,
  SHAPE,
  shape,
  shapeInterface,
  shapePod,
} from "./policy-worlds.ts";

interface Row {
  readonly what: string;
  readonly ours: string;
  readonly peer: string;
  readonly ratio?: number;
  readonly target: string;
  /** Absent: no goal, a number to compare others with. */
  readonly met?: boolean;
  readonly numbers: Readonly<Record<string, number>>;
}

const rows: Row[] = [];
const TURNS = Number(process.env["CALICO_BENCH_TURNS"] ?? 3);
const CHANGES = 300;
const PEER_CHANGES = 30;
const NODE = `ct-${process.pid}-bench`;
const PEER = `ct-${process.pid}-peer`;
const folder = mkdtempSync(join(tmpdir(), "calico-bench-"));

const ms = (value: number): string => (value >= 100 ? `${value.toFixed(0)} ms` : `${value.toFixed(2)} ms`);
const percentile = (samples: readonly number[], share: number): number =>
  samples.toSorted((a, b) => a - b)[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? Number.NaN;

/** Compiler, renderer and kernel, without the agent's loop around them. */
class Pipeline {
  readonly #renderer = new NftPolicyRenderer();
  readonly #target: NodePlanKernel | undefined;
  readonly #compiler = createCompiler({ node: "n1", emit: (message) => this.#renderer.receive(message) });

  constructor(kernel?: Kernel) {
    this.#target = kernel === undefined ? undefined : new NodePlanKernel(kernel);
  }

  async start(updates: Iterable<CompilerUpdate>): Promise<void> {
    for (const update of updates) this.#compiler.update(update);
    this.#compiler.setInSync();
    await this.change();
  }

  async change(...updates: readonly CompilerUpdate[]): Promise<void> {
    for (const update of updates) this.#compiler.update(update);
    this.#compiler.flush();
    const change = this.#renderer.take();
    if (this.#target !== undefined) await applyChange(change, this.#target);
  }
}

async function timed(work: () => Promise<unknown> | void): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function sample(count: number, work: (at: number) => Promise<unknown> | void): Promise<number[]> {
  const samples: number[] = [];
  for (let at = 0; at < count; at++) samples.push(await timed(() => work(at)));
  return samples;
}

const nft = (namespace: string, ...args: readonly string[]): string =>
  execFileSync("ip", ["netns", "exec", namespace, "nft", ...args], { encoding: "utf8", maxBuffer: 1 << 30 });

/** Processor time in ms of this process so far: on a busy machine it says more than the clock. */
const processor = (): number => {
  const { system, user } = process.cpuUsage();
  return (system + user) / 1000;
};

/** Runs `nft -f` and returns its processor time in ms, kernel included. */
function load(file: string): number {
  const command = `ip netns exec ${PEER} nft -f ${file} && times`;
  const [, children = ""] = execFileSync("bash", ["-c", command], { encoding: "utf8" }).trim().split("\n");
  const times = [...children.matchAll(/(\d+)m([\d.]+)s/g)];
  return times.reduce((sum, [, minutes, seconds]) => sum + (Number(minutes) * 60 + Number(seconds)) * 1000, 0);
}

let scripts = 0;
function script(text: string): string {
  const file = join(folder, `${(scripts += 1)}.nft`);
  writeFileSync(file, text);
  return file;
}

interface Samples {
  readonly times: readonly number[];
  /** Processor time of one, on average. */
  readonly processor: number;
}

/** `nft -f` with a small script each. */
async function peerChanges(text: (at: number) => string): Promise<Samples> {
  const files = Array.from({ length: PEER_CHANGES }, (_, at) => script(text(at)));
  let spent = 0;
  const times = await sample(PEER_CHANGES, (at) => {
    spent += load(files[at] ?? "");
  });
  return { times, processor: spent / PEER_CHANGES };
}

async function ourChanges(work: (at: number) => Promise<unknown>): Promise<Samples> {
  const before = processor();
  const times = await sample(CHANGES, work);
  return { times, processor: (processor() - before) / CHANGES };
}

function compared(what: string, ours: Samples, peer: Samples, limits?: [p50: number, p99: number]) {
  const [p50, p99, peer50, peer99] = [
    percentile(ours.times, 0.5),
    percentile(ours.times, 0.99),
    percentile(peer.times, 0.5),
    percentile(peer.times, 0.99),
  ];
  rows.push({
    what,
    ours: `p50 ${ms(p50)}, p99 ${ms(p99)}, CPU ${ms(ours.processor)}`,
    peer: `nft -f: p50 ${ms(peer50)}, p99 ${ms(peer99)}, CPU ${ms(peer.processor)}`,
    ratio: p50 / peer50,
    target: limits === undefined ? "" : `p50 ≤ ${limits[0]} ms, p99 ≤ ${limits[1]} ms`,
    ...(limits === undefined ? {} : { met: p50 <= limits[0] && p99 <= limits[1] }),
    numbers: { p50, p99, peer50, peer99, processor: ours.processor, peerProcessor: peer.processor },
  });
}

function alone(what: string, value: number, target: number, more = ""): void {
  rows.push({
    what,
    ours: ms(value) + more,
    peer: "",
    target: `≤ ${target} ms`,
    met: value <= target,
    numbers: { value },
  });
}

/** Everything at 2 000 sets and 2 000 chains, and one endpoint's change there. */
async function atShape(kernel: Kernel): Promise<void> {
  const world = [...shape()];
  for (let at = 0; at < SHAPE.local + MOVERS; at++) {
    kernel.links.create({ kind: "veth", name: shapeInterface(at), peer: { name: `peer${at}` } });
  }
  const pipeline = new Pipeline(kernel);
  const spent = { ours: [] as number[], peer: [] as number[] };
  const start = processor();
  const first = await timed(() => pipeline.start(world));
  spent.ours.push(processor() - start);
  const text = script(nft(NODE, "list", "table", "inet", "calico"));
  const attempts = { ours: [first], peer: [] as number[] };
  for (let turn = 0; turn < TURNS; turn++) {
    nft(PEER, "flush", "ruleset");
    attempts.peer.push(await timed(() => void spent.peer.push(load(text))));
    if (turn === TURNS - 1) break;
    nft(NODE, "flush", "ruleset");
    const again = new Pipeline(kernel);
    const before = processor();
    attempts.ours.push(await timed(() => again.start(world)));
    spent.ours.push(processor() - before);
  }
  // The best of each: what others do on the machine meanwhile only ever adds.
  const [ours, peer] = [Math.min(...attempts.ours), Math.min(...attempts.peer)];
  const [oursSpent, peerSpent] = [Math.min(...spent.ours), Math.min(...spent.peer)];
  rows.push({
    what: `${SHAPE.sets} sets × ${SHAPE.members}, ${SHAPE.chains} chains × ${SHAPE.rules} rules from nothing, compiled`,
    ours: `${ms(ours)}, CPU ${ms(oursSpent)} (× ${(oursSpent / peerSpent).toFixed(2)})`,
    peer: `nft -f alone: ${ms(peer)}, CPU ${ms(peerSpent)}`,
    ratio: ours / peer,
    target: "≤ nft -f",
    met: ours <= peer,
    numbers: { ours, peer, processor: oursSpent, peerProcessor: peerSpent },
  });

  await moves(kernel, pipeline);
}

const MOVERS = 10;
const MAP = "to-workload-dispatch";

/** What the tables before have left behind is collected, by Node and by the kernel. */
const rest = (): Promise<void> => setTimeout(2000);

async function moves(kernel: Kernel, pipeline: Pipeline): Promise<void> {
  for (let at = 0; at < MOVERS; at++) await pipeline.change(shapePod(SHAPE.local + at, at));
  await rest();
  const group = (): number => kernel.links.get(shapeInterface(SHAPE.local))?.group ?? 0;
  const before = group();
  // Between the policies of pods that stay where they are.
  const known = await ourChanges((at) =>
    pipeline.change(shapePod(SHAPE.local + (at % MOVERS), (at + 1) % SHAPE.local)),
  );
  if (before === 0 || before === group()) throw new Error("the links of the pods that move have kept their group");
  const element = /(\d{8,}) : (goto [^,\s]+)/.exec(nft(PEER, "list", "map", "inet", "calico", MAP));
  const [key = "", target = ""] = [element?.[1], element?.[2]];
  // What upstream's layout costs, and this one before the group was the key: an element of a verdict map.
  const swap = `delete element inet calico ${MAP} { ${key} }\nadd element inet calico ${MAP} { ${key} : ${target} }\n`;
  const peer = await peerChanges(() => swap);
  compared("one endpoint moves to policies that others have, at that size", known, peer, [1, 2]);
  await rest();
  const fresh = await ourChanges((at) =>
    pipeline.change(shapePod(SHAPE.local + (at % MOVERS), at % SHAPE.local, true)),
  );
  compared("one endpoint moves to a list of policies that nobody has", fresh, peer);
  await kernelPart(kernel);
}

/** What the kernel takes for an element of the map, whoever asks: nobody can be faster. */
async function kernelPart(kernel: Kernel): Promise<void> {
  const set = (await kernel.nft.listSets(CALICO_TABLE)).find(({ name }) => name === MAP);
  const [element] = set === undefined ? [] : await kernel.nft.listElements(CALICO_TABLE, set);
  if (set === undefined || element === undefined) throw new Error(`there is nothing in ${MAP}`);
  const change = { table: CALICO_TABLE, set, elements: [element] };
  const bare = await ourChanges(() =>
    kernel.nft.apply([
      { do: "delete-elements", ...change },
      { do: "add-elements", ...change },
    ]),
  );
  rows.push({
    what: "  of which the kernel's: an element of a verdict map in a batch of its own",
    ours: `p50 ${ms(percentile(bare.times, 0.5))}, p99 ${ms(percentile(bare.times, 0.99))}, CPU ${ms(bare.processor)}`,
    peer: "",
    target: "",
    numbers: {
      p50: percentile(bare.times, 0.5),
      p99: percentile(bare.times, 0.99),
      processor: bare.processor,
    },
  });
}

async function atLargeSet(kernel: Kernel): Promise<void> {
  nft(NODE, "flush", "ruleset");
  nft(PEER, "flush", "ruleset");
  const pipeline = new Pipeline(kernel);
  const asks = {
    selector: "all()",
    types: ["Ingress"],
    ingress: [{ action: "Allow", source: { selector: "large == 'yes'" } }],
  };
  await pipeline.start([namespace("ns"), largeSet(), globalPolicy("p", asks), shapePod(0, 0)]);
  nft(PEER, "-f", script(nft(NODE, "list", "table", "inet", "calico")));
  const members = await ourChanges((at) => pipeline.change(memberPod(at)));
  const set = /set (set\/\S+\/v4) \{/.exec(nft(NODE, "-t", "list", "table", "inet", "calico"))?.[1] ?? "";
  const count = (nft(NODE, "list", "set", "inet", "calico", set).match(/13\.0\.\d+\.\d+/g) ?? []).length;
  if (count !== CHANGES) throw new Error(`${set} should have gained ${CHANGES} members and has gained ${count}`);
  const peer = await peerChanges((at) => `add element inet calico ${set} { 14.0.0.${at} }\n`);
  compared(`one member more in a set of ${LARGE}`, members, peer, [1, 1]);
}

async function startOfDay(): Promise<void> {
  const world = [...day()];
  const heapBefore = process.memoryUsage().heapUsed;
  const pipeline = new Pipeline();
  const took = await timed(() => pipeline.start(world));
  const heap = Math.round((process.memoryUsage().heapUsed - heapBefore) / 1e6);
  alone(
    `start of day: ${DAY.endpoints} endpoints (${DAY.local} here), ${DAY.policies} policies`,
    took,
    2000,
    `, ${heap} MB`,
  );
  const moved = await sample(20, (turn) =>
    pipeline.change(...Array.from({ length: 10 }, (_, at) => dayNamespace(10 + at, (turn + at + 1) % 10))),
  );
  alone("ten namespace labels move 1 000 endpoints (p50 of 20)", percentile(moved, 0.5), 50);
}

async function verdicts(): Promise<void> {
  const oracle = createOracle([...oracleWorld()]);
  const ask = (at: number): void => {
    const from = { pod: `a/p${1 + (at % 999)}` };
    oracle.verdict({ from, to: { pod: "a/p0" }, protocol: 6, destinationPort: 80 });
  };
  ask(0);
  const took = await timed(() => {
    for (let at = 0; at < 2000; at++) ask(at);
  });
  alone("an oracle verdict at 20 000 rules, 3 700 selectors (mean)", took / 2000, 0.2);
}

async function connections(): Promise<void> {
  const { few, many } = await connectionRates(10, 10_000);
  const perSecond = (value: number): string => `${Math.round(value)} a second`;
  const ratio = many.perSecond / few.perSecond;
  rows.push({
    what: `new connections between two pods, ${many.policies} policies on the node`,
    ours: perSecond(many.perSecond),
    peer: `${few.policies} policies: ${perSecond(few.perSecond)}`,
    ratio,
    target: "× ≥ 0.95",
    met: ratio >= 0.95,
    numbers: { few: few.perSecond, many: many.perSecond },
  });
}

/** The differential rig: worlds compiled and programmed, packets sent, verdicts compared. */
function rig(): void {
  const program = join(import.meta.dirname, "../../packages/policy-rig/src/main.ts");
  const options = ["--conditions=calico-src", program, "--seconds", "10", "--json"];
  const text = execFileSync(process.execPath, options, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const { mismatches, verdicts, verdictsPerSecond } = JSON.parse(text) as Record<string, number>;
  if (verdictsPerSecond === undefined || mismatches !== 0) throw new Error(`the rig found something: ${text}`);
  rows.push({
    what: "kernel verdicts the rig compares with the oracle's",
    ours: `${verdictsPerSecond} a second, ${verdicts} in all`,
    peer: "",
    target: "≥ 500 a second",
    met: verdictsPerSecond >= 500,
    numbers: { verdictsPerSecond },
  });
}

function print(): void {
  const cells = rows.map(({ what, ours, peer, ratio, target, met }) => [
    what,
    ours,
    peer,
    ratio === undefined ? "" : `× ${ratio.toFixed(2)}`,
    met === undefined ? "" : `${target} ${met ? "✓" : "✗"}`,
  ]);
  const widths = [0, 1, 2, 3, 4].map((at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  const line = (row: readonly string[]): string => row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  ");
  process.stdout.write(`${cells.map(line).join("\n")}\n`);
  const artifacts = join(import.meta.dirname, "../../artifacts/bench");
  mkdirSync(artifacts, { recursive: true });
  writeFileSync(join(artifacts, "policy.json"), `${JSON.stringify({ rows }, undefined, 2)}\n`);
}

createNamespace(NODE);
createNamespace(PEER);
try {
  using kernel = openKernel({ netns: namespacePath(NODE) });
  await startOfDay();
  await atShape(kernel);
  await atLargeSet(kernel);
  await verdicts();
  await connections();
  rig();
  print();
} finally {
  deleteNamespace(NODE);
  deleteNamespace(PEER);
  rmSync(folder, { recursive: true });
}
