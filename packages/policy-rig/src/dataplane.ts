/** The node's table and the groups of its links: programs rulesets as the agent does, reads them back, counts which rules a packet met. */
import type { Kernel } from "@calico-ts/linux";
import type { NftExpr, NftRule } from "@calico-ts/netlink";
import type { RenderedChain, RenderedSet, Ruleset, RulesetChange } from "@calico-ts/policy-compiler";
import {
  applyChange,
  CALICO_TABLE,
  diffRulesets,
  elementKey,
  isWalkGroup,
  NodePlanKernel,
} from "@calico-ts/policy-compiler";

const EMPTY: Ruleset = { table: CALICO_TABLE, chains: new Map(), sets: new Map(), groups: new Map() };

const isWorkload = (name: string): boolean => name.startsWith("cali");

export class Dataplane {
  readonly #kernel: Kernel;
  /** What the kernel has, as far as we know. */
  #programmed: Ruleset = EMPTY;
  readonly #target: NodePlanKernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#target = new NodePlanKernel(kernel);
  }

  /** @throws CalicoError KERNEL: refused; then the table is empty. */
  async program(ruleset: Ruleset, change?: RulesetChange): Promise<void> {
    try {
      await applyChange(change ?? diffRulesets(this.#programmed, ruleset), this.#target);
      this.#programmed = ruleset;
    } catch (error) {
      await this.#kernel.nft.apply([{ do: "delete-table", table: CALICO_TABLE, ifExists: true }]);
      this.#programmed = EMPTY;
      throw error;
    }
  }

  async read(): Promise<Ruleset> {
    const { nft } = this.#kernel;
    const chains = new Map(
      (await nft.listChains(CALICO_TABLE)).map((chain) => [chain.name, { chain, rules: new Array<NftRule>() }]),
    );
    for (const entry of await nft.listRules(CALICO_TABLE)) chains.get(entry.chain)?.rules.push(entry.rule);
    const sets = new Map<string, RenderedSet>();
    for (const set of await nft.listSets(CALICO_TABLE)) {
      const elements = await nft.listElements(CALICO_TABLE, set);
      sets.set(set.name, { set, elements: new Map(elements.map((element) => [elementKey(element), element])) });
    }
    const links = this.#kernel.links.list().filter(({ name, group }) => isWorkload(name) && isWalkGroup(group));
    return { table: CALICO_TABLE, chains, sets, groups: new Map(links.map(({ name, group }) => [name, group])) };
  }

  /**
   * Gives the links of workload interfaces without endpoint the groups of others', as if somebody had set them, or a link had brought
   * its own along. Nothing may follow from it.
   */
  misleadStrangers({ groups }: Ruleset): void {
    const used = [...new Set(groups.values())];
    for (const [at, { index, name }] of this.#strangers(groups).entries()) {
      const group = used[at % used.length];
      if (group !== undefined) this.#kernel.links.set(index, { group });
      this.#target.linkGroups.noted({ index, name, group: group ?? 0 });
    }
  }

  #strangers(groups: ReadonlyMap<string, number>): { readonly index: number; readonly name: string }[] {
    return this.#kernel.links.list().filter(({ name }) => isWorkload(name) && !groups.has(name));
  }

  /** The ruleset with a counter where each rule has matched, in front of what it does. */
  async programCounted(ruleset: Ruleset): Promise<void> {
    const chains = new Map(
      Array.from(ruleset.chains, ([name, { chain, rules }]): [string, RenderedChain] => [
        name,
        { chain, rules: rules.map(counted) },
      ]),
    );
    await this.program({ ...ruleset, chains });
  }

  /** `chain: comment` of the rules that matched something, chain by chain. */
  async matched(): Promise<string[]> {
    const entries = await this.#kernel.nft.listRules(CALICO_TABLE);
    return entries.flatMap(({ chain, rule }, at) => {
      const counter = rule.exprs.find((expr) => expr.kind === "counter");
      if (counter?.packets === undefined || counter.packets === 0n) return [];
      const index = entries.slice(0, at).filter((entry) => entry.chain === chain).length;
      return [`${chain} rule ${index}: ${verdictText(rule)}${rule.comment === undefined ? "" : ` (${rule.comment})`}`];
    });
  }
}

const isEffect = (expr: NftExpr): boolean =>
  expr.kind === "verdict" ||
  expr.kind === "meta-set" ||
  expr.kind === "log" ||
  expr.kind === "limit" ||
  expr.kind === "reject" ||
  expr.kind === "notrack" ||
  expr.kind === "masquerade" ||
  expr.kind === "nat" ||
  expr.kind === "counter";

function counted(rule: NftRule): NftRule {
  const at = rule.exprs.findIndex(isEffect);
  // A dispatch by map begins with what it looks up, after the sets that guard it.
  const guard = rule.exprs.findLastIndex((expr) => expr.kind === "lookup" && expr.dreg === undefined);
  const place = at === -1 ? guard + 1 : at;
  const exprs = [...rule.exprs.slice(0, place), { kind: "counter" } as const, ...rule.exprs.slice(place)];
  return { ...rule, exprs };
}

function verdictText(rule: NftRule): string {
  const last = rule.exprs.at(-1);
  if (last?.kind === "verdict") {
    return "chain" in last.verdict ? `${last.verdict.kind} ${last.verdict.chain}` : last.verdict.kind;
  }
  return last?.kind ?? "";
}
