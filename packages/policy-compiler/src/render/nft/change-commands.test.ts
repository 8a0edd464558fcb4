import { describe, expect, test } from "vitest";
import type { NftCommand, NftElement } from "@calico-ts/netlink";
import { hostUint32, interfaceKey, rule, verdictMap } from "@calico-ts/netlink";
import type { CompilerUpdate } from "../../index.ts";
import { createCompiler } from "../../index.ts";
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import { hostInterfaceName } from "@calico-ts/model";
import { FakeTable } from "../../testing/fake-table.ts";
import { globalPolicy, namespace, pod } from "../../testing/resources.ts";
import { SETS } from "../../ruleset/names.ts";
import { applyChange, changePlan } from "./change-commands.ts";
import { elementKey } from "./identity.ts";
import { CALICO_TABLE, NftPolicyRenderer } from "./policy-renderer.ts";
import type { RenderedChain } from "./render-chain.ts";
import { diffRulesets, isEmptyChange } from "./ruleset.ts";
import type { Ruleset } from "./ruleset.ts";

const set = (...members: string[]): DataplaneMessage => ({ kind: "ip-set-update", id: "s:1", type: "net", members });

const namesOf = (commands: readonly NftCommand[], prefix: string): string[] =>
  commands.flatMap((command) => {
    const named = "set" in command ? (typeof command.set === "string" ? command.set : command.set.name) : "";
    return named.startsWith(prefix) ? [`${command.do} ${named}`] : [];
  });

describe("transactions", () => {
  test("new interval sets are filled before the rules that ask them, sets go after them", () => {
    const renderer = new NftPolicyRenderer();
    const steps = (): string[][] => changePlan(renderer.take()).before.map((commands) => namesOf(commands, "set/"));
    renderer.receive(set("10.0.0.1/32"));
    expect(steps()).toEqual([["add-set set/s/1/v4", "add-elements set/s/1/v4"]]);
    renderer.receive(set("10.0.0.1/32", "10.1.0.0/16"));
    expect(steps()).toEqual([["add-set set/s/1/v4-nets", "add-elements set/s/1/v4-nets"]]);
    renderer.receive(set("10.0.0.2/32"));
    expect(steps()).toEqual([
      ["delete-elements set/s/1/v4", "add-elements set/s/1/v4"],
      ["delete-set set/s/1/v4-nets"],
    ]);
    expect(steps()).toEqual([]);
  });
});

const allows = (selector: string, port: number): CompilerUpdate =>
  globalPolicy(`to-${selector}-${port}`, {
    selector: `app == '${selector}'`,
    types: ["Ingress"],
    ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [port] } }],
  });

const labelled = (name: string, app: string): CompilerUpdate =>
  pod(`ns/${name}`, { ips: [`10.0.0.${name.length}`], node: "n1", labels: { app } });

/** A table with two pods in each of two groups, and a compiler to change it. */
class World {
  readonly renderer = new NftPolicyRenderer();
  readonly table = new FakeTable();
  readonly compiler = createCompiler({ node: "n1", emit: (message) => this.renderer.receive(message) });

  constructor() {
    this.compiler.setInSync();
    const [a, b] = [
      ["x", "xx"],
      ["xxx", "xxxx"],
    ];
    this.change(namespace("ns"), allows("a", 1), allows("b", 2));
    this.change(...(a ?? []).map((name) => labelled(name, "a")), ...(b ?? []).map((name) => labelled(name, "b")));
  }

  change(...updates: readonly CompilerUpdate[]): void {
    for (const update of updates) this.compiler.update(update);
    this.compiler.flush();
    this.table.program(this.renderer.take());
  }

  /** The same in slow motion: what the table is before and after the groups are set. */
  async slowly(...updates: readonly CompilerUpdate[]): Promise<{ between: Ruleset; change: string }> {
    for (const update of updates) this.compiler.update(update);
    this.compiler.flush();
    const change = this.renderer.take();
    let between = copy(this.table.ruleset());
    await applyChange(change, {
      commit: async (commands) => this.table.apply(commands),
      setGroups: (groups) => {
        between = copy(this.table.ruleset());
        this.table.groups = groups;
      },
    });
    return { between, change: change.together ? "together" : "apart" };
  }
}

