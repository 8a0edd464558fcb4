/**
 * What a reimplementation is most likely to miss about policy (inventory §13, items 3, 4, 5 and 7), a named case each, asked of the
 * oracle and of the rendered table run by a packet machine.
 *
 * The rest of the list is proved elsewhere. Item 1, restart without memory: `agent/test/agent.kernel.test.ts`, `steady.kernel.test.ts`. Item 2, closed
 * windows: `agent/test/dataplane.kernel.test.ts`, `e2e/test/policy/packets.kernel.test.ts`. Item 3, coalesced, reordered, reverted and spurious updates:
 * `sequences.test.ts`; two owners of an address, prefixes inside prefixes: `labels/set-members.test.ts`. Item 6, hosts: `host-differential.test.ts`,
 * `e2e/test/policy/host-endpoints.kernel.test.ts`, and one case here. Grammar, canonical text and ids of selectors: `selector/src/selector.test.ts`.
 */
import { hostInterfaceName } from "@calico-ts/model";
import { parseAddress } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { CompilerUpdate } from "../src/index.ts";
import { createCompiler, createOracle, NftPolicyRenderer } from "../src/index.ts";
import { FakeTable } from "../src/testing/fake-table.ts";
import { PacketMachine } from "../src/testing/packet-machine.ts";
import { globalPolicy, kubernetesPolicy, namespace, pod, policy, resource } from "../src/testing/resources.ts";

const PODS: Readonly<Record<string, { readonly at: string; readonly at6: string }>> = {
  "a/web": { at: "10.0.0.1", at6: "fd00::1" },
  "a/db": { at: "10.0.0.2", at6: "fd00::2" },
  "b/web": { at: "10.0.1.1", at6: "fd00::1:1" },
};
const OUTSIDE = { at: "192.0.2.7", at6: "2001:db8::7" };
const ports = [
  { name: "http", containerPort: 8080 },
  { name: "dns", containerPort: 53, protocol: "UDP" },
];
const BASE: readonly CompilerUpdate[] = [
  resource("Tier", "default", { spec: { order: 1_000_000, defaultAction: "Deny" } }),
  namespace("a", { team: "red" }),
  namespace("b", { team: "blue" }),
  ...["a", "b"].map((name) => resource("ServiceAccount", "default", { metadata: { labels: { trust: name } } }, name)),
  ...Object.entries(PODS).map(([name, { at, at6 }]) =>
    pod(name, { ips: [at, at6], labels: { app: name.slice(2) }, ports }),
  ),
];
const tier = (name: string, spec: object): CompilerUpdate => resource("Tier", name, { spec });
const set = (name: string, net: string): CompilerUpdate =>
  resource("GlobalNetworkSet", name, { metadata: { labels: { kind: "office" } }, spec: { nets: [net] } });
const intoDb = (ingress: readonly object[], more: object = {}): CompilerUpdate =>
  policy("a/p", { selector: "app == 'db'", types: ["Ingress"], ingress, ...more });
const allow = (match: object): CompilerUpdate => intoDb([{ action: "Allow", ...match }]);
const staged = (name: string, spec: object): CompilerUpdate => resource("StagedGlobalNetworkPolicy", name, { spec });
const inTier = (name: string, spec: object): CompilerUpdate =>
  globalPolicy(name, { selector: "app == 'db'", types: ["Ingress"], ...spec });

/** `[who, protocol/port or protocol/type/code, 6 for IPv6]` to a/db. */
type Packet = readonly [from: string, what: string, family?: 4 | 6];
const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, icmp: 1, icmp6: 58 };

function ask(world: readonly CompilerUpdate[], [from, what, family = 4]: Packet): { oracle: boolean; table: boolean } {
  const [name = "", first, second] = what.split("/");
  const protocol = PROTOCOLS[name] ?? Number(name);
  const icmp = protocol === 1 || protocol === 58 ? { icmp: { type: Number(first), code: Number(second ?? 0) } } : {};
  const hasPorts = protocol === 6 || protocol === 17;
  const head = { protocol, ...icmp, ...(hasPorts ? { sourcePort: 40_000, destinationPort: Number(first) } : {}) };
  const who = PODS[from];
  const address = (side: { readonly at: string; readonly at6: string } = OUTSIDE): string =>
    family === 4 ? side.at : side.at6;
  const verdict = createOracle(world).verdict({
    from: who === undefined ? { address: address() } : { pod: from },
    to: { pod: "a/db" },
    family,
    ...head,
  });
  const renderer = new NftPolicyRenderer();
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  for (const update of world) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  const table = new FakeTable();
  table.program(renderer.take());
  const [space = "", own = ""] = from.split("/");
  const { accepted } = new PacketMachine(table.ruleset()).run(
    {
      ...head,
      source: parseAddress(address(who)),
      destination: parseAddress(address(PODS["a/db"])),
      iifname: who === undefined ? "eth0" : hostInterfaceName(space, own),
      oifname: hostInterfaceName("a", "db"),
      state: "new",
      mark: 0,
    },
    ["prerouting", "forward"],
  );
  return { oracle: verdict.allowed, table: accepted };
}

