/**
 * A converted policy → facts: selectors parsed and combined, protocols and ports as numbers.
 *
 * Fail closed. A rule that cannot be understood must not open anything: an Allow (or a Log) is left out, a Deny or a Pass
 * becomes a rule that denies everything. A selector that cannot be understood leaves the rest of what the policy says about
 * its subject (for a NetworkPolicy: its namespace) and a deny for all of it; when nothing is left the policy has no subject.
 */
import type { Rule } from "@calico-ts/dataplane-api";
import type { Family, PortRange } from "@calico-ts/net";
import { formatPrefix, parsePrefix, protocolNumber, singlePort } from "@calico-ts/net";
import type { ConvertedPolicy, EntityRule, PolicyRule } from "@calico-ts/model";
import type { EntitySelectors, Selector } from "@calico-ts/selector";
import { entitySelector, globalPolicySelector, networkPolicySelector, parseSelector } from "@calico-ts/selector";
import { CalicoError, errorText } from "@calico-ts/std";
import type { EntityFacts, PolicyFacts, RuleFacts } from "./facts.ts";
import { NO_ENTITY } from "./facts.ts";

export interface PolicyOutcome {
  /** undefined: the policy applies to nothing. */
  readonly facts: PolicyFacts | undefined;
  readonly problems: readonly string[];
}

export function policyFacts(policy: ConvertedPolicy): PolicyOutcome {
  const { spec, kind, name } = policy;
  const problems: string[] = [...policy.problems];
  const subject = subjectOf(policy, problems);
  if (subject === undefined) return { facts: undefined, problems };
  const rules = (list: readonly PolicyRule[], direction: string): RuleFacts[] =>
    subject.broken ? [denyAll(0)] : list.flatMap((rule) => closedRule(rule, direction, policy.namespace, problems));
  return {
    problems,
    facts: {
      id: { kind, namespace: policy.namespace, name },
      tier: spec.tier,
      ...(spec.order === undefined ? {} : { order: spec.order }),
      selector: subject.selector,
      ingress: rules(spec.ingress, "ingress"),
      egress: rules(spec.egress, "egress"),
      appliesIngress: spec.types.includes("Ingress"),
      appliesEgress: spec.types.includes("Egress"),
      untracked: spec.doNotTrack,
      preDnat: spec.preDNAT,
      applyOnForward: spec.applyOnForward,
      staged: policy.staged,
      neededEverywhere: spec.assumeNeededOnEveryNode,
    },
  };
}

interface Subject {
  readonly selector: Selector;
  readonly broken: boolean;
}

function subjectOf(policy: ConvertedPolicy, problems: string[]): Subject | undefined {
  const { selector, namespaceSelector, serviceAccountSelector } = policy.spec;
  const parts = {
    selector,
    ...(namespaceSelector === undefined ? {} : { namespaceSelector }),
    ...(serviceAccountSelector === undefined ? {} : { serviceAccountSelector }),
  };
  const combine = (of: typeof parts): Selector =>
    policy.namespace === "" ? globalPolicySelector(of) : networkPolicySelector(policy.namespace, of);
  try {
    return { selector: combine(parts), broken: false };
  } catch (error) {
    const readable = Object.fromEntries(Object.entries(parts).filter(([, text]) => isReadable(text)));
    const some = policy.namespace !== "" || Object.values(readable).some((text) => text !== "");
    const what = some ? "everything the rest selects is denied" : "the policy applies to nothing";
    problems.push(`a selector is not understood, ${what}: ${errorText(error)}`);
    return some ? { selector: combine({ selector: "", ...readable }), broken: true } : undefined;
  }
}

function isReadable(selector: string): boolean {
  try {
    parseSelector(selector);
    return true;
  } catch {
    return false;
  }
}

function closedRule(rule: PolicyRule, direction: string, namespace: string, problems: string[]): RuleFacts[] {
  try {
    return [translateRule(rule, namespace)];
  } catch (error) {
    const dropped = rule.action === "Allow" || rule.action === "Log";
    const what = dropped ? "is left out" : "denies everything instead";
    problems.push(`${direction} rule ${rule.index} ${what}: ${errorText(error)}`);
    return dropped ? [] : [denyAll(rule.index)];
  }
}

export const denyAll = (index: number): RuleFacts => ({
  index,
  action: "deny",
  source: NO_ENTITY,
  destination: NO_ENTITY,
});

const ACTIONS: Readonly<Record<string, Rule["action"]>> = { Allow: "allow", Deny: "deny", Log: "log", Pass: "pass" };

