/** Random worlds and packets (fast-check). Small alphabets, so that things meet: few labels, addresses and ports. */
import fc from "fast-check";
import type { CompilerUpdate } from "../index.ts";
import { namespace, pod, raw, resource } from "./resources.ts";

const NAMESPACES = ["a", "b"] as const;
const NODES = ["n1", "n2"] as const;
const V4 = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2"] as const;
const V6 = ["fd00::1", "fd00::2", "fd00::1:1"] as const;
const OUTSIDE = ["1.2.3.4", "10.0.0.200", "9.9.9.9", "fd00::99", "2001:db8::1"] as const;
const NETS4 = ["10.0.0.0/24", "10.0.0.0/31", "10.0.1.1/32", "0.0.0.0/0", "1.2.0.0/16", "9.0.0.0/8"] as const;
const NETS6 = ["fd00::/64", "fd00::1/128", "2001:db8::/32"] as const;
const PORTS = [53, 79, 80, 81, 8080, 65_535] as const;
const PORT_NAMES = ["http", "dns"] as const;
const TIERS = ["default", "default", "first", "first", "passing", "nowhere", "unordered"] as const;

const pick = <T>(list: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...list);
const some = <T>(item: fc.Arbitrary<T>, max = 2): fc.Arbitrary<T[]> => fc.array(item, { maxLength: max });
/** Present now and then. */
const maybe = <T extends object>(item: fc.Arbitrary<T>, weight = 1): fc.Arbitrary<T | Record<string, never>> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant({}) }, { weight, arbitrary: item });

const labels = fc.record({ app: pick(["web", "db", "x"]), env: pick(["dev", "prod"]) }, { requiredKeys: ["app"] });
const term = pick([
  "app == 'web'",
  "app != 'web'",
  "has(env)",
  "!has(env)",
  "app in {'web', 'db'}",
  "app not in {'db'}",
  "env contains 'ro'",
  "app starts with 'w'",
  "app ends with 'b'",
  "all()",
  "pcns.team == 'red'",
  "projectcalico.org/namespace == 'b'",
]);
const selector = fc.oneof(
  { weight: 3, arbitrary: term },
  { weight: 3, arbitrary: pick(["has(app)", "app in {'web', 'db', 'x'}"]) },
  { weight: 1, arbitrary: fc.tuple(term, term).map(([a, b]) => `${a} && ${b}`) },
  { weight: 1, arbitrary: fc.tuple(term, term).map(([a, b]) => `!(${a} || ${b})`) },
);
const namespaceSelector = pick([
  "team == 'red'",
  "has(team)",
  "all()",
  "global()",
  "!has(team)",
  "projectcalico.org/name == 'a'",
]);
const accountSelector = pick(["trust == 'high'", "all()", "!has(trust)"]);

const nets = fc.oneof(fc.subarray([...NETS4], { minLength: 1 }), fc.subarray([...NETS6], { minLength: 1 }));
const port = fc.oneof(
  pick(PORTS).map((number): number | string => number),
  pick(["79:80", "80:81", "1:65535", "8000:9000"]).map((range): number | string => range),
);
const portOrName = fc.oneof(
  port,
  pick(PORT_NAMES).map((name): number | string => name),
);

/** By label and prefix; `services` stand alone and are added by side. */
const entity = fc
  .tuple(
    maybe(
      selector.map((text) => ({ selector: text })),
      2,
    ),
    maybe(term.map((text) => ({ notSelector: text }))),
    maybe(namespaceSelector.map((text) => ({ namespaceSelector: text }))),
    maybe(
      fc
        .record({ names: fc.subarray(["default", "robot"]), selector: accountSelector }, { requiredKeys: [] })
        .map((serviceAccounts) => ({ serviceAccounts })),
    ),
  )
  .map((parts): Record<string, unknown> => Object.assign({}, ...parts));

/** One family in the whole rule, as the API demands. */
const sides = fc
  .tuple(
    entity,
    entity,
    maybe(nets.map((list) => ({ list }))),
    maybe(nets.map((list) => ({ list }))),
    pick([0, 1, 2, 3]),
  )
  .map(([source, destination, positive, negated, where]) => {
    const side = where % 2 === 0 ? source : destination;
    if ("list" in positive) side["nets"] = positive.list;
    const family = (list: readonly string[]): boolean => list.some((net) => net.includes(":"));
    const mixed = "list" in positive && "list" in negated && family(positive.list) !== family(negated.list);
    if ("list" in negated && !mixed) {
      (where < 2 ? source : destination)["notNets"] = negated.list.filter((net) => net !== "0.0.0.0/0");
    }
    return { source, destination };
  });

