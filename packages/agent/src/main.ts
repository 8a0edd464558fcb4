/**
 * calico-agent: the process. Environment and files → what the agent needs; signals and outcomes → exit codes.
 *
 *   NODENAME (or FELIX_FELIXHOSTNAME, or the host's name)   which node this is
 *   DATASTORE_TYPE, KUBECONFIG, ETCD_…                      where the datastore is (packages/datastore, "open.ts")
 *   CALICO_HOST_ROOT                                        prefix of host paths, default /
 *   CALICO_IPAM_HANDLE_RECORDS=All                          a handle record for every address, as upstream keeps them
 *   FELIX_…                                                 parameters (config/params.ts)
 *   CALICO_EXIT_ON_STDIN_CLOSE=1                            end when standard input closes: the supervisor is gone
 *
 * Exit codes: 0 stopped by signal, 1 failed, 2 bad configuration, 129 configuration changed: start me again.
 * SIGUSR2 writes the debug dump (debug/debug-socket.ts) to stdout.
 */
import { hostname } from "node:os";
import { openFromEnvironment } from "@calico-ts/datastore";
import { openKernel } from "@calico-ts/linux";
import { createLogger, parseLogLevel, runUntilSignal, supervisorGone, systemClock } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import { openSyncer } from "@calico-ts/sync";
import { runAgent } from "./agent.ts";
import { openCniService } from "./cni/open-cni-service.ts";
import { configFromEnvironment, defaultsOf } from "./config/resolve.ts";
import { SYNC_KINDS } from "./intake/kinds.ts";

const EXIT_BAD_CONFIGURATION = 2;
const EXIT_RESTART = 129;

const { env } = process;
const log = createLogger({
  component: "felix",
  stream: process.stdout,
  level: parseLogLevel(env["FELIX_LOGSEVERITYSCREEN"] ?? "Info") ?? "Info",
});
const node = (env["NODENAME"] || env["FELIX_FELIXHOSTNAME"] || hostname()).toLowerCase();
const hostRoot = env["CALICO_HOST_ROOT"] || "/";

let exitCode: number | undefined;

const code = await runUntilSignal(
  async (stop) => {
    try {
      const signal = AbortSignal.any([stop, supervisorGone(env)]);
      const localConfig = configFromEnvironment(env);
      const handleRecords = env["CALICO_IPAM_HANDLE_RECORDS"] === "All" ? ("all" as const) : ("borrowed" as const);
      await using client = await openFromEnvironment(env);
      using kernel = openKernel();
      log.info("agent.starting", { node, hostRoot });
      const outcome = await runAgent(
        {
          node,
          hostRoot,
          localConfig,
          defaultConfig: defaultsOf(env),
          kernel,
          log,
          clock: systemClock,
          openSyncer: (end) => openSyncer({ client, kinds: SYNC_KINDS, signal: end, log: log.child("sync") }),
          openCni: (needs) =>
            openCniService({
              ...needs,
              client,
              node,
              hostRoot,
              clock: systemClock,
              log: log.child("cni"),
              handleRecords,
            }),
        },
        signal,
      );
      if (outcome === "restart") exitCode = EXIT_RESTART;
    } catch (error) {
      if (hasCode(error, "BAD_INPUT")) exitCode = EXIT_BAD_CONFIGURATION;
      throw error;
    }
  },
  { log, graceMs: 5000 },
);
process.exit(exitCode ?? code);