/** `namespace` is the policy's, "" for one of the whole cluster. @throws CalicoError BAD_INPUT */
export function translateRule(rule: PolicyRule, namespace: string): RuleFacts {
  const action = ACTIONS[rule.action];
  if (action === undefined) throw new CalicoError("BAD_INPUT", `unknown action "${rule.action}"`);
  const protocol = protocolOf(rule.protocol);
  const notProtocol = protocolOf(rule.notProtocol);
  const family = familyOf(rule.ipVersion);
  const icmp = icmpOf(rule.icmp);
  const notIcmp = icmpOf(rule.notICMP);
  return {
    index: rule.index,
    action,
    ...(family === undefined ? {} : { family }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(notProtocol === undefined ? {} : { notProtocol }),
    ...(icmp === undefined ? {} : { icmp }),
    ...(notIcmp === undefined ? {} : { notIcmp }),
    source: translateEntity(rule.source, namespace),
    destination: translateEntity(rule.destination, namespace),
  };
}

function familyOf(version: number | undefined): Family | undefined {
  if (version === undefined || version === 4 || version === 6) return version;
  throw new CalicoError("BAD_INPUT", `ipVersion ${version} is neither 4 nor 6`);
}

function protocolOf(value: string | number | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = protocolNumber(value);
  if (number === undefined) throw new CalicoError("BAD_INPUT", `unknown protocol "${value}"`);
  return number;
}

function icmpOf(value: PolicyRule["icmp"]): RuleFacts["icmp"] {
  if (value?.type === undefined) {
    if (value?.code !== undefined) throw new CalicoError("BAD_INPUT", "an ICMP code needs an ICMP type");
    return undefined;
  }
  return value.code === undefined ? { type: value.type } : { type: value.type, code: value.code };
}

function translateEntity(entity: EntityRule | undefined, namespace: string): EntityFacts {
  if (entity === undefined) return NO_ENTITY;
  const selector = sharedSelector(entity, namespace);
  const notSelector = given(entity.notSelector) ? parseSelector(entity.notSelector) : undefined;
  const ports = splitPorts(entity.ports ?? []);
  const notPorts = splitPorts(entity.notPorts ?? []);
  const service = serviceOf(entity, namespace);
  return {
    nets: (entity.nets ?? []).map(prefixText),
    notNets: (entity.notNets ?? []).map(prefixText),
    ...(selector === undefined ? {} : { selector }),
    ...(notSelector === undefined ? {} : { notSelector }),
    ports: ports.ranges,
    notPorts: notPorts.ranges,
    namedPorts: ports.names,
    notNamedPorts: notPorts.names,
    ...(service === undefined ? {} : { service }),
  };
}

/**
 * Selectors by what they were read from: rules say the same again and again, and one selector is parsed and hashed once. Forgotten as a
 * whole when there are too many, so that what is gone does not stay for good.
 */
const SELECTORS = new Map<string, Selector | undefined>();
const MOST_SELECTORS = 10_000;

function sharedSelector(entity: EntityRule, namespace: string): Selector | undefined {
  const { namespaceSelector = "", notSelector = "", selector = "", serviceAccounts } = entity;
  if (serviceAccounts !== undefined) return entitySelector(selectorsOf(entity), namespace);
  const key = [namespace, selector, namespaceSelector, notSelector === "" ? "" : "not"].join("\n");
  const known = SELECTORS.get(key);
  if (known !== undefined || SELECTORS.has(key)) return known;
  if (SELECTORS.size >= MOST_SELECTORS) SELECTORS.clear();
  const made = entitySelector(selectorsOf(entity), namespace);
  SELECTORS.set(key, made);
  return made;
}

function selectorsOf(entity: EntityRule): EntitySelectors {
  const { selector, notSelector, namespaceSelector, serviceAccounts: accounts } = entity;
  return {
    ...(selector === undefined ? {} : { selector }),
    ...(notSelector === undefined ? {} : { notSelector }),
    ...(namespaceSelector === undefined ? {} : { namespaceSelector }),
    ...(accounts === undefined
      ? {}
      : {
          serviceAccounts: {
            ...(accounts.names === undefined ? {} : { names: accounts.names }),
            ...(accounts.selector === undefined ? {} : { selector: accounts.selector }),
          },
        }),
  };
}

function serviceOf(entity: EntityRule, namespace: string): string | undefined {
  if (entity.services === undefined) return undefined;
  const own = entity.services.namespace ?? namespace;
  const name = entity.services.name ?? "";
  if (name === "" || own === "") throw new CalicoError("BAD_INPUT", "a service match needs a name and a namespace");
  return `${own}/${name}`;
}

interface SplitPorts {
  readonly ranges: PortRange[];
  readonly names: string[];
}

function splitPorts(ports: readonly (string | number)[]): SplitPorts {
  const split: SplitPorts = { ranges: [], names: [] };
  for (const port of ports) {
    const range = portRange(String(port));
    if (range === undefined) split.names.push(String(port));
    else split.ranges.push(range);
  }
  return split;
}

/** A number or `first:last`; undefined for a name. */
function portRange(text: string): PortRange | undefined {
  const match = /^(\d+)(?::(\d+))?$/.exec(text);
  if (match === null) {
    if (text === "" || text.includes(":"))
      throw new CalicoError("BAD_INPUT", `"${text}" is neither a port nor a range`);
    return undefined;
  }
  const range =
    match[2] === undefined ? singlePort(Number(match[1])) : { first: Number(match[1]), last: Number(match[2]) };
  if (range.last > 65_535 || range.first > range.last) {
    throw new CalicoError("BAD_INPUT", `"${text}" is not a range of ports 0 to 65535`);
  }
  return range;
}

const prefixText = (text: string): string => formatPrefix(parsePrefix(text, "mask"));
const given = (text: string | undefined): text is string => text !== undefined && text !== "";
