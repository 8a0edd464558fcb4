/** A node's kernel that changes are applied to, for whoever has a `Kernel` of `@calico-ts/linux` and no agent around it: the rig, tests, benchmarks. */
import type { NftCommand } from "@calico-ts/netlink";
import type { GroupedLink } from "./link-groups.ts";
import { LinkGroups } from "./link-groups.ts";
import type { PlanKernel } from "./nft/change-commands.ts";

/** As far as it is needed here. */
export interface ProgrammableKernel {
  readonly nft: { apply(commands: readonly NftCommand[]): Promise<void> };
  readonly links: {
    list(): readonly GroupedLink[];
    get(name: string): GroupedLink | undefined;
    set(index: number, change: { readonly group: number }): void;
  };
}

export class NodePlanKernel implements PlanKernel {
  readonly #kernel: ProgrammableKernel;
  readonly linkGroups: LinkGroups;

  constructor(kernel: ProgrammableKernel, interfacePrefix = "cali") {
    this.#kernel = kernel;
    const { links } = kernel;
    this.linkGroups = new LinkGroups({
      kernel: {
        list: () => links.list(),
        get: (name) => links.get(name),
        setGroup: (index, group) => links.set(index, { group }),
      },
      isWorkload: (name) => name.startsWith(interfacePrefix),
    });
  }

  commit(commands: readonly NftCommand[]): Promise<void> {
    return this.#kernel.nft.apply(commands);
  }

  setGroups(groups: ReadonlyMap<string, number>): void {
    this.linkGroups.apply(groups);
  }
}
