/**
 * The life of one pod on one node: network, init containers in order, containers side by side, and all of it backwards at the end.
 *
 * A worker belongs to one pod uid. It writes nothing itself: the kubelet asks for `status()` after `onChange`. Once it is told to end it
 * ends, whatever stage it is in; a CNI ADD under way is awaited and undone, never left behind.
 */
import { errorText } from "@calico-ts/std";
import { pause } from "../kube/informer.ts";
import { type Container, keyOf, type Pod, type PodStatus, type Probe } from "../kube/objects.ts";
import { ConnectionLog } from "../stub/connection-log.ts";
import {
  bodyKind,
  type BodyDeps,
  type ContainerPlace,
  containerIdOf,
  execInBody,
  startBody,
} from "./container-body.ts";
import { ContainerRunner } from "./container-runner.ts";
import { type ContainerRecord, newRecord, podStatus } from "./pod-status.ts";
import { checkOverNetwork, type ProbeOutcome } from "./probe-check.ts";
import { Sandbox, type SandboxDeps } from "./sandbox.ts";

export interface PodWorkerDeps extends BodyDeps, SandboxDeps {
  readonly stubInitialDelayMs: number;
  readonly onChange: (worker: PodWorker) => void;
  readonly onEvent: (pod: Pod, type: "Normal" | "Warning", reason: string, message: string) => void;
}

const RETRY_MS = [250, 500, 1_000, 2_000, 4_000, 8_000] as const;
const DEL_RETRY_MS = [250, 500, 1_000, 2_000, 5_000, 10_000] as const;
const DEFAULT_GRACE_SECONDS = 30;
const EXEC_LIMIT_MS = 60_000;
/** A stub shares its process with the whole control plane: its probe must not fail because that one was busy for a second. */
const STUB_PATIENCE_MS = 4_000;

export class PodWorker {
  readonly key: string;
  readonly #deps: PodWorkerDeps;
  readonly #life = new AbortController();
  readonly #startedAtMs = Date.now();
  readonly #init: readonly ContainerRecord[];
  readonly #main: readonly ContainerRecord[];
  readonly #runners = new Map<string, ContainerRunner>();
  readonly #logs = new Map<string, ConnectionLog>();
  readonly #settled: Promise<void>;
  #pod: Pod;
  #sandbox: Sandbox | undefined;
  #ending: Promise<void> | undefined;
  /** The last reason why there is no sandbox, for those who wait. */
  trouble: string | undefined;

