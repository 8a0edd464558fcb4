/**
 * Assigns one particular address: a pod that asks for it (`cni.projectcalico.org/ipAddrs`), a service, an operator.
 * The pool must be enabled and allow the use; its selectors do not matter, because the caller chose. A block nobody has
 * is claimed for the caller's host. Reservations do not apply: they are against automatic assignment.
 */
import type { IPAMBlock } from "@calico-ts/model";
import { formatAddress, formatPrefix, type IpAddress, prefixOf, sameAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import {
  attributeOf,
  type Attributes,
  type Block,
  blockPrefix,
  handleOf,
  isCooling,
  ordinalOf,
} from "./allocator/block.ts";
import { BlockDraft } from "./allocator/block-draft.ts";
import { type Owner, ownerText } from "./allocator/names.ts";
import { type IntendedUse, type Pool, poolContaining } from "./allocator/pool.ts";
import { claimBlock } from "./affinity-claims.ts";
import { heldIn } from "./owner-changes.ts";
import type { IpamConfig } from "./settings.ts";
import { lowerHandle, raiseHandle, readVersion, type RecordVersion, settleHandle } from "./store/handle-counts.ts";
import { type IpamStore, untilSwapped, withBlock } from "./store/ipam-store.ts";

export interface AddressRequest {
  readonly address: IpAddress;
  readonly owner: Owner;
  readonly handle: string;
  readonly attributes: Attributes;
  /** Absent: any pool will do. */
  readonly use?: IntendedUse | undefined;
  /** The handle never has more addresses of the family; to assign one it has already is fine. Absent: no limit. */
  readonly maxPerHandle?: number | undefined;
}

export interface AddressContext {
  readonly store: IpamStore;
  readonly config: IpamConfig;
  readonly pools: readonly Pool[];
}

/** @throws CalicoError ADDRESS_TAKEN, ADDRESS_OUTSIDE_POOLS, NO_QUALIFIED_POOL, POOL_EXHAUSTED */
export async function assignAddress(context: AddressContext, request: AddressRequest): Promise<void> {
  const { store } = context;
  const pool = poolFor(context, request);
  const prefix = prefixOf(request.address, pool.blockLength);
  let cidr = formatPrefix(prefix);
  const { handle, maxPerHandle } = request;
  /** Undefined: the count is not raised. */
  let raised: RecordVersion;
  let unsure = false;
  try {
    const outcome = await untilSwapped(`address ${formatAddress(request.address)}`, async () => {
      const block = (await store.findBlock(prefix)) ?? (await claimFor(context, request, pool));
      if (block === undefined) return undefined;
      if (maxPerHandle !== undefined && holds(block, request)) return { done: "held" };
      const draft = draftWith(context, request, block);
      if (raised !== undefined && (cidr !== block.spec.cidr || (await readVersion(store, handle)) !== raised)) {
        await settleHandle(store, handle);
        raised = undefined;
      }
      ({ cidr } = block.spec);
      raised ??= await raiseHandle(store, handle, { [cidr]: 1 }, maxPerHandle);
      unsure = true;
      const written = await store.blocks.update(withBlock(block, draft.finish()));
      unsure = false;
      return written === undefined ? undefined : { done: "written" };
    });
    if (outcome === "held" && raised !== undefined) await lowerHandle(store, handle, { [cidr]: 1 }, raised);
  } catch (error) {
    // Where the block may have been written after all, the count stays: a release by handle will find the address.
    if (raised !== undefined && !unsure) await lowerHandle(store, handle, { [cidr]: 1 }, raised);
    throw error;
  }
}

const holds = (block: IPAMBlock, { address, handle }: AddressRequest): boolean =>
  heldIn([block.spec], handle).some((one) => sameAddress(one.address, address));

function poolFor({ pools }: AddressContext, { address, use }: AddressRequest): Pool {
  const text = formatAddress(address);
  const enabled = pools.filter((pool) => pool.enabled);
  const pool = poolContaining(enabled, address);
  if (pool === undefined) {
    const disabled = poolContaining(pools, address);
    const why =
      disabled === undefined
        ? `the pools are ${pools.map(describe).join(", ") || "none"}`
        : `pool ${describe(disabled)} is disabled or being deleted`;
    throw new CalicoError("ADDRESS_OUTSIDE_POOLS", `${text} is in no enabled pool: ${why}`, {
      detail: { address: text },
    });
  }
  if (use !== undefined && !pool.uses.includes(use)) {
    const message = `${text} is in pool ${describe(pool)}, which is for ${pool.uses.join(" and ")}, not for ${use} (allowedUses)`;
    throw new CalicoError("NO_QUALIFIED_POOL", message, { detail: { address: text, pool: pool.name } });
  }
  return pool;
}

const describe = (pool: Pool): string => `${pool.name} (${formatPrefix(pool.prefix)})`;

async function claimFor(context: AddressContext, request: AddressRequest, pool: Pool): Promise<IPAMBlock | undefined> {
  if (!context.config.autoAllocateBlocks) {
    throw new CalicoError(
      "POOL_EXHAUSTED",
      `nobody has claimed the block of ${formatAddress(request.address)} and nodes may not claim blocks by themselves (autoAllocateBlocks is false)`,
      { detail: { pool: pool.name } },
    );
  }
  const claim = await claimBlock(context.store, request.owner, prefixOf(request.address, pool.blockLength));
  if (claim.kind === "claimed") return claim.block;
  if (claim.kind === "taken") return undefined;
  if (ordinalOf(blockPrefix(claim.block.spec), request.address) !== undefined) return claim.block;
  const text = formatAddress(request.address);
  const message = `${text} cannot be assigned: its block would overlap ${claim.block.spec.cidr}, a block of another size`;
  throw new CalicoError("ADDRESS_TAKEN", message, { detail: { address: text, pool: pool.name } });
}

function draftWith({ config, store }: AddressContext, request: AddressRequest, block: IPAMBlock): BlockDraft {
  const text = formatAddress(request.address);
  if (config.strictAffinity && block.spec.affinity !== ownerText(request.owner)) {
    throw new CalicoError(
      "ADDRESS_TAKEN",
      `${text} belongs to ${block.spec.affinity ?? "no node"}, and ${request.owner.name} may not borrow from others (strictAffinity)`,
      { detail: { address: text } },
    );
  }
  const draft = new BlockDraft(block.spec);
  draft.collectCooled({ nowMs: store.clock.now(), seconds: config.cooldownSeconds });
  const ordinal = ordinalOf(draft.prefix, request.address);
  if (ordinal === undefined || !draft.assignOrdinal(ordinal, request)) {
    throw new CalicoError("ADDRESS_TAKEN", `${text} is not free: ${whyTaken(block.spec, ordinal)}`, {
      detail: { address: text },
    });
  }
  return draft;
}

function whyTaken(block: Block, ordinal: number | undefined): string {
  const attribute = ordinal === undefined ? undefined : attributeOf(block, ordinal);
  if (attribute === undefined) return "its block does not list it as free";
  if (isCooling(attribute))
    return `it was released at ${attribute.releasedAt ?? ""} and cools down (ipCooldownSeconds)`;
  const { pod, namespace, node } = attribute.secondary ?? {};
  const who = pod === undefined ? "" : `, pod ${namespace ?? ""}/${pod}`;
  return `handle ${handleOf(attribute) ?? "without name"} has it${who}${node === undefined ? "" : ` on ${node}`}`;
}
