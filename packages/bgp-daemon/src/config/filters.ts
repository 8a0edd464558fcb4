/**
 * BGPFilter resources, pools and prefix advertisements → filters of the speaker. A rule's kernel metric ("priority") travels as LOCAL_PREF = 2³¹ − 1 − metric, as
 * upstream carries it between nodes. `because` names resource, list and index, so an explanation leads to the rule.
 */
import type { Filter, FilterMatch, FilterOperation, FilterRule, LargeCommunity } from "@calico-ts/bgp";
import type { BGPConfiguration, BGPFilter, BGPFilterRule, IPPool } from "@calico-ts/model";
import { type Family, parsePrefix } from "@calico-ts/net";

export type Direction = "import" | "export";

const METRIC_BASE = 2_147_483_647;
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

/** The rules of the named filters, in order. */
export function filterRules(filters: readonly BGPFilter[], direction: Direction, family: Family): FilterRule[] {
  return filters.flatMap((filter) => {
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
    return one.setPriority === undefined ? [] : [{ do: "set-local-pref", value: METRIC_BASE - one.setPriority.value }];
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
    ...(rule.priority !== undefined && { localPref: METRIC_BASE - rule.priority }),
  };
}

export interface ExportInput {
  readonly pools: readonly IPPool[];
  readonly configuration: BGPConfiguration["spec"];
  readonly filters: readonly BGPFilter[];
  readonly family: Family;
  readonly isReflector: boolean;
}

/** What a node tells its peers unless a BGPFilter says otherwise: routes of pools that may be exported, its own, and, as a reflector, service addresses. */
export function exportFilter(input: ExportInput): Filter {
  const { pools, configuration, filters, family, isReflector } = input;
  const ofFamily = pools
    .map(({ metadata, spec }) => ({
      name: metadata.name,
      prefix: parsePrefix(spec.cidr, "mask"),
      hidden: spec.disableBGPExport === true,
    }))
    .filter(({ prefix }) => prefix.family === family);
  const inside = (name: string, action: "accept" | "reject"): FilterRule[] =>
    ofFamily
      .filter((pool) => pool.name === name)
      .map(({ prefix }) => ({ action, match: { prefix: { operator: "in", prefix } }, because: `IPPool ${name}` }));
  const services = [...(configuration.serviceExternalIPs ?? []), ...(configuration.serviceLoadBalancerIPs ?? [])]
    .flatMap(({ cidr }) => (cidr === undefined ? [] : [parsePrefix(cidr, "mask")]))
    .filter((prefix) => prefix.family === family);
  return {
    name: `export IPv${family}`,
    rules: [
      ...filterRules(filters, "export", family),
      ...ofFamily.filter((pool) => pool.hidden).flatMap((pool) => inside(pool.name, "reject")),
      ...advertisementRules(configuration, family),
      { action: "accept", match: { source: "local" }, because: "a route of this node" },
      ...(isReflector
        ? services.map(
            (prefix): FilterRule => ({
              action: "accept",
              match: { prefix: { operator: "in", prefix } },
              because: "service addresses",
            }),
          )
        : []),
      ...ofFamily.filter((pool) => !pool.hidden).flatMap((pool) => inside(pool.name, "accept")),
    ],
    otherwise: "reject",
  };
}

export const importFilter = (filters: readonly BGPFilter[], family: Family): Filter => ({
  name: `import IPv${family}`,
  rules: filterRules(filters, "import", family),
  otherwise: "accept",
});

/** Communities for routes within a prefix, by value or by a name that the configuration defines. */
function advertisementRules(
  { prefixAdvertisements, communities }: BGPConfiguration["spec"],
  family: Family,
): FilterRule[] {
  const named = new Map((communities ?? []).map(({ name, value }) => [name, value]));
  return (prefixAdvertisements ?? []).flatMap((one): FilterRule[] => {
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
