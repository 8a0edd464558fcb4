/**
 * Output depends on what exists, not on how it came about: every pair of named states, reached in every way, with every
 * delivery and flush timing, must end in the messages and the ruleset that a fresh compiler makes of the last state.
 */
import { describe, expect, test } from "vitest";
import type { Compiler } from "../src/index.ts";
import { createCompiler, diffRulesets, isEmptyChange, NftPolicyRenderer } from "../src/index.ts";
import { CheckingSink } from "../src/testing/checking-sink.ts";
import { FakeTable } from "../src/testing/fake-table.ts";
import type { World } from "../src/testing/resources.ts";
import { DELIVERIES, EXPANSIONS, STATES, steps } from "../src/testing/states.ts";

type Timing = "after each update" | "after each world" | "at the end";
const TIMINGS: readonly Timing[] = ["after each update", "after each world", "at the end"];

class Rig {
  readonly sink = new CheckingSink();
  readonly renderer = new NftPolicyRenderer();
  readonly table = new FakeTable();
  readonly compiler: Compiler = createCompiler({
    node: "n1",
    emit: (message) => {
      this.sink.receive(message);
      this.renderer.receive(message);
    },
  });

  constructor() {
    this.renderer.setHostInterfaces(new Map([["eth0", ["192.168.0.1"]]]));
  }

  flush(): void {
    this.sink.nextFlush();
    this.compiler.flush();
    this.table.program(this.renderer.take());
  }
}

function fresh(world: World): Rig {
  const rig = new Rig();
  for (const update of Object.values(world)) rig.compiler.update(update);
  rig.compiler.setInSync();
  rig.flush();
  return rig;
}

const names = Object.keys(STATES);
const freshRigs = new Map(names.map((name) => [name, fresh(STATES[name] ?? {})]));

function run(worlds: readonly World[], deliver: (typeof DELIVERIES)[string], timing: Timing): Rig {
  const rig = new Rig();
  rig.compiler.setInSync();
  if (timing !== "at the end") rig.flush();
  let current: World = {};
  for (const world of worlds) {
    for (const update of deliver(steps(current, world))) {
      rig.compiler.update(update);
      if (timing === "after each update") rig.flush();
    }
    if (timing === "after each world") rig.flush();
    current = world;
  }
  rig.flush();
  return rig;
}

describe.each(Object.entries(EXPANSIONS))("%s", (_, expand) => {
  describe.each(Object.entries(DELIVERIES))("updates %s", (_, deliver) => {
    test.each(TIMINGS)("flush %s", (timing) => {
      for (const [at, first] of names.entries()) {
        const last = names[(at + 1) % names.length] ?? "";
        const middle = names[(at * 7 + 3) % names.length] ?? "";
        const worlds = [first, middle, last].map((name) => STATES[name] ?? {});
        const rig = run(expand(worlds), deliver, timing);
        const wanted = freshRigs.get(last);
        const where = `${first} → ${middle} → ${last}`;
        expect({ where, errors: rig.sink.errors }).toEqual({ where, errors: [] });
        expect({ where, state: rig.sink.state() }).toEqual({ where, state: wanted?.sink.state() });
        // The table was built step by step; it must be what a fresh compiler wants, with nothing left over.
        const desired = wanted?.renderer.desired();
        const same = desired !== undefined && isEmptyChange(diffRulesets(rig.table.ruleset(), desired));
        expect({ where, same }).toEqual({ where, same: true });
      }
    });
  });
});

test("nothing is said before in-sync, and in-sync comes last and once", () => {
  const rig = new Rig();
  for (const update of Object.values(STATES["kubernetes policy"] ?? {})) rig.compiler.update(update);
  rig.flush();
  expect(rig.sink.log).toEqual([]);
  rig.compiler.setInSync();
  rig.flush();
  expect(rig.sink.log.at(-1)).toEqual({ kind: "in-sync" });
  rig.flush();
  expect(rig.sink.log.filter(({ kind }) => kind === "in-sync")).toHaveLength(1);
});

test("a change that is taken back before the flush leaves no trace", () => {
  const rig = fresh(STATES["kubernetes policy"] ?? {});
  const before = rig.sink.log.length;
  for (const update of steps(STATES["kubernetes policy"] ?? {}, STATES["tiers out of order"] ?? {}))
    rig.compiler.update(update);
  for (const update of steps(STATES["tiers out of order"] ?? {}, STATES["kubernetes policy"] ?? {}))
    rig.compiler.update(update);
  rig.flush();
  expect(rig.sink.log.slice(before)).toEqual([]);
});
