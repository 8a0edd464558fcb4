/**
 * Giving addresses back: the block first, the holder's count after it. A crash in between leaves a count that is too high,
 * which the next release of the same handle, an assignment that the count refuses, or GC, puts right.
 *
 * Releases of many handles share the writes of the blocks they have in common.
 */
import type { IPAMBlock, IPAMHandle } from "@calico-ts/model";
import {
  containsAddress,
  formatAddress,
  formatPrefix,
  type IpAddress,
  type Prefix,
  parsePrefix,
  prefixOf,
  tryParsePrefix,
} from "@calico-ts/net";
import { ordinalOf } from "./allocator/block.ts";
import { BlockDraft, type Cooldown } from "./allocator/block-draft.ts";
import type { OwnerCondition } from "./allocator/machine.ts";
import { cleanHandle } from "./allocator/names.ts";
import { type Pool, poolContaining } from "./allocator/pool.ts";
import { deleteIfAbandoned } from "./affinity-claims.ts";
import { heldIn } from "./owner-changes.ts";
import { lowerHandle, readVersion, type RecordVersion, writeCounts } from "./store/handle-counts.ts";
import { type IpamStore, untilSwapped, withBlock } from "./store/ipam-store.ts";

/** Blocks the caller remembers: spares a read, and wants to know what became of them. */
export interface BlockMemory {
  find(cidr: string): IPAMBlock | undefined;
  /** Remembered blocks in which the handle has addresses, recorded or not. */
  withHandle(handle: string): readonly string[];
  note(block: IPAMBlock): void;
  forget(cidr: string): void;
}

export const noMemory: BlockMemory = {
  find: () => undefined,
  withHandle: () => [],
  note: () => undefined,
  forget: () => undefined,
};

export interface ReleaseContext {
  readonly store: IpamStore;
  readonly memory: BlockMemory;
  readonly cooldownSeconds: number;
}

/**
 * Releases everything these handles hold in the blocks that their records name and in those we remember; says which
 * addresses, by handle. Callers see to it that nobody assigns to one of the handles meanwhile.
 */
export async function releaseHandles(
  context: ReleaseContext,
  handles: readonly string[],
): Promise<Map<string, IpAddress[]>> {
  const released = new Map<string, IpAddress[]>(handles.map((handle) => [handle, []]));
  let open = [...released.keys()];
  await untilSwapped(`release of ${open.length} handles`, async () => {
    const found = await Promise.all(
      open.map(async (handle) => [handle, await context.store.findHandle(handle)] as const),
    );
    const records = found.flatMap(([handle, record]) => (record === undefined ? [] : [{ handle, record }]));
    const byBlock = new Map<string, string[]>();
    for (const [handle, record] of found) {
      const cidrs = new Set([...Object.keys(record?.spec.block ?? {}), ...context.memory.withHandle(handle)]);
      for (const cidr of cidrs) byBlock.set(cidr, [...(byBlock.get(cidr) ?? []), handle]);
    }
    await Promise.all(
      [...byBlock].map(async ([cidr, holders]) => {
        for (const [handle, addresses] of await releaseInBlock(context, cidr, holders)) {
          released.get(handle)?.push(...addresses);
        }
      }),
    );
    const done = await Promise.all(
      records.map(async ({ handle, record }) => [handle, await writeCounts(context.store, record, {})] as const),
    );
    open = done.flatMap(([handle, deleted]) => (deleted ? [] : [handle]));
    return open.length === 0 ? { done: undefined } : undefined;
  });
  return released;
}

