/**
 * START HERE for the daemon: one per run, started by `up`, outlives it, and is the run.
 *
 * It holds everything that must end with the run in one stack: fabric, API server, cluster, control socket. Whatever the
 * reason (`down`, a signal, Ctrl-C in `up`, `up` killed while waiting, a failure), the stack unwinds in the opposite order,
 * and a sweep by name removes what unwinding could not.
 */
import { chmodSync, mkdirSync } from "node:fs";
import { formatAddress } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";
import { createLogger } from "@calico-ts/runtime";
import { CalicoError, hasCode } from "@calico-ts/std";
import type { SimulatorPlugins } from "../cli/plugins.ts";
import { startCluster } from "../cluster/cluster.ts";
import type { Cluster, Progress } from "../cluster/cluster-port.ts";
import { buildFabric } from "../fabric/fabric.ts";
import { nodeNamespace, routerNamespace } from "../fabric/layout.ts";
import { readManifests } from "../manifests/manifest-files.ts";
import { namespacePath } from "../names.ts";
import type { RunPaths, RunRecord } from "../run/run-folder.ts";
import { hostRootOf, readRecord, runPaths, selfId, writeRecord } from "../run/run-folder.ts";
import { linuxSweepHost } from "../run/sweep-host.ts";
import { sweepRun } from "../run/sweep.ts";
import { RouterSet } from "../routers/router-set.ts";
import type { NodePlan, TopologyPlan } from "../topology/plan.ts";
import { loadTopology } from "../topology/topology-file.ts";
import { forFamilies } from "./address-families.ts";
import { saveBundle } from "./bundle.ts";
import type { UpSummary } from "./control-protocol.ts";
import { serveControl } from "./control-server.ts";
import type { DaemonOptions } from "./daemon-options.ts";
import { installManifests } from "./install.ts";
import { openRunControl } from "./run-control.ts";
import type { ControlPlane } from "./control-plane.ts";
import { startControlPlane } from "./control-plane.ts";
import { programLastWords } from "./last-words.ts";
import { UpChannel } from "./up-channel.ts";

export async function runDaemon(options: DaemonOptions, plugins: SimulatorPlugins): Promise<number> {
  const stopping = new AbortController();
  const stop = (why: string): void => stopping.abort(new CalicoError("CANCELLED", why));
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => stop(`stopped by ${signal}`));
  const channel = new UpChannel(stop);
  const log = createLogger({ component: "sim", stream: process.stderr }); // `up` made standard error the run's daemon.log
  let exitCode = 0;
  try {
    await live({ options, plugins, channel, log, signal: stopping.signal, stop });
  } catch (error) {
    if (!hasCode(error, "CANCELLED") || !stopping.signal.aborted) {
      log.error("run.failed", { error });
      exitCode = 1;
    }
  }
  await sweepRun(linuxSweepHost, options.run);
  channel.close();
  return exitCode;
}

interface Life {
  readonly options: DaemonOptions;
  readonly plugins: SimulatorPlugins;
  readonly channel: UpChannel;
  readonly log: Logger;
  readonly signal: AbortSignal;
  readonly stop: (why: string) => void;
}

/** From nothing to a running cluster, until the signal; everything is gone again when it returns or throws. */
async function live(life: Life): Promise<void> {
  const { options, signal, channel } = life;
  await using stack = new AsyncDisposableStack();
  try {
    const run = await bringUp(life, stack);
    channel.ready(run);
    await untilAborted(signal);
  } catch (error) {
    if (!signal.aborted) channel.failed(error, keepBundle(options.run, error));
    throw error;
  }
}

function keepBundle(run: string, error: unknown): string | undefined {
  // Bad input explains itself and must leave nothing.
  return hasCode(error, "BAD_INPUT") ? undefined : saveBundle(run, error);
}

async function bringUp(life: Life, stack: AsyncDisposableStack): Promise<UpSummary> {
  const { options, plugins, channel, signal, log } = life;
  const { run } = options;
  const paths = runPaths(run);
  let record = takeOver(run);
  const save = (change: Partial<RunRecord>): void => {
    record = { ...record, ...change };
    writeRecord(record);
  };
  const plan = loadTopology(options.topology, options.nodes === undefined ? {} : { nodes: options.nodes });
  const variant = plan.bgp === undefined ? plugins.manifests : (plugins.bgpManifests ?? []);
  const product = forFamilies(readManifests(variant), plan);
  const user = readManifests(options.manifests);
  process.chdir("/"); // everything relative has been read; a daemon should not hold on to somebody's folder

  const step = stopwatch(channel, signal);
  const fabric = stack.use(buildFabric(run, plan));
  save({ nodes: plan.nodes.map((node) => recordedNode(run, node)) });
  step(
    `fabric: ${count(plan.nodes.length, "node")}, ${count(plan.subnets.length, "subnet")}, ${count(fabric.layout.switches.length + fabric.layout.hosts.length, "namespace")}`,
  );

  let cluster: Cluster | undefined;
  const control = stack.use(
    await startControlPlane({
      run,
      plan,
      logs: (request) => requireCluster(cluster).logs(request),
      ...kubeconfigOf(options),
    }),
  );
  save({ apiServer: control.publicUrl });
  step(`API server: ${control.publicUrl}`);
  const routers = stack.use(new RouterSet({ run, paths, plan, ownSpeaker: plugins.speaker ?? [], log }));
  const socket = await serveControl(
    paths.socket,
    openRunControl({
      cluster: () => cluster,
      stop: life.stop,
      routers: new Map(plan.routers.map(({ name }) => [name, { netns: namespacePath(routerNamespace(run, name)) }])),
      routerStatus: () => routers.status(),
    }),
  );
  stack.use(socket);
  await routers.start();

  const installed = await installManifests({
    kubeconfig: paths.kubeconfig,
    product,
    user,
    plan,
    rehearse: options.kubeconfig !== undefined,
    signal,
  });
  for (const note of installed.notes) channel.progress(`  note: ${note}`);
  step(`manifests: ${count(installed.applied, "object")} applied`);

  cluster = await startCluster({
    run,
    stateDir: paths.root,
    kubeconfig: paths.kubeconfig,
    apiServer: control.inside,
    nodes: plan.nodes.map((node) => clusterNode(run, node)),
    programs: plugins.programs,
    log,
    controlPlane: !control.managed,
  });
  stack.use(cluster);
  step("cluster parts started");
  try {
    await waitReady(cluster, life, step);
    await waitForRouters(routers, life, step);
  } catch (error) {
    throw withLastWords(error, programLastWords(cluster.pods(), paths.logs));
  }
  save({ state: "running" });
  return summarize(plan, { cluster, control, paths });
}

