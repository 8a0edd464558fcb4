/**
 * The nftables side of the policy compiler: receives dataplane messages, keeps the table that should be in the kernel as
 * values, and says what changed. What the rules mean is decided in `ruleset/`; here they only change form.
 */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import type { NftElement, NftTable } from "@calico-ts/netlink";
import type { HostInterfaces } from "../../ruleset/host-endpoints.ts";
import type { OversizedSet } from "../../ruleset/ruleset-compiler.ts";
import { RulesetCompiler } from "../../ruleset/ruleset-compiler.ts";
import type { SetDifference } from "../../ruleset/set-store.ts";
import type { Chain } from "../../ruleset/values.ts";
import { elementKey, ruleIdentity } from "./identity.ts";
import type { RenderedChain } from "./render-chain.ts";
import { renderChain, renderSet } from "./render-chain.ts";
import { renderElement } from "./render-element.ts";
import type { ChainChange, RenderedSet, Ruleset, RulesetChange, SetChange } from "./ruleset.ts";

export const CALICO_TABLE: NftTable = { family: "inet", name: "calico" };

interface MutableSet extends RenderedSet {
  readonly elements: Map<string, NftElement>;
}

export class NftPolicyRenderer {
  readonly #compiler = new RulesetCompiler();
  readonly #chains = new Map<string, RenderedChain>();
  readonly #sets = new Map<string, MutableSet>();
  /** Changes of the desired table that `desired()` has seen and `take()` has not given out yet. */
  #chainChanges = new Map<string, ChainChange>();
  #setChanges = new Map<string, SetChange>();

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

  /** What changed since the last call; the first one is everything. Good until the next message: sets are not copied. */
  take(): RulesetChange {
    this.#settle(true);
    const change = { table: CALICO_TABLE, chains: this.#chainChanges, sets: this.#setChanges };
    this.#chainChanges = new Map();
    this.#setChanges = new Map();
    return change;
  }

  /** The whole table. Calling it leaves `take` with nothing to report: whoever diffs the whole does not need steps. */
  desired(): Ruleset {
    this.#settle(false);
    this.#chainChanges.clear();
    this.#setChanges.clear();
    return { table: CALICO_TABLE, chains: this.#chains, sets: this.#sets };
  }

  #settle(record: boolean): void {
    const difference = this.#compiler.take();
    for (const set of difference.sets) this.#applySet(set, record);
    for (const [name, chain] of difference.chains) this.#applyChain(name, chain);
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
    if (state === "gone") {
      const stored = this.#sets.get(name);
      this.#sets.delete(name);
      if (stored !== undefined) this.#setChanges.set(name, { kind: "remove", set: stored.set });
      return;
    }
    const known = this.#sets.get(name);
    const stored: MutableSet = known ?? { set: renderSet(declaration), elements: new Map() };
    const removed: NftElement[] = [];
    const added: NftElement[] = [];
    for (const neutral of difference.removed.values()) {
      const element = renderElement(declaration, neutral);
      stored.elements.delete(elementKey(element));
      removed.push(element);
    }
    for (const neutral of difference.added.values()) {
      const element = renderElement(declaration, neutral);
      stored.elements.set(elementKey(element), element);
      if (known !== undefined) added.push(element);
    }
    this.#sets.set(name, stored);
    if (!record) return;
    if (known === undefined) this.#setChanges.set(name, { kind: "replace", rendered: stored });
    else this.#setChanges.set(name, { kind: "delta", set: stored.set, added, removed });
  }
}

const sameRules = (a: RenderedChain, b: RenderedChain): boolean =>
  a.rules.length === b.rules.length &&
  a.rules.every((rule, at) => {
    const other = b.rules[at];
    return other !== undefined && ruleIdentity(rule) === ruleIdentity(other);
  });
