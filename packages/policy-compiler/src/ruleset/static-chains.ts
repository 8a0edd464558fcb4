/**
 * The chains that do not depend on policies: where packets enter, dispatch by interface, what pods may send at all, the
 * node's own encapsulated traffic, NAT for traffic that leaves the pools.
 *
 * Host → own pod is never policed: such packets pass the output hook, and nothing is attached there. Egress policy of the
 * sender and ingress policy of the receiver are two attached chains of the same hook, one after the other; the same
 * goes for egress policy towards the node and DefaultEndpointToHostAction.
 */
import type { Family } from "@calico-ts/net";
import { parsePrefix } from "@calico-ts/net";
import { CHAINS, SETS } from "./names.ts";
import type { RulesetConfig } from "./ruleset-config.ts";
import type { Action, Chain, ChainRule, KeyField, Match, SetDeclaration } from "./values.ts";
import { ACCEPT, addressField, COUNT, DROP, familyMatch, keyType, RETURN } from "./values.ts";
import { connectionRules } from "./walk.ts";

export interface EncapsulationInUse {
  readonly vxlan: boolean;
  readonly ipip: boolean;
}

const FAMILIES = [4, 6] as const;
const ICMP6 = 58;
const IPIP = 4;
/** Multicast listener and neighbour discovery (RFC 2710, RFC 4861): without them a pod has no IPv6 neighbour. */
const ICMP6_TO_HOST = [130, 131, 132, 133, 135, 136];
const TUNNELS: Readonly<Record<Family, readonly string[]>> = {
  4: ["vxlan.calico", "tunl0"],
  6: ["vxlan-v6.calico"],
};

export function renderStaticSets(): SetDeclaration[] {
  return [
    { name: SETS.workloadGroups, key: ["interface", "interface-group"], ranges: false },
    { name: SETS.fromWorkload, key: ["interface-group"], ranges: false, chains: true },
    { name: SETS.toWorkload, key: ["interface-group"], ranges: false, chains: true },
    { name: SETS.movingFromWorkload, key: ["interface"], ranges: false, chains: true },
    { name: SETS.movingToWorkload, key: ["interface"], ranges: false, chains: true },
    ...FAMILIES.flatMap((family): SetDeclaration[] => [
      { name: SETS.workloadSources(family), key: ["interface", keyType(family)], ranges: false },
      { name: SETS.workloadSourceNets(family), key: ["interface", keyType(family)], ranges: true },
      { name: SETS.masqueradePools(family), key: [keyType(family)], ranges: true },
      { name: SETS.allPools(family), key: [keyType(family)], ranges: true },
      { name: SETS.allHosts(family), key: [keyType(family)], ranges: true },
      { name: SETS.vxlanHosts(family), key: [keyType(family)], ranges: true },
    ]),
  ];
}

export interface InUse extends EncapsulationInUse {
  /** Pods that are BGP peers: their interfaces are in `workload-bgp-peers`. */
  readonly bgpPeers: boolean;
}

export function renderStatic(config: RulesetConfig, encapsulation: InUse): Chain[] {
  const fromWorkload = (action: Action): ChainRule[] => perInterface(config, "in", action);
  return [
    {
      name: CHAINS.rawPrerouting,
      attach: "raw-prerouting",
      rules: [
        ...fromWorkload({ kind: "jump", chain: CHAINS.workloadSourceCheck }),
        ...vxlanRules(config, encapsulation, "source", { kind: "no-track" }),
      ],
    },
    ...rawOutput(vxlanRules(config, encapsulation, "destination", { kind: "no-track" })),
    { name: CHAINS.workloadSourceCheck, rules: sourceCheck(encapsulation) },
    {
      name: CHAINS.inputFromWorkload,
      attach: "input-from-workload",
      rules: [...tunnelInput(config, encapsulation), ...fromWorkload({ kind: "goto", chain: CHAINS.workloadToHost })],
    },
    { name: CHAINS.workloadToHost, rules: [...neighbourDiscovery(), ...dispatch("in")] },
    {
      name: CHAINS.inputToHost,
      attach: "input-to-host",
      rules: fromWorkload({ kind: "jump", chain: CHAINS.workloadToHostAction }),
    },
    { name: CHAINS.workloadToHostAction, rules: toHostAction(config) },
    {
      name: CHAINS.forwardFromWorkload,
      attach: "forward-from-workload",
      rules: fromWorkload({ kind: "goto", chain: `${CHAINS.forwardFromWorkload}-dispatch` }),
    },
    { name: `${CHAINS.forwardFromWorkload}-dispatch`, rules: dispatch("in") },
    {
      name: CHAINS.forwardToWorkload,
      attach: "forward-to-workload",
      rules: perInterface(config, "out", { kind: "goto", chain: `${CHAINS.forwardToWorkload}-dispatch` }),
    },
    { name: `${CHAINS.forwardToWorkload}-dispatch`, rules: dispatch("out") },
    {
      name: CHAINS.workloadDown,
      rules: [{ matches: [], actions: [COUNT, DROP], comment: "workload is administratively down" }],
    },
    {
      name: CHAINS.natPostrouting,
      attach: "nat-postrouting",
      rules: [{ matches: [], actions: [{ kind: "jump", chain: CHAINS.natOutgoing }] }],
    },
    { name: CHAINS.natOutgoing, rules: FAMILIES.flatMap((family) => natOutgoing(config, family)) },
  ];
}

