/**
 * The first rule of a list that matches a packet, without asking those that cannot: a rule that needs an address to be selected
 * by one of some selectors is filed under these, and a packet brings the selectors its addresses are selected by.
 */
import type { OracleRule } from "./oracle-policy.ts";
import type { PacketView } from "./packet-view.ts";

type SideName = "source" | "destination";

export class RuleIndex {
  /** Log rules included. */
  readonly all: readonly OracleRule[];
  readonly #rules: readonly OracleRule[];
  readonly #always: number[] = [];
  readonly #filed: Readonly<Record<SideName, Map<number, number[]>>> = { source: new Map(), destination: new Map() };

  /** Log rules decide nothing and are left out. */
  constructor(rules: readonly OracleRule[]) {
    this.all = rules;
    this.#rules = rules.filter(({ action }) => action !== "log");
    for (const [at, { needs }] of this.#rules.entries()) {
      if (needs === undefined) this.#always.push(at);
      for (const selector of needs?.anyOf ?? []) {
        const filed = this.#filed[needs?.side ?? "source"];
        const list = filed.get(selector);
        if (list === undefined) filed.set(selector, [at]);
        else list.push(at);
      }
    }
  }

  first(packet: PacketView): OracleRule | undefined {
    let best = this.#firstOf(this.#always, packet, this.#rules.length);
    for (const side of ["source", "destination"] as const) {
      const filed = this.#filed[side];
      if (filed.size === 0) continue;
      for (const selector of packet[side].selectors()) {
        const list = filed.get(selector);
        if (list !== undefined) best = this.#firstOf(list, packet, best);
      }
    }
    return this.#rules[best];
  }

  /** The lowest place below `best` whose rule matches; `best` when there is none. Lists are in order. */
  #firstOf(list: readonly number[], packet: PacketView, best: number): number {
    for (const at of list) {
      if (at >= best) return best;
      if (this.#rules[at]?.matches(packet) === true) return at;
    }
    return best;
  }
}
