/**
 * kube-controllers from configuration to the end. START HERE.
 *
 * Waits for the datastore, makes the KubeControllersConfiguration if there is none, writes into its status what is in force, and runs the controllers that are enabled.
 * A change of what is in force ends it with "restart": the program exits 129 and is started again.
 */
import { type DatastoreClient, type EtcdDatastore, isEtcd } from "@calico-ts/datastore";
import type { KubeControllersConfiguration } from "@calico-ts/model";
import { Backoff, type Clock, type Logger, openMetricsServer, throwIfAborted } from "@calico-ts/runtime";
import { createMetricsRegistry } from "@calico-ts/runtime/metrics";
import { errorText, hasCode } from "@calico-ts/std";
import { openSyncer, type SyncKind, type SyncUpdate } from "@calico-ts/sync";
import { isDeepStrictEqual } from "node:util";
import { defaultConfiguration, type RunningConfig, runningConfig, statusOf } from "./config.ts";
import { keepCompact } from "./compaction.ts";
import { LOAD_BALANCER_KINDS, LoadBalancerController } from "./loadbalancer/load-balancer-controller.ts";
import { type MetricsRegistry, NodeMetrics } from "./node/metrics.ts";
import { NodeController } from "./node/node-controller.ts";
import { keepNodes } from "./node/node-sync.ts";
import { WORLD_KINDS } from "./node/world-cache.ts";
import type { readControllersSettings } from "./settings.ts";
import type { StatusFile } from "./status-file.ts";

export interface ControllersDeps {
  readonly client: DatastoreClient;
  readonly settings: ReturnType<typeof readControllersSettings>;
  /** Variables that are set and win over the resource, for its status. */
  readonly environmentVars: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly setLogLevel: (config: RunningConfig) => void;
  readonly statusFile: StatusFile;
  /** Absent: the configured one. */
  readonly metricsPort?: number;
  readonly passGapMs?: number;
}

export type Outcome = "stopped" | "restart";

const HEALTH_PERIOD_MS = 10_000;

export async function runControllers(deps: ControllersDeps, signal: AbortSignal): Promise<Outcome> {
  const { client, clock, log, settings, statusFile } = deps;
  statusFile.set("Startup", false, "waiting for the datastore");
  const configuration = await untilAnswered(deps, signal, async () => {
    await askKubernetes(client);
    return findOrMake(client);
  });
  const config = runningConfig(settings, configuration.spec);
  deps.setLogLevel(config);
  await tellStatus(deps, configuration, config);
  const notBuilt = config.controllers.filter((name) => name !== "node" && name !== "loadbalancer");
  // Said once and plainly: an operator who enabled one must not believe that it runs.
  if (notBuilt.length > 0 && settings.enabledControllers.length > 0) {
    log.warning("controllers.not_available", { controllers: notBuilt });
  }
  const end = new AbortController();
  const stop = AbortSignal.any([signal, end.signal]);
  await using scope = new AsyncDisposableStack();
  const registry = createMetricsRegistry();
  const metricsPort = deps.metricsPort ?? config.metricsPort;
  if (config.metricsPort > 0) {
    const { port } = scope.use(await openMetricsServer(registry, { port: metricsPort, host: "::" }));
    log.info("metrics.listening", { port });
  }
  const node = config.controllers.includes("node") ? nodeController(deps, config, registry) : undefined;
  if (node !== undefined) scope.use(node);
  const balancer = config.controllers.includes("loadbalancer") ? loadBalancerController(deps, config) : undefined;
  if (balancer !== undefined) scope.use(balancer);
  const tasks = [
    ...(config.health ? [watchHealth(deps, stop)] : []),
    ...(isEtcd(client) ? etcdTasks(client, deps, config, stop) : []),
  ];
  scope.defer(async () => void (await Promise.allSettled(tasks)));
  // Taken apart from the end: first everything is told to stop, then waited for.
  scope.defer(() => end.abort());
  statusFile.set("Startup", true);
  const kinds: SyncKind[] = [
    "KubeControllersConfiguration",
    "ClusterInformation",
    ...new Set([...(node === undefined ? [] : WORLD_KINDS), ...(balancer === undefined ? [] : LOAD_BALANCER_KINDS)]),
  ];
  for await (const { updates, inSync } of openSyncer({ client, kinds, signal: stop, log: log.child("sync"), clock })) {
    for (const update of updates) {
      node?.update(update);
      balancer?.update(update);
      if (changesConfig(update, settings, config)) {
        log.info("controllers.configuration_changed", {});
        return "restart";
      }
    }
    if (inSync) {
      node?.start();
      balancer?.start();
    }
  }
  return "stopped";
}

