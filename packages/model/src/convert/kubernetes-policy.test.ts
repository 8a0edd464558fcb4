import { describe, expect, test } from "vitest";
import type { KubernetesNetworkPolicy, StagedKubernetesNetworkPolicy } from "../kubernetes/network-policy.ts";
import { policyFromKubernetes, policyFromStagedKubernetes } from "./kubernetes-policy.ts";

type Spec = NonNullable<KubernetesNetworkPolicy["spec"]>;
type IngressRule = NonNullable<Spec["ingress"]>[number];

const policy = (spec?: Spec): KubernetesNetworkPolicy => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "p", namespace: "shop" },
  ...(spec === undefined ? {} : { spec }),
});
const convert = (spec: Spec): ReturnType<typeof policyFromKubernetes> => policyFromKubernetes(policy(spec));
const ingress = (...rules: IngressRule[]): readonly unknown[] =>
  convert({ podSelector: {}, ingress: rules, policyTypes: ["Ingress"] }).spec.ingress;

const POD = "projectcalico.org/orchestrator == 'k8s'";

describe("the policy", () => {
  test("is in tier default at order 1000 and keeps its plain name", () => {
    expect(convert({ podSelector: {}, policyTypes: ["Ingress"] })).toEqual({
      kind: "KubernetesNetworkPolicy",
      namespace: "shop",
      name: "p",
      staged: false,
      spec: {
        tier: "default",
        order: 1000,
        selector: POD,
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

  test.each([
    [undefined, ["Ingress"]],
    [[], ["Ingress"]],
    [["Ingress"], ["Ingress"]],
    [["Egress"], ["Egress"]],
    [
      ["Egress", "Ingress"],
      ["Ingress", "Egress"],
    ],
    [["Sideways"], ["Ingress"]],
  ])("policyTypes %j: %j", (policyTypes, types) => {
    const spec = policyTypes === undefined ? {} : { policyTypes };
    expect(convert({ podSelector: {}, ...spec }).spec.types).toEqual(types);
  });

  test("without a spec it isolates incoming traffic of the whole namespace", () => {
    expect(policyFromKubernetes(policy()).spec).toMatchObject({ selector: POD, types: ["Ingress"], ingress: [] });
  });

  test("selects pods by labels, sorted, and by expressions", () => {
    const podSelector = {
      matchLabels: { b: "2", a: "1" },
      matchExpressions: [
        { key: "c", operator: "In", values: ["x", "y"] },
        { key: "d", operator: "NotIn", values: ["z"] },
        { key: "e", operator: "Exists" },
        { key: "f", operator: "DoesNotExist" },
      ],
    };
    expect(convert({ podSelector }).spec.selector).toBe(
      `${POD} && a == '1' && b == '2' && c in { 'x', 'y' } && d not in { 'z' } && has(e) && !has(f)`,
    );
  });

  test("that selects pods in an unknown way isolates all of the namespace and says so", () => {
    const podSelector = { matchExpressions: [{ key: "a", operator: "Gt", values: ["1"] }] };
    const { spec, problems } = convert({ podSelector });
    expect(spec.selector).toBe(POD);
    expect(problems).toEqual([expect.stringContaining("Gt")]);
  });
});

describe("peers", () => {
  const allowed = { action: "Allow", index: 0 };

  test("a rule without peers and ports allows everything", () => {
    expect(ingress({})).toEqual([allowed]);
    expect(ingress({ from: [], ports: [] })).toEqual([allowed]);
  });

  test("pods of the own namespace, of other namespaces, of all namespaces", () => {
    expect(
      ingress({
        from: [
          { podSelector: { matchLabels: { app: "web" } } },
          { namespaceSelector: { matchLabels: { team: "a" } } },
          { namespaceSelector: {}, podSelector: { matchLabels: { app: "web" } } },
          { podSelector: {} },
        ],
      }),
    ).toEqual([
      { ...allowed, source: { selector: `${POD} && app == 'web'` } },
      { ...allowed, source: { selector: POD, namespaceSelector: "team == 'a'" } },
      { ...allowed, source: { selector: `${POD} && app == 'web'`, namespaceSelector: "all()" } },
      { ...allowed, source: { selector: POD } },
    ]);
  });

  test("a peer that says nothing is the own namespace, never the world", () => {
    expect(ingress({ from: [{}] })).toEqual([{ ...allowed, source: { selector: POD } }]);
  });

  test("blocks lose host bits, exceptions become notNets", () => {
    expect(
      ingress({
        from: [{ ipBlock: { cidr: "10.1.2.3/16", except: ["10.1.9.9/24"] } }, { ipBlock: { cidr: "fd00::/8" } }],
      }),
    ).toEqual([
      { ...allowed, source: { nets: ["10.1.0.0/16"], notNets: ["10.1.9.0/24"] } },
      { ...allowed, source: { nets: ["fd00::/8"] } },
    ]);
  });

  test("egress puts peer and ports on the destination", () => {
    const { egress } = convert({
      podSelector: {},
      policyTypes: ["Egress"],
      egress: [{}, { to: [{ ipBlock: { cidr: "10.0.0.0/8" } }], ports: [{ protocol: "UDP", port: 53 }] }],
    }).spec;
    expect(egress).toEqual([
      allowed,
      { action: "Allow", index: 1, protocol: "UDP", destination: { nets: ["10.0.0.0/8"], ports: [53] } },
    ]);
  });
});

describe("ports", () => {
  const ports = (...list: NonNullable<IngressRule["ports"]>): unknown =>
    ingress({ ports: list }).map((rule) => {
      const { protocol, destination } = rule as { protocol?: string; destination?: { ports: unknown } };
      return [protocol, destination?.ports];
    });

  test("no protocol means TCP", () => {
    expect(ports({ port: 80 })).toEqual([["TCP", [80]]]);
    expect(ports({})).toEqual([["TCP", undefined]]);
  });

  test("are grouped by protocol, sorted, merged; names come last", () => {
    expect(
      ports(
        { protocol: "UDP", port: 53 },
        { protocol: "TCP", port: 81 },
        { protocol: "TCP", port: "web" },
        { protocol: "TCP", port: 8000, endPort: 9000 },
        { protocol: "TCP", port: 80 },
        { protocol: "TCP", port: 8500, endPort: 9500 },
        { protocol: "SCTP", port: 7 },
      ),
    ).toEqual([
      ["SCTP", [7]],
      ["TCP", ["80:81", "8000:9500", "web"]],
      ["UDP", [53]],
    ]);
  });

  test("a protocol without a port takes all its ports, whatever else is listed", () => {
    expect(ports({ protocol: "TCP", port: 80 }, { protocol: "TCP" }, { protocol: "UDP", port: 1 })).toEqual([
      ["TCP", undefined],
      ["UDP", [1]],
    ]);
  });

  test("a number in text is a number", () => {
    expect(ports({ port: "80" }, { port: 81 })).toEqual([["TCP", ["80:81"]]]);
  });

  test("one port as a range of one", () => {
    expect(ports({ port: 80, endPort: 80 })).toEqual([["TCP", [80]]]);
  });

  test("every protocol goes with every peer", () => {
    const rules = ingress({
      from: [{ podSelector: {} }, { ipBlock: { cidr: "10.0.0.0/8" } }],
      ports: [{ port: 80 }, { protocol: "UDP", port: 53 }],
    });
    expect(rules).toHaveLength(4);
    expect(rules).toContainEqual({
      action: "Allow",
      index: 0,
      protocol: "UDP",
      source: { nets: ["10.0.0.0/8"] },
      destination: { ports: [53] },
    });
  });
});

describe("what cannot be understood", () => {
  const good: IngressRule = { ports: [{ port: 80 }] };

  test.each<[string, IngressRule, string]>([
    ["a prefix", { from: [{ ipBlock: { cidr: "10.0.0.0/33" } }] }, "10.0.0.0/33"],
    ["an exception", { from: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["x"] } }] }, "x"],
    ["a protocol", { ports: [{ protocol: "ICMP", port: 1 }] }, "ICMP"],
    ["a range upside down", { ports: [{ port: 90, endPort: 80 }] }, "90"],
    ["a port out of range", { ports: [{ port: 70_000 }] }, "70000"],
    ["a range that starts with a name", { ports: [{ port: "web", endPort: 80 }] }, "web"],
    ["an empty port name", { ports: [{ port: "" }] }, "empty"],
    ["a selector", { from: [{ podSelector: { matchExpressions: [{ key: "a", operator: "?" }] } }] }, "?"],
    ["a label", { from: [{ podSelector: { matchLabels: { "a b": "c" } } }] }, "a b"],
  ])("%s: the rule is left out, the others stay", (_, bad, mention) => {
    const { spec, problems } = convert({ podSelector: {}, ingress: [bad, good] });
    expect(spec.ingress).toEqual([{ action: "Allow", index: 1, protocol: "TCP", destination: { ports: [80] } }]);
    expect(problems).toEqual([expect.stringContaining("ingress rule 0 is left out")]);
    expect(problems[0]).toContain(mention);
  });
});

describe("the staged form", () => {
  const staged = (spec: StagedKubernetesNetworkPolicy["spec"]): ReturnType<typeof policyFromStagedKubernetes> =>
    policyFromStagedKubernetes({
      apiVersion: "projectcalico.org/v3",
      kind: "StagedKubernetesNetworkPolicy",
      metadata: { name: "p", namespace: "shop" },
      spec,
    });

  test("takes part as staged, and not at all when it stages a deletion", () => {
    expect(staged({ podSelector: {} })).toMatchObject({ kind: "StagedKubernetesNetworkPolicy", staged: true });
    expect(staged({ stagedAction: "Delete" })).toBeUndefined();
    expect(staged({ stagedAction: "Ignore" })).toMatchObject({ staged: true });
  });

  test.each([
    [{}, ["Ingress"]],
    [{ ingress: [{}] }, ["Ingress"]],
    [{ egress: [{}] }, ["Ingress", "Egress"]],
    [{ egress: [{}], policyTypes: ["Egress"] }, ["Egress"]],
  ])("directions of %j", (spec, types) => {
    expect(staged(spec)?.spec.types).toEqual(types);
  });
});
