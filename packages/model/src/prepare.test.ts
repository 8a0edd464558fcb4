import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { objectOf } from "../testing/schema-arbitrary.ts";
import type { KindName } from "./kinds.ts";
import { isKindName, kindNameOf, kindNames, kinds } from "./kinds.ts";
import { prepare } from "./prepare.ts";

const namespaced = (kind: KindName): object => (kinds[kind].namespaced ? { namespace: "shop" } : {});

/** Paths of what is wrong; empty when nothing is. */
function wrong(kind: KindName, spec: object, metadata: object = {}, old?: unknown): string[] {
  const value = { metadata: { name: "x", ...namespaced(kind), ...metadata }, spec };
  const prepared = prepare(kind, value, { old });
  return prepared.ok ? [] : prepared.errors.map((error) => error.path);
}

describe("an accepted resource", () => {
  test("has its defaults, its identity and nothing unknown; the value is not touched", () => {
    const value = {
      metadata: { name: "p", labels: { a: "b" } },
      spec: { cidr: "10.0.0.0/16", colour: "blue" },
      extra: 1,
    };
    const before = structuredClone(value);
    expect(prepare("IPPool", value)).toEqual({
      ok: true,
      resource: {
        apiVersion: "projectcalico.org/v3",
        kind: "IPPool",
        metadata: { name: "p", labels: { a: "b" } },
        spec: { cidr: "10.0.0.0/16", assignmentMode: "Automatic", nodeSelector: "all()" },
      },
      unknownFields: ["spec.colour", "extra"],
    });
    expect(value).toEqual(before);
  });

  test.each<[KindName, object, object]>([
    ["Tier", {}, { defaultAction: "Deny" }],
    ["GlobalNetworkPolicy", {}, { tier: "default" }],
    ["StagedNetworkPolicy", { tier: "t" }, { tier: "t", stagedAction: "Set" }],
    ["BGPConfiguration", {}, { logSeverityScreen: "Info", serviceLoadBalancerAggregation: "Enabled" }],
    ["FelixConfiguration", {}, { nftablesMode: "Auto", nftablesFlowTableOffload: "Disabled" }],
    ["IPAMConfiguration", {}, { strictAffinity: false, autoAllocateBlocks: true, maxBlocksPerHost: 0 }],
    [
      "KubeControllersConfiguration",
      { controllers: { loadBalancer: {}, migration: {} } },
      {
        healthChecks: "Enabled",
        controllers: { loadBalancer: { assignIPs: "AllServices" }, migration: { policyNameMigrator: "Enabled" } },
      },
    ],
  ])("%s %j becomes %j", (kind, spec, expected) => {
    const prepared = prepare(kind, { metadata: { name: "x", ...namespaced(kind) }, spec });
    expect(prepared).toMatchObject({ ok: true, resource: { spec: expected } });
  });

  test("says first what it is", () => {
    const prepared = prepare("Tier", { spec: {}, metadata: { name: "t" } });
    expect(prepared.ok && Object.keys(prepared.resource).slice(0, 2)).toEqual(["apiVersion", "kind"]);
  });

  test("of Kubernetes keeps what we do not know", () => {
    const pod = {
      metadata: { name: "p", namespace: "n" },
      spec: { containers: [{ name: "c", tty: true }], priority: 1 },
    };
    expect(prepare("Pod", pod)).toMatchObject({ ok: true, resource: pod, unknownFields: [] });
  });
});

