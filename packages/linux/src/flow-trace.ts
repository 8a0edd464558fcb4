/**
 * Packets of one flow, followed through every nf_tables rule they meet, as `nft monitor trace` does.
 *
 * A table of our own sets the trace bit of packets that fit, before any other chain sees them, and has an empty chain at every other
 * hook, which tells how far they came. The table is owned by our socket
 * (NFT_TABLE_F_OWNER): the kernel removes it when this process ends, even by kill -9, so there is nothing to sweep afterwards. The
 * first record of a packet is always one of that table, which is how a packet's beginning is known; its end is silence, or a drop.
 */
import type { IpAddress } from "@calico-ts/net";
import { hostPrefix } from "@calico-ts/net";
import {
  limit,
  matchDestinationAddress,
  matchDestinationPort,
  matchFamily,
  matchIcmp,
  matchProtocol,
  matchSourceAddress,
  matchSourcePort,
  type NftCommand,
  type NftExpr,
  type NftHook,
  type NftTable,
  type NftTrace,
  type TracedHeaders,
  type TraceVerdict,
} from "@calico-ts/netlink";
import { CalicoError } from "@calico-ts/std";
import type { Kernel } from "./kernel.ts";
import { openKernel } from "./open-kernel.ts";

/** What is absent may be anything. One of the addresses says the family. */
export interface FlowPattern {
  readonly source?: IpAddress;
  readonly destination?: IpAddress;
  /** IANA number. */
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code?: number };
}

export interface TracedStep {
  readonly table: NftTable;
  readonly chain: string;
  readonly type: NftTrace["type"];
  readonly verdict: TraceVerdict;
  readonly handle?: bigint;
  /** Of the rule; absent when it has none, or was replaced before it could be read. */
  readonly comment?: string;
}

export interface TracedPacket {
  readonly headers: TracedHeaders;
  /** Name of the link it came in by; absent: this namespace sent it. */
  readonly input?: string;
  readonly output?: string;
  /** Bits of `CT_STATE_BITS`, as last seen; not told by kernels before 6.16. */
  readonly connectionState?: number;
  /** Where it came by, in order. Without `input` or `postrouting`, and without a drop among the steps, something that is no rule stopped it: routing. */
  readonly hooks: readonly NftHook[];
  /** In order. The steps through the tracer's own table are left out. */
  readonly steps: readonly TracedStep[];
}

export interface FlowTraceOptions {
  readonly netns?: string;
  readonly patterns: readonly FlowPattern[];
  /** At most that many packets a second and pattern are traced: tracing costs the kernel a message for every rule. */
  readonly perSecond?: number;
}

export interface FlowTrace extends AsyncDisposable {
  /** Times the kernel dropped records because we were slow: packets after it may be incomplete. */
  readonly overruns: number;
}

const PER_SECOND = 100;
/** Of every tracer's table: the bit is seen by all who trace, so others' tables are met too. */
const TABLE_PREFIX = "calico-trace-";
/** Records of a packet follow each other within microseconds; the last one is known by nothing coming after it. */
const SILENCE_MS = 100;
/** Before connection tracking and everything else (raw is −300). */
const PRIORITY = -450;
const R1 = 1;
/** Our chains have the names of their hooks. */
const HOOKS = ["prerouting", "input", "forward", "output", "postrouting"] as const satisfies readonly NftHook[];
const BEGINNINGS: ReadonlySet<string> = new Set(["prerouting", "output"]);

let traces = 0;

/**
 * Calls back once for each packet, when it has been seen to its end.
 * @throws CalicoError BAD_INPUT for a pattern without an address, KERNEL (tracing needs Linux 5.12 and root)
 */
