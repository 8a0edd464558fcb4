/**
 * Targets of live migrations on this node: pods that are connected before their virtual machine is there. No route leads to them until it is, and then at once.
 * An agent that starts finds them again by the owners that address management has noted.
 */
import type { Logger } from "@calico-ts/runtime";
import { podInterfaceName } from "./pod-link.ts";
import type { AwaitedMachine, EndpointGate, MachineAddresses } from "./ports.ts";
import type { PodName } from "./request.ts";

export interface MigrationsDeps {
  readonly machines: MachineAddresses;
  readonly endpoints: Pick<EndpointGate, "ready" | "withholdRoutes">;
  readonly log: Logger;
}

export class Migrations {
  readonly #deps: MigrationsDeps;
  readonly #awaited = new Map<string, AbortController>();

  constructor(deps: MigrationsDeps) {
    this.#deps = deps;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await this.#deps.endpoints.ready(signal);
      for (const awaited of await this.#deps.machines.awaited()) {
        if (!this.isAwaited(awaited.pod)) this.await(awaited);
      }
    } catch (error) {
      if (!signal.aborted) this.#deps.log.warning("cni.migrations_not_resumed", { error });
    }
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    for (const waiting of this.#awaited.values()) waiting.abort();
  }

  /** Returns what ends the wait. */
  await(awaited: AwaitedMachine): () => void {
    const { endpoints, log, machines } = this.#deps;
    const { machine, pod } = awaited;
    const key = keyOf(pod);
    this.forget(pod);
    const end = new AbortController();
    this.#awaited.set(key, end);
    const withheld = endpoints.withholdRoutes(podInterfaceName(pod.namespace, pod.name));
    const wait = async (): Promise<void> => {
      using _routes = withheld;
      const here = await machines.arrived(awaited, end.signal);
      if (this.#awaited.get(key) === end) this.#awaited.delete(key);
      if (here) log.info("cni.machine_arrived", { pod: key, machine });
    };
    void wait();
    return () => end.abort();
  }

  isAwaited(pod: PodName): boolean {
    return this.#awaited.has(keyOf(pod));
  }

  forget(pod: PodName): void {
    this.#awaited.get(keyOf(pod))?.abort();
    this.#awaited.delete(keyOf(pod));
  }
}

const keyOf = ({ name, namespace }: PodName): string => `${namespace}/${name}`;