describe("identity", () => {
  test.each<[KindName, unknown, string]>([
    ["IPPool", undefined, ""],
    ["IPPool", null, ""],
    ["IPPool", [], ""],
    ["IPPool", "text", ""],
    ["IPPool", { spec: { cidr: "10.0.0.0/16" } }, "metadata"],
    ["IPPool", { metadata: null, spec: { cidr: "10.0.0.0/16" } }, "metadata"],
    ["IPPool", { metadata: {}, spec: { cidr: "10.0.0.0/16" } }, "metadata.name"],
    ["IPPool", { metadata: { name: 7 }, spec: { cidr: "10.0.0.0/16" } }, "metadata.name"],
    ["IPPool", { metadata: { name: "x", namespace: "n" }, spec: { cidr: "10.0.0.0/16" } }, "metadata.namespace"],
    ["NetworkPolicy", { metadata: { name: "x" }, spec: {} }, "metadata.namespace"],
    ["IPPool", { metadata: { name: "x" } }, "spec"],
    ["IPPool", { kind: "Tier", metadata: { name: "x" }, spec: {} }, "kind"],
    ["NetworkPolicy", { apiVersion: "networking.k8s.io/v1", metadata: { name: "x" }, spec: {} }, "apiVersion"],
  ])("%s %j: %s", (kind, value, path) => {
    const prepared = prepare(kind, value);
    expect(prepared).toMatchObject({ ok: false, errors: [{ path }] });
  });

  test.each<[KindName, string, boolean]>([
    ["IPPool", "a.b-c.d", true],
    ["IPPool", "A", false],
    ["IPPool", "a_b", false],
    ["IPPool", "-a", false],
    ["IPPool", "a".repeat(253), true],
    ["IPPool", "a".repeat(254), false],
    ["Tier", "a.b", false],
    ["Tier", "a".repeat(63), true],
    ["Tier", "a".repeat(64), false],
    ["GlobalNetworkPolicy", "a.b", true],
    ["GlobalNetworkPolicy", "a.b.c", false],
    ["GlobalNetworkPolicy", "knp.default.a.b", false],
    ["NetworkPolicy", "tier.name", true],
    ["NetworkPolicy", "a.b.c", false],
    ["NetworkPolicy", "knp.default.a.b", true],
    ["StagedNetworkPolicy", "ossg.default.a.b", true],
  ])("a %s may be called %s: %s", (kind, name, fits) => {
    const spec = kind === "IPPool" ? { cidr: "10.0.0.0/16" } : {};
    expect(wrong(kind, spec, { name })).toEqual(fits ? [] : ["metadata.name"]);
  });

  test.each<[object, string[]]>([
    [{ labels: { "example.com/a": "b" }, annotations: { "Example.com/a": "any thing" } }, []],
    [{ labels: { "a b": "c" } }, ["metadata.labels"]],
    [{ labels: { a: "b c" } }, ["metadata.labels[a]"]],
    [{ labels: { a: "b".repeat(64) } }, ["metadata.labels[a]"]],
    [{ labels: { a: 1 } }, ["metadata.labels.a"]],
    [{ annotations: { "/a": "" } }, ["metadata.annotations"]],
    [{ annotations: { a: "b".repeat(256 * 1024) } }, ["metadata.annotations"]],
  ])("metadata %j", (metadata, paths) => {
    expect(wrong("IPPool", { cidr: "10.0.0.0/16" }, metadata)).toEqual(paths);
  });
});

test("null is absent, as an API server takes it", () => {
  expect(wrong("NetworkPolicy", { ingress: null, order: null }, { name: "x", namespace: "n", labels: null })).toEqual(
    [],
  );
  expect(
    wrong("KubernetesNetworkPolicy", { podSelector: {}, ingress: null, egress: null }, { name: "x", namespace: "n" }),
  ).toEqual([]);
  expect(wrong("NetworkPolicy", { ingress: [null] }, { name: "x", namespace: "n" })).toEqual(["spec.ingress[0]"]);
});