const transport = fc
  .tuple(pick(["TCP", "UDP", "SCTP", 6]), some(portOrName, 4), some(portOrName, 1), some(port, 1))
  .map(([protocol, ports, notPorts, sourcePorts]) => ({ protocol, ports, notPorts, sourcePorts }));

const protocolPart = fc.oneof(
  { weight: 3, arbitrary: fc.constant({}) },
  { weight: 4, arbitrary: transport },
  { weight: 1, arbitrary: pick(["http", "dns"]).map((name) => ({ ports: [name] })) },
  {
    weight: 3,
    arbitrary: pick<object>([
      { protocol: "ICMP", ipVersion: 4 },
      { protocol: "ICMP", icmp: { type: 8 } },
      { protocol: "ICMP", icmp: { type: 8, code: 0 } },
      { protocol: "ICMP", notICMP: { type: 8, code: 1 } },
      { protocol: "ICMPv6", icmp: { type: 128 } },
      { notProtocol: "TCP" },
      { notProtocol: 17 },
      // Nobody can read these.
      { protocol: "nonsense" },
      { icmp: { code: 1 } },
      { ipVersion: 6 },
      { protocol: 132 },
    ]),
  },
);

interface Parts {
  readonly protocol?: number | string;
  readonly ports?: readonly (number | string)[];
  readonly notPorts?: readonly (number | string)[];
  readonly sourcePorts?: readonly (number | string)[];
}

const rule = (direction: "ingress" | "egress"): fc.Arbitrary<object> =>
  fc
    .tuple(pick(["Allow", "Allow", "Deny", "Pass", "Pass", "Log"]), sides, protocolPart, fc.boolean(), pick(NAMESPACES))
    .map(([action, { source, destination }, part, service, where]) => {
      const { ports = [], notPorts = [], sourcePorts = [], ...rest }: Parts = part;
      const services = { services: { name: "dns", namespace: where } };
      const useService = service && ports.length === 0 && notPorts.length === 0 && Object.keys(part).length === 0;
      const to = useService && direction === "egress" ? services : destination;
      const from = useService && direction === "ingress" ? services : source;
      return {
        action,
        ...rest,
        source: { ...from, ...(sourcePorts.length > 0 ? { ports: sourcePorts } : {}) },
        destination: { ...to, ...(ports.length > 0 ? { ports } : {}), ...(notPorts.length > 0 ? { notPorts } : {}) },
      };
    });

const policySpec = fc
  .tuple(
    fc.record({ selector, tier: pick(TIERS), order: pick([1, 2, 2]) }, { requiredKeys: ["selector"] }),
    some(rule("ingress"), 3),
    some(rule("egress"), 3),
    maybe(pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]).map((types) => ({ types }))),
    maybe(accountSelector.map((text) => ({ serviceAccountSelector: text }))),
  )
  .map(([common, ingress, egress, types, account]) => ({ ...common, ...types, ...account, ingress, egress }));

const labelSelector = fc.oneof(
  fc.constant({}),
  fc.constant({ matchLabels: { app: "web" } }),
  pick(["In", "NotIn"]).map((operator) => ({ matchExpressions: [{ key: "app", operator, values: ["web", "db"] }] })),
  pick(["Exists", "DoesNotExist"]).map((operator) => ({ matchExpressions: [{ key: "env", operator }] })),
);
const teamSelector = pick([
  {},
  { matchLabels: { team: "red" } },
  { matchExpressions: [{ key: "team", operator: "DoesNotExist" }] },
]);
const peer = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record(
      { podSelector: labelSelector, namespaceSelector: teamSelector },
      { requiredKeys: ["podSelector"] },
    ),
  },
  { weight: 1, arbitrary: teamSelector.map((namespaceSelector) => ({ namespaceSelector })) },
  {
    weight: 1,
    arbitrary: pick([
      { ipBlock: { cidr: "10.0.0.0/24", except: ["10.0.0.2/32"] } },
      { ipBlock: { cidr: "0.0.0.0/0", except: ["10.0.0.0/8", "10.0.0.0/24"] } },
      { ipBlock: { cidr: "fd00::/64" } },
    ]),
  },
);
const kubernetesPort = fc.oneof(
  fc.record(
    { port: pick<number | string>([...PORTS, ...PORT_NAMES]), protocol: pick(["TCP", "UDP", "SCTP"]) },
    { requiredKeys: [] },
  ),
  fc.constant({ port: 79, endPort: 81 }),
);
const kubernetesSpec = fc
  .tuple(
    labelSelector,
    some(fc.tuple(some(peer), some(kubernetesPort))),
    some(fc.tuple(some(peer), some(kubernetesPort))),
    pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
  )
  .map(([podSelector, ingress, egress, policyTypes]) => ({
    podSelector,
    policyTypes,
    ingress: ingress.map(([from, ports]) => ({ from, ports })),
    egress: egress.map(([to, ports]) => ({ to, ports })),
  }));

