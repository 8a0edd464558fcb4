import { formatAddress, parseAddress, parsePrefix } from "@calico-ts/net";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  attributeOf,
  type Block,
  blockProblems,
  countBlock,
  handleOf,
  isEmpty,
  newBlock,
  nothingReserved,
  ordinalOf,
  sequenceOf,
} from "./block.ts";
import { BlockDraft, type Cooldown, type Holder } from "./block-draft.ts";
import { nextSequenceNumber } from "./sequence-number.ts";

const NOW = Date.UTC(2026, 0, 1);
const fresh = (cidr = "10.0.0.0/29"): Block => newBlock(parsePrefix(cidr), { cidr, owner: "host:a", nowMs: NOW });
const pod = (name: string): Holder => ({ handle: `net.${name}`, attributes: { pod: name } });
const at = (seconds: number, cooldown = 0): Cooldown => ({ nowMs: NOW + seconds * 1000, seconds: cooldown });

const change = (block: Block, edit: (draft: BlockDraft) => void): Block => {
  const draft = new BlockDraft(block);
  edit(draft);
  return draft.finish();
};

describe("block", () => {
  test("gives the longest free address first, and a released one last", () => {
    let block = fresh("10.0.0.0/30");
    const take = (name: string): string => {
      const draft = new BlockDraft(block);
      const [address] = draft.assignNext(1, pod(name), nothingReserved);
      block = draft.finish();
      return address === undefined ? "none" : formatAddress(address);
    };
    expect([take("a"), take("b")]).toEqual(["10.0.0.0", "10.0.0.1"]);
    block = change(block, (draft) => draft.releaseHandle("net.a", at(0)));
    expect([take("c"), take("d"), take("e"), take("f")]).toEqual(["10.0.0.2", "10.0.0.3", "10.0.0.0", "none"]);
  });

  test("skips reserved addresses and keeps their place in the queue", () => {
    const reserved = (address: { value: bigint }): boolean => address.value % 2n === 0n;
    const block = change(fresh(), (draft) => {
      expect(draft.assignNext(2, pod("a"), reserved).map(formatAddress)).toEqual(["10.0.0.1", "10.0.0.3"]);
    });
    expect(block.unallocated).toEqual([0, 2, 4, 5, 6, 7]);
    expect(countBlock(block, reserved)).toEqual({ size: 8, inUse: 2, cooling: 0, reserved: 4, free: 2 });
  });

  test("holders of several addresses share an attribute, and it goes with the last of them", () => {
    let block = change(fresh(), (draft) => {
      draft.assignNext(2, pod("a"), nothingReserved);
      draft.assignNext(1, pod("b"), nothingReserved);
    });
    expect(block.allocations).toEqual([0, 0, 1, null, null, null, null, null]);
    block = change(block, (draft) => expect(draft.release({ ordinal: 0 }, at(0)).kind).toBe("released"));
    expect(block.attributes).toHaveLength(2);
    block = change(block, (draft) => draft.release({ ordinal: 1 }, at(0)));
    expect(block.attributes.map(handleOf)).toEqual(["net.b"]);
    expect(block.allocations[2]).toBe(0);
    expect(isEmpty(change(block, (draft) => draft.release({ ordinal: 2 }, at(0))))).toBe(true);
  });

  test("a release that is out of date is refused", () => {
    const first = change(fresh(), (draft) => draft.assignNext(1, pod("a"), nothingReserved));
    const sequenceNumber = sequenceOf(first, 0);
    const freed = change(first, (draft) => draft.releaseHandle("net.a", at(0)));
    const second = change(freed, (draft) => expect(draft.assignOrdinal(0, pod("b"))).toBe(true));
    expect(sequenceOf(second, 0)).not.toBe(sequenceNumber);
    change(second, (draft) => {
      expect(draft.release({ ordinal: 0, sequenceNumber }, at(0)).kind).toBe("stale");
      expect(draft.release({ ordinal: 0, handle: "net.a" }, at(0))).toMatchObject({ kind: "stale", why: /net\.b/ });
      expect(draft.release({ ordinal: 1 }, at(0)).kind).toBe("not-assigned");
      expect(draft.changed).toBe(false);
      expect(draft.release({ ordinal: 0, handle: "net.b", sequenceNumber: sequenceOf(second, 0) }, at(0)).kind).toBe(
        "released",
      );
      expect(draft.release({ ordinal: 0 }, at(0)).kind).toBe("not-assigned");
    });
  });

  test("a block made anew never repeats a sequence number", () => {
    const first = change(fresh(), (draft) => draft.assignNext(1, pod("a"), nothingReserved));
    const later = newBlock(parsePrefix("10.0.0.0/29"), { cidr: "10.0.0.0/29", owner: "host:a", nowMs: NOW + 1 });
    const second = change(later, (draft) => draft.assignNext(1, pod("b"), nothingReserved));
    expect(sequenceOf(second, 0)).toBeGreaterThan(first.sequenceNumber ?? 0);
  });

  test("sequence numbers of upstream, larger than a double counts exactly, still move", () => {
    const upstream = 1_760_000_000_123_456_800;
    expect(upstream + 1).toBe(upstream);
    expect(nextSequenceNumber(upstream)).toBeGreaterThan(upstream);
    expect(nextSequenceNumber(7)).toBe(8);
  });

  test("with a cooldown a released address is neither used nor free until its time is over", () => {
    const used = change(fresh("10.0.0.0/31"), (draft) => draft.assignNext(2, pod("a"), nothingReserved));
    const cooling = change(used, (draft) => draft.releaseHandle("net.a", at(100, 60)));
    expect(countBlock(cooling, nothingReserved)).toMatchObject({ inUse: 0, cooling: 2, free: 0 });
    expect(isEmpty(cooling)).toBe(false);
    expect(attributeOf(cooling, 0)).toEqual({ releasedAt: "2026-01-01T00:01:40Z" });
    change(cooling, (draft) => {
      expect(draft.assignOrdinal(0, pod("b"))).toBe(false);
      expect(draft.release({ ordinal: 0 }, at(101, 60)).kind).toBe("not-assigned");
      expect(draft.collectCooled(at(159, 60))).toBe(0);
      expect(draft.collectCooled(at(160, 60))).toBe(2);
    });
    expect(isEmpty(change(cooling, (draft) => draft.collectCooled(at(160, 60))))).toBe(true);
  });

  test("an unchanged draft finishes into the same object, and a changed one leaves the original alone", () => {
    const block = fresh();
    const copy = structuredClone(block);
    expect(new BlockDraft(block).finish()).toBe(block);
    change(block, (draft) => draft.assignNext(3, pod("a"), nothingReserved));
    expect(block).toEqual(copy);
  });

  test("handles with a carriage return and rubbish are recognised by what comes before", () => {
    const block = change(fresh(), (draft) =>
      draft.assignNext(1, { handle: "net.a\r\neth0", attributes: {} }, nothingReserved),
    );
    expect(change(block, (draft) => expect(draft.releaseHandle("net.a", at(0))).toHaveLength(1))).toBeDefined();
  });
});

