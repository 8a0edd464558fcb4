/**
 * What the messages of one node say about a packet: tiers, policies, profiles and sets as a dataplane receives them, matched
 * one by one. It stands between the oracle and the rendered table: a packet they disagree on is the graph's fault or the
 * renderer's, and this says whose.
 */
import type { EndpointTier, PolicyId, Rule } from "@calico-ts/dataplane-api";
import { policyIdText } from "@calico-ts/dataplane-api";
import type { IpAddress } from "@calico-ts/net";
import { containsAddress, formatAddress, parsePrefix, protocolName } from "@calico-ts/net";
import type { CheckingSink } from "./checking-sink.ts";

export interface MessagePacket {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
}

/** `pod` is `namespace/name`; undefined: the node does not know the endpoint. */
export function evaluateMessages(
  sink: CheckingSink,
  pod: string,
  direction: "ingress" | "egress",
  packet: MessagePacket,
): boolean | undefined {
  const endpoint = sink.workloads.get(`k8s/${pod}/eth0`)?.endpoint;
  if (endpoint === undefined) return undefined;
  for (const tier of endpoint.tiers) {
    const outcome = evaluateTier(sink, tier, direction, packet);
    if (outcome !== "pass") return outcome === "allow";
  }
  for (const name of endpoint.profiles) {
    const outcome = evaluateRules(sink, sink.profiles.get(name)?.profile[direction] ?? [], packet);
    if (outcome === "allow" || outcome === "deny") return outcome === "allow";
  }
  return false;
}

function evaluateTier(
  sink: CheckingSink,
  tier: EndpointTier,
  direction: "ingress" | "egress",
  packet: MessagePacket,
): "allow" | "deny" | "pass" {
  const ids: readonly PolicyId[] = tier[direction];
  if (ids.length === 0) return "pass";
  for (const id of ids) {
    const rules = sink.policies.get(policyIdText(id))?.policy[direction] ?? [];
    const outcome = evaluateRules(sink, rules, packet);
    if (outcome !== undefined) return outcome;
  }
  return tier.defaultAction;
}

function evaluateRules(
  sink: CheckingSink,
  rules: readonly Rule[],
  packet: MessagePacket,
): "allow" | "deny" | "pass" | undefined {
  for (const rule of rules) {
    if (rule.action !== "log" && ruleMatches(sink, rule, packet)) return rule.action;
  }
  return undefined;
}

function ruleMatches(sink: CheckingSink, { match }: Rule, packet: MessagePacket): boolean {
  const { source, destination, protocol, sourcePort, destinationPort, icmp } = packet;
  const { family } = source;
  const inSet = (id: string, member: IpAddress): boolean =>
    [...(sink.sets.get(id)?.members ?? [])].some((text) => containsAddress(parsePrefix(text), member));
  const onPort = (id: string, address: IpAddress, port: number | undefined): boolean =>
    port !== undefined &&
    (sink.sets.get(id)?.members.has(`${formatAddress(address)},${protocolName(protocol).toLowerCase()}:${port}`) ??
      false);
  const inNets = (texts: readonly string[], address: IpAddress, not: boolean): boolean => {
    const own = texts.map((text) => parsePrefix(text)).filter((prefix) => prefix.family === family);
    if (texts.length > 0 && own.length === 0) return false;
    return texts.length === 0 || own.some((prefix) => containsAddress(prefix, address)) !== not;
  };
  const icmpIs = (wanted: { readonly type: number; readonly code?: number }): boolean =>
    icmp !== undefined && icmp.type === wanted.type && (wanted.code === undefined || icmp.code === wanted.code);
  const inRanges = (ranges: Rule["match"]["sourcePorts"], port: number | undefined): boolean =>
    port !== undefined && ranges.some(({ first, last }) => port >= first && port <= last);
  const ports = (
    ranges: Rule["match"]["sourcePorts"],
    named: readonly string[],
    [address, port]: readonly [IpAddress, number | undefined],
  ): boolean => inRanges(ranges, port) || named.some((id) => onPort(id, address, port));

  if (match.family !== undefined && match.family !== family) return false;
  if (match.protocol !== undefined && match.protocol !== protocol) return false;
  if (match.notProtocol === protocol) return false;
  if (match.icmp !== undefined && !icmpIs(match.icmp)) return false;
  if (match.notIcmp !== undefined && (icmp === undefined || icmpIs(match.notIcmp))) return false;
  if (!inNets(match.sourceNets, source, false) || !inNets(match.notSourceNets, source, true)) return false;
  if (!inNets(match.destinationNets, destination, false) || !inNets(match.notDestinationNets, destination, true))
    return false;
  if (!match.sourceSets.every((id) => inSet(id, source)) || match.notSourceSets.some((id) => inSet(id, source)))
    return false;
  if (!match.destinationSets.every((id) => inSet(id, destination))) return false;
  if (match.notDestinationSets.some((id) => inSet(id, destination))) return false;
  if (!match.destinationServiceSets.every((id) => onPort(id, destination, destinationPort))) return false;
  const sides = [
    [
      match.sourcePorts,
      match.sourceNamedPortSets,
      match.notSourcePorts,
      match.notSourceNamedPortSets,
      source,
      sourcePort,
    ],
    [
      match.destinationPorts,
      match.destinationNamedPortSets,
      match.notDestinationPorts,
      match.notDestinationNamedPortSets,
      destination,
      destinationPort,
    ],
  ] as const;
  return sides.every(([ranges, named, notRanges, notNamed, address, port]) => {
    if (ranges.length + named.length > 0 && !ports(ranges, named, [address, port])) return false;
    return !ports(notRanges, notNamed, [address, port]);
  });
}
