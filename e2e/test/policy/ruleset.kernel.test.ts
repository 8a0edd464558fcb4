/** The rendered table in a real kernel: it loads, reads back as it was meant, and changes in steps without drift. */
import { createNamespace, deleteNamespace, namespacePath, openKernel } from "@calico-ts/linux";
import type { Kernel } from "@calico-ts/linux";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  applyChange,
  createCompiler,
  diffRulesets,
  isEmptyChange,
  NftPolicyRenderer,
  NodePlanKernel,
} from "@calico-ts/policy-compiler";
import { readTable } from "./kernel-table.ts";
import type { World } from "@calico-ts/policy-compiler/testing";
import { STATES, steps } from "@calico-ts/policy-compiler/testing";

const NAMESPACE = `ct-${process.pid}-ruleset`;
let kernel: Kernel;

beforeAll(() => {
  createNamespace(NAMESPACE);
  kernel = openKernel({ netns: namespacePath(NAMESPACE) });
});
afterAll(() => {
  kernel[Symbol.dispose]();
  deleteNamespace(NAMESPACE);
});

test("every named state, one after the other, is in the kernel as it was meant", async () => {
  const renderer = new NftPolicyRenderer();
  renderer.setHostInterfaces(new Map([["eth0", ["192.168.0.1"]]]));
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  compiler.setInSync();
  let current: World = {};
  const target = new NodePlanKernel(kernel);
  for (const [name, world] of [...Object.entries(STATES), ...Object.entries(STATES).toReversed()]) {
    for (const update of steps(current, world)) compiler.update(update);
    current = world;
    compiler.flush();
    await applyChange(renderer.take(), target);
    const drift = diffRulesets(await readTable(kernel), renderer.desired());
    expect({
      name,
      clean: isEmptyChange(drift),
      chains: [...drift.chains.keys()],
      sets: [...drift.sets.keys()],
    }).toEqual({
      name,
      clean: true,
      chains: [],
      sets: [],
    });
  }
});

test("whatever is in the table, the difference makes it right", async () => {
  const renderer = new NftPolicyRenderer();
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  for (const update of Object.values(STATES["kubernetes policy"] ?? {})) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  const { table } = renderer.desired();
  await kernel.nft.apply([
    { do: "delete-table", table, ifExists: true },
    { do: "add-table", table },
    { do: "add-chain", table, chain: { name: "leftover" } },
    { do: "add-chain", table, chain: { name: "walk-in/old" } },
    {
      do: "add-rule",
      table,
      chain: "walk-in/old",
      rule: { exprs: [{ kind: "verdict", verdict: { kind: "jump", chain: "leftover" } }] },
    },
    // The same name with another declaration, another hook, another content.
    { do: "add-set", table, set: { name: "all-pools-v4", keyTypes: ["ipv4_addr"] } },
    {
      do: "add-chain",
      table,
      chain: { name: "forward-to-workload", base: { type: "filter", hook: "forward", priority: 7, policy: "accept" } },
    },
    {
      do: "add-rule",
      table,
      chain: "forward-to-workload",
      rule: { exprs: [{ kind: "verdict", verdict: { kind: "drop" } }] },
    },
  ]);
  await applyChange(diffRulesets(await readTable(kernel), renderer.desired()), new NodePlanKernel(kernel));
  expect(isEmptyChange(diffRulesets(await readTable(kernel), renderer.desired()))).toBe(true);
});
