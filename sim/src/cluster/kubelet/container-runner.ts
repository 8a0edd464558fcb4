/**
 * Keeps one container as its pod's restart policy wants it: start, probe, wait, start again with back-off.
 *
 * Back-off: at once the first time, then 1 s, 2 s, 4 s … 30 s (Kubernetes: 10 s to 5 min; a simulated cluster's user waits at the screen),
 * forgotten after a minute of running.
 */
import { errorText, hasCode } from "@calico-ts/std";
import type { Container, Probe } from "../kube/objects.ts";
import { pause } from "../kube/informer.ts";
import { timestamp } from "../kube/timestamp.ts";
import type { RunningBody } from "./container-body.ts";
import type { ContainerRecord } from "./pod-status.ts";
import type { ProbeOutcome } from "./probe-check.ts";
import { Prober, type ProbeKind } from "./prober.ts";

export interface RunnerOptions {
  readonly container: Container;
  readonly record: ContainerRecord;
  readonly restart: "Always" | "OnFailure" | "Never";
  readonly start: () => Promise<RunningBody>;
  readonly check: (probe: Probe, timeoutMs: number) => Promise<ProbeOutcome>;
  readonly maxInitialDelayMs: number;
  readonly execStartsProgram: boolean;
  readonly containerId: (attempt: number) => string;
  /** The record changed. */
  readonly onChange: () => void;
  readonly onEvent: (type: "Normal" | "Warning", reason: string, message: string) => void;
  /** Aborts when the pod is to go: no further start. */
  readonly signal: AbortSignal;
}

const FIRST_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;
const FORGET_AFTER_MS = 60_000;
const UNHEALTHY_GRACE_MS = 5_000;

export class ContainerRunner {
  readonly #options: RunnerOptions;
  readonly #started = Promise.withResolvers<void>();
  readonly #done: Promise<number | undefined>;
  #body: RunningBody | undefined;
  #prober: Prober | undefined;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#done = this.#run();
    // Nobody may wait for the start of a container that never starts.
    options.signal.addEventListener("abort", () => this.#started.resolve(), { once: true });
  }

  /** Resolves when the startup probe has succeeded the first time (or the pod goes). */
  get started(): Promise<void> {
    return this.#started.promise;
  }

  /** The last exit status; undefined when the pod went first. */
  get done(): Promise<number | undefined> {
    return this.#done;
  }

  get pid(): number | undefined {
    return this.#body?.pid;
  }

  /** After the signal aborted: ends what runs. */
  async stop(graceMs: number): Promise<void> {
    this.#prober?.stop();
    await this.#body?.stop(graceMs);
    await this.#done;
  }

  async #run(): Promise<number | undefined> {
    const { record, signal, onChange, onEvent, container } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const startedAt = Date.now();
      const code = await this.#runOnce();
      if (signal.aborted) return code;
      if (code === undefined) {
        await pause(backoffMs(failures), signal);
        failures += 1;
        continue;
      }
      if (!this.#again(code)) return code;
      if (Date.now() - startedAt > FORGET_AFTER_MS) failures = 0;
      const waitMs = failures === 0 ? 0 : backoffMs(failures - 1);
      failures += 1;
      record.lastState = record.state;
      record.restartCount += 1;
      if (waitMs === 0) continue;
      const message = `back-off ${waitMs / 1000}s restarting failed container=${container.name}`;
      record.state = { waiting: { reason: "CrashLoopBackOff", message } };
      onEvent("Warning", "BackOff", `Back-off restarting failed container ${container.name}`);
      onChange();
      await pause(waitMs, signal);
    }
    return undefined;
  }

  #again(code: number): boolean {
    const { restart } = this.#options;
    return restart === "Always" || (restart === "OnFailure" && code !== 0);
  }

  /** The exit status; undefined when it could not be started. */
  async #runOnce(): Promise<number | undefined> {
    const { record, signal, onChange, onEvent, container, start, containerId } = this.#options;
    let body: RunningBody;
    try {
      body = await start();
    } catch (error) {
      if (signal.aborted) return undefined;
      const reason = hasCode(error, "BAD_INPUT") ? "CreateContainerConfigError" : "CreateContainerError";
      const message = errorText(error);
      record.state = { waiting: { reason, message } };
      onEvent("Warning", "Failed", `Error: ${message}`);
      onChange();
      return undefined;
    }
    this.#body = body;
    if (signal.aborted) await body.stop(0);
    const startedAt = timestamp(Date.now());
    record.containerId = containerId(record.restartCount);
    record.state = { running: { startedAt } };
    this.#prober = signal.aborted ? undefined : this.#probe(body);
    onEvent("Normal", "Started", `Started container ${container.name}`);
    onChange();
    const code = await body.exited;
    this.#prober?.stop();
    this.#body = undefined;
    record.ready = false;
    record.started = false;
    record.state = {
      terminated: {
        exitCode: code,
        reason: code === 0 ? "Completed" : "Error",
        startedAt,
        finishedAt: timestamp(Date.now()),
        containerID: record.containerId,
      },
    };
    onChange();
    return code;
  }

  #probe(body: RunningBody): Prober {
    const { container, record, check, maxInitialDelayMs, execStartsProgram, onChange, onEvent } = this.#options;
    return new Prober({
      container,
      check,
      maxInitialDelayMs,
      execStartsProgram,
      onReady: (ready) => {
        if (record.ready === ready) return;
        record.ready = ready;
        onChange();
      },
      onStarted: () => {
        record.started = true;
        this.#started.resolve();
        onChange();
      },
      onFailure: (kind, message) => onEvent("Warning", "Unhealthy", `${title(kind)} probe failed: ${message}`),
      onUnhealthy: (kind) => {
        onEvent("Normal", "Killing", `Container ${container.name} failed ${kind} probe, will be restarted`);
        void body.stop(UNHEALTHY_GRACE_MS);
      },
    });
  }
}

const backoffMs = (failures: number): number => Math.min(FIRST_BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS);

const title = (kind: ProbeKind): string => kind.charAt(0).toUpperCase() + kind.slice(1);
