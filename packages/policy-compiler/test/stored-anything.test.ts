/**
 * Stored objects may hold anything: not every datastore checks them. What nobody can read opens nothing, is told in `problems`, and
 * compiler and oracle agree about it.
 */
import { parseAddress } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { CompilerUpdate, OracleOptions } from "../src/index.ts";
import { createCompiler, createOracle } from "../src/index.ts";
import { CheckingSink } from "../src/testing/checking-sink.ts";
import { evaluateMessages } from "../src/testing/message-evaluator.ts";
import { namespace, pod, raw, resource } from "../src/testing/resources.ts";

const PODS = { "a/web": "10.0.0.1", "a/db": "10.0.0.2", "b/web": "10.0.1.1" } as const;
const OUTSIDE = "192.0.2.7";
const BASE: readonly CompilerUpdate[] = [
  resource("Tier", "default", { spec: { order: 1_000_000, defaultAction: "Deny" } }),
  namespace("a", { team: "red" }),
  namespace("b", { team: "blue" }),
  ...Object.entries(PODS).map(([name, ip]) => pod(name, { ips: [ip], labels: { app: name.slice(2) }, node: "n1" })),
];

/** Who may send to `a/db` by TCP/80, as both say. */
function ask(...extra: readonly CompilerUpdate[]) {
  const world = [...BASE, ...extra];
  const sink = new CheckingSink();
  const compiler = createCompiler({ node: "n1", emit: (message) => sink.receive(message) });
  for (const update of world) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  expect(sink.errors).toEqual([]);
  const oracle = createOracle(world);
  const allowed = [...Object.values(PODS), OUTSIDE].filter((address) => {
    if (address === PODS["a/db"]) return false;
    const packet = { protocol: 6, sourcePort: 40_000, destinationPort: 80 };
    const ends = { source: parseAddress(address), destination: parseAddress(PODS["a/db"]) };
    const compiled = evaluateMessages(sink, "a/db", "ingress", { ...packet, ...ends });
    const verdict = oracle.verdict({ from: { address }, to: { pod: "a/db" }, ...packet });
    expect({ address, compiled }).toEqual({ address, compiled: verdict.allowed });
    return compiled === true;
  });
  return { allowed, problems: compiler.problems().flatMap(({ messages }) => messages) };
}

const EVERYBODY = [PODS["a/web"], PODS["b/web"], OUTSIDE];
const calico = (spec: unknown) => raw("NetworkPolicy", "p", { spec }, "a");
const cluster = (spec: unknown) => raw("GlobalNetworkPolicy", "p", { spec });
const kubernetes = (spec: unknown) => raw("KubernetesNetworkPolicy", "p", { spec }, "a");
const administrators = (more: object) =>
  raw("ClusterNetworkPolicy", "p", { spec: { tier: "Admin", priority: 1, subject: { namespaces: {} }, ...more } });

test("nothing stored, everything open", () => {
  expect(ask()).toEqual({ allowed: EVERYBODY, problems: [] });
});

describe("a policy that is not of the shape its kind has isolates", () => {
  test.each<[string, unknown]>([
    ["no spec", null],
    ["rules that are no list", { ingress: "deny" }],
    ["a mapping for a list of rules", { ingress: { action: "Allow" } }],
    ["a rule that is nothing", { ingress: [null, { action: "Allow" }] }],
    ["types that are no list", { types: "Ingress", ingress: [] }],
  ])("%s", (_, spec) => {
    expect(ask(calico(spec)).allowed).toEqual([]);
    expect(ask(cluster(spec)).allowed).toEqual([]);
  });

  test("a list for a selector", () => {
    const spec = { selector: ["a"], ingress: [{ action: "Allow" }] };
    expect(ask(calico(spec)).allowed).toEqual([]);
    // Of the whole cluster nobody knows whom it was meant for.
    expect(ask(cluster(spec)).allowed).toEqual(EVERYBODY);
  });

  test.each<[string, unknown]>([
    ["no spec", null],
    ["rules that are no list", { podSelector: {}, ingress: "x" }],
    ["a rule that is nothing", { podSelector: {}, ingress: [null] }],
    ["ports that are no list", { podSelector: {}, ingress: [{ ports: "x" }] }],
    ["ports that are an empty text", { podSelector: {}, ingress: [{ ports: "" }] }],
    ["peers that are an empty text", { podSelector: {}, ingress: [{ from: "" }] }],
    ["a label that cannot be one", { podSelector: { matchLabels: { "no label!": "x" } } }],
    ["a number for a label's value", { podSelector: { matchLabels: { app: 5 } } }],
    ["policyTypes that are no list", { podSelector: {}, policyTypes: "Egress" }],
  ])("Kubernetes: %s", (_, spec) => {
    expect(ask(kubernetes(spec)).allowed).toEqual([]);
  });

  test.each<[string, object]>([
    ["rules that are no list", { ingress: "x" }],
    ["peers that are no list", { ingress: [{ action: "Deny", from: "x" }] }],
    ["a rule that is nothing", { ingress: [null] }],
    ["protocols that are no list", { ingress: [{ action: "Deny", from: [{ namespaces: {} }], protocols: "x" }] }],
  ])("ClusterNetworkPolicy: %s", (_, spec) => {
    const { allowed, problems } = ask(administrators(spec));
    expect(allowed).toEqual([]);
    expect(problems.join()).toMatch(/denies everything instead/);
  });

  test("no list of rules that allow is no rule, and is told", () => {
    const { problems } = ask(kubernetes({ podSelector: {}, ingress: "x" }));
    expect(problems.join()).toMatch(/ingress is left out/);
  });

  test("null is absent, as Kubernetes reads it", () => {
    expect(ask(kubernetes({ podSelector: null, ingress: [{ from: null, ports: null }] })).allowed).toEqual(EVERYBODY);
  });
});

