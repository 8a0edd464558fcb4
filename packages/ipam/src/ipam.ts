/**
 * IP address management. START HERE.
 *
 * Three kinds of record: a block (who uses each of its addresses), a handle (which blocks a holder has addresses in), and
 * an affinity (which node owns a block). What may happen to a block is pure and in allocator/; who owns one is decided in
 * affinity-claims.ts; an agent assigns through `HostAllocator` (host-allocator.ts → assign-batch.ts), which shares writes
 * between requests. This file is the door for everybody else: start-up, controllers, the command line.
 *
 * Every write is a compare-and-swap; all waiting goes through the client and the clock that were passed in.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { IPAMBlock } from "@calico-ts/model";
import {
  containsAddress,
  containsPrefix,
  type Family,
  formatPrefix,
  type IpAddress,
  type Prefix,
  formatAddress,
  prefixOf,
  sameAddress,
  tryParsePrefix,
} from "@calico-ts/net";
import { type Clock, systemClock } from "@calico-ts/runtime";
import { CalicoError, hasCode } from "@calico-ts/std";
import { attributeOf, type Attributes, handleOf, ordinalOf, sequenceOf } from "./allocator/block.ts";
import { describeOwner, matchesOwner, ownersOf } from "./allocator/machine.ts";
import { cleanHandle, hostOwner, type Owner } from "./allocator/names.ts";
import { type IntendedUse, type Labels, poolContaining, qualifyPools } from "./allocator/pool.ts";
import { walkBlocks } from "./allocator/block-walk.ts";
import { claimBlock, releaseAffinity, type ReleaseAffinityResult, upgradeAffinities } from "./affinity-claims.ts";
import { assignAddress, type AddressRequest } from "./assign-address.ts";
import type { AssignOutcome, AssignRequest } from "./assign-batch.ts";
import { HostAllocator } from "./host-allocator.ts";
import { HostBlocks } from "./host-blocks.ts";
import {
  type AddressRelease,
  addressesOf,
  blocksOf,
  noMemory,
  releaseAddresses,
  releaseHandles,
  type ReleaseReport,
} from "./release.ts";
import { configOf, DatastoreSettings, type IpamConfig, readConfig, readPools, readReservations } from "./settings.ts";
import { noQualifiedPool, poolExhausted } from "./shortfall.ts";
import { changeOwners, heldIn, type OwnedAddress, ownedIn, type OwnerRequest } from "./owner-changes.ts";
import { IpamStore, untilSwapped } from "./store/ipam-store.ts";
import { type BlockUtilization, type PoolUtilization, poolUtilization, strayBlocks } from "./utilization.ts";

export interface AddressFacts {
  readonly handle: string | undefined;
  /** The owner; empty for an address that waits for its virtual machine. */
  readonly attributes: Attributes;
  /** The pod a virtual machine is moving to. */
  readonly alternateOwner: Attributes | undefined;
  readonly sequenceNumber: number;
  /** Set while the address cools down. */
  readonly releasedAt: string | undefined;
  readonly block: string;
  readonly affinity: string | undefined;
}

export interface EnsureBlockRequest {
  readonly host: string;
  readonly family: Family;
  readonly pools: readonly string[];
  readonly use?: IntendedUse;
  readonly namespaceLabels?: Labels;
}

export class Ipam {
  readonly #client: DatastoreClient;
  readonly #clock: Clock;
  readonly #store: IpamStore;

  constructor(options: { readonly client: DatastoreClient; readonly clock?: Clock }) {
    this.#client = options.client;
    this.#clock = options.clock ?? systemClock;
    this.#store = new IpamStore(this.#client, this.#clock);
  }

  /** For a process that assigns now and then; one that does so all day keeps a `HostAllocator`. */
  async autoAssign(host: string | Owner, request: AssignRequest): Promise<AssignOutcome> {
    const owner = typeof host === "string" ? hostOwner(host) : host;
    const settings = this.#settings(owner);
    const allocator = new HostAllocator({
      client: this.#client,
      clock: this.#clock,
      host: owner,
      settings,
      records: "all",
    });
    const [outcome] = await allocator.assignMany([request]);
    if (outcome === undefined) throw new CalicoError("INTERNAL", "one request has one outcome");
    return outcome;
  }

