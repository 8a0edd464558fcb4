/** `calicoctl explain FROM TO PROTOCOL/PORT`: why a packet is let through or not. */
import type { Explanation, SourcedResource } from "@calico-ts/policy-compiler";
import {
  completeWorld,
  explain,
  explanationText,
  kernelRulesText,
  listWorld,
  readManifestWorld,
  roadText,
} from "@calico-ts/policy-compiler";
import { formatPosition } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { ThisNode, WatchOptions } from "../explain/this-node.ts";
import { openDatastore } from "../open-datastore.ts";
import { readManifestFiles } from "../manifest-files.ts";
import type { CommandContext } from "../command.ts";
import type { Terminal } from "../terminal.ts";
import { paintOf } from "../terminal.ts";

interface ExplainOptions extends WatchOptions {
  readonly filename?: readonly string[];
  readonly live?: boolean;
  readonly watch?: boolean;
  readonly node?: string;
  readonly expect?: "allowed" | "denied";
}

const collect = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];

export function addExplain(program: Command, { terminal, setExit }: CommandContext): void {
  program
    .command("explain")
    .description("tell whether a packet is allowed, and which rule of which policy says so")
    .argument("<from>", "NAMESPACE/POD, NAMESPACE/WORKLOAD, node:NAME or an address")
    .argument("<to>", "the same, or svc:NAMESPACE/NAME")
    .argument("<traffic>", "tcp/80, udp/53, tcp/http, icmp, icmp/8/0, ip/47")
    .option(
      "-f, --filename <path>",
      "manifests instead of the cluster: a file, a folder or -; may be given several times",
      collect,
    )
    .option("--json", "for programs: one object; with --watch one line for each packet")
    .option("--live", "also ask this machine's kernel, as root on a node at one end of the way")
    .option("--watch", "as --live, then trace the flow's packets through this node until Ctrl-C")
    .option("--node <name>", "which node this machine is; without it NODENAME or the host's name")
    .addOption(new Option("--count <n>", "with --watch: end after so many packets").argParser(fromOne))
    .addOption(
      new Option("--source-port <port>", "with --watch: only packets from (and answers to) this port").argParser(
        fromOne,
      ),
    )
    .addOption(
      new Option("--expect <verdict>", "exit with 1 unless this is the verdict").choices(["allowed", "denied"]),
    )
    .addHelpText(
      "after",
      "\nExit code: 0 with an answer, whichever it is; 1 without one, or when it is not what --expect says; 2 for bad input.",
    )
    .action(async (from: string, to: string, traffic: string, options: ExplainOptions) => {
      const world = await readWorld(options, terminal);
      const explanation = explain(world, { from, to, traffic });
      const subject = { explanation, world };
      if (options.live !== true && options.watch !== true) {
        show(explanation, undefined, { options, terminal });
        setExit(exitOf(explanation, options));
        return;
      }
      if (explanation.obstacle !== undefined) throw new CalicoError("NOT_FOUND", explanation.obstacle.text);
      // Loaded when needed: it brings native code along, which the other commands do without.
      const { ThisNode: Machine } = await import("../explain/this-node.ts");
      using node = Machine.open(options.node, subject, terminal);
      const live = await node.examine(subject);
      if (options.watch !== true || options.json !== true) show(explanation, live, { options, terminal });
      if (options.watch === true) await node.watch(subject, options, terminal);
      else setExit(exitOf(explanation, options));
    });
}

type Live = Awaited<ReturnType<ThisNode["examine"]>>;

function show(
  explanation: Explanation,
  live: Live | undefined,
  { options, terminal }: { readonly options: ExplainOptions; readonly terminal: Terminal },
): void {
  const paint = paintOf(terminal);
  if (options.json === true) return terminal.out(JSON.stringify({ ...explanation, ...live }));
  const kernel = live === undefined ? [] : kernelRulesText(live.kernel, paint);
  const road = live === undefined ? [] : roadText(live.road, paint);
  terminal.out([explanationText(explanation, paint), ...kernel, ...road].join("\n"));
}

function fromOne(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1) return value;
  throw new InvalidArgumentError("Expected a whole number from 1 on.");
}

/** As the simulator's probe: a verdict is a success. */
function exitOf({ verdict }: Explanation, { expect }: ExplainOptions): number {
  if (verdict === "undecided") return 1;
  return expect === undefined || expect === verdict ? 0 : 1;
}

async function readWorld({ filename }: ExplainOptions, terminal: Terminal): Promise<SourcedResource[]> {
  if (filename === undefined) {
    await using client = await openDatastore(terminal);
    return await listWorld(client);
  }
  const { documents, mistakes } = readManifestFiles(filename);
  const { resources, workloads, problems } = readManifestWorld(documents);
  const fatal = problems.filter(({ problem }) => problem !== "unknown-field");
  if (mistakes.length + fatal.length > 0) {
    // An answer from half the policies would be a wrong one.
    const lines = [
      ...mistakes.map(({ position, message }) => `${formatPosition(position)}: ${message}`),
      ...fatal.map(({ position, path, message }) => `${formatPosition(position)}: ${path}: ${message}`),
    ];
    throw new CalicoError("BAD_INPUT", lines.join("\n"));
  }
  for (const { position, message } of problems) terminal.note(`${formatPosition(position)}: warning: ${message}`);
  return completeWorld(resources, { workloads, imagine: true });
}
