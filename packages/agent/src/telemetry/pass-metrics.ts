/**
 * Counts what flows: batches in, messages out, passes done. The names are in metrics.ts. Loaded only where metrics are on: the
 * client library is a tenth of the process's memory.
 */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import type { Clock } from "@calico-ts/runtime";
import type { SyncBatch } from "@calico-ts/sync";
import type { PassReport } from "../dataplane/apply-loop.ts";
import type { Dataplane } from "../dataplane/dataplane.ts";
import type { TableCounts } from "../dataplane/nft/table-driver.ts";
import { type AgentMetrics, createAgentMetrics } from "./metrics.ts";

export class PassMetrics {
  readonly #metrics: AgentMetrics;
  readonly #clock: Clock;
  readonly #startedAt: number;
  #messages = 0;
  #counted: TableCounts = { transactions: 0, refusals: 0, readings: 0, repairs: 0, rebuilds: 0 };
  #firstPassDone = false;

  constructor(options: { readonly node: string; readonly clock: Clock; readonly startedAt: number }) {
    this.#metrics = createAgentMetrics(options.node);
    this.#metrics.felix_resyncs_started.inc();
    this.#clock = options.clock;
    this.#startedAt = options.startedAt;
  }

  get registry(): AgentMetrics["registry"] {
    return this.#metrics.registry;
  }

  batch(batch: SyncBatch, seconds: number): void {
    this.#metrics.felix_calc_graph_update_time_seconds.observe(seconds);
    for (const { kind } of batch.updates) this.#metrics.felix_calc_graph_updates_processed.labels(kind).inc();
    if (!batch.inSync) this.#metrics.felix_resync_state.set(2);
  }

  onMessage(message: DataplaneMessage): void {
    this.#messages++;
    this.#metrics.felix_calc_graph_output_events.inc();
    this.#metrics.felix_int_dataplane_messages.labels(message.kind).inc();
  }

  afterPass(report: PassReport, dataplane: Dataplane): void {
    const metrics = this.#metrics;
    metrics.felix_int_dataplane_apply_time_seconds.observe(report.seconds);
    metrics.felix_int_dataplane_msg_batch_size.observe(this.#messages);
    this.#messages = 0;
    if (report.failed.size > 0) metrics.felix_int_dataplane_failures.inc();
    metrics.felix_active_local_endpoints.set(dataplane.endpoints.size);
    metrics.felix_active_local_policies.set(dataplane.policyCount);
    metrics.felix_resync_state.set(3);
    metrics.felix_cluster_num_hosts.set(dataplane.clusterRoutes.hostCount);
    metrics.felix_route_table_num_routes.labels("254").set(dataplane.routes.size);
    const counts = { ...dataplane.table.counts };
    metrics.felix_nft_calls.inc(counts.transactions - this.#counted.transactions);
    metrics.felix_nft_errors.inc(counts.refusals - this.#counted.refusals);
    metrics.felix_nft_list_calls.inc(counts.readings - this.#counted.readings);
    this.#counted = counts;
    if (!this.#firstPassDone && report.failed.size === 0) {
      this.#firstPassDone = true;
      const seconds = (this.#clock.monotonic() - this.#startedAt) / 1000;
      metrics.felix_int_dataplane_initial_resync_time_seconds.set(seconds);
    }
  }
}
