import { parseYamlDocuments } from "@calico-ts/schema";
import { describe, expect, test } from "vitest";
import type { Finding } from "../index.ts";
import { lint, LINT_RULES, lintSarif, lintText, readManifestWorld } from "../index.ts";

const check = (text: string): Finding[] => lint(readManifestWorld(parseYamlDocuments(text, "a.yaml")));
/** Rule, severity, and what is written at the place. */
const shortly = (text: string): string[] =>
  check(text).map(({ rule, severity, position }) => {
    const rest = (text.split("\n")[(position?.line ?? 0) - 1] ?? "").slice((position?.column ?? 1) - 1);
    return `${rule} ${severity} ${/^[^\s,:\]]*/.exec(rest)?.[0] ?? ""}`;
  });

const calico = (kind: string, name: string, spec: string, namespace = ""): string =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: { name: ${name}${namespace === "" ? "" : `, namespace: ${namespace}`} }\nspec: ${spec}\n---\n`;
const POD =
  "apiVersion: v1\nkind: Pod\nmetadata: { name: p, namespace: a, labels: { app: web } }\nspec: { containers: [] }\n---\n";
const global = (spec: string): string => calico("GlobalNetworkPolicy", "g", spec);

describe("each finding, with its place", () => {
  test.each([
    ["unknown field", calico("NetworkPolicy", "x", "{ selecter: all() }", "a"), ["unknown-field error selecter"]],
    [
      "unknown field of Kubernetes' policy",
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: x }\nspec: { podSelector: {}, ingres: [] }\n",
      ["unknown-field error ingres"],
    ],
    [
      "old API group",
      "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\nmetadata: { name: x }\n",
      ["unknown-kind error kind"],
    ],
    ["other people's kinds are theirs", "apiVersion: apps/v1\nkind: Widget\nmetadata: { name: x }\n", []],
    ["bad value", global("{ order: abc }"), ["invalid error order"]],
    ["no object", "- 1\n", ["not-an-object error -"]],
    ["twice", POD + POD, ["duplicate error name"]],
    ["unknown tier", calico("GlobalNetworkPolicy", "t.x", "{ tier: t }"), ["unknown-tier error tier"]],
    ["log only", POD + global("{ types: [Ingress], ingress: [{ action: Log }] }"), ["log-only error ingress"]],
    [
      "log only beside a policy that allows",
      POD +
        global("{ ingress: [{ action: Log }] }") +
        calico("GlobalNetworkPolicy", "h", "{ order: 1, ingress: [{ action: Allow, protocol: TCP }] }"),
      [],
    ],
    [
      "log only in a tier that passes",
      POD +
        calico("Tier", "t", "{ order: 1, defaultAction: Pass }") +
        calico("GlobalNetworkPolicy", "t.g", "{ tier: t, ingress: [{ action: Log }] }"),
      [],
    ],
    [
      "notNets of everything",
      global("{ ingress: [{ action: Deny, source: { notNets: [0.0.0.0/0] } }] }"),
      ["negated-catch-all error 0.0.0.0/0"],
    ],
    [
      "notPorts of everything",
      global('{ ingress: [{ action: Deny, protocol: TCP, destination: { notPorts: ["1:65535"] } }] }'),
      ["negated-catch-all error notPorts"],
    ],
    ["selector of nothing", global('{ selector: "!all()" }'), ["negated-catch-all error selector"]],
    [
      "ports without protocol",
      global("{ ingress: [{ action: Deny, destination: { ports: [80] } }] }"),
      ["ports-without-protocol error ports"],
    ],
    ["named port without protocol", global("{ ingress: [{ action: Deny, destination: { ports: [web] } }] }"), []],
    [
      "nets without their notNets",
      global("{ ingress: [{ action: Deny, source: { nets: [10.0.0.0/8], notNets: [10.0.0.0/9, 10.128.0.0/9] } }] }"),
      ["dead-rule warning notNets"],
    ],
    ["types", global("{ types: [Ingress], egress: [{ action: Allow }] }"), ["types-do-nothing warning egress"]],
    [
      "policyTypes left out mean egress too",
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: x }\nspec: { podSelector: {}, egress: [{}] }\n",
      [],
    ],
    [
      "except everything",
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: x }\nspec:\n  podSelector: {}\n  ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.128.0.0/9] } }] }]\n",
      ["negated-catch-all error except"],
    ],
    [
      "staged only",
      calico("Tier", "t", "{ order: 1, defaultAction: Deny }") +
        calico("StagedGlobalNetworkPolicy", "t.g", "{ tier: t }"),
      ["staged-only-tier warning name"],
    ],
    [
      "selects nobody",
      POD + calico("NetworkPolicy", "x", "{ selector: app == 'wep' }", "a"),
      ["selector-matches-nothing warning selector"],
    ],
    [
      "lets nobody in",
      POD + calico("NetworkPolicy", "x", "{ ingress: [{ action: Allow, source: { selector: app == 'wep' } }] }", "a"),
      ["selector-matches-nothing warning selector"],
    ],
  ])("%s", (_name, text, expected) => {
    expect(shortly(text)).toEqual(expected);
  });

  test.each([
    ["same rule", "{ action: Allow }, { action: Allow, protocol: TCP }", "note"],
    [
      "range in range",
      '{ action: Allow, protocol: TCP, destination: { ports: ["80:90"] } }, { action: Deny, protocol: 6, destination: { ports: [85] } }',
      "warning",
    ],
    [
      "net in net",
      "{ action: Deny, source: { nets: [10.0.0.0/8] } }, { action: Allow, source: { nets: [10.1.0.0/16] } }",
      "warning",
    ],
    ["other protocol", "{ action: Deny, notProtocol: UDP }, { action: Allow, protocol: TCP }", "warning"],
    ["Log takes nothing", "{ action: Log }, { action: Allow }", undefined],
    [
      "wider",
      "{ action: Deny, source: { nets: [10.1.0.0/16] } }, { action: Allow, source: { nets: [10.0.0.0/8] } }",
      undefined,
    ],
    [
      "other selector",
      "{ action: Deny, source: { selector: has(a) } }, { action: Allow, source: { selector: has(b) } }",
      undefined,
    ],
    [
      "selector means less with a namespace",
      "{ action: Deny, source: { selector: has(a) } }, { action: Allow, source: { selector: has(a), namespaceSelector: all() } }",
      undefined,
    ],
  ])("shadowed: %s", (_name, rules, severity) => {
    const found = check(global(`{ ingress: [${rules}] }`)).filter(({ rule }) => rule === "shadowed-rule");
    expect(found.map((finding) => finding.severity)).toEqual(severity === undefined ? [] : [severity]);
  });
});

describe("lock-out", () => {
  const host = calico("HostEndpoint", "n1", "{ node: n1, interfaceName: eth0, expectedIPs: [10.0.0.1] }");
  const felix = calico(
    "FelixConfiguration",
    "default",
    "{ failsafeInboundHostPorts: [], failsafeOutboundHostPorts: [] }",
  );
  const ofHost = (text: string): string[] =>
    check(text)
      .filter(({ rule }) => rule === "lock-out")
      .map(({ severity, message }) => `${severity} ${message.split(":")[0]}`);

  test("failsafe ports keep the node", () => {
    expect(ofHost(host)).toEqual([
      "warning node n1 loses the kubelet from the API server (logs, exec, probes of metrics)",
    ]);
  });

  test("without them everything is lost, with a packet that proves it", () => {
    const found = ofHost(host + felix);
    expect(found).toHaveLength(8);
    expect(found).toContain("error node n1 loses SSH to the node");
    const [ssh] = check(host + felix).filter(({ message }) => message.includes("SSH"));
    expect(ssh?.message).toContain("TCP 192.0.2.1:50000 → n1 (10.0.0.1):22 is denied");
    expect(ssh?.position).toMatchObject({ file: "a.yaml", line: 3 });
  });

  test("one interface of several lets it through", () => {
    const second = calico(
      "HostEndpoint",
      "n1-admin",
      "{ node: n1, interfaceName: eth1, profiles: [projectcalico-default-allow] }",
    );
    expect(ofHost(host + felix + second)).toEqual([]);
    const closed = calico("HostEndpoint", "n1-other", "{ node: n1, interfaceName: eth2 }");
    expect(ofHost(host + felix + closed)).toHaveLength(8);
  });

  test("what goes in untracked and never comes out again is lost", () => {
    const untracked = (egress: string): string =>
      global(
        `{ selector: all(), doNotTrack: true, applyOnForward: true, types: [Ingress, Egress], ingress: [{ action: Allow }], egress: [${egress}] }`,
      );
    const ssh = (text: string): string[] => ofHost(text).filter((line) => line.includes("SSH"));
    expect(ssh(host + felix + untracked("{ action: Allow, protocol: TCP, source: { ports: [22] } }"))).toEqual([]);
    expect(ssh(host + felix + untracked("{ action: Allow, protocol: TCP, source: { ports: [23] } }"))).toHaveLength(1);
    // The port of a failsafe is open for answers too.
    expect(ssh(host + untracked("{ action: Deny }"))).toEqual([]);
  });

  test("the answer that is denied is the proof", () => {
    const untracked =
      "{ selector: all(), doNotTrack: true, applyOnForward: true, types: [Ingress], ingress: [{ action: Allow }] }";
    const [ssh] = check(host + felix + global(untracked)).filter(({ message }) => message.includes("SSH"));
    expect(ssh?.message).toContain(
      "the answer TCP n1 (10.0.0.1):22 → 192.0.2.1:50000 is denied. It belongs to no connection",
    );
  });

  test("a failsafe port for one administration network is no lock-out", () => {
    const limited = calico(
      "FelixConfiguration",
      "default",
      "{ failsafeInboundHostPorts: [{ protocol: TCP, port: 22, net: 198.51.100.0/24 }], failsafeOutboundHostPorts: [] }",
    );
    expect(ofHost(host + limited).filter((text) => text.includes("SSH"))).toEqual([]);
  });

  test("one address of each family speaks for a network set", () => {
    const nets = Array.from({ length: 300 }, (_, at) => `10.${at >> 8}.${at & 255}.0/24`).join(", ");
    const set = calico("GlobalNetworkSet", "admins", `{ nets: ["2001:db8:1::/48", ${nets}] }`).replace(
      "name: admins",
      "name: admins, labels: { who: admins }",
    );
    const policy = (who: string): string =>
      global(
        `{ selector: all(), types: [Ingress], ingress: [{ action: Allow, source: { selector: who == '${who}' } }] }`,
      );
    const lost = (text: string): string[] => ofHost(host + felix + set + text).filter((line) => line.includes("SSH"));
    expect(lost(policy("admins"))).toEqual([]);
    expect(lost(policy("nobody"))).toHaveLength(1);
  });

  test("failsafe ports of the node itself count", () => {
    const own = (name: string, more = ""): string =>
      calico("FelixConfiguration", name, `{ ${more}failsafeInboundHostPorts: [{ protocol: TCP, port: 22 }] }`);
    const node = "apiVersion: v1\nkind: Node\nmetadata: { name: n1, labels: { a: b } }\n---\n";
    const ssh = (text: string): string[] => ofHost(host + felix + node + text).filter((line) => line.includes("SSH"));
    expect([ssh(own("node.n1")), ssh(own("some", "nodeSelector: a == 'b', "))]).toEqual([[], []]);
    expect([ssh(own("node.n2")), ssh(own("some", "nodeSelector: a == 'c', "))].map((list) => list.length)).toEqual([
      1, 1,
    ]);
  });

  test("the API server and Typha are where the world says; what reaches others does not help", () => {
    const slice = (namespace: string, service: string, address: string, port: number): string =>
      `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: s, namespace: ${namespace}, labels: { kubernetes.io/service-name: ${service} } }\naddressType: IPv4\nendpoints: [{ addresses: [${address}] }]\nports: [{ port: ${port} }]\n---\n`;
    const slices =
      slice("default", "kubernetes", "10.0.9.1", 443) + slice("calico-system", "calico-typha", "10.0.9.2", 5473);
    const toNet = (net: string): string =>
      global(`{ selector: all(), types: [Egress], egress: [{ action: Allow, destination: { nets: [${net}] } }] }`);
    const lost = (text: string): string[] =>
      check(host + felix + slices + text)
        .map(({ message }) => message)
        .filter((text) => /API server:|Typha/.test(text))
        .map((text) => text.split(" is denied")[0] ?? "");
    expect(lost(toNet("198.51.100.0/24"))).toEqual([
      "node n1 loses the Kubernetes API server: TCP n1 (10.0.0.1):50000 → 10.0.9.1:443",
      "node n1 loses Typha: TCP n1 (10.0.0.1):50000 → 10.0.9.2:5473",
    ]);
    expect(lost(toNet("10.0.9.0/24"))).toEqual([]);
    // The node is the API server.
    expect(lost(slice("default", "kubernetes", "10.0.0.1", 443).replace("name: s", "name: t"))).toEqual([
      "node n1 loses Typha: TCP n1 (10.0.0.1):50000 → 10.0.9.2:5473",
    ]);
  });

  test("a policy for one administration network is no lock-out", () => {
    const ssh = global(
      "{ selector: all(), types: [Ingress], ingress: [{ action: Allow, protocol: TCP, source: { nets: [198.51.100.0/24] }, destination: { ports: [22] } }] }",
    );
    expect(ofHost(host + felix + ssh).filter((text) => text.includes("SSH"))).toEqual([]);
  });
});

test("text names place, rule and remedy", () => {
  const text = lintText(check(global('{ selector: "!all()" }')));
  expect(text).toContain("a.yaml:4:9: error [negated-catch-all] GlobalNetworkPolicy g: !all() excludes everything");
  expect(text).toContain("1 error, 0 warnings, 0 notes");
  expect(lintText([])).toContain("nothing found");
});

test("SARIF 2.1.0", () => {
  const log = lintSarif(check(global('{ selector: "!all()", types: [Ingress], egress: [{ action: Allow }] }'))) as {
    version: string;
    $schema: string;
    runs: {
      tool: { driver: { name: string; rules: { id: string; shortDescription: { text: string } }[] } };
      results: {
        ruleId: string;
        ruleIndex: number;
        level: string;
        message: { text: string };
        locations: {
          physicalLocation: { artifactLocation: { uri: string }; region: { startLine: number; startColumn: number } };
        }[];
      }[];
    }[];
  };
  expect(log.version).toBe("2.1.0");
  const [run] = log.runs;
  expect(run?.tool.driver.rules.map(({ id }) => id)).toEqual(Object.keys(LINT_RULES));
  expect(run?.results).toHaveLength(2);
  for (const result of run?.results ?? []) {
    expect(run?.tool.driver.rules[result.ruleIndex]?.id).toBe(result.ruleId);
    expect(["error", "warning", "note"]).toContain(result.level);
    expect(result.message.text).not.toBe("");
    expect(result.locations[0]?.physicalLocation.artifactLocation.uri).toBe("a.yaml");
    expect(result.locations[0]?.physicalLocation.region.startLine).toBeGreaterThan(0);
    expect(result.locations[0]?.physicalLocation.region.startColumn).toBeGreaterThan(0);
  }
});

test("anything may be in a file", () => {
  for (const text of [
    "null",
    "[]",
    "42",
    "{}",
    "{kind: List, items: [1, null]}",
    "{apiVersion: 1, kind: []}",
    "{apiVersion: projectcalico.org/v3, kind: Tier}",
    "{apiVersion: v1, kind: PodList, items: {}}",
    "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {template: {spec: 3, metadata: []}}}",
  ]) {
    expect(() => check(text)).not.toThrow();
  }
});