test("a Service without backends: Kubernetes writes null for its lists", () => {
  const slice = raw(
    "EndpointSlice",
    "s-1",
    {
      metadata: { name: "s-1", namespace: "a", labels: { "kubernetes.io/service-name": "s" } },
      addressType: "IPv4",
      endpoints: null,
      ports: null,
    },
    "a",
  );
  const deny = calico({ ingress: [{ action: "Deny", source: { services: { name: "s" } } }, { action: "Allow" }] });
  expect(ask(slice, deny)).toEqual({ allowed: EVERYBODY, problems: [] });
});

test("prefixes that are no list are none", () => {
  const set = raw("GlobalNetworkSet", "s", {
    metadata: { name: "s", labels: { office: "yes" } },
    spec: { nets: OUTSIDE },
  });
  const only = calico({
    ingress: [{ action: "Allow", source: { selector: "has(office)", namespaceSelector: "global()" } }],
  });
  expect(ask(set, only).allowed).toEqual([]);
});

describe("Kubernetes' selectors ask for inherited labels too, and for whoever counts as a pod", () => {
  test.each<[string, object, readonly string[]]>([
    [
      "a namespace by its name",
      { namespaceSelector: { matchLabels: { "projectcalico.org/name": "b" } } },
      [PODS["b/web"]],
    ],
    [
      "a pod by its namespace's label",
      { namespaceSelector: {}, podSelector: { matchLabels: { "pcns.team": "blue" } } },
      [PODS["b/web"]],
    ],
    [
      "a pod by what Calico puts on it",
      { namespaceSelector: {}, podSelector: { matchLabels: { "projectcalico.org/namespace": "a" } } },
      [PODS["a/web"]],
    ],
    ["every namespace", { namespaceSelector: {} }, [PODS["a/web"], PODS["b/web"]]],
  ])("%s", (_, peer, allowed) => {
    expect(ask(kubernetes({ podSelector: {}, ingress: [{ from: [peer] }] })).allowed).toEqual(allowed);
  });

  test("a pod's own label of a namespace's form beats the namespace's", () => {
    const claims = pod("b/web", { ips: [PODS["b/web"]], labels: { app: "web", "pcns.team": "red" }, node: "n1" });
    const peer = { namespaceSelector: { matchLabels: { team: "red" } } };
    expect(ask(claims, kubernetes({ podSelector: {}, ingress: [{ from: [peer] }] })).allowed).toEqual([
      PODS["a/web"],
      PODS["b/web"],
    ]);
  });

  test("a network set that says it is a pod", () => {
    const set = resource(
      "NetworkSet",
      "s",
      {
        metadata: { name: "s", namespace: "a", labels: { "projectcalico.org/orchestrator": "k8s" } },
        spec: { nets: [`${OUTSIDE}/32`] },
      },
      "a",
    );
    expect(ask(set, kubernetes({ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] })).allowed).toEqual([
      PODS["a/web"],
      OUTSIDE,
    ]);
  });
});

describe("a host endpoint and configuration, written otherwise", () => {
  const allowed = (spec: object, config: Readonly<Record<string, string>>, port: number): boolean => {
    const options: OracleOptions = { config, hosts: { n1: { uplink: "eth0", addresses: ["2001:db8::1"] } } };
    const endpoint = resource("HostEndpoint", "h", { spec: { node: "n1", ...spec } });
    const query = { from: { address: "2001:db8::9" }, to: { host: "n1" }, protocol: 6, destinationPort: port } as const;
    return createOracle([...BASE, endpoint], options).verdict(query).allowed;
  };

  test("one address has many spellings", () => {
    expect(allowed({ expectedIPs: ["2001:DB8:0::0001"] }, {}, 80)).toBe(false);
    expect(allowed({ expectedIPs: ["2001:db8::2"] }, {}, 80)).toBe(true);
  });

  test("a failsafe port without a protocol is TCP's", () => {
    expect(allowed({ interfaceName: "eth0" }, { failsafeInboundHostPorts: "80, udp:53" }, 80)).toBe(true);
    expect(allowed({ interfaceName: "eth0" }, { failsafeInboundHostPorts: "80, udp:53" }, 53)).toBe(false);
  });

  test("an unknown DefaultEndpointToHostAction is the default", () => {
    const verdict = (action: string) =>
      createOracle(BASE, { config: { defaultEndpointToHostAction: action } }).verdict({
        from: { pod: "a/web" },
        to: { host: "n1" },
        protocol: 6,
        destinationPort: 80,
      });
    expect(verdict("Nothing")).toMatchObject({ allowed: false, decision: { by: "endpoint-to-host", action: "drop" } });
    expect(verdict("ACCEPT").allowed).toBe(true);
  });
});
