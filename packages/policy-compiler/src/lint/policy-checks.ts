/** What can be said of a policy by itself: rules that cannot match, never decide, or are never looked at. */
import type { EntityRule, KubernetesNetworkPolicy, Rule } from "@calico-ts/model";
import type { Prefix } from "@calico-ts/net";
import { coversPrefixes, parsePrefix, protocolNumber, tryParsePrefix } from "@calico-ts/net";
import type { SelectorNode } from "@calico-ts/selector";
import { parseSelector } from "@calico-ts/selector";
import type { SourcedResource } from "../explain/manifest-world.ts";
import { isOf } from "../explain/manifest-world.ts";
import { clusterRule, kubernetesRule, peersCover, portsCover, rangesOf, ruleCovers } from "./rule-cover.ts";
import type { LintRuleId, Severity } from "./finding.ts";
import { alwaysHolds, neverHolds } from "./selector-truth.ts";

export interface Report {
  (rule: LintRuleId, severity: Severity, path: string, words: { readonly message: string; readonly fix: string }): void;
}

const DIRECTIONS = ["ingress", "egress"] as const;
const TYPES = { ingress: "Ingress", egress: "Egress" } as const;

const CALICO_POLICIES = [
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
] as const;

/** Policies of Calico's own kinds, staged ones too: they have the same fields. */
export function calicoSpec(item: SourcedResource) {
  const kind = CALICO_POLICIES.find((each) => each === item.kind);
  return kind !== undefined && isOf(item, kind) ? item.resource.spec : undefined;
}

const isGlobal = (
  item: SourcedResource,
): item is SourcedResource<"GlobalNetworkPolicy" | "StagedGlobalNetworkPolicy"> =>
  item.kind === "GlobalNetworkPolicy" || item.kind === "StagedGlobalNetworkPolicy";

export function checkPolicy(item: SourcedResource, report: Report): void {
  const spec = calicoSpec(item);
  if (spec !== undefined) {
    checkTypes(spec.types, spec, report);
    const namespaces = isGlobal(item) ? item.resource.spec.namespaceSelector : undefined;
    // Beside another selector, and in one for accounts or namespaces, all() means "has one" (inventory §10.2).
    const alone = (spec.serviceAccountSelector ?? "") === "" && (namespaces ?? "") === "";
    checkSelector(spec.selector, "spec.selector", { report, allIsTrue: alone || !isGlobal(item) });
    checkSelector(spec.serviceAccountSelector, "spec.serviceAccountSelector", { report, allIsTrue: !isGlobal(item) });
    checkSelector(namespaces, "spec.namespaceSelector", { report, allIsTrue: false });
    for (const direction of DIRECTIONS) checkRules(spec[direction] ?? [], `spec.${direction}`, report);
  } else if (isOf(item, "Profile")) {
    for (const direction of DIRECTIONS) checkRules(item.resource.spec[direction] ?? [], `spec.${direction}`, report);
  } else if (isOf(item, "KubernetesNetworkPolicy")) {
    checkKubernetes(item.resource, report);
  } else if (isOf(item, "ClusterNetworkPolicy")) {
    for (const direction of DIRECTIONS) {
      const rules = item.resource.spec[direction] ?? [];
      checkOrder(
        rules.map((rule) => ({ action: rule.action, value: clusterRule(rule) })),
        peersCover,
        `spec.${direction}`,
        report,
      );
    }
  }
}

function checkTypes(
  types: readonly string[] | undefined,
  spec: { readonly ingress?: readonly unknown[]; readonly egress?: readonly unknown[] },
  report: Report,
  field = "types",
): void {
  if (types === undefined || types.length === 0) return;
  for (const direction of DIRECTIONS) {
    if ((spec[direction] ?? []).length === 0 || types.includes(TYPES[direction])) continue;
    report("types-do-nothing", "warning", `spec.${direction}`, {
      message: `${direction} rules do nothing: ${field} is [${types.join(", ")}]`,
      fix: `Add ${TYPES[direction]} to ${field}, or remove the rules. With ${TYPES[direction]} the policy also denies what its ${direction} rules do not allow.`,
    });
  }
}

