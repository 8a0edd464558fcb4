/**
 * The rows of `policy.ts` about what an agent does all day, measured as an agent runs: `policy.ts` starts this program with the flags that
 * calico-node starts the agent with, once per section (its argument), so that no section lives with what another has left on the heap.
 * It writes the section's rows as JSON.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { createNamespace, deleteNamespace, type Kernel, namespacePath, openKernel } from "@calico-ts/linux";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import {
  applyChange,
  CALICO_TABLE,
  createCompiler,
  NftPolicyRenderer,
  NodePlanKernel,
} from "@calico-ts/policy-compiler";
import { globalPolicy, namespace } from "@calico-ts/policy-compiler/testing";
import { alone, ms, type Row, timed } from "./policy-rows.ts";
import {
  DAY,
  day,
  dayNamespace,
  LARGE,
  largeSet,
  memberPod,
  SHAPE,
  shape,
  shapeInterface,
  shapePod,
} from "./policy-worlds.ts";

const rows: Row[] = [];
const TURNS = Number(process.env["CALICO_BENCH_TURNS"] ?? 3);
const CHANGES = 300;
const PEER_CHANGES = 30;
const NODE = `ct-${process.pid}-bench`;
const PEER = `ct-${process.pid}-peer`;
const folder = mkdtempSync(join(tmpdir(), "calico-bench-"));

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
/** Members that join before those that are measured, as pods move once before they are: the code is no longer new. */
const FIRST = 10;
const MAP = "to-workload-dispatch";

/** What the start, or a table before, has left behind is collected, by Node and by the kernel. */
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
  const pipeline = new Pipeline(kernel);
  const asks = {
    selector: "all()",
    types: ["Ingress"],
    ingress: [{ action: "Allow", source: { selector: "large == 'yes'" } }],
  };
  await pipeline.start([namespace("ns"), largeSet(), globalPolicy("p", asks), shapePod(0, 0)]);
  nft(PEER, "-f", script(nft(NODE, "list", "table", "inet", "calico")));
  for (let at = 0; at < FIRST; at++) await pipeline.change(memberPod(CHANGES + at));
  await rest();
  const members = await ourChanges((at) => pipeline.change(memberPod(at)));
  const set = /set (set\/\S+\/v4) \{/.exec(nft(NODE, "-t", "list", "table", "inet", "calico"))?.[1] ?? "";
  const count = (nft(NODE, "list", "set", "inet", "calico", set).match(/13\.0\.\d+\.\d+/g) ?? []).length;
  if (count !== CHANGES + FIRST)
    throw new Error(`${set} should have gained ${CHANGES + FIRST} members and has gained ${count}`);
  const peer = await peerChanges((at) => `add element inet calico ${set} { 14.0.0.${at} }\n`);
  compared(`one member more in a set of ${LARGE}`, members, peer, [1, 1]);
}

async function startOfDay(): Promise<void> {
  const world = [...day()];
  const heapBefore = process.memoryUsage().heapUsed;
  const pipeline = new Pipeline();
  const took = await timed(() => pipeline.start(world));
  const heap = Math.round((process.memoryUsage().heapUsed - heapBefore) / 1e6);
  const what = `start of day: ${DAY.endpoints} endpoints (${DAY.local} here), ${DAY.policies} policies`;
  rows.push(alone(what, took, 2000, `, ${heap} MB`));
  const moved = await sample(20, (turn) =>
    pipeline.change(...Array.from({ length: 10 }, (_, at) => dayNamespace(10 + at, (turn + at + 1) % 10))),
  );
  rows.push(alone("ten namespace labels move 1 000 endpoints (p50 of 20)", percentile(moved, 0.5), 50));
}

const SECTIONS: Readonly<Record<string, (kernel: Kernel) => Promise<void>>> = {
  day: startOfDay,
  shape: atShape,
  "large-set": atLargeSet,
};

createNamespace(NODE);
createNamespace(PEER);
try {
  const section = SECTIONS[process.argv[2] ?? ""];
  if (section === undefined) throw new Error(`which section? ${Object.keys(SECTIONS).join(", ")}`);
  using kernel = openKernel({ netns: namespacePath(NODE) });
  await section(kernel);
  process.stdout.write(`${JSON.stringify(rows)}\n`);
} finally {
  deleteNamespace(NODE);
  deleteNamespace(PEER);
  rmSync(folder, { recursive: true });
}