interface Case {
  readonly name: string;
  readonly world: readonly CompilerUpdate[];
  readonly yes: readonly Packet[];
  readonly no: readonly Packet[];
}

function holds({ world, yes, no }: Case): void {
  const all = [...BASE, ...world];
  const seen = [...yes, ...no].map((packet) => ({ packet, ...ask(all, packet) }));
  expect(seen).toEqual([
    ...yes.map((packet) => ({ packet, oracle: true, table: true })),
    ...no.map((packet) => ({ packet, oracle: false, table: false })),
  ]);
}

const cases = (list: readonly Case[]): void => test.each(list)("$name", holds);

describe("selectors (item 4)", () => {
  cases([
    {
      name: "notSelector of a policy of the whole cluster takes in addresses nobody has",
      world: [inTier("g", { ingress: [{ action: "Allow", source: { notSelector: "app == 'web'" } }] })],
      yes: [["outside", "tcp/80"]],
      no: [
        ["a/web", "tcp/80"],
        ["b/web", "tcp/80"],
      ],
    },
    {
      name: "a negated selector does not",
      world: [inTier("g", { ingress: [{ action: "Allow", source: { selector: "app != 'web'" } }] })],
      yes: [],
      no: [
        ["outside", "tcp/80"],
        ["a/web", "tcp/80"],
      ],
    },
    {
      name: "a selector in a namespaced policy means its own namespace",
      world: [allow({ source: { selector: "app == 'web'" } })],
      yes: [["a/web", "tcp/80"]],
      no: [
        ["b/web", "tcp/80"],
        ["outside", "tcp/80"],
      ],
    },
    {
      name: "so does a notSelector alone",
      world: [allow({ source: { notSelector: "app == 'other'" } })],
      yes: [["a/web", "tcp/80"]],
      no: [
        ["b/web", "tcp/80"],
        ["outside", "tcp/80"],
      ],
    },
    {
      name: "a namespaceSelector leaves it, by labels of namespaces",
      world: [allow({ source: { namespaceSelector: "team == 'blue'" } })],
      yes: [["b/web", "tcp/80"]],
      no: [
        ["a/web", "tcp/80"],
        ["outside", "tcp/80"],
      ],
    },
    {
      name: "namespaceSelector all() is every pod and no network set of the cluster",
      world: [set("office", "192.0.2.0/24"), allow({ source: { namespaceSelector: "all()" } })],
      yes: [
        ["a/web", "tcp/80"],
        ["b/web", "tcp/80"],
      ],
      no: [["outside", "tcp/80"]],
    },
    {
      name: "namespaceSelector global() is network sets of the cluster and no pod",
      world: [set("office", "192.0.2.0/24"), allow({ source: { namespaceSelector: "global()" } })],
      yes: [["outside", "tcp/80"]],
      no: [
        ["a/web", "tcp/80"],
        ["b/web", "tcp/80"],
      ],
    },
    {
      name: "a network set of the cluster is not in a namespaced policy's selector, and is in that of the whole cluster",
      world: [
        set("office", "192.0.2.0/24"),
        tier("t", { order: 1, defaultAction: "Pass" }),
        inTier("t.g", {
          tier: "t",
          ingress: [{ action: "Allow", protocol: "TCP", source: { selector: "kind == 'office'" } }],
        }),
        allow({ protocol: "UDP", source: { selector: "kind == 'office'" } }),
      ],
      yes: [["outside", "tcp/80"]],
      no: [["outside", "udp/80"]],
    },
    {
      name: "all() beside a namespaceSelector means: in a namespace",
      world: [
        globalPolicy("g", {
          selector: "all()",
          namespaceSelector: "team == 'red'",
          types: ["Ingress"],
          ingress: [{ action: "Allow", protocol: "TCP" }],
        }),
      ],
      yes: [["b/web", "tcp/80"]],
      no: [["b/web", "udp/80"]],
    },
    {
      name: "service accounts by name are of the policy's namespace, by selector of their labels",
      world: [
        allow({ protocol: "TCP", source: { serviceAccounts: { names: ["default"] } } }),
        inTier("g", {
          order: 1,
          ingress: [
            { action: "Allow", protocol: "UDP", source: { serviceAccounts: { selector: "trust == 'b'" } } },
            { action: "Pass", protocol: "ICMP" },
          ],
        }),
      ],
      yes: [
        ["a/web", "tcp/80"],
        ["b/web", "udp/80"],
      ],
      no: [
        ["b/web", "tcp/80"],
        ["a/web", "udp/80"],
      ],
    },
    {
      name: "prefixes and a selector in one rule are both demanded",
      world: [allow({ source: { nets: ["10.0.0.0/24"], namespaceSelector: "all()" } })],
      yes: [["a/web", "tcp/80"]],
      no: [
        ["b/web", "tcp/80"],
        ["outside", "tcp/80"],
      ],
    },
  ]);
});