export async function traceFlow(
  options: FlowTraceOptions,
  onPacket: (packet: TracedPacket) => void,
): Promise<FlowTrace> {
  const { netns, patterns, perSecond = PER_SECOND } = options;
  const table: NftTable = { family: "inet", name: `${TABLE_PREFIX}${process.pid}-${(traces += 1)}` };
  const rules = patterns.map((pattern) => patternRule(pattern, perSecond));
  await using stack = new AsyncDisposableStack();
  const kernel = stack.use(openKernel(netns === undefined ? {} : { netns }));
  const assembly = new Assembly(kernel, table, onPacket);
  stack.use(kernel.trace((trace) => assembly.note(trace)));
  await kernel.nft.apply([
    { do: "add-table", table, owned: true },
    ...HOOKS.flatMap((hook): NftCommand[] => [
      {
        do: "add-chain",
        table,
        chain: { name: hook, base: { type: "filter", hook, priority: PRIORITY, policy: "accept" } },
      },
      ...(BEGINNINGS.has(hook) ? rules : []).map(
        (exprs): NftCommand => ({ do: "add-rule", table, chain: hook, rule: { exprs } }),
      ),
    ]),
  ]);
  const owned = stack.move();
  return {
    get overruns() {
      return assembly.overruns;
    },
    async [Symbol.asyncDispose]() {
      await kernel.nft.apply([{ do: "delete-table", table }]);
      await assembly.finish();
      await owned.disposeAsync();
    },
  };
}

function patternRule(pattern: FlowPattern, perSecond: number): NftExpr[] {
  const { source, destination, protocol, sourcePort, destinationPort, icmp } = pattern;
  const family = source?.family ?? destination?.family;
  if (family === undefined) throw new CalicoError("BAD_INPUT", "a flow to trace needs a source or a destination");
  const one = (port: number) => ({ first: port, last: port });
  return [
    ...matchFamily(family),
    ...(source === undefined ? [] : matchSourceAddress(hostPrefix(source))),
    ...(destination === undefined ? [] : matchDestinationAddress(hostPrefix(destination))),
    ...matchProtocol(protocol),
    ...(sourcePort === undefined ? [] : matchSourcePort(one(sourcePort))),
    ...(destinationPort === undefined ? [] : matchDestinationPort(one(destinationPort))),
    ...(icmp === undefined ? [] : matchIcmp(icmp)),
    ...limit({ rate: perSecond, burst: perSecond }),
    { kind: "immediate", dreg: R1, data: Uint8Array.of(1) },
    { kind: "meta-set", key: "nftrace", sreg: R1 },
  ];
}

export interface FollowOptions {
  /** Namespaces to look into, each by a name that callbacks get. */
  readonly places: readonly { readonly name: string; readonly netns?: string }[];
  readonly patterns: readonly FlowPattern[];
  /** Ends after so many packets, those of all places together. */
  readonly count?: number;
  readonly signal: AbortSignal;
  /** Tracing has begun everywhere: packets sent from now on are seen. */
  readonly onReady?: () => void;
}

/** Traces the flow in several namespaces until the signal, or `count` packets. Returns how often the kernel dropped records. */
export async function followFlow(
  options: FollowOptions,
  onPacket: (place: string, packet: TracedPacket) => void,
): Promise<{ readonly overruns: number }> {
  const { places, patterns, count = Number.POSITIVE_INFINITY, signal } = options;
  let seen = 0;
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  if (signal.aborted) end();
  signal.addEventListener("abort", () => end(), { once: true });
  await using stack = new AsyncDisposableStack();
  const running: FlowTrace[] = [];
  for (const { name, netns } of places) {
    const started = await traceFlow({ patterns, ...(netns === undefined ? {} : { netns }) }, (packet) => {
      seen += 1;
      if (seen <= count) onPacket(name, packet);
      if (seen >= count) end();
    });
    running.push(stack.use(started));
  }
  options.onReady?.();
  await ended;
  return { overruns: running.reduce((sum, { overruns }) => sum + overruns, 0) };
}

interface Open {
  readonly records: NftTrace[];
  timer: NodeJS.Timeout;
}

/** Records by packet id, until the packet is over. */
class Assembly {
  readonly #open = new Map<number, Open>();
  readonly #comments: RuleComments;
  readonly #kernel: Kernel;
  readonly #own: NftTable;
  readonly #onPacket: (packet: TracedPacket) => void;
  #emitted: Promise<void> = Promise.resolve();
  overruns = 0;

