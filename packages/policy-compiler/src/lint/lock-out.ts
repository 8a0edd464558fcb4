/**
 * Does a node with host endpoints still reach what it lives on, and can it still be reached? For every node and every need a
 * packet is put to the oracle; the packet that is denied is the proof.
 *
 * The other side is who serves it, where the world says so (API server, Typha); else anybody who might be meant: the other nodes, one
 * address of every prefix that a policy or a failsafe port names and of every network set, and 192.0.2.1 (RFC 5737) for the rest of
 * the world. A need is met when one of them is let through over one of the node's interfaces, since the linter cannot know who
 * administers; so a lock-out that is reported is one for everybody. What goes in outside of connection tracking must also be let out again.
 */
import type { EndpointSlice } from "@calico-ts/model";
import { formatAddress, prefixAddress, tryParsePrefix } from "@calico-ts/net";
import type { SourcedResource } from "../explain/manifest-world.ts";
import { ofKind } from "../explain/manifest-world.ts";
import { configOf, hostsOf } from "../explain/explain.ts";
import { decisionText } from "../explain/words.ts";
import type { HostFacts } from "../oracle/host-side.ts";
import type { Oracle } from "../oracle/oracle.ts";
import { createOracle } from "../oracle/oracle.ts";
import type { Trace } from "../oracle/trace.ts";
import type { Query } from "../oracle/verdict.ts";
import type { Report } from "./policy-checks.ts";
import { calicoSpec } from "./policy-checks.ts";
import type { Severity } from "./finding.ts";

interface Need {
  readonly what: string;
  readonly direction: "in" | "out";
  readonly protocol: 6 | 17;
  readonly port: number;
  readonly severity: Severity;
  /** Nodes that do not serve it do not need it. */
  readonly servedBy?: "control-plane" | "typha";
  /** Whose endpoints are the other side. */
  readonly service?: ServiceName;
}

interface ServiceName {
  readonly name: string;
  /** Absent: wherever it was installed. */
  readonly namespace?: string;
}

const API_SERVER: ServiceName = { namespace: "default", name: "kubernetes" };
const TYPHA: ServiceName = { name: "calico-typha" };

const NEEDS: readonly Need[] = [
  { what: "SSH to the node", direction: "in", protocol: 6, port: 22, severity: "error" },
  {
    what: "the Kubernetes API server",
    direction: "out",
    protocol: 6,
    port: 6443,
    severity: "error",
    service: API_SERVER,
  },
  { what: "etcd", direction: "out", protocol: 6, port: 2379, severity: "error" },
  { what: "BGP from its peers", direction: "in", protocol: 6, port: 179, severity: "error" },
  { what: "BGP to its peers", direction: "out", protocol: 6, port: 179, severity: "error" },
  { what: "Typha", direction: "out", protocol: 6, port: 5473, severity: "error", service: TYPHA },
  {
    what: "clients of its API server",
    direction: "in",
    protocol: 6,
    port: 6443,
    severity: "error",
    servedBy: "control-plane",
  },
  {
    what: "clients of its etcd",
    direction: "in",
    protocol: 6,
    port: 2379,
    severity: "error",
    servedBy: "control-plane",
  },
  {
    what: "the other etcd members",
    direction: "in",
    protocol: 6,
    port: 2380,
    severity: "error",
    servedBy: "control-plane",
  },
  { what: "clients of its Typha", direction: "in", protocol: 6, port: 5473, severity: "error", servedBy: "typha" },
  { what: "DNS", direction: "out", protocol: 17, port: 53, severity: "warning" },
  {
    what: "the kubelet from the API server (logs, exec, probes of metrics)",
    direction: "in",
    protocol: 6,
    port: 10_250,
    severity: "warning",
  },
];

const OUTSIDE = ["192.0.2.1", "2001:db8::1"];

