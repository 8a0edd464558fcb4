/**
 * What a node tells its peers, and takes from them, as filters of the speaker: the BGPFilters of the peer first, then what holds for all. A rule's kernel metric
 * ("priority") travels as LOCAL_PREF (`../priority.ts`). `because` names resource, list and index, so an explanation leads
 * to the rule.
 */
import type { Filter, FilterMatch, FilterOperation, FilterRule, LargeCommunity } from "@calico-ts/bgp";
import type { BGPConfiguration, BGPFilter, BGPFilterRule } from "@calico-ts/model";
import { type Family, parsePrefix, type Prefix } from "@calico-ts/net";
import { localPrefOf } from "../priority.ts";

export type Direction = "import" | "export";

const OPERATORS = { Equal: "equal", NotEqual: "not-equal", In: "in", NotIn: "not-in" } as const;

/** `aa:nn` as one number, `aa:nn:mm` as a large community. */
export function parseCommunity(text: string): number | LargeCommunity | undefined {
  const parts = text.split(":").map(Number);
  const [a, b, c] = parts;
  if (parts.some((part) => !Number.isInteger(part) || part < 0) || a === undefined || b === undefined) return undefined;
  if (parts.length === 2) return a <= 0xffff && b <= 0xffff ? a * 0x10000 + b : undefined;
  const inRange = parts.every((part) => part <= 0xffffffff);
  return parts.length === 3 && c !== undefined && inRange ? { global: a, local1: b, local2: c } : undefined;
}

const addCommunity = (community: number | LargeCommunity): FilterOperation =>
  typeof community === "number" ? { do: "add-community", community } : { do: "add-large-community", community };

/** The rules of the named filters, in order; of one that is not to be had, a rule that lets nothing through. */
export function filterRules(
  named: readonly (BGPFilter | string)[],
  direction: Direction,
  family: Family,
): readonly FilterRule[] {
  return named.flatMap((filter): FilterRule[] => {
    if (typeof filter === "string")
      return [{ action: "reject", because: `there is no good BGPFilter ${filter}: nothing passes` }];
    const field = `${direction}V${family}` as const;
    return (filter.spec[field] ?? []).map((rule, at) =>
      ruleOf(rule, `BGPFilter ${filter.metadata.name} ${field}[${at}]`),
    );
  });
}

function ruleOf(rule: BGPFilterRule, because: string): FilterRule {
  const operations = (rule.operations ?? []).flatMap((one): FilterOperation[] => {
    const community = one.addCommunity === undefined ? undefined : parseCommunity(one.addCommunity.value);
    if (community !== undefined) return [addCommunity(community)];
    if (one.prependASPath !== undefined) return [{ do: "prepend-as-path", ases: one.prependASPath.prefix }];
    return one.setPriority === undefined ? [] : [{ do: "set-local-pref", value: localPrefOf(one.setPriority.value) }];
  });
  return {
    action: rule.action === "Accept" ? "accept" : "reject",
    match: matchOf(rule),
    ...(operations.length > 0 && { operations }),
    because,
  };
}

function matchOf(rule: BGPFilterRule): FilterMatch {
  const communities = (rule.communities?.values ?? []).map(parseCommunity).filter((one) => one !== undefined);
  const small = communities.filter((one) => typeof one === "number");
  const large = communities.filter((one) => typeof one !== "number");
  const { min, max } = rule.prefixLength ?? {};
  return {
    ...(rule.cidr !== undefined &&
      rule.matchOperator !== undefined && {
        prefix: {
          operator: OPERATORS[rule.matchOperator],
          prefix: parsePrefix(rule.cidr, "mask"),
          ...(min !== undefined && { minLength: min }),
          ...(max !== undefined && { maxLength: max }),
        },
      }),
    ...(rule.source !== undefined && { source: "peer" }),
    ...(rule.interface !== undefined && { interface: rule.interface }),
    ...(small.length > 0 && { communities: small }),
    ...(large.length > 0 && { largeCommunities: large }),
    ...(rule.asPathPrefix !== undefined && rule.asPathPrefix.length > 0 && { asPathPrefix: rule.asPathPrefix }),
    ...(rule.peerType !== undefined && { peerType: rule.peerType === "eBGP" ? "external" : "internal" }),
    ...(rule.priority !== undefined && { localPref: localPrefOf(rule.priority) }),
  };
}

export interface ExportPool {
  readonly name: string;
  readonly prefix: Prefix;
  /** disableBGPExport. */
  readonly hidden: boolean;
  /** Somebody else routes to other nodes' addresses in it. */
  readonly routedByOthers: boolean;
}