function perInterface(config: RulesetConfig, direction: "in" | "out", action: Action): ChainRule[] {
  return config.interfacePrefixes.map((prefix) => ({
    matches: [{ kind: "interface", direction, name: `${prefix}*` }],
    actions: [action],
  }));
}

/**
 * By the link's group, which is believed only if the interface may have it: a group that somebody else set, or that a link brought
 * along, leads nowhere. An interface of ours with no such group is one whose pod we do not know (yet): closed.
 */
function dispatch(direction: "in" | "out"): ChainRule[] {
  const inward = direction === "in";
  const name: KeyField = { kind: "interface", direction };
  const group: KeyField = { kind: "interface-group", direction };
  const moving = inward ? SETS.movingFromWorkload : SETS.movingToWorkload;
  const map = inward ? SETS.fromWorkload : SETS.toWorkload;
  return [
    {
      matches: [{ kind: "lookup", set: SETS.workloadGroups, fields: [name, group] }],
      actions: [{ kind: "dispatch", map, fields: [group] }],
    },
    { matches: [], actions: [{ kind: "dispatch", map: moving, fields: [name] }] },
    { matches: [], actions: [COUNT, DROP], comment: "unknown workload interface" },
  ];
}

/**
 * A pod may only send from its own addresses. This runs before connection tracking, so a forged packet never counts as part
 * of somebody else's connection. Link-local IPv6 is the interface's own; `::` asks whether an address is taken. What a BGP peer has
 * announced, and this node routes to it, it may send from.
 */
function sourceCheck({ bgpPeers }: InUse): ChainRule[] {
  const bySet = FAMILIES.flatMap((family) =>
    [SETS.workloadSources(family), SETS.workloadSourceNets(family)].map(
      (set): ChainRule => ({
        matches: [
          familyMatch(family),
          { kind: "lookup", set, fields: [{ kind: "interface", direction: "in" }, addressField(family, "source")] },
        ],
        actions: [RETURN],
      }),
    ),
  );
  const from = (prefix: string): Match => ({ kind: "prefix", side: "source", prefix: parsePrefix(prefix) });
  return [
    ...bySet,
    { matches: [familyMatch(6), from("fe80::/10")], actions: [RETURN] },
    { matches: [familyMatch(6), { kind: "protocol", protocol: ICMP6 }, from("::/128")], actions: [RETURN] },
    ...(bgpPeers ? [announcedSources] : []),
    { matches: [], actions: [COUNT, DROP], comment: "source address is not the workload's" },
  ];
}

const announcedSources: ChainRule = {
  matches: [
    { kind: "lookup", set: SETS.workloadBgpPeers, fields: [{ kind: "interface", direction: "in" }] },
    { kind: "routed-back" },
  ],
  actions: [RETURN],
};

function neighbourDiscovery(): ChainRule[] {
  return ICMP6_TO_HOST.map((type) => ({
    matches: [familyMatch(6), { kind: "protocol", protocol: ICMP6 }, { kind: "icmp", type }],
    actions: [ACCEPT],
  }));
}

function toHostAction(config: RulesetConfig): ChainRule[] {
  const rules = [...connectionRules({ ...config, dropInvalid: false }), ...neighbourDiscovery()];
  if (config.endpointToHost === "return") return rules;
  const comment = "DefaultEndpointToHostAction";
  return [...rules, { matches: [], actions: [COUNT, { kind: config.endpointToHost }], comment }];
}