function peersOf(world: readonly SourcedResource[], hosts: ReturnType<typeof hostsOf>, node: string): string[] {
  const others = Object.entries(hosts).flatMap(([name, { addresses }]) => (name === node ? [] : addresses));
  const rules = world.flatMap((item) => [...(calicoSpec(item)?.ingress ?? []), ...(calicoSpec(item)?.egress ?? [])]);
  const nets = [
    ...rules.flatMap(({ source, destination }) => [...(source?.nets ?? []), ...(destination?.nets ?? [])]),
    // All of a set are selected alike: one of each family speaks for it.
    ...ofKind(world, "GlobalNetworkSet").flatMap(({ resource: { spec } }) =>
      [true, false].flatMap((six) => spec.nets?.find((net) => net.includes(":") === six) ?? []),
    ),
    ...ofKind(world, "FelixConfiguration").flatMap(({ resource: { spec } }) =>
      [...(spec.failsafeInboundHostPorts ?? []), ...(spec.failsafeOutboundHostPorts ?? [])].flatMap(
        ({ net }) => net ?? [],
      ),
    ),
  ];
  const inside = nets.flatMap((text) => {
    const prefix = tryParsePrefix(text, "mask");
    return prefix === undefined ? [] : [formatAddress(prefixAddress(prefix))];
  });
  return [...new Set([...OUTSIDE, ...others, ...inside])];
}

/** `report` of a node's host endpoint, by name. */
export function checkLockOut(world: readonly SourcedResource[], report: (endpoint: SourcedResource) => Report): void {
  const endpoints = ofKind(world, "HostEndpoint");
  if (endpoints.length === 0) return;
  const hosts = hostsOf(world);
  const nodes = new Set(endpoints.flatMap(({ resource }) => resource.spec.node ?? []));
  for (const node of nodes) {
    const address = hosts[node]?.addresses[0];
    const family = address?.includes(":") === true ? 6 : 4;
    const ofFamily = (texts: readonly string[]): string[] =>
      texts.filter((text) => text.includes(":") === (family === 6));
    const anybody = ofFamily(peersOf(world, hosts, node));
    const roles = rolesOf(world, node);
    const oracles = waysOf(endpoints, node, hosts[node]).map((way) =>
      createOracle(world, { config: configOf(world, node), hosts: { ...hosts, [node]: way } }),
    );
    for (const need of needsOf(world)) {
      if (need.servedBy !== undefined && !roles.has(need.servedBy)) continue;
      const servers = need.service === undefined ? [] : ofFamily(addressesOf(world, need.service));
      // One that it is itself is reached without a rule being asked.
      if (servers.some((server) => hosts[node]?.addresses.includes(server) === true)) continue;
      const asked = (servers.length > 0 ? servers : anybody)
        .map((peer) => {
          const ends =
            need.direction === "in"
              ? ([{ address: peer }, { host: node }] as const)
              : ([{ host: node }, { address: peer }] as const);
          const query: Query = {
            from: ends[0],
            to: ends[1],
            protocol: need.protocol,
            sourcePort: 50_000,
            destinationPort: need.port,
            family,
          };
          return oracles.map((oracle) => ({ peer, ...bothWays(oracle, query) }));
        })
        .flat();
      const [first] = asked;
      if (first === undefined || asked.some(({ trace }) => trace.allowed)) continue;
      const { peer, trace, isAnswer } = first;
      const walk = trace.walk.filter(({ reached }) => reached).at(-1);
      const item: SourcedResource | undefined =
        endpoints.find(({ resource }) => `host-endpoint/${resource.metadata.name}` === walk?.endpoint) ?? endpoints[0];
      if (item === undefined) continue;
      const own = `${node}${address === undefined ? "" : ` (${address})`}`;
      const [client, server] = need.direction === "in" ? [peer, own] : [own, peer];
      const ends = [`${client}:50000`, `${server}:${need.port}`];
      const [from, to] = isAnswer ? ends.toReversed() : ends;
      const packet = `${isAnswer ? "the answer " : ""}${need.protocol === 6 ? "TCP" : "UDP"} ${from} → ${to}`;
      report(item)("lock-out", need.severity, "metadata.name", {
        message: `node ${node} loses ${need.what}: ${packet} is denied. ${decisionText(trace.decision, walk)}`,
        fix: `Allow it by a policy that selects the host endpoint, or name the port in ${need.direction === "in" ? "failsafeInboundHostPorts" : "failsafeOutboundHostPorts"} of FelixConfiguration default.`,
      });
    }
  }
}

