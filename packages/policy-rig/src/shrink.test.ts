import { expect, test } from "vitest";
import { Expectations } from "./expect.ts";
import { randomPackets } from "./generate/packets.ts";
import { changedWorld, randomWorld } from "./generate/world.ts";
import { caseText, parseCase } from "./case-file.ts";
import { Candidate, rulesetDifferences } from "./candidate.ts";
import { Prng } from "./prng.ts";
import { shrinkCase } from "./shrink.ts";
import { resourceOf } from "./world.ts";

const policy = resourceOf("NetworkPolicy", "a/guilty", {
  spec: {
    selector: "all()",
    order: 7,
    types: ["Ingress"],
    ingress: [
      { action: "Allow", protocol: "TCP", destination: { ports: [80] } },
      { action: "Deny", source: { nets: ["10.0.0.0/8"], selector: "has(app)" } },
    ],
  },
});

test("what is left is what it takes", async () => {
  const prng = new Prng("shrink");
  const world = [...randomWorld(prng), policy];
  const found = { name: "x", history: [randomWorld(prng), world, world], packets: [] };
  const smallest = await shrinkCase(found, {
    now: () => 0,
    budgetMs: 1,
    fails: (candidate) =>
      Promise.resolve(JSON.stringify(candidate.history.at(-1)).includes('"action":"Deny","source":{"nets"')),
  });
  expect(smallest.history).toHaveLength(1);
  expect(smallest.history[0]?.map(({ metadata }) => metadata.name)).toEqual(["guilty"]);
  expect(smallest.history[0]?.[0]?.["spec"]).toEqual({ ingress: [{ action: "Deny", source: { nets: [] } }] });
});

test("shrinking ends when time is up", async () => {
  let now = 0;
  const found = { name: "x", history: [[policy, ...randomWorld(new Prng("time"))]], packets: [] };
  const fails = (): Promise<boolean> => Promise.resolve(now++ % 2 === 0);
  expect((await shrinkCase(found, { now: () => now, budgetMs: 4, fails })).history[0]?.length).toBeGreaterThan(1);
});

test("cases survive being written down, whatever is in them", () => {
  for (let seed = 0; seed < 20; seed++) {
    const prng = new Prng(`file ${seed}`);
    const first = randomWorld(prng);
    const history = seed % 2 === 0 ? [first] : [first, changedWorld(prng, first)];
    const packets = randomPackets(prng, 20, new Expectations(history.at(-1) ?? []).stateOf);
    const expected = packets.map((_, at) => (at % 3 === 0 ? undefined : at % 3 === 1));
    const text = caseText({ name: "n", about: "a: b", history, packets, expected });
    expect(parseCase(text, "f.yaml")).toEqual({ name: "n", about: "a: b", history, packets, expected });
  }
});

test.each([
  ["- 1", "not a YAML mapping"],
  ["packets: [1]\nresources: []", "packet 1: not a mapping"],
  ["resources: [{kind: Pod, apiVersion: v1}]", "resource 1 has no metadata.name"],
  ["resources: [{kind: Cat, apiVersion: v1, metadata: {name: x}}]", "unknown kind v1 Cat"],
  ["resources: []\npackets: [{from: a/p0, to: nowhere, family: 4, protocol: 6}]", "there is no local pod nowhere"],
  ["history: []", "the history is empty"],
  ["a: [", "f.yaml"],
])("%j is refused with a reason", (text, reason) => {
  expect(() => parseCase(text, "f.yaml")).toThrow(reason);
});

test("the same seed is the same world, another one is not", () => {
  expect(randomWorld(new Prng("a"))).toEqual(randomWorld(new Prng("a")));
  expect(randomWorld(new Prng("a"))).not.toEqual(randomWorld(new Prng("b")));
});

test("a defect shows in the ruleset", () => {
  const world = [policy, resourceOf("Pod", "a/p0", { spec: { nodeName: "n1", containers: [] } })];
  const sound = new Candidate(world).ruleset();
  const defect = { name: "x", about: "x", ruleset: (ruleset: typeof sound) => ({ ...ruleset, sets: new Map() }) };
  expect(rulesetDifferences(new Candidate(world).ruleset(), sound)).toEqual([]);
  expect(rulesetDifferences(new Candidate(world, defect).ruleset(), sound)).not.toEqual([]);
});
