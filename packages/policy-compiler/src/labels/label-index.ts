/**
 * Which items (endpoints, network sets) match which selectors, kept up to date as either changes.
 *
 * An item has its own labels and inherits those of its parents (profiles: a namespace, a service account); its own win,
 * then earlier parents. Nothing is ever compared with everything: a selector is filed under one label it requires
 * (`restrictions`), so a changed item meets the selectors filed under labels it has, and a new selector meets the items that
 * have the label it is filed under. Selectors that require nothing meet everybody: `all()`, negations.
 *
 * The sink hears of each match once when it begins and once when it ends.
 */
import type { LabelRestriction, LabelSource, Selector } from "@calico-ts/selector";
import { MultiMap } from "@calico-ts/std";

export interface LabelledItem {
  readonly labels: ReadonlyMap<string, string>;
  readonly parents: readonly string[];
}

export interface MatchSink {
  matchStarted(selector: string, item: string): void;
  matchStopped(selector: string, item: string): void;
}

interface StoredItem extends LabelledItem {
  /** Own and inherited. */
  readonly effective: ReadonlyMap<string, string>;
}

interface Filing {
  readonly label: string;
  /** undefined: any value. */
  readonly values?: readonly string[];
}

const NO_LABELS: ReadonlyMap<string, string> = new Map();

export class LabelIndex {
  readonly #sink: MatchSink;
  readonly #items = new Map<string, StoredItem>();
  readonly #parentLabels = new Map<string, ReadonlyMap<string, string>>();
  readonly #children = new MultiMap<string, string>();
  readonly #selectors = new Map<string, { readonly selector: Selector; readonly filing: Filing | undefined }>();

  readonly #matchesOfItem = new MultiMap<string, string>();
  readonly #matchesOfSelector = new MultiMap<string, string>();

  readonly #itemsByLabel = new MultiMap<string, string>();
  readonly #itemsByValue = new MultiMap<string, string>();
  readonly #selectorsByLabel = new MultiMap<string, string>();
  readonly #selectorsByValue = new MultiMap<string, string>();
  readonly #unfiled = new Set<string>();

  constructor(sink: MatchSink) {
    this.#sink = sink;
  }

  selectorsMatching(item: string): ReadonlySet<string> {
    return this.#matchesOfItem.get(item);
  }

  itemsMatching(selector: string): ReadonlySet<string> {
    return this.#matchesOfSelector.get(selector);
  }

  setItem(id: string, item: LabelledItem): void {
    const before = this.#items.get(id);
    for (const parent of before?.parents ?? []) this.#children.delete(parent, id);
    for (const parent of item.parents) this.#children.add(parent, id);
    this.#reindex(id, item);
  }