function checkRules(rules: readonly Rule[], path: string, report: Report): void {
  for (const [index, rule] of rules.entries()) checkRule(rule, `${path}[${index}]`, report);
  checkOrder(
    rules.map((rule) => ({ action: rule.action, value: rule })),
    ruleCovers,
    path,
    report,
  );
}

function checkRule(rule: Rule, path: string, report: Report): void {
  const protocol = rule.protocol === undefined ? undefined : protocolNumber(rule.protocol);
  if (protocol !== undefined && rule.notProtocol !== undefined && protocolNumber(rule.notProtocol) === protocol) {
    report("dead-rule", "warning", path, {
      message: `protocol and notProtocol are both ${rule.protocol}: no packet matches`,
      fix: "Remove one of the two.",
    });
  }
  for (const side of ["source", "destination"] as const) {
    const entity = rule[side];
    if (entity !== undefined) checkEntity(entity, `${path}.${side}`, report);
  }
}

function checkEntity(entity: EntityRule, path: string, report: Report): void {
  const { nets = [], notNets = [], ports = [], notPorts = [], notSelector } = entity;
  const prefixes = (texts: readonly string[]) => texts.flatMap((text) => tryParsePrefix(text, "mask") ?? []);
  if (
    nets.length > 0 &&
    notNets.length > 0 &&
    prefixes(nets).every((net) => coversPrefixes(prefixes(notNets), [net]))
  ) {
    report("dead-rule", "warning", `${path}.notNets`, {
      message: `notNets excludes everything in nets (${nets.join(", ")}): no packet matches`,
      fix: "Narrow notNets, or remove the rule.",
    });
  }
  if (
    nets.length === 0 &&
    FAMILIES.some((all) => coversPrefixes(prefixes(notNets), [all])) &&
    sameFamily(prefixes(notNets))
  ) {
    report("negated-catch-all", "error", `${path}.notNets`, {
      message: `notNets (${notNets.join(", ")}) excludes every address: no packet matches`,
      fix: "Exclude only what is meant, or remove the rule.",
    });
  }
  const [all] = rangesOf(notPorts);
  if (all !== undefined && all.first <= 1 && all.last === 65_535) {
    report("negated-catch-all", "error", `${path}.notPorts`, {
      message: "notPorts excludes every port: no packet matches",
      fix: "Name the ports to exclude; for protocols without ports match the protocol instead.",
    });
  } else if (ports.length > 0 && notPorts.length > 0 && portsCover(notPorts, ports)) {
    report("dead-rule", "warning", `${path}.notPorts`, {
      message: `notPorts excludes all of ports (${ports.join(", ")}): no packet matches`,
      fix: "Narrow notPorts, or remove the rule.",
    });
  }
  checkSelector(entity.selector, `${path}.selector`, { report, allIsTrue: true });
  checkSelector(entity.namespaceSelector, `${path}.namespaceSelector`, { report, allIsTrue: false });
  checkSelector(entity.serviceAccounts?.selector, `${path}.serviceAccounts.selector`, { report, allIsTrue: true });
  const excluded = notSelector === undefined || notSelector === "" ? undefined : astOf(notSelector);
  const selected = entity.selector === undefined || entity.selector === "" ? undefined : astOf(entity.selector);
  const both: SelectorNode | undefined =
    excluded === undefined || selected === undefined
      ? undefined
      : { kind: "and", operands: [selected, { kind: "not", operand: excluded }] };
  if (both !== undefined && !alwaysHolds(excluded ?? both, PLAIN) && neverHolds(flattened(both), PLAIN)) {
    report("dead-rule", "warning", `${path}.notSelector`, {
      message: `notSelector excludes everything that selector selects (${entity.selector}): no packet matches`,
      fix: "Narrow notSelector, or remove the rule.",
    });
  }
  if (excluded !== undefined && alwaysHolds(excluded, PLAIN)) {
    report("negated-catch-all", "error", `${path}.notSelector`, {
      message: `notSelector ${notSelector} excludes every endpoint: only addresses nobody has are left`,
      fix: "Say which addresses are meant with nets, or which endpoints to exclude.",
    });
  }
}

