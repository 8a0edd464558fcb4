/** v3 policies and profiles, read as inventory §1.3 and §10.2 say. */
import type { PolicyId } from "@calico-ts/dataplane-api";
import type { EntityRule, GlobalNetworkPolicy, NetworkPolicy, Profile, Rule } from "@calico-ts/model";
import { containsAddress, parsePrefix, protocolNumber, tryParseAddress } from "@calico-ts/net";
import type { Prefix } from "@calico-ts/net";
import { CalicoError, errorText } from "@calico-ts/std";
import type { SideName } from "./criteria.ts";
import {
  familyCriterion,
  icmpCriterion,
  labelsIn,
  portCriterion,
  protocolCriterion,
  sideCriterion,
} from "./criteria.ts";
import type { EntityTest, Meaning } from "./label-terms.ts";
import { hasLabel, PLAIN, selectorDemand, selectorTest } from "./label-terms.ts";
import type {
  Criterion,
  Demand,
  Needs,
  OraclePolicy,
  OracleRule,
  PacketTest,
  SelectorNumbers,
} from "./oracle-policy.ts";
import { ruleOf, unreadable } from "./oracle-policy.ts";
import type { PacketView, Side } from "./packet-view.ts";
import type { Entity, World } from "./world.ts";

const inNamespace = hasLabel("projectcalico.org/namespace");
const hasAccount = hasLabel("projectcalico.org/serviceaccount");

export interface RuleContext {
  readonly world: World;
  readonly selectors: SelectorNumbers;
  /** The policy's namespace, "" for one of the whole cluster. */
  readonly namespace: string;
}

type CalicoPolicy = NetworkPolicy | GlobalNetworkPolicy;

/** undefined: it applies to nothing. */
export function calicoPolicy(policy: CalicoPolicy, base: Omit<RuleContext, "namespace">): OraclePolicy | undefined {
  const { kind, metadata } = policy;
  const spec = specOf(policy);
  const namespace = kind === "NetworkPolicy" ? (metadata.namespace ?? "") : "";
  const subject = subjectTest(policy, namespace);
  if (subject === undefined) return undefined;
  const context = { ...base, namespace };
  const given = listOf(spec.types, BOTH);
  const hasIngress = listOf(spec.ingress, UNREADABLE).length > 0;
  const hasEgress = listOf(spec.egress, UNREADABLE).length > 0;
  const types = given.length > 0 ? given : hasEgress ? (hasIngress ? ["Ingress", "Egress"] : ["Egress"]) : ["Ingress"];
  const rules = (list: readonly Rule[] | undefined): OracleRule[] =>
    subject.broken
      ? [unreadable("deny", 0, "a selector of the policy cannot be read, so it denies everything")]
      : listOf(list, UNREADABLE).map((rule, index) => closed(rule, index, context));
  const global: GlobalNetworkPolicy["spec"] = kind === "GlobalNetworkPolicy" ? spec : {};
  const id: PolicyId = { kind, namespace, name: metadata.name };
  return {
    id,
    tier: spec.tier ?? "default",
    order: spec.order ?? Number.POSITIVE_INFINITY,
    applies: subject.test,
    subject: subjectText(policy, namespace),
    ingress: types.includes("Ingress") ? rules(spec.ingress) : undefined,
    egress: types.includes("Egress") ? rules(spec.egress) : undefined,
    use: global.doNotTrack === true ? "untracked" : global.preDNAT === true ? "pre-dnat" : "normal",
    onForward: global.applyOnForward === true,
  };
}

/**
 * Selector, namespace and account parts, all of which must hold. In a policy of the whole cluster `all()` means more than
 * "everything" as soon as a later part restricts to namespaces or accounts: then it means "has one".
 */
function subjectTest(policy: CalicoPolicy, namespace: string): { test: EntityTest; broken: boolean } | undefined {
  const spec = specOf(policy);
  const namespaceSelector = policy.kind === "GlobalNetworkPolicy" ? (spec.namespaceSelector ?? "") : "";
  const accountSelector = spec.serviceAccountSelector ?? "";
  const clusterWide = policy.kind === "GlobalNetworkPolicy";
  const later = namespaceSelector !== "" ? inNamespace : accountSelector !== "" ? hasAccount : undefined;
  const all = clusterWide ? later : undefined;
  const parts: [string, Meaning][] = [
    [spec.selector ?? "", all === undefined ? PLAIN : { ...PLAIN, all }],
    [namespaceSelector, { prefix: "pcns.", all: inNamespace, global: () => true }],
    [accountSelector, clusterWide ? { ...PLAIN, prefix: "pcsa.", all: hasAccount } : { ...PLAIN, prefix: "pcsa." }],
  ];
  const tests: EntityTest[] =
    policy.kind === "NetworkPolicy" ? [(entity) => entity.labels.get("projectcalico.org/namespace") === namespace] : [];
  let broken = false;
  let statements = tests.length;
  for (const [text, meaning] of parts) {
    if (text === "") continue;
    try {
      tests.push(selectorTest(text, meaning));
      statements++;
    } catch {
      broken = true;
    }
  }
  // Nothing readable is left that says to whom it applies.
  if (broken && statements === 0) return undefined;
  return { test: (entity) => tests.every((test) => test(entity)), broken };
}

