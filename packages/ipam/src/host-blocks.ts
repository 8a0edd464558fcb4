/**
 * The blocks one owner has, remembered between assignments. A remembered block may be out of date; the compare-and-swap
 * of the next write finds out, and then it is read again. So an assignment usually costs writes only.
 */
import type { BlockAffinity, IPAMBlock } from "@calico-ts/model";
import { containsPrefix, formatPrefix, type Prefix, parsePrefix, tryParsePrefix } from "@calico-ts/net";
import { blockPrefix, handleOf, type HostReserved, hasFree, isEmpty, tryBlockPrefix } from "./allocator/block.ts";
import { sha256Hex } from "@calico-ts/std";
import { affinitySelector, cleanHandle, type Owner, ownerText, parseOwner } from "./allocator/names.ts";
import { type Pool, poolContaining, selectsNode } from "./allocator/pool.ts";
import { blockCount, walkBlocks } from "./allocator/block-walk.ts";
import { claimBlock, releaseAffinity, withoutCooled } from "./affinity-claims.ts";
import type { IpamSettings } from "./settings.ts";
import type { IpamStore } from "./store/ipam-store.ts";

/** A block of another host that was claimed less long ago may be about to be used. */
const RECLAIM_AGE_MS = 60_000;
/** Single reads before all blocks are listed: in a pool half full, eight misses in a row are one in 256. */
const PROBES = 8;

export class HostBlocks {
  readonly owner: Owner;
  readonly reserved: HostReserved | undefined;
  readonly #store: IpamStore;
  readonly #blocks = new Map<string, IPAMBlock>();
  #loaded = false;
  #loading: Promise<void> | undefined;

  constructor(store: IpamStore, owner: Owner, reserved?: HostReserved) {
    this.#store = store;
    this.owner = owner;
    this.reserved = reserved;
  }

  get loaded(): boolean {
    return this.#loaded;
  }

