/**
 * Makes the kernel's table `inet calico` equal to what the policy compiler rendered.
 *
 * Normally each pass writes what changed since the last one, as one transaction. When the kernel's state is in doubt (start, refresh,
 * a stranger's transaction on our table, a refusal) the whole table is read, compared by value and the difference written: a
 * table that is right is not touched. The table is ours alone, so whatever is in it and not wanted goes.
 *
 * Pods' interfaces are told by the group of their link, so a change has two halves with the links between them (`applyChange`). Both halves or
 * what a fresh reading finds to be missing: a process that dies between them leaves a table in which every link still leads to the right walk.
 *
 * A refused transaction changes nothing: the old rules stay, the apply loop backs off, and each attempt starts from a fresh
 * reading. After `REBUILD_AFTER` refusals in a row the table is built anew (`#rebuild`).
 */
import type { NftClient } from "@calico-ts/linux";
import type { NftCommand, NftTable } from "@calico-ts/netlink";
import type { OversizedSet, RenderedChain, RenderedSet, Ruleset, RulesetChange } from "@calico-ts/policy-compiler";
import { applyChange, changePlan, diffRulesets, elementKey, isEmptyChange } from "@calico-ts/policy-compiler";
import type { Logger } from "@calico-ts/runtime";
import { CalicoError, hasCode } from "@calico-ts/std";
import { isOurTable, STAND_IN, TABLE } from "../ownership.ts";

/** The renderer of the policy compiler, as far as it is needed here. */
export interface RulesetSource {
  take(): RulesetChange;
  desired(): Ruleset;
  oversized(): readonly OversizedSet[];
}

export type TableKernel = Pick<
  NftClient,
  "apply" | "listTables" | "listChains" | "listRules" | "listSets" | "listElements" | "generation"
>;

export interface TableCounts {
  readonly transactions: number;
  readonly refusals: number;
  readonly readings: number;
  readonly repairs: number;
  /** Begun ones. */
  readonly rebuilds: number;
}

const REBUILD_AFTER = 3;
const READ_ATTEMPTS = 10;
const EMPTY: Ruleset = { table: TABLE, chains: new Map(), sets: new Map(), groups: new Map() };

export interface TableDriverOptions {
  readonly kernel: TableKernel;
  readonly source: RulesetSource;
  /** Makes the groups of all links what they shall be. */
  readonly setGroups: (groups: ReadonlyMap<string, number>) => void;
  readonly log: Logger;
}

export class TableDriver {
  readonly #kernel: TableKernel;
  readonly #source: RulesetSource;
  readonly #setGroups: TableDriverOptions["setGroups"];
  readonly #log: Logger;
  #doubt: string | undefined = "start";
  #refusalsInARow = 0;
  #counts = { transactions: 0, refusals: 0, readings: 0, repairs: 0, rebuilds: 0 };

  constructor(options: TableDriverOptions) {
    this.#kernel = options.kernel;
    this.#source = options.source;
    this.#setGroups = options.setGroups;
    this.#log = options.log;
  }

  markForResync(why: string): void {
    this.#doubt ??= why;
  }

  get counts(): TableCounts {
    return this.#counts;
  }

