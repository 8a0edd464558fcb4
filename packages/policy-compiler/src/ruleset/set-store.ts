/**
 * Sets and what changed in them since somebody last asked. Changes are net: an element that came and went is not one.
 *
 * Large sets are kept by key alone: `elementOf` makes the element from it when somebody wants to see it.
 */
import { CalicoError } from "@calico-ts/std";
import type { SetDeclaration, SetElement } from "./values.ts";

export interface SetDifference {
  readonly declaration: SetDeclaration;
  /** new: everything in `added`. gone: the set with all its elements. */
  readonly state: "new" | "kept" | "gone";
  readonly added: readonly SetElement[];
  readonly removed: readonly SetElement[];
}

/** The sets of one owner, handed over whole. */
export class OwnedSets {
  readonly #store: SetStore;
  #names: readonly string[] = [];

  constructor(store: SetStore) {
    this.#store = store;
  }

  /** The owner's sets are exactly these from now on; elements by key. */
  replace(
    sets: readonly { readonly declaration: SetDeclaration; readonly elements: ReadonlyMap<string, SetElement> }[],
  ): void {
    const names = sets.map(({ declaration }) => declaration.name);
    for (const name of this.#names) if (!names.includes(name)) this.#store.undeclare(name);
    for (const { declaration, elements } of sets) {
      this.#store.declare(declaration);
      this.#store.replaceAll(declaration.name, elements);
    }
    this.#names = names;
  }
}

interface StoredSet {
  readonly declaration: SetDeclaration;
  readonly elements: Map<string, SetElement | undefined>;
  readonly elementOf: ElementOf;
}

/** Of a key that was put without an element. */
export type ElementOf = (key: string) => SetElement;

const needsElement: ElementOf = (key) => {
  throw new CalicoError("INTERNAL", `a set's element "${key}" was put without its value`);
};

interface Pending {
  /** As it was when changes were last taken; undefined: it was not there. */
  readonly before: SetDeclaration | undefined;
  /** Elements that differ, as they were then. */
  readonly touched: Map<string, SetElement | undefined>;
}

export class SetStore {
  readonly #sets = new Map<string, StoredSet>();
  readonly #pending = new Map<string, Pending>();

  has(name: string): boolean {
    return this.#sets.has(name);
  }

  size(name: string): number {
    return this.#sets.get(name)?.elements.size ?? 0;
  }

  keys(name: string): readonly string[] {
    return [...(this.#sets.get(name)?.elements.keys() ?? [])];
  }

  elements(name: string): readonly SetElement[] {
    const stored = this.#sets.get(name);
    return stored === undefined ? [] : all(stored);
  }

  declare(declaration: SetDeclaration, elementOf: ElementOf = needsElement): void {
    if (this.#sets.has(declaration.name)) return;
    this.#pend(declaration.name);
    this.#sets.set(declaration.name, { declaration, elements: new Map(), elementOf });
  }

  undeclare(name: string): void {
    const stored = this.#sets.get(name);
    if (stored === undefined) return;
    for (const key of stored.elements.keys()) this.delete(name, key);
    this.#pend(name);
    this.#sets.delete(name);
  }

  /** `element` may be left out when the set was declared with a way to make it. */
  put(name: string, key: string, element?: SetElement): void {
    const stored = this.#sets.get(name);
    if (stored === undefined) return;
    this.#touch(stored, key);
    stored.elements.set(key, element);
  }

  delete(name: string, key: string): void {
    const stored = this.#sets.get(name);
    if (stored === undefined || !stored.elements.has(key)) return;
    this.#touch(stored, key);
    stored.elements.delete(key);
  }

  /** Makes the elements exactly these. */
  replaceAll(name: string, elements: ReadonlyMap<string, SetElement>): void {
    const stored = this.#sets.get(name);
    if (stored === undefined) return;
    for (const key of stored.elements.keys()) if (!elements.has(key)) this.delete(name, key);
    for (const [key, element] of elements) {
      const there = stored.elements.get(key);
      if (there === undefined || !leadsTheSame(there, element)) this.put(name, key, element);
    }
  }

  take(): SetDifference[] {
    const differences: SetDifference[] = [];
    for (const [name, pending] of this.#pending) {
      const difference = this.#difference(name, pending);
      if (difference !== undefined) differences.push(difference);
    }
    this.#pending.clear();
    return differences;
  }

  #difference(name: string, pending: Pending): SetDifference | undefined {
    const stored = this.#sets.get(name);
    const declaration = stored?.declaration ?? pending.before;
    if (declaration === undefined) return undefined;
    if (stored !== undefined && pending.before === undefined) {
      return { declaration, state: "new", added: all(stored), removed: [] };
    }
    const added: SetElement[] = [];
    const removed: SetElement[] = [];
    for (const [key, before] of pending.touched) {
      const after = stored === undefined ? undefined : element(stored, key);
      if (before !== undefined && after !== undefined && leadsTheSame(before, after)) continue;
      if (before !== undefined) removed.push(before);
      if (after !== undefined) added.push(after);
    }
    const state = stored === undefined ? "gone" : "kept";
    if (state === "kept" && added.length + removed.length === 0) return undefined;
    return { declaration, state, added, removed };
  }

  #pend(name: string): Pending {
    const known = this.#pending.get(name);
    if (known !== undefined) return known;
    const pending: Pending = { before: this.#sets.get(name)?.declaration, touched: new Map() };
    this.#pending.set(name, pending);
    return pending;
  }

  #touch(stored: StoredSet, key: string): void {
    const { before, touched } = this.#pend(stored.declaration.name);
    // Of a set that was not there all elements are new: there is nothing to remember.
    if (before !== undefined && !touched.has(key)) touched.set(key, element(stored, key));
  }
}

const leadsTheSame = (a: SetElement, b: SetElement): boolean =>
  a.chain === b.chain && a.address?.value === b.address?.value;

function element(stored: StoredSet, key: string): SetElement | undefined {
  return stored.elements.get(key) ?? (stored.elements.has(key) ? stored.elementOf(key) : undefined);
}

const all = ({ elements, elementOf }: StoredSet): SetElement[] =>
  Array.from(elements, ([key, value]) => value ?? elementOf(key));