export interface ExportInput {
  readonly family: Family;
  readonly pools: readonly ExportPool[];
  /** Own blocks of more than one address. */
  readonly blocks: readonly Prefix[];
  /** Prefixes of services that this node announces as a whole. */
  readonly services: readonly Prefix[];
  /** A reflector passes these on. */
  readonly reflected: readonly Prefix[];
  readonly configurations: readonly BGPConfiguration["spec"][];
  /** Metric of routes of normal priority; with a smaller one a route is elevated. */
  readonly priority: number;
  /** `tunl0` is the agent's. */
  readonly ipipByOthers: boolean;
}

/**
 * In this order: pools that are not to be told; between nodes, what the agent routes through tunnels or on its own (the node that has the block tells it); routes
 * that never leave a node; communities; own blocks in place of what is inside them, except addresses of elevated priority, which move; own routes; service prefixes;
 * whatever else is in a pool: addresses borrowed from other nodes' blocks, and, for external peers and reflectors, other nodes' blocks. The rest stays here.
 */
export function exportRules(input: ExportInput): readonly FilterRule[] {
  const { family, pools, blocks, services, reflected, priority } = input;
  const own = pools.filter(({ prefix }) => prefix.family === family);
  const inside = (prefix: Prefix): FilterMatch => ({ prefix: { operator: "in", prefix } });
  const pass = (prefixes: readonly Prefix[], because: string): FilterRule[] =>
    prefixes
      .filter((prefix) => prefix.family === family)
      .map((prefix) => ({ action: "accept", match: inside(prefix), because }));
  return [
    ...own
      .filter(({ hidden }) => hidden)
      .map(
        ({ name, prefix }): FilterRule => ({
          action: "reject",
          match: inside(prefix),
          because: `IPPool ${name}: disableBGPExport`,
        }),
      ),
    ...["*.cali", "*.calico", ...(input.ipipByOthers ? ["tunl0"] : [])].map(
      (name): FilterRule => ({
        action: "reject",
        match: { peerType: "internal", source: "found", interface: name },
        because: "routes through tunnels are told by the node they lead to",
      }),
    ),
    ...own
      .filter(({ hidden, routedByOthers }) => routedByOthers && !hidden)
      .map(
        ({ name, prefix }): FilterRule => ({
          action: "reject",
          match: { ...inside(prefix), peerType: "internal", source: "found", gateway: true },
          because: `IPPool ${name}: the agent's routes to other nodes are told by those nodes`,
        }),
      ),
    {
      action: "reject",
      match: { source: "found", interface: "bpf*.cali" },
      because: "routes of the eBPF dataplane stay on the node",
    },
    ...advertisementRules(input.configurations, family),
    ...blocks.filter((prefix) => prefix.family === family).flatMap((prefix) => blockRules(prefix, priority)),
    { action: "accept", match: { source: "configured" }, because: "a route of this node" },
    ...pass(services, "service addresses"),
    ...pass(reflected, "service addresses, reflected"),
    ...own
      .filter(({ hidden }) => !hidden)
      .map(({ name, prefix }): FilterRule => ({ action: "accept", match: inside(prefix), because: `IPPool ${name}` })),
  ];
}

function blockRules(prefix: Prefix, priority: number): FilterRule[] {
  const inside = { operator: "in", prefix } as const;
  return [
    { action: "accept", match: { prefix: { operator: "equal", prefix } }, because: "a block of this node" },
    {
      action: "accept",
      match: { prefix: inside, localPrefAbove: localPrefOf(priority) },
      because: "an address of elevated priority: it is moving between nodes",
    },
    { action: "reject", match: { prefix: inside }, because: "inside a block of this node, which is told as a whole" },
  ];
}

export const exportFilter = (
  named: readonly (BGPFilter | string)[],
  family: Family,
  rules: readonly FilterRule[],
): Filter => ({
  name: `export IPv${family}`,
  rules: [...filterRules(named, "export", family), ...rules],
  otherwise: "reject",
});

export const importFilter = (named: readonly (BGPFilter | string)[], family: Family): Filter => ({
  name: `import IPv${family}`,
  rules: filterRules(named, "import", family),
  otherwise: "accept",
});

/** Communities for routes within a prefix, by value or by a name that the configuration defines. A node's own configuration counts in place of the cluster's. */
function advertisementRules(configurations: readonly BGPConfiguration["spec"][], family: Family): FilterRule[] {
  const chosen = configurations.find(({ prefixAdvertisements = [] }) => prefixAdvertisements.length > 0);
  const named = new Map((chosen?.communities ?? []).map(({ name, value }) => [name, value]));
  return (chosen?.prefixAdvertisements ?? []).flatMap((one): FilterRule[] => {
    const prefix = one.cidr === undefined ? undefined : parsePrefix(one.cidr, "mask");
    if (prefix === undefined || prefix.family !== family) return [];
    const values = (one.communities ?? [])
      .map((text) => parseCommunity(named.get(text) ?? text))
      .filter((value) => value !== undefined);
    if (values.length === 0) return [];
    return [
      { action: "continue", match: { prefix: { operator: "in", prefix } }, operations: values.map(addCommunity) },
    ];
  });
}