const clusterPeer = fc.oneof(
  teamSelector.map((namespaces): object => ({ namespaces })),
  fc
    .tuple(teamSelector, labelSelector)
    .map(([namespaceSelector, podSelector]): object => ({ pods: { namespaceSelector, podSelector } })),
);
const clusterProtocol = fc.oneof(
  pick(["tcp", "udp"]).chain((name) =>
    pick(PORTS).map((number): object => ({ [name]: { destinationPort: { number } } })),
  ),
  fc.constant<object>({ tcp: { destinationPort: { range: { start: 79, end: 81 } } } }),
  pick(PORT_NAMES).map((destinationNamedPort): object => ({ destinationNamedPort })),
);
const clusterRule = (side: "from" | "to"): fc.Arbitrary<object> =>
  fc
    .tuple(
      pick(["Accept", "Deny", "Pass"]),
      fc.array(
        side === "to"
          ? fc.oneof(clusterPeer, fc.constant<object>({ networks: ["10.0.0.0/24", "fd00::/64"] }))
          : clusterPeer,
        { minLength: 1, maxLength: 2 },
      ),
      some(clusterProtocol),
    )
    .map(([action, peers, protocols]) => ({ action, [side]: peers, ...(protocols.length > 0 ? { protocols } : {}) }));
const clusterSpec = fc
  .tuple(pick(["Admin", "Baseline"]), pick([1, 2]), clusterPeer, some(clusterRule("from")), some(clusterRule("to")))
  .map(([tier, priority, subject, ingress, egress]) => ({ tier, priority, subject, ingress, egress }));

const podOptions = fc.record({
  v4: pick(V4),
  v6: fc.option(pick(V6), { nil: undefined }),
  node: pick(NODES),
  namespace: pick(NAMESPACES),
  labels,
  serviceAccount: pick(["default", "robot"]),
  ports: fc.subarray([
    { name: "http", containerPort: 80 },
    { name: "http", containerPort: 8080, protocol: "UDP" },
    { name: "dns", containerPort: 53, protocol: "UDP" },
    { name: "dns", containerPort: 53, protocol: "SCTP" },
  ]),
});

const networkSet = fc.record({
  nets: fc.subarray([...NETS4.filter((net) => net !== "0.0.0.0/0"), ...NETS6]),
  labels,
  scope: pick(["a", "b", ""]),
});

/** Namespaces `a` and `b`, two nodes, up to five pods `<ns>/p<i>`. */
export const randomWorld: fc.Arbitrary<CompilerUpdate[]> = fc
  .record({
    pods: fc.array(podOptions, { minLength: 2, maxLength: 5 }),
    teams: fc.tuple(pick(["red", "blue", ""]), pick(["red", ""])),
    accounts: fc.subarray(["a/default", "a/robot", "b/default", "b/robot"]),
    sets: some(networkSet, 2),
    policies: some(fc.tuple(pick(NAMESPACES), policySpec), 5),
    globals: some(
      fc.tuple(
        policySpec,
        maybe(namespaceSelector.filter((text) => text !== "global()").map((text) => ({ namespaceSelector: text }))),
      ),
      3,
    ),
    kubernetes: some(fc.tuple(pick(NAMESPACES), kubernetesSpec), 2),
    cluster: some(clusterSpec, 1),
    backends: fc.subarray([...V4.slice(0, 3), "9.9.9.9"]),
    tiers: fc.subarray(["first", "passing", "unordered"] as const),
    complete: fc.boolean(),
    missing: pick(NAMESPACES),
  })
  .map((world) => [
    // A pod may be known before its namespace is.
    ...NAMESPACES.filter((name) => world.complete || name !== world.missing).map((name, at) =>
      namespace(name, world.teams[at] === "" ? {} : { team: world.teams[at] ?? "" }),
    ),
    ...world.accounts.map((path, at) => {
      const [ns = "", name = ""] = path.split("/");
      return resource("ServiceAccount", name, { metadata: { labels: at % 2 === 0 ? { trust: "high" } : {} } }, ns);
    }),
    ...world.pods.map((options, at) =>
      pod(`${options.namespace}/p${at}`, {
        ...options,
        ips: [options.v4, ...(options.v6 === undefined ? [] : [options.v6])],
      }),
    ),
    ...world.sets.map(({ nets: list, labels: own, scope }, at) => {
      const body = { metadata: { labels: own }, spec: { nets: list } };
      return scope === ""
        ? resource("GlobalNetworkSet", `s${at}`, body)
        : resource("NetworkSet", `s${at}`, body, scope);
    }),
    resource("Tier", "default", { spec: { order: 1_000_000, defaultAction: "Deny" } }),
    resource("Tier", "kube-admin", { spec: { order: 1000, defaultAction: "Pass" } }),
    resource("Tier", "kube-baseline", { spec: { order: 10_000_000, defaultAction: "Pass" } }),
    ...world.tiers.map((name) =>
      resource("Tier", name, {
        spec: { ...(name === "unordered" ? {} : { order: 5 }), defaultAction: name === "passing" ? "Pass" : "Deny" },
      }),
    ),
    // Not through `prepare`: random rules break cross-field rules now and then, and must be handled all the same.
    ...world.policies.map(([ns, spec], at) => raw("NetworkPolicy", `p${at}`, { spec }, ns)),
    ...world.globals.map(([spec, scope], at) => raw("GlobalNetworkPolicy", `p${at}`, { spec: { ...spec, ...scope } })),
    ...world.kubernetes.map(([ns, spec], at) => raw("KubernetesNetworkPolicy", `p${at}`, { spec }, ns)),
    ...world.cluster.map((spec, at) => raw("ClusterNetworkPolicy", `p${at}`, { spec })),
    ...NAMESPACES.map((ns) =>
      resource(
        "EndpointSlice",
        "dns-1",
        {
          metadata: { labels: { "kubernetes.io/service-name": "dns" } },
          addressType: "IPv4",
          endpoints: [{ addresses: ns === "a" ? world.backends : world.backends.slice(1) }],
          ports: [
            { port: 53, protocol: "UDP" },
            { port: 80, protocol: "TCP" },
          ],
        },
        ns,
      ),
    ),
  ]);

