/** Deliberate defects of the compiler: what it tells the renderer is wrong in one way each. */
import type { ActivePolicy, DataplaneMessage, EndpointTier, Rule, RuleMatch } from "@calico-ts/dataplane-api";
import type { PortRange } from "@calico-ts/net";
import type { Defect } from "../candidate.ts";
import { MISSING_TIER } from "../generate/alphabet.ts";

type Of<K extends DataplaneMessage["kind"]> = Extract<DataplaneMessage, { kind: K }>;
type Members = Of<"ip-set-update"> | Of<"ip-set-delta">;
type Workload = Of<"workload-endpoint-update">["endpoint"];

const defect = (
  name: string,
  about: string,
  message: (message: DataplaneMessage) => readonly DataplaneMessage[],
): Defect => ({ name, about, message });

/** Every list of rules goes through `change`. */
const inRules = (name: string, about: string, change: (rules: readonly Rule[]) => readonly Rule[]): Defect =>
  defect(name, about, (message) => {
    if (message.kind === "policy-update") {
      const { ingress, egress, ...rest } = message.policy;
      return [{ ...message, policy: { ...rest, ingress: change(ingress), egress: change(egress) } }];
    }
    if (message.kind === "profile-update") {
      const { ingress, egress } = message.profile;
      return [{ ...message, profile: { ingress: change(ingress), egress: change(egress) } }];
    }
    return [message];
  });

const inMatch = (name: string, about: string, change: (match: RuleMatch) => RuleMatch): Defect =>
  inRules(name, about, (rules) => rules.map((rule) => ({ ...rule, match: change(rule.match) })));

const inPorts = (name: string, about: string, change: (range: PortRange) => PortRange): Defect =>
  inMatch(name, about, (match) => ({
    ...match,
    destinationPorts: match.destinationPorts.map((range) => (range.first === range.last ? range : change(range))),
  }));

const inActions = (name: string, about: string, change: (action: Rule["action"]) => Rule["action"]): Defect =>
  inRules(name, about, (rules) => rules.map((rule) => ({ ...rule, action: change(rule.action) })));

const inTiers = (
  name: string,
  about: string,
  change: (tiers: readonly EndpointTier[]) => readonly EndpointTier[],
): Defect => inWorkloads(name, about, (endpoint) => ({ ...endpoint, tiers: change(endpoint.tiers) }));

function inWorkloads(name: string, about: string, change: (endpoint: Workload) => Workload): Defect {
  return defect(name, about, (message) =>
    message.kind === "workload-endpoint-update" ? [{ ...message, endpoint: change(message.endpoint) }] : [message],
  );
}

/** Neighbours of one name the other way round. */
const tiesReversed = (ids: EndpointTier["ingress"]): EndpointTier["ingress"] => {
  const names = [...new Set(ids.map(({ name }) => name))];
  return names.flatMap((name) => ids.filter((id) => id.name === name).toReversed());
};

const inMembers = (name: string, about: string, change: (message: Members) => DataplaneMessage): Defect =>
  defect(name, about, (message) =>
    message.kind === "ip-set-update" || message.kind === "ip-set-delta" ? [change(message)] : [message],
  );

const lost = (name: string, about: string, kind: DataplaneMessage["kind"]): Defect =>
  defect(name, about, (message) => (message.kind === kind ? [] : [message]));

const inConfig = (name: string, about: string, values: Readonly<Record<string, string>>): Defect =>
  defect(name, about, (message) =>
    message.kind === "config-update" ? [{ ...message, config: { ...message.config, ...values } }] : [message],
  );

const without = (match: RuleMatch, field: keyof RuleMatch): RuleMatch =>
  // Only for fields that may be absent.
  Object.fromEntries(Object.entries(match).filter(([name]) => name !== field)) as unknown as RuleMatch;

const NO_SETS: readonly string[] = [];
const isIpv4 = (net: string): boolean => !net.includes(":");

const movedIpv6 = (
  positive: readonly string[],
  negated: readonly string[],
  to: "sourceNets" | "destinationNets",
  from: "notSourceNets" | "notDestinationNets",
): Partial<RuleMatch> => ({
  [to]: [...positive, ...negated.filter((net) => !isIpv4(net))],
  [from]: negated.filter(isIpv4),
});

