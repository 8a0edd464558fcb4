/**
 * Events (`kubectl describe`, `kubectl get events`): written in the background, few at a time, many only when this process has time to spare (a
 * cluster that comes up has better things to do), and dropped when there are too many, because nothing may wait for them. A repeated event raises
 * the count of the first.
 */
import type { Logger } from "@calico-ts/runtime";
import type { EventNote } from "./actions.ts";
import type { KubeClient } from "./client.ts";
import { pause } from "./informer.ts";
import { type KubeObject, uidOf } from "./objects.ts";
import { type Kind, resourceTypes } from "./resource-types.ts";
import { timestamp } from "./timestamp.ts";

export interface EventRecorderDeps {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly component: string;
  readonly signal: AbortSignal;
}

interface Known {
  readonly namespace: string;
  readonly name: string;
  count: number;
}

const MAX_PENDING = 5000;
const MAX_KNOWN = 5000;
const WRITERS = 2;
/** So many are written at once, whatever else goes on. */
const FEW = 10;
const LOOK_MS = 50;
/** Share of the time in which the event loop had something to do. */
const BUSY = 0.6;
const MOST_PATIENCE_MS = 20_000;

export class EventRecorder {
  readonly #deps: EventRecorderDeps;
  readonly #pending: (() => Promise<void>)[] = [];
  readonly #known = new Map<string, Known>();
  #writers = 0;
  #sequence = 0;
  #complained = false;

  constructor(deps: EventRecorderDeps) {
    this.#deps = deps;
  }

  record(kind: Kind, about: KubeObject, event: EventNote): void {
    if (this.#deps.signal.aborted || this.#pending.length >= MAX_PENDING) return;
    this.#pending.push(() => this.#write(kind, about, event));
    if (this.#writers < WRITERS) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#writers += 1;
    for (let done = 1; ; done++) {
      if (this.#pending.length > FEW && done % FEW === 0) await untilIdle(this.#deps.signal);
      const write = this.#pending.shift();
      if (write === undefined || this.#deps.signal.aborted) break;
      try {
        await write();
      } catch (error) {
        if (!this.#complained) this.#deps.log.debug("event.not_recorded", { error });
        this.#complained = true;
      }
    }
    this.#writers -= 1;
  }

  async #write(kind: Kind, about: KubeObject, event: EventNote): Promise<void> {
    const now = timestamp(Date.now());
    const identity = [kind, uidOf(about), event.type, event.reason, event.message].join("\0");
    const known = this.#known.get(identity);
    if (known !== undefined) {
      known.count += 1;
      await this.#deps.client.patch("Event", known, { count: known.count, lastTimestamp: now });
      return;
    }
    const namespace = about.metadata.namespace ?? "default";
    this.#sequence += 1;
    const name = `${about.metadata.name}.${(Date.now() * 1000 + (this.#sequence % 1000)).toString(16)}`;
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(identity, { namespace, name, count: 1 });
    await this.#deps.client.create("Event", {
      metadata: { namespace, name },
      involvedObject: {
        apiVersion: resourceTypes[kind].apiVersion,
        kind,
        name: about.metadata.name,
        uid: uidOf(about),
        ...(about.metadata.namespace === undefined ? {} : { namespace: about.metadata.namespace }),
      },
      type: event.type,
      reason: event.reason,
      message: event.message.slice(0, 1024),
      count: 1,
      firstTimestamp: now,
      lastTimestamp: now,
      source: { component: this.#deps.component },
      reportingComponent: this.#deps.component,
      reportingInstance: "",
    } as KubeObject);
  }
}

/** Resolves when the event loop has time to spare, or when that took too long. */
async function untilIdle(signal: AbortSignal): Promise<void> {
  for (let waited = 0; waited < MOST_PATIENCE_MS && !signal.aborted; waited += LOOK_MS) {
    const before = performance.eventLoopUtilization();
    await pause(LOOK_MS, signal);
    if (performance.eventLoopUtilization(before).utilization < BUSY) return;
  }
}