  async assignAddress(request: AddressRequest): Promise<void> {
    const [config, pools] = await Promise.all([readConfig(this.#client), readPools(this.#client)]);
    await assignAddress({ store: this.#store, config, pools }, request);
  }

  async releaseAddresses(requests: readonly AddressRelease[]): Promise<ReleaseReport> {
    const [context, pools] = await Promise.all([this.#releaseContext(), readPools(this.#client)]);
    return releaseAddresses(context, requests, pools);
  }

  /** Looks into every block: a record does not name what the handle has in blocks of its own node. */
  async releaseByHandle(handle: string): Promise<IpAddress[]> {
    const context = await this.#releaseContext();
    const name = cleanHandle(handle);
    const holding = (await this.#store.blocks.list()).flatMap(({ spec }) =>
      spec.attributes.some((attribute) => handleOf(attribute) === name) ? [spec.cidr] : [],
    );
    const released = await releaseHandles({ ...context, memory: { ...noMemory, withHandle: () => holding } }, [handle]);
    return released.get(handle) ?? [];
  }

  /**
   * Releases what the handle holds and nobody owns. An address with an owner, active or alternate, stays; so does one that gets an owner at this moment.
   */
  async releaseUnowned(handle: string): Promise<ReleaseReport> {
    const addresses = await this.addressesOf(handle);
    return this.releaseAddresses(
      addresses.map((address) => ({ address, handle, condition: { active: null, alternate: null } })),
    );
  }

  /**
   * Changes who owns an address that stays assigned; nothing is changed unless the condition holds. False when the owners were as wanted already.
   * @throws CalicoError NOT_FOUND when nobody has the address; CONFLICT when another handle holds it or the condition does not hold
   */
  changeOwners(request: OwnerRequest): Promise<boolean> {
    return changeOwners(this.#store, () => this.#blockOf(request.address), request);
  }

  /**
   * A live migration is over: the pod with these attributes, so far the alternate owner, becomes the active one, and the one before it the alternate.
   * Addresses that it owns already are left alone, so this can be repeated. False when the handle holds nothing.
   * @throws CalicoError CONFLICT when that pod is neither owner: it was deleted, or another migration has begun
   */
  async promoteOwner(handle: string, pod: Attributes): Promise<boolean> {
    const held = heldIn(specsOf(await blocksOf(this.#store, handle)), handle);
    for (const { address } of held) {
      await untilSwapped(`owners of ${handle}`, async () => {
        const block = await this.#blockOf(address);
        const now = (block === undefined ? [] : heldIn([block.spec], handle)).find((one) =>
          sameAddress(one.address, address),
        );
        if (now === undefined || matchesOwner(now.active, pod)) return { done: undefined };
        const { active = null, alternate } = now;
        if (alternate === undefined || !matchesOwner(alternate, pod)) {
          const message = `${describeOwner(pod)} cannot take ${formatAddress(address)} over: its alternate owner is ${describeOwner(alternate)}`;
          throw new CalicoError("CONFLICT", message, { detail: { address: formatAddress(address) } });
        }
        const request = {
          address,
          handle,
          change: { active: alternate, alternate: active },
          condition: { active, alternate },
        };
        return (await this.#tryChange(request)) ? { done: undefined } : undefined;
      });
    }
    return held.length > 0;
  }

  async #tryChange(request: OwnerRequest): Promise<boolean> {
    try {
      await this.changeOwners(request);
      return true;
    } catch (error) {
      if (hasCode(error, "CONFLICT") || hasCode(error, "NOT_FOUND")) return false;
      throw error;
    }
  }

  /** Addresses with an owner, active or alternate, that has these attributes. Looks into every block. */
  async ownedBy(owner: Attributes): Promise<OwnedAddress[]> {
    return ownedIn(specsOf(await this.#store.blocks.list()), owner);
  }

  /** What a handle holds by its record, with the owners. */
  async heldBy(handle: string): Promise<OwnedAddress[]> {
    return heldIn(specsOf(await blocksOf(this.#store, handle)), handle);
  }

  /** By the handle's record: what a node's agent assigned in its own blocks has none, and only that agent finds it. */
  addressesOf(handle: string): Promise<IpAddress[]> {
    return addressesOf(this.#store, handle);
  }

  /** Who has an address; undefined when it is free or in no block. */
  async factsOf(address: IpAddress): Promise<AddressFacts | undefined> {
    const block = await this.#blockOf(address);
    const prefix = block === undefined ? undefined : tryParsePrefix(block.spec.cidr);
    const ordinal = prefix === undefined ? undefined : ordinalOf(prefix, address);
    const attribute = block === undefined || ordinal === undefined ? undefined : attributeOf(block.spec, ordinal);
    if (block === undefined || ordinal === undefined || attribute === undefined) return undefined;
    return {
      handle: handleOf(attribute),
      attributes: attribute.secondary ?? {},
      alternateOwner: ownersOf(attribute).alternate,
      sequenceNumber: sequenceOf(block.spec, ordinal),
      releasedAt: attribute.releasedAt,
      block: block.spec.cidr,
      affinity: block.spec.affinity,
    };
  }

  /** Makes the host own every block of the range, as far as others do not. */
  async claimAffinity(range: Prefix, host: string): Promise<{ readonly claimed: Prefix[]; readonly failed: Prefix[] }> {
    const pools = (await readPools(this.#client)).filter((pool) => pool.enabled);
    const pool = pools.find((candidate) => containsPrefix(candidate.prefix, range));
    if (pool === undefined) {
      throw new CalicoError("ADDRESS_OUTSIDE_POOLS", `${formatPrefix(range)} is in no enabled pool`);
    }
    if (range.length > pool.blockLength) {
      const message = `${formatPrefix(range)} is smaller than a block of pool ${pool.name} (/${pool.blockLength})`;
      throw new CalicoError("BAD_INPUT", message);
    }
    const claimed: Prefix[] = [];
    const failed: Prefix[] = [];
    for (const prefix of walkBlocks({ ...pool, prefix: range }, host)) {
      const { kind } = await claimBlock(this.#store, hostOwner(host), prefix);
      (kind === "claimed" ? claimed : failed).push(prefix);
    }
    return { claimed, failed };
  }

  /** A block of the host that has a free address, claimed if need be. */
  async ensureBlock(request: EnsureBlockRequest): Promise<Prefix> {
    const { family, pools: wanted, use = "Workload", namespaceLabels } = request;
    const owner = hostOwner(request.host);
    const settings = await this.#settings(owner).read(true);
    const { nodeLabels, pools, reservations } = settings;
    const qualification = qualifyPools({ family, use, pools: wanted, nodeLabels, namespaceLabels }, pools);
    if (qualification.qualified.length === 0) throw noQualifiedPool({ family, owner, use }, qualification);
    const blocks = new HostBlocks(this.#store, owner);
    await blocks.load(settings);
    for (const block of blocks.inPools(qualification.qualified)) {
      const prefix = tryParsePrefix(block.spec.cidr);
      if (prefix !== undefined && !reservations.coversAll(prefix) && block.spec.unallocated.length > 0) return prefix;
    }
    const block = await blocks.claimAny(qualification.qualified, settings);
    const prefix = block === undefined ? undefined : tryParsePrefix(block.spec.cidr);
    if (prefix !== undefined) return prefix;
    const names = qualification.qualified.map((pool) => pool.name);
    throw poolExhausted({
      family,
      owner,
      wanted: 1,
      got: 0,
      pools: names,
      limits: [{ kind: "pools-full", pools: names }],
    });
  }

  releaseAffinity(
    block: Prefix,
    host: string,
    options: { readonly mustBeEmpty: boolean },
  ): Promise<ReleaseAffinityResult> {
    return releaseAffinity(this.#store, hostOwner(host), block, options);
  }

  /** Every block the host owns; with `mustBeEmpty` those in use stay, and are returned. */
  async releaseHostAffinities(host: string, options: { readonly mustBeEmpty: boolean }): Promise<Prefix[]> {
    return this.#releaseWhere(options, (owner) => owner.type === "host" && owner.name === host);
  }

  async releasePoolAffinities(pool: Prefix): Promise<Prefix[]> {
    return this.#releaseWhere({ mustBeEmpty: false }, (_owner, block) => containsPrefix(pool, block));
  }

  /** The host is gone for good: its blocks are nobody's, also those it was about to claim. */
  async removeHost(host: string): Promise<void> {
    await this.releaseHostAffinities(host, { mustBeEmpty: false });
  }

  async utilization(poolNames: readonly string[] = []): Promise<PoolUtilization[]> {
    const { blocks, context, pools } = await this.#utilizationFacts();
    return pools
      .filter(
        (pool) =>
          poolNames.length === 0 || poolNames.includes(pool.name) || poolNames.includes(formatPrefix(pool.prefix)),
      )
      .map((pool) => poolUtilization(pool, blocks, context));
  }

  /** Blocks that lie in no pool. */
  async strayBlocks(): Promise<BlockUtilization[]> {
    const { blocks, context, pools } = await this.#utilizationFacts();
    return strayBlocks(pools, blocks, context);
  }

  async #utilizationFacts() {
    const [pools, blocks, reservations, config] = await Promise.all([
      readPools(this.#client),
      this.#store.blocks.list(),
      readReservations(this.#client),
      readConfig(this.#client),
    ]);
    return {
      pools,
      blocks,
      context: { reservations, nowMs: this.#clock.now(), cooldownSeconds: config.cooldownSeconds },
    };
  }

  config(): Promise<IpamConfig> {
    return readConfig(this.#client);
  }

  /** @throws CalicoError BAD_INPUT for a combination that makes no sense */
  async setConfig(config: IpamConfig): Promise<void> {
    const spec = {
      strictAffinity: config.strictAffinity,
      autoAllocateBlocks: config.autoAllocateBlocks,
      maxBlocksPerHost: config.maxBlocksPerHost,
      ipCooldownSeconds: config.cooldownSeconds,
      kubeVirtVMAddressPersistence: config.machinesKeepAddresses ? ("Enabled" as const) : ("Disabled" as const),
    };
    const fresh = {
      apiVersion: "projectcalico.org/v3" as const,
      kind: "IPAMConfiguration" as const,
      metadata: { name: "default" },
      spec,
    };
    configOf(fresh);
    try {
      const existing = await this.#client.get("IPAMConfiguration", { name: "default" });
      await this.#client.update("IPAMConfiguration", { ...existing, spec: { ...existing.spec, ...spec } });
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND")) throw error;
      await this.#client.create("IPAMConfiguration", fresh);
    }
  }

  /** Puts the labels that host lookups need on affinities written before there were labels. calico-node does so when it starts. */
  upgradeHost(host: string): Promise<void> {
    return upgradeAffinities(this.#store, host);
  }

  async #releaseWhere(
    options: { readonly mustBeEmpty: boolean },
    concerns: (owner: Owner, block: Prefix) => boolean,
  ): Promise<Prefix[]> {
    const kept: Prefix[] = [];
    for (const { spec } of await this.#store.affinities.list()) {
      const prefix = tryParsePrefix(spec.cidr);
      const owner: Owner = { type: spec.type === "virtual" ? "virtual" : "host", name: spec.node };
      if (prefix === undefined || !concerns(owner, prefix)) continue;
      const abandonClaims = !options.mustBeEmpty;
      const result = await releaseAffinity(this.#store, owner, prefix, { ...options, abandonClaims });
      if (result === "not-empty") kept.push(prefix);
    }
    return kept;
  }

  async #blockOf(address: IpAddress): Promise<IPAMBlock | undefined> {
    const pool = poolContaining(await readPools(this.#client), address);
    const prefix = pool === undefined ? undefined : prefixOf(address, pool.blockLength);
    const direct = prefix === undefined ? undefined : await this.#store.findBlock(prefix);
    if (direct !== undefined) return direct;
    return (await this.#store.blocks.list()).find(({ spec }) => {
      const candidate = tryParsePrefix(spec.cidr);
      return candidate !== undefined && containsAddress(candidate, address);
    });
  }

  async #releaseContext() {
    const { cooldownSeconds } = await readConfig(this.#client);
    return { store: this.#store, memory: noMemory, cooldownSeconds };
  }

  #settings(owner: Owner): DatastoreSettings {
    return new DatastoreSettings({ client: this.#client, clock: this.#clock, owner, maxAgeMs: 0 });
  }
}

const specsOf = (blocks: readonly IPAMBlock[]): IPAMBlock["spec"][] => blocks.map(({ spec }) => spec);
