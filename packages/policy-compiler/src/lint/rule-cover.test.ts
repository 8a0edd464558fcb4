import type { Rule } from "@calico-ts/model";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { CompilerUpdate } from "../index.ts";
import { createOracle } from "../index.ts";
import { globalPolicy, namespace, pod, policy } from "../testing/resources.ts";
import { ruleCovers } from "./rule-cover.ts";

const some = <T>(...values: readonly T[]) => fc.constantFrom(undefined, undefined, ...values);
const entity = fc.record({
  nets: some(["10.0.0.0/8"], ["10.0.0.1/32"], ["10.0.0.0/31", "10.0.0.2/32"]),
  notNets: some(["10.0.0.1/32"]),
  selector: some("all()", "app == 'a'", "has(app)"),
  notSelector: some("app == 'b'"),
  namespaceSelector: some("all()", "global()"),
  ports: some([80], ["80:90"], ["80:84", 85], ["http"], [85, "http"]),
  notPorts: some([80], ["81:90"]),
});
/** Few values, so that rules cover each other often. Which combinations an API server allows does not matter here. */
const rule: fc.Arbitrary<Rule> = fc
  .record({
    protocol: some<string | number>("TCP", 6, "UDP"),
    notProtocol: some("UDP"),
    ipVersion: some(4, 6),
    source: fc.option(entity, { nil: undefined }),
    destination: fc.option(entity, { nil: undefined }),
  })
  .map((fields) => JSON.parse(JSON.stringify({ action: "Allow", ...fields })) as Rule);

/** Half of the pairs are a rule and a narrower one: two rules drawn apart cover each other once in a hundred times. */
const pair: fc.Arbitrary<readonly [Rule, Rule]> = fc
  .tuple(rule, rule, fc.boolean())
  .map(([earlier, other, narrow]) => [earlier, narrow ? { ...other, ...earlier } : other]);

const ports = [{ name: "http", containerPort: 80 }];
const scene: readonly CompilerUpdate[] = [
  namespace("x"),
  namespace("y"),
  pod("x/a", { ips: ["10.0.0.1"], labels: { app: "a" }, ports }),
  pod("x/b", {
    ips: ["10.0.0.2"],
    labels: { app: "b" },
    ports: [{ name: "http", containerPort: 85, protocol: "UDP" }],
  }),
  pod("y/a", { ips: ["10.0.1.1"], labels: { app: "a" } }),
];
const parties = [
  { pod: "x/a" },
  { pod: "x/b" },
  { pod: "y/a" },
  { address: "10.0.0.3" },
  { address: "192.0.2.1" },
] as const;

test("a rule that is said to cover another matches every packet the other matches", () => {
  fc.assert(
    fc.property(pair, fc.boolean(), ([earlier, later], clusterWide) => {
      if (!ruleCovers(earlier, later)) return;
      // Without a namespaceSelector a policy of a namespace means its own.
      const base = clusterWide ? globalPolicy("p", {}) : policy("x/p", {});
      const resource = {
        ...base.resource,
        spec: { types: ["Ingress"], ingress: [{ ...earlier, action: "Deny" }, later] },
      };
      const oracle = createOracle([...scene, { ...base, resource } as unknown as CompilerUpdate]);
      const wrong: unknown[] = [];
      for (const from of parties) {
        for (const to of parties.slice(0, 2)) {
          for (const protocol of [6, 17]) {
            for (const destinationPort of [80, 83, 85, 91]) {
              const { decision } = oracle.verdict({
                from,
                to,
                protocol,
                sourcePort: destinationPort,
                destinationPort,
                family: 4,
              });
              if (decision.by !== "rule") continue;
              if (decision.index === 1) wrong.push({ from, to, protocol, destinationPort });
            }
          }
        }
      }
      expect(wrong).toEqual([]);
    }),
    { numRuns: 1000 },
  );
});

test.each<[string, Omit<Rule, "action">, Omit<Rule, "action">]>([
  [
    "notSelector alone keeps to the policy's namespace",
    { source: { notSelector: "app == 'b'" } },
    { source: { notSelector: "app == 'b'", namespaceSelector: "all()" } },
  ],
  [
    "the name of a port of one protocol, and of any",
    { protocol: "TCP", destination: { ports: ["http"] } },
    { destination: { ports: ["http"] } },
  ],
])("does not cover: %s", (_, earlier, later) => {
  expect(ruleCovers({ action: "Allow", ...earlier }, { action: "Allow", ...later })).toBe(false);
});

test("the pairs above do cover each other often", () => {
  const pairs = fc.sample(pair, { seed: 1, numRuns: 500 });
  expect(pairs.filter(([earlier, later]) => ruleCovers(earlier, later)).length).toBeGreaterThan(50);
});
