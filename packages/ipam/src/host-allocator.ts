/**
 * Addresses for one owner, usually a node: group commit. Requests that arrive while writes are under way wait for them
 * and are then done together: a hundred pods starting at once cost a few writes of the block, not a hundred.
 *
 * One batch at a time: releases first, then assignments. A release of a handle that is being assigned in the same batch
 * waits for the next one, so operations on a handle take effect in the order they were asked for.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import { formatAddress, type IpAddress } from "@calico-ts/net";
import { cancelled, type Clock, type Logger, silentLogger, systemClock, throwIfAborted } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { type Attributes, handleOf, type HostReserved } from "./allocator/block.ts";
import { hostOwner, type Owner, ownerText } from "./allocator/names.ts";
import type { IntendedUse, Labels } from "./allocator/pool.ts";
import {
  AssignBatch,
  type Assigned,
  type AssignOutcome,
  type AssignRequest,
  type HandleRecords,
} from "./assign-batch.ts";
import { HostBlocks } from "./host-blocks.ts";
import { addressesOf, releaseAddresses, type ReleaseContext, releaseHandles } from "./release.ts";
import { DatastoreSettings, type SettingsSource } from "./settings.ts";
import { IpamStore } from "./store/ipam-store.ts";

export interface HostAllocatorOptions {
  readonly client: DatastoreClient;
  /** The node's name, or an owner that is no node. */
  readonly host: string | Owner;
  readonly clock?: Clock;
  readonly log?: Logger;
  /** Where configuration, pools and labels come from; absent: read from the datastore and remembered for a few seconds. */
  readonly settings?: SettingsSource;
  /** Absent: `borrowed`. A handle that somebody besides this owner will release needs `all`. */
  readonly records?: HandleRecords;
  /** What the host keeps of each block it claims. It needs strictAffinity then. */
  readonly reserved?: HostReserved;
}

/** One address of each family wanted, or none at all. */
export interface EndpointRequest {
  readonly handle: string;
  readonly attributes: Attributes;
  readonly want4: boolean;
  readonly want6: boolean;
  /** Names or CIDRs; empty or absent: any pool that selects. */
  readonly pools4?: readonly string[];
  readonly pools6?: readonly string[];
  readonly use?: IntendedUse;
  readonly namespaceLabels?: Labels | undefined;
  /** Of each family, whichever node assigned it: what the handle has is given again. Absent: no limit. */
  readonly maxPerHandle?: number | undefined;
  /** An answer that comes after the abort is not given out: its addresses go back. */
  readonly signal?: AbortSignal | undefined;
}

const SETTINGS_MAX_AGE_MS = 5000;

interface QueuedAssign {
  readonly kind: "assign";
  readonly requests: readonly AssignRequest[];
  readonly result: PromiseWithResolvers<AssignOutcome[]>;
}

interface QueuedRelease {
  readonly kind: "release";
  readonly handle: string;
  readonly result: PromiseWithResolvers<IpAddress[]>;
}

export class HostAllocator {
  readonly #store: IpamStore;
  readonly #blocks: HostBlocks;
  readonly #settings: SettingsSource;
  readonly #log: Logger;
  readonly #records: HandleRecords;
  #queue: (QueuedAssign | QueuedRelease)[] = [];
  #pumping = false;

  constructor(options: HostAllocatorOptions) {
    const { client, clock = systemClock, host, log = silentLogger } = options;
    const owner = typeof host === "string" ? hostOwner(host) : host;
    this.#store = new IpamStore(client, clock);
    this.#blocks = new HostBlocks(this.#store, owner, options.reserved);
    this.#settings = options.settings ?? new DatastoreSettings({ client, clock, owner, maxAgeMs: SETTINGS_MAX_AGE_MS });
    this.#log = log;
    this.#records = options.records ?? "borrowed";
  }