  constructor(deps: PodWorkerDeps, pod: Pod) {
    this.#deps = deps;
    this.#pod = pod;
    this.key = keyOf(pod);
    const before = new Map(
      [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])].map((each) => [
        each.name,
        each,
      ]),
    );
    this.#init = (pod.spec.initContainers ?? []).map((each) => newRecord(each, before.get(each.name)));
    this.#main = pod.spec.containers.map((each) => newRecord(each, before.get(each.name)));
    this.#settled = this.#start();
  }

  get pod(): Pod {
    return this.#pod;
  }

  update(pod: Pod): void {
    this.#pod = pod;
  }

  /** The pod's namespace; the node's for hostNetwork. */
  get netns(): string | undefined {
    return this.#pod.spec.hostNetwork === true ? this.#deps.node.netns : this.#sandbox?.netns;
  }

  get podIPs(): readonly string[] {
    return this.#pod.spec.hostNetwork === true ? this.#deps.node.addresses : (this.#sandbox?.ips ?? []);
  }

  /** True when at least one container runs as a process. */
  isStub(): boolean {
    return this.#pod.spec.containers.every((each) => bodyKind(this.#pod, each, this.#deps.programs).kind === "stub");
  }

  processes(): readonly { readonly container: string; readonly pid: number; readonly restarts: number }[] {
    const found: { container: string; pid: number; restarts: number }[] = [];
    for (const [container, { pid }] of this.#runners) {
      if (pid === undefined) continue;
      const record = [...this.#init, ...this.#main].find((each) => each.name === container);
      found.push({ container, pid, restarts: record?.restartCount ?? 0 });
    }
    return found;
  }

  connectionLog(container: string): ConnectionLog {
    let log = this.#logs.get(container);
    if (log === undefined) this.#logs.set(container, (log = new ConnectionLog()));
    return log;
  }

  status(): PodStatus {
    return podStatus({
      pod: this.#pod,
      hostIPs: this.#deps.node.addresses,
      podIPs: this.podIPs,
      hasSandbox: this.netns !== undefined,
      init: this.#init,
      main: this.#main,
      startedAtMs: this.#startedAtMs,
      nowMs: Date.now(),
    });
  }

  /** Graceful end: containers, then the network. Resolves when nothing is left. Repeated calls join the first. */
  end(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  /** Power cut: no grace, no CNI DEL. */
  async cut(): Promise<void> {
    this.#life.abort();
    this.#ending ??= Promise.resolve();
    await Promise.all([...this.#runners.values()].map((runner) => runner.stop(0)));
    await this.#settled;
    this.#sandbox?.destroy();
    this.#sandbox = undefined;
  }

  async #end(): Promise<void> {
    const grace =
      this.#pod.metadata.deletionGracePeriodSeconds ??
      this.#pod.spec.terminationGracePeriodSeconds ??
      DEFAULT_GRACE_SECONDS;
    const sleeps = this.#pod.spec.containers.map((each) => each.lifecycle?.preStop?.sleep?.seconds ?? 0);
    const sleep = Math.min(Math.max(0, ...sleeps), grace);
    if (sleep > 0) await pause(sleep * 1000, this.#life.signal);
    this.#life.abort();
    await Promise.all([...this.#runners.values()].map((runner) => runner.stop(Math.max(0, grace - sleep) * 1000)));
    await this.#settled;
    await this.#removeSandbox();
  }

  async #removeSandbox(): Promise<void> {
    for (let attempt = 0; this.#sandbox !== undefined; attempt++) {
      try {
        await this.#sandbox.remove();
        this.#sandbox = undefined;
      } catch (error) {
        const message = `error killing pod: failed to destroy network for sandbox: ${errorText(error)}`;
        this.#deps.onEvent(this.#pod, "Warning", "FailedKillPod", message);
        await new Promise((resolve) => setTimeout(resolve, DEL_RETRY_MS[Math.min(attempt, DEL_RETRY_MS.length - 1)]));
      }
    }
  }

  async #start(): Promise<void> {
    const { signal } = this.#life;
    // The constructor must have returned before anybody is called back.
    await Promise.resolve();
    if (this.#pod.spec.hostNetwork !== true) await this.#connect(signal);
    for (const [at, container] of (this.#pod.spec.initContainers ?? []).entries()) {
      const record = this.#init[at];
      if (signal.aborted || record === undefined) return;
      if (!(await this.#runInit(container, record))) return;
    }
    if (signal.aborted) return;
    for (const [at, container] of this.#pod.spec.containers.entries()) {
      const record = this.#main[at];
      if (record !== undefined) this.#launch(container, record, false);
    }
  }

  async #connect(signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        this.#sandbox = await Sandbox.create(this.#deps, this.#pod, attempt);
        this.trouble = undefined;
        return;
      } catch (error) {
        this.trouble = errorText(error);
        const message = `Failed to create pod sandbox: ${this.trouble}`;
        this.#deps.onEvent(this.#pod, "Warning", "FailedCreatePodSandBox", message);
        this.#deps.onChange(this);
        await pause(RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)] ?? 1000, signal);
      }
    }
  }

  /** True when the next container may start. */
  async #runInit(container: Container, record: ContainerRecord): Promise<boolean> {
    const runner = this.#launch(container, record, true);
    if (container.restartPolicy === "Always") {
      await runner.started;
      return true;
    }
    const code = await runner.done;
    this.#runners.delete(container.name);
    record.ready = code === 0;
    return code === 0;
  }

  #launch(container: Container, record: ContainerRecord, isInit: boolean): ContainerRunner {
    const deps = this.#deps;
    const policy = this.#pod.spec.restartPolicy;
    const sidecar = isInit && container.restartPolicy === "Always";
    const restart =
      isInit && !sidecar ? (policy === "Never" ? "Never" : "OnFailure") : sidecar ? "Always" : restartPolicy(policy);
    const stub = bodyKind(this.#pod, container, deps.programs).kind === "stub";
    const runner = new ContainerRunner({
      container,
      record,
      restart,
      start: () => startBody(deps, this.#place(container, isInit)),
      check: (probe, timeoutMs) =>
        this.#check(probe, container, stub ? Math.max(timeoutMs, STUB_PATIENCE_MS) : timeoutMs),
      execStartsProgram: !stub,
      maxInitialDelayMs: stub ? deps.stubInitialDelayMs : Number.POSITIVE_INFINITY,
      containerId: (attempt) => containerIdOf(this.#pod, container.name, attempt),
      onChange: () => deps.onChange(this),
      onEvent: (type, reason, message) => {
        const note =
          stub && reason === "Started"
            ? `${message} as a stub (image ${container.image ?? ""} is not pulled)`
            : message;
        deps.onEvent(this.#pod, type, reason, note);
      },
      signal: this.#life.signal,
    });
    this.#runners.set(container.name, runner);
    return runner;
  }

  #place(container: Container, isInit: boolean): ContainerPlace {
    return {
      pod: this.#pod,
      container,
      isInit,
      netns: this.netns ?? this.#deps.node.netns,
      hostIPs: this.#deps.node.addresses,
      podIPs: this.podIPs,
      log: this.connectionLog(container.name),
    };
  }

  async #check(probe: Probe, container: Container, timeoutMs: number): Promise<ProbeOutcome> {
    const address = this.podIPs[0] ?? "127.0.0.1";
    const overNetwork = checkOverNetwork(probe, { netns: this.#deps.node.netns, address, container, timeoutMs });
    if (overNetwork !== undefined) return overNetwork;
    const command = probe.exec?.command ?? [];
    // The real kubelet does not enforce exec timeouts below one second of process start-up either; a floor keeps a busy host honest.
    const signal = AbortSignal.any([
      this.#life.signal,
      AbortSignal.timeout(Math.min(Math.max(timeoutMs, 2_000), EXEC_LIMIT_MS)),
    ]);
    try {
      const { exitCode, output } = await execInBody(this.#deps, this.#place(container, false), command, signal);
      return exitCode === 0 ? { ok: true } : { ok: false, message: output.trim().slice(-500) };
    } catch (error) {
      return { ok: false, message: errorText(error) };
    }
  }
}

const restartPolicy = (policy: string | undefined): "Always" | "OnFailure" | "Never" =>
  policy === "Never" || policy === "OnFailure" ? policy : "Always";
