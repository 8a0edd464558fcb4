/**
 * What is on trial: compiler and renderer, fed with one world after the other as an agent would. A defect wraps them: it changes
 * messages on their way to the renderer, or the finished ruleset.
 */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import type { RenderedSet, Ruleset, RulesetChange } from "@calico-ts/policy-compiler";
import {
  createCompiler,
  diffRulesets,
  isEmptyChange,
  NftPolicyRenderer,
  type Compiler,
} from "@calico-ts/policy-compiler";
import { NODE, NODE_ADDRESS, UPLINK } from "./lab/plan.ts";
import type { World } from "./world.ts";
import { stepsBetween } from "./world.ts";

export interface Defect {
  readonly name: string;
  readonly about: string;
  /** What the renderer hears instead. */
  readonly message?: (message: DataplaneMessage) => readonly DataplaneMessage[];
  /** What is programmed instead. */
  readonly ruleset?: (ruleset: Ruleset) => Ruleset;
}

export class Candidate {
  readonly #renderer = new NftPolicyRenderer();
  readonly #compiler: Compiler;
  readonly #defect: Defect | undefined;
  #world: World = [];

  constructor(world: World, defect?: Defect) {
    this.#defect = defect;
    const receive = (message: DataplaneMessage): void => this.#renderer.receive(message);
    const wrapped = defect?.message;
    this.#compiler = createCompiler({
      node: NODE,
      emit: wrapped === undefined ? receive : (message) => wrapped(message).forEach(receive),
    });
    this.#renderer.setHostInterfaces(new Map([[UPLINK, [NODE_ADDRESS[4], NODE_ADDRESS[6]]]]));
    this.#update(world);
    this.#compiler.setInSync();
    this.#compiler.flush();
    this.#renderer.take();
  }

  /** The change as the renderer reports it; undefined when a defect changes finished rulesets, so that it would not fit. */
  advance(world: World): RulesetChange | undefined {
    this.#update(world);
    this.#compiler.flush();
    const change = this.#renderer.take();
    return this.#defect?.ruleset === undefined ? change : undefined;
  }

  /** A copy: what the renderer keeps goes on changing. */
  ruleset(): Ruleset {
    const { table, chains, groups, sets } = this.#renderer.desired();
    const copy: Ruleset = {
      table,
      groups,
      chains: new Map(chains),
      sets: new Map(
        Array.from(sets, ([name, { set, elements }]): [string, RenderedSet] => [
          name,
          { set, elements: new Map(elements) },
        ]),
      ),
    };
    return this.#defect?.ruleset?.(copy) ?? copy;
  }

  #update(world: World): void {
    for (const update of stepsBetween(this.#world, world)) this.#compiler.update(update);
    this.#world = world;
  }
}

/** What a ruleset has that it should not have, and the other way round; empty when they are equal by value. */
export function rulesetDifferences(actual: Ruleset, wanted: Ruleset): string[] {
  const change = diffRulesets(actual, wanted);
  const groups = groupDifferences(actual.groups, wanted.groups);
  if (isEmptyChange(change)) return groups;
  return [
    ...groups,
    ...Array.from(change.chains.values(), (item) =>
      item.kind === "remove" ? `chain ${item.name} should not be there` : `chain ${item.rendered.chain.name} is wrong`,
    ),
    ...Array.from(change.sets, ([name, item]) =>
      item.kind === "remove"
        ? `set ${name} should not be there`
        : item.kind === "replace"
          ? `set ${name} is missing or declared otherwise`
          : `set ${name} lacks ${item.added.length} elements and has ${item.removed.length} too many`,
    ),
  ];
}

const groupDifferences = (actual: ReadonlyMap<string, number>, wanted: ReadonlyMap<string, number>): string[] =>
  [...new Set([...actual.keys(), ...wanted.keys()])]
    .filter((name) => actual.get(name) !== wanted.get(name))
    .map((name) => `the link ${name} has group ${actual.get(name) ?? "0"} and should have ${wanted.get(name) ?? "0"}`);