async function releaseInBlock(
  context: ReleaseContext,
  cidr: string,
  handles: readonly string[],
): Promise<Map<string, IpAddress[]>> {
  const prefix = tryParsePrefix(cidr);
  if (prefix === undefined) return new Map();
  let remembered = context.memory.find(cidr);
  return untilSwapped(`block ${cidr}`, async () => {
    const block = remembered ?? (await context.store.findBlock(prefix));
    if (block === undefined) {
      context.memory.forget(cidr);
      return { done: new Map<string, IpAddress[]>() };
    }
    const draft = new BlockDraft(block.spec);
    const cooldown = cooldownOf(context);
    draft.collectCooled(cooldown);
    const released = new Map(handles.map((handle) => [handle, draft.releaseHandle(cleanHandle(handle), cooldown)]));
    const complete = [...released.values()].every((addresses) => addresses.length > 0);
    // What we remember may be too old to know an address the record speaks of.
    if (!complete && remembered !== undefined) {
      remembered = undefined;
      return undefined;
    }
    remembered = undefined;
    return (await commit(context, block, draft)) ? { done: released } : undefined;
  });
}

export interface AddressRelease {
  readonly address: IpAddress;
  /** Only if this handle holds it. */
  readonly handle?: string | undefined;
  /** Only if it is still the assignment with this number. */
  readonly sequenceNumber?: number | undefined;
  /** Only if its block is still the record with this uid. */
  readonly blockUid?: string | undefined;
  /** Only if its owners are these: a virtual machine's address. */
  readonly condition?: OwnerCondition | undefined;
}

export interface ReleaseReport {
  readonly released: readonly IpAddress[];
  /** Were free already, or cooling down. */
  readonly notAssigned: readonly IpAddress[];
  /** Not touched: held by another handle, or assigned anew since. */
  readonly stale: readonly { readonly address: IpAddress; readonly why: string }[];
}

/** Releases particular addresses. */
export async function releaseAddresses(
  context: ReleaseContext,
  requests: readonly AddressRelease[],
  pools: readonly Pool[],
): Promise<ReleaseReport> {
  const unique = new Map(requests.map((request) => [formatAddress(request.address), request]));
  const { byBlock, homeless } = await groupByBlock(context.store, [...unique.values()], pools);
  const settled = await Promise.allSettled(
    [...byBlock].map(([cidr, group]) => releaseGroup(context, parsePrefix(cidr), group)),
  );
  const reports = settled.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  await lowerReleased(context.store, reports);
  for (const result of settled) if (result.status === "rejected") throw result.reason;
  return {
    released: reports.flatMap(({ released }) => released.map(({ address }) => address)),
    notAssigned: [...homeless, ...reports.flatMap((report) => report.notAssigned)],
    stale: reports.flatMap((report) => report.stale),
  };
}

interface GroupReport extends Omit<ReleaseReport, "released"> {
  readonly cidr: string;
  readonly released: readonly { readonly address: IpAddress; readonly handle: string | undefined }[];
  /** Records of the handles, as they were before the block was written. */
  readonly versions: ReadonlyMap<string, RecordVersion>;
}

/** One write for each handle, however many blocks it had addresses in. */
async function lowerReleased(store: IpamStore, reports: readonly GroupReport[]): Promise<void> {
  const lowered = new Map<string, { readonly counts: Record<string, number>; readonly versions: Set<RecordVersion> }>();
  for (const { cidr, released, versions } of reports) {
    for (const { handle } of released) {
      if (handle === undefined) continue;
      const entry = lowered.get(handle) ?? { counts: {}, versions: new Set<RecordVersion>() };
      entry.counts[cidr] = (entry.counts[cidr] ?? 0) + 1;
      entry.versions.add(versions.get(handle));
      lowered.set(handle, entry);
    }
  }
  await Promise.all(
    [...lowered].map(([handle, { counts, versions }]) => {
      const [version] = versions;
      return lowerHandle(store, handle, counts, versions.size === 1 ? version : undefined);
    }),
  );
}