  async apply(): Promise<void> {
    const [tooLarge] = this.#source.oversized();
    if (tooLarge !== undefined) throw refusal(tooLarge);
    const doubt = this.#doubt;
    if (doubt === undefined) return this.#apply(this.#source.take());
    if (this.#refusalsInARow >= REBUILD_AFTER) return this.#rebuild();
    const { change, leftover } = await this.#difference();
    this.#doubt = undefined;
    if (doubt !== "start" && (!isEmptyChange(change) || leftover.length > 0)) {
      this.#counts.repairs++;
      this.#log.warning("rules.repair", { because: doubt, chains: change.chains.size, sets: change.sets.size });
    }
    await this.#apply(change);
    await this.#commitAll(leftover);
  }

  /** What the kernel holds, what it should, and how they differ. */
  async dump(): Promise<unknown> {
    const observed = await readRuleset(this.#kernel);
    const desired = this.#source.desired();
    const change = diffRulesets(observed, desired);
    // What was about to be written is in `desired` and will not be taken again.
    if (!isEmptyChange(change)) this.#doubt ??= "dump";
    return {
      desired: summary(desired),
      observed: summary(observed),
      difference: { chains: [...change.chains.keys()], sets: [...change.sets.keys()] },
      counts: this.#counts,
    };
  }

  async #difference(): Promise<{ readonly change: RulesetChange; readonly leftover: Transactions }> {
    const observed = await this.#read();
    // One that was left behind is at least as strict as what we want: it goes last.
    const leftover = (await this.#kernel.listTables()).some(isStandIn) ? await retire(this.#kernel, STAND_IN) : [];
    // From here to the end nothing waits, so no message can slip between `desired` and `take`.
    const change = diffRulesets(observed, this.#source.desired());
    this.#source.take();
    return { change, leftover };
  }

  async #apply(change: RulesetChange): Promise<void> {
    try {
      await applyChange(change, { commit: (commands) => this.#commit(commands), setGroups: this.#setGroups });
    } catch (error) {
      this.#doubt ??= "interrupted change";
      throw error;
    }
  }

  /**
   * Replaces a table with which the kernel will not do what we want, whatever is the matter with it. No packet sees it missing, and none that
   * old and new rules both allow is lost: a stand-in with the new rules is put beside it; with both in force the old one goes, is built
   * anew, and the stand-in goes. A packet on its way through rules keeps them but asks sets as they are at that moment,
   * so a table loses its rules in one transaction and the sets in the next.
   */
  async #rebuild(): Promise<void> {
    this.#counts.rebuilds++;
    this.#log.warning("rules.rebuild", { refusals: this.#refusalsInARow });
    const change = diffRulesets(EMPTY, this.#source.desired());
    this.#source.take();
    const { after, before } = changePlan(change);
    this.#doubt = "interrupted rebuild";
    await this.#commitAll(await retire(this.#kernel, STAND_IN));
    await this.#commitAll(before.map((commands) => commands.map((command) => ({ ...command, table: STAND_IN }))));
    await this.#commitAll(await retire(this.#kernel, TABLE));
    // The first half sends interfaces to their walks by name, whatever groups the old table has left them.
    this.#setGroups(change.groups);
    await this.#commitAll(before);
    await this.#commitAll(after);
    await this.#commitAll(await retire(this.#kernel, STAND_IN));
    this.#doubt = undefined;
  }

  async #read(): Promise<Ruleset> {
    this.#counts.readings++;
    return readRuleset(this.#kernel);
  }

  async #commitAll(transactions: Transactions): Promise<void> {
    for (const commands of transactions) await this.#commit(commands);
  }

  async #commit(commands: readonly NftCommand[]): Promise<void> {
    if (commands.length === 0) return;
    try {
      await this.#kernel.apply(commands);
      this.#counts.transactions++;
      this.#refusalsInARow = 0;
    } catch (error) {
      this.#counts.refusals++;
      this.#refusalsInARow++;
      this.#doubt = "refused transaction";
      throw new CalicoError(
        "KERNEL",
        `the kernel refused a transaction on table inet calico (commands: ${commands.length}); the rules before it stay in force`,
        { cause: error, ...(error instanceof CalicoError ? { detail: error.detail } : {}) },
      );
    }
  }
}

/** Nothing is taken from the source: the next attempt finds all that is to be done. */
function refusal({ id, limit, members, users }: OversizedSet): CalicoError {
  const used = users.length === 0 ? "no policy" : users.slice(0, 5).join(", ") + (users.length > 5 ? ", …" : "");
  return new CalicoError(
    "BAD_INPUT",
    `IP set ${id}, used by ${used}, has ${members} members and maxIpsetSize is ${limit}: no rules are changed until it fits; ` +
      "narrow the selector or network set, or raise maxIpsetSize in FelixConfiguration",
    { detail: { set: id, members, limit } },
  );
}

type Transactions = readonly (readonly NftCommand[])[];

const isStandIn = (table: NftTable): boolean => table.family === STAND_IN.family && table.name === STAND_IN.name;

/** The transactions that take a table away: first nothing leads into it any more, then it goes. */
async function retire(kernel: TableKernel, table: NftTable): Promise<Transactions> {
  const entrances = (await kernel.listChains(table)).filter(({ base }) => base !== undefined);
  return [
    entrances.map(({ name }): NftCommand => ({ do: "flush-chain", table, chain: name })),
    [{ do: "delete-table", table, ifExists: true }],
  ];
}

/** The table as the kernel has it, at one moment: read again when somebody committed meanwhile. */
export async function readRuleset(kernel: TableKernel): Promise<Ruleset> {
  for (let attempt = 1; ; attempt++) {
    const before = await kernel.generation();
    const ruleset = await readOnce(kernel);
    if (ruleset !== undefined && (await kernel.generation()) === before) return ruleset;
    if (attempt === READ_ATTEMPTS) {
      throw new CalicoError(
        "UNAVAILABLE",
        "table inet calico changes faster than it can be read: who else writes to it?",
      );
    }
  }
}

async function readOnce(kernel: TableKernel): Promise<Ruleset | undefined> {
  if (!(await kernel.listTables()).some(isOurTable)) return EMPTY;
  try {
    const rules = Map.groupBy(await kernel.listRules(TABLE), (entry) => entry.chain);
    const chains = new Map<string, RenderedChain>();
    for (const chain of await kernel.listChains(TABLE)) {
      chains.set(chain.name, { chain, rules: (rules.get(chain.name) ?? []).map((entry) => entry.rule) });
    }
    const sets = new Map<string, RenderedSet>();
    for (const set of await kernel.listSets(TABLE)) {
      const elements = await kernel.listElements(TABLE, set);
      sets.set(set.name, {
        set,
        elements: new Map(elements.map((element) => [elementKey(element), element] as const)),
      });
    }
    return { table: TABLE, chains, sets, groups: new Map() };
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return undefined; // deleted while we read
    throw error;
  }
}

function summary(ruleset: Ruleset): unknown {
  return {
    chains: Object.fromEntries([...ruleset.chains].map(([name, { rules }]) => [name, rules.length])),
    sets: Object.fromEntries([...ruleset.sets].map(([name, { elements }]) => [name, elements.size])),
  };
}
