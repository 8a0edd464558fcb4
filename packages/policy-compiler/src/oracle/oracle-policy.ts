/** A policy as the oracle reads it: to whom it applies, and rules that answer whether a packet matches. */
import type { PolicyId } from "@calico-ts/dataplane-api";
import type { EntityTest } from "./label-terms.ts";
import type { PacketView, Side } from "./packet-view.ts";
import type { Entity } from "./world.ts";

/** One condition of a rule. Its words are made only when somebody asks why (`trace.ts`). */
export interface Criterion {
  /** As in the resource: `protocol`, `source.selector`, `from`. */
  readonly field: string;
  readonly test: PacketTest;
  wanted(): string;
  seen(packet: PacketView): string;
}

export interface OracleRule {
  readonly action: "allow" | "deny" | "pass" | "log";
  readonly index: number;
  /** The packet matches when all of them do. */
  readonly criteria: readonly Criterion[];
  matches(packet: PacketView): boolean;
  /** Without it, it cannot match: one of these selectors selects the address of the side. */
  readonly needs?: Needs;
}

export interface Needs {
  readonly side: "source" | "destination";
  readonly anyOf: readonly number[];
}

export interface OraclePolicy {
  readonly id: PolicyId;
  readonly tier: string;
  readonly order: number;
  readonly applies: EntityTest;
  /** To whom it applies, in words. */
  readonly subject: string;
  /** undefined: the policy says nothing about the direction. */
  readonly ingress: readonly OracleRule[] | undefined;
  readonly egress: readonly OracleRule[] | undefined;
  /** `normal` policies apply to pods; the others to host endpoints only. */
  readonly use: "normal" | "untracked" | "pre-dnat";
  readonly onForward: boolean;
}

export type PacketTest = (packet: PacketView) => boolean;

/** Stands in for a rule nobody can read: it denies everything, or as an Allow or Log never matches. */
export function unreadable(action: "allow" | "deny" | "log", index: number, why: string): OracleRule {
  const denies = action === "deny";
  return ruleOf(action, index, [
    { field: "rule", test: () => denies, wanted: () => "a rule that can be read", seen: () => why },
  ]);
}

export interface NumberedSelector {
  readonly number: number;
  /** Is one of the owners of the side's address selected? */
  selects(side: Side): boolean;
}

/** What every entity that a selector selects has: one of the values at a label. */
export interface Demand {
  readonly label: string;
  readonly values: readonly string[];
}

/**
 * Numbers selectors, so that a side can remember answers; equal texts in equal places share a number. Those that demand a value of a
 * label are filed under it: of thousands an entity is asked only those whose demand it meets.
 */
export class SelectorNumbers {
  readonly #numbers = new Map<string, number>();
  readonly #tests: EntityTest[] = [];
  readonly #demanding = new Map<string, Map<string, number[]>>();
  readonly #others: number[] = [];

  get count(): number {
    return this.#tests.length;
  }

  number(key: string, test: EntityTest, demand?: Demand): NumberedSelector {
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.#tests.length;
      this.#numbers.set(key, number);
      this.#tests.push(test);
      this.#file(number, demand);
    }
    const own = number;
    return { number: own, selects: (side) => side.isSelected(own) };
  }

  selects(number: number, entity: Entity): boolean {
    return this.#tests[number]?.(entity) === true;
  }

  /** All that may select the entity; no other does. */
  *candidates(entity: Entity): Iterable<number> {
    yield* this.#others;
    for (const [label, byValue] of this.#demanding) {
      const value = entity.labels.get(label);
      if (value !== undefined) yield* byValue.get(value) ?? [];
    }
  }

  #file(number: number, demand: Demand | undefined): void {
    if (demand === undefined) {
      this.#others.push(number);
      return;
    }
    const byValue = this.#demanding.get(demand.label) ?? new Map<string, number[]>();
    this.#demanding.set(demand.label, byValue);
    for (const value of demand.values) {
      const list = byValue.get(value);
      if (list === undefined) byValue.set(value, [number]);
      else list.push(number);
    }
  }
}

export function ruleOf(
  action: OracleRule["action"],
  index: number,
  criteria: readonly Criterion[],
  needs?: Needs,
): OracleRule {
  const tests = criteria.map(({ test }) => test);
  const matches: PacketTest = (packet) => tests.every((test) => test(packet));
  return { action, index, criteria, matches, ...(needs === undefined ? {} : { needs }) };
}
