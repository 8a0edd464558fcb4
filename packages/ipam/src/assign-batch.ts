/**
 * Assigns addresses to many holders at once, with as few writes as there are blocks (and one per holder that needs a
 * handle record: see `HandleRecords`).
 *
 * It goes in rounds: plan on drafts of the blocks we remember; if they do not suffice, get more (claim, else borrow) and
 * plan again; raise the holders' counts; write the blocks. A block that others changed meanwhile is read again, and what
 * was planned in it is planned anew in the next round. Counts that were raised stay raised until the end, so a repeated
 * round writes no handle twice; what is left over is lowered when all is done.
 *
 * A write whose answer was lost may or may not have happened. The block is read again to find out. Where even that fails
 * the holder's count stays high: a release by handle will find the address if there is one.
 */
import type { IPAMBlock } from "@calico-ts/model";
import { containsPrefix, type Family, type IpAddress, type Prefix, sameAddress } from "@calico-ts/net";
import { CalicoError, type ErrorCode, hasCode } from "@calico-ts/std";
import { attributeOf, type Attributes, blockPrefix, handleOf, isFoundByOwner, ordinalOf } from "./allocator/block.ts";
import { BlockDraft } from "./allocator/block-draft.ts";
import { type IntendedUse, type Labels, type Pool, qualifyPools } from "./allocator/pool.ts";
import type { HostBlocks } from "./host-blocks.ts";
import { heldIn } from "./owner-changes.ts";
import { blocksOf } from "./release.ts";
import { DEFAULT_MAX_BLOCKS, type IpamSettings, type SettingsSource } from "./settings.ts";
import { type Limit, noQualifiedPool, poolExhausted } from "./shortfall.ts";
import { lowerHandle, raiseHandle, readVersion, type RecordVersion, settleHandle } from "./store/handle-counts.ts";
import { type IpamStore, MAX_SWAPS, withBlock } from "./store/ipam-store.ts";

export interface AssignRequest {
  readonly family: Family;
  readonly count: number;
  readonly handle: string;
  readonly attributes: Attributes;
  readonly use: IntendedUse;
  readonly pools: readonly string[];
  readonly namespaceLabels?: Labels | undefined;
  /** A limit besides the configured one; the smaller holds. 0 or absent: none. */
  readonly maxBlocks?: number | undefined;
  /**
   * The handle never has more addresses of the family than this: what it has already is given again in place of new ones, whichever node it is from. The
   * handle's record keeps the count, so it always has one. Absent: no limit.
   */
  readonly maxPerHandle?: number | undefined;
}

export interface Assigned {
  readonly address: IpAddress;
  /** The block it is from: its length is the prefix length upstream reports. */
  readonly block: Prefix;
  readonly cidr: string;
  /** The handle had it before (`maxPerHandle`). */
  readonly hadBefore?: true;
}

/** Everything that was found, and why it is not more. */
export interface AssignOutcome {
  readonly assigned: readonly Assigned[];
  readonly error: CalicoError | undefined;
}

/**
 * Which holders get a handle record. `all`: every one, as upstream writes them. `borrowed`: those that would not be found
 * otherwise; a holder whose node owns the block is found by that node among its own blocks, and by garbage collection in
 * any case, so that its record would only cost two writes per pod.
 */
export type HandleRecords = "all" | "borrowed";

interface Work {
  readonly request: AssignRequest;
  readonly assigned: Assigned[];
  /** Addresses by which the handle's count was raised, by block. */
  readonly raised: Map<string, number>;
  /** Blocks in which a write may have happened that we did not see. */
  readonly unsure: Set<string>;
  pools: readonly Pool[];
  /** How many addresses the drafts of this round hold for it. */
  planned: number;
  /** Set when nothing more can be had, and why. */
  limits: readonly Limit[] | undefined;
  error: unknown;
}

interface Draft {
  readonly resource: IPAMBlock;
  readonly draft: BlockDraft;
  readonly plans: Map<Work, IpAddress[]>;
}

export class AssignBatch {
  readonly #store: IpamStore;
  readonly #blocks: HostBlocks;
  readonly #source: SettingsSource;
  readonly #records: HandleRecords;
  readonly #works: readonly Work[];
  #settings: IpamSettings | undefined;
  #settingsAreFresh = false;
  #reloaded = false;
  /** Blocks of others to take from in this batch. */
  #lenders: IPAMBlock[] = [];
  /** Records of handles as they were when they last counted what we had raised. */
  readonly #versions = new Map<string, RecordVersion>();
  /** Handles that had something planned in a block which has become another one: their records may have been settled. */
  readonly #doubtful = new Set<string>();

