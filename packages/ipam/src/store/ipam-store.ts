/** The records of address management, and how each is made. */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { BlockAffinity, IPAMBlock, IPAMHandle } from "@calico-ts/model";
import { formatPrefix, type Prefix } from "@calico-ts/net";
import type { Clock } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { type Block, type HostReserved, newBlock } from "../allocator/block.ts";
import { affinityLabels, affinityName, blockName, handleName, type Owner, ownerText } from "../allocator/names.ts";
import { Records } from "./records.ts";

const API_VERSION = "projectcalico.org/v3";

/** How often a lost compare-and-swap is repeated before something must be wrong. */
export const MAX_SWAPS = 100;

export class IpamStore {
  readonly client: DatastoreClient;
  readonly clock: Clock;
  readonly blocks: Records<"IPAMBlock">;
  readonly handles: Records<"IPAMHandle">;
  readonly affinities: Records<"BlockAffinity">;

  constructor(client: DatastoreClient, clock: Clock) {
    this.client = client;
    this.clock = clock;
    this.blocks = new Records(client, "IPAMBlock");
    this.handles = new Records(client, "IPAMHandle");
    this.affinities = new Records(client, "BlockAffinity");
  }

  findBlock(block: Prefix): Promise<IPAMBlock | undefined> {
    return this.blocks.find(blockName(block));
  }

  findAffinity(owner: Owner, block: Prefix): Promise<BlockAffinity | undefined> {
    return this.affinities.find(affinityName(owner, block));
  }

  /** By the record's name; by the handle itself where the datastore names records so (etcd). */
  async findHandle(handle: string): Promise<IPAMHandle | undefined> {
    const name = handleName(handle);
    const found = await this.handles.find(name);
    return found === undefined && name !== handle ? this.handles.find(handle) : found;
  }

  newBlock(block: Prefix, owner: Owner, reserved?: HostReserved): IPAMBlock {
    const facts = {
      cidr: formatPrefix(block),
      owner: ownerText(owner),
      nowMs: this.clock.now(),
      ...(reserved && { reserved }),
    };
    return {
      apiVersion: API_VERSION,
      kind: "IPAMBlock",
      metadata: { name: blockName(block) },
      spec: newBlock(block, facts),
    };
  }

  newAffinity(owner: Owner, block: Prefix, state: BlockAffinity["spec"]["state"]): BlockAffinity {
    return {
      apiVersion: API_VERSION,
      kind: "BlockAffinity",
      metadata: { name: affinityName(owner, block), labels: affinityLabels(owner, block) },
      spec: { cidr: formatPrefix(block), node: owner.name, type: owner.type, state, deleted: false },
    };
  }

  newHandle(handle: string, block: Readonly<Record<string, number>>): IPAMHandle {
    return {
      apiVersion: API_VERSION,
      kind: "IPAMHandle",
      metadata: { name: handleName(handle) },
      spec: { handleID: handle, block: { ...block }, deleted: false },
    };
  }
}

export const withBlock = (resource: IPAMBlock, spec: Block): IPAMBlock => ({ ...resource, spec });

/** Repeats a read-modify-write until it says it is done. */
export async function untilSwapped<T>(
  what: string,
  attempt: () => Promise<{ readonly done: T } | undefined>,
): Promise<T> {
  for (let made = 0; made < MAX_SWAPS; made++) {
    const result = await attempt();
    if (result !== undefined) return result.done;
  }
  throw new CalicoError("CONFLICT", `${what}: it was changed by others ${MAX_SWAPS} times in a row; try again`);
}
