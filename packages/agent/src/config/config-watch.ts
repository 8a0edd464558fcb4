/**
 * The configuration in force. Starts with what the environment says and takes the rest from the compiler's `config-update`, which has
 * joined the datastore's levels. A bad value of the environment is dropped here, so that it does not win over a good one.
 */
import type { RootLogger } from "@calico-ts/runtime";
import { parseLogLevel } from "@calico-ts/runtime";
import type { AgentConfig } from "./params.ts";
import type { ConfigText } from "./resolve.ts";
import { needRestart, resolveConfig, withoutProblems } from "./resolve.ts";

export interface ConfigWatchOptions {
  readonly environment: ConfigText;
  /** In place of the parameters' own: what neither environment nor datastore says. */
  readonly defaults: ConfigText;
  readonly log: RootLogger;
  /** Parameters changed that a running process cannot take up. */
  readonly onRestart: () => void;
}

export class ConfigWatch {
  readonly #options: ConfigWatchOptions;
  /** What beats the datastore. */
  readonly local: ConfigText;
  #config: AgentConfig;
  #settled = false;

  /** @throws CalicoError BAD_INPUT for a bad value that must not be guessed */
  constructor(options: ConfigWatchOptions) {
    this.#options = options;
    const { config, problems } = resolveConfig({ ...options.defaults, ...options.environment });
    for (const problem of problems) options.log.warning("config.bad_value", { ...problem });
    this.local = withoutProblems(options.environment, problems);
    this.#config = config;
  }

  get config(): AgentConfig {
    return this.#config;
  }

  /** The first update is where the process starts from; later ones may ask for a new process. */
  update(text: ConfigText): void {
    const { defaults, log, onRestart } = this.#options;
    const { config, problems } = resolveConfig({ ...defaults, ...text, ...this.local });
    for (const problem of problems) log.warning("config.bad_value", { ...problem });
    const changed = this.#settled ? needRestart(this.#config, config) : [];
    this.#settled = true;
    this.#config = config;
    log.setLevel(parseLogLevel(config.logSeverityScreen) ?? "Info");
    if (changed.length === 0) return;
    log.info("config.restart", { changed: changed.join(",") });
    onRestart();
  }
}
