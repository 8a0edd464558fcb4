/**
 * Where packets meet host endpoints. These chains exist only while there is one.
 *
 * An Allow of an untracked or preDNAT policy must also spare the packet the normal policies, and the applyOnForward ones of where it came
 * in; it leaves a mark, which the chains on input and output look at, and the first one on forward, which removes it. A destination that was rewritten on the way out (a process of
 * this node calling a service) is judged after the rewriting, in postrouting, where local senders are told by their address.
 *
 * The kernel takes no reject in postrouting, and refuses a table in which a chain there leads to one. With
 * nftablesFilterDenyAction Reject such packets walk through copies of the same policies that deny by dropping.
 */
import { CHAINS } from "./names.ts";
import type { HostEndpoints, HostRoad } from "./host-endpoints.ts";
import { HOST_ROADS, NOTHING } from "./host-endpoints.ts";
import type { Failsafe, RulesetConfig } from "./ruleset-config.ts";
import type { EncapsulationInUse } from "./static-chains.ts";
import { tunnelRules } from "./static-chains.ts";
import type { Action, Chain, ChainRule, Match } from "./values.ts";
import { ACCEPT, familyMatch, RETURN } from "./values.ts";

export function renderHostChains(
  config: RulesetConfig,
  hosts: HostEndpoints,
  encapsulation: EncapsulationInUse,
): Chain[] {
  if (!hosts.exist) return [];
  const accepted: ChainRule = {
    matches: [{ kind: "mark", mask: config.acceptMark, value: config.acceptMark }],
    actions: [ACCEPT],
  };
  const workloads = (direction: "in" | "out"): ChainRule[] =>
    config.interfacePrefixes.map((prefix) => ({
      matches: [{ kind: "interface", direction, name: `${prefix}*` }],
      actions: [ACCEPT],
    }));
  const dispatch = (of: HostRoad): ChainRule[] => dispatchRules(of, hosts);
  const tunnels = (side: "source" | "destination"): ChainRule[] => tunnelRules(config, encapsulation, side);
  const rewritten: Match = { kind: "destination-rewritten" };
  const roadOfRewritten = config.deny === "reject" ? HOST_ROADS.rewrittenOut : HOST_ROADS.normalOut;
  return [
    { name: NOTHING, rules: [] },
    {
      name: CHAINS.hostRawPrerouting,
      attach: "raw-prerouting-host",
      rules: [clearMarks(config), ...workloads("in"), ...dispatch(HOST_ROADS.untrackedIn)],
    },
    {
      name: CHAINS.hostRawOutput,
      attach: "raw-output",
      rules: [clearMarks(config), ...workloads("out"), ...dispatch(HOST_ROADS.untrackedOut)],
    },
    { name: CHAINS.hostPreDnat, attach: "mangle-prerouting", rules: [accepted, ...dispatch(HOST_ROADS.preDnatIn)] },
    {
      name: CHAINS.hostInput,
      attach: "input-host-endpoint",
      rules: [
        accepted,
        ...tunnels("source"),
        // Pods' packets are DefaultEndpointToHostAction's; with Return other tables may still judge them.
        ...workloads("in"),
        ...dispatch(HOST_ROADS.normalIn),
      ],
    },
    {
      name: CHAINS.hostForwardIn,
      attach: "forward-from-host",
      rules: [
        { matches: accepted.matches, actions: [clearMark(config.acceptMark), ACCEPT] },
        clearMarks(config),
        ...dispatch(HOST_ROADS.forwardIn),
      ],
    },
    { name: CHAINS.hostForwardOut, attach: "forward-to-host", rules: dispatch(HOST_ROADS.forwardOut) },
    {
      name: CHAINS.hostOutput,
      attach: "output-host-endpoint",
      rules: [
        accepted,
        ...workloads("out"),
        ...tunnels("destination"),
        { matches: [rewritten], actions: [RETURN] },
        ...dispatch(HOST_ROADS.normalOut),
      ],
    },
    ...rewrittenChains([...workloads("out"), ...dispatch(roadOfRewritten)]),
    ...failsafeChains(config),
  ];
}