describe("pools", () => {
  const cidr = "10.0.0.0/16";

  test.each<[object, boolean]>([
    [{ cidr, ipipMode: "Always", vxlanMode: "Never" }, true],
    [{ cidr, ipipMode: "Always", vxlanMode: "CrossSubnet" }, false],
    [{ cidr, ipipMode: "Sometimes" }, false],
    [{ cidr: "fd00::/64", ipipMode: "Always" }, false],
    [{ cidr: "fd00::/64", vxlanMode: "Always" }, true],
    [{ cidr: "10.0.0.1/16" }, false],
    [{ cidr: "10.0.0.0" }, false],
    [{ cidr: "" }, false],
    [{ cidr: 7 }, false],
    [{ cidr: "169.254.0.0/24" }, false],
    [{ cidr: "128.0.0.0/1" }, false],
    [{ cidr: "fe80::/16" }, false],
    [{ cidr, blockSize: 20 }, true],
    [{ cidr, blockSize: 19 }, false],
    [{ cidr, blockSize: 33 }, false],
    [{ cidr: "10.0.0.0/27" }, false],
    [{ cidr: "10.0.0.0/27", disabled: true }, true],
    [{ cidr: "10.0.0.0/27", blockSize: 28 }, true],
    [{ cidr: "fd00::/64", blockSize: 26 }, false],
    [{ cidr: "fd00::/122" }, true],
    [{ cidr: "fd00::/123" }, false],
    [{ cidr, nodeSelector: "zone == 'a'" }, true],
    [{ cidr, nodeSelector: "zone = 'a'" }, false],
    [{ cidr, nodeSelector: "global()" }, false],
    [{ cidr, namespaceSelector: "has(" }, false],
    [{ cidr, allowedUses: ["LoadBalancer"] }, true],
    [{ cidr, allowedUses: ["LoadBalancer", "Workload"] }, false],
    [{ cidr, allowedUses: ["LoadBalancer"], ipipMode: "Always" }, false],
    [{ cidr, allowedUses: ["LoadBalancer"], disableBGPExport: true }, false],
    [{ cidr, allowedUses: ["LoadBalancer"], nodeSelector: "has(a)" }, false],
    [{ cidr, allowedUses: ["Tunnel"], namespaceSelector: "has(a)" }, false],
    [{ cidr, allowedUses: ["Tunnel", "Tunnel"] }, false],
  ])("%j: %s", (spec, accepted) => {
    expect(wrong("IPPool", spec).length === 0).toBe(accepted);
  });

  test("keep their CIDR and block size", () => {
    const old = { metadata: { name: "x" }, spec: { cidr, blockSize: 26 } };
    expect(wrong("IPPool", { cidr, blockSize: 26, natOutgoing: true }, {}, old)).toEqual([]);
    expect(wrong("IPPool", { cidr: "10.1.0.0/16", blockSize: 26 }, {}, old)).toEqual(["spec.cidr"]);
    expect(wrong("IPPool", { cidr, blockSize: 27 }, {}, old)).toEqual(["spec.blockSize"]);
  });
});

