/**
 * The nftables side of the policy compiler: receives dataplane messages, keeps the table that should be in the kernel as
 * values, and says what changed. What the rules mean is decided in `ruleset/`; here they only change form.
 */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import type { NftElement, NftSet, NftTable } from "@calico-ts/netlink";
import type { HostInterfaces } from "../../ruleset/host-endpoints.ts";
import type { OversizedSet } from "../../ruleset/ruleset-compiler.ts";
import { RulesetCompiler } from "../../ruleset/ruleset-compiler.ts";
import type { SetDifference } from "../../ruleset/set-store.ts";
import type { Chain, SetDeclaration, SetElement } from "../../ruleset/values.ts";
import type { Move } from "../../ruleset/workload-dispatch.ts";
import { elementKey, ruleIdentity } from "./identity.ts";
import type { RenderedChain } from "./render-chain.ts";
import { renderChain, renderSet } from "./render-chain.ts";
import { renderElement } from "./render-element.ts";
import type { ChainChange, RenderedSet, Ruleset, RulesetChange, SetChange } from "./ruleset.ts";

export const CALICO_TABLE: NftTable = { family: "inet", name: "calico" };

export class NftPolicyRenderer {
  readonly #compiler = new RulesetCompiler();
  readonly #chains = new Map<string, RenderedChain>();
  /** What is in them is kept once, by the compiler. */
  readonly #sets = new Map<string, { readonly declaration: SetDeclaration; readonly set: NftSet }>();
  /** Changes of the desired table that `desired()` has seen and `take()` has not given out yet. */
  #chainChanges = new Map<string, ChainChange>();
  #setChanges = new Map<string, SetChange>();
  #moves: readonly Move[] = [];
  #entangled = false;

  receive(message: DataplaneMessage): void {
    this.#compiler.receive(message);
  }

  /** The node's interfaces, pods' left out, with their addresses as text. Host endpoints apply to the ones they match. */
  setHostInterfaces(interfaces: HostInterfaces): void {
    this.#compiler.setHostInterfaces(interfaces);
  }

  /**
   * IP sets larger than `maxIpsetSize`. They are in `take` and `desired` with all their members, never truncated: whoever programs the
   * kernel asks here first, and leaves the old rules in force while there are any.
   */
  oversized(): readonly OversizedSet[] {
    return this.#compiler.oversized();
  }

  /** What changed since the last call; the first one is everything. */
  take(): RulesetChange {
    this.#settle(true);
    const [chains, sets, moves] = [this.#chainChanges, this.#setChanges, this.#moves];
    const rewritten = [...chains.values()].some(({ kind }) => kind === "replace");
    this.#chainChanges = new Map();
    this.#setChanges = new Map();
    this.#moves = [];
    const together = rewritten || this.#entangled;
    return { table: CALICO_TABLE, chains, sets, groups: this.#compiler.groups, moves, together };
  }

  /** The whole table. Calling it leaves `take` with nothing to report: whoever diffs the whole does not need steps. */
  desired(): Ruleset {
    this.#settle(false);
    this.#chainChanges.clear();
    this.#setChanges.clear();
    this.#moves = [];
    const sets = new Map<string, RenderedSet>();
    for (const [name, { declaration, set }] of this.#sets) {
      const rendered = this.#compiler.elements(name).map((element) => renderElement(declaration, element));
      sets.set(name, { set, elements: new Map(rendered.map((element) => [elementKey(element), element])) });
    }
    return { table: CALICO_TABLE, chains: this.#chains, sets, groups: this.#compiler.groups };
  }

  #settle(record: boolean): void {
    const difference = this.#compiler.take();
    for (const set of difference.sets) this.#applySet(set, record);
    for (const [name, chain] of difference.chains) this.#applyChain(name, chain);
    this.#moves = difference.moves;
    this.#entangled = difference.entangled;
  }

  #applyChain(name: string, chain: Chain | undefined): void {
    const before = this.#chains.get(name);
    if (chain === undefined) {
      if (before === undefined) return;
      this.#chains.delete(name);
      this.#chainChanges.set(name, { kind: "remove", name });
      return;
    }
    const rendered = renderChain(chain);
    if (before !== undefined && sameRules(before, rendered)) return;
    this.#chains.set(name, rendered);
    this.#chainChanges.set(name, { kind: "replace", rendered, isNew: before === undefined });
  }

  #applySet(difference: SetDifference, record: boolean): void {
    const { declaration, state } = difference;
    const { name } = declaration;
    const known = this.#sets.get(name)?.set;
    if (state === "gone") {
      this.#sets.delete(name);
      if (known !== undefined) this.#setChanges.set(name, { kind: "remove", set: known });
      return;
    }
    const set = known ?? renderSet(declaration);
    this.#sets.set(name, { declaration, set });
    if (!record) return;
    const render = (elements: readonly SetElement[]): NftElement[] =>
      elements.map((element) => renderElement(declaration, element));
    const added = render(difference.added);
    if (known === undefined) this.#setChanges.set(name, { kind: "replace", set, elements: added });
    else this.#setChanges.set(name, { kind: "delta", set, added, removed: render(difference.removed) });
  }
}

const sameRules = (a: RenderedChain, b: RenderedChain): boolean =>
  a.rules.length === b.rules.length &&
  a.rules.every((rule, at) => {
    const other = b.rules[at];
    return other !== undefined && ruleIdentity(rule) === ruleIdentity(other);
  });
