/**
 * Changing who owns an address that stays assigned: a virtual machine's, whose pods come and go. One compare-and-swap of the block, on the condition that the
 * owners are those the caller saw (upstream's SetOwnerAttributes).
 */
import type { IPAMBlock } from "@calico-ts/model";
import { formatAddress, type IpAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import {
  addressOf,
  attributeOf,
  type Attributes,
  type Block,
  blockPrefix,
  handleOf,
  isCooling,
  ordinalOf,
} from "./allocator/block.ts";
import { BlockDraft } from "./allocator/block-draft.ts";
import { matchesOwner, type OwnerChange, type OwnerCondition, type Owners, ownersOf } from "./allocator/machine.ts";
import { cleanHandle } from "./allocator/names.ts";
import { type IpamStore, untilSwapped, withBlock } from "./store/ipam-store.ts";

export interface OwnerRequest {
  readonly address: IpAddress;
  /** Only if this handle holds it. */
  readonly handle: string;
  readonly change: OwnerChange;
  readonly condition?: OwnerCondition | undefined;
}

/**
 * False when the owners were as wanted already.
 * @throws CalicoError NOT_FOUND when the address is in no block or not assigned; CONFLICT when another handle holds it or the condition does not hold
 */
export function changeOwners(
  store: IpamStore,
  findBlock: () => Promise<IPAMBlock | undefined>,
  request: OwnerRequest,
): Promise<boolean> {
  const text = formatAddress(request.address);
  return untilSwapped(`owners of ${text}`, async () => {
    const block = await findBlock();
    if (block === undefined)
      throw new CalicoError("NOT_FOUND", `${text} is in no block`, { detail: { address: text } });
    const draft = new BlockDraft(block.spec);
    const ordinal = ordinalOf(draft.prefix, request.address);
    const outcome =
      ordinal === undefined ? ({ kind: "not-assigned" } as const) : draft.changeOwners({ ...request, ordinal });
    if (outcome.kind === "not-assigned") {
      throw new CalicoError("NOT_FOUND", `${text} is assigned to nobody`, { detail: { address: text } });
    }
    if (outcome.kind === "stale") {
      throw new CalicoError("CONFLICT", `the owners of ${text} stay as they are: ${outcome.why}`, {
        detail: { address: text },
      });
    }
    if (outcome.kind === "same") return { done: false };
    return (await store.blocks.update(withBlock(block, draft.finish()))) === undefined ? undefined : { done: true };
  });
}

export interface OwnedAddress extends Owners {
  readonly address: IpAddress;
  readonly handle: string;
}

/** Addresses in these blocks that somebody with these attributes owns, in either place. */
export function ownedIn(blocks: readonly Block[], owner: Attributes): OwnedAddress[] {
  const isOwner = ({ active, alternate }: Owners): boolean =>
    matchesOwner(active, owner) || matchesOwner(alternate, owner);
  return blocks.flatMap((block) =>
    block.attributes.some((attribute) => isOwner(ownersOf(attribute))) ? assignedIn(block).filter(isOwner) : [],
  );
}

/** Addresses in these blocks under the handle. */
export const heldIn = (blocks: readonly Block[], handle: string): OwnedAddress[] =>
  blocks.flatMap((block) => assignedIn(block).filter((one) => one.handle === cleanHandle(handle)));

function assignedIn(block: Block): OwnedAddress[] {
  const prefix = blockPrefix(block);
  const found: OwnedAddress[] = [];
  for (const ordinal of block.allocations.keys()) {
    const attribute = attributeOf(block, ordinal);
    const handle = attribute === undefined || isCooling(attribute) ? undefined : handleOf(attribute);
    if (attribute === undefined || handle === undefined) continue;
    found.push({ address: addressOf(prefix, ordinal), handle, ...ownersOf(attribute) });
  }
  return found;
}
