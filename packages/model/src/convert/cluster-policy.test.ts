import { describe, expect, test } from "vitest";
import type { ClusterNetworkPolicy } from "../kubernetes/cluster-network-policy.ts";
import type { ConvertedPolicy } from "./policy-spec.ts";
import { policyFromClusterPolicy } from "./cluster-policy.ts";

type Spec = ClusterNetworkPolicy["spec"];

const resource = (spec: Partial<Spec>): ClusterNetworkPolicy => ({
  apiVersion: "policy.networking.k8s.io/v1alpha2",
  kind: "ClusterNetworkPolicy",
  metadata: { name: "guard" },
  spec: { tier: "Admin", priority: 7, subject: { namespaces: {} }, ...spec },
});

function convert(spec: Partial<Spec>): ConvertedPolicy {
  const outcome = policyFromClusterPolicy(resource(spec));
  if (!outcome.ok) throw new Error(outcome.problem);
  return outcome.policy;
}

const POD = "projectcalico.org/orchestrator == 'k8s'";

describe("the policy", () => {
  test("goes to the tier of its kind, priority as order, no directions without rules", () => {
    expect(convert({})).toMatchObject({
      kind: "KubernetesClusterNetworkPolicy",
      namespace: "",
      name: "guard",
      staged: false,
      spec: {
        tier: "kube-admin",
        order: 7,
        selector: POD,
        namespaceSelector: "all()",
        types: [],
        ingress: [],
        egress: [],
      },
    });
    expect(convert({ tier: "Baseline", priority: 0 }).spec).toMatchObject({ tier: "kube-baseline", order: 0 });
  });

  test("has the directions that rules are left for", () => {
    const bad = (action: "Accept" | "Deny") => ({ action, from: [{}] });
    expect(convert({ ingress: [bad("Accept")] }).spec.types).toEqual([]);
    expect(convert({ ingress: [bad("Deny")] }).spec.types).toEqual(["Ingress"]);
    expect(convert({ egress: [{ action: "Deny", to: [{ namespaces: {} }] }] }).spec.types).toEqual(["Egress"]);
  });

  test("its subject: namespaces, or pods of namespaces", () => {
    expect(convert({ subject: { namespaces: { matchLabels: { a: "b" } } } }).spec).toMatchObject({
      selector: POD,
      namespaceSelector: "a == 'b'",
    });
    expect(
      convert({ subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { x: "y" } } } } }).spec,
    ).toMatchObject({ selector: `${POD} && x == 'y'`, namespaceSelector: "all()" });
    expect(convert({ subject: { pods: { podSelector: {} } } }).spec).not.toHaveProperty("namespaceSelector");
  });

  test.each<[string, Partial<Spec>]>([
    ["an unknown tier", { tier: "Middle" as "Admin" }],
    ["an inherited property as the tier", { tier: "constructor" as "Admin" }],
    ["no subject", { subject: {} }],
    ["a subject that cannot be read", { subject: { namespaces: { matchExpressions: [{ key: "a", operator: "?" }] } } }],
  ])("with %s counts as deleted", (_, spec) => {
    const outcome = policyFromClusterPolicy(resource(spec));
    expect(outcome).toMatchObject({ ok: false, problem: expect.stringContaining("guard") });
  });
});