describe("tiers (item 5)", () => {
  cases([
    {
      name: "a tier whose defaultAction is Pass goes on",
      world: [
        tier("t", { order: 1, defaultAction: "Pass" }),
        inTier("t.g", { tier: "t", ingress: [{ action: "Deny", protocol: "UDP" }] }),
      ],
      yes: [["a/web", "tcp/80"]],
      no: [["a/web", "udp/80"]],
    },
    {
      name: "a tier of staged policies only is as if it were not there",
      world: [
        tier("t", { order: 1, defaultAction: "Deny" }),
        staged("t.g", { tier: "t", selector: "all()", types: ["Ingress"], ingress: [{ action: "Deny" }] }),
      ],
      yes: [["a/web", "tcp/80"]],
      no: [],
    },
    {
      name: "a tier counts only for the direction that one of its policies has",
      world: [
        tier("t", { order: 1, defaultAction: "Deny" }),
        inTier("t.g", { tier: "t", types: ["Egress"], egress: [{ action: "Allow" }] }),
      ],
      yes: [["a/web", "tcp/80"]],
      no: [],
    },
    {
      name: "and only for endpoints that one of its policies selects",
      world: [
        tier("t", { order: 1, defaultAction: "Deny" }),
        inTier("t.g", { tier: "t", selector: "app == 'web'", ingress: [] }),
      ],
      yes: [["a/web", "tcp/80"]],
      no: [],
    },
    {
      name: "a policy without rules denies by its being there",
      world: [intoDb([])],
      yes: [],
      no: [["a/web", "tcp/80"]],
    },
    {
      name: "a missing tier comes last and denies; Pass out of the one before leads there",
      world: [
        inTier("g", {
          ingress: [
            { action: "Allow", protocol: "UDP" },
            { action: "Pass", protocol: "TCP" },
          ],
        }),
        inTier("gone.g", {
          tier: "gone",
          ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [80] } }],
        }),
      ],
      yes: [
        ["a/web", "udp/1"],
        ["a/web", "tcp/80"],
      ],
      no: [
        ["a/web", "tcp/81"],
        ["a/web", "132"],
      ],
    },
    {
      name: "Pass out of the last tier leads to the profiles",
      world: [inTier("g", { ingress: [{ action: "Pass", protocol: "TCP" }] })],
      yes: [["a/web", "tcp/80"]],
      no: [["a/web", "udp/80"]],
    },
    {
      name: "equal orders: names decide, and no order comes last",
      world: [
        inTier("c", { order: 1, ingress: [{ action: "Deny", protocol: "TCP" }] }),
        inTier("b", { order: 1, ingress: [{ action: "Allow", protocol: "TCP" }] }),
        inTier("a", { ingress: [{ action: "Deny" }] }),
        inTier("z", { order: 5_000_000, ingress: [{ action: "Allow", protocol: "UDP" }] }),
      ],
      yes: [
        ["a/web", "tcp/80"],
        ["a/web", "udp/80"],
      ],
      no: [["a/web", "132"]],
    },
    {
      name: "tiers of one order: names decide",
      world: [
        ...["u", "t"].map((name) => tier(name, { order: 1, defaultAction: "Deny" })),
        inTier("u.g", { tier: "u", ingress: [{ action: "Deny" }] }),
        inTier("t.g", { tier: "t", ingress: [{ action: "Allow" }] }),
      ],
      yes: [["a/web", "tcp/80"]],
      no: [],
    },
    {
      name: "Kubernetes policies have order 1000 of the default tier",
      world: [
        kubernetesPolicy("a/k", { podSelector: {}, policyTypes: ["Ingress"], ingress: [{}] }),
        inTier("before", { order: 999, ingress: [{ action: "Deny", protocol: "TCP" }] }),
        inTier("after", { order: 1001, ingress: [{ action: "Deny", protocol: "UDP" }] }),
      ],
      yes: [["a/web", "udp/80"]],
      no: [["a/web", "tcp/80"]],
    },
    {
      name: "Log decides nothing",
      world: [intoDb([{ action: "Log" }, { action: "Allow", protocol: "TCP" }])],
      yes: [["a/web", "tcp/80"]],
      no: [["a/web", "udp/80"]],
    },
  ]);
});