/** The interfaces of a node that host endpoints tell apart; the oracle knows one at a time. */
function waysOf(
  endpoints: readonly SourcedResource<"HostEndpoint">[],
  node: string,
  usual: HostFacts = UNKNOWN,
): HostFacts[] {
  const own = endpoints.flatMap(({ resource: { spec } }) =>
    spec.node === node && spec.interfaceName !== "*" ? [spec] : [],
  );
  if (own.length < 2) return [usual];
  return own.map(({ interfaceName = "", expectedIPs = [] }) => ({
    uplink: interfaceName === "" ? "(unnamed)" : interfaceName,
    addresses: expectedIPs.length > 0 ? expectedIPs : usual.addresses,
  }));
}

const UNKNOWN: HostFacts = { uplink: "eth0", addresses: [] };

interface Way {
  readonly trace: Trace;
  /** It is about the packet that comes back. */
  readonly isAnswer: boolean;
}

/** Of a packet that untracked policy let through, its answer too: to connection tracking that is nobody's. */
function bothWays(oracle: Oracle, query: Query): Way {
  const there = oracle.trace(query);
  const isTracked = !there.walk.some(({ form, allowed }) => form === "untracked" && allowed);
  if (!there.allowed || isTracked) return { trace: there, isAnswer: false };
  const { from, to, sourcePort, destinationPort, protocol } = query;
  const back = oracle.trace({
    ...query,
    from: to,
    to: from,
    ...(destinationPort === undefined ? {} : { sourcePort: destinationPort }),
    ...(sourcePort === undefined ? {} : { destinationPort: sourcePort }),
    ...(protocol === TCP ? { state: "invalid" } : {}),
  });
  return back.allowed ? { trace: there, isAnswer: false } : { trace: back, isAnswer: true };
}

const TCP = 6;

const CONTROL_PLANE_LABELS = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

function rolesOf(world: readonly SourcedResource[], node: string): Set<Need["servedBy"]> {
  const labels =
    ofKind(world, "Node").find(({ resource }) => resource.metadata.name === node)?.resource.metadata.labels ?? {};
  const hasTypha = ofKind(world, "Pod").some(
    ({ resource: { metadata, spec } }) => spec.nodeName === node && metadata.labels?.["k8s-app"] === "calico-typha",
  );
  return new Set<Need["servedBy"]>([
    ...(CONTROL_PLANE_LABELS.some((label) => label in labels) ? (["control-plane"] as const) : []),
    ...(hasTypha ? (["typha"] as const) : []),
  ]);
}

/** The API server's port as the world knows it. */
function needsOf(world: readonly SourcedResource[]): Need[] {
  const port = slicesOf(world, API_SERVER)[0]?.ports?.[0]?.port;
  return NEEDS.map((need) => (need.port === 6443 && port !== undefined ? { ...need, port } : need));
}

const slicesOf = (world: readonly SourcedResource[], { name, namespace }: ServiceName): EndpointSlice[] =>
  ofKind(world, "EndpointSlice").flatMap(({ resource }) =>
    resource.metadata.labels?.["kubernetes.io/service-name"] === name &&
    (namespace === undefined || resource.metadata.namespace === namespace)
      ? [resource]
      : [],
  );

const addressesOf = (world: readonly SourcedResource[], service: ServiceName): string[] =>
  slicesOf(world, service).flatMap(({ endpoints }) => (endpoints ?? []).flatMap(({ addresses }) => addresses));