const copy = (ruleset: Ruleset): Ruleset => ({
  ...ruleset,
  chains: new Map(ruleset.chains),
  sets: new Map(
    Array.from(ruleset.sets, ([name, { set: of, elements }]) => [name, { set: of, elements: new Map(elements) }]),
  ),
});

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The chain that a packet to the interface is sent to, the interface's link having that group. */
function walkTo(ruleset: Ruleset, name: string, group: number): string | undefined {
  const find = (map: string, key: Uint8Array): string | undefined => {
    const value = ruleset.sets.get(map)?.elements.get(hex(key))?.value;
    return value !== undefined && "chain" in value ? value.chain : undefined;
  };
  const known = ruleset.sets
    .get(SETS.workloadGroups)
    ?.elements.has(`${hex(interfaceKey(name))}${hex(hostUint32(group))}`);
  const walk = known === true ? find(SETS.toWorkload, hostUint32(group)) : undefined;
  return walk ?? find(SETS.movingToWorkload, interfaceKey(name));
}

const INTERFACE = hostInterfaceName("ns", "x");
const groupOf = (ruleset: Ruleset, name = INTERFACE): number => ruleset.groups.get(name) ?? 0;

describe("a pod that goes over to other policies", () => {
  test("that others have: no element of a verdict map, and either group leads somewhere until the link has changed", async () => {
    const world = new World();
    const old = groupOf(world.table.ruleset());
    const oldWalk = walkTo(world.table.ruleset(), INTERFACE, old);
    const other = groupOf(world.table.ruleset(), hostInterfaceName("ns", "xxx"));
    const { between, change } = await world.slowly(labelled("x", "b"));
    expect(change).toBe("apart");
    expect(groupOf(world.table.ruleset())).toBe(other);
    expect(oldWalk).toBeDefined();
    expect(walkTo(between, INTERFACE, old)).toBe(oldWalk);
    expect(walkTo(between, INTERFACE, other)).toBe(walkTo(world.table.ruleset(), INTERFACE, other));
    expect(walkTo(world.table.ruleset(), INTERFACE, old), "the old group is not believed any more").toBeUndefined();
  });

  test("together with rules: one transaction changes both", async () => {
    const world = new World();
    const old = groupOf(world.table.ruleset());
    const { between, change } = await world.slowly(labelled("x", "b"), allows("b", 3));
    expect(change).toBe("together");
    const now = groupOf(world.table.ruleset());
    expect(now).not.toBe(old);
    const walk = walkTo(world.table.ruleset(), INTERFACE, now);
    expect(walk).toBeDefined();
    expect([walkTo(between, INTERFACE, old), walkTo(between, INTERFACE, now)]).toEqual([walk, walk]);
    expect(world.table.ruleset().sets.get(SETS.movingToWorkload)?.elements.size).toBe(0);
  });

  test("together with the members of sets that its policies ask", async () => {
    const world = new World();
    const asks = globalPolicy("asks", {
      selector: "app == 'b'",
      types: ["Ingress"],
      ingress: [{ action: "Allow", source: { selector: "peer == 'yes'" } }],
    });
    const peer = (yes: string): CompilerUpdate =>
      pod("ns/peer", { ips: ["10.9.9.9"], node: "n2", labels: { peer: yes } });
    world.change(asks, peer("no"), pod("ns/first", { ips: ["10.9.9.8"], node: "n2", labels: { peer: "yes" } }));
    expect((await world.slowly(labelled("x", "b"))).change, "alone").toBe("apart");
    expect((await world.slowly(labelled("x", "a"), peer("yes"))).change, "with a stranger's address").toBe("together");
  });

  test("with its own address in others' sets: apart", async () => {
    const world = new World();
    const asks = globalPolicy("asks", {
      selector: "app == 'b'",
      types: ["Ingress"],
      ingress: [{ action: "Allow", source: { selector: "app == 'a'" } }],
    });
    world.change(asks);
    expect((await world.slowly(labelled("x", "b"))).change).toBe("apart");
    expect((await world.slowly(labelled("x", "a"), labelled("xx", "b"))).change, "two at once").toBe("together");
  });

  test("the first endpoint of its kind, and its end, move nobody", () => {
    const world = new World();
    world.compiler.update(labelled("xxxxx", "c"));
    world.compiler.flush();
    const change = world.renderer.take();
    expect([change.moves.length, changePlan(change).after.length]).toEqual([0, 0]);
    world.table.program(change);
    world.change({ kind: "Pod", key: { namespace: "ns", name: "xxxxx" }, resource: undefined });
    expect(groupOf(world.table.ruleset(), hostInterfaceName("ns", "xxxxx"))).toBe(0);
  });
});

