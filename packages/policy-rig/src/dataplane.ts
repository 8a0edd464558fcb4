/** The node's table: programs rulesets in one transaction each, reads them back, counts which rules a packet met. */
import type { Kernel } from "@calico-ts/linux";
import type { NftExpr, NftRule } from "@calico-ts/netlink";
import type { RenderedChain, RenderedSet, Ruleset, RulesetChange } from "@calico-ts/policy-compiler";
import { CALICO_TABLE, changeTransactions, diffRulesets, elementKey } from "@calico-ts/policy-compiler";

const EMPTY: Ruleset = { table: CALICO_TABLE, chains: new Map(), sets: new Map() };

export class Dataplane {
  readonly #kernel: Kernel;
  /** What the kernel has, as far as we know. */
  #programmed: Ruleset = EMPTY;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** @throws CalicoError KERNEL: refused; then the table is empty. */
  async program(ruleset: Ruleset, change?: RulesetChange): Promise<void> {
    try {
      const wanted = change ?? diffRulesets(this.#programmed, ruleset);
      for (const commands of changeTransactions(wanted)) await this.#kernel.nft.apply(commands);
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
    return { table: CALICO_TABLE, chains, sets };
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
  // A dispatch by map begins with what it looks up.
  const place = at === -1 ? 0 : at;
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