const hostEndpoint = fc.record({
  spec: pick([
    { interfaceName: "eth0" },
    { expectedIPs: ["192.0.2.1"] },
    { interfaceName: "*" },
    { interfaceName: "eth9" },
  ]),
  labels,
  profiles: pick([[], ["projectcalico-default-allow"], ["missing"]]),
});

const hostPolicy = fc
  .tuple(
    policySpec,
    pick([
      {},
      { applyOnForward: true },
      { applyOnForward: true, preDNAT: true },
      { applyOnForward: true, preDNAT: true },
      { applyOnForward: true, doNotTrack: true },
      { applyOnForward: true, doNotTrack: true },
    ]),
  )
  // A preDNAT policy has no egress.
  .map(([spec, flags]) =>
    "preDNAT" in flags ? { ...spec, ...flags, types: ["Ingress"], egress: [] } : { ...spec, ...flags },
  );

/** A random world with host endpoints on `n1` and policies of all forms. */
export const randomHostWorld: fc.Arbitrary<CompilerUpdate[]> = fc
  .tuple(
    randomWorld,
    fc.array(hostEndpoint, { minLength: 1, maxLength: 3 }),
    fc.array(hostPolicy, { minLength: 1, maxLength: 4 }),
  )
  .map(([world, endpoints, policies]) => [
    ...world,
    ...endpoints.map(({ spec, labels: own, profiles }, at) =>
      resource("HostEndpoint", `h${at}`, { metadata: { labels: own }, spec: { ...spec, node: "n1", profiles } }),
    ),
    ...policies.map((spec, at) => raw("GlobalNetworkPolicy", `host${at}`, { spec })),
  ]);

export interface RandomPacket {
  /** Index among the pods, or an address outside. */
  readonly from: number | string;
  readonly to: number | string;
  readonly family: 4 | 6;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmp: { readonly type: number; readonly code: number };
  /** What somebody else marked the packet with; the second is the bit we use. */
  readonly mark: 0 | 0x20000;
}

const party = fc.oneof(
  { weight: 4, arbitrary: fc.nat(4).map((index): number | string => index) },
  { weight: 1, arbitrary: pick(OUTSIDE).map((address): number | string => address) },
);

export const randomPackets: fc.Arbitrary<RandomPacket[]> = fc.array(
  fc.record({
    from: party,
    to: party,
    family: pick([4, 4, 6] as const),
    protocol: pick([6, 6, 6, 17, 17, 132, 1, 58, 47]),
    sourcePort: pick([80, 1024, 8080]),
    destinationPort: pick([...PORTS, 80, 82]),
    mark: pick([0, 0, 0x20000] as const),
    icmp: pick([
      { type: 8, code: 0 },
      { type: 8, code: 1 },
      { type: 128, code: 0 },
      { type: 3, code: 4 },
    ]),
  }),
  { minLength: 12, maxLength: 12 },
);