/** Stored objects may hold anything: one without a spec says nothing, and so isolates what it selects. */
const specOf = ({ spec }: CalicoPolicy): GlobalNetworkPolicy["spec"] =>
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- see above
  spec ?? {};

/** `otherwise`: what stands for something that is no list. */
function listOf<T>(value: readonly T[] | undefined, otherwise: readonly T[]): readonly T[] {
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- stored objects may hold anything
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : otherwise;
}

const BOTH = ["Ingress", "Egress"] as const;
/** A rule without an action denies. */
const UNREADABLE = [{}] as unknown as readonly Rule[];

function subjectText(policy: CalicoPolicy, namespace: string): string {
  const { kind } = policy;
  const spec = specOf(policy);
  const accounts = spec.serviceAccountSelector ?? "";
  const namespaces = kind === "GlobalNetworkPolicy" ? (spec.namespaceSelector ?? "") : "";
  return [
    ...(namespace === "" ? [] : [`namespace ${namespace}`]),
    `selector ${(spec.selector ?? "") === "" ? "all()" : spec.selector}`,
    ...(namespaces === "" ? [] : [`namespaces ${namespaces}`]),
    ...(accounts === "" ? [] : [`service accounts ${accounts}`]),
  ].join(", ");
}

export function profileRules(
  profile: Profile,
  direction: "ingress" | "egress",
  base: Omit<RuleContext, "namespace">,
): OracleRule[] {
  return listOf(profile.spec[direction], UNREADABLE).map((rule, index) =>
    closed(rule, index, { ...base, namespace: "" }),
  );
}

/** A rule nobody can read must not open anything. */
function closed(rule: Rule, index: number, context: RuleContext): OracleRule {
  try {
    return readRule(rule, index, context);
  } catch (error) {
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- stored objects may hold anything
    const action = rule?.action === "Allow" ? "allow" : rule?.action === "Log" ? "log" : "deny";
    return unreadable(action, index, errorText(error));
  }
}

const ACTIONS = { Allow: "allow", Deny: "deny", Pass: "pass", Log: "log" } as const;

function readRule(rule: Rule, index: number, context: RuleContext): OracleRule {
  const action = ACTIONS[rule.action];
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- stored objects may hold anything
  if (action === undefined) throw new CalicoError("BAD_INPUT", `unknown action ${JSON.stringify(rule.action)}`);
  const criteria: Criterion[] = [];
  const { ipVersion } = rule;
  if (ipVersion !== undefined) {
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- stored objects may hold anything
    if (ipVersion !== 4 && ipVersion !== 6)
      throw new CalicoError("BAD_INPUT", `unknown ipVersion ${String(ipVersion)}`);
    criteria.push(familyCriterion(ipVersion));
  }
  const protocol = rule.protocol === undefined ? undefined : known(rule.protocol);
  if (protocol !== undefined) criteria.push(protocolCriterion(protocol, false));
  if (rule.notProtocol !== undefined) criteria.push(protocolCriterion(known(rule.notProtocol), true));
  if (rule.icmp !== undefined) criteria.push(icmpCriterion(rule.icmp, false, icmpTest(rule.icmp, false)));
  if (rule.notICMP !== undefined) criteria.push(icmpCriterion(rule.notICMP, true, icmpTest(rule.notICMP, true)));
  let needs: Needs | undefined;
  for (const side of ["source", "destination"] as const) {
    const entity = rule[side];
    if (entity === undefined) continue;
    const read = entityCriteria(entity, side, context);
    criteria.push(...read.criteria);
    needs ??= read.selector === undefined ? undefined : { side, anyOf: [read.selector] };
  }
  return ruleOf(action, index, criteria, needs);
}

function known(protocol: string | number): number {
  const number = protocolNumber(protocol);
  if (number === undefined) throw new CalicoError("BAD_INPUT", `unknown protocol ${protocol}`);
  return number;
}