export const MATCH_DEFECTS: readonly Defect[] = [
  inPorts("port-range-ends-late", "the last port of a range is one too high", ({ first, last }) => ({
    first,
    last: Math.min(last + 1, 65_535),
  })),
  inPorts("port-range-ends-early", "the last port of a range is left out", ({ first, last }) => ({
    first,
    last: last - 1,
  })),
  inPorts("port-range-begins-late", "the first port of a range is left out", ({ first, last }) => ({
    first: first + 1,
    last,
  })),
  inPorts("port-range-collapsed", "a range is only its first port", ({ first }) => ({ first, last: first })),
  inMatch("destination-ports-lost", "numeric destination ports are ignored when there are named ones", (match) =>
    match.destinationNamedPortSets.length > 0 ? { ...match, destinationPorts: [] } : match,
  ),
  inMatch("ports-of-the-other-side", "destination ports are compared with the source port", (match) => ({
    ...match,
    sourcePorts: match.destinationPorts,
    destinationPorts: match.sourcePorts,
  })),
  inMatch("source-ports-lost", "source ports are ignored", (match) => ({ ...match, sourcePorts: [] })),
  inMatch("excluded-ports-lost", "notPorts are ignored", (match) => ({ ...match, notDestinationPorts: [] })),
  inMatch("named-ports-lost", "named ports are ignored", (match) => ({ ...match, destinationNamedPortSets: NO_SETS })),
  inMatch("excluded-named-ports-lost", "named ports in notPorts are ignored", (match) => ({
    ...match,
    notDestinationNamedPortSets: NO_SETS,
  })),
  inMatch("selectors-swapped", "source and destination selectors are swapped", (match) => ({
    ...match,
    sourceSets: match.destinationSets,
    destinationSets: match.sourceSets,
  })),
  inMatch("nets-swapped", "source and destination nets are swapped", (match) => ({
    ...match,
    sourceNets: match.destinationNets,
    destinationNets: match.sourceNets,
  })),
  inMatch("first-selector-only", "of several sets of one side only the first must match", (match) => ({
    ...match,
    sourceSets: match.sourceSets.slice(0, 1),
    notSourceSets: match.notSourceSets.slice(1),
  })),
  inMatch("negated-selector-positive", "notSelector of the source loses its negation", (match) => ({
    ...match,
    sourceSets: [...match.sourceSets, ...match.notSourceSets],
    notSourceSets: NO_SETS,
  })),
  inMatch("negated-selector-lost", "notSelector of the destination is ignored", (match) => ({
    ...match,
    notDestinationSets: NO_SETS,
  })),
  inMatch("negated-nets-lost", "notNets of the source are ignored", (match) => ({ ...match, notSourceNets: [] })),
  inMatch("negated-nets-positive", "notNets of the destination lose their negation", (match) => ({
    ...match,
    destinationNets: [...match.destinationNets, ...match.notDestinationNets],
    notDestinationNets: [],
  })),
  inMatch("last-net-lost", "the last of several source nets is ignored", (match) =>
    match.sourceNets.length < 2 ? match : { ...match, sourceNets: match.sourceNets.slice(0, -1) },
  ),
  inMatch("not-protocol-lost", "notProtocol is ignored", (match) => without(match, "notProtocol")),
  inMatch("not-protocol-positive", "notProtocol loses its negation", ({ notProtocol, ...match }) =>
    notProtocol === undefined ? match : { ...match, protocol: match.protocol ?? notProtocol },
  ),
  inMatch("sctp-taken-for-tcp", "SCTP rules match TCP", (match) =>
    match.protocol === 132 ? { ...match, protocol: 6 } : match,
  ),
  inMatch("icmp-code-lost", "the ICMP code is ignored", (match) =>
    match.icmp === undefined ? match : { ...match, icmp: { type: match.icmp.type } },
  ),
  inMatch("icmp-type-lost", "the ICMP type is ignored", (match) => without(match, "icmp")),
  inMatch("not-icmp-positive", "notICMP loses its negation", ({ notIcmp, ...match }) =>
    notIcmp === undefined ? match : { ...match, icmp: match.icmp ?? notIcmp },
  ),
  inMatch("icmp-code-zero-lost", "ICMP code 0 is taken for none", (match) =>
    match.icmp?.code === 0 ? { ...match, icmp: { type: match.icmp.type } } : match,
  ),
  inMatch("negated-ipv6-nets-positive", "notNets lose their negation over IPv6", (match) => ({
    ...match,
    ...movedIpv6(match.sourceNets, match.notSourceNets, "sourceNets", "notSourceNets"),
    ...movedIpv6(match.destinationNets, match.notDestinationNets, "destinationNets", "notDestinationNets"),
  })),
  inMatch("ipv6-nets-ignored", "a rule about IPv6 prefixes applies to all", (match) => ({
    ...match,
    sourceNets: match.sourceNets.filter(isIpv4),
    destinationNets: match.destinationNets.filter(isIpv4),
  })),
  inMatch("not-selector-lost-beside-selector", "notSelector is ignored where a selector stands beside it", (match) => ({
    ...match,
    notSourceSets: match.sourceSets.length > 0 ? NO_SETS : match.notSourceSets,
    notDestinationSets: match.destinationSets.length > 0 ? NO_SETS : match.notDestinationSets,
  })),
  inMatch("source-named-ports-lost", "named source ports are ignored", (match) => ({
    ...match,
    sourceNamedPortSets: NO_SETS,
  })),
  inMatch("service-source-lost", "a service of an ingress rule is ignored", (match) => ({
    ...match,
    sourceSets: match.sourceSets.filter((id) => !id.startsWith("svcnoport:")),
  })),
  inMatch("protocol-of-service-ports-lost", "a rule with a service is about TCP", (match) =>
    match.destinationServiceSets.length > 0 ? { ...match, protocol: match.protocol ?? 6 } : match,
  ),
  inMatch("named-port-is-tcp", "a named port without a protocol is one of TCP", (match) =>
    match.destinationNamedPortSets.length > 0 ? { ...match, protocol: match.protocol ?? 6 } : match,
  ),
  inMatch("ip-version-lost", "ipVersion is ignored", (match) => without(match, "family")),
  inMatch("service-ports-lost", "a service of an egress rule is ignored", (match) => ({
    ...match,
    destinationServiceSets: NO_SETS,
  })),
];