describe("policies", () => {
  const ingress = (rule: object): object => ({ ingress: [{ action: "Allow", ...rule }] });
  const egress = (rule: object): object => ({ egress: [{ action: "Allow", ...rule }] });

  test.each<[string, object, string[]]>([
    ["a selector", { selector: "a = 'b'" }, ["spec.selector"]],
    ["global() of the policy", { selector: "global()" }, ["spec"]],
    ["a tier", { tier: "a.b" }, ["spec.tier"]],
    ["no types", { types: [] }, ["spec.types"]],
    ["a type twice", { types: ["Ingress", "Ingress"] }, ["spec.types[1]"]],
    ["an action", { ingress: [{ action: "Accept" }] }, ["spec.ingress[0].action"]],
    ["no action", { ingress: [{}] }, ["spec.ingress[0].action"]],
    ["a protocol by name", ingress({ protocol: "TCP" }), []],
    ["a protocol by number", ingress({ protocol: 47 }), []],
    ["protocol 0", ingress({ protocol: 0 }), ["spec.ingress[0].protocol"]],
    ["an unknown protocol", ingress({ notProtocol: "QUIC" }), ["spec.ingress[0].notProtocol"]],
    ["icmp without protocol", ingress({ icmp: { type: 8 } }), ["spec.ingress[0]"]],
    ["notICMP without protocol", ingress({ notICMP: { type: 8 } }), ["spec.ingress[0].notICMP"]],
    ["a code without type", ingress({ protocol: "ICMP", icmp: { code: 0 } }), ["spec.ingress[0].icmp"]],
    ["ICMP over IPv6", ingress({ protocol: "ICMP", ipVersion: 6 }), ["spec.ingress[0]"]],
    ["ports", ingress({ protocol: "TCP", destination: { ports: [80, "81:90", "web"] } }), []],
    ["ports without protocol", ingress({ destination: { ports: [80] } }), ["spec.ingress[0].destination.ports"]],
    ["named ports without protocol", ingress({ destination: { ports: ["web"] } }), []],
    ["ports of ICMP", ingress({ protocol: "ICMP", source: { notPorts: [80] } }), ["spec.ingress[0].source.ports"]],
    ["port 0", ingress({ protocol: "TCP", destination: { ports: [0] } }), ["spec.ingress[0].destination.ports[0]"]],
    [
      "a range downwards",
      ingress({ protocol: "TCP", destination: { ports: ["9:8"] } }),
      ["spec.ingress[0].destination.ports[0]"],
    ],
    [
      "a port name",
      ingress({ protocol: "TCP", destination: { ports: ["a b"] } }),
      ["spec.ingress[0].destination.ports[0]"],
    ],
    ["prefixes", ingress({ source: { nets: ["10.0.0.0/8", "10.0.0.1"] } }), []],
    ["host bits", ingress({ source: { nets: ["10.0.0.1/8"] } }), ["spec.ingress[0].source.nets[0]"]],
    [
      "both families",
      ingress({ source: { nets: ["10.0.0.0/8"] }, destination: { notNets: ["fd00::/8"] } }),
      ["spec.ingress[0]"],
    ],
    [
      "a family and prefixes of the other",
      ingress({ ipVersion: 6, source: { nets: ["10.0.0.0/8"] } }),
      ["spec.ingress[0].ipVersion"],
    ],
    ["everything excluded", ingress({ source: { notNets: ["0.0.0.0/0"] } }), ["spec.ingress[0].source.notNets[0]"]],
    ["everything included", ingress({ source: { nets: ["0.0.0.0/0"] } }), []],
    ["global() of namespaces", ingress({ source: { namespaceSelector: " global( ) " } }), []],
    [
      "global() and more",
      ingress({ source: { namespaceSelector: "global() || has(a)" } }),
      ["spec.ingress[0].source.namespaceSelector"],
    ],
    ["global() in a selector", ingress({ source: { selector: "global()" } }), ["spec.ingress[0].source"]],
    [
      "global() in notSelector",
      ingress({ source: { notSelector: "global()" } }),
      ["spec.ingress[0].source.notSelector"],
    ],
    [
      "accounts",
      ingress({ source: { serviceAccounts: { selector: "x" } } }),
      ["spec.ingress[0].source.serviceAccounts.selector"],
    ],
    ["a Service as source of ingress", ingress({ source: { services: { name: "s" } } }), []],
    [
      "a Service as destination of ingress",
      ingress({ destination: { services: { name: "s" } } }),
      ["spec.ingress[0].destination.services"],
    ],
    ["a Service as destination of egress", egress({ destination: { services: { name: "s" } } }), []],
    [
      "a Service as source of egress",
      egress({ source: { services: { name: "s" } } }),
      ["spec.egress[0].source.services"],
    ],
    ["a Service without name", egress({ destination: { services: {} } }), ["spec.egress[0].destination"]],
    [
      "a Service and ports",
      egress({ protocol: "TCP", destination: { services: { name: "s" }, ports: [1] } }),
      ["spec.egress[0]"],
    ],
    [
      "a Service and prefixes",
      egress({ destination: { services: { name: "s" }, nets: ["10.0.0.0/8"] } }),
      ["spec.egress[0].destination"],
    ],
    ["http", ingress({ http: { methods: ["GET"], paths: [{ exact: "/a" }, { prefix: "/b" }] } }), []],
    ["http on egress", egress({ http: { methods: ["GET"] } }), ["spec.egress[0].http"]],
    ["http and Deny", { ingress: [{ action: "Deny", http: {} }] }, ["spec.ingress[0]"]],
    ["http over UDP", ingress({ protocol: "UDP", http: {} }), ["spec.ingress[0]"]],
    ["a method twice", ingress({ http: { methods: ["GET", "GET"] } }), ["spec.ingress[0].http.methods[1]"]],
    [
      "a path both ways",
      ingress({ http: { paths: [{ exact: "/", prefix: "/" }] } }),
      ["spec.ingress[0].http.paths[0]"],
    ],
    ["a path with a query", ingress({ http: { paths: [{ exact: "/a?b" }] } }), ["spec.ingress[0].http.paths[0]"]],
    ["a relative path", ingress({ http: { paths: [{ prefix: "a" }] } }), ["spec.ingress[0].http.paths[0]"]],
    ["notes", ingress({ metadata: { annotations: { "a b": "c" } } }), ["spec.ingress[0].metadata.annotations"]],
    ["more than 1024 rules", { ingress: Array.from({ length: 1025 }, () => ({ action: "Allow" })) }, ["spec.ingress"]],
  ])("NetworkPolicy: %s", (_, spec, paths) => {
    expect(wrong("NetworkPolicy", spec)).toEqual(paths);
  });

  test.each<[string, object, string[]]>([
    [
      "a Service without namespace",
      egress({ destination: { services: { name: "s" } } }),
      ["spec.egress[0].destination.services.namespace"],
    ],
    ["a Service with namespace", egress({ destination: { services: { name: "s", namespace: "n" } } }), []],
    ["preDNAT without applyOnForward", { preDNAT: true }, ["spec"]],
    ["preDNAT", { preDNAT: true, applyOnForward: true, ...ingress({}) }, []],
    ["preDNAT with egress", { preDNAT: true, applyOnForward: true, ...egress({}) }, ["spec"]],
    ["preDNAT with type Egress", { preDNAT: true, applyOnForward: true, types: ["Egress"] }, ["spec"]],
    ["preDNAT and doNotTrack", { preDNAT: true, doNotTrack: true, applyOnForward: true }, ["spec"]],
    ["doNotTrack", { doNotTrack: true, applyOnForward: true }, []],
    ["namespaces", { namespaceSelector: "a ==" }, ["spec.namespaceSelector"]],
  ])("GlobalNetworkPolicy: %s", (_, spec, paths) => {
    expect(wrong("GlobalNetworkPolicy", spec)).toEqual(paths);
  });

  test.each<[KindName, object, string[]]>([
    ["StagedNetworkPolicy", { stagedAction: "Delete", tier: "default" }, []],
    ["StagedNetworkPolicy", { stagedAction: "Delete", order: 7, selector: "", ingress: [] }, ["spec.order"]],
    ["StagedGlobalNetworkPolicy", { stagedAction: "Delete", doNotTrack: false, selector: "all()" }, ["spec.selector"]],
    ["StagedKubernetesNetworkPolicy", { stagedAction: "Delete", podSelector: {} }, []],
    ["StagedKubernetesNetworkPolicy", { stagedAction: "Delete", ingress: [{}] }, ["spec.ingress"]],
    ["StagedKubernetesNetworkPolicy", { policyTypes: ["Ingress", "Ingress"] }, ["spec.policyTypes[1]"]],
  ])("%s %j", (kind, spec, paths) => {
    expect(wrong(kind, spec)).toEqual(paths);
  });

  test.each<[string, object, string[]]>([
    ["default", { order: 1_000_000, defaultAction: "Deny" }, []],
    ["default", { order: 1_000_000 }, []],
    ["default", { order: 7 }, [""]],
    ["default", {}, [""]],
    ["kube-admin", { order: 1000, defaultAction: "Pass" }, []],
    ["kube-admin", { order: 1000 }, [""]],
    ["kube-baseline", { order: 10_000_000, defaultAction: "Pass" }, []],
    ["mine", { defaultAction: "Log" }, ["spec.defaultAction"]],
    ["mine", { order: 1.5 }, []],
  ])("tier %s %j", (name, spec, paths) => {
    expect(wrong("Tier", spec, { name })).toEqual(paths);
  });
});

