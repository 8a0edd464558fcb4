/**
 * Keeps the CalicoNodeStatus resources that ask for this node up to date: at once when one is new or its wishes change, then every `updatePeriodSeconds` (0: not
 * again). Nothing is written when nothing changed. A report that fails is made again a period later; BGP does not depend on it.
 */
import { isDeepStrictEqual } from "node:util";
import type { DatastoreClient } from "@calico-ts/datastore";
import type { CalicoNodeStatus } from "@calico-ts/model";
import { type Clock, type Logger, TaskGroup } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import { type NodeFacts, nodeStatus } from "./node-status.ts";

const DEFAULT_PERIOD_SECONDS = 10;

export interface NodeStatusReporterOptions {
  readonly client: DatastoreClient;
  readonly node: string;
  readonly facts: () => NodeFacts;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Report {
  readonly spec: CalicoNodeStatus["spec"];
  readonly stop: AbortController;
}

export class NodeStatusReporter implements AsyncDisposable {
  readonly #options: NodeStatusReporterOptions;
  readonly #tasks: TaskGroup;
  readonly #reports = new Map<string, Report>();

  constructor(options: NodeStatusReporterOptions) {
    this.#options = options;
    this.#tasks = new TaskGroup({ onError: (error) => options.log.error("bgp.node_status.failed", { error }) });
  }

  /** All of them, of whatever node. */
  follow(resources: readonly CalicoNodeStatus[]): void {
    const mine = new Map(
      resources
        .filter(({ spec }) => spec.node === this.#options.node)
        .map(({ metadata, spec }) => [metadata.name, spec] as const),
    );
    for (const [name, { spec, stop }] of this.#reports) {
      // Our own reports come back as changes of the resource: only its wishes count.
      if (isDeepStrictEqual(mine.get(name), spec)) continue;
      stop.abort();
      this.#reports.delete(name);
    }
    for (const [name, spec] of mine) {
      if (this.#reports.has(name)) continue;
      const stop = new AbortController();
      this.#reports.set(name, { spec, stop });
      this.#tasks.start((ending) => this.#run(name, spec, AbortSignal.any([ending, stop.signal])));
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#tasks[Symbol.asyncDispose]();
  }

  async #run(name: string, spec: CalicoNodeStatus["spec"], signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const periodMs = (spec.updatePeriodSeconds ?? DEFAULT_PERIOD_SECONDS) * 1000;
    while (!signal.aborted) {
      try {
        await this.#report(name, spec);
      } catch (error) {
        if (hasCode(error, "NOT_FOUND") || signal.aborted) return;
        log.warning("bgp.node_status.not_written", { resource: name, error });
      }
      if (periodMs === 0) return;
      await clock.sleep(periodMs, signal).catch(() => undefined);
    }
  }

  async #report(name: string, { classes = [] }: CalicoNodeStatus["spec"]): Promise<void> {
    const { client, clock, facts } = this.#options;
    const found = await client.get("CalicoNodeStatus", { name });
    const status = nodeStatus(classes, facts());
    const { lastUpdated: _lastUpdated, ...before } = found.status ?? {};
    if (isDeepStrictEqual(before, status)) return;
    const lastUpdated = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
    await client.updateStatus("CalicoNodeStatus", { ...found, status: { ...status, lastUpdated } });
  }
}