export const STRUCTURE_DEFECTS: readonly Defect[] = [
  inActions("pass-allows", "Pass allows", (action) => (action === "pass" ? "allow" : action)),
  inActions("pass-denies", "Pass denies", (action) => (action === "pass" ? "deny" : action)),
  inActions("pass-ignored", "Pass does nothing", (action) => (action === "pass" ? "log" : action)),
  inActions("log-allows", "Log allows", (action) => (action === "log" ? "allow" : action)),
  inActions("deny-ignored", "Deny does nothing", (action) => (action === "deny" ? "log" : action)),
  inRules("last-rule-lost", "the last of several rules is left out", (rules) =>
    rules.length < 2 ? rules : rules.slice(0, -1),
  ),
  inRules("rules-reversed", "rules are in reverse order", (rules) => rules.toReversed()),
  inTiers("tier-always-denies", "a tier's defaultAction Pass is taken for Deny", (tiers) =>
    tiers.map((tier) => ({ ...tier, defaultAction: "deny" })),
  ),
  inTiers("tier-always-passes", "a tier's defaultAction Deny is taken for Pass", (tiers) =>
    tiers.map((tier) => ({ ...tier, defaultAction: "pass" })),
  ),
  inTiers("tiers-reversed", "tiers are in reverse order", (tiers) => tiers.toReversed()),
  inTiers("last-tier-lost", "the last of several tiers is left out", (tiers) =>
    tiers.length < 2 ? tiers : tiers.slice(0, -1),
  ),
  inTiers("policies-reversed", "the policies of a tier are in reverse order", (tiers) =>
    tiers.map((tier) => ({ ...tier, ingress: tier.ingress.toReversed(), egress: tier.egress.toReversed() })),
  ),
  inTiers("last-policy-lost", "the last of several policies of a tier is left out", (tiers) =>
    tiers.map((tier) => ({ ...tier, ingress: tier.ingress.length < 2 ? tier.ingress : tier.ingress.slice(0, -1) })),
  ),
  inTiers("missing-tier-first", "a tier nobody has defined comes before the others", (tiers) => [
    ...tiers.filter(({ name }) => name === MISSING_TIER),
    ...tiers.filter(({ name }) => name !== MISSING_TIER),
  ]),
  inTiers("missing-tier-passes", "a tier nobody has defined ends with Pass", (tiers) =>
    tiers.map((tier) => (tier.name === MISSING_TIER ? { ...tier, defaultAction: "pass" } : tier)),
  ),
  inTiers("ties-reversed", "policies of one name are in the order of their kinds backwards", (tiers) =>
    tiers.map((tier) => ({ ...tier, ingress: tiesReversed(tier.ingress), egress: tiesReversed(tier.egress) })),
  ),
  inTiers("directions-swapped", "policies apply in the other direction", (tiers) =>
    tiers.map((tier) => ({ ...tier, ingress: tier.egress, egress: tier.ingress })),
  ),
  inTiers("egress-lost", "egress policies do not apply", (tiers) => tiers.map((tier) => ({ ...tier, egress: [] }))),
  inTiers("policy-in-both-directions", "a tier applies to egress when it applies to ingress", (tiers) =>
    tiers.map((tier) => ({ ...tier, egress: tier.egress.length > 0 ? tier.egress : tier.ingress })),
  ),
  inWorkloads("profiles-lost", "profiles do not apply", (endpoint) => ({ ...endpoint, profiles: [] })),
  inWorkloads("source-check-too-wide", "a pod may send from any address", (endpoint) => ({
    ...endpoint,
    addresses: [...endpoint.addresses, "0.0.0.0/1", "fd00::/8"],
  })),
  inWorkloads("second-address-lost", "only the first address of a pod counts as its own", (endpoint) => ({
    ...endpoint,
    addresses: endpoint.addresses.slice(0, 1),
  })),
];