describe("the other kinds", () => {
  const felix = "FelixConfiguration";

  test.each<[KindName, object, string[]]>([
    [
      "Profile",
      { labelsToApply: { "a b": "c" }, egress: [{ action: "Allow", protocol: 0 }] },
      ["spec.egress[0].protocol", "spec.labelsToApply"],
    ],
    ["NetworkSet", { nets: ["10.0.0.0/8", "fd00::1"] }, []],
    ["NetworkSet", { nets: ["10.0.0.0/33"] }, ["spec.nets[0]"]],
    ["GlobalNetworkSet", { nets: ["x"] }, ["spec.nets[0]"]],
    ["HostEndpoint", { node: "n", interfaceName: "eth0" }, []],
    ["HostEndpoint", { node: "n", interfaceName: "*" }, []],
    ["HostEndpoint", { node: "n", expectedIPs: ["10.0.0.1"] }, []],
    ["HostEndpoint", { node: "n" }, ["spec"]],
    ["HostEndpoint", { interfaceName: "eth0" }, ["spec"]],
    ["HostEndpoint", { node: "n", interfaceName: "e th0" }, ["spec.interfaceName"]],
    ["HostEndpoint", { node: "N", expectedIPs: ["10.0.0.0/8"] }, ["spec.node", "spec.expectedIPs[0]"]],
    [
      "HostEndpoint",
      { node: "n", interfaceName: "*", ports: [{ name: "", port: 1, protocol: "ICMP" }] },
      ["spec.ports[0].name", "spec.ports[0].protocol"],
    ],
    ["IPReservation", { reservedCIDRs: ["10.0.0.0/30", "10.0.0.9/30"] }, ["spec.reservedCIDRs[1]"]],
    ["BlockAffinity", { cidr: "10.0.0.0/26", node: "n", state: "confirmed" }, []],
    ["IPAMConfiguration", { ipCooldownSeconds: 1201 }, ["spec.ipCooldownSeconds"]],
    ["CalicoNodeStatus", { updatePeriodSeconds: 86_401 }, ["spec.updatePeriodSeconds"]],
    ["BGPPeer", { peerIP: "10.0.0.1:1790", asNumber: 4_200_000_000 }, []],
    ["BGPPeer", { peerIP: "fe80::1%eth0" }, []],
    ["BGPPeer", { peerIP: "[fe80::1%eth0.7]:1790" }, []],
    ["BGPPeer", { peerIP: "fd00::1%eth0" }, ["spec.peerIP"]],
    ["BGPPeer", { peerIP: "fe80::1%" }, ["spec.peerIP"]],
    ["BGPPeer", { peerIP: "[fd00::1]:179", reachableBy: "fd00::2" }, []],
    ["BGPPeer", { peerIP: "fd00::1", reachableBy: "10.0.0.1" }, ["spec.reachableBy"]],
    ["BGPPeer", { peerIP: "10.0.0.1:0" }, ["spec.peerIP"]],
    ["BGPPeer", { peerIP: "10.0.0.0/8", ttlSecurity: 256 }, ["spec.peerIP", "spec.ttlSecurity"]],
    ["BGPPeer", { peerIP: "10.0.0.1", peerSelector: "has(a)" }, ["spec"]],
    ["BGPPeer", { node: "a", nodeSelector: "has(a)" }, ["spec"]],
    ["BGPPeer", { localWorkloadSelector: "has(a)" }, ["spec"]],
    ["BGPPeer", { localWorkloadSelector: "has(a", asNumber: 1 }, ["spec.localWorkloadSelector"]],
    ["BGPPeer", { reachableBy: "10.0.0.1" }, ["spec"]],
    ["BGPPeer", { keepOriginalNextHop: true, nextHopMode: "Self" }, ["spec"]],
    [
      "BGPConfiguration",
      {
        communities: [{ name: "a", value: "1:2" }],
        prefixAdvertisements: [{ cidr: "10.0.0.0/8", communities: ["a", "3:4", "1:2:3"] }],
      },
      [],
    ],
    [
      "BGPConfiguration",
      { prefixAdvertisements: [{ cidr: "10.0.0.1/8", communities: ["b"] }] },
      ["spec.prefixAdvertisements[0].cidr", "spec.prefixAdvertisements[0].communities[0]"],
    ],
    [
      "BGPConfiguration",
      { communities: [{ name: "a", value: "65536:1" }], prefixAdvertisements: [{}] },
      ["spec.communities[0].value"],
    ],
    ["BGPConfiguration", { communities: [{ name: "a", value: "1:2" }] }, ["spec"]],
    ["BGPConfiguration", { ignoredInterfaces: ["eth*", "*"] }, ["spec.ignoredInterfaces[1]"]],
    ["BGPConfiguration", { nodeMeshMaxRestartTime: "90s" }, ["spec.nodeMeshMaxRestartTime"]],
    [
      "BGPFilter",
      { importV4: [{ action: "Accept", cidr: "10.0.0.0/8", matchOperator: "In", prefixLength: { min: 8, max: 24 } }] },
      [],
    ],
    [
      "BGPFilter",
      { importV4: [{ action: "Accept", cidr: "fd00::/8", matchOperator: "In" }] },
      ["spec.importV4[0].cidr"],
    ],
    ["BGPFilter", { exportV6: [{ action: "Reject", cidr: "fd00::/8" }] }, ["spec.exportV6[0]"]],
    ["BGPFilter", { exportV4: [{ action: "Reject", prefixLength: { min: 9, max: 8 } }] }, ["spec.exportV4[0]"]],
    [
      "BGPFilter",
      { exportV4: [{ action: "Reject", operations: [{ setPriority: { value: 1 } }] }] },
      ["spec.exportV4[0]"],
    ],
    [
      "BGPFilter",
      { exportV4: [{ action: "Accept", communities: { values: ["65536:1"] } }] },
      ["spec.exportV4[0].communities.values[0]"],
    ],
    ["BGPFilter", { exportV4: [{ action: "Accept", interface: "e th" }] }, ["spec.exportV4[0].interface"]],
    [felix, { vxlanVNI: 4096, logSeverityScreen: "debug", defaultEndpointToHostAction: "ACCEPT" }, []],
    [felix, { logSeverityScreen: "loud" }, ["spec.logSeverityScreen"]],
    [felix, { routeRefreshInterval: "90" }, ["spec.routeRefreshInterval"]],
    [felix, { mtuIfacePattern: "(" }, ["spec.mtuIfacePattern"]],
    [felix, { failsafeInboundHostPorts: [{ port: 22, protocol: "tcp", net: "10.0.0.0/8" }] }, []],
    [
      felix,
      { failsafeInboundHostPorts: [{ port: 70_000, protocol: "ICMP", net: "x" }] },
      ["port", "protocol", "net"].map((key) => `spec.failsafeInboundHostPorts[0].${key}`),
    ],
    [felix, { kubeNodePortRanges: ["30000:32767", 80, "web"] }, ["spec.kubeNodePortRanges[2]"]],
    [felix, { kubeNodePortRanges: [1, 2, 3, 4, 5, 6, 7, 8] }, ["spec.kubeNodePortRanges"]],
    [felix, { externalNodesList: ["10.0.0.1", "fd00::1"] }, ["spec.externalNodesList[1]"]],
    [felix, { openstackRegion: "a".repeat(47) }, ["spec.openstackRegion"]],
    [felix, { routeTableRanges: [{ min: 1, max: 65_536 }] }, ["spec.routeTableRanges"]],
    [felix, { routeTableRanges: [{ min: 2, max: 1 }] }, ["spec.routeTableRanges[0]"]],
    [felix, { routeTableRange: { min: 1, max: 251 } }, ["spec.routeTableRange"]],
    [felix, { routeTableRange: { min: 1, max: 9 }, routeTableRanges: [] }, ["spec"]],
    [felix, { natOutgoingAddress: "fd00::1" }, ["spec"]],
    [felix, { deviceRouteSourceAddressIPv6: "fd00::1" }, []],
    [felix, { interfacePrefix: "cali,tap", interfaceExclude: "kube-ipvs0,/^veth.*/" }, []],
    [felix, { interfacePrefix: "cali,", interfaceExclude: "/(/" }, ["spec.interfacePrefix", "spec.interfaceExclude"]],
    [felix, { healthTimeoutOverrides: [{ name: "x", timeout: "soon" }] }, ["spec.healthTimeoutOverrides[0].timeout"]],
    [felix, { nodeSelector: "has(a)" }, []],
    [felix, { nodeSelector: "has(a" }, ["spec.nodeSelector"]],
    [felix, { ipv4NormalRoutePriority: 0 }, ["spec.ipv4NormalRoutePriority"]],
    ["KubeControllersConfiguration", {}, ["spec.controllers"]],
    [
      "KubeControllersConfiguration",
      { controllers: { node: { leakGracePeriod: "0" } }, etcdV3CompactionPeriod: "x" },
      ["spec.etcdV3CompactionPeriod"],
    ],
    [
      "KubeControllersConfiguration",
      {
        controllers: {
          node: {
            hostEndpoint: {
              createDefaultHostEndpoint: "x",
              templates: [{ interfacePattern: "[", nodeSelector: "x", interfaceCIDRs: ["y"] }],
            },
          },
        },
      },
      [
        "createDefaultHostEndpoint",
        "templates[0].interfaceCIDRs[0]",
        "templates[0].interfacePattern",
        "templates[0].nodeSelector",
      ].map((field) => `spec.controllers.node.hostEndpoint.${field}`),
    ],
    ["ClusterNetworkPolicy", { tier: "Admin", priority: 1001, subject: { namespaces: {} } }, ["spec.priority"]],
    ["ClusterNetworkPolicy", { tier: "Admin", priority: 1, subject: {} }, ["spec.subject"]],
    [
      "ClusterNetworkPolicy",
      {
        tier: "Admin",
        priority: 1,
        subject: { namespaces: {} },
        egress: [{ action: "Deny", to: [{ networks: ["x"] }] }],
      },
      ["spec.egress[0].to[0].networks[0]"],
    ],
  ])("%s %j", (kind, spec, paths) => {
    expect(wrong(kind, spec)).toEqual(paths);
  });

  test("only default and node.<name> may not choose nodes", () => {
    expect(wrong(felix, { nodeSelector: "has(a)" }, { name: "default" })).toEqual([""]);
    expect(wrong(felix, { nodeSelector: "has(a)" }, { name: "node.a" })).toEqual([""]);
  });

  test("mesh settings belong to default", () => {
    expect(wrong("BGPConfiguration", { nodeMeshMaxRestartTime: "90s" }, { name: "default" })).toEqual([]);
    expect(
      wrong("BGPConfiguration", { nodeMeshMaxRestartTime: "90s", nodeToNodeMeshEnabled: false }, { name: "default" }),
    ).toEqual(["spec"]);
  });

  test("network sets may not claim a namespace by label", () => {
    expect(wrong("GlobalNetworkSet", {}, { labels: { "projectcalico.org/namespace": "n" } })).toEqual([
      "metadata.labels[projectcalico.org/namespace]",
    ]);
  });
});