  constructor(
    context: {
      readonly store: IpamStore;
      readonly blocks: HostBlocks;
      readonly settings: SettingsSource;
      readonly records: HandleRecords;
    },
    requests: readonly AssignRequest[],
  ) {
    this.#store = context.store;
    this.#blocks = context.blocks;
    this.#source = context.settings;
    this.#records = context.records;
    this.#works = requests.map((request) => ({
      request,
      assigned: [],
      raised: new Map(),
      unsure: new Set(),
      pools: [],
      planned: 0,
      limits: undefined,
      error: undefined,
    }));
  }

  async run(): Promise<AssignOutcome[]> {
    try {
      await this.#useSettings(false);
      if (!this.#blocks.loaded) {
        await this.#blocks.load(this.#current);
        this.#reloaded = true;
      }
      for (const work of this.#works) if (work.request.maxPerHandle !== undefined) await this.#takeHeld(work);
      for (let round = 0; this.#open.length > 0; round++) {
        if (round === MAX_SWAPS) {
          this.#failAll(
            new CalicoError("CONFLICT", `others changed the blocks ${MAX_SWAPS} times in a row; try again`),
          );
        } else await this.#round();
      }
    } catch (error) {
      this.#failAll(error);
    }
    await this.#lowerLeftOvers();
    return this.#works.map((work) => ({ assigned: work.assigned, error: this.#verdict(work) }));
  }

  /** What a handle with a limit has already, as far as it may not have more. */
  async #takeHeld(work: Work): Promise<void> {
    const { count, family, handle, maxPerHandle = count } = work.request;
    const blocks = await blocksOf(this.#store, handle, this.#blocks);
    const ours = work.assigned.filter(({ hadBefore }) => hadBefore !== true);
    const held = blocks
      .filter(({ spec }) => blockPrefix(spec).family === family)
      .flatMap(({ spec }) =>
        heldIn([spec], handle).map(({ address }) => ({ address, block: blockPrefix(spec), cidr: spec.cidr })),
      )
      .filter(({ address }) => !ours.some((one) => sameAddress(one.address, address)));
    const wanted = count - ours.length;
    const fresh = Math.max(0, Math.min(wanted, maxPerHandle - ours.length - held.length));
    work.assigned.splice(0, Infinity, ...ours);
    work.assigned.push(...held.slice(0, wanted - fresh).map((one) => ({ ...one, hadBefore: true }) as const));
  }

  #verdict(work: Work): CalicoError | undefined {
    if (work.error !== undefined) return asCalicoError(work.error);
    if (work.limits === undefined || missing(work) === 0) return undefined;
    const { family, count } = work.request;
    const pools = work.pools.map((pool) => pool.name);
    const { owner } = this.#blocks;
    return poolExhausted({ family, owner, wanted: count, got: work.assigned.length, pools, limits: work.limits });
  }

  get #open(): Work[] {
    return this.#works.filter((work) => work.error === undefined && work.limits === undefined && missing(work) > 0);
  }

  get #current(): IpamSettings {
    if (this.#settings === undefined) throw new CalicoError("INTERNAL", "settings are read before they are used");
    return this.#settings;
  }

  async #useSettings(fresh: boolean): Promise<void> {
    this.#settings = await this.#source.read(fresh);
    this.#settingsAreFresh = fresh;
    if (this.#blocks.reserved !== undefined && !this.#settings.config.strictAffinity) {
      if (!fresh) return this.#useSettings(true);
      throw new CalicoError(
        "BAD_INPUT",
        `${this.#blocks.owner.name} keeps addresses of its blocks (Windows) and must not borrow from others: set strictAffinity to true (calicoctl ipam configure --strictaffinity=true)`,
      );
    }
    let refused = false;
    for (const work of this.#open) refused = !this.#qualify(work) || refused;
    // A refusal is given on what holds now, not on what was remembered.
    if (refused && !fresh) {
      for (const work of this.#works) work.error = undefined;
      await this.#useSettings(true);
    }
  }

  #qualify(work: Work): boolean {
    const { family, use, pools, namespaceLabels } = work.request;
    const { nodeLabels, pools: all } = this.#current;
    try {
      const qualification = qualifyPools({ family, use, pools, nodeLabels, namespaceLabels }, all);
      work.pools = qualification.qualified;
      if (work.pools.length === 0)
        work.error = noQualifiedPool({ family, use, owner: this.#blocks.owner }, qualification);
    } catch (error) {
      work.error = error;
    }
    return work.error === undefined;
  }

  async #round(): Promise<void> {
    const drafts = new Map<string, Draft>();
    for (const work of this.#works) work.planned = 0;
    this.#planAll(drafts);
    for (let short = this.#short(); short.length > 0; short = this.#short()) {
      const progress = await this.#acquire(short);
      this.#planAll(drafts);
      if (!progress) break;
    }
    if (await this.#raiseHandles(drafts)) await this.#writeBlocks(drafts);
    else for (const { plans } of drafts.values()) for (const work of plans.keys()) work.limits = undefined;
  }

  #planAll(drafts: Map<string, Draft>): void {
    const lent = this.#lenders.filter((block) => !this.#blocks.has(block.spec.cidr));
    /** Works that ask for the same pools look at the same blocks. */
    const candidates = new Map<string, IPAMBlock[]>();
    for (const work of this.#short()) {
      const key = work.pools.map((pool) => pool.name).join(" ");
      let blocks = candidates.get(key);
      if (blocks === undefined) {
        const borrowed = lent.filter(({ spec }) =>
          work.pools.some((pool) => containsPrefix(pool.prefix, blockPrefix(spec))),
        );
        blocks = [...this.#blocks.inPools(work.pools), ...borrowed];
        candidates.set(key, blocks);
      }
      this.#plan(work, blocks, drafts);
    }
  }

  /** Takes what the work still misses from the drafts of these blocks. */
  #plan(work: Work, blocks: readonly IPAMBlock[], drafts: Map<string, Draft>): void {
    const { config, reservations } = this.#current;
    for (const resource of blocks) {
      const open = missing(work) - work.planned;
      if (open <= 0) return;
      let entry = drafts.get(resource.spec.cidr);
      if (entry === undefined) {
        entry = { resource, draft: new BlockDraft(resource.spec), plans: new Map() };
        entry.draft.collectCooled({ nowMs: this.#store.clock.now(), seconds: config.cooldownSeconds });
        drafts.set(resource.spec.cidr, entry);
      }
      if (entry.draft.freeOrdinals.length === 0) continue;
      const addresses = entry.draft.assignNext(open, work.request, reservations.reserved);
      if (addresses.length === 0) continue;
      entry.plans.set(work, [...(entry.plans.get(work) ?? []), ...addresses]);
      work.planned += addresses.length;
    }
  }

  #short(): Work[] {
    return this.#open.filter((work) => missing(work) > work.planned);
  }

  /** Finds more blocks for the first of these works, or gives the verdict. True when planning again may help. */
  async #acquire(short: readonly Work[]): Promise<boolean> {
    const [work] = short;
    if (work === undefined) return false;
    if (!this.#reloaded) {
      // Another process of this node (start-up, the command line) may have claimed blocks meanwhile.
      this.#reloaded = true;
      const before = new Set(this.#blocks.inPools(work.pools).map((block) => block.spec.cidr));
      await this.#blocks.load(this.#current);
      if (this.#blocks.inPools(work.pools).some((block) => !before.has(block.spec.cidr))) return true;
    }
    const limits: Limit[] = [];
    if (await this.#claimFor(work, limits)) return true;
    if (await this.#borrowFor(work, limits)) return true;
    if (!this.#settingsAreFresh) {
      await this.#useSettings(true);
      return true;
    }
    this.#giveUp(short, work, limits);
    return this.#open.length > 0;
  }

  async #claimFor(work: Work, limits: Limit[]): Promise<boolean> {
    const { config } = this.#current;
    // As upstream, of the pools that the request may use: what is full elsewhere stops nobody.
    const owned = this.#blocks.inPools(work.pools).length;
    const limit = blockLimit(config.maxBlocksPerHost, work.request.maxBlocks ?? 0);
    if (!config.autoAllocateBlocks) {
      limits.push({ kind: "no-new-blocks" });
      return false;
    }
    if (owned >= limit) {
      limits.push({ kind: "block-limit", blocks: owned });
      return false;
    }
    if ((await this.#blocks.claimAny(work.pools, this.#current)) !== undefined) return true;
    limits.push({ kind: "pools-full", pools: work.pools.map((pool) => pool.name) });
    const { reserved } = this.#blocks;
    if (reserved !== undefined) {
      limits.push({ kind: "host-reserved", perBlock: reserved.startOfBlock + reserved.endOfBlock });
    }
    return false;
  }

  async #borrowFor(work: Work, limits: Limit[]): Promise<boolean> {
    if (this.#current.config.strictAffinity) {
      limits.push({ kind: "strict-affinity" });
      return false;
    }
    const known = new Map(this.#lenders.map((block) => [block.spec.cidr, block]));
    const found = await this.#blocks.lenders(work.pools, this.#current);
    const news = found.filter(
      (block) => known.get(block.spec.cidr)?.metadata.resourceVersion !== block.metadata.resourceVersion,
    );
    for (const block of news) known.set(block.spec.cidr, block);
    this.#lenders = [...known.values()];
    return news.length > 0;
  }

  /** Works with the same pools meet the same limits; the others get their own verdict. */
  #giveUp(short: readonly Work[], first: Work, limits: readonly Limit[]): void {
    for (const work of short) if (samePools(work, first)) work.limits = limits;
  }

  /** False when some handle could not be written: its works have failed, and the drafts must be planned without them. */
  async #raiseHandles(drafts: ReadonlyMap<string, Draft>): Promise<boolean> {
    await this.#checkRaised();
    const byHandle = new Map<
      string,
      { readonly counts: Record<string, number>; readonly works: Map<Work, Map<string, number>> }
    >();
    for (const [cidr, { plans, resource }] of drafts) {
      for (const [work, addresses] of plans) {
        if (!this.#needsRecord(resource, work)) continue;
        const by = usedIn(work, cidr) + addresses.length - (work.raised.get(cidr) ?? 0);
        if (by <= 0) continue;
        let entry = byHandle.get(work.request.handle);
        if (entry === undefined) {
          entry = { counts: {}, works: new Map() };
          byHandle.set(work.request.handle, entry);
        }
        entry.counts[cidr] = (entry.counts[cidr] ?? 0) + by;
        const ofWork = entry.works.get(work) ?? new Map<string, number>();
        entry.works.set(work, ofWork.set(cidr, by));
      }
    }
    const results = await Promise.all(
      [...byHandle].map(async ([handle, { counts, works }]) => {
        try {
          const limit = [...works.keys()].find(({ request }) => request.maxPerHandle !== undefined)?.request
            .maxPerHandle;
          this.#versions.set(handle, await raiseHandle(this.#store, handle, counts, limit));
          for (const [work, byBlock] of works) {
            for (const [cidr, by] of byBlock) work.raised.set(cidr, (work.raised.get(cidr) ?? 0) + by);
          }
          return true;
        } catch (error) {
          for (const work of works.keys()) await this.#notRaised(work, error);
          return false;
        }
      }),
    );
    return results.every(Boolean);
  }

  /** After the blocks were read again, and before they are written: whether what was raised before still counts. */
  async #checkRaised(): Promise<void> {
    for (const handle of this.#doubtful) {
      const works = this.#works.filter(({ request }) => request.handle === handle);
      if (!this.#versions.has(handle)) continue;
      if ((await readVersion(this.#store, handle)) === this.#versions.get(handle)) continue;
      await settleHandle(this.#store, handle);
      this.#versions.delete(handle);
      for (const work of works) for (const cidr of work.raised.keys()) work.raised.set(cidr, usedIn(work, cidr));
    }
    this.#doubtful.clear();
  }

  /** Somebody else has assigned to a handle with a limit meanwhile: then it has what it may have. */
  async #notRaised(work: Work, error: unknown): Promise<void> {
    work.error = error;
    if (!(error instanceof CalicoError && error.code === "CONFLICT") || work.request.maxPerHandle === undefined) return;
    try {
      await this.#takeHeld(work);
      // The record is written for both families at once: the other one is tried again by itself.
      if (missing(work) === 0 || error.detail["family"] !== work.request.family) work.error = undefined;
    } catch (reason) {
      work.error = reason;
    }
  }

  #needsRecord({ spec }: IPAMBlock, { request }: Work): boolean {
    if (request.maxPerHandle !== undefined) return true;
    return this.#records === "all" || !isFoundByOwner(spec, { secondary: { ...request.attributes } });
  }

  async #writeBlocks(drafts: ReadonlyMap<string, Draft>): Promise<void> {
    await Promise.all(
      [...drafts.values()].filter(({ plans }) => plans.size > 0).map((entry) => this.#writeBlock(entry)),
    );
  }

  async #writeBlock(entry: Draft): Promise<void> {
    const { cidr } = entry.resource.spec;
    try {
      const written = await this.#store.blocks.update(withBlock(entry.resource, entry.draft.finish()));
      if (written !== undefined) {
        this.#accept(entry, written);
        return;
      }
      // What was planned here is open again, also for works that had been told there is no more.
      for (const work of entry.plans.keys()) {
        work.limits = undefined;
        this.#doubtful.add(work.request.handle);
      }
      await this.#reread(cidr);
    } catch (error) {
      for (const work of entry.plans.keys()) {
        work.unsure.add(cidr);
        this.#doubtful.add(work.request.handle);
      }
      await this.#settleUnsure(entry, error);
    }
  }

  #accept(entry: Draft, written: IPAMBlock): void {
    this.#remember(written);
    for (const [work, addresses] of entry.plans) {
      work.assigned.push(
        ...addresses.map((address) => ({ address, block: entry.draft.prefix, cidr: written.spec.cidr })),
      );
    }
  }

  /** The write failed without a verdict: the block itself knows. */
  async #settleUnsure(entry: Draft, error: unknown): Promise<void> {
    const { cidr } = entry.resource.spec;
    this.#blocks.forget(cidr);
    try {
      const now = await this.#reread(cidr);
      if (now !== undefined && holdsPlans(now, entry)) {
        for (const work of entry.plans.keys()) work.unsure.delete(cidr);
        this.#accept(entry, now);
        return;
      }
    } catch {
      // The first error says more than that the question failed too.
    }
    for (const work of entry.plans.keys()) {
      work.error ??= error;
      if (isRefusal(error)) work.unsure.delete(cidr);
    }
  }

  async #reread(cidr: string): Promise<IPAMBlock | undefined> {
    const block = await this.#blocks.refresh(cidr);
    // One that was ours and is another's now is not borrowed from by accident: strict affinity may forbid it.
    const wasLender = this.#lenders.some((lender) => lender.spec.cidr === cidr);
    this.#lenders = this.#lenders.filter((lender) => lender.spec.cidr !== cidr);
    if (block !== undefined && wasLender && !this.#blocks.has(cidr)) this.#lenders.push(block);
    return block;
  }

  #remember(block: IPAMBlock): void {
    this.#blocks.note(block);
    this.#lenders = this.#lenders.map((lender) => (lender.spec.cidr === block.spec.cidr ? block : lender));
  }

  #failAll(error: unknown): void {
    for (const work of this.#open) work.error = error;
  }

  /** Counts that were raised for addresses that were not taken. Failing to lower leaves them high, which GC corrects. */
  async #lowerLeftOvers(): Promise<void> {
    const byHandle = new Map<string, Record<string, number>>();
    for (const work of this.#works) {
      const { handle } = work.request;
      for (const [cidr, raised] of work.raised) {
        const surplus = work.unsure.has(cidr) ? 0 : raised - usedIn(work, cidr);
        if (surplus <= 0) continue;
        const counts = byHandle.get(handle) ?? {};
        counts[cidr] = (counts[cidr] ?? 0) + surplus;
        byHandle.set(handle, counts);
      }
    }
    await Promise.all(
      [...byHandle].map(async ([handle, surplus]) => {
        try {
          await lowerHandle(this.#store, handle, surplus, this.#versions.get(handle));
        } catch (error) {
          for (const work of this.#works) if (work.request.handle === handle) work.error ??= error;
        }
      }),
    );
  }
}

const missing = (work: Work): number => work.request.count - work.assigned.length;

const usedIn = (work: Work, cidr: string): number =>
  work.assigned.filter((assigned) => assigned.cidr === cidr && assigned.hadBefore !== true).length;

const samePools = (a: Work, b: Work): boolean =>
  a.pools.length === b.pools.length && a.pools.every((pool, at) => pool.name === b.pools[at]?.name);

/** The smaller of the configured and the requested limit, or the default when there is neither. */
function blockLimit(configured: number, requested: number): number {
  const limits = [configured, requested].filter((limit) => limit > 0);
  return limits.length === 0 ? DEFAULT_MAX_BLOCKS : Math.min(...limits);
}

/** Whether the block has every address of the plans under the handle it was planned for. */
function holdsPlans(block: IPAMBlock, entry: Draft): boolean {
  return [...entry.plans].every(([work, addresses]) =>
    addresses.every((address) => {
      const ordinal = ordinalOf(entry.draft.prefix, address);
      const attribute = ordinal === undefined ? undefined : attributeOf(block.spec, ordinal);
      return attribute !== undefined && handleOf(attribute) === work.request.handle;
    }),
  );
}

const REFUSALS: readonly ErrorCode[] = ["BAD_INPUT", "FORBIDDEN", "UNAUTHORIZED", "UNSUPPORTED"];

/** The store answered, and did nothing. */
const isRefusal = (error: unknown): boolean => REFUSALS.some((code) => hasCode(error, code));

const asCalicoError = (error: unknown): CalicoError =>
  error instanceof CalicoError ? error : new CalicoError("INTERNAL", "assigning addresses failed", { cause: error });
