import { describe, expect, test } from "vitest";
import type { GlobalNetworkPolicy, NetworkPolicy, StagedNetworkPolicy } from "../resources/policies.ts";
import { policyFromCalico, policyTypes } from "./calico-policy.ts";

const base = { apiVersion: "projectcalico.org/v3" } as const;
const globalPolicy = (spec: GlobalNetworkPolicy["spec"]): GlobalNetworkPolicy => ({
  ...base,
  kind: "GlobalNetworkPolicy",
  metadata: { name: "g" },
  spec,
});
const policy = (spec: NetworkPolicy["spec"]): NetworkPolicy => ({
  ...base,
  kind: "NetworkPolicy",
  metadata: { name: "p", namespace: "shop" },
  spec,
});

test.each([
  [{}, ["Ingress"]],
  [{ ingress: [] }, ["Ingress"]],
  [{ egress: [] }, ["Ingress"]],
  [{ ingress: [{ action: "Allow" as const }] }, ["Ingress"]],
  [{ egress: [{ action: "Allow" as const }] }, ["Egress"]],
  [{ ingress: [{ action: "Allow" as const }], egress: [{ action: "Deny" as const }] }, ["Ingress", "Egress"]],
  [{ types: ["Egress" as const], ingress: [{ action: "Allow" as const }] }, ["Egress"]],
  [{ types: [] }, ["Ingress"]],
])("directions of %j", (spec, expected) => {
  expect(policyTypes(spec)).toEqual(expected);
});

describe("v3 policies", () => {
  test("absent fields have their meaning", () => {
    expect(policyFromCalico(policy({}))).toEqual({
      kind: "NetworkPolicy",
      namespace: "shop",
      name: "p",
      staged: false,
      spec: {
        tier: "default",
        selector: "",
        types: ["Ingress"],
        ingress: [],
        egress: [],
        doNotTrack: false,
        preDNAT: false,
        applyOnForward: false,
        assumeNeededOnEveryNode: false,
      },
      problems: [],
    });
  });

  test("cluster-wide fields, hints and indices", () => {
    const converted = policyFromCalico(
      globalPolicy({
        tier: "t",
        order: 0,
        namespaceSelector: "has(a)",
        serviceAccountSelector: "has(b)",
        doNotTrack: true,
        applyOnForward: true,
        performanceHints: ["AssumeNeededOnEveryNode"],
        ingress: [{ action: "Log" }, { action: "Deny" }],
      }),
    );
    expect(converted).toMatchObject({
      namespace: "",
      spec: {
        tier: "t",
        order: 0,
        namespaceSelector: "has(a)",
        serviceAccountSelector: "has(b)",
        doNotTrack: true,
        preDNAT: false,
        applyOnForward: true,
        assumeNeededOnEveryNode: true,
        ingress: [
          { action: "Log", index: 0 },
          { action: "Deny", index: 1 },
        ],
      },
    });
  });

  test("staged ones are marked, and take no part when they stage a deletion", () => {
    const staged = (stagedAction: StagedNetworkPolicy["spec"]["stagedAction"]): StagedNetworkPolicy => ({
      ...policy({}),
      kind: "StagedNetworkPolicy",
      spec: stagedAction === undefined ? {} : { stagedAction },
    });
    expect(policyFromCalico(staged("Set"))).toMatchObject({ kind: "StagedNetworkPolicy", staged: true });
    expect(policyFromCalico(staged("Learn"))).toMatchObject({ staged: true });
    expect(policyFromCalico(staged("Delete"))).toBeUndefined();
    expect(policyFromCalico(staged("Ignore"))).toMatchObject({ staged: true });
  });
});