/** What has to be done with etcd only. */
function etcdTasks(
  client: EtcdDatastore,
  { clock, log, passGapMs = 5000 }: ControllersDeps,
  config: RunningConfig,
  stop: AbortSignal,
): Promise<void>[] {
  const { kubernetes } = client;
  const compacting = keepCompact(client, { clock, log, periodMs: config.compactionMs }, stop);
  if (kubernetes === undefined || !config.controllers.includes("node")) return [compacting];
  const { reconcileMs, syncLabels } = config.node;
  return [compacting, keepNodes({ client, kubernetes, clock, log, syncLabels, reconcileMs, passGapMs }, stop)];
}

function nodeController(deps: ControllersDeps, config: RunningConfig, registry: MetricsRegistry): NodeController {
  const { client, clock, log, passGapMs } = deps;
  return new NodeController({
    client,
    clock,
    log: log.child("node"),
    ...config.node,
    metrics: config.metricsPort > 0 ? new NodeMetrics(registry) : undefined,
    ...(passGapMs === undefined ? {} : { passGapMs }),
  });
}

function loadBalancerController(deps: ControllersDeps, config: RunningConfig): LoadBalancerController {
  const { client, clock, log, passGapMs } = deps;
  return new LoadBalancerController({
    client,
    clock,
    log: log.child("load-balancer"),
    mode: config.loadBalancer.assignIPs,
    ...(passGapMs === undefined ? {} : { passGapMs }),
  });
}

function changesConfig(update: SyncUpdate, settings: ControllersDeps["settings"], config: RunningConfig): boolean {
  if (update.kind !== "KubeControllersConfiguration" || update.key.name !== "default") return false;
  const spec = update.resource?.spec ?? defaultConfiguration.spec;
  return !isDeepStrictEqual(runningConfig(settings, spec), config);
}

/** A cluster that is just being made has no API, no definitions or no rights yet: all of that passes. */
async function untilAnswered<T>(deps: ControllersDeps, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  const backoff = new Backoff({ firstMs: 1000, maxMs: 16_000 });
  for (;;) {
    throwIfAborted(signal);
    try {
      return await ask();
    } catch (error) {
      // etcd, and nothing says where Kubernetes is: that does not pass.
      if (hasCode(error, "UNSUPPORTED")) throw error;
      const waitMs = backoff.nextMs();
      deps.statusFile.set("Startup", false, errorText(error));
      deps.log.warning("controllers.datastore_not_ready", { error, retryMs: waitMs });
      await deps.clock.sleep(waitMs, signal);
    }
  }
}

const askKubernetes = (client: DatastoreClient, signal?: AbortSignal): Promise<unknown> =>
  client.list("Namespace", { fieldSelector: "metadata.name=kube-system", ...(signal && { signal }) });

async function findOrMake(client: DatastoreClient): Promise<KubeControllersConfiguration> {
  try {
    return await client.get("KubeControllersConfiguration", { name: "default" });
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
    return client.create("KubeControllersConfiguration", defaultConfiguration);
  }
}

/** For operators; nothing depends on it. */
async function tellStatus(
  { client, environmentVars, log }: ControllersDeps,
  configuration: KubeControllersConfiguration,
  config: RunningConfig,
): Promise<void> {
  const status = statusOf(config, configuration.spec, environmentVars);
  try {
    await client.updateStatus("KubeControllersConfiguration", { ...configuration, status });
  } catch (error) {
    log.warning("controllers.status_not_written", { error });
  }
}

/** Asks both sides every few seconds; the readiness probe reads the answers. */
async function watchHealth({ client, clock, statusFile }: ControllersDeps, signal: AbortSignal): Promise<void> {
  const check = async (name: string, ask: () => Promise<unknown>): Promise<void> => {
    try {
      await ask();
      statusFile.set(name, true);
    } catch (error) {
      if (!signal.aborted) statusFile.set(name, false, errorText(error));
    }
  };
  while (!signal.aborted) {
    await check("CalicoDatastore", () => client.list("ClusterInformation", { signal }));
    await check("KubeAPIServer", () => askKubernetes(client, signal));
    await clock.sleep(HEALTH_PERIOD_MS, signal).catch(() => undefined);
  }
}