describe("a change that was interrupted", () => {
  test.each(["apart", "together"])(
    "between the halves, %s: read again, either group leads to the new walk until the link has changed",
    async (how) => {
      const world = new World();
      const old = groupOf(world.table.ruleset());
      world.compiler.update(labelled("x", "b"));
      if (how === "together") world.compiler.update(allows("b", 3));
      world.compiler.flush();
      const change = world.renderer.take();
      for (const commands of changePlan(change).before) world.table.apply(commands);
      // Here the process died. The next one knows the kernel's table and what it wants itself.
      const desired = world.renderer.desired();
      const plan = changePlan(diffRulesets(world.table.ruleset(), desired));
      for (const commands of plan.before) world.table.apply(commands);
      const between = copy(world.table.ruleset());
      const walk = walkTo(between, INTERFACE, groupOf(desired));
      expect(walk).toBeDefined();
      expect(walkTo(between, INTERFACE, old)).toBe(walk);
      for (const commands of plan.after) world.table.apply(commands);
      const left = diffRulesets(world.table.ruleset(), desired);
      expect([[...left.sets.keys()], [...left.chains.keys()], left.moves]).toEqual([[], [], []]);
    },
  );
});

test("a table whose maps lead from names to walks, as earlier versions made them: no interface is without its walk while links get groups", () => {
  const world = new World();
  const desired = world.renderer.desired();
  const { chains, sets, table } = copy(desired);
  const name = { name: SETS.toWorkload, keyTypes: ["ifname"], mapTo: "verdict" } as const;
  const walk = walkTo(desired, INTERFACE, groupOf(desired)) ?? "";
  const element: NftElement = { key: interfaceKey(INTERFACE), value: { kind: "goto", chain: walk } };
  const entrance = "forward-to-workload-dispatch";
  const old = new FakeTable();
  old.program(
    diffRulesets(EMPTY, {
      table,
      chains: new Map([
        ...Array.from(
          chains,
          ([at, each]) => [at, asks(each, SETS.workloadGroups) ? { ...each, rules: [] } : each] as const,
        ),
        [entrance, { chain: { name: entrance }, rules: [rule(verdictMap(name.name, ["oifname"]))] }],
      ]),
      sets: new Map([
        ...[...sets].filter(([set]) => set !== SETS.workloadGroups),
        [SETS.toWorkload, { set: name, elements: new Map([[elementKey(element), element]]) }],
      ]),
      groups: new Map(),
    }),
  );
  const plan = changePlan(diffRulesets(old.ruleset(), desired));
  for (const commands of plan.before) old.apply(commands);
  expect(walkTo(old.ruleset(), INTERFACE, 0)).toBe(walk);
  for (const commands of plan.after) old.apply(commands);
  expect(walkTo(old.ruleset(), INTERFACE, groupOf(desired))).toBe(walk);
  expect(isEmptyChange(diffRulesets(old.ruleset(), desired))).toBe(true);
});

const asks = ({ rules }: RenderedChain, set: string): boolean =>
  rules.some(({ exprs }) => exprs.some((expr) => expr.kind === "lookup" && expr.set === set));

const EMPTY: Ruleset = { table: CALICO_TABLE, chains: new Map(), sets: new Map(), groups: new Map() };
