/** Rules about policy rules: protocols, ports, families, services, HTTP. */
import { PROTOCOL_NUMBERS, protocolNumber, tryParsePrefix } from "@calico-ts/net";
import type { FieldError } from "@calico-ts/schema";
import { duplicate, forbidden, invalid, required } from "@calico-ts/schema";
import type { EntityRule, Rule } from "../resources/policy-rules.ts";
import {
  each,
  filled,
  given,
  netErrors,
  portErrors,
  portNumbers,
  selectorErrors,
  selectorWithoutGlobal,
  when,
} from "./fields.ts";
import { annotationErrors, isSubdomain } from "./metadata.ts";

export interface RuleContext {
  readonly direction: "ingress" | "egress";
  /** Policies of the whole cluster have no namespace of their own for a Service to be in. */
  readonly clusterWide: boolean;
}

const PORT_PROTOCOLS: readonly number[] = [PROTOCOL_NUMBERS.TCP, PROTOCOL_NUMBERS.UDP, PROTOCOL_NUMBERS.SCTP];
const ICMP_PROTOCOLS: readonly number[] = [PROTOCOL_NUMBERS.ICMP, PROTOCOL_NUMBERS.ICMPv6];

export const ruleListErrors = (rules: readonly Rule[] | undefined, path: string, context: RuleContext): FieldError[] =>
  each(rules, path, (rule, rulePath) => ruleErrors(rule, rulePath, context));

function ruleErrors(rule: Rule, path: string, context: RuleContext): FieldError[] {
  return [
    ...given(rule.protocol, (protocol) => protocolErrors(protocol, `${path}.protocol`)),
    ...given(rule.notProtocol, (protocol) => protocolErrors(protocol, `${path}.notProtocol`)),
    ...when(rule.notICMP !== undefined && !isOneOf(rule.protocol, ICMP_PROTOCOLS), () =>
      invalid(`${path}.notICMP`, "object", "a notICMP match needs protocol ICMP or ICMPv6"),
    ),
    ...given(rule.source, (entity) =>
      entityErrors(rule, entity, { ...context, side: "source", path: `${path}.source` }),
    ),
    ...given(rule.destination, (entity) =>
      entityErrors(rule, entity, { ...context, side: "destination", path: `${path}.destination` }),
    ),
    ...familyErrors(rule, path),
    ...given(rule.http, (http) => httpErrors(http, `${path}.http`, context)),
    ...given(rule.metadata?.annotations, (annotations) =>
      annotationErrors(annotations, `${path}.metadata.annotations`),
    ),
  ];
}

const protocolErrors = (protocol: number | string, path: string): FieldError[] =>
  when(protocolNumber(protocol) === undefined, () =>
    invalid(path, protocol, "not a protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite, or a number from 1 to 255"),
  );

function isOneOf(protocol: number | string | undefined, numbers: readonly number[]): boolean {
  const number = protocol === undefined ? undefined : protocolNumber(protocol);
  return number !== undefined && numbers.includes(number);
}

interface EntityContext extends RuleContext {
  readonly side: "source" | "destination";
  readonly path: string;
}

function entityErrors(rule: Rule, entity: EntityRule, context: EntityContext): FieldError[] {
  const { path } = context;
  return [
    ...each(entity.nets, `${path}.nets`, (net, at) => netErrors(net, at)),
    ...each(entity.notNets, `${path}.notNets`, notNetErrors),
    ...selectorWithoutGlobal(entity.selector, `${path}.selector`),
    ...selectorWithoutGlobal(entity.notSelector, `${path}.notSelector`),
    ...namespaceSelectorErrors(entity.namespaceSelector, `${path}.namespaceSelector`),
    ...selectorWithoutGlobal(entity.serviceAccounts?.selector, `${path}.serviceAccounts.selector`),
    ...serviceErrors(entity, context),
    ...entityPortErrors(rule, entity, path),
  ];
}

function notNetErrors(net: string, path: string): FieldError[] {
  const everything = tryParsePrefix(net)?.length === 0;
  return everything ? [invalid(path, net, "excludes every address: the rule could never match")] : netErrors(net, path);
}

