/**
 * An nf_tables table that takes commands like the kernel does and refuses what the kernel refuses: names that are not
 * there, chains and sets that are still in use, elements that are there already or overlap. A batch applies whole or not.
 */
import type { NftCommand, NftElement, NftRule, NftSet } from "@calico-ts/netlink";
import { compareBytes } from "@calico-ts/netlink";
import { CALICO_TABLE, changePlan, elementKey } from "../index.ts";
import type { RenderedChain, RenderedSet, Ruleset, RulesetChange } from "../index.ts";

interface Chain extends RenderedChain {
  readonly rules: NftRule[];
}
interface Set_ extends RenderedSet {
  readonly elements: Map<string, NftElement>;
}

export class FakeTable {
  #chains = new Map<string, Chain>();
  #sets = new Map<string, Set_>();
  /** What the links have. */
  groups: ReadonlyMap<string, number> = new Map();

  ruleset(): Ruleset {
    return { table: CALICO_TABLE, chains: this.#chains, sets: this.#sets, groups: this.groups };
  }

  /** All of it, and the groups of links in their place. */
  program(change: RulesetChange): void {
    const { after, before } = changePlan(change);
    for (const commands of before) this.apply(commands);
    this.groups = change.groups;
    for (const commands of after) this.apply(commands);
  }

  apply(commands: readonly NftCommand[]): void {
    const chains = new Map([...this.#chains].map(([name, { chain, rules }]) => [name, { chain, rules: [...rules] }]));
    const sets = new Map(
      [...this.#sets].map(([name, { set, elements }]) => [name, { set, elements: new Map(elements) }]),
    );
    const before = { chains: this.#chains, sets: this.#sets };
    this.#chains = chains;
    this.#sets = sets;
    try {
      for (const command of commands) this.#run(command);
    } catch (error) {
      this.#chains = before.chains;
      this.#sets = before.sets;
      throw error;
    }
  }

  #run(command: NftCommand): void {
    switch (command.do) {
      case "add-table":
        return;
      case "add-chain":
        if (!this.#chains.has(command.chain.name)) {
          this.#chains.set(command.chain.name, { chain: command.chain, rules: [] });
        }
        return;
      case "flush-chain":
        this.#chain(command.chain).rules.length = 0;
        return;
      case "delete-chain":
        if (this.#chain(command.chain).rules.length > 0) throw new Error(`EBUSY: chain ${command.chain} has rules`);
        this.#refuseUsedChain(command.chain);
        this.#chains.delete(command.chain);
        return;
      case "add-rule":
        this.#checkRule(command.rule);
        this.#chain(command.chain).rules.push(command.rule);
        return;
      case "add-set":
        if (!this.#sets.has(command.set.name))
          this.#sets.set(command.set.name, { set: command.set, elements: new Map() });
        return;
      case "delete-set":
        this.#set(command.set);
        this.#refuseUsedSet(command.set);
        this.#sets.delete(command.set);
        return;
      case "add-elements":
        for (const element of command.elements) this.#addElement(command.set, element);
        return;
      case "delete-elements":
        for (const element of command.elements) {
          if (!this.#set(command.set.name).elements.delete(elementKey(element))) {
            throw new Error(`ENOENT: element ${elementKey(element)} of ${command.set.name}`);
          }
        }
        return;
      default:
        throw new Error(`not expected from a ruleset change: ${command.do}`);
    }
  }

  #chain(name: string): Chain {
    const chain = this.#chains.get(name);
    if (chain === undefined) throw new Error(`ENOENT: chain ${name}`);
    return chain;
  }

  #set(name: string): Set_ {
    const set = this.#sets.get(name);
    if (set === undefined) throw new Error(`ENOENT: set ${name}`);
    return set;
  }

  #checkRule(rule: NftRule): void {
    if ((rule.comment ?? "").length > 127) throw new Error(`comment too long: ${rule.comment}`);
    for (const expr of rule.exprs) {
      if (expr.kind === "lookup") this.#set(expr.set);
      if (expr.kind === "verdict" && "chain" in expr.verdict) this.#chain(expr.verdict.chain);
    }
  }

  #addElement(declaration: NftSet, element: NftElement): void {
    const { set, elements } = this.#set(declaration.name);
    const key = elementKey(element);
    if (elements.has(key)) throw new Error(`EEXIST: element ${key} of ${set.name}`);
    if (typeof element.value === "object" && "chain" in element.value) this.#chain(element.value.chain);
    if (set.interval === true && set.keyTypes.length === 1) {
      for (const other of elements.values()) {
        if (overlap(element, other)) throw new Error(`EEXIST: ${key} overlaps ${elementKey(other)} in ${set.name}`);
      }
    } else if (set.interval !== true && element.keyEnd !== undefined) {
      throw new Error(`EINVAL: a range in the hash set ${set.name}`);
    }
    elements.set(key, element);
  }

  #refuseUsedChain(name: string): void {
    for (const { chain, rules } of this.#chains.values()) {
      const user = rules.find((rule) =>
        rule.exprs.some((expr) => expr.kind === "verdict" && "chain" in expr.verdict && expr.verdict.chain === name),
      );
      if (user !== undefined) throw new Error(`EBUSY: chain ${name} is used by ${chain.name}`);
    }
    for (const { set, elements } of this.#sets.values()) {
      for (const { value } of elements.values()) {
        if (typeof value === "object" && "chain" in value && value.chain === name) {
          throw new Error(`EBUSY: chain ${name} is used by ${set.name}`);
        }
      }
    }
  }

  #refuseUsedSet(name: string): void {
    for (const { chain, rules } of this.#chains.values()) {
      if (rules.some((rule) => rule.exprs.some((expr) => expr.kind === "lookup" && expr.set === name))) {
        throw new Error(`EBUSY: set ${name} is used by ${chain.name}`);
      }
    }
  }
}

const overlap = (a: NftElement, b: NftElement): boolean =>
  compareBytes(a.key, b.keyEnd ?? b.key) <= 0 && compareBytes(b.key, a.keyEnd ?? a.key) <= 0;
