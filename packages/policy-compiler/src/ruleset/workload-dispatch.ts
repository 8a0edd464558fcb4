/**
 * Which walks a pod's packets take: its interface's group stands for the pair, `from-workload-dispatch` and `to-workload-dispatch` lead from the
 * group to the walks, and `workload-groups` says which interface may have which group. Pods with the same two walks
 * share a group. So a pod that goes over to walks others have costs an element of a set and a change of its link; only a pair that
 * nobody had costs elements of verdict maps (`DESIGN.md`, "What changing rules costs the kernel").
 */
import { RefCounts } from "@calico-ts/std";
import { SETS } from "./names.ts";
import type { SetStore } from "./set-store.ts";
import { groupHash, type GroupHash, WalkGroups } from "./walk-groups.ts";

export interface WalkPair {
  /** Chains. */
  readonly from: string;
  readonly to: string;
}

/** An interface that goes from one group to another. */
export interface Move extends WalkPair {
  readonly interfaceName: string;
  readonly group: number;
}

interface Wanted extends WalkPair {
  readonly comment: string;
}

interface Placed {
  readonly pair: string;
  /** Of its element. */
  readonly key: string;
  readonly group: number;
}

export class WorkloadDispatch {
  readonly #sets: SetStore;
  readonly #groups: WalkGroups;
  readonly #pairs = new Map<string, WalkPair>();
  readonly #users = new RefCounts<string>();
  readonly #wanted = new Map<string, Wanted>();
  readonly #placed = new Map<string, Placed>();
  readonly #dirty = new Set<string>();
  #byInterface: ReadonlyMap<string, number> = new Map();

  constructor(sets: SetStore, hash: GroupHash = groupHash) {
    this.#sets = sets;
    this.#groups = new WalkGroups(hash);
  }

  /** undefined: the interface is nobody's any more. */
  set(interfaceName: string, wanted: Wanted | undefined): void {
    if (wanted === undefined) this.#wanted.delete(interfaceName);
    else this.#wanted.set(interfaceName, wanted);
    this.#dirty.add(interfaceName);
  }

  /** The group that each interface shall have. Never changed: a change makes a new one. */
  get groups(): ReadonlyMap<string, number> {
    return this.#byInterface;
  }

  /** Writes elements; returns the interfaces that had another group before. */
  settle(): readonly Move[] {
    if (this.#dirty.size === 0) return [];
    this.#renumber();
    const groups = new Map(this.#byInterface);
    const moves: Move[] = [];
    for (const name of this.#dirty) {
      const before = this.#placed.get(name);
      const wanted = this.#wanted.get(name);
      if (wanted === undefined) {
        if (before !== undefined) this.#sets.delete(SETS.workloadGroups, before.key);
        this.#placed.delete(name);
        groups.delete(name);
        continue;
      }
      const { comment, from, to } = wanted;
      const pair = pairText(wanted);
      const group = this.#groups.numberOf(pair);
      const key = `${name} ${group}`;
      if (before !== undefined && before.group !== group) {
        this.#sets.delete(SETS.workloadGroups, before.key);
        moves.push({ interfaceName: name, group, from, to });
      }
      this.#sets.put(SETS.workloadGroups, key, { key: [name, group], comment });
      this.#placed.set(name, { pair, key, group });
      groups.set(name, group);
    }
    this.#dirty.clear();
    this.#byInterface = groups;
    return moves;
  }

  /** Pairs that appear or go get and lose their elements; interfaces whose pair has another number now become dirty. */
  #renumber(): void {
    const added = new Set<string>();
    const removed = new Set<string>();
    // New references first: a pair that stays in use must not go and come back.
    for (const name of this.#dirty) {
      const wanted = this.#wanted.get(name);
      if (wanted === undefined) continue;
      const pair = pairText(wanted);
      if (this.#users.add(pair)) added.add(pair);
      this.#pairs.set(pair, wanted);
    }
    for (const name of this.#dirty) {
      const before = this.#placed.get(name);
      if (before !== undefined && this.#users.release(before.pair)) removed.add(before.pair);
    }
    const changed = this.#groups.change(added, removed);
    for (const number of changed.values()) {
      if (number === undefined) continue;
      this.#sets.delete(SETS.fromWorkload, String(number));
      this.#sets.delete(SETS.toWorkload, String(number));
    }
    for (const pair of changed.keys()) {
      const walks = this.#pairs.get(pair);
      if (removed.has(pair)) this.#pairs.delete(pair);
      else if (walks !== undefined) this.#lead(this.#groups.numberOf(pair), walks);
    }
    const renumbered = [...changed].some(([pair, number]) => number !== undefined && !removed.has(pair));
    if (!renumbered) return;
    for (const [name, { pair }] of this.#placed) if (changed.has(pair)) this.#dirty.add(name);
  }

  #lead(group: number, { from, to }: WalkPair): void {
    this.#sets.put(SETS.fromWorkload, String(group), { key: [group], chain: from });
    this.#sets.put(SETS.toWorkload, String(group), { key: [group], chain: to });
  }
}

const pairText = ({ from, to }: WalkPair): string => `${from} ${to}`;
