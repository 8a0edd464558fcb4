/**
 * The node controller: garbage collection of addresses, blocks, handles and of what nodes leave behind (rules: packages/ipam, gc/decide.ts). It looks
 * when something went away, and twice in every grace period. Not before everything has been listed once, and not while the datastore is locked.
 *
 * Two of these at once (a rolling update that overlaps) do no harm: every action is asked for again, live, and is a compare-and-swap.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import { Collector, type PassReport } from "@calico-ts/ipam";
import { type Clock, DirtyLoop, type Logger } from "@calico-ts/runtime";
import type { SyncUpdate } from "@calico-ts/sync";
import type { NodeMetrics } from "./metrics.ts";
import { WorldCache } from "./world-cache.ts";

export interface NodeControllerOptions {
  readonly client: DatastoreClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly leakGraceMs: number;
  readonly reconcileMs: number;
  readonly metrics: NodeMetrics | undefined;
  /** Absent: PASS_GAP_MS. */
  readonly passGapMs?: number;
}

/** Least time between two passes: pods come and go together, and an empty block must have been empty for a while. */
const PASS_GAP_MS = 5000;

export class NodeController implements AsyncDisposable {
  readonly #options: NodeControllerOptions;
  readonly #cache: WorldCache;
  readonly #collector: Collector;
  #loop: DirtyLoop | undefined;
  #locked = false;

  constructor(options: NodeControllerOptions) {
    const { client, clock, leakGraceMs, log } = options;
    this.#options = options;
    this.#cache = new WorldCache(client);
    this.#collector = new Collector({ client, source: this.#cache, clock, log, grace: { leakMs: leakGraceMs } });
  }

  update(update: SyncUpdate): void {
    if (update.kind === "ClusterInformation" && update.key.name === "default") {
      const locked = update.resource?.spec.datastoreReady === false;
      if (this.#locked && !locked) this.#loop?.mark();
      this.#locked = locked;
    }
    if (this.#cache.update(update)) this.#loop?.mark();
  }

  /** Everything has been told: from now on it acts. */
  start(): void {
    if (this.#loop !== undefined) return;
    const { clock, leakGraceMs, log, passGapMs = PASS_GAP_MS, reconcileMs } = this.#options;
    this.#loop = new DirtyLoop({
      clock,
      run: (signal) => this.#pass(signal),
      minGapMs: passGapMs,
      maxGapMs: leakGraceMs > 0 ? Math.min(leakGraceMs / 2, reconcileMs) : reconcileMs,
      onError: (error, retryMs) => log.warning("ipam.gc_pass_failed", { error, retryMs }),
    });
    this.#loop.mark();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loop?.[Symbol.asyncDispose]();
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const { log, metrics } = this.#options;
    let report: Pick<PassReport, "candidates" | "reclaimed"> = { candidates: [], reclaimed: [] };
    if (this.#locked)
      log.info("ipam.gc_waits", { because: "the datastore is locked (ClusterInformation.datastoreReady)" });
    else {
      const pass = await this.#collector.pass(signal);
      for (const error of pass.failures) log.warning("ipam.gc_action_failed", { error });
      report = pass;
    }
    metrics?.update(this.#cache, report);
  }
}