describe("rules", () => {
  test("actions and peers", () => {
    const { ingress } = convert({
      ingress: [
        { action: "Accept", from: [{ namespaces: { matchLabels: { a: "b" } } }] },
        { action: "Deny", from: [{ pods: { podSelector: {} } }] },
        { action: "Pass", from: [{ namespaces: {} }, { pods: { namespaceSelector: {}, podSelector: {} } }] },
      ],
    }).spec;
    expect(ingress).toEqual([
      { action: "Allow", index: 0, source: { selector: POD, namespaceSelector: "a == 'b'" } },
      { action: "Deny", index: 1, source: { selector: POD } },
      { action: "Pass", index: 2, source: { selector: POD, namespaceSelector: "all()" } },
      { action: "Pass", index: 2, source: { selector: POD, namespaceSelector: "all()" } },
    ]);
  });

  test("networks are for egress only", () => {
    expect(
      convert({ egress: [{ action: "Deny", to: [{ networks: ["10.0.0.1/8", "fd00::/8"] }] }] }).spec.egress,
    ).toEqual([{ action: "Deny", index: 0, destination: { nets: ["10.0.0.0/8", "fd00::/8"] } }]);
    const from = [{ networks: ["10.0.0.0/8"] }] as unknown as [{ namespaces: object }];
    expect(convert({ ingress: [{ action: "Deny", from }] }).spec.ingress).toEqual([{ action: "Deny", index: 0 }]);
  });

  test("ports per protocol, merged", () => {
    const protocols = [
      { tcp: { destinationPort: { number: 443 } } },
      { tcp: { destinationPort: { range: { start: 400, end: 450 } } } },
      { udp: { destinationPort: { number: 53 } } },
      { sctp: {} },
    ];
    expect(convert({ egress: [{ action: "Accept", to: [{ namespaces: {} }], protocols }] }).spec.egress).toEqual(
      [
        ["SCTP", undefined],
        ["TCP", ["400:450"]],
        ["UDP", [53]],
      ].map(([protocol, ports]) => ({
        action: "Allow",
        index: 0,
        protocol,
        destination: { selector: POD, namespaceSelector: "all()", ...(ports === undefined ? {} : { ports }) },
      })),
    );
  });

  test("a named port brings its own protocol", () => {
    const { ingress } = convert({
      ingress: [{ action: "Deny", from: [{ namespaces: {} }], protocols: [{ destinationNamedPort: "web" }] }],
    }).spec;
    expect(ingress.map(({ protocol, destination }) => [protocol, destination?.ports])).toEqual([
      ["SCTP", ["web"]],
      ["TCP", ["web"]],
      ["UDP", ["web"]],
    ]);
  });
});

test("a name of digits is no number: no port can have it, and the rule matches nothing", () => {
  const rule = (action: "Accept" | "Deny") => ({
    action,
    from: [{ namespaces: {} }],
    protocols: [{ destinationNamedPort: "8080" }, { destinationNamedPort: "80:90" }],
  });
  expect(convert({ ingress: [rule("Accept"), rule("Deny")] }).spec.ingress).toEqual([]);
});

describe("a rule that cannot be understood fails closed", () => {
  const peers = [{ namespaces: {} }];
  const cases: [string, object][] = [
    ["a peer of an unknown kind", { to: [{ nodes: {} }] }],
    ["an empty peer", { to: [{}] }],
    ["one bad peer among good ones", { to: [...peers, {}] }],
    ["no peers", { to: [] }],
    ["a bad prefix", { to: [{ networks: ["10.0.0.0/40"] }] }],
    ["a bad selector", { to: [{ namespaces: { matchExpressions: [{ key: "a", operator: "?" }] } }] }],
    ["an empty protocol", { to: peers, protocols: [{}] }],
    ["a port without a number", { to: peers, protocols: [{ tcp: { destinationPort: {} } }] }],
    ["a range upside down", { to: peers, protocols: [{ udp: { destinationPort: { range: { start: 9, end: 1 } } } }] }],
  ];

  test.each(cases)("%s", (_, rule) => {
    const outcome = (action: string): ConvertedPolicy => {
      const bad = { action, ...rule } as NonNullable<Spec["egress"]>[number];
      return convert({ egress: [bad, { action: "Accept", to: peers }] });
    };
    const rest = { action: "Allow", index: 1, destination: { selector: POD, namespaceSelector: "all()" } };
    expect(outcome("Accept").spec.egress).toEqual([rest]);
    expect(outcome("Deny").spec.egress).toEqual([{ action: "Deny", index: 0 }, rest]);
    expect(outcome("Pass").spec.egress).toEqual([{ action: "Deny", index: 0 }, rest]);
    expect(outcome("Pass").problems).toEqual([expect.stringContaining("egress rule 0 denies everything instead")]);
  });

  test("an unknown action denies", () => {
    const rule = { action: "Shrug", to: peers } as unknown as NonNullable<Spec["egress"]>[number];
    expect(convert({ egress: [rule] }).spec.egress).toEqual([{ action: "Deny", index: 0 }]);
  });
});
