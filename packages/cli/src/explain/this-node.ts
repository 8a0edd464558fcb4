/** `explain --live` and `--watch`: what the kernel of the machine this runs on says about the question. Needs root on a node. */
import { hostname } from "node:os";
import type { Kernel } from "@calico-ts/linux";
import { followFlow, openKernel, peerNamespace } from "@calico-ts/linux";
import type { Explanation, RoadNode, SourcedResource } from "@calico-ts/policy-compiler";
import {
  examineRoads,
  explainPacket,
  flowsToWatch,
  kernelRules,
  nodesOf,
  packetText,
  RuleNames,
} from "@calico-ts/policy-compiler";
import { CalicoError } from "@calico-ts/std";
import type { Terminal } from "../terminal.ts";
import { paintOf } from "../terminal.ts";

export interface WatchOptions {
  readonly json?: boolean;
  readonly count?: number;
  readonly sourcePort?: number;
}

/** What is to be asked of the kernel. */
export interface Subject {
  readonly explanation: Explanation;
  readonly world: readonly SourcedResource[];
}

/** This machine as a node of the cluster. */
export class ThisNode implements Disposable {
  readonly name: string;
  readonly #kernel: Kernel;

  private constructor(name: string, kernel: Kernel) {
    this.name = name;
    this.#kernel = kernel;
  }

  /**
   * `name`: as the cluster knows it; absent: NODENAME, else the host's name in small letters, as calico-node takes it.
   * @throws CalicoError BAD_INPUT when neither end of the question is here or this is not root
   */
  static open(name: string | undefined, { explanation }: Subject, { env }: Terminal): ThisNode {
    const given = [name, env["NODENAME"]].find((each) => each !== undefined && each !== "");
    const own = given ?? hostname().toLowerCase();
    const nodes = nodesOf(explanation.paths);
    if (!nodes.includes(own)) {
      const where =
        nodes.length === 0 ? "neither end is on a node of the cluster" : `they are on ${nodes.join(" and ")}`;
      throw new CalicoError(
        "BAD_INPUT",
        `this machine is node ${own}, and neither end is on it: ${where}; run this there, or say with --node which node this is`,
      );
    }
    if (process.getuid?.() !== 0) throw new CalicoError("BAD_INPUT", "looking into the kernel needs root");
    return new ThisNode(own, openKernel());
  }

  [Symbol.dispose](): void {
    this.#kernel[Symbol.dispose]();
  }

  /** The rules that decided, with their counters, and what besides policy stands in the way. */
  async examine({ explanation, world }: Subject) {
    const kernel = this.#kernel;
    const rules = await kernelRules(this.name, kernel.nft, explanation, world);
    const openPod: RoadNode["openPod"] = (link) => {
      const netns = peerNamespace(kernel, link);
      if (netns === undefined) return undefined;
      const pod = openKernel({ netns });
      return { kernel: pod, done: () => pod[Symbol.dispose]() };
    };
    const road = await examineRoads(explanation.paths, new Map([[this.name, { kernel, openPod }]]));
    return { kernel: rules, road };
  }

  /** Until the signal, or `count` packets. */
  async watch({ explanation, world }: Subject, options: WatchOptions, terminal: Terminal): Promise<void> {
    const names = new RuleNames(world);
    const paint = paintOf(terminal);
    const stop = new AbortController();
    const onSignal = (): void => stop.abort();
    process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
    try {
      const { overruns } = await followFlow(
        {
          places: [{ name: this.name }],
          patterns: flowsToWatch(explanation, options.sourcePort),
          ...(options.count === undefined ? {} : { count: options.count }),
          signal: stop.signal,
          onReady: () => terminal.note(`watching on ${this.name}; Ctrl-C ends it`),
        },
        (node, packet) => {
          const explained = explainPacket(node, packet, names);
          terminal.out(options.json === true ? JSON.stringify(explained) : packetText(explained, paint));
        },
      );
      if (overruns > 0)
        terminal.note(`the kernel dropped trace records ${overruns} times: some packets are told in part`);
    } finally {
      process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    }
  }
}