  /**
   * Addresses for an endpoint. When one family fails the other is given back.
   * @throws CalicoError POOL_EXHAUSTED, NO_QUALIFIED_POOL, CANCELLED, or what the datastore said
   */
  async assign(request: EndpointRequest): Promise<Assigned[]> {
    const { handle, attributes, maxPerHandle, use = "Workload", namespaceLabels, signal } = request;
    throwIfAborted(signal);
    const common = { count: 1, handle, attributes, use, namespaceLabels, maxPerHandle };
    const outcomes = await this.assignMany([
      ...(request.want4 ? [{ ...common, family: 4 as const, pools: request.pools4 ?? [] }] : []),
      ...(request.want6 ? [{ ...common, family: 6 as const, pools: request.pools6 ?? [] }] : []),
    ]);
    const error =
      signal?.aborted === true ? cancelled(signal) : outcomes.find((outcome) => outcome.error !== undefined)?.error;
    if (error === undefined) return outcomes.flatMap(({ assigned }) => assigned);
    const assigned = outcomes.flatMap((outcome) => outcome.assigned);
    if (assigned.every(({ hadBefore }) => hadBefore !== true)) {
      if (assigned.length > 0) await this.release(handle);
    } else await this.#giveBack(handle, assigned);
    throw error;
  }

  /** Only what the handle did not have before. */
  async #giveBack(handle: string, assigned: readonly Assigned[]): Promise<void> {
    const { config, pools } = await this.#settings.read();
    const context = { store: this.#store, memory: this.#blocks, cooldownSeconds: config.cooldownSeconds };
    const fresh = assigned.filter(({ hadBefore }) => hadBefore !== true).map(({ address }) => ({ address, handle }));
    await releaseAddresses(context, fresh, pools);
  }

  /** Each request gets what could be had; a request that got less than it asked for says why. */
  assignMany(requests: readonly AssignRequest[]): Promise<AssignOutcome[]> {
    const bad = requests.find(({ count, handle }) => !Number.isSafeInteger(count) || count < 0 || handle === "");
    if (bad !== undefined) {
      throw new CalicoError("BAD_INPUT", `an assignment needs a handle and a count: "${bad.handle}", ${bad.count}`);
    }
    const result = Promise.withResolvers<AssignOutcome[]>();
    this.#enqueue({ kind: "assign", requests, result });
    return result.promise;
  }

  /** Gives back everything the handle holds, in any block. A handle nobody knows holds nothing. */
  release(handle: string): Promise<IpAddress[]> {
    const result = Promise.withResolvers<IpAddress[]>();
    this.#enqueue({ kind: "release", handle, result });
    return result.promise;
  }