export const STATE_DEFECTS: readonly Defect[] = [
  inMembers("stale-set-member", "members that left a set stay in it", (message) =>
    message.kind === "ip-set-delta" ? { ...message, removed: [] } : message,
  ),
  inMembers("new-set-member-lost", "members that join a set do not get in", (message) =>
    message.kind === "ip-set-delta" ? { ...message, added: [] } : message,
  ),
  inMembers("set-member-lost", "the last member of a new set is left out", (message) =>
    message.kind === "ip-set-update" ? { ...message, members: message.members.slice(0, -1) } : message,
  ),
  inMembers("ipv6-members-lost", "sets have no IPv6 members", (message) =>
    message.kind === "ip-set-update"
      ? { ...message, members: message.members.filter((member) => !member.includes(":") || member.includes(",")) }
      : message,
  ),
  inMembers("named-port-off-by-one", "named ports are one too high", (message) => {
    if (message.kind !== "ip-set-update" || message.type !== "ip-port") return message;
    const members = message.members.map((member) => member.replace(/\d+$/, (port) => String(Number(port) + 1)));
    return { ...message, members };
  }),
  inMembers("named-port-protocol-lost", "named ports are TCP's, whatever they are", (message) => {
    if (message.kind !== "ip-set-update" || message.type !== "ip-port") return message;
    const members = message.members.map((member) => member.replace(/,\w+:/, ",tcp:"));
    return { ...message, members: [...new Set(members)] };
  }),
  inMembers("wider-net", "prefixes in sets are one bit too wide", (message) => {
    if (message.kind !== "ip-set-update" || message.type !== "net") return message;
    const members = message.members.map((member) =>
      member.replace(/\/(\d+)$/, (_, length: string) => `/${Math.max(Number(length) - 1, 0)}`),
    );
    return { ...message, members: [...new Set(members)] };
  }),
  lost("removed-policy-stays", "a policy that is gone stays", "policy-remove"),
  lost("removed-pod-stays", "a pod that is gone stays", "workload-endpoint-remove"),
  lost("removed-set-stays", "a set nobody needs stays", "ip-set-remove"),
  lost("profile-never-sent", "profiles are not sent", "profile-update"),
  inConfig("to-host-always-open", "DefaultEndpointToHostAction is Accept, whatever it is", {
    defaultEndpointToHostAction: "Accept",
  }),
  inConfig("to-host-always-closed", "DefaultEndpointToHostAction is Drop, whatever it is", {
    defaultEndpointToHostAction: "Drop",
  }),
  inConfig("invalid-check-off", "packets of no connection are let through, whatever is configured", {
    disableConntrackInvalidCheck: "true",
  }),
  inConfig("ipip-from-pods", "pods may send IPIP packets, whatever is configured", {
    allowIPIPPacketsFromWorkloads: "true",
  }),
  inConfig("vxlan-from-pods", "pods may send VXLAN packets, whatever is configured", {
    allowVXLANPacketsFromWorkloads: "true",
  }),
];

