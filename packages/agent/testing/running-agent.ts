/** The whole agent of node n1 in a namespace, on a datastore in memory, until it is disposed. */
import { openMemory, type MemoryDatastore } from "@calico-ts/datastore";
import { openKernel } from "@calico-ts/linux";
import { createLogger, systemClock } from "@calico-ts/runtime";
import { openSyncer } from "@calico-ts/sync";
import { runAgent } from "../src/agent.ts";
import type { AgentDeps, Outcome } from "../src/agent-deps.ts";
import { SYNC_KINDS } from "../src/intake/kinds.ts";
import * as world from "./world.ts";

export interface AgentPlace {
  /** `/run/netns/…` of the node. */
  readonly netns: string;
  readonly hostRoot: string;
  readonly client: MemoryDatastore;
  readonly config?: Readonly<Record<string, string>>;
}

export class RunningAgent implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #kernel: Disposable;
  readonly ended: Promise<Outcome>;
  readonly lines: string[] = [];

  constructor({ client, config = {}, hostRoot, netns }: AgentPlace, changes: Partial<AgentDeps> = {}) {
    const kernel = openKernel({ netns });
    this.#kernel = kernel;
    this.ended = runAgent(
      {
        node: "n1",
        hostRoot,
        localConfig: config,
        kernel,
        clock: systemClock,
        log: createLogger({ component: "felix", stream: { write: (line) => this.lines.push(line) }, level: "Info" }),
        openSyncer: (signal) => openSyncer({ client, kinds: SYNC_KINDS, signal }),
        ...changes,
      },
      this.#stop.signal,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.ended;
    this.#kernel[Symbol.dispose]();
  }
}

/** Node n1 with a pool, a block of it and the namespace `default`. */
export async function smallCluster(): Promise<MemoryDatastore> {
  const client = openMemory();
  await world.put(client, world.node(1), world.pool(), world.block(1), world.namespace("default"));
  return client;
}
