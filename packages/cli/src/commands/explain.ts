/** `calicoctl explain FROM TO PROTOCOL/PORT`: why a packet is let through or not. */
import type { Explanation, SourcedResource } from "@calico-ts/policy-compiler";
import { completeWorld, explain, explanationText, listWorld, readManifestWorld } from "@calico-ts/policy-compiler";
import { formatPosition } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import { type Command, Option } from "commander";
import { openDatastore } from "../open-datastore.ts";
import { readManifestFiles } from "../manifest-files.ts";
import type { CommandContext } from "../command.ts";
import type { Terminal } from "../terminal.ts";
import { paintOf } from "../terminal.ts";

interface ExplainOptions {
  readonly filename?: readonly string[];
  readonly json?: boolean;
  readonly expect?: "allowed" | "denied";
}

const collect = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];

export function addExplain(program: Command, { terminal, setExit }: CommandContext): void {
  program
    .command("explain")
    .description("tell whether a packet is allowed, and which rule of which policy says so")
    .argument("<from>", "NAMESPACE/POD, NAMESPACE/WORKLOAD, node:NAME or an address")
    .argument("<to>", "the same, or svc:NAMESPACE/NAME")
    .argument("<traffic>", "tcp/80, udp/53, tcp/http, icmp, icmp/8/0")
    .option(
      "-f, --filename <path>",
      "manifests instead of the cluster: a file, a folder or -; may be given several times",
      collect,
    )
    .option("--json", "for programs: one object")
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
      terminal.out(
        options.json === true ? JSON.stringify(explanation) : explanationText(explanation, paintOf(terminal)),
      );
      setExit(exitOf(explanation, options));
    });
}

/** As the simulator's probe: a verdict is a success. */
function exitOf({ verdict }: Explanation, { expect }: ExplainOptions): number {
  if (verdict === "undecided") return 1;
  return expect === undefined || expect === verdict ? 0 : 1;
}

async function readWorld({ filename }: ExplainOptions, terminal: Terminal): Promise<SourcedResource[]> {
  if (filename === undefined) {
    await using client = openDatastore(terminal);
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
