/**
 * START HERE. The agent, top to bottom; every box of the data flow in DESIGN.md is a line here, in the order data moves.
 *
 *   datastore ─▶ sync ─▶ intake (+ what CNI knows earlier) ─▶ compiler ─▶ dataplane ─▶ kernel
 *
 * The dataplane is made when the compiler tells the configuration, which is the first thing it says; nothing is said before the
 * first complete snapshot. Ends when the signal aborts, or when a parameter changed that only a new process can take up.
 */
import { join } from "node:path";
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import { createCompiler } from "@calico-ts/policy-compiler";
import { TaskGroup } from "@calico-ts/runtime";
import type { AgentDeps, Outcome } from "./agent-deps.ts";
import { CniDoor } from "./cni-door.ts";
import { ConfigWatch } from "./config/config-watch.ts";
import { Dataplane } from "./dataplane/dataplane.ts";
import { dumpOnSignal, openDebugSocket } from "./debug/debug-socket.ts";
import { AgentHealth } from "./health/agent-health.ts";
import { Intake, podUpdate } from "./intake/intake.ts";
import { PodOverlay } from "./intake/pod-overlay.ts";
import { MetricsEndpoint } from "./telemetry/metrics-endpoint.ts";

export async function runAgent(deps: AgentDeps, signal: AbortSignal): Promise<Outcome> {
  const { clock, hostRoot, kernel, log, node } = deps;
  const restart = new AbortController();
  const end = AbortSignal.any([signal, restart.signal]);
  await using scope = new AsyncDisposableStack();
  const tasks = scope.use(new TaskGroup({ parent: end, onError: (error) => restart.abort(error) }));

  const { defaultConfig: defaults = {}, localConfig: environment } = deps;
  const watch = new ConfigWatch({ environment, defaults, log, onRestart: () => restart.abort() });
  const metrics = scope.use(new MetricsEndpoint({ node, clock, log }));
  const health = scope.use(new AgentHealth({ clock, config: watch.config, log, tasks }));
  const serve = async (): Promise<void> => {
    await health.serve(watch.config);
    await metrics.serve(watch.config);
  };
  await serve();

  let dataplane: Dataplane | undefined;
  const startDataplane = (): Dataplane => {
    tasks.start(serve); // what the datastore's configuration switches on
    const made = new Dataplane({
      kernel,
      node,
      config: watch.config,
      clock,
      log,
      mtuFile: join(hostRoot, "var/lib/calico/mtu"),
      onPass: (report) => {
        metrics.afterPass(report, made);
        health.afterPass(made);
        endpoints.passed();
      },
      ...(deps.routeGraceMs === undefined ? {} : { routeGraceMs: deps.routeGraceMs }),
    });
    return scope.use(made);
  };
  const onMessage = (message: DataplaneMessage): void => {
    metrics.onMessage(message);
    if (message.kind === "config-update") watch.update(message.config);
    dataplane ??= startDataplane();
    dataplane.receive(message);
    if (message.kind !== "in-sync") return;
    dataplane.open();
    health.inSync(dataplane);
  };

  const compiler = createCompiler({
    node,
    emit: onMessage,
    localConfig: watch.local,
    trace: ({ messages, ...resource }) => {
      if (messages.length === 0) log.info("resource.mended", resource);
      else log.warning("resource.problem", { ...resource, messages: messages.join("; ") });
    },
  });
  const overlay = new PodOverlay({ node, forward: (ref, pod) => compiler.update(podUpdate(ref, pod)) });
  const intake = new Intake({
    compiler,
    overlay,
    onNotReady: () => health.waitingFor("ClusterInformation default to say that the datastore is ready"),
    onNoLongerReady: () => restart.abort(),
  });
  const endpoints = new CniDoor({ overlay, flush: () => compiler.flush(), dataplane: () => dataplane });
  const cni = deps.openCni?.({
    endpoints,
    kernel,
    mtu: () => dataplane?.mtu.podMtu() ?? 0,
    knownPod: (pod) => overlay.shown(pod),
  });
  if (cni !== undefined) scope.use(await cni);

  const dump = async (): Promise<unknown> => ({
    node,
    config: watch.config,
    health: health.health.summary(),
    problems: compiler.problems(),
    dataplane: await dataplane?.dump(),
  });
  scope.use(await openDebugSocket(join(hostRoot, "var/run/calico/agent-debug.sock"), dump));
  scope.use(dumpOnSignal("SIGUSR2", dump));

  for await (const batch of scope.use(deps.openSyncer(end))) {
    metrics.batch(batch, () => intake.accept(batch));
    if (end.aborted) break;
  }
  const failure: unknown = restart.signal.reason;
  if (failure instanceof Error && failure.name !== "AbortError") throw failure;
  return signal.aborted ? "stopped" : "restart";
}
