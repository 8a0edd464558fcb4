/**
 * A deterministic scheduler for datastore operations: every operation of every actor waits at a gate, and a chosen number
 * says which goes next, whether it loses its answer, and when an actor crashes. The same choices are the same story.
 *
 * Choices come from a seed, and are written down; or from such a list, which can be made shorter (shrink.ts). 0 is always the tamest
 * choice, and a list that ends goes on with zeros: the first who waits goes next, nothing fails, nobody crashes.
 */
import { type DatastoreClient, intercept } from "@calico-ts/datastore";
import { CalicoError } from "@calico-ts/std";

/** Small, fast, good enough: mulberry32. */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type ScheduleOptions = { readonly seed: number } | { readonly choices: readonly number[] };

export interface Actor {
  readonly client: DatastoreClient;
  /** From now on every operation of this actor fails; one that is under way may or may not have happened. */
  crash(): void;
}

interface Waiting {
  readonly go: () => void;
  readonly label: string;
}

const GRAIN = 1000;

export class Schedule {
  readonly trace: string[] = [];
  /** What was chosen so far. */
  readonly choices: number[] = [];
  readonly #source: () => number | ((below: number) => number);
  #waiting: Waiting[] = [];
  #running = 0;
  /** Operations that happened since the last look. */
  #wrote = false;

  constructor(options: ScheduleOptions) {
    if ("seed" in options) {
      const random = seededRandom(options.seed);
      this.#source = () => (below) => Math.floor(random() * below);
    } else {
      let at = 0;
      this.#source = () => options.choices[at++] ?? 0;
    }
  }

  /** An integer from 0 to below `below`. */
  choose(below: number): number {
    const next = this.#source();
    const chosen = (typeof next === "number" ? next : next(below)) % below;
    this.choices.push(chosen);
    return chosen;
  }

  chance(probability: number): boolean {
    return this.choose(GRAIN) >= GRAIN - Math.round(probability * GRAIN);
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.choose(items.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  note(line: string): void {
    this.trace.push(line);
  }

  /** `faults`: how often the datastore fails an operation (it never happened), or loses its answer (it did). */
  actor(name: string, store: DatastoreClient, faults = 0): Actor {
    let crashed = false;
    const check = (): void => {
      if (crashed) throw new CalicoError("UNAVAILABLE", `${name} has crashed`);
    };
    const gate = async (label: string): Promise<void> => {
      check();
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push({ go: resolve, label });
      await promise;
      check();
    };
    const fail = (what: string): void => {
      if (faults === 0 || !this.chance(faults)) return;
      this.note(`${name}: ${what}`);
      throw new CalicoError("UNAVAILABLE", what);
    };
    const client = intercept(store, {
      before: async ({ verb, kind, key }) => {
        await gate(`${name}: ${verb} ${kind} ${key?.name ?? ""}`);
        fail("the datastore does not answer");
      },
      after: async ({ writes, verb, kind }) => {
        if (!writes) return;
        this.#wrote = true;
        await gate(`${name}: answer to ${verb} ${kind}`);
        fail("the answer was lost");
      },
    });
    return {
      client,
      crash: () => {
        crashed = true;
        this.note(`${name} crashes`);
      },
    };
  }

  /** Runs a story of an actor; `run` returns when all have ended. */
  start(story: () => Promise<void>): void {
    this.#running++;
    void story().finally(() => this.#running--);
  }

  /** Lets the stories proceed one operation at a time; `afterWrite` looks at what is stored whenever it may have changed. */
  async run(afterWrite: () => Promise<void>): Promise<void> {
    let idle = 0;
    for (await turn(); this.#running > 0 || this.#waiting.length > 0; await turn()) {
      if (this.#waiting.length === 0) {
        // Whoever runs without waiting for the datastore must come to an end, or the story is stuck.
        if (idle++ > 10_000) throw new Error(`nobody proceeds\n${this.trace.slice(-30).join("\n")}`);
        continue;
      }
      idle = 0;
      const [next] = this.#waiting.splice(this.choose(this.#waiting.length), 1);
      if (next === undefined) continue;
      this.trace.push(next.label);
      next.go();
      await turn();
      if (!this.#wrote) continue;
      this.#wrote = false;
      await afterWrite();
    }
  }
}

/** Everything that can run without waiting for the datastore runs: promise chains only, there are no timers in a story. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
