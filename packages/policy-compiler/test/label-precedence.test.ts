/** A pod that carries a `pcns.` label itself: its own label beats what it inherits from its namespace, as upstream. */
import { describe, expect, test } from "vitest";
import type { WorkloadEndpoint } from "@calico-ts/dataplane-api";
import { createCompiler, createOracle } from "../src/index.ts";
import { globalPolicy, namespace, pod } from "../src/testing/resources.ts";

const world = (labels: Readonly<Record<string, string>>) => [
  namespace("shop", { team: "red" }),
  pod("shop/web", { ips: ["10.0.0.1"], node: "n1", labels }),
  globalPolicy("closed", { selector: "pcns.team == 'red'", types: ["Ingress"], ingress: [] }),
];

function applied(updates: ReturnType<typeof world>): string[] {
  const endpoints: WorkloadEndpoint[] = [];
  const compiler = createCompiler({
    node: "n1",
    emit: (message) => {
      if (message.kind === "workload-endpoint-update") endpoints.push(message.endpoint);
    },
  });
  for (const update of updates) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  return endpoints.flatMap(({ tiers }) => tiers.flatMap(({ ingress }) => ingress.map(({ name }) => name)));
}

const allowed = (updates: ReturnType<typeof world>): boolean =>
  createOracle(updates).verdict({
    from: { address: "192.0.2.1" },
    to: { pod: "shop/web" },
    protocol: 6,
    destinationPort: 80,
  }).allowed;

describe("pcns labels", () => {
  test.each([
    ["inherited", {}, true],
    ["its own label says the same", { "pcns.team": "red" }, true],
    ["its own label beats the namespace's", { "pcns.team": "blue" }, false],
  ])("%s", (_, labels, closed) => {
    expect(applied(world(labels))).toEqual(closed ? ["closed"] : []);
    expect(allowed(world(labels))).toBe(!closed);
  });
});
