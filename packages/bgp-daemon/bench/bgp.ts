/**
 * `npm run bench -- bgp [--routes N] [--only NAME,…] [--receivers NAME,…]`, as root: our daemon as a process beside BIRD, FRR and GoBGP, one after the other in one run. What
 * is measured is in `SCENARIOS`. Prints a table, writes artifacts/bench/bgp.json; ratios are to the receiver that the design names.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { inNamespace } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import { errorText } from "@calico-ts/std";
import { Lab, type Station } from "../testing/lab.ts";
import { type Peer, type Receiver, RECEIVERS, type ReceiverName, startReceiver, usage } from "./receivers.ts";
import { announcements, type Message, withdrawals } from "./routes.ts";
import { Sender } from "./sender.ts";

const { values } = parseArgs({
  options: {
    routes: { type: "string", default: "500000" },
    only: { type: "string" },
    receivers: { type: "string", default: RECEIVERS.join(",") },
  },
  allowPositionals: true,
});
const ROUTES = Number(values.routes);
const share = (part: number): number => Math.round(ROUTES * part);
/** What takes longer is not waited for. */
const LIMIT_SECONDS = 90;
const SETTLE_MS = 5000;
const HOLD_SECONDS = 30;

interface Row {
  readonly scenario: string;
  readonly receiver: string;
  readonly what: string;
  readonly seconds?: number;
  readonly cpuSeconds?: number;
  readonly rssMb?: number;
  readonly peakMb?: number;
  readonly latenessMs?: number;
}

const rows: Row[] = [];
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Seconds until it holds. */
async function until(what: string, holds: () => boolean, pollMs = 50): Promise<number> {
  const began = performance.now();
  while (!holds()) {
    if (performance.now() - began > LIMIT_SECONDS * 1000) throw new Error(`never happened: ${what}`);
    await sleep(pollMs);
  }
  return (performance.now() - began) / 1000;
}

/** Outside of all routes: a next hop must not be reached through a route it is the next hop of. The receiver's LAN is 198.18.0.0/16; senders have 198.18.1.0 and up, all in station 2. */
class World implements Disposable {
  readonly #lab = new Lab("bench", 2);
  readonly receiverAt: Station;
  readonly sendersAt: Station;
  #senders = 0;

  constructor() {
    this.receiverAt = this.#lab.station(1);
    this.sendersAt = this.#lab.station(2);
    this.#address(this.receiverAt, "198.18.0.1/16");
  }

  senderAddress(index: number): string {
    const address = `198.18.${1 + (index >> 8)}.${index & 255}`;
    for (; this.#senders <= index; this.#senders++) {
      this.#address(this.sendersAt, `198.18.${1 + (this.#senders >> 8)}.${this.#senders & 255}/16`);
    }
    return address;
  }

  #address({ kernel }: Station, text: string): void {
    const [address = "", length] = text.split("/");
    const link = kernel.links.get("eth0")?.index ?? 0;
    kernel.addresses.add({ address: parseAddress(address), prefixLength: Number(length), link });
  }

  peers(count: number): Peer[] {
    return Array.from({ length: count }, (_, index) => ({ address: this.senderAddress(index), as: 65_001 + index }));
  }

  sender({ address, as }: Peer, index: number, gracefulRestart = false): Sender {
    return new Sender({
      netns: this.sendersAt.netns,
      source: address,
      receiver: "198.18.0.1",
      as,
      identifier: 0xc612_0100 + index,
      holdSeconds: HOLD_SECONDS,
      gracefulRestart,
    });
  }

  [Symbol.dispose](): void {
    this.#lab[Symbol.dispose]();
  }
}

/** A receiver and its senders, up; `seconds`: since all senders were there. */
async function arrange(
  world: World,
  name: ReceiverName,
  {
    count,
    kernel = false,
    gracefulRestart = false,
  }: { readonly count: number; readonly kernel?: boolean; readonly gracefulRestart?: boolean },
): Promise<
  { readonly receiver: Receiver; readonly senders: readonly Sender[]; readonly seconds: number } & Disposable
