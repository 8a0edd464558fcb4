/**
 * Makes the kernel's table `inet calico` equal to what the policy compiler rendered.
 *
 * Normally each pass writes what changed since the last one, as one transaction. When the kernel's state is in doubt (start, refresh,
 * a stranger's transaction on our table, a refusal) the whole table is read, compared by value and the difference written: a
 * table that is right is not touched. The table is ours alone, so whatever is in it and not wanted goes.
 *
 * A refused transaction changes nothing: the old rules stay, the apply loop backs off, and each attempt starts from a fresh
 * reading. After `REBUILD_AFTER` refusals in a row the table is deleted and built anew, still in one transaction, so that no packet
 * sees it missing.
 */
import type { NftClient } from "@calico-ts/linux";
import type { NftCommand } from "@calico-ts/netlink";
import type { OversizedSet, RenderedChain, RenderedSet, Ruleset, RulesetChange } from "@calico-ts/policy-compiler";
import { changeTransactions, diffRulesets, elementKey, isEmptyChange } from "@calico-ts/policy-compiler";
import type { Logger } from "@calico-ts/runtime";
import { CalicoError, errorText, hasCode } from "@calico-ts/std";
import { isOurTable, TABLE } from "../ownership.ts";

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
}

const REBUILD_AFTER = 3;
const READ_ATTEMPTS = 10;
const EMPTY: Ruleset = { table: TABLE, chains: new Map(), sets: new Map() };

export class TableDriver {
  readonly #kernel: TableKernel;
  readonly #source: RulesetSource;
  readonly #log: Logger;
  #doubt: string | undefined = "start";
  #refusalsInARow = 0;
  #counts = { transactions: 0, refusals: 0, readings: 0, repairs: 0 };

  constructor(options: { readonly kernel: TableKernel; readonly source: RulesetSource; readonly log: Logger }) {
    this.#kernel = options.kernel;
    this.#source = options.source;
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
    if (doubt === undefined) {
      const change = this.#source.take();
      if (!isEmptyChange(change)) await this.#commitAll(changeTransactions(change));
      return;
    }
    const transactions = await this.#difference();
    this.#doubt = undefined;
    if (transactions.length === 0) return;
    if (doubt !== "start") {
      this.#counts.repairs++;
      this.#log.warning("rules.repair", { because: doubt, commands: transactions.flat().length });
    }
    await this.#commitAll(transactions);
  }

  /** What the kernel holds, what it should, and how they differ. */
  async dump(): Promise<unknown> {
    const observed = await readRuleset(this.#kernel);
    const desired = this.#source.desired();
    const change = diffRulesets(observed, desired);
    return {
      desired: summary(desired),
      observed: summary(observed),
      difference: { chains: [...change.chains.keys()], sets: [...change.sets.keys()] },
      counts: this.#counts,
    };
  }

  async #difference(): Promise<readonly (readonly NftCommand[])[]> {
    const rebuild = this.#refusalsInARow >= REBUILD_AFTER;
    const observed = rebuild ? EMPTY : await this.#read();
    // From here to the end nothing waits, so no message can slip between `desired` and `take`.
    const change = diffRulesets(observed, this.#source.desired());
    this.#source.take();
    if (rebuild) {
      this.#log.warning("rules.rebuild", { refusals: this.#refusalsInARow });
      const start: readonly NftCommand[] = [
        { do: "add-table", table: TABLE },
        { do: "delete-table", table: TABLE },
      ];
      return [[...start, ...changeTransactions(change).flat()]];
    }
    return isEmptyChange(change) ? [] : changeTransactions(change);
  }

  async #read(): Promise<Ruleset> {
    this.#counts.readings++;
    return readRuleset(this.#kernel);
  }

  async #commitAll(transactions: readonly (readonly NftCommand[])[]): Promise<void> {
    for (const commands of transactions) await this.#commit(commands);
  }

  async #commit(commands: readonly NftCommand[]): Promise<void> {
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
        `the kernel refused a transaction of ${commands.length} commands on table inet calico (${errorText(error)}); ` +
          "the rules before it stay in force",
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
    return { table: TABLE, chains, sets };
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