  deleteItem(id: string): void {
    const before = this.#items.get(id);
    if (before === undefined) return;
    for (const parent of before.parents) this.#children.delete(parent, id);
    this.#unfileItem(id, before.effective, NO_LABELS);
    this.#items.delete(id);
    for (const selector of this.#matchesOfItem.get(id)) this.#stop(selector, id);
  }

  /** Labels that a parent gives to its children. An unknown parent gives none. */
  setParentLabels(parent: string, labels: ReadonlyMap<string, string> | undefined): void {
    const before = this.#parentLabels.get(parent) ?? NO_LABELS;
    if (labels === undefined) this.#parentLabels.delete(parent);
    else this.#parentLabels.set(parent, labels);
    if (sameLabels(before, labels ?? NO_LABELS)) return;
    for (const child of this.#children.get(parent)) {
      const item = this.#items.get(child);
      if (item !== undefined) this.#reindex(child, item);
    }
  }

  setSelector(id: string, selector: Selector): void {
    const before = this.#selectors.get(id);
    if (before?.selector.canonical === selector.canonical) return;
    this.#unfileSelector(id);
    const filing = chooseFiling(selector);
    this.#selectors.set(id, { selector, filing });
    if (filing === undefined) this.#unfiled.add(id);
    else if (filing.values === undefined) this.#selectorsByLabel.add(filing.label, id);
    else for (const value of filing.values) this.#selectorsByValue.add(pair(filing.label, value), id);

    const matching = new Set<string>();
    for (const item of this.#candidates(filing)) {
      const stored = this.#items.get(item);
      if (stored !== undefined && selector.matches(stored.effective)) matching.add(item);
    }
    for (const item of this.#matchesOfSelector.get(id)) if (!matching.has(item)) this.#stop(id, item);
    for (const item of matching) this.#start(id, item);
  }

  deleteSelector(id: string): void {
    this.#unfileSelector(id);
    this.#selectors.delete(id);
    for (const item of this.#matchesOfSelector.get(id)) this.#stop(id, item);
  }

  #reindex(id: string, item: LabelledItem): void {
    const before = this.#items.get(id);
    const effective = this.#effective(item);
    this.#items.set(id, { labels: item.labels, parents: item.parents, effective });
    if (before !== undefined && sameLabels(before.effective, effective)) return;
    this.#unfileItem(id, before?.effective ?? NO_LABELS, effective);
    for (const [label, value] of effective) {
      this.#itemsByLabel.add(label, id);
      this.#itemsByValue.add(pair(label, value), id);
    }
    const matching = this.#matchingSelectors(effective);
    for (const selector of this.#matchesOfItem.get(id)) if (!matching.has(selector)) this.#stop(selector, id);
    for (const selector of matching) this.#start(selector, id);
  }

  #effective(item: LabelledItem): ReadonlyMap<string, string> {
    const effective = new Map(item.labels);
    for (const parent of item.parents) {
      for (const [label, value] of this.#parentLabels.get(parent) ?? NO_LABELS) {
        if (!effective.has(label)) effective.set(label, value);
      }
    }
    return effective;
  }

  #matchingSelectors(labels: ReadonlyMap<string, string>): Set<string> {
    const matching = new Set<string>();
    const test = (ids: ReadonlySet<string>): void => {
      for (const id of ids) if (this.#selectorMatches(id, labels)) matching.add(id);
    };
    test(this.#unfiled);
    for (const [label, value] of labels) {
      test(this.#selectorsByLabel.get(label));
      test(this.#selectorsByValue.get(pair(label, value)));
    }
    return matching;
  }

  #selectorMatches(id: string, labels: LabelSource): boolean {
    return this.#selectors.get(id)?.selector.matches(labels) ?? false;
  }

  *#candidates(filing: Filing | undefined): Iterable<string> {
    if (filing === undefined) yield* this.#items.keys();
    else if (filing.values === undefined) yield* this.#itemsByLabel.get(filing.label);
    else for (const value of filing.values) yield* this.#itemsByValue.get(pair(filing.label, value));
  }

  #start(selector: string, item: string): void {
    if (!this.#matchesOfSelector.add(selector, item)) return;
    this.#matchesOfItem.add(item, selector);
    this.#sink.matchStarted(selector, item);
  }

  #stop(selector: string, item: string): void {
    if (!this.#matchesOfSelector.delete(selector, item)) return;
    this.#matchesOfItem.delete(item, selector);
    this.#sink.matchStopped(selector, item);
  }

  #unfileItem(id: string, before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): void {
    for (const [label, value] of before) {
      const now = after.get(label);
      if (now === undefined) this.#itemsByLabel.delete(label, id);
      if (now !== value) this.#itemsByValue.delete(pair(label, value), id);
    }
  }

  #unfileSelector(id: string): void {
    const known = this.#selectors.get(id);
    if (known === undefined) return;
    const { filing } = known;
    if (filing === undefined) this.#unfiled.delete(id);
    else if (filing.values === undefined) this.#selectorsByLabel.delete(filing.label, id);
    else for (const value of filing.values) this.#selectorsByValue.delete(pair(filing.label, value), id);
  }
}

/** Label names have no spaces, so this cannot be read two ways. */
const pair = (label: string, value: string): string => `${label} ${value}`;

/** The label that tells most: a value beats presence, few values beat many, and what every pod has comes last. */
function chooseFiling(selector: Selector): Filing | undefined {
  let best: { readonly rank: number; readonly filing: Filing } | undefined;
  for (const [label, restriction] of selector.restrictions) {
    const rank = rankOf(label, restriction);
    if (rank === undefined || (best !== undefined && best.rank <= rank)) continue;
    const { values } = restriction;
    best = { rank, filing: values === undefined ? { label } : { label, values: [...values] } };
  }
  return best?.filing;
}

function rankOf(label: string, restriction: LabelRestriction): number | undefined {
  if (restriction.values !== undefined) {
    const common =
      label === "projectcalico.org/orchestrator" ? 10_000 : label.startsWith("projectcalico.org/") ? 100 : 0;
    return restriction.values.size + common;
  }
  return restriction.present ? (label.startsWith("projectcalico.org/") ? 30_000 : 20_000) : undefined;
}

function sameLabels(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  if (a.size !== b.size) return false;
  for (const [label, value] of a) if (b.get(label) !== value) return false;
  return true;
}
