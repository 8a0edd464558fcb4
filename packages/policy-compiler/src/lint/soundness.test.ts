import fc from "fast-check";
import { expect, test } from "vitest";
import type { CompilerUpdate, SourcedResource } from "../index.ts";
import { createOracle, lint } from "../index.ts";
import { randomWorld } from "../testing/random-worlds.ts";

/** A place that says which field of which object it is. */
const sourced = (world: readonly CompilerUpdate[]): SourcedResource[] =>
  world.flatMap(({ kind, resource }) => {
    if (resource === undefined) return [];
    const { namespace = "", name } = resource.metadata;
    const locate = (path: string) => ({ file: `${kind} ${namespace}/${name} ${path}`, line: 1, column: 1 });
    return [{ kind, resource, locate }];
  });

const podsOf = (world: readonly CompilerUpdate[]): string[] =>
  world.flatMap(({ resource }) =>
    resource?.kind === "Pod" &&
    resource.spec.hostNetwork !== true &&
    (resource.status?.podIPs ?? []).some(({ ip }) => ip?.includes(".") === true)
      ? [`${resource.metadata.namespace}/${resource.metadata.name}`]
      : [],
  );

/** Rules that are said never to decide. */
const deadRules = (resources: readonly SourcedResource[]): Set<string | undefined> =>
  new Set(
    lint({ resources, workloads: [], problems: [] })
      .filter(({ rule }) => rule === "shadowed-rule" || rule === "dead-rule")
      .map(({ position }) => /^\S+ \S+ spec\.\w+\[\d+\]/.exec(position?.file ?? "")?.[0]),
  );

test("a rule that is said never to decide never decides", { timeout: 120_000 }, () => {
  fc.assert(
    fc.property(randomWorld, (world) => {
      const resources = sourced(world);
      const dead = deadRules(resources);
      const oracle = createOracle(world);
      const pods = podsOf(world).slice(0, 5);
      const wrong: string[] = [];
      const flows = pods.flatMap((from) => pods.map((to) => ({ from, to })));
      for (const { from, to } of flows) {
        for (const [protocol, destinationPort] of [
          [6, 80],
          [6, 8080],
          [17, 53],
          [132, 5000],
        ] as const) {
          try {
            const query = { from: { pod: from }, to: { pod: to }, protocol, sourcePort: 40_000, destinationPort };
            for (const { decision } of oracle.verdict(query).walk) {
              if (decision.by !== "rule") continue;
              const { policy, direction, index } = decision;
              const kind = policy.kind === "KubernetesClusterNetworkPolicy" ? "ClusterNetworkPolicy" : policy.kind;
              const rule = `${kind} ${policy.namespace}/${policy.name} spec.${direction}[${index}]`;
              if (dead.has(rule)) wrong.push(rule);
            }
          } catch (error) {
            if (!(error instanceof Error) || !("code" in error)) throw error; // a pod without such an address
          }
        }
      }
      expect(wrong).toEqual([]);
    }),
    { numRuns: 160 },
  );
});

test("in worlds like these such rules are found", () => {
  const worlds = fc.sample(randomWorld, { seed: 1, numRuns: 20 });
  expect(worlds.some((world) => deadRules(sourced(world)).size > 0)).toBe(true);
});
