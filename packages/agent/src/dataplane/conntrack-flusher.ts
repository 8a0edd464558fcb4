/**
 * Forgets the connections of an address that left a workload, so that they are not "established" for whoever gets the
 * address next. Addresses wait here until the kernel has done it.
 */
import type { Logger } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";

export interface ConntrackKernel {
  /** Deletes the flows that have one of the addresses at either end. */
  flushConntrack(addresses: readonly string[]): void;
}

export class ConntrackFlusher {
  readonly #kernel: ConntrackKernel;
  readonly #log: Logger;
  readonly #pending = new Set<string>();

  constructor(options: { readonly kernel: ConntrackKernel; readonly log: Logger }) {
    this.#kernel = options.kernel;
    this.#log = options.log;
  }

  /** An address, or its host prefix; wider prefixes are nobody's connections. */
  add(destination: string): void {
    const [address = "", length] = destination.split("/");
    if (length === undefined || length === "32" || length === "128") this.#pending.add(address);
  }

  get pending(): number {
    return this.#pending.size;
  }

  apply(): void {
    if (this.#pending.size === 0) return;
    const addresses = Array.from(this.#pending);
    try {
      this.#kernel.flushConntrack(addresses); // all at once: the kernel's table is walked for it
      this.#log.debug("conntrack.flushed", { addresses: addresses.join(",") });
    } catch (error) {
      if (!hasCode(error, "UNSUPPORTED")) throw error;
      // Without ctnetlink the connections die by timeout only; waiting here would stop every new pod.
      this.#log.warning("conntrack.unsupported", { error });
    }
    this.#pending.clear();
  }
}