> {
  const peers = world.peers(count);
  const receiver = await startReceiver({
    name,
    at: world.receiverAt,
    address: "198.18.0.1",
    peers,
    kernel,
    gracefulRestart,
  });
  const senders: Sender[] = [];
  for (const [index, peer] of peers.entries()) {
    senders.push(world.sender(peer, index, gracefulRestart));
    // Listeners queue no more than a few connections.
    if (index % 8 === 7) await sleep(20);
  }
  let seconds = 0;
  try {
    seconds = await until(`all sessions with ${name} stand`, () => senders.every((one) => one.isUp));
  } catch (error) {
    const down = senders.filter((one) => !one.isUp);
    throw new Error(
      `${errorText(error)}: ${down.length} are down, the first because of ${down[0]?.lastFailure}; ${receiver.witness().slice(0, 2000)}`,
      { cause: error },
    );
  }
  return {
    receiver,
    senders,
    seconds,
    [Symbol.dispose]() {
      for (const sender of senders) sender[Symbol.dispose]();
      receiver[Symbol.dispose]();
    },
  };
}

/**
 * When the receiver last worked. Having taken a route is not having chosen among routes and told others, and not every receiver says when it has: that its processor time
 * stops growing can be seen of all.
 */
async function quiet({ pid }: Receiver): Promise<number> {
  let [at, cpu] = [performance.now(), usage(pid).cpuSeconds];
  for (;;) {
    await sleep(200);
    const now = usage(pid).cpuSeconds;
    if (now - cpu <= 0.04) return at;
    [at, cpu] = [performance.now(), now];
  }
}

const worstLateness = (senders: readonly Sender[]): number =>
  Math.round(Math.max(...senders.map((one) => one.latenessMs)));

/** Sends, and measures until it holds. */
async function measure(
  { receiver, senders }: { readonly receiver: Receiver; readonly senders: readonly Sender[] },
  messages: readonly Message[],
  holds: () => boolean,
): Promise<Omit<Row, "scenario" | "receiver" | "what">> {
  const before = usage(receiver.pid).cpuSeconds;
  for (const sender of senders) sender.latenessMs = 0;
  const sent = Promise.all(senders.map((sender, index) => sender.send(messages[index] ?? new Uint8Array(0))));
  const began = performance.now();
  await until("the receiver has got it all", holds);
  await sent;
  const seconds = ((await quiet(receiver)) - began) / 1000;
  const { cpuSeconds } = usage(receiver.pid);
  const latenessMs = worstLateness(senders);
  // Garbage that collectors have not come to yet is not what a table costs; what the peak was is told apart.
  await sleep(SETTLE_MS);
  const { rssMb, peakMb } = usage(receiver.pid);
  return { seconds, cpuSeconds: cpuSeconds - before, rssMb, peakMb, latenessMs };
}

const each = (receiver: Receiver, count: number, peers: number): boolean => {
  const received = receiver.received();
  return received.length >= peers && received.filter((one) => one === count).length >= peers;
};

const prefixesInKernel = ({ netns }: Station): number =>
  inNamespace(netns, () =>
    Number(/Prefixes:\s+(\d+)/.exec(readFileSync("/proc/thread-self/net/fib_triestat", "utf8"))?.[1] ?? 0),
  );

/** What a receiver that was killed has left in the kernel; FRR's routes go with their next hops. */
async function emptyKernel(at: Station): Promise<void> {
  const flush = (...words: readonly string[]): void => {
    try {
      execFileSync("ip", ["-n", at.name, ...words], { stdio: "ignore" });
    } catch {
      // Some of it was gone already: again.
    }
  };
  await until("the kernel is empty", () => {
    flush("nexthop", "flush");
    flush("route", "flush", "proto", "bird");
    return prefixesInKernel(at) < 50;
  });
}