  /** Blocks of these pools. */
  inPools(pools: readonly Pool[]): IPAMBlock[] {
    const blocks = [...this.#blocks.values()];
    return pools.flatMap((pool) => blocks.filter((block) => isIn(block, pool)));
  }

  /** Remembered blocks in which the handle has addresses. */
  withHandle(handle: string): string[] {
    const name = cleanHandle(handle);
    return [...this.#blocks.values()].flatMap(({ spec }) =>
      spec.attributes.some((attribute) => handleOf(attribute) === name) ? [spec.cidr] : [],
    );
  }

  has(cidr: string): boolean {
    return this.#blocks.has(cidr);
  }

  find(cidr: string): IPAMBlock | undefined {
    return this.#blocks.get(cidr);
  }

  /** The block as it was just written or read: kept if it is ours. */
  note(block: IPAMBlock): void {
    if (block.spec.affinity === ownerText(this.owner)) this.#blocks.set(block.spec.cidr, block);
    else this.#blocks.delete(block.spec.cidr);
  }

  forget(cidr: string): void {
    this.#blocks.delete(cidr);
  }

  /** Reads a block again; undefined when it is gone. */
  async refresh(cidr: string): Promise<IPAMBlock | undefined> {
    const block = await this.#store.findBlock(parsePrefix(cidr));
    if (block === undefined) this.forget(cidr);
    else this.note(block);
    return block;
  }

  /** Reads again what we remember. */
  async refreshAll(): Promise<void> {
    await Promise.all([...this.#blocks.keys()].map((cidr) => this.refresh(cidr)));
  }

  /**
   * Reads which blocks we own, completes claims that were interrupted, and gives back empty blocks of pools that no
   * longer select this node.
   */
  load(settings: IpamSettings): Promise<void> {
    this.#loading ??= this.#load(settings).finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #load(settings: IpamSettings): Promise<void> {
    const affinities = await this.#affinities();
    const found = await Promise.all(affinities.map((affinity) => this.#resume(affinity, settings)));
    this.#blocks.clear();
    for (const block of found) if (block !== undefined) this.note(block);
    this.#loaded = true;
  }

  async #affinities(): Promise<BlockAffinity[]> {
    const all = await this.#store.affinities.list(affinitySelector(this.owner));
    return all.filter(({ spec }) => spec.node === this.owner.name && (spec.type ?? "host") === this.owner.type);
  }

  get hasEmpty(): boolean {
    return [...this.#blocks.values()].some(({ spec }) => isEmpty(spec));
  }

  /** Gives back what is empty and of no use to this node any more: its pool is gone, disabled, or selects other nodes. */
  async giveBackUnselected(settings: IpamSettings): Promise<void> {
    for (const { spec } of this.#blocks.values()) {
      const prefix = blockPrefix(spec);
      if (isSelected(prefix, settings) || !isEmpty(spec)) continue;
      const options = { mustBeEmpty: true, abandonClaims: true };
      if ((await releaseAffinity(this.#store, this.owner, prefix, options)) === "not-empty")
        await this.refresh(spec.cidr);
      else this.forget(spec.cidr);
    }
  }

  async #resume(affinity: BlockAffinity, settings: IpamSettings): Promise<IPAMBlock | undefined> {
    const prefix = tryParsePrefix(affinity.spec.cidr);
    if (prefix === undefined) return undefined;
    const block = await this.#store.findBlock(prefix);
    const owned = block?.spec.affinity === ownerText(this.owner);
    if (!isSelected(prefix, settings)) {
      if (block === undefined || !owned || isEmpty(block.spec)) {
        await releaseAffinity(this.#store, this.owner, prefix, { mustBeEmpty: true, abandonClaims: true });
        return undefined;
      }
      return block;
    }
    if (owned && affinity.spec.state === "confirmed") return block;
    const claim = await claimBlock(this.#store, this.owner, prefix, this.reserved);
    return claim.kind === "claimed" ? claim.block : undefined;
  }

  /** Claims one more block of these pools: one that is nobody's, else one that another node does not use; undefined when there is none. */
  async claimAny(pools: readonly Pool[], settings: IpamSettings): Promise<IPAMBlock | undefined> {
    for (const pool of pools) {
      const block = await this.#claimFree(pool, settings);
      if (block !== undefined) return block;
    }
    for (const pool of pools) {
      const block = await this.#reclaim(pool, settings);
      if (block !== undefined) return block;
    }
    return undefined;
  }

  async #claimFree(pool: Pool, settings: IpamSettings): Promise<IPAMBlock | undefined> {
    let known: Set<string> | undefined;
    let probes = 0;
    for (const prefix of walkBlocks(pool, ownerText(this.owner))) {
      const cidr = formatPrefix(prefix);
      if (this.has(cidr) || settings.reservations.coversAll(prefix)) continue;
      if (known === undefined && probes === PROBES && blockCount(pool) > PROBES) {
        known = new Set((await this.#store.blocks.list()).map((block) => block.spec.cidr));
      }
      if (known?.has(cidr) === true) continue;
      probes++;
      if ((await this.#store.findBlock(prefix)) !== undefined) continue;
      const block = await this.claim(prefix);
      if (block !== undefined) return block;
    }
    return undefined;
  }

  /** Blocks of others in these pools that have addresses to lend, in an order of our own. */
  async lenders(pools: readonly Pool[], settings: IpamSettings): Promise<IPAMBlock[]> {
    const cooldown = { nowMs: this.#store.clock.now(), seconds: settings.config.cooldownSeconds };
    const all = await this.#store.blocks.list();
    const lenders = pools.flatMap((pool) => all.filter((block) => isIn(block, pool) && !this.has(block.spec.cidr)));
    const free = lenders.filter((block) =>
      hasFree(withoutCooled(block, cooldown).spec, settings.reservations.reserved),
    );
    // Hosts that borrow at the same time should not all start with the same block.
    const hash = Number(`0x${sha256Hex(ownerText(this.owner)).slice(0, 8)}`);
    const offset = free.length === 0 ? 0 : hash % free.length;
    return [...free.slice(offset), ...free.slice(0, offset)];
  }

  /** undefined when somebody else has it. */
  async claim(prefix: Prefix): Promise<IPAMBlock | undefined> {
    const claim = await claimBlock(this.#store, this.owner, prefix, this.reserved);
    if (claim.kind !== "claimed") return undefined;
    this.note(claim.block);
    return claim.block;
  }

  /** When a pool has no block left: one that another host owns and does not use. */
  async #reclaim(pool: Pool, settings: IpamSettings): Promise<IPAMBlock | undefined> {
    const now = this.#store.clock.now();
    const cooldown = { nowMs: now, seconds: settings.config.cooldownSeconds };
    for (const block of await this.#store.blocks.list()) {
      const owner = parseOwner(block.spec.affinity);
      if (!isIn(block, pool) || this.has(block.spec.cidr) || owner?.type !== "host") continue;
      const since = Date.parse(block.spec.affinityClaimTime ?? "");
      if (!Number.isNaN(since) && now - since < RECLAIM_AGE_MS) continue;
      const prefix = blockPrefix(block.spec);
      if (settings.reservations.coversAll(prefix)) continue;
      if (!(await this.#isUnused(block, cooldown))) continue;
      if ((await releaseAffinity(this.#store, owner, prefix, { mustBeEmpty: true })) !== "released") continue;
      const claimed = await this.claim(prefix);
      if (claimed !== undefined) return claimed;
    }
    return undefined;
  }

  /** Also writes down that its addresses have cooled down, if that is all that keeps it from being empty. */
  async #isUnused(block: IPAMBlock, cooldown: { nowMs: number; seconds: number }): Promise<boolean> {
    if (isEmpty(block.spec)) return true;
    const collected = withoutCooled(block, cooldown);
    return isEmpty(collected.spec) && (await this.#store.blocks.update(collected)) !== undefined;
  }
}

function isSelected(block: Prefix, { nodeLabels, pools }: IpamSettings): boolean {
  const pool = poolContaining(pools, block);
  return pool?.enabled === true && selectsNode(pool, nodeLabels);
}

function isIn(block: IPAMBlock, pool: Pool): boolean {
  const prefix = tryBlockPrefix(block.spec);
  return prefix !== undefined && containsPrefix(pool.prefix, prefix);
}
