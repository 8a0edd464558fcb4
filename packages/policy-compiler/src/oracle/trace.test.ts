import fc from "fast-check";
import { expect, test } from "vitest";
import type { CompilerUpdate, CriterionTrace, Query } from "../index.ts";
import { createOracle } from "../index.ts";
import { randomWorld } from "../testing/random-worlds.ts";

const podsOf = (world: readonly CompilerUpdate[]): string[] =>
  world.flatMap(({ kind, resource }) => {
    if (kind !== "Pod" || resource?.kind !== "Pod" || resource.spec.hostNetwork === true) return [];
    const { spec, status, metadata } = resource;
    const hasAddress = (status?.podIPs ?? []).some(({ ip }) => ip?.includes(".") === true);
    return spec.nodeName === undefined || !hasAddress ? [] : [`${metadata.namespace}/${metadata.name}`];
  });

const all = (criteria: readonly CriterionTrace[]): boolean => criteria.every(({ matched }) => matched);

test("a trace says what the verdict says, and its conditions add up", () => {
  fc.assert(
    fc.property(randomWorld, fc.constantFrom(80, 8080, 53, 5000), fc.constantFrom(6, 17), (world, port, protocol) => {
      const oracle = createOracle(world);
      const pods = podsOf(world).slice(0, 4);
      for (const from of pods) {
        for (const to of pods) {
          const query: Query = {
            from: { pod: from },
            to: { pod: to },
            protocol,
            sourcePort: 40_000,
            destinationPort: port,
          };
          let trace;
          try {
            trace = oracle.trace(query);
          } catch {
            continue; // a pod whose address is of the other family
          }
          const { allowed, decision } = oracle.verdict(query);
          expect({ allowed: trace.allowed, decision: trace.decision }).toEqual({ allowed, decision });
          for (const walk of trace.walk) {
            const policies = walk.tiers.flatMap((tier) => tier.policies);
            for (const { rules } of [...policies, ...walk.profiles]) {
              for (const { outcome, criteria } of rules) {
                const wanted =
                  outcome === "not-reached" ? criteria.length === 0 : all(criteria) === (outcome === "match");
                expect(wanted).toBe(true);
              }
            }
            if (walk.decision.by !== "rule") continue;
            const { policy, index } = walk.decision;
            const decider = policies.find((each) => each.policy === policy);
            expect(decider?.rules.find((rule) => rule.index === index)?.outcome).toBe("match");
          }
        }
      }
    }),
    { numRuns: 60 },
  );
});