interface Scenario {
  readonly name: string;
  readonly about: string;
  /** The receiver that ours is held against. */
  readonly against: ReceiverName;
  readonly run: (world: World, receiver: ReceiverName) => Promise<void>;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: "full-table",
    about: "one peer announces all routes, then withdraws them",
    against: "FRR",
    run: async (world, receiver) => {
      using scene = await arrange(world, receiver, { count: 1 });
      const stream = announcements({ count: ROUTES, as: 65_001, nextHop: world.senderAddress(0) });
      const full = await measure(scene, [stream], () => each(scene.receiver, ROUTES, 1));
      rows.push({ scenario: "full-table", receiver, what: `${ROUTES} routes from one peer`, ...full });
      const gone = await measure(scene, [withdrawals(ROUTES)], () => each(scene.receiver, 0, 1));
      rows.push({ scenario: "withdraw", receiver, what: "all of them withdrawn", ...gone });
    },
  },
  {
    name: "overlapping",
    about: "ten peers announce the same routes at once, each with paths of its own",
    against: "FRR",
    run: async (world, receiver) => {
      const count = share(0.2);
      using scene = await arrange(world, receiver, { count: 10 });
      const streams = scene.senders.map((_, index) =>
        announcements({ count, as: 65_001 + index, nextHop: world.senderAddress(index), variant: index }),
      );
      rows.push({
        scenario: "overlapping",
        receiver,
        what: `10 peers × ${count} routes`,
        ...(await measure(scene, streams, () => each(scene.receiver, count, 10))),
      });
    },
  },
  {
    name: "idle",
    about: "a thousand sessions without routes",
    against: "BIRD",
    run: async (world, receiver) => {
      using scene = await arrange(world, receiver, { count: 1000 });
      for (const sender of scene.senders) sender.latenessMs = 0;
      await sleep(HOLD_SECONDS * 1000);
      rows.push({
        scenario: "idle",
        receiver,
        what: "1000 idle sessions, until they stand",
        seconds: scene.seconds,
        ...usage(scene.receiver.pid),
        latenessMs: worstLateness(scene.senders),
      });
    },
  },
  {
    name: "kernel",
    about: "one peer's routes into the kernel",
    against: "BIRD",
    run: async (world, receiver) => {
      if (receiver === "GoBGP") return; // it cannot
      const count = share(0.2);
      await emptyKernel(world.receiverAt);
      using scene = await arrange(world, receiver, { count: 1, kernel: true });
      const before = prefixesInKernel(world.receiverAt);
      const stream = announcements({ count, as: 65_001, nextHop: world.senderAddress(0) });
      const row = await measure(scene, [stream], () => prefixesInKernel(world.receiverAt) >= before + count);
      rows.push({ scenario: "kernel", receiver, what: `${count} routes into the kernel`, ...row });
    },
  },
  {
    name: "restart",
    about: "killed and started again: until everything is back, from the start of the process",
    against: "BIRD",
    run: async (world, receiver) => {
      const count = share(0.04);
      using scene = await arrange(world, receiver, { count: 1, gracefulRestart: true });
      const [sender] = scene.senders;
      if (sender === undefined) return;
      const stream = announcements({ count, as: 65_001, nextHop: world.senderAddress(0) });
      await measure(scene, [stream], () => each(scene.receiver, count, 1));
      await scene.receiver.kill();
      await until("the sender notices", () => !sender.isUp);
      const began = performance.now();
      const started = scene.receiver.start();
      await until("the session is back", () => sender.isUp, 5);
      await sender.send(stream);
      await until("all routes are back", () => each(scene.receiver, count, 1), 20);
      await started;
      rows.push({
        scenario: "restart",
        receiver,
        what: `${count} routes back after SIGKILL`,
        seconds: (performance.now() - began) / 1000,
        ...(({ rssMb, cpuSeconds }) => ({ rssMb, cpuSeconds }))(usage(scene.receiver.pid)),
      });
    },
  },
];