  constructor(kernel: Kernel, own: NftTable, onPacket: (packet: TracedPacket) => void) {
    this.#kernel = kernel;
    this.#own = own;
    this.#onPacket = onPacket;
    this.#comments = new RuleComments(kernel);
  }

  note(trace: NftTrace | "overrun"): void {
    if (trace === "overrun") {
      this.overruns++;
      return;
    }
    // At the end of a chain the kernel tells of a rule that is none.
    if (trace.type === "rule" && trace.handle === undefined) return;
    const isOwn = trace.table.name === this.#own.name;
    if (!isOwn && trace.table.name.startsWith(TABLE_PREFIX)) return;
    // Ids are used again: a rule of our own comes first in every packet and tells one from the next.
    if (isOwn && trace.type === "rule") {
      this.#close(trace.id);
      this.#open.set(trace.id, { records: [trace], timer: this.#timer(trace.id) });
      return;
    }
    // Somebody else's packet, or the rest of one whose beginning was lost.
    const open = this.#open.get(trace.id);
    if (open === undefined) return;
    open.records.push(trace);
    clearTimeout(open.timer);
    if (trace.verdict.kind === "drop") this.#close(trace.id);
    else open.timer = this.#timer(trace.id);
  }

  /** Everything that has begun is told. */
  async finish(): Promise<void> {
    for (const id of this.#open.keys()) this.#close(id);
    await this.#emitted;
  }

  #timer(id: number): NodeJS.Timeout {
    return setTimeout(() => this.#close(id), SILENCE_MS);
  }

  #close(id: number): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    this.#open.delete(id);
    clearTimeout(open.timer);
    this.#emitted = this.#emitted.then(() => this.#emit(open.records));
  }

  async #emit(records: readonly NftTrace[]): Promise<void> {
    const headers = records.find((record) => record.headers !== undefined)?.headers;
    if (headers === undefined) return;
    const last = <K extends "input" | "output" | "connectionState">(key: K): NftTrace[K] | undefined =>
      records.findLast((record) => record[key] !== undefined)?.[key];
    const [input, output, connectionState] = [last("input"), last("output"), last("connectionState")];
    const passed = new Set(records.flatMap(({ table, chain }) => (table.name === this.#own.name ? [chain] : [])));
    const steps: TracedStep[] = [];
    for (const record of records) {
      if (record.table.name !== this.#own.name) steps.push(await this.#step(record));
    }
    const name = (index: number): string => this.#kernel.links.get(index)?.name ?? `link ${index}`;
    this.#onPacket({
      headers,
      ...(input === undefined ? {} : { input: name(input) }),
      ...(output === undefined ? {} : { output: name(output) }),
      ...(connectionState === undefined ? {} : { connectionState }),
      hooks: HOOKS.filter((hook) => passed.has(hook)),
      steps,
    });
  }

  async #step({ table, chain, type, verdict, handle }: NftTrace): Promise<TracedStep> {
    const comment = handle === undefined ? undefined : await this.#comments.of(table, handle);
    return {
      table,
      chain,
      type,
      verdict,
      ...(handle === undefined ? {} : { handle }),
      ...(comment === undefined ? {} : { comment }),
    };
  }
}

/** Comments of rules by handle. Handles of a table are never used again, so what was read once stays true. */
class RuleComments {
  readonly #kernel: Kernel;
  readonly #known = new Map<string, Map<bigint, string | undefined>>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  async of(table: NftTable, handle: bigint): Promise<string | undefined> {
    const key = `${table.family} ${table.name}`;
    let known = this.#known.get(key);
    if (known?.has(handle) === true) return known.get(handle);
    known ??= new Map();
    this.#known.set(key, known);
    for (const entry of await this.#kernel.nft.listRules(table)) known.set(entry.handle, entry.rule.comment);
    // Replaced meanwhile: not to be asked for again.
    if (!known.has(handle)) known.set(handle, undefined);
    return known.get(handle);
  }
}