/** Tunnel packets to this node come from other nodes only. */
function tunnelInput(config: RulesetConfig, encapsulation: EncapsulationInUse): ChainRule[] {
  const toUs: Match = { kind: "local-address", side: "destination" };
  const rules = tunnelRules(config, encapsulation, "source");
  const drop = (matches: readonly Match[], what: string): ChainRule => ({
    matches: [...matches, toUs],
    actions: [COUNT, DROP],
    comment: `${what} from an unknown host`,
  });
  if (config.vxlanEnabled ?? encapsulation.vxlan) rules.push(drop(vxlanMatches(config), "VXLAN"));
  if (config.ipipEnabled ?? encapsulation.ipip) rules.push(drop([IPIP_MATCH], "IPIP"));
  return rules;
}

const IPIP_MATCH: Match = { kind: "protocol", protocol: IPIP };

const vxlanMatches = (config: RulesetConfig): Match[] => [
  { kind: "protocol", protocol: 17 },
  { kind: "port", side: "destination", range: { first: config.vxlanPort, last: config.vxlanPort } },
];

/** Accepts the dataplane's own packets from (`source`) and to (`destination`) other nodes. */
export function tunnelRules(config: RulesetConfig, encapsulation: EncapsulationInUse, peer: TunnelPeer): ChainRule[] {
  const ipip = config.ipipEnabled ?? encapsulation.ipip;
  return [
    ...vxlanRules(config, encapsulation, peer, ACCEPT),
    ...(ipip ? [betweenNodes(peer, 4, SETS.allHosts(4), { matches: [IPIP_MATCH], actions: [ACCEPT] })] : []),
  ];
}

type TunnelPeer = "source" | "destination";

function vxlanRules(
  config: RulesetConfig,
  encapsulation: EncapsulationInUse,
  peer: TunnelPeer,
  action: Action,
): ChainRule[] {
  if (!(config.vxlanEnabled ?? encapsulation.vxlan)) return [];
  const rule = { matches: vxlanMatches(config), actions: [action] };
  return FAMILIES.map((family) => betweenNodes(peer, family, SETS.vxlanHosts(family), rule));
}

function betweenNodes(peer: TunnelPeer, family: Family, set: string, { matches, actions }: ChainRule): ChainRule {
  const own: Match = { kind: "local-address", side: peer === "source" ? "destination" : "source" };
  const known: Match = { kind: "lookup", set, fields: [addressField(family, peer)] };
  return { matches: [familyMatch(family), ...matches, known, own], actions };
}

/** Each flow in a tunnel would be one more connection on either node, never answered, for the sake of nothing. */
const rawOutput = (rules: readonly ChainRule[]): Chain[] =>
  rules.length === 0 ? [] : [{ name: CHAINS.rawOutput, attach: "raw-output", rules }];

function natOutgoing(config: RulesetConfig, family: Family): ChainRule[] {
  const lookup = (set: string, side: "source" | "destination", not: boolean): Match => ({
    kind: "lookup",
    set,
    fields: [addressField(family, side)],
    ...(not ? { not } : {}),
  });
  const matches: Match[] = [
    familyMatch(family),
    lookup(SETS.masqueradePools(family), "source", false),
    lookup(SETS.allPools(family), "destination", true),
    ...(config.natExcludesHosts ? [lookup(SETS.allHosts(family), "destination", true)] : []),
    ...(config.natInterfaceFilter === undefined
      ? []
      : [{ kind: "interface", direction: "out", name: config.natInterfaceFilter } as const]),
  ];
  const ports = config.natPorts;
  const withPorts =
    ports === undefined
      ? []
      : [6, 17].map(
          (protocol): ChainRule => ({
            matches: [...matches, { kind: "protocol", protocol }],
            actions: [{ ...sourceNat(config, family), ports }],
          }),
        );
  return [...withPorts, { matches, actions: [sourceNat(config, family)] }, ...tunnelSource(family)];
}

function sourceNat(config: RulesetConfig, family: Family): Action & { kind: "masquerade" | "source-nat" } {
  const address = config.natAddress;
  return address?.family === family ? { kind: "source-nat", address } : { kind: "masquerade" };
}

/**
 * The node chose a source address before NAT sent the packet into a tunnel: it must leave with the tunnel's address, or the
 * answer would come back beside the tunnel and be dropped as a martian.
 */
function tunnelSource(family: Family): ChainRule[] {
  return TUNNELS[family].map((name) => ({
    matches: [
      familyMatch(family),
      { kind: "interface", direction: "out", name },
      { kind: "local-address", side: "source", onInterface: "out", not: true },
      { kind: "local-address", side: "source" },
    ],
    actions: [{ kind: "masquerade" }],
  }));
}