async function releaseGroup(
  context: ReleaseContext,
  prefix: Prefix,
  group: readonly AddressRelease[],
): Promise<GroupReport> {
  const cooldown = cooldownOf(context);
  return untilSwapped(`block ${formatPrefix(prefix)}`, async () => {
    const block = await context.store.findBlock(prefix);
    const released: { address: IpAddress; handle: string | undefined }[] = [];
    const notAssigned: IpAddress[] = [];
    const stale: { address: IpAddress; why: string }[] = [];
    const versions = new Map<string, RecordVersion>();
    const report = { cidr: block?.spec.cidr ?? "", released, notAssigned, stale, versions };
    if (block === undefined) {
      notAssigned.push(...group.map(({ address }) => address));
      return { done: report };
    }
    const draft = new BlockDraft(block.spec);
    draft.collectCooled(cooldown);
    for (const { address, blockUid, condition, handle, sequenceNumber } of group) {
      const ordinal = ordinalOf(prefix, address);
      if (ordinal === undefined) continue;
      if (blockUid !== undefined && blockUid !== block.metadata.uid) {
        stale.push({ address, why: `block ${block.spec.cidr} was made anew since` });
        continue;
      }
      const result = draft.release({ ordinal, handle, sequenceNumber, condition }, cooldown);
      if (result.kind === "released") released.push({ address, handle: result.handle });
      else if (result.kind === "stale") stale.push({ address, why: result.why });
      else notAssigned.push(address);
    }
    const handles = new Set(released.flatMap(({ handle }) => handle ?? []));
    await Promise.all([...handles].map(async (one) => versions.set(one, await readVersion(context.store, one))));
    return (await commit(context, block, draft)) ? { done: report } : undefined;
  });
}

/** Writes the draft if it changed something. False when the block is not what was read. */
async function commit(context: ReleaseContext, block: IPAMBlock, draft: BlockDraft): Promise<boolean> {
  if (!draft.changed) return true;
  const written = await context.store.blocks.update(withBlock(block, draft.finish()));
  if (written === undefined) {
    context.memory.forget(block.spec.cidr);
    return false;
  }
  context.memory.note(written);
  await deleteIfAbandoned(context.store, written);
  return true;
}

/** The block of an address follows from its pool; where the pool is gone, from the blocks there are. */
async function groupByBlock(
  store: IpamStore,
  requests: readonly AddressRelease[],
  pools: readonly Pool[],
): Promise<{ readonly byBlock: Map<string, AddressRelease[]>; readonly homeless: IpAddress[] }> {
  const byBlock = new Map<string, AddressRelease[]>();
  const homeless: IpAddress[] = [];
  let all: IPAMBlock[] | undefined;
  for (const request of requests) {
    const pool = poolContaining(pools, request.address);
    let block = pool === undefined ? undefined : await store.findBlock(prefixOf(request.address, pool.blockLength));
    if (block === undefined) {
      all ??= await store.blocks.list();
      block = all.find(({ spec }) => {
        const prefix = tryParsePrefix(spec.cidr);
        return prefix !== undefined && containsAddress(prefix, request.address);
      });
    }
    if (block === undefined) homeless.push(request.address);
    else byBlock.set(block.spec.cidr, [...(byBlock.get(block.spec.cidr) ?? []), request]);
  }
  return { byBlock, homeless };
}

/** Blocks in which a handle holds addresses: those its record names and those we remember, as they are now. */
export async function blocksOf(
  store: IpamStore,
  handle: string,
  memory: Pick<BlockMemory, "withHandle"> = noMemory,
): Promise<IPAMBlock[]> {
  const record: IPAMHandle | undefined = await store.findHandle(handle);
  const cidrs = new Set([...Object.keys(record?.spec.block ?? {}), ...memory.withHandle(handle)]);
  const blocks = await Promise.all([...cidrs].map((cidr) => findByCidr(store, cidr)));
  return blocks.filter((block) => block !== undefined);
}

/** Addresses a handle holds, without changing anything. */
export async function addressesOf(
  store: IpamStore,
  handle: string,
  memory: Pick<BlockMemory, "withHandle"> = noMemory,
): Promise<IpAddress[]> {
  return heldIn(
    (await blocksOf(store, handle, memory)).map(({ spec }) => spec),
    handle,
  ).map(({ address }) => address);
}

async function findByCidr(store: IpamStore, cidr: string): Promise<IPAMBlock | undefined> {
  const prefix = tryParsePrefix(cidr);
  return prefix === undefined ? undefined : store.findBlock(prefix);
}

const cooldownOf = (context: ReleaseContext): Cooldown => ({
  nowMs: context.store.clock.now(),
  seconds: context.cooldownSeconds,
});