type Host = Of<"host-endpoint-update">["endpoint"];

const inHosts = (name: string, about: string, change: (endpoint: Host) => Host): Defect =>
  defect(name, about, (message) =>
    message.kind === "host-endpoint-update" ? [{ ...message, endpoint: change(message.endpoint) }] : [message],
  );

const inPolicies = (name: string, about: string, change: (policy: ActivePolicy) => ActivePolicy): Defect =>
  defect(name, about, (message) =>
    message.kind === "policy-update" ? [{ ...message, policy: change(message.policy) }] : [message],
  );

export const HOST_DEFECTS: readonly Defect[] = [
  lost("hosts-ignored", "host endpoints are ignored", "host-endpoint-update"),
  inHosts("host-applies-to-all", "an endpoint of one interface applies to all", (endpoint) => ({
    ...endpoint,
    interfaceName: "*",
  })),
  inHosts("host-address-ignored", "endpoints without an interface's name find none", (endpoint) => ({
    ...endpoint,
    expectedAddresses: [],
  })),
  inHosts("forward-lost", "applyOnForward policies are ignored", (endpoint) => ({ ...endpoint, forwardTiers: [] })),
  inHosts("forward-is-all", "all policies of a host apply to what it forwards", (endpoint) => ({
    ...endpoint,
    forwardTiers: endpoint.tiers,
  })),
  inHosts("forward-egress-lost", "what leaves through a host endpoint is not asked for applyOnForward", (endpoint) => ({
    ...endpoint,
    forwardTiers: endpoint.forwardTiers.map((tier) => ({ ...tier, egress: [] })),
  })),
  inHosts("untracked-egress-lost", "doNotTrack policies do not apply to what the node sends", (endpoint) => ({
    ...endpoint,
    untrackedTiers: endpoint.untrackedTiers.map((tier) => ({ ...tier, egress: [] })),
  })),
  inHosts(
    "address-found-with-wrong-name",
    "an endpoint of another interface finds this one by its address",
    (endpoint) => (endpoint.expectedAddresses.length > 0 ? { ...endpoint, interfaceName: "" } : endpoint),
  ),
  inHosts("pre-dnat-lost", "preDNAT policies are ignored", (endpoint) => ({ ...endpoint, preDnatTiers: [] })),
  inHosts("untracked-lost", "doNotTrack policies are ignored", (endpoint) => ({ ...endpoint, untrackedTiers: [] })),
  inHosts("untracked-also-normal", "doNotTrack policies apply again as normal ones", (endpoint) => ({
    ...endpoint,
    tiers: [...endpoint.untrackedTiers, ...endpoint.tiers],
  })),
  inHosts("host-profiles-lost", "profiles of hosts are ignored", (endpoint) => ({ ...endpoint, profiles: [] })),
  inHosts("host-directions-swapped", "a host's policies apply in the other direction", (endpoint) => ({
    ...endpoint,
    tiers: endpoint.tiers.map((tier) => ({ ...tier, ingress: tier.egress, egress: tier.ingress })),
  })),
  inPolicies("untracked-allow-normal", "an untracked Allow does not spare the packet normal policy", (policy) => ({
    ...policy,
    untracked: false,
  })),
  inPolicies("pre-dnat-allow-normal", "a preDNAT Allow does not spare the packet normal policy", (policy) => ({
    ...policy,
    preDnat: false,
  })),
  inConfig("failsafes-lost", "no port is a failsafe", {
    failsafeInboundHostPorts: "none",
    failsafeOutboundHostPorts: "none",
  }),
  inConfig("failsafe-too-many", "HTTP is a failsafe", { failsafeInboundHostPorts: "tcp:22,tcp:80" }),
  defect("failsafe-nets-lost", "a failsafe for one network is one for all", (message) => {
    if (message.kind !== "config-update") return [message];
    const config = Object.entries(message.config).map(([name, value]) => [
      name,
      name.startsWith("failsafe") ? value.replaceAll(/(\w+):[^,]*:(\d+)/g, "$1:$2") : value,
    ]);
    return [{ ...message, config: Object.fromEntries(config) as Record<string, string> }];
  }),
];