const FAMILIES = [parsePrefix("0.0.0.0/0"), parsePrefix("::/0")];
/** A rule whose prefixes are all of one family is about that family only. */
const sameFamily = (prefixes: readonly Prefix[]): boolean => new Set(prefixes.map(({ family }) => family)).size === 1;

function astOf(text: string) {
  try {
    return parseSelector(text).ast;
  } catch {
    return undefined; // the model has said so
  }
}

const PLAIN = { allIsTrue: true };

/** `and` inside `and` as one list, so that what is demanded of a label stands together. */
const flattened = (node: SelectorNode): SelectorNode =>
  node.kind !== "and"
    ? node
    : {
        kind: "and",
        operands: node.operands.flatMap((operand) => {
          const inner = flattened(operand);
          return inner.kind === "and" ? inner.operands : [inner];
        }),
      };

function checkSelector(
  text: string | undefined,
  path: string,
  { report, allIsTrue }: { readonly report: Report; readonly allIsTrue: boolean },
): void {
  if (text === undefined || text === "") return;
  const ast = astOf(text);
  if (ast === undefined || !neverHolds(flattened(ast), { allIsTrue })) return;
  report("negated-catch-all", "error", path, {
    message: `${text} excludes everything: it selects nothing, ever`,
    fix: "Select what is meant, or remove the policy or rule.",
  });
}

function checkKubernetes({ spec = {} }: KubernetesNetworkPolicy, report: Report): void {
  checkTypes(spec.policyTypes, spec, report, "policyTypes");
  const lists = [
    ["ingress", (spec.ingress ?? []).map(({ from, ports }) => ({ from, ports }))],
    ["egress", (spec.egress ?? []).map(({ to, ports }) => ({ from: to, ports }))],
  ] as const;
  for (const [direction, rules] of lists) {
    const peersField = direction === "ingress" ? "from" : "to";
    for (const [index, { from = [] }] of rules.entries()) {
      for (const [at, { ipBlock }] of from.entries()) {
        if (ipBlock === undefined) continue;
        const cidr = tryParsePrefix(ipBlock.cidr, "mask");
        const except = (ipBlock.except ?? []).flatMap((text) => tryParsePrefix(text, "mask") ?? []);
        if (cidr === undefined || except.length === 0 || !coversPrefixes(except, [cidr])) continue;
        report("negated-catch-all", "error", `spec.${direction}[${index}].${peersField}[${at}].ipBlock.except`, {
          message: `except takes all of ${ipBlock.cidr} away: the block matches nothing`,
          fix: "Narrow except, or remove the block.",
        });
      }
    }
    const values = rules.map(({ from, ports }) => ({
      action: "Allow",
      value: kubernetesRule({ ...(from === undefined ? {} : { from }), ...(ports === undefined ? {} : { ports }) }),
    }));
    checkOrder(values, peersCover, `spec.${direction}`, report);
  }
}

function checkOrder<T>(
  rules: readonly { readonly action: string; readonly value: T }[],
  covers: (earlier: T, later: T) => boolean,
  path: string,
  report: Report,
): void {
  for (const [index, rule] of rules.entries()) {
    const first = rules.slice(0, index).findIndex(({ action, value }) => action !== "Log" && covers(value, rule.value));
    const earlier = rules[first];
    if (earlier === undefined) continue;
    const isSame = earlier.action === rule.action;
    report("shadowed-rule", isSame ? "note" : "warning", `${path}[${index}]`, {
      message: `rule ${index} (${rule.action}) never decides: rule ${first} (${earlier.action}) matches every packet it could match`,
      fix: isSame ? "Remove it." : `Move it before rule ${first}, or narrow rule ${first}.`,
    });
  }
}