describe("rules (item 7)", () => {
  const many = Array.from({ length: 40 }, (_, at) => 1000 + 2 * at);
  cases([
    {
      name: "more than fifteen ports, ranges among them",
      world: [allow({ protocol: "TCP", destination: { ports: [...many, "2000:2010"] } })],
      yes: [
        ["a/web", "tcp/1000"],
        ["a/web", "tcp/1078"],
        ["a/web", "tcp/2000"],
        ["a/web", "tcp/2010"],
      ],
      no: [
        ["a/web", "tcp/1001"],
        ["a/web", "tcp/1999"],
        ["a/web", "tcp/2011"],
        ["a/web", "udp/1000"],
      ],
    },
    {
      name: "several prefixes on both sides and named beside numbered ports",
      world: [
        allow({
          protocol: "TCP",
          source: { nets: ["10.0.0.0/31", "10.0.1.0/24", "192.0.2.0/29"], notNets: ["192.0.2.7/32"] },
          destination: { nets: ["10.0.0.2/32", "10.9.0.0/16"], ports: ["http", 90, "100:110"] },
        }),
      ],
      yes: [
        ["a/web", "tcp/8080"],
        ["b/web", "tcp/90"],
        ["a/web", "tcp/105"],
      ],
      no: [
        ["outside", "tcp/90"],
        ["a/web", "tcp/91"],
        ["a/web", "tcp/53"],
      ],
    },
    {
      name: "a named port goes with its protocol",
      world: [allow({ protocol: "UDP", destination: { ports: ["dns", "http"] } })],
      yes: [["a/web", "udp/53"]],
      no: [
        ["a/web", "udp/8080"],
        ["a/web", "tcp/53"],
      ],
    },
    {
      name: "a named port without a protocol goes with the port's own",
      world: [allow({ destination: { ports: ["dns", "http"] } })],
      yes: [
        ["a/web", "udp/53"],
        ["a/web", "tcp/8080"],
      ],
      no: [
        ["a/web", "udp/8080"],
        ["a/web", "tcp/53"],
      ],
    },
    {
      name: "negated ports, named ones too",
      world: [allow({ protocol: "TCP", destination: { notPorts: ["http", "20:30"] } })],
      yes: [
        ["a/web", "tcp/31"],
        ["a/web", "tcp/53"],
      ],
      no: [
        ["a/web", "tcp/8080"],
        ["a/web", "tcp/20"],
        ["a/web", "tcp/30"],
        ["a/web", "udp/31"],
      ],
    },
    {
      name: "of a rule about HTTP the part below HTTP is enforced",
      world: [allow({ protocol: "TCP", destination: { ports: [80] }, http: { methods: ["GET"] } })],
      yes: [["a/web", "tcp/80"]],
      no: [
        ["a/web", "tcp/81"],
        ["a/web", "udp/80"],
      ],
    },
    {
      name: "a negated protocol",
      world: [allow({ notProtocol: "TCP" })],
      yes: [
        ["a/web", "udp/1"],
        ["a/web", "132"],
      ],
      no: [["a/web", "tcp/1"]],
    },
    {
      name: "ICMP by type, by type and code, and negated",
      world: [
        intoDb([
          { action: "Deny", protocol: "ICMP", notICMP: { type: 8 } },
          { action: "Allow", protocol: "ICMP", icmp: { type: 8, code: 0 } },
          { action: "Allow", protocol: "ICMPv6", icmp: { type: 128 } },
        ]),
      ],
      yes: [
        ["a/web", "icmp/8/0"],
        ["a/web", "icmp6/128/3", 6],
      ],
      no: [
        ["a/web", "icmp/8/1"],
        ["a/web", "icmp/0/0"],
        ["a/web", "icmp6/129/0", 6],
      ],
    },
    {
      name: "a rule for one family, by ipVersion or by its prefixes, negated ones too",
      world: [
        intoDb([
          { action: "Allow", ipVersion: 6, protocol: "TCP" },
          { action: "Allow", protocol: "UDP", source: { notNets: ["10.0.1.0/24"] } },
        ]),
      ],
      yes: [
        ["a/web", "tcp/1", 6],
        ["a/web", "udp/1"],
      ],
      no: [
        ["a/web", "tcp/1"],
        ["b/web", "udp/1"],
        ["a/web", "udp/1", 6],
      ],
    },
    {
      name: "a network set that overlaps another",
      world: [
        set("wide", "192.0.0.0/16"),
        set("narrow", "192.0.2.0/28"),
        inTier("g", {
          ingress: [{ action: "Allow", source: { selector: "kind == 'office'", notNets: ["192.0.2.8/29"] } }],
        }),
      ],
      yes: [["outside", "tcp/1"]],
      no: [["a/web", "tcp/1"]],
    },
    {
      name: "policies with long names that differ at the end only",
      world: ["x", "y"].map((end, at) =>
        inTier(`${"n".repeat(250)}${end}`, {
          order: at,
          ingress: [{ action: at === 0 ? "Pass" : "Deny", protocol: at === 0 ? "UDP" : "TCP" }],
        }),
      ),
      yes: [["a/web", "udp/1"]],
      no: [["a/web", "tcp/1"]],
    },
  ]);
});

