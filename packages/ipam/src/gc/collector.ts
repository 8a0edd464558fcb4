/**
 * Garbage collection of addresses, blocks and handles. START HERE for GC; the rules are in decide.ts.
 *
 * `pass` reads everything once, decides, and acts. Nothing is done on the strength of the snapshot alone: before an address is released, its
 * pod and node are asked for again, live, and the release names handle and sequence number, so an address that was given out again meanwhile
 * stays. Every other action goes through the same compare-and-swap steps as the allocator's. A failure ends neither the pass nor the
 * collector: what could not be done now is found again by the next pass.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import { formatAddress, type Prefix, tryParsePrefix } from "@calico-ts/net";
import { type Clock, type Logger, silentLogger, systemClock, throwIfAborted } from "@calico-ts/runtime";
import { handleCounts } from "../allocator/block.ts";
import { type Owner, ownerText, parseOwner } from "../allocator/names.ts";
import { claimBlock, releaseAffinity, withoutCooled } from "../affinity-claims.ts";
import { noMemory, releaseAddresses } from "../release.ts";
import { readPools } from "../settings.ts";
import { writeCounts } from "../store/handle-counts.ts";
import { IpamStore } from "../store/ipam-store.ts";
import { type Allocation, allocationsOf, whyNotOfMachine, whyNotOfPod } from "./allocation.ts";
import { decide, type GcAction, type GcGrace, type GcMemory, isRecorded, sameCounts } from "./decide.ts";
import type { Machines } from "./machines.ts";
import { DatastoreSource, type GcSource, type GcWorld, type PodFacts, podKey } from "./world.ts";

export interface CollectorOptions {
  readonly client: DatastoreClient;
  /** Absent: everything is listed from the client. */
  readonly source?: GcSource;
  readonly clock?: Clock;
  readonly log?: Logger;
  readonly grace?: Partial<GcGrace>;
}

/** Upstream's default; a pass is due every half of it. */
export const DEFAULT_GRACE: GcGrace = { leakMs: 15 * 60_000, recordMs: 15 * 60_000 };
const MACHINES_MAX_AGE_MS = 60_000;
/** Addresses in one release call. */
const BATCH = 10_000;

export interface PassReport {
  readonly released: number;
  /** What was released, as it was seen before. */
  readonly reclaimed: readonly Allocation[];
  /** What looks leaked, and has not for long enough. */
  readonly candidates: readonly Allocation[];
  /** Leaks by the snapshot that turned out to be in use. */
  readonly spared: number;
  readonly actions: readonly GcAction[];
  readonly failures: readonly unknown[];
}

export class Collector {
  readonly #store: IpamStore;
  readonly #client: DatastoreClient;
  readonly #source: GcSource;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #grace: GcGrace;
  #memory: GcMemory = new Map();
  #machines: { readonly known: Machines | undefined; readonly at: number } | undefined;

  constructor(options: CollectorOptions) {
    this.#client = options.client;
    this.#clock = options.clock ?? systemClock;
    this.#store = new IpamStore(this.#client, this.#clock);
    this.#source = options.source ?? new DatastoreSource(this.#client);
    this.#log = options.log ?? silentLogger;
    this.#grace = { ...DEFAULT_GRACE, ...options.grace };
  }

