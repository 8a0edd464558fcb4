/**
 * `/metrics`, when prometheusMetricsEnabled: loads what counts, and serves it. Until then, and where it is off, nothing is counted. Opened
 * once; what it depends on needs a restart to change.
 */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import type { Clock, HttpServer, Logger } from "@calico-ts/runtime";
import { openMetricsServer } from "@calico-ts/runtime";
import type { SyncBatch } from "@calico-ts/sync";
import type { AgentConfig } from "../config/params.ts";
import type { PassReport } from "../dataplane/apply-loop.ts";
import type { Dataplane } from "../dataplane/dataplane.ts";
import type { PassMetrics } from "./pass-metrics.ts";

export interface MetricsEndpointOptions {
  readonly node: string;
  readonly clock: Clock;
  readonly log: Logger;
}

export class MetricsEndpoint implements AsyncDisposable {
  readonly #options: MetricsEndpointOptions;
  readonly #startedAt: number;
  #metrics: PassMetrics | undefined;
  #server: HttpServer | undefined;

  constructor(options: MetricsEndpointOptions) {
    this.#options = options;
    this.#startedAt = options.clock.monotonic();
  }

  async serve(config: AgentConfig): Promise<void> {
    if (!config.prometheusMetricsEnabled || this.#metrics !== undefined) return;
    const { PassMetrics } = await import("./pass-metrics.ts");
    const { clock, log, node } = this.#options;
    const metrics = new PassMetrics({ node, clock, startedAt: this.#startedAt });
    this.#metrics = metrics;
    const { prometheusMetricsHost: host, prometheusMetricsPort: port } = config;
    this.#server = await openMetricsServer(metrics.registry, { port, host: host === "" ? "::" : host });
    log.info("metrics.listening", { host, port: this.#server.port });
  }

  /** Runs the batch's processing and notes what it took. */
  batch(batch: SyncBatch, process: () => void): void {
    const { clock } = this.#options;
    const start = clock.monotonic();
    process();
    this.#metrics?.batch(batch, (clock.monotonic() - start) / 1000);
  }

  onMessage(message: DataplaneMessage): void {
    this.#metrics?.onMessage(message);
  }

  afterPass(report: PassReport, dataplane: Dataplane): void {
    this.#metrics?.afterPass(report, dataplane);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
  }
}
