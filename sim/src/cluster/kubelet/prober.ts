/**
 * The three probes of one running container: when they are due and what their results mean.
 *
 * The counting is a pure step (`countResult`); the rest is a timer. Differences from Kubernetes, for a cluster that comes up in seconds: until
 * a container has been ready for the first time its readiness and startup probes run after 0, 0.1, 0.25, 0.5, … seconds instead of once a
 * period (those that start a program somewhat later, since they take the time of the one they ask for), and the initial delay of stubs is cut (ClusterOptions.stubInitialDelaySeconds).
 */
import type { Container, Probe } from "../kube/objects.ts";
import type { ProbeOutcome } from "./probe-check.ts";

export type ProbeKind = "liveness" | "readiness" | "startup";

export interface ProbeCount {
  readonly successes: number;
  readonly failures: number;
}

/** "changed" values are decisions: enough successes or failures in a row. Undefined: nothing decided by this result. */
export function countResult(
  count: ProbeCount,
  ok: boolean,
  probe: Probe,
): { readonly count: ProbeCount; readonly decided: "success" | "failure" | undefined } {
  const next = ok ? { successes: count.successes + 1, failures: 0 } : { successes: 0, failures: count.failures + 1 };
  if (ok) return { count: next, decided: next.successes >= (probe.successThreshold ?? 1) ? "success" : undefined };
  return { count: next, decided: next.failures >= (probe.failureThreshold ?? 3) ? "failure" : undefined };
}

export interface ProberOptions {
  readonly container: Container;
  readonly check: (probe: Probe, timeoutMs: number) => Promise<ProbeOutcome>;
  readonly maxInitialDelayMs: number;
  /** An exec probe starts a whole program here, on a machine that has the one it asks for to start. */
  readonly execStartsProgram: boolean;
  readonly onReady: (ready: boolean) => void;
  readonly onStarted: () => void;
  /** Liveness or startup failed for good: the container must be restarted. */
  readonly onUnhealthy: (kind: ProbeKind, message: string) => void;
  /** Every single failure, for events. */
  readonly onFailure: (kind: ProbeKind, message: string) => void;
}

/** Before the first, the second, … */
const EAGER_MS = [0, 100, 250, 500, 1000] as const;
const EAGER_PROGRAM_MS = [700, 400, 500, 500, 1000] as const;

export class Prober {
  readonly #options: ProberOptions;
  readonly #timers = new Map<ProbeKind, NodeJS.Timeout>();
  readonly #counts = new Map<ProbeKind, ProbeCount>();
  readonly #bornAt = Date.now();
  #stopped = false;
  #wasReady = false;

  /** Starts probing. A container without a startup probe has started, one without a readiness probe is ready, at once. */
  constructor(options: ProberOptions) {
    this.#options = options;
    if (options.container.startupProbe === undefined) this.#started();
    else this.#schedule("startup", this.#firstDelay(options.container.startupProbe));
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  #started(): void {
    const { container, onStarted, onReady } = this.#options;
    onStarted();
    if (container.livenessProbe !== undefined) {
      // The first result of a healthy container is not urgent; Kubernetes asks after the initial delay as well.
      const delay = this.#initialDelay(container.livenessProbe) + periodMs(container.livenessProbe) * Math.random();
      this.#schedule("liveness", delay);
    }
    if (container.readinessProbe === undefined) onReady(true);
    else this.#schedule("readiness", this.#firstDelay(container.readinessProbe));
  }

  #eager(probe: Probe): readonly number[] {
    return probe.exec !== undefined && this.#options.execStartsProgram ? EAGER_PROGRAM_MS : EAGER_MS;
  }

  #firstDelay(probe: Probe): number {
    return Math.max(this.#initialDelay(probe), Math.min(this.#eager(probe)[0] ?? 0, periodMs(probe)));
  }

  #initialDelay(probe: Probe): number {
    return Math.min((probe.initialDelaySeconds ?? 0) * 1000, this.#options.maxInitialDelayMs);
  }

  #schedule(kind: ProbeKind, delayMs: number): void {
    if (this.#stopped) return;
    this.#timers.set(
      kind,
      setTimeout(() => void this.#run(kind), delayMs),
    );
  }

  async #run(kind: ProbeKind): Promise<void> {
    const probe = this.#probe(kind);
    if (probe === undefined || this.#stopped) return;
    const outcome = await this.#options.check(probe, (probe.timeoutSeconds ?? 1) * 1000);
    if (this.#stopped) return;
    const before = this.#counts.get(kind) ?? { successes: 0, failures: 0 };
    const { count, decided } = countResult(before, outcome.ok, probe);
    this.#counts.set(kind, count);
    if (!outcome.ok) this.#options.onFailure(kind, outcome.message);
    if (decided !== undefined && this.#act(kind, decided, outcome)) return;
    const eager = kind !== "liveness" && !this.#wasReady;
    const eagerMs = this.#eager(probe)[Math.min(count.failures + count.successes, EAGER_MS.length - 1)] ?? 0;
    this.#schedule(kind, eager ? Math.min(eagerMs, periodMs(probe)) : periodMs(probe));
  }

  /** True when this probe needs no further run. */
  #act(kind: ProbeKind, decided: "success" | "failure", outcome: ProbeOutcome): boolean {
    const message = outcome.ok ? "" : outcome.message;
    if (kind === "readiness") {
      if (decided === "success") this.#wasReady = true;
      this.#options.onReady(decided === "success");
      return false;
    }
    if (decided === "failure") {
      // Eager probes of a slow starter must not use up the patience its failureThreshold asks for.
      if (kind === "startup" && this.#stillPatient()) return false;
      this.#options.onUnhealthy(kind, message);
      return true;
    }
    if (kind === "startup") {
      this.#started();
      return true;
    }
    return false;
  }

  #stillPatient(): boolean {
    const probe = this.#options.container.startupProbe;
    if (probe === undefined) return false;
    const patience = this.#initialDelay(probe) + periodMs(probe) * (probe.failureThreshold ?? 3);
    return Date.now() - this.#bornAt < patience;
  }

  #probe(kind: ProbeKind): Probe | undefined {
    const { container } = this.#options;
    switch (kind) {
      case "liveness":
        return container.livenessProbe;
      case "readiness":
        return container.readinessProbe;
      case "startup":
        return container.startupProbe;
    }
  }
}

const periodMs = (probe: Probe): number => (probe.periodSeconds ?? 10) * 1000;
