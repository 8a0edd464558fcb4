/**
 * START HERE for the process. From the datastore to sessions, in the order data moves:
 *
 *   datastore ─▶ sync ─▶ ResourceCache ─▶ configFromModel (pure) ─▶ BgpDaemon ─▶ sockets, kernel routes
 *                            │ names of Secrets ─▶ SecretWatch ──┘        │
 *                            └▶ CalicoNodeStatus ◀── reports ◀────────────┴─▶ status socket, metrics
 *
 * Nothing is done to sessions or the kernel before the first complete snapshot, nor while the datastore says that it is not ready. Changes are gathered for a
 * moment, so that a hundred of them are one reconfiguration; sessions whose terms did not change stay.
 */
import { join } from "node:path";
import type { DatastoreClient } from "@calico-ts/datastore";
import type { Kernel } from "@calico-ts/linux";
import {
  type Clock,
  DirtyLoop,
  type HttpReply,
  type LogLevel,
  openHttpServer,
  parseLogLevel,
  type RootLogger,
} from "@calico-ts/runtime";
import type { SyncBatch } from "@calico-ts/sync";
import { ConfiguredDaemon } from "./configured-daemon.ts";
import { type LocalFacts, modelInput } from "./intake/model-input.ts";
import { ResourceCache } from "./intake/resource-cache.ts";
import { SecretWatch } from "./intake/secret-watch.ts";
import { noteRoutes } from "./leftovers.ts";
import { NodeStatusReporter } from "./status/node-status-reporter.ts";
import { StatusSource } from "./status/status-source.ts";
import type { MetricsSettings } from "./telemetry/settings.ts";
import { openStatusServer } from "./status/status-server.ts";

export interface BgpDeps {
  readonly local: LocalFacts;
  /** Prefix of host paths: "/" on a real host. */
  readonly hostRoot: string;
  /** Where the daemon's Secrets are. */
  readonly namespace: string;
  readonly version: string;
  readonly kernel: Kernel;
  /** Sockets are opened here; absent: where the process is. */
  readonly netns?: string;
  readonly client: DatastoreClient;
  readonly openSyncer: (signal: AbortSignal) => AsyncIterable<SyncBatch> & AsyncDisposable;
  readonly clock: Clock;
  readonly log: RootLogger;
  readonly metrics?: MetricsSettings;
  /** The environment said how much to log: the datastore does not. */
  readonly logLevelFixed?: boolean;
}

/** Least time between two reconfigurations. */
const GATHER_MS = 100;
/** In a large cluster working out the configuration takes a tenth of a second, and something changes all the time: it gets a tenth of the processor, no more. */
const REST_FACTOR = 9;
const LONGEST_REST_MS = 2000;

export async function runBgp(deps: BgpDeps, signal: AbortSignal): Promise<void> {
  const { client, clock, kernel, local, log, namespace, netns } = deps;
  await using scope = new AsyncDisposableStack();
  const cache = new ResourceCache();
  const secrets = scope.use(
    new SecretWatch({ client, namespace, clock, log: log.child("secrets"), onChange: () => loop.mark() }),
  );
  const configured = scope.use(
    new ConfiguredDaemon({
      kernel,
      log,
      clock,
      ...(netns !== undefined && { netns }),
      secretsKnown: (keys) => {
        secrets.want(keys);
        return secrets.settled;
      },
    }),
  );
  const status = new StatusSource({ configured, kernel, clock, node: local.nodeName, version: deps.version });
  const loop = scope.use(
    new DirtyLoop({
      clock,
      minGapMs: GATHER_MS,
      onError: (error) => log.error("bgp.reconfiguration_failed", { error }),
      run: async (stop) => {
        const start = clock.monotonic();
        const { previous } = configured;
        const rest = previous === undefined ? {} : { previous };
        configured.update(modelInput(cache, local, { secret: (key) => secrets.value(key), ...rest }));
        const restMs = Math.min(LONGEST_REST_MS, REST_FACTOR * (clock.monotonic() - start));
        await clock.sleep(restMs, stop).catch(() => undefined);
      },
    }),
  );
  scope.use(await openStatusServer({ path: join(deps.hostRoot, "var/run/calico/bgp.sock"), source: status, log }));

  if (deps.metrics?.enabled === true) scope.use(await serveMetrics(status, deps.metrics));
  const reporter = scope.use(
    new NodeStatusReporter({
      client,
      node: local.nodeName,
      facts: () => ({ daemon: status.daemon(), peers: status.peers(), routes: () => status.routeRows() }),
      clock,
      log,
    }),
  );

  noteRoutes(deps.hostRoot);
  let changed = true;
  for await (const batch of scope.use(deps.openSyncer(signal))) {
    for (const update of batch.updates) {
      // Our own reports come back as changes; they configure nothing.
      if (cache.apply(update) && update.kind !== "CalicoNodeStatus") changed = true;
    }
    if (!batch.inSync || cache.get("ClusterInformation", "default")?.spec.datastoreReady === false) continue;
    if (deps.logLevelFixed !== true) log.setLevel(logLevelOf(cache, local.nodeName));
    if (changed) loop.mark();
    changed = false;
    reporter.follow(cache.list("CalicoNodeStatus"));
  }
}

/** The client library is a tenth of the process's memory: loaded where metrics are on. */
async function serveMetrics(status: StatusSource, { host, port }: MetricsSettings): Promise<AsyncDisposable> {
  const { BgpMetrics } = await import("./telemetry/metrics.ts");
  const metrics = new BgpMetrics(status);
  const { contentType } = metrics.registry;
  const answer = async (): Promise<HttpReply> => ({ status: 200, contentType, body: await metrics.text() });
  return openHttpServer({ port, host: host === "" ? "::" : host, routes: { "/metrics": answer } });
}

/** `logSeverityScreen` of the node's own BGPConfiguration, else of the cluster's. */
export function logLevelOf(cache: Pick<ResourceCache, "get">, nodeName: string): LogLevel {
  const levels = [`node.${nodeName}`, "default"].map((name) =>
    parseLogLevel(cache.get("BGPConfiguration", name)?.spec.logSeverityScreen ?? ""),
  );
  return levels.find((level) => level !== undefined) ?? "Info";
}