function icmpTest(icmp: { readonly type?: number; readonly code?: number }, not: boolean): PacketTest {
  const { type, code } = icmp;
  if (type === undefined) {
    if (code !== undefined) throw new CalicoError("BAD_INPUT", "an ICMP code needs a type");
    return () => true;
  }
  return ({ family, protocol, icmp: seen }) => {
    if (protocol !== (family === 4 ? 1 : 58) || seen === undefined) return false;
    return (seen.type === type && (code === undefined || seen.code === code)) !== not;
  };
}

const sideOf = (packet: PacketView, side: SideName): Side => packet[side];
const portOf = (packet: PacketView, side: SideName): number | undefined =>
  side === "source" ? packet.sourcePort : packet.destinationPort;

function entityCriteria(
  entity: EntityRule,
  side: SideName,
  context: RuleContext,
): { readonly criteria: Criterion[]; readonly selector: number | undefined } {
  const { nets, notNets, notSelector = "", ports, notPorts, services } = entity;
  const criteria: Criterion[] = [];
  const about = (field: string, wanted: () => string, test: PacketTest, labels?: () => readonly string[]): void => {
    criteria.push(
      sideCriterion(`${side}.${field}`, side, { wanted, ...(labels === undefined ? {} : { labels }) }, test),
    );
  };
  const positive = entityTest(entity, context.namespace);
  if (nets !== undefined && nets.length > 0) about("nets", () => nets.join(", "), netTest(nets, side, false));
  if (notNets !== undefined && notNets.length > 0) {
    about("notNets", () => `none of ${notNets.join(", ")}`, netTest(notNets, side, true));
  }
  const selected =
    positive === undefined ? undefined : context.selectors.number(positive.key, positive.test, positive.demand);
  if (selected !== undefined) {
    const labels = (): string[] => entityLabels(entity);
    about(
      "selector",
      () => entityText(entity, context.namespace),
      (packet) => selected.selects(sideOf(packet, side)),
      labels,
    );
  }
  if (notSelector !== "") {
    const excluded = context.selectors.number(
      `plain ${notSelector}`,
      selectorTest(notSelector),
      selectorDemand(notSelector),
    );
    const labels = (): string[] => labelsIn(notSelector);
    about(
      "notSelector",
      () => `not ${notSelector}`,
      (packet) => !excluded.selects(sideOf(packet, side)),
      labels,
    );
  }
  const owner = positive?.test ?? ((): boolean => true);
  const isPort = portTest(ports, side, owner);
  const isNotPort = portTest(notPorts, side, owner);
  if (isPort !== undefined) {
    criteria.push(portCriterion(`${side}.ports`, side, () => (ports ?? []).join(", "), isPort));
  }
  if (isNotPort !== undefined) {
    const wanted = (): string => `none of ${(notPorts ?? []).join(", ")}`;
    criteria.push(portCriterion(`${side}.notPorts`, side, wanted, (packet) => !isNotPort(packet)));
  }
  if (services !== undefined) {
    const wanted = (): string =>
      `a backend of Service ${services.namespace ?? context.namespace}/${services.name ?? ""}`;
    about("services", wanted, serviceTest(services, side, context));
  }
  return { criteria, selector: selected?.number };
}

function entityText({ selector = "", namespaceSelector = "", serviceAccounts }: EntityRule, namespace: string): string {
  const names = serviceAccounts?.names ?? [];
  const accounts = serviceAccounts?.selector ?? "";
  const where =
    namespaceSelector === ""
      ? namespace === ""
        ? []
        : [`namespace ${namespace}`]
      : [`namespaces ${namespaceSelector}`];
  return [
    ...where,
    ...(selector === "" ? [] : [selector]),
    ...(names.length === 0 ? [] : [`service account ${names.join(" or ")}`]),
    ...(accounts === "" ? [] : [`service accounts ${accounts}`]),
  ].join(", ");
}

const entityLabels = ({ selector = "", namespaceSelector = "", serviceAccounts }: EntityRule): string[] => [
  ...labelsIn(selector),
  ...labelsIn(namespaceSelector, "pcns."),
  ...((serviceAccounts?.names ?? []).length === 0 ? [] : ["projectcalico.org/serviceaccount"]),
  ...labelsIn(serviceAccounts?.selector ?? "", "pcsa."),
];

/** A rule whose prefixes are all of one family is about that family, negated prefixes included. */
function netTest(texts: readonly string[], side: SideName, not: boolean): PacketTest {
  const prefixes: Prefix[] = texts.map((text) => parsePrefix(text, "mask"));
  return (packet) => {
    const own = prefixes.filter(({ family }) => family === packet.family);
    if (own.length === 0) return false;
    return own.some((prefix) => containsAddress(prefix, sideOf(packet, side).address)) !== not;
  };
}

