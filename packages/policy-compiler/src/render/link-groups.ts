/**
 * Makes the groups of links what a ruleset says (`Ruleset.groups`): reads a link, sets it when it differs. Whoever programs the rules
 * does this between the two halves of a change (`applyChange`), so the agent and the rig do it with the same code.
 *
 * Ours are the groups of workload interfaces, by name: an interface that has an endpoint gets its group; one that has none and still has a
 * number of ours gets 0. Other interfaces, and other numbers on interfaces without endpoint, are left alone.
 */
import { isWalkGroup } from "../ruleset/walk-groups.ts";

export interface GroupedLink {
  readonly name: string;
  readonly index: number;
  readonly group: number;
}

export interface GroupKernel {
  /** All links; may lag behind. */
  list(): Iterable<GroupedLink>;
  /** As the kernel has it now. */
  get(name: string): GroupedLink | undefined;
  /** @throws what the kernel answers, also when the link is gone */
  setGroup(index: number, group: number): void;
}

export interface GroupRepair {
  readonly name: string;
  readonly found: number;
  readonly wanted: number;
}

export interface LinkGroupsOptions {
  readonly kernel: GroupKernel;
  readonly isWorkload: (interfaceName: string) => boolean;
  /** Somebody else changed a group that had been right. */
  readonly onRepair?: (repair: GroupRepair) => void;
}

const DEFAULT_GROUP = 0;

export class LinkGroups {
  readonly #options: LinkGroupsOptions;
  #wanted: ReadonlyMap<string, number> = new Map();
  readonly #dirty = new Set<string>();
  /** Links as they were left. */
  readonly #left = new Map<string, GroupedLink>();
  #resync = true;
  #counts = { changes: 0, repairs: 0 };

  constructor(options: LinkGroupsOptions) {
    this.#options = options;
  }

  /** Links set so far, and how many of those because somebody else had changed them. */
  get counts(): { readonly changes: number; readonly repairs: number } {
    return this.#counts;
  }

  /** Whatever its group is, look again at the next `apply`. */
  markForResync(): void {
    this.#resync = true;
  }

  /** A link came or changed, or is gone. True when `apply` has something to do. */
  noted(link: GroupedLink, gone = false): boolean {
    if (gone) {
      if (this.#left.get(link.name)?.index === link.index) this.#left.delete(link.name);
      return false;
    }
    if (!this.#isOurs(link) || link.group === this.#shouldBe(link)) return false;
    this.#dirty.add(link.name);
    return true;
  }

  /** Asks the kernel: the link is there and has the group it shall have. */
  isSet(name: string): boolean {
    const link = this.#options.kernel.get(name);
    return link !== undefined && link.group === this.#wanted.get(name);
  }

  /** @throws the first refusal of the kernel, when all links have been tried; what was refused is tried again next time. */
  apply(groups: ReadonlyMap<string, number>): void {
    this.#want(groups);
    if (this.#resync) for (const link of this.#options.kernel.list()) this.noted(link);
    this.#resync = false;
    const failures: unknown[] = [];
    for (const name of Array.from(this.#dirty)) {
      try {
        this.#applyOne(name);
        this.#dirty.delete(name);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  dump(): unknown {
    const { kernel } = this.#options;
    const differ = Array.from(this.#wanted).flatMap(([name, desired]) => {
      const observed = kernel.get(name)?.group;
      return observed === undefined || observed === desired ? [] : [[name, { desired, observed }] as const];
    });
    return {
      desired: Object.fromEntries(this.#wanted),
      difference: Object.fromEntries(differ),
      counts: this.#counts,
    };
  }

  #want(groups: ReadonlyMap<string, number>): void {
    if (groups === this.#wanted) return;
    for (const [name, group] of groups) if (this.#wanted.get(name) !== group) this.#dirty.add(name);
    for (const name of this.#wanted.keys()) if (!groups.has(name)) this.#dirty.add(name);
    this.#wanted = groups;
  }

  #applyOne(name: string): void {
    const { kernel, onRepair } = this.#options;
    const link = kernel.get(name);
    // When it comes we are told.
    if (link === undefined || !this.#isOurs(link)) return;
    const group = this.#shouldBe(link);
    if (link.group !== group) {
      try {
        kernel.setGroup(link.index, group);
      } catch (error) {
        if (kernel.get(name)?.index === link.index) throw error;
        return; // gone meanwhile; another of that name is announced to us
      }
      this.#counts.changes++;
      const left = this.#left.get(name);
      if (left?.index === link.index && left.group === group) {
        this.#counts.repairs++;
        onRepair?.({ name, found: link.group, wanted: group });
      }
    }
    if (this.#wanted.has(name)) this.#left.set(name, { ...link, group });
    else this.#left.delete(name);
  }

  #isOurs({ name }: GroupedLink): boolean {
    return this.#options.isWorkload(name);
  }

  #shouldBe({ group, name }: GroupedLink): number {
    return this.#wanted.get(name) ?? (isWalkGroup(group) ? DEFAULT_GROUP : group);
  }
}