  async addressesOf(handle: string): Promise<IpAddress[]> {
    await this.#loadBlocks();
    return addressesOf(this.#store, handle, this.#blocks);
  }

  /** Handles of addresses in use on this host, borrowed ones included, that begin with the prefix. */
  async handles(prefix = ""): Promise<string[]> {
    const { name } = this.#blocks.owner;
    const found = new Set<string>();
    for (const { spec } of await this.#store.blocks.list()) {
      const ours = spec.affinity === ownerText(this.#blocks.owner);
      for (const attribute of spec.attributes) {
        const handle = handleOf(attribute);
        const node = attribute.secondary?.["node"];
        if (handle?.startsWith(prefix) === true && (node === undefined ? ours : node === name)) found.add(handle);
      }
    }
    return [...found];
  }

  #enqueue(item: QueuedAssign | QueuedRelease): void {
    this.#queue.push(item);
    if (!this.#pumping) void this.#pump();
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    try {
      while (this.#queue.length > 0) {
        await this.#prepare();
        const { releases, assigns, later } = splitBatch(this.#queue);
        this.#queue = later;
        if (releases.length > 0) await this.#runReleases(releases);
        if (assigns.length > 0) await this.#runAssigns(assigns);
        await this.#giveBackUnselected();
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** What every batch begins with is read before the batch is cut, so that whoever asks meanwhile is in it. */
  async #prepare(): Promise<void> {
    // A failure is told by the batch itself, which reads again.
    await this.#loadBlocks().catch(() => undefined);
    await this.#settings.read().catch(() => undefined);
  }

  async #giveBackUnselected(): Promise<void> {
    try {
      if (this.#blocks.hasEmpty) await this.#blocks.giveBackUnselected(await this.#settings.read());
    } catch (error) {
      // The next batch tries again.
      this.#log.debug("ipam.not_given_back", { error });
    }
  }

  async #runReleases(items: readonly QueuedRelease[]): Promise<void> {
    try {
      const { config } = await this.#settings.read();
      await this.#loadBlocks();
      const context = { store: this.#store, memory: this.#blocks, cooldownSeconds: config.cooldownSeconds };
      const released = await releaseHandles(
        context,
        items.map(({ handle }) => handle),
      );
      await this.#searchAgain(context, released);
      for (const { handle, result } of items) {
        const addresses = released.get(handle) ?? [];
        this.#log.debug("ipam.released", { handle, addresses: addresses.map(formatAddress) });
        result.resolve(addresses);
      }
    } catch (error) {
      for (const { result } of items) result.reject(error);
    }
  }

  /** Without them an address that has no handle record would not be found. */
  async #loadBlocks(): Promise<void> {
    if (!this.#blocks.loaded) await this.#blocks.load(await this.#settings.read());
  }

  /**
   * A handle of which neither record nor memory knows anything: a process that ran here before us may have written its
   * address after we read the blocks.
   */
  async #searchAgain(context: ReleaseContext, released: Map<string, IpAddress[]>): Promise<void> {
    const unknown = [...released].flatMap(([handle, addresses]) => (addresses.length === 0 ? [handle] : []));
    if (unknown.length === 0) return;
    await this.#blocks.refreshAll();
    const found = unknown.filter((handle) => this.#blocks.withHandle(handle).length > 0);
    if (found.length === 0) return;
    for (const [handle, addresses] of await releaseHandles(context, found)) released.set(handle, addresses);
  }

  async #runAssigns(items: readonly QueuedAssign[]): Promise<void> {
    const context = { store: this.#store, blocks: this.#blocks, settings: this.#settings, records: this.#records };
    try {
      const outcomes = await new AssignBatch(
        context,
        items.flatMap(({ requests }) => requests),
      ).run();
      let at = 0;
      for (const { requests, result } of items) {
        const own = outcomes.slice(at, at + requests.length);
        at += requests.length;
        for (const { assigned, error } of own) {
          const addresses = assigned.map(({ address }) => formatAddress(address));
          this.#log.debug("ipam.assigned", {
            handle: requests[0]?.handle,
            addresses,
            ...(error === undefined ? {} : { error }),
          });
        }
        result.resolve(own);
      }
    } catch (error) {
      for (const { result } of items) result.reject(error);
    }
  }
}

/** Releases of handles that are assigned before them in the queue wait for the next batch. */
function splitBatch(queue: readonly (QueuedAssign | QueuedRelease)[]): {
  readonly releases: QueuedRelease[];
  readonly assigns: QueuedAssign[];
  readonly later: (QueuedAssign | QueuedRelease)[];
} {
  const releases: QueuedRelease[] = [];
  const assigns: QueuedAssign[] = [];
  const later: (QueuedAssign | QueuedRelease)[] = [];
  /** Handles that this batch assigns, and handles that something put off is about. */
  const assigning = new Set<string>();
  const waiting = new Set<string>();
  for (const item of queue) {
    if (item.kind === "assign") {
      const held = item.requests.some(({ handle }) => waiting.has(handle));
      (held ? later : assigns).push(item);
      for (const { handle } of item.requests) (held ? waiting : assigning).add(handle);
    } else if (assigning.has(item.handle) || waiting.has(item.handle)) {
      later.push(item);
      waiting.add(item.handle);
    } else releases.push(item);
  }
  return { releases, assigns, later };
}
