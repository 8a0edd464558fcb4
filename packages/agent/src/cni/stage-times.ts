/** Where the time of one request goes: for the log, so that a slow pod start can be explained afterwards. */
import type { Clock } from "@calico-ts/runtime";

export class StageTimes {
  readonly #clock: Clock;
  readonly #stages: (readonly [name: string, ms: number])[] = [];
  #lastAt: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastAt = clock.monotonic();
  }

  /** What has passed since the stage before ended. */
  lap(name: string): void {
    const now = this.#clock.monotonic();
    this.#stages.push([name, now - this.#lastAt]);
    this.#lastAt = now;
  }

  /** A stage that may run beside others: from now until it is over. */
  async of<T>(name: string, work: Promise<T>): Promise<T> {
    const startedAt = this.#clock.monotonic();
    try {
      return await work;
    } finally {
      this.#lastAt = this.#clock.monotonic();
      this.#stages.push([name, this.#lastAt - startedAt]);
    }
  }

  /** `pod 0.4, address 2.1, …` in milliseconds. */
  text(): string {
    return this.#stages.map(([name, ms]) => `${name} ${ms.toFixed(1)}`).join(", ");
  }
}