function mesh(): void {
  const program = join(import.meta.dirname, "../../bgp/bench/mesh.ts");
  const began = performance.now();
  const text = execFileSync(process.execPath, ["--conditions=calico-src", program, "300"], { encoding: "utf8" });
  process.stdout.write(`  ${text}`);
  const rssMb = Number(/rss (\d+) MB/.exec(text)?.[1] ?? 0);
  rows.push({
    scenario: "mesh",
    receiver: "calico-ts",
    what: "300 nodes in memory, 44 850 sessions",
    seconds: (performance.now() - began) / 1000,
    rssMb,
  });
}

const number = (value: number | undefined, digits: number): string =>
  value === undefined ? "" : value.toFixed(digits);

function print(): void {
  const line = (...cells: string[]): void =>
    void process.stdout.write(
      `${cells.map((cell, at) => (at < 2 ? cell.padEnd(at === 0 ? 36 : 10) : cell.padStart(9))).join(" ")}\n`,
    );
  line("", "", "seconds", "cpu s", "rss MB", "peak MB", "late ms", "time ×", "memory ×");
  for (const row of rows) {
    const against = SCENARIOS.find(({ name }) => name === row.scenario)?.against ?? "FRR";
    const other = rows.find(({ scenario, receiver }) => scenario === row.scenario && receiver === against);
    const ratio = (a: number | undefined, b: number | undefined): string =>
      row.receiver !== "calico-ts" || a === undefined || b === undefined || b === 0 ? "" : (a / b).toFixed(2);
    line(
      row.what,
      row.receiver,
      number(row.seconds, 2),
      number(row.cpuSeconds, 2),
      number(row.rssMb, 0),
      number(row.peakMb, 0),
      number(row.latenessMs, 0),
      ratio(row.seconds, other?.seconds),
      ratio(row.rssMb, other?.rssMb),
    );
  }
}

/** The names in a list, in any case. @throws RangeError for one that there is not */
function wanted(list: string, names: readonly string[]): readonly string[] {
  return list.split(",").map((word) => {
    const name = names.find((one) => one.toLowerCase() === word.toLowerCase());
    if (name === undefined) throw new RangeError(`no "${word}"; there is ${names.join(", ")}`);
    return name;
  });
}

const only =
  values.only === undefined ? undefined : wanted(values.only, [...SCENARIOS.map(({ name }) => name), "mesh"]);
const receivers = RECEIVERS.filter((name) => wanted(values.receivers, RECEIVERS).includes(name));
using world = new World();
// Processes go with this one; namespaces do not.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    world[Symbol.dispose]();
    process.exit(130);
  });
}
for (const { name, about, run } of SCENARIOS) {
  if (only !== undefined && !only.includes(name)) continue;
  process.stdout.write(`${name}: ${about}\n`);
  for (const receiver of receivers) {
    try {
      await run(world, receiver);
    } catch (error) {
      rows.push({ scenario: name, receiver, what: `${name}: ${errorText(error).split(";")[0]}` });
      process.stdout.write(`  ${receiver}: ${errorText(error)}\n`);
      continue;
    }
    const last = rows.findLast((row) => row.receiver === receiver && row.scenario === name);
    if (last !== undefined)
      process.stdout.write(
        `  ${receiver.padEnd(10)} ${number(last.seconds, 2)} s, cpu ${number(last.cpuSeconds, 2)} s, ${last.rssMb ?? 0} MB\n`,
      );
  }
}
if (only === undefined || only.includes("mesh")) mesh();
process.stdout.write("\n");
print();
const results = join(import.meta.dirname, "../../../artifacts/bench");
mkdirSync(results, { recursive: true });
writeFileSync(
  join(results, "bgp.json"),
  `${JSON.stringify({ routes: ROUTES, against: Object.fromEntries(SCENARIOS.map(({ name, against }) => [name, against])), rows }, undefined, 2)}\n`,
);