type Step =
  | { readonly do: "take"; readonly who: number; readonly count: number }
  | { readonly do: "claim"; readonly who: number; readonly ordinal: number }
  | { readonly do: "free"; readonly ordinal: number }
  | { readonly do: "leave"; readonly who: number }
  | { readonly do: "wait"; readonly seconds: number };

const who = fc.nat(4);
const ordinal = fc.nat(15);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant("take" as const), who, count: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ do: fc.constant("claim" as const), who, ordinal }),
    fc.record({ do: fc.constant("free" as const), ordinal }),
    fc.record({ do: fc.constant("leave" as const), who }),
    fc.record({ do: fc.constant("wait" as const), seconds: fc.nat(40) }),
  ),
  { maxLength: 60 },
);

/** Our own account of a block: who holds what, and since when the rest is at rest. */
class Ledger {
  block = fresh("10.0.0.0/28");
  readonly held = new Map<string, string>();
  readonly #restingSince = new Map<string, number>();
  readonly #cooldown: number;
  #seconds = 0;

  constructor(cooldown: number) {
    this.#cooldown = cooldown;
  }

  get #now(): Cooldown {
    return at(this.#seconds, this.#cooldown);
  }

  /** Does the step; what it says that disagrees with our account. */
  apply(step: Step): string[] {
    if (step.do === "wait") {
      this.#seconds += step.seconds;
      return [];
    }
    const draft = new BlockDraft(this.block);
    draft.collectCooled(this.#now);
    const before = this.block.sequenceNumber ?? 0;
    const problems = this.#change(draft, step);
    this.block = draft.finish();
    if (draft.changed && (this.block.sequenceNumber ?? 0) <= before) problems.push("the sequence number did not move");
    return [...problems, ...blockProblems(this.block)];
  }

  #change(draft: BlockDraft, step: Exclude<Step, { do: "wait" }>): string[] {
    switch (step.do) {
      case "take":
        return draft
          .assignNext(step.count, pod(`p${step.who}`), nothingReserved)
          .flatMap((address) => this.#give(formatAddress(address), `net.p${step.who}`));
      case "claim":
        return draft.assignOrdinal(step.ordinal, pod(`p${step.who}`))
          ? this.#give(`10.0.0.${step.ordinal}`, `net.p${step.who}`)
          : [];
      case "free": {
        const address = `10.0.0.${step.ordinal}`;
        const wanted = this.held.has(address) ? "released" : "not-assigned";
        const { kind } = draft.release({ ordinal: step.ordinal }, this.#now);
        this.#rest(address);
        return kind === wanted ? [] : [`${address} was ${kind}, not ${wanted}`];
      }
      case "leave": {
        const name = `net.p${step.who}`;
        const freed = draft.releaseHandle(name, this.#now).map(formatAddress).toSorted().join();
        const held = [...this.held].filter(([, holder]) => holder === name).map(([address]) => address);
        for (const address of held) this.#rest(address);
        return freed === held.toSorted().join() ? [] : [`${name} gave back ${freed}, not ${held.join()}`];
      }
    }
  }

  #give(address: string, name: string): string[] {
    const problems: string[] = [];
    if (this.held.has(address)) problems.push(`${address} is held already`);
    const since = this.#restingSince.get(address);
    if (since !== undefined && this.#seconds - since < this.#cooldown) problems.push(`${address} has not cooled down`);
    this.held.set(address, name);
    return problems;
  }

  #rest(address: string): void {
    if (this.held.delete(address)) this.#restingSince.set(address, this.#seconds);
  }
}

test("whatever is done to a block, no address has two holders and the books balance", { timeout: 60_000 }, () => {
  fc.assert(
    fc.property(steps, fc.constantFrom(0, 30), (actions, cooldown) => {
      const ledger = new Ledger(cooldown);
      for (const action of actions) {
        expect(ledger.apply(action)).toEqual([]);
        const counts = countBlock(ledger.block, nothingReserved);
        expect(counts.inUse).toBe(ledger.held.size);
        expect(counts.inUse + counts.cooling + counts.free).toBe(16);
        const prefix = parsePrefix("10.0.0.0/28");
        const holders = [...ledger.held.keys()].map((address) => {
          const attribute = attributeOf(ledger.block, ordinalOf(prefix, parseAddress(address)) ?? -1);
          return attribute === undefined ? undefined : handleOf(attribute);
        });
        expect(holders).toEqual([...ledger.held.values()]);
      }
    }),
    { numRuns: 500 },
  );
});
