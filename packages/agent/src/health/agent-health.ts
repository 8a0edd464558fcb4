/**
 * What the agent says about itself: upstream's reporter names and timeouts, on HTTP when healthEnabled.
 *
 * Each of our loops must speak at least every `HEARTBEAT_MS`; a dataplane that waits for the kernel says nothing, so a pass that
 * hangs turns the node red when its timeout (dataplaneWatchdogTimeout) has passed. A phase that keeps failing makes the node not
 * ready, with the kernel's words as the detail, but not dead: a restart would not help, and the old rules are in force.
 */
import type { Clock, HttpServer, Logger, TaskGroup } from "@calico-ts/runtime";
import { Health, openHealthServer } from "@calico-ts/runtime";
import { errorText } from "@calico-ts/std";
import type { AgentConfig } from "../config/params.ts";
import type { Dataplane } from "../dataplane/dataplane.ts";

const STARTUP = "FelixStartup";
const GRAPH = "CalculationGraph";
const LOOP = "InternalDataplaneMainLoop";
const GRAPH_TIMEOUT_MS = 30_000;
const HEARTBEAT_MS = 10_000;

export interface AgentHealthOptions {
  readonly clock: Clock;
  readonly config: AgentConfig;
  readonly log: Logger;
  readonly tasks: TaskGroup;
}

export class AgentHealth implements AsyncDisposable {
  readonly health: Health;
  readonly #options: AgentHealthOptions;
  #server: HttpServer | undefined;
  #inSync = false;
  #waitsFor = "the datastore's first snapshot";
  #dataplane: Dataplane | undefined;

  constructor(options: AgentHealthOptions) {
    this.#options = options;
    const { clock, config, tasks } = options;
    const overrides = Object.fromEntries([...config.healthTimeoutOverrides].map(([name, s]) => [name, s * 1000]));
    this.health = new Health(clock, overrides);
    this.health.register(STARTUP, { live: true, ready: true });
    this.health.report(STARTUP, { live: true, ready: true });
    this.health.register(GRAPH, { live: true, ready: true, timeoutMs: GRAPH_TIMEOUT_MS });
    this.health.register(LOOP, { live: true, ready: true, timeoutMs: config.dataplaneWatchdogTimeout * 1000 });
    tasks.start(async (signal) => {
      for (;;) {
        this.#beat();
        await clock.sleep(HEARTBEAT_MS, signal);
      }
    });
  }

  /** Opens the server the configuration asks for, once. */
  async serve(config: AgentConfig): Promise<void> {
    if (!config.healthEnabled || this.#server !== undefined) return;
    const { healthHost: host, healthPort: port } = config;
    this.#server = await openHealthServer(this.health, { host, port });
    this.#options.log.info("health.listening", { host, port: this.#server.port });
  }

  waitingFor(what: string): void {
    this.#waitsFor = what;
    this.#beat();
  }

  inSync(dataplane: Dataplane): void {
    this.#inSync = true;
    this.#dataplane = dataplane;
    this.#beat();
  }

  afterPass(dataplane: Dataplane): void {
    const failures = [...dataplane.failures()].map(([phase, error]) => `${phase}: ${errorText(error)}`);
    const problems = [...dataplane.tunnels.problems().values()];
    this.health.report(LOOP, {
      live: true,
      ready: dataplane.passes > 0 && failures.length === 0,
      detail: [...failures, ...problems].join("; "),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
  }

  #beat(): void {
    this.health.report(GRAPH, {
      live: true,
      ready: this.#inSync,
      detail: this.#inSync ? "" : `waiting for ${this.#waitsFor}`,
    });
    const dataplane = this.#dataplane;
    if (dataplane === undefined) this.health.report(LOOP, { live: true, ready: false, detail: "waiting for in-sync" });
    else if (!dataplane.busy) this.afterPass(dataplane);
  }
}
