/**
 * `explain`: why a packet is let through or not, from what the run's API server has; for every rule that decided, the rules of the
 * node's kernel that carry its name, with the packets they have counted; what besides policy stands in the way; and with --watch
 * the packets themselves, step by step.
 */
import { openKubernetes } from "@calico-ts/datastore";
import type { Kernel } from "@calico-ts/linux";
import { followFlow, openKernel, peerNamespace } from "@calico-ts/linux";
import type { Explanation, KernelRule, Paint, Question, RoadNode, SourcedResource } from "@calico-ts/policy-compiler";
import {
  examineRoads,
  explain as explainWorld,
  explainPacket,
  explanationText,
  flowsToWatch,
  kernelRules,
  kernelRulesText,
  listWorld,
  nodesOf,
  packetText,
  roadText,
  RuleNames,
} from "@calico-ts/policy-compiler";
import { CalicoError, errorText } from "@calico-ts/std";
import type { Colors } from "picocolors/types.js";
import { readRecord, runPaths } from "../run/run-folder.ts";
import type { RunOptions } from "./choose-run.ts";
import type { Terminal } from "./plugins.ts";
import { requireRoot } from "./require-root.ts";

export interface ExplainOptions extends RunOptions {
  readonly expect?: "allowed" | "denied";
  readonly json?: boolean;
  readonly watch?: boolean;
  readonly count?: number;
  readonly sourcePort?: number;
}

interface View {
  readonly terminal: Terminal;
  readonly colors: Colors;
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
  using stack = new DisposableStack();
  const nodes = openNodes(run, explanation, stack);
  const kernel = await rulesOf(nodes, explanation, world, terminal);
  const road = await examineRoads(explanation.paths, new Map(nodes.map((node) => [node.name, roadNode(node)])));
  if (options.json === true && options.watch !== true) {
    terminal.out(JSON.stringify({ ...explanation, kernel, road }));
  } else if (options.json !== true) {
    const paint = paintOf(colors);
    const lines = [explanationText(explanation, paint), ...kernelRulesText(kernel, paint)];
    terminal.out([...lines, ...roadText(road, paint)].join("\n"));
  }
  if (options.watch === true) {
    if (explanation.obstacle !== undefined) throw new CalicoError("NOT_FOUND", explanation.obstacle.text);
    return await watch(nodes, { explanation, world, options }, view);
  }
  if (explanation.verdict === "undecided") return 1;
  return options.expect === undefined || options.expect === explanation.verdict ? 0 : 1;
}

interface OpenNode {
  readonly name: string;
  readonly netns: string;
  readonly kernel: Kernel;
}

/** The kernels of the run's nodes that the paths touch: the sender's and the receiver's. */
function openNodes(run: string, explanation: Explanation, stack: DisposableStack): OpenNode[] {
  const wanted = new Set(nodesOf(explanation.paths));
  return (readRecord(run)?.nodes ?? [])
    .filter(({ name }) => wanted.has(name))
    .map(({ name, netns }) => ({ name, netns, kernel: stack.use(openKernel({ netns })) }));
}

function roadNode({ kernel }: OpenNode): RoadNode {
  return {
    kernel,
    openPod: (link) => {
      const netns = peerNamespace(kernel, link);
      if (netns === undefined) return undefined;
      const pod = openKernel({ netns });
      return { kernel: pod, done: () => pod[Symbol.dispose]() };
    },
  };
}

async function rulesOf(
  nodes: readonly OpenNode[],
  explanation: Explanation,
  world: readonly SourcedResource[],
  terminal: Terminal,
): Promise<KernelRule[]> {
  const found: KernelRule[] = [];
  for (const { name, kernel } of nodes) {
    try {
      found.push(...(await kernelRules(name, kernel.nft, explanation, world)));
    } catch (error) {
      terminal.note(`node ${name}: its rules cannot be read: ${errorText(error)}`);
    }
  }
  return found;
}

/** Until Ctrl-C, or `--count` packets. */
async function watch(
  nodes: readonly OpenNode[],
  {
    explanation,
    world,
    options,
  }: {
    readonly explanation: Explanation;
    readonly world: readonly SourcedResource[];
    readonly options: ExplainOptions;
  },
  { terminal, colors }: View,
): Promise<number> {
  if (nodes.length === 0) {
    throw new CalicoError("BAD_INPUT", "--watch needs a pod or a node of this run at one end at least");
  }
  const names = new RuleNames(world);
  const paint = paintOf(colors);
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  const { overruns } = await followFlow(
    {
      places: nodes,
      patterns: flowsToWatch(explanation, options.sourcePort),
      ...(options.count === undefined ? {} : { count: options.count }),
      signal: stop.signal,
      onReady: () => terminal.note(`watching on ${nodes.map(({ name }) => name).join(" and ")}; Ctrl-C ends it`),
    },
    (node, packet) => {
      const explained = explainPacket(node, packet, names);
      terminal.out(options.json === true ? JSON.stringify(explained) : packetText(explained, paint));
    },
  );
  process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  if (overruns > 0) terminal.note(`the kernel dropped trace records ${overruns} times: some packets are told in part`);
  return 0;
}

const paintOf = (colors: Colors): Paint => ({
  good: colors.green,
  bad: colors.red,
  dim: colors.dim,
  bold: colors.bold,
});
