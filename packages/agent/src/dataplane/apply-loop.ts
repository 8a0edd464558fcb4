/**
 * Receives cheaply, applies in order; the only place that waits for the kernel.
 *
 * `mark()` asks for a pass; many calls before a pass starts are one pass, and a mark during a pass leads to another. Nothing runs
 * before `open()`: that is the in-sync gate. A failed phase waits for its own back-off and holds up only the phases that
 * need it; the others go on. A pass never throws: the drivers keep what is still to be done.
 */
import type { Clock, Logger } from "@calico-ts/runtime";
import { Backoff, DirtyLoop } from "@calico-ts/runtime";
import type { PhaseName, PhaseOrder } from "./phases.ts";

export interface PassReport {
  readonly failed: ReadonlyMap<PhaseName, unknown>;
  /** Not run: they need a phase that failed or is waiting. */
  readonly held: readonly PhaseName[];
  readonly seconds: number;
}

export interface ApplyLoopOptions {
  readonly order: readonly PhaseOrder[];
  readonly steps: Readonly<Record<PhaseName, () => Promise<void> | void>>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onPass?: (report: PassReport) => void;
  readonly firstRetryMs?: number;
  readonly maxRetryMs?: number;
}

interface Waiting {
  readonly backoff: Backoff;
  readonly error: unknown;
  /** The back-off is over. Not a time: a timer may ring a little before the clock says so, and nobody would ring again. */
  due: boolean;
}

export class ApplyLoop implements AsyncDisposable {
  readonly #options: ApplyLoopOptions;
  readonly #loop: DirtyLoop;
  readonly #waiting = new Map<PhaseName, Waiting>();
  readonly #stop = new AbortController();
  #isOpen = false;
  #passes = 0;
  #busy = false;

  constructor(options: ApplyLoopOptions) {
    this.#options = options;
    this.#loop = new DirtyLoop({ clock: options.clock, run: () => this.#pass() });
  }

  mark(): void {
    if (this.#isOpen) this.#loop.mark();
  }

  /** The first complete snapshot is known: from now on the kernel may be changed. */
  open(): void {
    this.#isOpen = true;
    this.mark();
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Finished passes, failed ones included. */
  get passes(): number {
    return this.#passes;
  }

  /** True while a pass waits for the kernel. */
  get busy(): boolean {
    return this.#busy;
  }

  /** What failed last time and is waiting for another attempt. */
  failures(): ReadonlyMap<PhaseName, unknown> {
    return new Map([...this.#waiting].map(([name, waiting]) => [name, waiting.error]));
  }

  whenIdle(): Promise<void> {
    return this.#loop.whenIdle();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop[Symbol.asyncDispose]();
  }

  async #pass(): Promise<void> {
    const { clock, order, steps } = this.#options;
    const start = clock.monotonic();
    this.#busy = true;
    const failed = new Map<PhaseName, unknown>();
    const held: PhaseName[] = [];
    const closed = new Set<PhaseName>();
    for (const { name, needs } of order) {
      const waiting = this.#waiting.get(name);
      if (needs.some((need) => closed.has(need)) || waiting?.due === false) {
        held.push(name);
        closed.add(name);
        continue;
      }
      try {
        await steps[name]();
        if (this.#waiting.delete(name)) this.#options.log.info("phase.recovered", { phase: name });
      } catch (error) {
        failed.set(name, error);
        closed.add(name);
        this.#retryLater(name, waiting, error);
      }
    }
    this.#passes++;
    this.#busy = false;
    this.#options.onPass?.({ failed, held, seconds: (clock.monotonic() - start) / 1000 });
  }

  #retryLater(name: PhaseName, before: Waiting | undefined, error: unknown): void {
    const { clock, log, firstRetryMs = 50, maxRetryMs = 5000 } = this.#options;
    const backoff = before?.backoff ?? new Backoff({ firstMs: firstRetryMs, maxMs: maxRetryMs });
    const retryMs = Math.round(backoff.nextMs());
    log.error("phase.failed", { phase: name, retryMs, error });
    const waiting: Waiting = { backoff, error, due: false };
    this.#waiting.set(name, waiting);
    void this.#ring(waiting, clock.sleep(retryMs, this.#stop.signal));
  }

  async #ring(waiting: Waiting, bell: Promise<void>): Promise<void> {
    try {
      await bell;
    } catch {
      return; // the loop ends
    }
    waiting.due = true;
    this.#loop.mark();
  }
}
