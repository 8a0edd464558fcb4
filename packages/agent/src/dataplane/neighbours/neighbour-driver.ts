/**
 * Forwarding entries and neighbours of our VXLAN devices. A remote node's VTEP takes two: the neighbour (tunnel address →
 * MAC), so that nothing is ever asked by broadcast, and the FDB entry (MAC → node address), which is where the
 * packet goes. Both are permanent; a device of ours holds no other ones (`isOurFdbEntry`, `isOurNeighbour`).
 *
 * An entry whose device is missing or down waits for it.
 */
import type { Logger } from "@calico-ts/runtime";
import { DeltaTracker } from "@calico-ts/std";
import { isOurFdbEntry, isOurNeighbour } from "../ownership.ts";

export type NeighbourSpec =
  | { readonly kind: "neighbour"; readonly interfaceName: string; readonly address: string; readonly mac: string }
  | { readonly kind: "fdb"; readonly interfaceName: string; readonly mac: string; readonly destination: string };

export type KernelNeighbour =
  | {
      readonly kind: "neighbour";
      readonly interfaceName: string;
      readonly address: string;
      readonly mac?: string;
      readonly permanent: boolean;
    }
  | { readonly kind: "fdb"; readonly interfaceName: string; readonly mac: string; readonly destination?: string };

export interface NeighbourKernel {
  listNeighbours(interfaceName: string): readonly KernelNeighbour[];
  putNeighbour(entry: NeighbourSpec): void;
  /** Absence is not an error. */
  deleteNeighbour(entry: NeighbourSpec): void;
  isUp(interfaceName: string): boolean;
}

export class NeighbourDriver {
  readonly #kernel: NeighbourKernel;
  readonly #log: Logger;
  readonly #devices: readonly string[];
  readonly #tracker = new DeltaTracker<NeighbourSpec>(sameEntry);
  readonly #byOwner = new Map<string, ReadonlyMap<string, NeighbourSpec>>();
  #resyncNeeded = true;

  constructor(options: {
    readonly kernel: NeighbourKernel;
    readonly devices: readonly string[];
    readonly log: Logger;
  }) {
    this.#kernel = options.kernel;
    this.#devices = options.devices;
    this.#log = options.log;
  }

  /** The whole set of one owner; owners never share an entry (each has its own device). */
  want(owner: string, entries: Iterable<NeighbourSpec>): void {
    const next = new Map([...entries].map((entry) => [entryKey(entry), entry] as const));
    for (const key of this.#byOwner.get(owner)?.keys() ?? []) if (!next.has(key)) this.#tracker.unwant(key);
    for (const [key, entry] of next) this.#tracker.want(key, entry);
    this.#byOwner.set(owner, next);
  }

  markForResync(): void {
    this.#resyncNeeded = true;
  }

  apply(): void {
    if (this.#resyncNeeded) this.#resync();
    const failures: unknown[] = [];
    const step = (action: () => void): void => {
      try {
        action();
      } catch (error) {
        this.#resyncNeeded = true;
        failures.push(error);
      }
    };
    for (const key of Array.from(this.#tracker.toRemove())) {
      const entry = this.#tracker.seen(key);
      if (entry === undefined) continue;
      step(() => {
        this.#kernel.deleteNeighbour(entry);
        this.#tracker.removed(key);
        this.#log.debug("neighbour.removed", { entry: key });
      });
    }
    for (const [key, entry] of Array.from(this.#tracker.toWrite())) {
      if (!this.#kernel.isUp(entry.interfaceName)) continue;
      step(() => {
        // An FDB entry may have several destinations; replacing needs the old one gone first.
        const seen = this.#tracker.seen(key);
        if (seen?.kind === "fdb") this.#kernel.deleteNeighbour(seen);
        this.#kernel.putNeighbour(entry);
        this.#tracker.wrote(key, entry);
        this.#log.debug("neighbour.written", { entry: key });
      });
    }
    if (failures.length > 0) throw failures[0];
  }

  dump(): unknown {
    return {
      desired: [...this.#tracker.desiredEntries()].map(([, entry]) => entry),
      observed: [...this.#tracker.observedEntries()].map(([, entry]) => entry),
      toWrite: [...this.#tracker.toWrite()].map(([key]) => key),
      toRemove: [...this.#tracker.toRemove()],
    };
  }

  #resync(): void {
    const found: (readonly [string, NeighbourSpec])[] = [];
    for (const device of this.#devices) {
      for (const entry of this.#kernel.listNeighbours(device)) {
        const spec = ours(entry);
        if (spec !== undefined) found.push([entryKey(spec), spec]);
      }
    }
    this.#tracker.observed(found);
    this.#resyncNeeded = false;
  }
}

function ours(entry: KernelNeighbour): NeighbourSpec | undefined {
  if (entry.kind === "fdb") {
    const { interfaceName, mac, destination } = entry;
    if (!isOurFdbEntry(entry) || destination === undefined) return undefined;
    return { kind: "fdb", interfaceName, mac, destination };
  }
  const { interfaceName, address, mac = "" } = entry;
  return isOurNeighbour(entry) ? { kind: "neighbour", interfaceName, address, mac } : undefined;
}

const entryKey = (entry: NeighbourSpec): string =>
  entry.kind === "fdb"
    ? `fdb ${entry.mac} dev ${entry.interfaceName}`
    : `neighbour ${entry.address} dev ${entry.interfaceName}`;

const sameEntry = (a: NeighbourSpec, b: NeighbourSpec): boolean =>
  entryKey(a) === entryKey(b) &&
  (a.kind === "fdb" && b.kind === "fdb"
    ? a.destination === b.destination
    : a.kind === "neighbour" && b.kind === "neighbour" && a.mac === b.mac);
