/** Named worlds, each about one thing, and the ways of getting from one to the next. */
import type { CompilerUpdate } from "../index.ts";
import type { World } from "./resources.ts";
import {
  block,
  globalPolicy,
  gone,
  kubernetesPolicy,
  namespace,
  node,
  pod,
  policy,
  pool,
  raw,
  resource,
  worldOf,
} from "./resources.ts";

const web = { ips: ["10.0.0.1"], labels: { app: "web" }, ports: [{ name: "http", containerPort: 8080 }] } as const;
const base = [namespace("shop", { team: "a" }), namespace("bank"), pod("shop/web", web)] as const;
const client = pod("shop/client", { ips: ["10.0.1.1", "fd00::1:1"], node: "n2", labels: { app: "client" } });
const fromClient = { source: { selector: "app == 'client'" } };

export const STATES: Readonly<Record<string, World>> = {
  empty: worldOf(),
  "one pod": worldOf(...base),
  "one pod, relabelled": worldOf(...base.slice(0, 2), pod("shop/web", { ...web, labels: { app: "db" } })),
  "one pod, moved to another address": worldOf(...base.slice(0, 2), pod("shop/web", { ...web, ips: ["10.0.0.2"] })),
  "a pod without a namespace": worldOf(pod("shop/web", web)),
  "kubernetes policy": worldOf(
    ...base,
    client,
    kubernetesPolicy("shop/allow", {
      podSelector: { matchLabels: { app: "web" } },
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        {
          from: [
            { podSelector: { matchLabels: { app: "client" } } },
            { namespaceSelector: { matchLabels: { team: "a" } } },
          ],
          ports: [{ port: "http" }, { protocol: "UDP", port: 53, endPort: 60 }],
        },
        { from: [{ ipBlock: { cidr: "1.0.0.0/8", except: ["1.2.0.0/16", "1.2.3.0/24", "1.9.0.0/16"] } }] },
      ],
    }),
  ),
  "tiers out of order": worldOf(
    ...base,
    client,
    resource("Tier", "b", { spec: { order: 10 } }),
    resource("Tier", "a", { spec: { order: 10, defaultAction: "Pass" } }),
    policy("shop/p1", { tier: "b", order: 5, selector: "app == 'web'", ingress: [{ action: "Pass", ...fromClient }] }),
    policy("shop/p2", { tier: "a", selector: "all()", types: ["Ingress"], ingress: [{ action: "Log" }] }),
    policy("shop/p3", { tier: "missing", selector: "all()", types: ["Ingress"] }),
    globalPolicy("g", { order: 1, selector: "has(app)", egress: [{ action: "Deny" }], types: ["Egress"] }),
  ),
  "tier a is gone": worldOf(
    ...base,
    client,
    resource("Tier", "b", { spec: { order: 10 } }),
    policy("shop/p1", { tier: "b", order: 5, selector: "app == 'web'", ingress: [{ action: "Pass", ...fromClient }] }),
    policy("shop/p2", { tier: "a", selector: "all()", types: ["Ingress"], ingress: [{ action: "Log" }] }),
  ),
  "two pods, one address": worldOf(
    ...base,
    pod("shop/other", { ips: ["10.0.0.1"], node: "n2", labels: { app: "client" } }),
    client,
    policy("shop/p", { selector: "all()", ingress: [{ action: "Allow", source: { selector: "has(app)" } }] }),
  ),
  "one of them gone": worldOf(
    ...base,
    client,
    policy("shop/p", { selector: "all()", ingress: [{ action: "Allow", source: { selector: "has(app)" } }] }),
  ),
  "network sets that overlap": worldOf(
    ...base,
    client,
    resource("GlobalNetworkSet", "wide", {
      metadata: { labels: { app: "x" } },
      spec: { nets: ["10.0.0.0/16", "2.0.0.0/8"] },
    }),
    resource(
      "NetworkSet",
      "narrow",
      { metadata: { labels: { app: "y" } }, spec: { nets: ["10.0.1.0/24", "10.0.1.1/32"] } },
      "shop",
    ),
    globalPolicy("p", { selector: "all()", ingress: [{ action: "Allow", source: { selector: "has(app)" } }] }),
    policy("shop/own", {
      selector: "all()",
      types: ["Ingress"],
      ingress: [{ action: "Deny", source: { notSelector: "app == 'y'" } }],
    }),
  ),
  "the wide set gone": worldOf(
    ...base,
    client,
    resource(
      "NetworkSet",
      "narrow",
      { metadata: { labels: { app: "y" } }, spec: { nets: ["10.0.1.0/24", "10.0.1.1/32"] } },
      "shop",
    ),
    globalPolicy("p", { selector: "all()", ingress: [{ action: "Allow", source: { selector: "has(app)" } }] }),
  ),
  "services and inherited labels": worldOf(
    ...base,
    client,
    resource("ServiceAccount", "default", { metadata: { labels: { trust: "high" } } }, "shop"),
    resource(
      "EndpointSlice",
      "dns-1",
      {
        metadata: { labels: { "kubernetes.io/service-name": "dns" } },
        addressType: "IPv4",
        endpoints: [{ addresses: ["10.9.0.1", "10.9.0.2"] }],
        ports: [{ port: 53, protocol: "UDP" }],
      },
      "bank",
    ),
    globalPolicy("svc", {
      selector: "all()",
      namespaceSelector: "team == 'a'",
      serviceAccountSelector: "trust == 'high'",
      types: ["Ingress", "Egress"],
      ingress: [{ action: "Allow", source: { services: { name: "dns", namespace: "bank" } } }],
      egress: [{ action: "Allow", destination: { services: { name: "dns", namespace: "bank" } } }],
    }),
  ),
  "namespace relabelled": worldOf(
    namespace("shop", { team: "b" }),
    namespace("bank"),
    pod("shop/web", web),
    client,
    resource("ServiceAccount", "default", { metadata: { labels: { trust: "high" } } }, "shop"),
    globalPolicy("svc", {
      selector: "all()",
      namespaceSelector: "team == 'a'",
      types: ["Egress"],
      egress: [{ action: "Allow", destination: { services: { name: "dns", namespace: "bank" } } }],
    }),
  ),
  "host endpoints": worldOf(
    ...base,
    resource("HostEndpoint", "n1-eth0", {
      metadata: { labels: { host: "yes" } },
      spec: {
        node: "n1",
        interfaceName: "eth0",
        expectedIPs: ["192.168.0.1"],
        profiles: ["projectcalico-default-allow"],
      },
    }),
    resource("HostEndpoint", "n2-all", {
      metadata: { labels: { host: "yes" } },
      spec: { node: "n2", interfaceName: "*", expectedIPs: ["192.168.0.2"] },
    }),
    globalPolicy("forward", {
      selector: "has(host)",
      applyOnForward: true,
      ingress: [{ action: "Allow", source: { selector: "has(host)" } }],
    }),
    globalPolicy("dnat", { selector: "has(host)", applyOnForward: true, preDNAT: true, ingress: [{ action: "Deny" }] }),
    globalPolicy("raw", {
      selector: "has(host)",
      applyOnForward: true,
      doNotTrack: true,
      egress: [{ action: "Allow" }],
    }),
  ),
  routes: worldOf(
    node("n1", { ipv4: "192.168.0.1/24", vxlan: "10.0.0.60", labels: { zone: "1" } }),
    node("n2", { ipv4: "192.168.0.2/24", vxlan: "10.0.1.60" }),
    node("n3", { ipv4: "192.168.9.3/24", ipv6: "fd01::3/64" }),
    pool("p", { cidr: "10.0.0.0/16", vxlanMode: "CrossSubnet", natOutgoing: true }),
    pool("inner", { cidr: "10.0.9.0/24", ipipMode: "Always" }),
    block("10.0.0.0/26", { node: "n1", held: { 3: "n1", 4: "n2" } }),
    block("10.0.1.0/26", { node: "n2", held: { 3: "n2", 4: "n1" } }),
    block("10.0.9.0/26", { node: "n3" }),
    resource("FelixConfiguration", "default", { spec: { vxlanPort: 4790, natPortRange: "100:200" } }),
    resource("FelixConfiguration", "zone1", { spec: { nodeSelector: "zone == '1'", vxlanPort: 4791 } }),
  ),
  "routes, this node in another subnet": worldOf(
    node("n1", { ipv4: "192.168.9.1/24", vxlan: "10.0.0.61" }),
    node("n2", { ipv4: "192.168.0.2/24", vxlan: "10.0.1.60" }),
    node("n3", { ipv4: "192.168.9.3/24" }),
    pool("p", { cidr: "10.0.0.0/16", vxlanMode: "CrossSubnet" }),
    block("10.0.0.0/26", { node: "n2", held: { 3: "n1" } }),
    block("10.0.9.0/26", { node: "n3" }),
    resource("FelixConfiguration", "node.n1", { spec: { vxlanPort: 4792 } }),
  ),
  "services that are announced": worldOf(
    ...base,
    resource("BGPConfiguration", "default", {
      spec: {
        serviceClusterIPs: [{ cidr: "10.96.0.0/12" }, { cidr: "fd00:96::/112" }],
        serviceExternalIPs: [{ cidr: "10.100.0.0/24" }, {}],
        serviceLoadBalancerIPs: [{ cidr: "198.51.100.0/24" }],
      },
    }),
    resource("BGPConfiguration", "node.n1", { spec: { serviceLoadBalancerIPs: [{ cidr: "203.0.113.0/24" }] } }),
  ),
  "fewer services are announced, and refused": worldOf(
    ...base,
    resource("BGPConfiguration", "default", { spec: { serviceLoadBalancerIPs: [{ cidr: "198.51.100.0/24" }] } }),
    resource("FelixConfiguration", "default", { spec: { serviceLoopPrevention: "Reject" } }),
  ),
  "limits, DSCP and floating addresses": worldOf(
    ...base.slice(0, 2),
    pod("shop/web", {
      ...web,
      ips: ["10.0.0.1", "fd00::1"],
      annotations: {
        "qos.projectcalico.org/ingressPacketRate": "100",
        "qos.projectcalico.org/egressPacketRate": "200",
        "qos.projectcalico.org/egressPacketBurst": "50",
        "qos.projectcalico.org/ingressMaxConnections": "3",
        "qos.projectcalico.org/dscp": "EF",
        "cni.projectcalico.org/floatingIPs": '["192.0.2.9","2001:DB8::9","192.0.2.10"]',
      },
    }),
    pod("bank/vault", {
      ips: ["10.0.0.2"],
      annotations: {
        "qos.projectcalico.org/egressMaxConnections": "7",
        "qos.projectcalico.org/dscp": "8",
        "cni.projectcalico.org/floatingIPs": '["192.0.2.9","192.0.2.11"]',
      },
    }),
    pool("p", { cidr: "10.0.0.0/16" }),
    pool("outside", { cidr: "198.51.100.0/24", allowedUses: ["LoadBalancer"], assignmentMode: "Automatic" }),
    resource("HostEndpoint", "n1-eth0", {
      metadata: { annotations: { "qos.projectcalico.org/dscp": "46" } },
      spec: { node: "n1", interfaceName: "eth0", expectedIPs: ["192.168.0.1"], profiles: [] },
    }),
    resource("FelixConfiguration", "default", { spec: { floatingIPs: "Enabled" } }),
  ),
  "other limits, and floating addresses switched off": worldOf(
    ...base.slice(0, 2),
    pod("shop/web", {
      ...web,
      annotations: {
        "qos.projectcalico.org/ingressPacketRate": "100",
        "qos.projectcalico.org/ingressMaxConnections": "4",
        "qos.projectcalico.org/dscp": "10",
        "cni.projectcalico.org/floatingIPs": '["192.0.2.9"]',
      },
    }),
  ),
  "pods that are BGP peers": worldOf(
    ...base,
    node("n1", { ipv4: "192.168.0.1/24", labels: { rack: "1" } }),
    pod("shop/other", { ips: ["10.0.0.2"], labels: { app: "other" } }),
    pod("shop/away", { ips: ["10.0.1.2"], node: "n2", labels: { app: "web" } }),
    resource("BGPConfiguration", "default", {
      spec: { localWorkloadPeeringIPV4: "169.254.0.179", localWorkloadPeeringIPV6: "fd12:3456:789a::1" },
    }),
    resource("BGPPeer", "b", { spec: { localWorkloadSelector: "app == 'web'", asNumber: 65401 } }),
    resource("BGPPeer", "a", {
      spec: { localWorkloadSelector: "pcns.team == 'a' && app == 'web'", nodeSelector: "rack == '1'", asNumber: 65401 },
    }),
    resource("BGPPeer", "other-node", { spec: { localWorkloadSelector: "all()", node: "n2", asNumber: 65401 } }),
  ),
  "other pods are BGP peers": worldOf(
    ...base.slice(1),
    namespace("shop", { team: "b" }),
    node("n1", { ipv4: "192.168.0.1/24", labels: { rack: "2" } }),
    pod("shop/other", { ips: ["10.0.0.2"], labels: { app: "other" } }),
    resource("BGPConfiguration", "default", { spec: { localWorkloadPeeringIPV4: "169.254.0.180" } }),
    resource("BGPPeer", "a", {
      spec: { localWorkloadSelector: "pcns.team == 'a' && app == 'web'", nodeSelector: "rack == '1'", asNumber: 65401 },
    }),
    resource("BGPPeer", "other", { spec: { localWorkloadSelector: "app == 'other'", node: "n1", asNumber: 65401 } }),
  ),
  "tiers of staged policies, told": worldOf(
    ...base,
    client,
    resource("FelixConfiguration", "default", { spec: { flowLogsLocalReporter: "Enabled" } }),
    resource("Tier", "staged", { spec: { order: 1 } }),
    resource("Tier", "mixed", { spec: { order: 2 } }),
    resource("StagedGlobalNetworkPolicy", "staged.a", {
      spec: { tier: "staged", selector: "all()", types: ["Ingress", "Egress"], ingress: [{ action: "Deny" }] },
    }),
    resource("StagedGlobalNetworkPolicy", "mixed.a", {
      spec: { tier: "mixed", selector: "all()", types: ["Ingress", "Egress"] },
    }),
    globalPolicy("mixed.b", {
      tier: "mixed",
      selector: "app == 'web'",
      types: ["Ingress"],
      ingress: [{ action: "Pass" }],
    }),
    resource("HostEndpoint", "n1-eth0", { spec: { node: "n1", interfaceName: "eth0" } }),
    resource("StagedGlobalNetworkPolicy", "forwarded", {
      spec: { selector: "all()", applyOnForward: true, types: ["Egress"] },
    }),
  ),
  "the same, and nobody listens": worldOf(
    ...base,
    resource("Tier", "staged", { spec: { order: 1 } }),
    resource("StagedGlobalNetworkPolicy", "staged.a", {
      spec: { tier: "staged", selector: "all()", types: ["Ingress"] },
    }),
  ),
  "invalid resources": worldOf(
    ...base,
    client,
    raw("NetworkPolicy", "bad-selector", { spec: { selector: "app ==", types: ["Ingress"] } }, "shop"),
    raw("GlobalNetworkPolicy", "bad-rules", {
      spec: {
        selector: "app == 'web'",
        ingress: [
          { action: "Allow", source: { nets: ["10.0.0.0/99"] } },
          { action: "Deny", protocol: "nonsense" },
          { action: "Allow" },
        ],
      },
    }),
    raw("IPPool", "bad", { spec: { cidr: "not a prefix" } }),
    raw("Pod", "half", { spec: {} }, "shop"),
    raw("BGPPeer", "bad", { spec: { localWorkloadSelector: "app ==" } }),
    raw("BGPConfiguration", "default", { spec: { localWorkloadPeeringIPV4: "fd00::1" } }),
  ),
};