/** From here on this process, not `up`, holds the run's name. */
function takeOver(run: string): RunRecord {
  const record = readRecord(run);
  if (record === undefined)
    throw new CalicoError("INTERNAL", `run ${run} has no record; daemons are started by \`up\``);
  const own = { ...record, owner: selfId() };
  writeRecord(own);
  return own;
}

const kubeconfigOf = (options: DaemonOptions) =>
  options.kubeconfig === undefined ? {} : { kubeconfig: options.kubeconfig };

function requireCluster(cluster: Cluster | undefined): Cluster {
  if (cluster === undefined) throw new CalicoError("UNAVAILABLE", "the cluster is still starting");
  return cluster;
}

function clusterNode(run: string, node: NodePlan) {
  const hostRoot = hostRootOf(run, node.name);
  mkdirSync(hostRoot, { recursive: true });
  chmodSync(hostRoot, 0o755);
  return {
    name: node.name,
    netns: namespacePath(nodeNamespace(run, node.name)),
    hostRoot,
    addresses: node.addresses.map(formatAddress),
    labels: node.labels,
    annotations: node.annotations,
    taints: node.taints,
  };
}

const recordedNode = (run: string, node: NodePlan) => ({
  name: node.name,
  netns: namespacePath(nodeNamespace(run, node.name)),
  subnet: node.subnet,
  addresses: node.addresses.map(formatAddress),
});

async function waitReady(cluster: Cluster, life: Life, step: (text: string) => void): Promise<void> {
  let shown = "";
  const onProgress = (progress: Progress): void => {
    const text = `nodes ${progress.nodesReady}/${progress.nodes}, pods ${progress.podsReady}/${progress.pods}`;
    if (text === shown) return;
    shown = text;
    life.channel.progress(`  ready: ${text}`);
  };
  const { timeoutSeconds } = life.options;
  const progress = await cluster.whenReady({ timeoutMs: timeoutSeconds * 1000, signal: life.signal, onProgress });
  step(`everything is ready: ${count(progress.nodes, "node")}, ${count(progress.pods, "pod")}`);
}

async function waitForRouters(routers: RouterSet, life: Life, step: (text: string) => void): Promise<void> {
  let shown = "";
  const sessions = await routers.whenEstablished({
    timeoutMs: life.options.timeoutSeconds * 1000,
    signal: life.signal,
    onProgress: (established, all) => {
      const text = `routers' BGP sessions ${established}/${all}`;
      if (text !== shown && all > 0) life.channel.progress(`  ready: ${text}`);
      shown = text;
    },
  });
  if (sessions > 0) step(`routers: ${count(sessions, "BGP session")} established`);
}

function withLastWords(error: unknown, words: readonly string[]): unknown {
  if (!(error instanceof CalicoError) || error.code !== "TIMEOUT" || words.length === 0) return error;
  return new CalicoError(error.code, [error.message, ...words].join("\n"), {
    cause: error.cause,
    detail: error.detail,
  });
}

interface Parts {
  readonly cluster: Cluster;
  readonly control: ControlPlane;
  readonly paths: RunPaths;
}

function summarize(plan: TopologyPlan, parts: Parts): UpSummary {
  const pods = parts.cluster.pods().filter((pod) => pod.ready);
  const stubbed = new Set(
    parts.cluster.pods().flatMap((pod) => (pod.stub ? (pod.owners.at(-1)?.name ?? pod.name) : [])),
  );
  return {
    nodes: plan.nodes.length,
    pods: pods.length,
    stubWorkloads: stubbed.size,
    apiServer: parts.control.publicUrl,
    kubeconfig: parts.paths.kubeconfig,
  };
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? "" : "s"}`;

/** Tells each step with the time since the start, and stops between steps when told to. */
function stopwatch(channel: UpChannel, signal: AbortSignal): (text: string) => void {
  const startedAt = performance.now();
  return (text) => {
    channel.progress(`[${((performance.now() - startedAt) / 1000).toFixed(1).padStart(5)} s] ${text}`);
    signal.throwIfAborted();
  };
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
