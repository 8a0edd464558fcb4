/**
 * calico-bgp: the process. Environment → what the daemon needs; signals and outcomes → exit codes. What it does is in run.ts.
 *
 *   calico-bgp          runs until a signal
 *   calico-bgp sweep    removes the routes that an earlier daemon left, on a node that has no BGP any more (leftovers.ts)
 *
 *   NODENAME (or the host's name)                 which node this is
 *   KUBECONFIG (or in-cluster credentials)        where the API server is
 *   CALICO_HOST_ROOT                              prefix of host paths, default /
 *   NAMESPACE                                     where Secrets with passwords are; default: the pod's, else kube-system
 *   CALICO_ROUTER_ID, CALICO_ADVERTISE_CLUSTER_IPS, CALICO_K8S_NODE_REF, BGP_LOGSEVERITYSCREEN   as upstream's
 *   BGP_PROMETHEUSMETRICSENABLED, …HOST, …PORT    telemetry/settings.ts
 *   CALICO_EXIT_ON_STDIN_CLOSE=1                  end when standard input closes: the supervisor is gone
 *
 * On SIGTERM sessions with graceful restart just break and routes stay, as after a kill: whoever starts next goes on from there.
 * Exit codes: 0 stopped by signal, 1 failed, 2 bad configuration.
 */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { openFromEnvironment } from "@calico-ts/datastore";
import { openKernel } from "@calico-ts/linux";
import { createLogger, parseLogLevel, runUntilSignal, supervisorGone, systemClock } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import { openSyncer } from "@calico-ts/sync";
import { syncKinds } from "./intake/kinds.ts";
import { sweepRoutes } from "./leftovers.ts";
import { runBgp } from "./run.ts";
import { readMetricsSettings } from "./telemetry/settings.ts";

const VERSION = "v3.34.0-calico-ts.0.1.0";
const EXIT_BAD_CONFIGURATION = 2;

const { env } = process;
const logLevel = parseLogLevel(env["BGP_LOGSEVERITYSCREEN"] ?? "");
const log = createLogger({ component: "bgp", stream: process.stdout, level: logLevel ?? "Info" });
const nodeName = (env["NODENAME"] || hostname()).toLowerCase();
const hostRoot = env["CALICO_HOST_ROOT"] || "/";

let exitCode: number | undefined;

function ownNamespace(): string {
  if (env["NAMESPACE"]) return env["NAMESPACE"];
  try {
    return readFileSync("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "utf8").trim();
  } catch {
    return "kube-system";
  }
}

async function sweep(): Promise<void> {
  using kernel = openKernel();
  log.info("bgp.swept", { routes: sweepRoutes(kernel, hostRoot) });
  return Promise.resolve();
}

const [, , command = "run"] = process.argv;
if (command !== "run" && command !== "sweep") {
  process.stderr.write(`calico-bgp: unknown command "${command}"; there are: run (the default), sweep\n`);
  process.exit(EXIT_BAD_CONFIGURATION);
}

const code = await runUntilSignal(
  async (stop) => {
    if (command === "sweep") return sweep();
    try {
      const signal = AbortSignal.any([stop, supervisorGone(env)]);
      await using client = await openFromEnvironment(env);
      using kernel = openKernel();
      log.info("bgp.starting", { node: nodeName, hostRoot });
      await runBgp(
        {
          local: {
            nodeName,
            ...(env["CALICO_ROUTER_ID"] ? { routerId: env["CALICO_ROUTER_ID"] } : {}),
            ...(env["CALICO_ADVERTISE_CLUSTER_IPS"]
              ? { advertiseClusterIps: env["CALICO_ADVERTISE_CLUSTER_IPS"] }
              : {}),
            ...(env["CALICO_K8S_NODE_REF"] ? { kubernetesNodeName: env["CALICO_K8S_NODE_REF"] } : {}),
          },
          hostRoot,
          namespace: ownNamespace(),
          version: VERSION,
          kernel,
          client,
          openSyncer: (end) => openSyncer({ client, kinds: syncKinds(nodeName), signal: end, log: log.child("sync") }),
          metrics: readMetricsSettings(env),
          clock: systemClock,
          log,
          logLevelFixed: logLevel !== undefined,
        },
        signal,
      );
    } catch (error) {
      if (hasCode(error, "BAD_INPUT")) exitCode = EXIT_BAD_CONFIGURATION;
      throw error;
    }
  },
  { log },
);
process.exit(exitCode ?? code);
