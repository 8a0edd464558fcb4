/**
 * A daemon that is always what the resources say, as far as they can be honoured: made when there is a first good configuration, changed when it changes. What cannot
 * be honoured leaves the daemon as it was, and is said.
 */
import { isDeepStrictEqual } from "node:util";
import { errorText } from "@calico-ts/std";
import { configFromModel } from "./config/from-model.ts";
import { type ModelInput, type ModelResult, problemText, type SecretKey } from "./config/model-input.ts";
import { BgpDaemon, type DaemonConfig, type DaemonDeps } from "./daemon.ts";

export interface ConfiguredDaemonOptions extends DaemonDeps {
  /** Which Secrets count from now on; false: they have not been looked at yet, and what depends on them is not known. */
  readonly secretsKnown: (keys: readonly SecretKey[]) => boolean;
}

export class ConfiguredDaemon implements Disposable {
  readonly #options: ConfiguredDaemonOptions;
  #daemon: BgpDaemon | undefined;
  #config: DaemonConfig | undefined;
  #previous: ModelResult | undefined;
  #problems: readonly string[] = ["the datastore has not been read completely yet"];
  #changedAt: number | undefined;

  constructor(options: ConfiguredDaemonOptions) {
    this.#options = options;
  }

  /** Undefined: there has been no good configuration yet. */
  get daemon(): BgpDaemon | undefined {
    return this.#daemon;
  }

  /** What of the resources is not in force, and why. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Epoch milliseconds. */
  get changedAt(): number | undefined {
    return this.#changedAt;
  }

  /** The last result, for the next input. */
  get previous(): ModelResult | undefined {
    return this.#previous;
  }

  update(input: ModelInput): void {
    const result = configFromModel(input);
    // A password that is still on its way must not cost a session, or end a restart without its peer.
    if (!this.#options.secretsKnown(result.secrets)) return;
    this.#previous = result;
    const refusal = result.config === undefined ? undefined : this.#apply(result.config);
    this.#tell([...result.problems.map(problemText), ...(refusal === undefined ? [] : [refusal])]);
  }

  /** Sessions just break, so that peers go on forwarding; routes stay. */
  [Symbol.dispose](): void {
    this.#daemon?.[Symbol.dispose]();
  }

  /** What went wrong. */
  #apply(config: DaemonConfig): string | undefined {
    if (isDeepStrictEqual(config, this.#config)) return undefined;
    const { clock, log } = this.#options;
    try {
      if (this.#daemon === undefined) {
        this.#daemon = new BgpDaemon(config, this.#options);
        this.#daemon.start();
      } else this.#daemon.configure(config);
    } catch (error) {
      const effect = this.#daemon === undefined ? "no session is opened" : "the configuration before it stays in force";
      return `the configuration cannot be used: ${errorText(error)}; ${effect}`;
    }
    this.#config = config;
    this.#changedAt = clock.now();
    const { speaker, routes } = config;
    log.info("bgp.configured", { as: speaker.as, peers: speaker.peers.length, ownRoutes: routes.length });
    return undefined;
  }

  #tell(problems: readonly string[]): void {
    const before = new Set(this.#problems);
    this.#problems = problems;
    for (const problem of problems) if (!before.has(problem)) this.#options.log.warning("bgp.problem", { problem });
  }
}