describe("garbage", () => {
  const cyclic: Record<string, unknown> = { metadata: { name: "x" } };
  cyclic["spec"] = cyclic;

  test.each<[string, unknown]>([
    ["a cycle", cyclic],
    ["functions", { metadata: { name: () => "x" }, spec: Symbol("s") }],
    ["bigints", { metadata: { name: "x" }, spec: 7n }],
    ["not numbers", { metadata: { name: "x", generation: Number.NaN }, spec: {} }],
    ["a polluting key", JSON.parse('{"__proto__":{"a":1},"metadata":{"name":"x","__proto__":{"b":2}},"spec":{}}')],
  ])("%s is an answer, not an exception", (_, value) => {
    for (const kind of kindNames) expect(typeof prepare(kind, value).ok).toBe("boolean");
    expect({}).not.toHaveProperty("a");
  });

  test("anything at all", () => {
    const kind = fc.constantFrom(...kindNames);
    fc.assert(
      fc.property(kind, fc.oneof(fc.anything(), fc.jsonValue()), (name, value) => {
        const wrapped = prepare(name, { metadata: { name: "x", namespace: "y" }, spec: value });
        expect([prepare(name, value).ok, wrapped.ok].every((ok) => typeof ok === "boolean")).toBe(true);
      }),
    );
  });

  test.each(kindNames)("random %s objects", (name) => {
    fc.assert(
      fc.property(objectOf(kinds[name].schema), (value) => {
        expect(typeof prepare(name, value).ok).toBe("boolean");
      }),
      { numRuns: 50 },
    );
  });

  test("what was prepared once is accepted as it is", () => {
    for (const kind of kindNames) {
      fc.assert(
        fc.property(objectOf(kinds[kind].schema), (value) => {
          const first = prepare(kind, value);
          const second = first.ok ? prepare(kind, first.resource) : first;
          expect(second).toEqual(first.ok ? { ...first, unknownFields: [] } : first);
        }),
        { numRuns: 20 },
      );
    }
  });
});

describe("the registry", () => {
  test("finds a kind by what an object says it is", () => {
    expect(kindNameOf({ apiVersion: "projectcalico.org/v3", kind: "NetworkPolicy" })).toBe("NetworkPolicy");
    expect(kindNameOf({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" })).toBe("KubernetesNetworkPolicy");
    expect(kindNameOf({ apiVersion: "v1", kind: "Pod" })).toBe("Pod");
    expect(kindNameOf({ apiVersion: "v2", kind: "Pod" })).toBeUndefined();
    expect(isKindName("constructor")).toBe(false);
  });

  test.each(kindNames)("%s is consistent", (name) => {
    const { kind, singular, plural, apiVersion, group, version } = kinds[name];
    expect(singular).toBe(kind.toLowerCase());
    expect(plural).toMatch(/^[a-z]+s$/);
    expect(apiVersion).toBe(group === "" ? version : `${group}/${version}`);
  });
});
