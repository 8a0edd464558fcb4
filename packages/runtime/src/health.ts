/**
 * Liveness and readiness as the sum of named reporters. A reporter says what it promises (live, ready or both) and how
 * often it will speak; one that falls silent for longer than its timeout counts as dead and unready. A reporter that
 * never spoke is live (its clock starts at registration) but not ready. Timeout 0: no time limit.
 */
import type { Clock } from "./clock.ts";

export interface HealthPromise {
  readonly live?: boolean;
  readonly ready?: boolean;
  readonly timeoutMs?: number;
}

export interface HealthReport {
  readonly live?: boolean;
  readonly ready?: boolean;
  readonly detail?: string;
}

export interface HealthLine {
  readonly name: string;
  readonly live: boolean;
  readonly ready: boolean;
  readonly timedOut: boolean;
  readonly timeoutMs: number;
  readonly detail: string;
}

export interface HealthSummary {
  readonly live: boolean;
  readonly ready: boolean;
  readonly lines: readonly HealthLine[];
}

interface Reporter {
  readonly promise: HealthPromise;
  at: number;
  last: HealthReport;
}

export class Health {
  readonly #clock: Clock;
  readonly #overridesMs: Readonly<Record<string, number>>;
  readonly #reporters = new Map<string, Reporter>();

  /** `timeoutOverridesMs`: the operator's `healthTimeoutOverrides`, by reporter name. */
  constructor(clock: Clock, timeoutOverridesMs: Readonly<Record<string, number>> = {}) {
    this.#clock = clock;
    this.#overridesMs = timeoutOverridesMs;
  }

  register(name: string, promise: HealthPromise): void {
    this.#reporters.set(name, { promise, at: this.#clock.monotonic(), last: { live: true, ready: false } });
  }

  /** Reports under a name nobody registered are ignored: the promise is what gives a report its weight. */
  report(name: string, report: HealthReport): void {
    const reporter = this.#reporters.get(name);
    if (reporter === undefined) return;
    reporter.at = this.#clock.monotonic();
    reporter.last = report;
  }

  unregister(name: string): void {
    this.#reporters.delete(name);
  }

  summary(): HealthSummary {
    const now = this.#clock.monotonic();
    const lines = [...this.#reporters].map(([name, reporter]): HealthLine => {
      const { promise, at, last } = reporter;
      const timeoutMs = this.#overridesMs[name] ?? promise.timeoutMs ?? 0;
      const timedOut = timeoutMs > 0 && now - at > timeoutMs;
      return {
        name,
        live: promise.live !== true || (!timedOut && last.live !== false),
        ready: promise.ready !== true || (!timedOut && last.ready === true),
        timedOut,
        timeoutMs,
        detail: last.detail ?? "",
      };
    });
    return { live: lines.every((line) => line.live), ready: lines.every((line) => line.ready), lines };
  }
}

/** A table for people, as `/readiness` and `/liveness` answer it. */
export function formatHealth(summary: HealthSummary): string {
  const rows = [
    ["COMPONENT", "TIMEOUT", "LIVENESS", "READINESS", "DETAIL"],
    ...summary.lines.map((line) => [
      line.name,
      line.timeoutMs === 0 ? "-" : `${line.timeoutMs / 1000}s`,
      line.live ? "live" : line.timedOut ? "timed out" : "non-live",
      line.ready ? "ready" : line.timedOut ? "timed out" : "non-ready",
      line.detail,
    ]),
  ];
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, at) => cell.padEnd(widths[at] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}