test("a policy that is needed on every node is prepared where nobody has it yet", () => {
  const chainsOf = (spec: object): string[] => {
    const renderer = new NftPolicyRenderer();
    const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
    const world = [...BASE, globalPolicy("g", { selector: "app == 'later'", ingress: [{ action: "Allow" }], ...spec })];
    for (const update of world) compiler.update(update);
    compiler.setInSync();
    compiler.flush();
    return [...renderer.desired().chains.keys()];
  };
  const chain = "policy-in/GlobalNetworkPolicy/g";
  expect(chainsOf({})).not.toContain(chain);
  expect(chainsOf({ performanceHints: ["AssumeNeededOnEveryNode"] })).toContain(chain);
});

test("before connection tracking failsafes go both ways: an answer is known by the port it comes from (item 6)", () => {
  const NODE = parseAddress("192.0.2.1");
  const peer = parseAddress(OUTSIDE.at);
  const renderer = new NftPolicyRenderer();
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  const closed = {
    selector: "all()",
    doNotTrack: true,
    applyOnForward: true,
    ingress: [{ action: "Deny" }],
    egress: [{ action: "Deny" }],
  };
  const host = resource("HostEndpoint", "h", { spec: { node: "n1", interfaceName: "eth0" } });
  for (const update of [...BASE, host, globalPolicy("g", closed)]) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  renderer.setHostInterfaces(new Map([["eth0", ["192.0.2.1"]]]));
  const table = new FakeTable();
  table.program(renderer.take());
  const machine = new PacketMachine(table.ruleset());
  const passes = (direction: "in" | "out", sourcePort: number, destinationPort: number): boolean => {
    const inward = direction === "in";
    const head = { protocol: 6, sourcePort, destinationPort, state: "untracked", mark: 0 } as const;
    const ends = inward
      ? ({ source: peer, destination: NODE, iifname: "eth0", oifname: "", local: "destination" } as const)
      : ({ source: NODE, destination: peer, iifname: "", oifname: "eth0", local: "source" } as const);
    // The chains of tracked traffic come later and ask for connections.
    return (
      machine.run({ ...head, ...ends }, [inward ? "prerouting" : "output"]).comment !==
      "GlobalNetworkPolicy/g " + (inward ? "ingress 0" : "egress 0")
    );
  };
  const inbound = {
    request: passes("in", 50_000, 22),
    answer: passes("in", 6443, 50_000),
    other: passes("in", 6444, 50_000),
  };
  const outbound = {
    request: passes("out", 50_000, 6443),
    answer: passes("out", 22, 50_000),
    other: passes("out", 23, 50_000),
  };
  expect({ inbound, outbound }).toEqual({
    inbound: { request: true, answer: true, other: false },
    outbound: { request: true, answer: true, other: false },
  });
});

test("two pods with one address: what selects either lets both in, and what selects neither none (item 3)", () => {
  const twin = pod("a/twin", { ips: [PODS["a/web"]?.at ?? ""], labels: { app: "twin" } });
  const open = (app: string): readonly CompilerUpdate[] => [
    ...BASE,
    twin,
    allow({ source: { selector: `app == '${app}'` } }),
  ];
  expect(ask(open("twin"), ["a/web", "tcp/1"])).toEqual({ oracle: true, table: true });
  expect(ask(open("web"), ["a/web", "tcp/1"])).toEqual({ oracle: true, table: true });
  expect(ask(open("else"), ["a/web", "tcp/1"])).toEqual({ oracle: false, table: false });
});