/** What an entity rule selects by label; undefined when it does not. */
function entityTest(
  entity: EntityRule,
  namespace: string,
): { readonly key: string; readonly test: EntityTest; readonly demand: Demand | undefined } | undefined {
  const { selector = "", notSelector = "", namespaceSelector = "", serviceAccounts } = entity;
  const names = serviceAccounts?.names ?? [];
  const accountSelector = serviceAccounts?.selector ?? "";
  const byLabel = selector !== "" || notSelector !== "" || names.length > 0 || accountSelector !== "";
  const tests: EntityTest[] = [];
  if (namespaceSelector !== "") {
    tests.push(
      selectorTest(namespaceSelector, { prefix: "pcns.", all: inNamespace, global: (item) => !inNamespace(item) }),
    );
  } else if (namespace !== "" && byLabel) {
    tests.push((item) => item.labels.get("projectcalico.org/namespace") === namespace);
  }
  if (names.length > 0) {
    tests.push((item) => names.includes(item.labels.get("projectcalico.org/serviceaccount") ?? ""));
  }
  if (accountSelector !== "") tests.push(selectorTest(accountSelector, { ...PLAIN, prefix: "pcsa." }));
  if (selector !== "") tests.push(selectorTest(selector));
  if (tests.length === 0) return undefined;
  const key = JSON.stringify([
    namespaceSelector === "" ? namespace : "",
    namespaceSelector,
    names,
    accountSelector,
    selector,
  ]);
  // The narrowest first: labels of pods tell more pods apart than those of namespaces.
  const demand =
    selectorDemand(selector) ??
    (names.length > 0 ? { label: "projectcalico.org/serviceaccount", values: names } : undefined) ??
    selectorDemand(accountSelector, "pcsa.") ??
    selectorDemand(namespaceSelector, "pcns.") ??
    (namespaceSelector === "" && namespace !== ""
      ? { label: "projectcalico.org/namespace", values: [namespace] }
      : undefined);
  return { key, test: (item) => tests.every((test) => test(item)), demand };
}

/**
 * Numbers and ranges compare with the packet's port. A name is a port of the address's owner, among the owners the entity
 * selects, in the protocol the port has there.
 */
function portTest(
  ports: readonly (string | number)[] | undefined,
  side: SideName,
  owner: EntityTest,
): PacketTest | undefined {
  if (ports === undefined || ports.length === 0) return undefined;
  const names = new Set<string>();
  const ranges: [number, number][] = [];
  for (const port of ports) {
    const match = /^(\d+)(?::(\d+))?$/.exec(String(port));
    if (match === null) {
      if (String(port).includes(":") || port === "") throw new CalicoError("BAD_INPUT", `not a port: ${port}`);
      names.add(String(port));
      continue;
    }
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (last > 65_535 || first > last) throw new CalicoError("BAD_INPUT", `not a range of ports: ${port}`);
    ranges.push([first, last]);
  }
  const hasNamedPort = (item: Entity, packet: PacketView): boolean =>
    owner(item) &&
    item.ports.some(
      (port) => names.has(port.name) && port.protocol === packet.protocol && port.port === portOf(packet, side),
    );
  return (packet) => {
    const port = portOf(packet, side);
    if (port === undefined) return false;
    if (ranges.some(([first, last]) => port >= first && port <= last)) return true;
    // An owner has its ports at its addresses, not in the prefixes of a network set.
    return names.size > 0 && sideOf(packet, side).owners.some((item) => hasNamedPort(item, packet));
  };
}

function serviceTest(
  service: NonNullable<EntityRule["services"]>,
  side: SideName,
  { world, namespace }: RuleContext,
): PacketTest {
  const own = service.namespace ?? namespace;
  if ((service.name ?? "") === "" || own === "") throw new CalicoError("BAD_INPUT", "a service match needs a name");
  const slices = world.slices.filter(
    (slice) =>
      (slice.metadata.namespace ?? "") === own &&
      slice.metadata.labels?.["kubernetes.io/service-name"] === service.name &&
      slice.addressType !== "FQDN",
  );
  const backends = slices.flatMap((slice) =>
    (slice.endpoints ?? [])
      .flatMap(({ addresses }) => addresses)
      .flatMap((text) => {
        const address = tryParseAddress(text);
        return address === undefined ? [] : [{ address, ports: slice.ports ?? [] }];
      }),
  );
  return (packet) => {
    const { address } = sideOf(packet, side);
    return backends.some(
      (backend) =>
        backend.address.family === address.family &&
        backend.address.value === address.value &&
        (side === "source" ||
          backend.ports.some(
            ({ port, protocol }) =>
              port === packet.destinationPort && protocolNumber(protocol ?? "TCP") === packet.protocol,
          )),
    );
  };
}