/** `global()` stands alone: "in no namespace" cannot be combined with labels of namespaces. */
function namespaceSelectorErrors(text: string | undefined, path: string): FieldError[] {
  if (text === undefined || !text.includes("global(")) return selectorErrors(text, path);
  return when(!/^[ \t]*global\([ \t]*\)[ \t]*$/.test(text), () =>
    invalid(path, text, "global() cannot be combined with anything else"),
  );
}

function serviceErrors(entity: EntityRule, context: EntityContext): FieldError[] {
  const { services } = entity;
  if (services === undefined) return [];
  const { path, side, direction, clusterWide } = context;
  const wrongSide = (direction === "egress") === (side === "source");
  const nameErrors = (name: string | undefined, field: string, of: string): FieldError[] =>
    filled(name, (text) =>
      when(!isSubdomain(text), () => invalid(`${path}.services.${field}`, text, `not a ${of}'s name`)),
    );
  return [
    ...nameErrors(services.name, "name", "Service"),
    ...nameErrors(services.namespace, "namespace", "namespace"),
    ...when(wrongSide, () =>
      forbidden(`${path}.services`, "a Service is the destination of egress rules and the source of ingress rules"),
    ),
    ...when(clusterWide && (services.namespace ?? "") === "", () =>
      required(
        `${path}.services.namespace`,
        "a policy of the whole cluster must say in which namespace the Service is",
      ),
    ),
  ];
}

function entityPortErrors(rule: Rule, entity: EntityRule, path: string): FieldError[] {
  const all = [...(entity.ports ?? []), ...(entity.notPorts ?? [])];
  const numeric = all.find((port) => portNumbers(port) !== undefined);
  const named = all.find((port) => portNumbers(port) === undefined);
  const bounds = { lowest: 1, named: true } as const;
  const hasProtocol = rule.protocol !== undefined;
  const needsProtocol = hasProtocol ? all.length > 0 : numeric !== undefined;
  return [
    ...each(entity.ports, `${path}.ports`, (port, at) => portErrors(port, at, bounds)),
    ...each(entity.notPorts, `${path}.notPorts`, (port, at) => portErrors(port, at, bounds)),
    ...when(needsProtocol && !isOneOf(rule.protocol, PORT_PROTOCOLS), () =>
      invalid(`${path}.ports`, numeric ?? named, "ports go with protocol TCP, UDP or SCTP: set protocol"),
    ),
  ];
}

/** A packet has one family, so a rule that names prefixes of both, or another than its ipVersion, is a mistake. */
function familyErrors(rule: Rule, path: string): FieldError[] {
  const nets = [rule.source, rule.destination].flatMap((entity) => [
    ...(entity?.nets ?? []),
    ...(entity?.notNets ?? []),
  ]);
  const families = new Set(nets.flatMap((net) => tryParsePrefix(net)?.family ?? []));
  if (families.size > 1) return [invalid(path, nets.join(", "), "a rule cannot mix IPv4 and IPv6 prefixes")];
  const [family] = families;
  const wrong = family !== undefined && rule.ipVersion !== undefined && rule.ipVersion !== family;
  return when(wrong, () => invalid(`${path}.ipVersion`, rule.ipVersion, `the prefixes of the rule are IPv${family}`));
}

function httpErrors(http: NonNullable<Rule["http"]>, path: string, context: RuleContext): FieldError[] {
  const seen = new Set<string>();
  return [
    ...when(context.direction === "egress", () => forbidden(path, "an http match goes with ingress rules only")),
    ...each(http.methods, `${path}.methods`, (method, at) => {
      const again = seen.has(method);
      seen.add(method);
      return when(again, () => duplicate(at, method));
    }),
    ...each(http.paths, `${path}.paths`, httpPathErrors),
  ];
}

function httpPathErrors(entry: { readonly exact?: string; readonly prefix?: string }, path: string): FieldError[] {
  const texts = [entry.exact, entry.prefix].filter((text) => text !== undefined && text !== "");
  const [text] = texts;
  if (texts.length !== 1 || text === undefined) return [invalid(path, "object", "a path has either exact or prefix")];
  return when(!text.startsWith("/") || /[?# ]/.test(text), () =>
    invalid(path, text, "a path starts with / and has no ?, # or blank"),
  );
}
