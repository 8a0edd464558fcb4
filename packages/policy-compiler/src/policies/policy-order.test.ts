import { parseSelector } from "@calico-ts/selector";
import { expect, test } from "vitest";
import type { PolicyFacts } from "../intake/facts.ts";
import { comparePolicies, compareTiers } from "./policy-order.ts";

test("tiers: those that exist first, by order, none last, then by name", () => {
  const tier = (name: string, order: number | undefined, exists = true) => ({
    name,
    facts: exists ? { defaultAction: "deny" as const, ...(order === undefined ? {} : { order }) } : undefined,
  });
  const tiers = [
    tier("missing", undefined, false),
    tier("z", undefined),
    tier("b", 10),
    tier("a", 10),
    tier("c", -1),
    tier("d", 0),
  ];
  expect(tiers.toSorted(compareTiers).map(({ name }) => name)).toEqual(["c", "d", "a", "b", "z", "missing"]);
});

const policy = (kind: PolicyFacts["id"]["kind"], path: string, order?: number): PolicyFacts => {
  const [namespace = "", name = ""] = path.split("/");
  return {
    id: { kind, namespace, name },
    tier: "default",
    ...(order === undefined ? {} : { order }),
    selector: parseSelector(""),
    ingress: [],
    egress: [],
    appliesIngress: true,
    appliesEgress: false,
    untracked: false,
    preDnat: false,
    applyOnForward: false,
    staged: false,
    neededEverywhere: false,
  };
};

test("policies: by order, none last, then by name, namespace and kind", () => {
  const policies = [
    policy("NetworkPolicy", "a/last"),
    policy("NetworkPolicy", "b/p", 5),
    policy("NetworkPolicy", "a/p", 5),
    policy("KubernetesNetworkPolicy", "a/p", 5),
    policy("GlobalNetworkPolicy", "/p", 5),
    policy("GlobalNetworkPolicy", "/q", 4.5),
  ];
  expect(policies.toSorted(comparePolicies).map(({ id }) => `${id.kind} ${id.namespace}/${id.name}`)).toEqual([
    "GlobalNetworkPolicy /q",
    "GlobalNetworkPolicy /p",
    "KubernetesNetworkPolicy a/p",
    "NetworkPolicy a/p",
    "NetworkPolicy b/p",
    "NetworkPolicy a/last",
  ]);
});