/** Updates that turn one world into another. */
export function steps(from: World, to: World): CompilerUpdate[] {
  const removed = Object.entries(from).flatMap(([id, update]) => (id in to ? [] : [gone(update)]));
  const set = Object.entries(to).flatMap(([id, update]) => (from[id] === update ? [] : [update]));
  return [...set, ...removed];
}

export type Expansion = (worlds: readonly World[]) => readonly World[];

/** Ways to the last world. What is there at the end must not depend on the way. */
export const EXPANSIONS: Readonly<Record<string, Expansion>> = {
  "as written": (worlds) => worlds,
  "through empty": (worlds) => worlds.flatMap((world) => [world, {}]).slice(0, -1),
  "straight to the last": (worlds) => worlds.slice(-1),
  "there and back": (worlds) => [...worlds, ...worlds.toReversed(), ...worlds],
};

/** What happens to the updates of one step. */
export const DELIVERIES: Readonly<Record<string, (updates: readonly CompilerUpdate[]) => readonly CompilerUpdate[]>> = {
  "in order": (updates) => updates,
  reversed: (updates) => updates.toReversed(),
  duplicated: (updates) => updates.flatMap((update) => [update, update]),
  "with spurious deletes": (updates) => updates.flatMap((update) => [gone(update), gone(update), update]),
  "set, deleted and set": (updates) => updates.flatMap((update) => [update, gone(update), update]),
};
