/**
 * `explain`: why a packet is let through or not, from what the run's API server has; and for every rule that decided, the rules
 * of the node's kernel that carry its name, with the packets they have counted.
 */
import { openKubernetes } from "@calico-ts/datastore";
import type { Kernel } from "@calico-ts/linux";
import { openKernel } from "@calico-ts/linux";
import type { ExplainedDirection, Explanation, Question, SourcedResource } from "@calico-ts/policy-compiler";
import { CALICO_TABLE, explain as explainWorld, explanationText, listWorld } from "@calico-ts/policy-compiler";
import { errorText } from "@calico-ts/std";
import { type Command, Option } from "commander";
import type { Colors } from "picocolors/types.js";
import { readRecord, runPaths } from "../run/run-folder.ts";
import type { RunOptions } from "./choose-run.ts";
import { chooseLiveRun } from "./choose-run.ts";
import type { Terminal } from "./plugins.ts";
import { requireRoot } from "./require-root.ts";

export interface ExplainOptions extends RunOptions {
  readonly expect?: "allowed" | "denied";
  readonly json?: boolean;
}

/** A rule of a node's kernel made from the policy rule that decided. */
export interface KernelRule {
  readonly node: string;
  readonly chain: string;
  readonly handle: string;
  readonly comment: string;
  /** Since the rule was made; absent when the rule does not count. */
  readonly packets?: string;
}

interface View {
  readonly terminal: Terminal;
  readonly colors: Colors;
}

export function addExplain(
  command: (name: string, description: string) => Command,
  setExit: (code: number) => void,
  view: View,
): void {
  command("explain", "tell whether policies allow a packet, which rule says so, and what the kernel has counted")
    .argument("<from>", "NAMESPACE/POD, NAMESPACE/WORKLOAD, node:NAME or an IP address")
    .argument("<to>", "the same, or svc:NAMESPACE/NAME")
    .argument("<traffic>", "tcp/80, udp/53, tcp/http, icmp")
    .addOption(
      new Option("--expect <verdict>", "exit with 1 unless this is the verdict").choices(["allowed", "denied"]),
    )
    .option("--json", "for programs: one object")
    .action(async (from: string, to: string, traffic: string, options: ExplainOptions) =>
      setExit(await explain(chooseLiveRun(options), { question: { from, to, traffic }, options }, view)),
    );
}

/** 0 with an answer (and the expected one, with --expect), else 1, as `probe` has it. */
export async function explain(
  run: string,
  { question, options }: { readonly question: Question; readonly options: ExplainOptions },
  view: View,
): Promise<number> {
  requireRoot("explain");
  const { terminal, colors } = view;
  await using client = openKubernetes({ kubeconfig: runPaths(run).kubeconfig });
  const world = await listWorld(client);
  const explanation = explainWorld(world, question);
  const kernel = await kernelRules(run, explanation, world, terminal);
  if (options.json === true) {
    terminal.out(JSON.stringify({ ...explanation, kernel }));
  } else {
    const paint = { good: colors.green, bad: colors.red, dim: colors.dim, bold: colors.bold };
    terminal.out([explanationText(explanation, paint), ...kernelText(kernel, colors)].join("\n"));
  }
  if (explanation.verdict === "undecided") return 1;
  return options.expect === undefined || options.expect === explanation.verdict ? 0 : 1;
}

async function kernelRules(
  run: string,
  explanation: Explanation,
  world: readonly SourcedResource[],
  terminal: Terminal,
): Promise<KernelRule[]> {
  const walks = explanation.paths.flatMap(({ walk }) => walk).filter(({ reached }) => reached);
  const nodes = readRecord(run)?.nodes ?? [];
  const found: KernelRule[] = [];
  for (const { name, netns } of nodes) {
    const own = walks.filter((walk) => nodeOf(walk, world) === name && walk.decidedBy.provenance !== undefined);
    if (own.length === 0) continue;
    try {
      found.push(...(await rulesOf(name, netns, own)));
    } catch (error) {
      terminal.note(`node ${name}: its rules cannot be read: ${errorText(error)}`);
    }
  }
  return found;
}

/** The node whose kernel decides about the endpoint. */
function nodeOf({ endpoint }: ExplainedDirection, world: readonly SourcedResource[]): string | undefined {
  for (const { resource } of world) {
    const { kind, metadata } = resource;
    if (kind === "Pod" && `${metadata.namespace}/${metadata.name}` === endpoint) return resource.spec.nodeName;
    if (kind === "HostEndpoint" && `host-endpoint/${metadata.name}` === endpoint) return resource.spec.node;
  }
  return undefined;
}

async function rulesOf(node: string, netns: string, walks: readonly ExplainedDirection[]): Promise<KernelRule[]> {
  using kernel = openKernel({ netns });
  const entries = await kernel.nft.listRules(CALICO_TABLE);
  const wanted = await Promise.all(
    walks.map(async (walk) => ({ comment: walk.decidedBy.provenance, chain: await ownChain(kernel, walk) })),
  );
  return entries.flatMap(({ chain, handle, rule }) => {
    const { comment } = rule;
    if (comment === undefined) return [];
    if (!wanted.some((each) => each.comment === comment && (each.chain === undefined || each.chain === chain)))
      return [];
    const counter = rule.exprs.find((expr) => expr.kind === "counter");
    const packets = counter?.kind === "counter" ? counter.packets : undefined;
    return [
      { node, chain, handle: String(handle), comment, ...(packets === undefined ? {} : { packets: String(packets) }) },
    ];
  });
}

const DISPATCH = { egress: "from-workload-dispatch", ingress: "to-workload-dispatch" } as const;

/** The end of a tier stands in every walk through it: a pod's own is the one its interface is sent to. */
async function ownChain(kernel: Kernel, walk: ExplainedDirection): Promise<string | undefined> {
  if (walk.decidedBy.by !== "tier-default" || walk.endpoint.startsWith("host-endpoint/")) return undefined;
  const elements = await kernel.nft.listElements(CALICO_TABLE, DISPATCH[walk.direction]);
  const own = elements.find(({ comment }) => comment?.startsWith(`k8s/${walk.endpoint}/`) === true);
  const { value } = own ?? {};
  return value !== undefined && "chain" in value ? value.chain : undefined;
}

function kernelText(rules: readonly KernelRule[], colors: Colors): string[] {
  if (rules.length === 0) return [];
  const lines = rules.map(({ node, chain, handle, comment, packets }) => {
    const counted = packets === undefined ? "not counted" : `${packets} packets`;
    return `  ${node}  ${colors.bold(counted)}  ${comment}  ${colors.dim(`chain ${chain} handle ${handle}`)}`;
  });
  return ["", colors.bold("KERNEL  rules that decided, and the packets they have seen"), ...lines];
}