  /** Passes until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const periodMs = this.#grace.leakMs > 0 ? this.#grace.leakMs / 2 : 5 * 60_000;
    while (!signal.aborted) {
      try {
        const { failures } = await this.pass(signal);
        for (const error of failures) this.#log.warning("ipam.gc_action_failed", { error });
      } catch (error) {
        if (!signal.aborted) this.#log.warning("ipam.gc_pass_failed", { error });
      }
      await this.#clock.sleep(periodMs, signal).catch(() => undefined);
    }
  }

  /** @throws CalicoError when the snapshot cannot be read */
  async pass(signal?: AbortSignal): Promise<PassReport> {
    const failures: unknown[] = [];
    const world = await this.#withMachines(await this.#source.snapshot(), failures);
    const time = { monotonicMs: this.#clock.monotonic(), wallMs: this.#clock.now() };
    const { actions, candidates, memory } = decide(world, this.#memory, time, this.#grace);
    this.#memory = memory;
    const reclaimed: Allocation[] = [];
    let spared = 0;
    const leaks: Allocation[] = [];
    let machines: Promise<Machines | undefined> | undefined;
    for (const action of actions) {
      throwIfAborted(signal);
      // A node's affinities go after its leaks.
      if (action.kind !== "release" || leaks.length >= BATCH) {
        reclaimed.push(...(await this.#releaseCounted(leaks, world, failures)));
      }
      try {
        if (action.kind !== "release") await this.#perform(action, world);
        else if (await this.#isStillLeaked(action.allocations, () => (machines ??= this.#source.machines()))) {
          leaks.push(...action.allocations);
          this.#log.info("ipam.gc_leak", { handle: action.handle, because: action.because });
        } else spared += action.allocations.length;
      } catch (error) {
        failures.push(error);
      }
    }
    reclaimed.push(...(await this.#releaseCounted(leaks, world, failures)));
    return { released: reclaimed.length, reclaimed, candidates, spared, actions, failures };
  }

  /** Machines are asked for only where some address is a machine's, and not again within a minute: their grace is five. */
  async #withMachines(world: GcWorld, failures: unknown[]): Promise<GcWorld> {
    const now = this.#clock.monotonic();
    const isMachine = ({ holder }: Allocation): boolean => holder.kind === "machine";
    if (!world.blocks.some((block) => allocationsOf(block).some(isMachine))) return world;
    try {
      if (this.#machines === undefined || now - this.#machines.at >= MACHINES_MAX_AGE_MS) {
        this.#machines = { known: await this.#source.machines(), at: now };
      }
      return { ...world, machines: this.#machines.known };
    } catch (error) {
      failures.push(error);
      return world;
    }
  }

  async #releaseCounted(leaks: Allocation[], world: GcWorld, failures: unknown[]): Promise<Allocation[]> {
    if (leaks.length === 0) return [];
    try {
      return await this.#release(leaks.splice(0), world);
    } catch (error) {
      failures.push(error);
      return [];
    }
  }

  async #release(leaks: readonly Allocation[], world: GcWorld): Promise<Allocation[]> {
    const context = { store: this.#store, memory: noMemory, cooldownSeconds: world.config.cooldownSeconds };
    const report = await releaseAddresses(context, leaks, await readPools(this.#client));
    const released = new Set(report.released.map(formatAddress));
    if (released.size > 0) this.#log.info("ipam.gc_released", { addresses: [...released] });
    return leaks.filter(({ address }) => released.has(formatAddress(address)));
  }

  /** Asks the datastore once more about every address of the handle. */
  async #isStillLeaked(
    allocations: readonly Allocation[],
    machines: () => Promise<Machines | undefined>,
  ): Promise<boolean> {
    for (const allocation of allocations) {
      const { holder } = allocation;
      if (holder.kind === "tunnel") {
        if (await this.#source.hasNode(holder.node)) return false;
      } else if (holder.kind === "machine") {
        const pods = new Map<string, PodFacts>();
        for (const { name, namespace } of holder.owners) {
          const pod = await this.#source.pod(namespace, name);
          if (pod !== undefined) pods.set(podKey(namespace, name), pod);
        }
        if (whyNotOfMachine(allocation, await machines(), pods) === undefined) return false;
      } else if (holder.kind === "pod") {
        const pod = await this.#source.pod(holder.namespace, holder.name);
        if (whyNotOfPod(allocation, holder.node, pod) === undefined) return false;
      } else return false;
    }
    return true;
  }

  async #perform(action: Exclude<GcAction, { kind: "release" }>, world: GcWorld): Promise<void> {
    switch (action.kind) {
      case "release-block":
      case "finish-release":
        await this.#withPrefix(action.block, (prefix) =>
          releaseAffinity(this.#store, action.owner, prefix, { mustBeEmpty: true }),
        );
        return;
      case "restore-affinity":
        await this.#withPrefix(action.block, (prefix) => this.#restoreAffinity(action.owner, prefix));
        return;
      case "release-node":
        await this.#releaseNode(action.node);
        return;
      case "mend-handle":
        await this.#mendHandle(action);
        return;
      case "free-cooled": {
        const { cooldownSeconds: seconds } = world.config;
        const freed = withoutCooled(action.block, { nowMs: this.#clock.now(), seconds });
        if (freed !== action.block) await this.#store.blocks.update(freed);
      }
    }
  }

  async #withPrefix(block: string, act: (prefix: Prefix) => Promise<unknown>): Promise<void> {
    const prefix = tryParsePrefix(block);
    if (prefix !== undefined) await act(prefix);
  }

  async #restoreAffinity(owner: Owner, prefix: Prefix): Promise<void> {
    const block = await this.#store.findBlock(prefix);
    if (block?.spec.affinity === ownerText(owner)) await claimBlock(this.#store, owner, prefix);
  }

  /** Nothing valid of the node is left, so a block that is in use is in use by others who borrowed: it stays, with nobody as its owner. */
  async #releaseNode(node: string): Promise<void> {
    if (await this.#source.hasNode(node)) return;
    const blocks = new Map<string, Prefix>();
    const note = (cidr: string): void => {
      const prefix = tryParsePrefix(cidr);
      if (prefix !== undefined) blocks.set(cidr, prefix);
    };
    const [affinities, all] = await Promise.all([this.#store.affinities.list(), this.#store.blocks.list()]);
    for (const { spec } of affinities) if (spec.node === node && (spec.type ?? "host") === "host") note(spec.cidr);
    for (const { spec } of all) {
      const owner = parseOwner(spec.affinity);
      if (owner?.type === "host" && owner.name === node) note(spec.cidr);
    }
    for (const prefix of blocks.values()) {
      const options = { mustBeEmpty: false, abandonClaims: true };
      await releaseAffinity(this.#store, { type: "host", name: node }, prefix, options);
    }
  }

  /** Makes the record count what the blocks hold, if it is still the one that was suspect. */
  async #mendHandle({ handle, name, revision }: { handle: string; name: string; revision: string }): Promise<void> {
    const record = await this.#store.handles.find(name);
    if ((record?.metadata.resourceVersion ?? "") !== revision) return;
    const counts: Record<string, number> = {};
    for (const { spec } of await this.#store.blocks.list()) {
      const held = handleCounts(spec).get(handle);
      if (held !== undefined && isRecorded(record, spec.cidr, held)) counts[spec.cidr] = held.count;
    }
    if (record === undefined) {
      if (Object.keys(counts).length > 0) await this.#store.handles.create(this.#store.newHandle(handle, counts));
    } else if (!sameCounts(record.spec.block, counts)) await writeCounts(this.#store, record, counts);
  }
}
