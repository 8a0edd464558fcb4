/** Every finding there is, twice: a case that has it and a case next to it that has not. */
import { parseYamlDocuments } from "@calico-ts/schema";
import { describe, expect, test } from "vitest";
import type { Finding, LintRuleId, SourcedResource } from "../index.ts";
import { completeWorld, lint, LINT_RULES, lintSarif, lintText, readManifestWorld } from "../index.ts";

const read = (text: string) => readManifestWorld(parseYamlDocuments(text, "a.yaml"));
const check = (text: string) => lint(read(text));
const rules = (text: string): LintRuleId[] => check(text).map(({ rule }) => rule);

const calico = (kind: string, name: string, spec: string, namespace = ""): string =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: { name: ${name}${namespace === "" ? "" : `, namespace: ${namespace}`} }\nspec: ${spec}\n---\n`;
const pod = (name: string, labels: string, namespace = "a"): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: ${namespace}, labels: { ${labels} } }\nspec: { containers: [{ name: c, ports: [{ containerPort: 80 }] }] }\n---\n`;
const PODS = pod("web", "app: web") + pod("db", "app: db");
const global = (spec: string, name = "g"): string => calico("GlobalNetworkPolicy", name, spec);
const kubernetes = (name: string, spec: string): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: ${name}, namespace: a }\nspec: ${spec}\n---\n`;
const HOST = calico("HostEndpoint", "n1", "{ node: n1, interfaceName: eth0, expectedIPs: [10.0.0.1] }");
const OPEN = global(
  "{ selector: all(), types: [Ingress, Egress], ingress: [{ action: Allow }], egress: [{ action: Allow }] }",
);
const allow = (match: string): string => global(`{ ingress: [{ action: Allow, ${match} }] }`);
const notNets = (nets: string): string => global(`{ ingress: [{ action: Deny, source: { notNets: [${nets}] } }] }`);
const tier = (action: string): string => calico("Tier", "t", `{ order: 1, defaultAction: ${action} }`);
const inTier = (kind: string): string => calico(kind, "t.g", "{ tier: t, ingress: [{ action: Allow }] }");

const CASES: Readonly<
  Record<Exclude<LintRuleId, "bad-yaml" | "changes-traffic">, readonly (readonly [bad: string, good: string])[]>
> = {
  "not-an-object": [["- 1\n", PODS]],
  "unknown-kind": [
    ["apiVersion: projectcalico.org/v3\nkind: Polizei\nmetadata: { name: x }\n", OPEN],
    ["apiVersion: crd.projectcalico.org/v1\nkind: Tier\nmetadata: { name: x }\n", tier("Deny")],
  ],
  "unknown-field": [[global("{ selecter: all() }"), global("{ selector: all() }")]],
  invalid: [[global("{ order: abc }"), global("{ order: 1 }")]],
  duplicate: [[PODS + PODS, PODS]],
  "negated-catch-all": [
    [notNets("0.0.0.0/1, 128.0.0.0/1"), notNets("0.0.0.0/1")],
    [notNets('"::/1", "8000::/1"'), notNets('"::/1", 128.0.0.0/1, 0.0.0.0/1')],
    [global('{ selector: "!all()" }'), global('{ selector: "!has(a)" }')],
    [global("{ selector: \"a == 'x' && a == 'y'\" }"), global("{ selector: \"a == 'x' || a == 'y'\" }")],
    [allow('source: { selector: "a in {}" }'), allow('source: { namespaceSelector: "!all()" }')],
    [allow('source: { notSelector: "has(a) || !has(a)" }'), allow('source: { notSelector: "has(a)" }')],
    [
      allow('source: { serviceAccounts: { selector: "!all()" } }'),
      allow("source: { serviceAccounts: { names: [x] } }"),
    ],
  ],
  "ports-without-protocol": [
    [allow("destination: { ports: [80] }"), allow("protocol: TCP, destination: { ports: [80] }")],
    [allow("destination: { ports: [web, 80] }"), allow("destination: { ports: [web] }")],
  ],
  "log-only": [
    [
      PODS + global("{ ingress: [{ action: Log }] }"),
      PODS + global("{ ingress: [{ action: Log }, { action: Pass }] }"),
    ],
    [
      PODS +
        tier("Deny") +
        calico("GlobalNetworkPolicy", "t.g", "{ tier: t, types: [Egress], egress: [{ action: Log }] }"),
      PODS +
        tier("Pass") +
        calico("GlobalNetworkPolicy", "t.g", "{ tier: t, types: [Egress], egress: [{ action: Log }] }"),
    ],
  ],
  "shadowed-rule": [
    [
      global("{ ingress: [{ action: Allow }, { action: Deny, protocol: TCP }] }"),
      global("{ ingress: [{ action: Deny, protocol: TCP }, { action: Allow }] }"),
    ],
    // By another policy of the tier, for every endpoint it selects.
    [
      PODS +
        global("{ order: 1, ingress: [{ action: Deny, protocol: TCP }] }", "a") +
        global(
          "{ order: 2, selector: app == 'web', ingress: [{ action: Allow, protocol: TCP, destination: { ports: [80] } }] }",
          "b",
        ),
      PODS +
        global("{ order: 1, selector: app == 'db', ingress: [{ action: Deny, protocol: TCP }] }", "a") +
        global("{ order: 2, ingress: [{ action: Allow, protocol: TCP, destination: { ports: [80] } }] }", "b"),
    ],
    [
      PODS +
        global("{ order: 1, ingress: [{ action: Deny }] }") +
        kubernetes("k", "{ podSelector: {}, ingress: [{}] }"),
      PODS +
        global("{ order: 1, ingress: [{ action: Deny, protocol: TCP }] }") +
        kubernetes("k", "{ podSelector: {}, ingress: [{}] }"),
    ],
    [
      PODS +
        kubernetes("a", "{ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }") +
        kubernetes("b", "{ podSelector: {}, ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }] }] }"),
      PODS +
        kubernetes("a", "{ podSelector: {}, ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }] }] }") +
        kubernetes("b", "{ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }"),
    ],
    // By a tier before; a Pass in front lets packets reach the later one.
    [
      PODS +
        tier("Deny") +
        calico("GlobalNetworkPolicy", "t.g", "{ tier: t, ingress: [{ action: Allow }] }") +
        global("{ ingress: [{ action: Allow, protocol: TCP }] }"),
      PODS +
        tier("Deny") +
        calico("GlobalNetworkPolicy", "t.f", "{ tier: t, order: 1, ingress: [{ action: Pass, protocol: TCP }] }") +
        calico("GlobalNetworkPolicy", "t.g", "{ tier: t, order: 2, ingress: [{ action: Allow, protocol: UDP }] }") +
        global("{ ingress: [{ action: Allow, protocol: TCP }] }"),
    ],
    // A selector of a namespaced policy means its own namespace.
    [
      PODS +
        calico(
          "NetworkPolicy",
          "x",
          "{ order: 1, ingress: [{ action: Deny, source: { selector: app == 'db' } }] }",
          "a",
        ) +
        calico(
          "NetworkPolicy",
          "y",
          "{ order: 2, ingress: [{ action: Allow, source: { selector: app == 'db' } }] }",
          "a",
        ),
      PODS +
        calico(
          "NetworkPolicy",
          "x",
          "{ order: 1, ingress: [{ action: Deny, source: { selector: app == 'db' } }] }",
          "a",
        ) +
        global("{ order: 2, ingress: [{ action: Allow, source: { selector: app == 'db' } }] }"),
    ],
    // What runs before connection tracking does not stand in the way of what runs after.
    [
      PODS +
        global("{ order: 1, ingress: [{ action: Allow }] }", "a") +
        global("{ order: 2, ingress: [{ action: Deny }] }", "b"),
      PODS +
        HOST +
        OPEN +
        global("{ order: 1, applyOnForward: true, doNotTrack: true, ingress: [{ action: Allow }] }", "a"),
    ],
  ],
  "dead-rule": [
    [allow("protocol: TCP, notProtocol: TCP"), allow("protocol: TCP, notProtocol: UDP")],
    [
      allow('source: { selector: "a == \'x\'", notSelector: "has(a)" }'),
      allow('source: { selector: "has(a)", notSelector: "a == \'x\'" }'),
    ],
    [
      allow("source: { nets: [10.0.0.0/8], notNets: [10.0.0.0/7] }"),
      allow("source: { nets: [10.0.0.0/8], notNets: [10.0.0.0/9] }"),
    ],
    [
      allow('protocol: TCP, destination: { ports: [80], notPorts: ["79:81"] }'),
      allow('protocol: TCP, destination: { ports: ["80:90"], notPorts: [80] }'),
    ],
  ],
  "selector-matches-nothing": [
    [PODS + global("{ selector: app == 'wep' }"), PODS + global("{ selector: app == 'web' }")],
    [
      PODS + allow("source: { selector: app == 'wep' }"),
      PODS + calico("GlobalNetworkSet", "s", "{ nets: [10.0.0.0/8] }") + allow("source: { selector: app == 'web' }"),
    ],
    [
      PODS + kubernetes("k", "{ podSelector: { matchLabels: { app: wep } } }"),
      PODS + kubernetes("k", "{ podSelector: {} }"),
    ],
  ],
  "unknown-tier": [
    [
      calico("GlobalNetworkPolicy", "t.x", "{ tier: t }"),
      tier("Deny") + calico("GlobalNetworkPolicy", "t.x", "{ tier: t }"),
    ],
  ],
  "staged-only-tier": [
    [tier("Deny") + inTier("StagedGlobalNetworkPolicy"), tier("Deny") + inTier("GlobalNetworkPolicy")],
  ],
  "types-do-nothing": [
    [
      global("{ types: [Ingress], egress: [{ action: Allow }] }"),
      global("{ types: [Egress], egress: [{ action: Allow }] }"),
    ],
    [
      kubernetes("k", "{ podSelector: {}, policyTypes: [Ingress], egress: [{}] }"),
      kubernetes("k", "{ podSelector: {}, policyTypes: [Ingress, Egress], egress: [{}] }"),
    ],
  ],
  "lock-out": [
    [HOST, HOST + OPEN],
    [
      HOST + calico("FelixConfiguration", "default", "{ failsafeInboundHostPorts: [], failsafeOutboundHostPorts: [] }"),
      HOST +
        OPEN +
        calico("FelixConfiguration", "default", "{ failsafeInboundHostPorts: [], failsafeOutboundHostPorts: [] }"),
    ],
  ],
};

describe.each(Object.entries(CASES))("%s", (rule, cases) => {
  test.each(cases.map(([bad, good], at) => ({ at, bad, good })))("case $at", ({ bad, good }) => {
    expect(rules(bad)).toContain(rule);
    expect(rules(good)).not.toContain(rule);
  });
});

describe("staged policies are read as if in force, and shadow nobody", () => {
  const peer = "{ from: [{ podSelector: { matchLabels: { app: wep } } }] }";
  const staged = (kind: string, spec: string): string => calico(kind, "s", spec, kind.includes("Global") ? "" : "a");
  test.each([
    ["StagedGlobalNetworkPolicy", "{ selector: app == 'wep' }", "spec.selector"],
    ["StagedNetworkPolicy", "{ ingress: [{ action: Deny, source: { selector: app == 'wep' } }] }", "source"],
    ["StagedKubernetesNetworkPolicy", "{ podSelector: { matchLabels: { app: wep } } }", "spec.podSelector"],
    ["StagedKubernetesNetworkPolicy", `{ podSelector: {}, ingress: [${peer}] }`, "from"],
  ])("%s %s", (kind, spec) => {
    expect(check(PODS + staged(kind, spec)).map(({ rule, object }) => [rule, object.kind])).toEqual([
      ["selector-matches-nothing", kind],
    ]);
    expect(check(PODS + staged(kind, spec.replaceAll("wep", "web")))).toEqual([]);
    expect(check(PODS + staged(kind, "{ stagedAction: Ignore }"))).toEqual([]);
  });

  test("one that denies all before a policy in force", () => {
    const before = staged("StagedGlobalNetworkPolicy", "{ order: 1, selector: all(), ingress: [{ action: Deny }] }");
    expect(check(PODS + before + global("{ order: 2, selector: all(), ingress: [{ action: Allow }] }"))).toEqual([]);
  });
});

test("a kind of another group: where it is", () => {
  const message = (apiVersion: string, kind: string): string | undefined =>
    check(`apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: { name: x }\n`)[0]?.message;
  expect(message("extensions/v1beta1", "NetworkPolicy")).toContain(
    "write apiVersion: networking.k8s.io/v1 or projectcalico.org/v3",
  );
  expect(message("crd.projectcalico.org/v1", "Tier")).toContain("write apiVersion: projectcalico.org/v3");
});

describe("the order of findings", () => {
  const nothing = (name: string): string => global("{ selector: app == 'wep' }", name);
  const many = global(
    "{ selector: app == 'web', ingress: [{ action: Allow }, { action: Log, source: { selector: app == 'dp' } }, { action: Deny, protocol: 6 }], egress: [{ action: Log }] }",
    "many",
  );
  const openly = calico(
    "FelixConfiguration",
    "default",
    "{ failsafeInboundHostPorts: [], failsafeOutboundHostPorts: [] }",
  );
  const files: Readonly<Record<string, string>> = {
    "b.yaml": nothing("first") + many + HOST + openly,
    "a/z.yaml": PODS + nothing("other") + "- 1\n---\n" + global("{ order: abc }", "broken"),
    "a/a.yaml": nothing("again") + nothing("third"),
  };
  const judged = (names: readonly string[]): Finding[] =>
    lint(readManifestWorld(names.flatMap((name) => parseYamlDocuments(files[name] ?? "", name))));
  const place = ({ position }: Finding): string =>
    `${position?.file}:${String(position?.line).padStart(4, "0")}:${String(position?.column).padStart(4, "0")}`;
  const names = Object.keys(files);

  test("by file, line and column, in whatever order the files were named", () => {
    const found = judged(names.toSorted());
    expect(found.length).toBeGreaterThan(15);
    expect(found.map(place)).toEqual(found.map(place).toSorted());
    for (const order of [names, names.toReversed()]) expect(judged(order)).toEqual(found);
  });

  test("of one place as they were looked for: what a node loses, the worst first", () => {
    const lost = judged(names).filter(({ rule }) => rule === "lock-out");
    expect(
      lost.map(({ severity, message }) => `${severity} ${message.split(":")[0]?.replace("node n1 loses ", "")}`),
    ).toEqual([
      "error SSH to the node",
      "error the Kubernetes API server",
      "error etcd",
      "error BGP from its peers",
      "error BGP to its peers",
      "error Typha",
      "warning DNS",
      "warning the kubelet from the API server (logs, exec, probes of metrics)",
    ]);
  });

  test("of a cluster by object, in whatever order it was listed", () => {
    const { resources, workloads } = read(HOST + openly + many + nothing("z") + nothing("a") + PODS);
    const cluster = completeWorld(resources, { workloads, imagine: true }).map(({ kind, resource }) => ({
      kind,
      resource,
    }));
    const of = (list: readonly SourcedResource[]): Finding[] =>
      lint({ resources: [], workloads: [], problems: [], cluster: list });
    const found = of(cluster);
    const objects = [...new Set(found.map(({ object }) => `${object.kind} ${object.name}`))];
    expect(objects).toEqual([
      "GlobalNetworkPolicy a",
      "GlobalNetworkPolicy many",
      "GlobalNetworkPolicy z",
      "HostEndpoint n1",
    ]);
    expect(of(cluster.toReversed())).toEqual(found);
  });

  test("what has a place comes before what has none, and what is about no object last", () => {
    const { resources, workloads } = read(Array.from({ length: 6 }, (_, at) => pod(`p${at}`, `app: p${at}`)).join(""));
    const cluster = completeWorld(resources, { workloads, imagine: true }).map(({ kind, resource }) => ({
      kind,
      resource,
    }));
    const found = lint({ ...read(global("{ selector: all(), types: [Ingress] }") + nothing("n")), cluster });
    const shown = found.map(({ position, object }) => (position === undefined ? object.kind : "placed"));
    expect(shown).toEqual(["placed", ...Array.from({ length: 20 }, () => "Tier"), ""]);
  });

  test("text, JSON and SARIF have one order", () => {
    const found = judged(names);
    const ids = found.map(({ rule }) => rule);
    expect([...lintText(found).matchAll(/^\S.* \[([a-z-]+)\]/gm)].map(([, id]) => id)).toEqual(ids);
    const { runs } = lintSarif(found) as { runs: { results: { ruleId: string }[] }[] };
    expect(runs[0]?.results.map(({ ruleId }) => ruleId)).toEqual(ids);
  });
});

test("a network set that somebody has yet to fill is there", () => {
  const set = calico("GlobalNetworkSet", "s", "{ nets: [] }").replace("name: s", "name: s, labels: { role: trusted }");
  const policy = "{ selector: app == 'web', ingress: [{ action: Allow, source: { selector: role == 'trusted' } }] }";
  expect(check(PODS + set + global(policy))).toEqual([]);
  expect(rules(PODS + set + global(policy.replace("trusted", "trustd")))).toEqual(["selector-matches-nothing"]);
});

test("of many peers the one that nobody is, with its place", () => {
  const peers = (last: string): string =>
    `{ podSelector: {}, ingress: [{}, { from: [{ podSelector: { matchLabels: { app: web } } }, { ipBlock: { cidr: 192.0.2.0/24 } },\n        { podSelector: { matchLabels: { app: ${last} } } }] }] }`;
  const found = check(PODS + kubernetes("k", peers("dp"))).filter(({ rule }) => rule !== "shadowed-rule");
  expect(found.map(({ rule, message }) => [rule, message])).toEqual([
    ["selector-matches-nothing", "ingress rule 1: nothing here is pods with app=dp in namespace a"],
  ]);
  const line = (PODS + kubernetes("k", peers("dp"))).split("\n").findIndex((text) => text.includes("app: dp"));
  expect(found[0]?.position).toMatchObject({ line: line + 1, column: 9 });
  expect(rules(PODS + kubernetes("k", peers("db")))).not.toContain("selector-matches-nothing");
});

describe("peers in namespaces of which nothing was given", () => {
  const dns =
    "{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: kube-system } }, podSelector: { matchLabels: { k8s-app: kube-dns } } }";
  const policies: Readonly<Record<string, string>> = {
    Kubernetes: kubernetes("k", `{ podSelector: {}, policyTypes: [Egress], egress: [{ to: [${dns}] }] }`),
    Calico: global(
      "{ selector: app == 'web', types: [Egress], egress: [{ action: Allow, destination: { namespaceSelector: \"projectcalico.org/name == 'kube-system'\", selector: k8s-app == 'kube-dns' } }] }",
    ),
    "global()": global(
      "{ selector: app == 'web', types: [Ingress], ingress: [{ action: Allow, source: { namespaceSelector: global() } }] }",
    ),
    cluster: `apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: { name: c }\nspec: { tier: Admin, priority: 1, subject: { namespaces: {} }, egress: [{ action: Accept, to: [{ pods: ${dns} }] }] }\n---\n`,
  };
  const other =
    "apiVersion: v1\nkind: Pod\nmetadata: { name: o, namespace: kube-system }\nspec: { containers: [] }\n---\n";
  const severities = (found: readonly Finding[]): string[] =>
    found.filter(({ rule }) => rule === "selector-matches-nothing").map(({ severity }) => severity);

  test.each(Object.entries(policies))("%s: a note", (_kind, policy) => {
    expect(severities(check(PODS + policy))).toEqual(["note"]);
  });

  test.each(Object.entries(policies).filter(([kind]) => kind !== "global()"))(
    "%s: a warning once there is something",
    (_kind, policy) => {
      expect(severities(check(PODS + other + policy))).toEqual(["warning"]);
    },
  );

  test.each(Object.entries(policies))("%s: a warning in a cluster, of which everything is known", (_kind, policy) => {
    const { resources, workloads } = read(PODS + policy);
    const cluster = completeWorld(resources, { workloads, imagine: true });
    expect(severities(lint({ resources: [], workloads: [], problems: [], cluster }))).toEqual(["warning"]);
  });
});

test("a file that is no YAML", () => {
  const position = { file: "b.yaml", line: 2, column: 1 };
  const mistakes = [{ message: "odd", position }];
  expect(lint({ resources: [], workloads: [], problems: [], mistakes })).toMatchObject([
    { rule: "bad-yaml", position },
  ]);
  expect(lint({ resources: [], workloads: [], problems: [], mistakes: [] })).toEqual([]);
});

test("all there are", () => {
  expect(new Set([...Object.keys(CASES), "bad-yaml", "changes-traffic"])).toEqual(new Set(Object.keys(LINT_RULES)));
});

test("whom a control-plane node must serve", () => {
  const felix = calico("FelixConfiguration", "default", "{ failsafeInboundHostPorts: [] }");
  const node = (labels: string): string =>
    `apiVersion: v1\nkind: Node\nmetadata: { name: n1, labels: { ${labels} } }\n---\n`;
  const lost = (text: string): string =>
    check(text)
      .filter(({ rule, severity }) => rule === "lock-out" && severity === "error")
      .map(({ message }) => message)
      .join("\n");
  const control = lost(HOST + felix + node('node-role.kubernetes.io/control-plane: ""'));
  expect(control).toContain("clients of its API server: TCP 192.0.2.1:50000 → n1");
  expect(control).toContain("clients of its etcd");
  expect(lost(HOST + felix + node("a: b"))).not.toContain("clients of its");
  const typha =
    "apiVersion: v1\nkind: Pod\nmetadata: { name: t, namespace: kube-system, labels: { k8s-app: calico-typha } }\nspec: { nodeName: n1, hostNetwork: true, containers: [] }\n---\n";
  expect(lost(HOST + felix + node("a: b") + typha)).toContain("clients of its Typha");
});

describe("a cluster", () => {
  const held = (text: string): SourcedResource[] => {
    const { resources, workloads } = read(text);
    return completeWorld(resources, { workloads, imagine: true }).map(({ kind, resource }) => ({ kind, resource }));
  };
  const against = (cluster: string, files: string) => lint({ ...read(files), cluster: held(cluster) });
  const web =
    "{ order: 5, selector: app == 'web', ingress: [{ action: Allow, protocol: TCP, destination: { ports: [80] } }] }";

  test("alone is judged as it is, without places", () => {
    const [finding, ...others] = lint({
      resources: [],
      workloads: [],
      problems: [],
      cluster: held(PODS + global("{ selector: app == 'wep' }")),
    });
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ rule: "selector-matches-nothing", object: { name: "g" } });
    expect(finding?.position).toBeUndefined();
    expect(lintText(finding === undefined ? [] : [finding])).toMatch(
      /^warning \[selector-matches-nothing\] GlobalNetworkPolicy g:/,
    );
  });

  test("files are judged by whom they select there", () => {
    expect(against(PODS, global("{ selector: app == 'web', ingress: [{ action: Allow }] }", "x"))).toEqual([]);
    expect(against(PODS, global("{ selector: app == 'wep' }", "x")).map(({ rule }) => rule)).toEqual([
      "selector-matches-nothing",
    ]);
  });

  test("what they change about the rest is told, what was so before is not", () => {
    const found = against(
      PODS + global(web) + global("{ selector: app == 'wep' }", "old"),
      global("{ order: 1, ingress: [{ action: Deny }] }", "first"),
    );
    expect(found.filter(({ rule }) => rule === "shadowed-rule")).toMatchObject([
      { object: { name: "g" }, change: "new" },
    ]);
    expect(found.some(({ object }) => object.name === "old")).toBe(false);
    expect(lintText(found)).toContain("with these files: ");
  });

  test("what they mend is told as gone", () => {
    const found = against(
      PODS + global("{ selector: app == 'wep', ingress: [{ action: Allow }] }"),
      global("{ selector: app == 'web', ingress: [{ action: Allow }] }"),
    );
    expect(found).toMatchObject([{ rule: "selector-matches-nothing", change: "gone", severity: "note" }]);
    expect(lintText(found)).toContain("no longer with these files: ");
  });

  test("traffic that changes is told with the rule that decides, in both directions", () => {
    const closing = against(PODS, global("{ selector: app == 'web', ingress: [{ action: Deny }] }"));
    expect(closing.map(({ rule, severity, message }) => [rule, severity, message.split(". ")[0]])).toEqual([
      ["changes-traffic", "warning", "a/db → a/web TCP/80 is denied, and was allowed"],
      ["changes-traffic", "warning", "outside (192.0.2.1) → a/web TCP/80 is denied, and was allowed"],
    ]);
    expect(closing[0]?.position).toMatchObject({ file: "a.yaml", line: 4 });
    expect(closing[0]?.object).toEqual({ kind: "GlobalNetworkPolicy", namespace: "", name: "g" });
    const silent = against(PODS, global("{ selector: app == 'web', types: [Ingress] }"));
    expect(silent.map(({ object }) => object)).toContainEqual({ kind: "Tier", namespace: "", name: "default" });
    const opening = against(PODS + global("{ selector: app == 'web', ingress: [{ action: Deny }] }"), global(web));
    expect(opening.map(({ severity, message }) => [severity, message.split(". ")[0]])).toContainEqual([
      "note",
      "a/db → a/web TCP/80 is allowed, and was denied",
    ]);
  });

  test("the ports that are asked about are those that containers declare, named or not", () => {
    const two = PODS.replaceAll(
      "containerPort: 80",
      "containerPort: 9555 }, { name: dns, protocol: UDP, containerPort: 53",
    );
    const only9555 =
      "{ selector: app == 'web', ingress: [{ action: Allow, protocol: TCP, destination: { ports: [9555] } }] }";
    const changed = against(two, global(only9555)).map(({ message }) => message.split(" is ")[0]);
    expect(changed).toEqual(["a/db → a/web UDP/53", "outside (192.0.2.1) → a/web UDP/53"]);
  });

  test("files that cut a node off", () => {
    const found = against(
      PODS,
      HOST + calico("FelixConfiguration", "default", "{ failsafeInboundHostPorts: [], failsafeOutboundHostPorts: [] }"),
    );
    const lost = found.filter(({ rule }) => rule === "lock-out");
    expect(lost.some(({ message }) => message.includes("SSH"))).toBe(true);
    expect(lost.every(({ change }) => change === "new")).toBe(true);
  });

  test("a policy that slipped in: named, and nothing is concluded from it", () => {
    const [base] = held(global("{ ingress: [{ action: Allow }, { action: Deny }] }"));
    const broken = JSON.parse(JSON.stringify(base).replace('"Allow"', '"Permit"')) as SourcedResource;
    const found = lint({ resources: [], workloads: [], problems: [], cluster: [...held(PODS), broken] });
    expect(found.map(({ rule }) => rule)).toEqual(["invalid"]);
    expect(found[0]?.message).toMatch(/^spec\.ingress\[0\]\.action: .*Permit.*enforced closed/);
  });
});

test("SARIF has the structure its schema demands, places or not", () => {
  const found = [
    ...check(global('{ selector: "!all()" }')),
    ...lint({
      resources: [],
      workloads: [],
      problems: [],
      cluster: read(HOST).resources.map(({ kind, resource }) => ({ kind, resource })),
    }),
  ];
  const log = JSON.parse(JSON.stringify(lintSarif(found))) as Sarif;
  expect(Object.keys(log).toSorted()).toEqual(["$schema", "runs", "version"]);
  const [run] = log.runs;
  const ids = run?.tool.driver.rules.map(({ id }) => id) ?? [];
  expect(new Set(ids).size).toBe(ids.length);
  for (const { shortDescription, fullDescription } of run?.tool.driver.rules ?? []) {
    expect([shortDescription.text, fullDescription.text].every((text) => text.length > 0)).toBe(true);
  }
  expect(run?.results).toHaveLength(found.length);
  for (const { ruleId, ruleIndex, level, message, locations } of run?.results ?? []) {
    expect(ids[ruleIndex]).toBe(ruleId);
    expect(["error", "warning", "note", "none"]).toContain(level);
    expect(message.text.length).toBeGreaterThan(0);
    for (const { physicalLocation } of locations) {
      expect(physicalLocation.artifactLocation.uri).toBe("a.yaml");
      expect(physicalLocation.region.startLine).toBeGreaterThan(0);
    }
  }
});

interface Sarif {
  readonly runs: readonly {
    readonly tool: {
      readonly driver: {
        readonly rules: readonly {
          readonly id: string;
          readonly shortDescription: { readonly text: string };
          readonly fullDescription: { readonly text: string };
        }[];
      };
    };
    readonly results: readonly {
      readonly ruleId: string;
      readonly ruleIndex: number;
      readonly level: string;
      readonly message: { readonly text: string };
      readonly locations: readonly {
        readonly physicalLocation: {
          readonly artifactLocation: { readonly uri: string };
          readonly region: { readonly startLine: number };
        };
      }[];
    }[];
  }[];
}
