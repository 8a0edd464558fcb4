/** The world as garbage collection looks at it, kept by the syncer; what must be certain is asked from the datastore. */
import type { DatastoreClient } from "@calico-ts/datastore";
import {
  configOf,
  DatastoreSource,
  defaultIpamConfig,
  type GcSource,
  type GcWorld,
  type Machines,
  podFacts,
  type PodFacts,
  podKey,
  type Pool,
  poolOf,
  Reservations,
} from "@calico-ts/ipam";
import type { BlockAffinity, IPAMBlock, IPAMConfiguration, IPAMHandle, IPReservation } from "@calico-ts/model";
import type { SyncKind, SyncUpdate } from "@calico-ts/sync";

export const WORLD_KINDS = [
  "IPAMBlock",
  "IPAMHandle",
  "BlockAffinity",
  "IPAMConfiguration",
  "IPPool",
  "IPReservation",
  "Node",
  "Pod",
] as const satisfies readonly SyncKind[];

export class WorldCache implements GcSource {
  readonly #live: DatastoreSource;
  readonly #blocks = new Map<string, IPAMBlock>();
  readonly #handles = new Map<string, IPAMHandle>();
  readonly #affinities = new Map<string, BlockAffinity>();
  readonly #pools = new Map<string, Pool>();
  readonly #reservations = new Map<string, IPReservation>();
  readonly #nodes = new Set<string>();
  readonly #pods = new Map<string, PodFacts>();
  #config: IPAMConfiguration | undefined;

  constructor(client: DatastoreClient) {
    this.#live = new DatastoreSource(client);
  }

  /** True when something went away, which is when there may be something to collect. */
  update(update: SyncUpdate): boolean {
    const { kind, key, resource } = update;
    switch (kind) {
      case "IPAMBlock":
        put(this.#blocks, key.name, resource);
        return false;
      case "IPAMHandle":
        put(this.#handles, key.name, resource);
        return false;
      case "BlockAffinity":
        put(this.#affinities, key.name, resource);
        return false;
      case "IPReservation":
        put(this.#reservations, key.name, resource);
        return false;
      case "IPAMConfiguration":
        if (key.name === "default") this.#config = resource;
        return false;
      case "IPPool":
        put(this.#pools, key.name, resource === undefined ? undefined : poolOf(resource));
        return false;
      case "Node":
        if (resource === undefined) this.#nodes.delete(key.name);
        else this.#nodes.add(key.name);
        return resource === undefined;
      case "Pod": {
        const facts = resource === undefined ? undefined : podFacts(resource);
        put(this.#pods, podKey(key.namespace ?? "", key.name), facts);
        return facts === undefined || facts.finished;
      }
      default:
        return false;
    }
  }

  get pools(): readonly Pool[] {
    return [...this.#pools.values()];
  }

  get reservations(): Reservations {
    return Reservations.of([...this.#reservations.values()]);
  }

  /** As of now; the collector changes nothing of it. */
  world(): GcWorld {
    return {
      blocks: [...this.#blocks.values()].filter(({ spec }) => spec.deleted !== true),
      handles: [...this.#handles.values()].filter(({ spec }) => spec.deleted !== true),
      affinities: [...this.#affinities.values()].filter(({ spec }) => !spec.deleted),
      nodes: new Set(this.#nodes),
      pods: new Map(this.#pods),
      config: this.#config === undefined ? defaultIpamConfig : configOf(this.#config),
    };
  }

  async snapshot(): Promise<GcWorld> {
    return this.world();
  }

  pod(namespace: string, name: string): Promise<PodFacts | undefined> {
    return this.#live.pod(namespace, name);
  }

  /** Not from the cache: most clusters have no such kinds, and watching what is not there would wait for ever. */
  machines(): Promise<Machines | undefined> {
    return this.#live.machines();
  }

  hasNode(name: string): Promise<boolean> {
    return this.#live.hasNode(name);
  }
}

function put<T>(map: Map<string, T>, key: string, value: T | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}
