/**
 * The rig for some seconds: cases that are always the same, new ones, and defects that it must find. Longer: `npm run fuzz -- policy`. Budgets are of
 * processor time, so that a busy machine takes longer and finds the same.
 */
import { randomBytes } from "node:crypto";
import { listNamespaces } from "@calico-ts/linux";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFECTS, findingText, fuzz, processorTime, Rig } from "../src/index.ts";
import type { FuzzResult, Mismatch } from "../src/index.ts";

const PREFIX = `ct-${process.pid}-rig`;
let rig: Rig;
beforeAll(() => {
  rig = new Rig({ prefix: PREFIX });
});
afterAll(() => {
  rig[Symbol.dispose]();
  expect(listNamespaces().filter((name) => name.startsWith(PREFIX))).toEqual([]);
});

async function run(seed: string, limits: { readonly cases?: number; readonly budgetMs: number }): Promise<FuzzResult> {
  const wrong: Mismatch[] = [];
  const result = await fuzz(rig, {
    seed,
    ...limits,
    now: processorTime,
    enough: 1,
    shrinkMs: 5000,
    progress: () => {},
    onMismatch: (mismatch) => void wrong.push(mismatch),
  });
  const again = (name: string): string => `npm run fuzz -- policy --seed ${seed}  # case ${name}`;
  expect(wrong.map(({ found, finding }) => `${findingText(finding)}\n${again(found.name)}`)).toEqual([]);
  return result;
}

describe("kernel and oracle agree", { timeout: 240_000 }, () => {
  test.each(["one", "two", "three"])("seed %s", async (seed) => {
    const result = await run(seed, { cases: 25, budgetMs: 30_000 });
    expect(result.cases).toBe(25);
    expect(result.verdicts).toBeGreaterThan(2000);
    // Neither answer is rare.
    expect(result.allowed).toBeGreaterThan(0.2);
    expect(result.allowed).toBeLessThan(0.8);
  });

  test("that was about every kind of policy, and everything else that decides", () => {
    expect([...rig.reasons.keys()].toSorted()).toEqual(
      [
        "GlobalNetworkPolicy",
        "KubernetesClusterNetworkPolicy",
        "KubernetesNetworkPolicy",
        "NetworkPolicy",
        "connection-state",
        "encapsulation",
        "endpoint-to-host",
        "failsafe",
        "missing-profile",
        "no-profile",
        "not-policed",
        "profile",
        "source-check",
        "tier-default",
        "unknown-interface",
      ].toSorted(),
    );
  });

  test("a seed nobody has used yet", async () => {
    const seed = randomBytes(4).toString("hex");
    process.stderr.write(`policy rig: seed ${seed}\n`);
    const result = await run(seed, { budgetMs: 2000 });
    process.stderr.write(`policy rig: ${result.verdicts} verdicts, ${result.verdictsPerSecond} a second\n`);
  });
});

test.each([
  "port-range-ends-late",
  "stale-set-member",
  "pass-mark-not-cleared",
  "spoof-check-lost",
  "forward-lost",
  "group-not-checked",
  "nat-towards-pools",
])("%s is found", { timeout: 240_000 }, async (name) => {
  rig.defect = DEFECTS.find((defect) => defect.name === name);
  expect(rig.defect).toBeDefined();
  const options = { seed: "one", budgetMs: 30_000, now: processorTime, enough: 1, shrinkMs: 0, progress: () => {} };
  const { mismatches } = await fuzz(rig, options);
  rig.defect = undefined;
  expect(mismatches).toBe(1);
});

test("a mismatch is shrunk to what it takes, and says which rules the packet met", { timeout: 240_000 }, async () => {
  rig.defect = DEFECTS.find((defect) => defect.name === "deny-ignored");
  let wrong: Mismatch | undefined;
  await fuzz(rig, {
    seed: "one",
    budgetMs: 40_000,
    now: processorTime,
    enough: 1,
    shrinkMs: 20_000,
    progress: () => {},
    onMismatch: (mismatch) => {
      wrong = mismatch;
    },
  });
  rig.defect = undefined;
  expect(wrong?.found.history).toHaveLength(1);
  expect(wrong?.found.history[0]?.length).toBeLessThanOrEqual(6);
  expect(wrong?.found.packets).toHaveLength(1);
  expect(wrong?.trace.join("\n")).toContain("walk-");
});
