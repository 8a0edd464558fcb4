/** From a rule's facts to the rule a dataplane gets: selectors, named ports and services become ids of IP sets. */
import type { Rule, RuleMatch } from "@calico-ts/dataplane-api";
import { parseSelector } from "@calico-ts/selector";
import type { EntityFacts, RuleFacts } from "../intake/facts.ts";
import type { IpSetDefinition } from "../ipsets/ip-set-definition.ts";

/** Registers the use of a set and gives its id. */
export type UseSet = (definition: IpSetDefinition) => string;

const EVERYBODY = parseSelector("all()");

export function scanRule(facts: RuleFacts, use: UseSet): Rule {
  const source = scanEntity(facts.source, facts, use);
  const destination = scanEntity(facts.destination, facts, use);
  const { family, protocol, notProtocol, icmp, notIcmp } = facts;
  const given: { -readonly [K in "family" | "protocol" | "notProtocol" | "icmp" | "notIcmp"]?: RuleMatch[K] } = {};
  if (family !== undefined) given.family = family;
  if (protocol !== undefined) given.protocol = protocol;
  if (notProtocol !== undefined) given.notProtocol = notProtocol;
  if (icmp !== undefined) given.icmp = icmp;
  if (notIcmp !== undefined) given.notIcmp = notIcmp;
  const sourceService = facts.source.service;
  const destinationService = facts.destination.service;
  return {
    action: facts.action,
    index: facts.index,
    match: {
      ...given,
      sourceNets: facts.source.nets,
      notSourceNets: facts.source.notNets,
      destinationNets: facts.destination.nets,
      notDestinationNets: facts.destination.notNets,
      sourcePorts: facts.source.ports,
      notSourcePorts: facts.source.notPorts,
      destinationPorts: facts.destination.ports,
      notDestinationPorts: facts.destination.notPorts,
      // A source service stands for its backends' addresses: the port a backend answers on is not one it calls from.
      sourceSets:
        sourceService === undefined
          ? source.sets
          : [...source.sets, use({ kind: "service", service: sourceService, ports: false })],
      notSourceSets: source.notSets,
      destinationSets: destination.sets,
      notDestinationSets: destination.notSets,
      sourceNamedPortSets: source.namedPorts,
      notSourceNamedPortSets: source.notNamedPorts,
      destinationNamedPortSets: destination.namedPorts,
      notDestinationNamedPortSets: destination.notNamedPorts,
      destinationServiceSets:
        destinationService === undefined ? [] : [use({ kind: "service", service: destinationService, ports: true })],
    },
  };
}

interface ScannedEntity {
  readonly sets: readonly string[];
  readonly notSets: readonly string[];
  readonly namedPorts: readonly string[];
  readonly notNamedPorts: readonly string[];
}

function scanEntity(entity: EntityFacts, rule: RuleFacts, use: UseSet): ScannedEntity {
  const { selector, notSelector } = entity;
  // Without a protocol a name stands for whatever the endpoint's port of that name speaks.
  const protocol = rule.protocol ?? "any";
  const named = (port: string): string => use({ kind: "named-port", selector: selector ?? EVERYBODY, protocol, port });
  // The named-port sets hold only ports of selected endpoints; the selector itself is needed when nothing of that kind
  // restricts the packet, or when a numeric port is an alternative.
  const covered = entity.namedPorts.length > 0 && entity.ports.length === 0;
  return {
    sets: selector === undefined || covered ? [] : [use({ kind: "selector", selector })],
    notSets: notSelector === undefined ? [] : [use({ kind: "selector", selector: notSelector })],
    namedPorts: entity.namedPorts.map(named),
    notNamedPorts: entity.notNamedPorts.map(named),
  };
}
