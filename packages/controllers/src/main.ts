/**
 * calico-kube-controllers: the process. What it does is in run.ts.
 *
 *   ENABLED_CONTROLLERS, LOG_LEVEL, RECONCILER_PERIOD, COMPACTION_PERIOD, HEALTH_ENABLED   settings.ts
 *   DATASTORE_TYPE, KUBECONFIG, ETCD_…                                                      where the datastore is
 *
 * Exit codes: 0 stopped by signal, 1 failed, 2 bad configuration, 129 configuration changed: start me again.
 */
import { join } from "node:path";
import { openFromEnvironment } from "@calico-ts/datastore";
import { createLogger, runUntilSignal, systemClock } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import { runControllers } from "./run.ts";
import { OVERRIDES, readControllersSettings } from "./settings.ts";
import { StatusFile } from "./status-file.ts";

const EXIT_BAD_CONFIGURATION = 2;
const EXIT_RESTART = 129;

const { env } = process;
const log = createLogger({ component: "kube-controllers", stream: process.stdout, level: "Info" });
let exitCode: number | undefined;

const code = await runUntilSignal(
  async (signal) => {
    try {
      const settings = readControllersSettings(env);
      await using client = await openFromEnvironment(env);
      const set = OVERRIDES.flatMap((name): [string, string][] => (env[name] ? [[name, env[name]]] : []));
      const outcome = await runControllers(
        {
          client,
          settings,
          environmentVars: Object.fromEntries(set),
          clock: systemClock,
          log,
          setLogLevel: ({ logLevel }) => log.setLevel(logLevel),
          statusFile: new StatusFile(join(settings.hostRoot, settings.statusFile)),
        },
        signal,
      );
      if (outcome === "restart") exitCode = EXIT_RESTART;
    } catch (error) {
      if (hasCode(error, "BAD_INPUT") || hasCode(error, "UNSUPPORTED")) exitCode = EXIT_BAD_CONFIGURATION;
      throw error;
    }
  },
  { log, graceMs: 5000 },
);
process.exit(exitCode ?? code);