const rewrittenChains = (rules: readonly ChainRule[]): Chain[] => [
  {
    name: CHAINS.hostPostrouting,
    attach: "mangle-postrouting",
    rules: [
      // Both asked in the positive: of a packet outside connection tracking neither this nor its opposite is true.
      {
        matches: [{ kind: "destination-rewritten" }, { kind: "local-address", side: "source" }],
        actions: [{ kind: "goto", chain: CHAINS.hostRewritten }],
      },
    ],
  },
  { name: CHAINS.hostRewritten, rules },
];

const clearMark = (mask: number): Action => ({ kind: "set-mark", mask, value: 0 });

const clearMarks = (config: RulesetConfig): ChainRule => ({
  matches: [],
  actions: [clearMark(config.acceptMark | config.passMark)],
});

function dispatchRules(of: HostRoad, hosts: HostEndpoints): ChainRule[] {
  const direction = of.direction === "ingress" ? "in" : "out";
  const wildcard = hosts.wildcardWalk(of);
  const named: ChainRule = {
    matches: [],
    actions: [{ kind: "dispatch", map: of.map, fields: [{ kind: "interface", direction }] }],
  };
  if (wildcard === undefined) return [named];
  return [
    named,
    {
      matches: [{ kind: "interface", direction, name: "lo", not: true }],
      actions: [{ kind: "goto", chain: wildcard }],
      comment: "every interface without a host endpoint of its own",
    },
  ];
}

/**
 * What stays open whatever policies say, so that a node can be reached and repaired: ports, and what IPv6 finds neighbours and routers with.
 * IPv4 has ARP for that, which no rule of a host endpoint sees; without it no failsafe port would be open over IPv6.
 */
function failsafeChains(config: RulesetConfig): Chain[] {
  const inward = config.failsafeIn.flatMap((item) => failsafeRules(item, "source", "destination"));
  const outward = config.failsafeOut.flatMap((item) => failsafeRules(item, "destination", "destination"));
  // Without connections an answer is known by the port it comes from.
  const answersIn = config.failsafeOut.flatMap((item) => failsafeRules(item, "source", "source"));
  const answersOut = config.failsafeIn.flatMap((item) => failsafeRules(item, "destination", "source"));
  const neighbours: ChainRule = {
    matches: [familyMatch(6), { kind: "protocol", protocol: ICMP6 }],
    actions: [{ kind: "jump", chain: CHAINS.neighbourDiscovery }],
  };
  return [
    { name: CHAINS.neighbourDiscovery, rules: ICMP6_OF_HOSTS.map(discoveryRule) },
    { name: CHAINS.failsafeIn, rules: [neighbours, ...inward] },
    { name: CHAINS.failsafeOut, rules: [neighbours, ...outward] },
    { name: CHAINS.failsafeInRaw, rules: [neighbours, ...inward, ...answersIn] },
    { name: CHAINS.failsafeOutRaw, rules: [neighbours, ...outward, ...answersOut] },
  ];
}

const ICMP6 = 58;
/** Multicast listeners (RFC 2710, RFC 3810), routers and neighbours (RFC 4861 §4.1 to §4.4). Redirects are not needed. */
const ICMP6_OF_HOSTS = [130, 131, 132, 133, 134, 135, 136, 143];

const discoveryRule = (type: number): ChainRule => ({
  matches: [familyMatch(6), { kind: "protocol", protocol: ICMP6 }, { kind: "icmp", type }],
  actions: [ACCEPT],
  comment: "neighbour discovery",
});

function failsafeRules(
  { protocol, port, net }: Failsafe,
  peer: "source" | "destination",
  portSide: "source" | "destination",
): ChainRule[] {
  const matches: Match[] = [
    { kind: "protocol", protocol },
    { kind: "port", side: portSide, range: { first: port, last: port } },
  ];
  const from: Match[] = net === undefined ? [] : [familyMatch(net.family), { kind: "prefix", side: peer, prefix: net }];
  return [{ matches: [...from, ...matches], actions: [ACCEPT], comment: "failsafe" }];
}
