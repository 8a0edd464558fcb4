/**
 * Does one rule match every packet another could match? Answered from the rules' fields alone and on the safe side: false means
 * "perhaps not".
 */
import type {
  ClusterPolicyEgressRule,
  ClusterPolicyIngressRule,
  EntityRule,
  KubernetesPolicyPort,
  Rule,
} from "@calico-ts/model";
import type { PortRange } from "@calico-ts/net";
import { containsPrefix, mergePortRanges, protocolNumber, tryParsePrefix } from "@calico-ts/net";

const equal = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
const isEmpty = (value: unknown): boolean =>
  value === undefined || value === "" || (Array.isArray(value) && value.length === 0);

export function ruleCovers(earlier: Rule, later: Rule): boolean {
  const number = (protocol: string | number | undefined): number | undefined =>
    protocol === undefined ? undefined : protocolNumber(protocol);
  const protocol = number(later.protocol);
  if (earlier.protocol !== undefined && number(earlier.protocol) !== protocol) return false;
  if (earlier.notProtocol !== undefined && !equal(number(earlier.notProtocol), number(later.notProtocol))) {
    if (protocol === undefined || protocol === number(earlier.notProtocol)) return false;
  }
  if (earlier.ipVersion !== undefined && earlier.ipVersion !== later.ipVersion) return false;
  for (const field of ["icmp", "notICMP", "http"] as const) {
    if (earlier[field] !== undefined && !equal(earlier[field], later[field])) return false;
  }
  return entityCovers(earlier.source, later.source) && entityCovers(earlier.destination, later.destination);
}

function entityCovers(earlier: EntityRule | undefined, later: EntityRule = {}): boolean {
  if (earlier === undefined) return true;
  const same = [
    "selector",
    "namespaceSelector",
    "notSelector",
    "serviceAccounts",
    "services",
    "notNets",
    "notPorts",
  ] as const;
  // What a selector means depends on the fields beside it, so they are compared together.
  if (same.some((field) => !isEmpty(earlier[field]) && !equal(earlier[field], later[field]))) return false;
  // notSelector restricts to the policy's namespace unless a namespaceSelector says otherwise.
  const selects = ["selector", "namespaceSelector", "serviceAccounts"] as const;
  if (
    [...selects, "notSelector" as const].some((field) => !isEmpty(earlier[field])) &&
    selects.some((field) => !equal(earlier[field], later[field]))
  ) {
    return false;
  }
  if (
    !isEmpty(earlier.nets) &&
    !(!isEmpty(later.nets) && (later.nets ?? []).every((net) => isInside(net, earlier.nets ?? [])))
  ) {
    return false;
  }
  return isEmpty(earlier.ports) || portsCover(earlier.ports ?? [], later.ports ?? []);
}

export function isInside(net: string, among: readonly string[]): boolean {
  const inner = tryParsePrefix(net, "mask");
  if (inner === undefined) return false;
  return among.some((text) => {
    const outer = tryParsePrefix(text, "mask");
    return outer !== undefined && outer.family === inner.family && containsPrefix(outer, inner);
  });
}

type Port = string | number;

/** Numbers and ranges of a list; names are left out. */
export function rangesOf(ports: readonly Port[]): PortRange[] {
  return mergePortRanges(
    ports.flatMap((port) => {
      const match = /^(\d+)(?::(\d+))?$/.exec(String(port));
      return match === null ? [] : [{ first: Number(match[1]), last: Number(match[2] ?? match[1]) }];
    }),
  );
}

export function portsCover(earlier: readonly Port[], later: readonly Port[]): boolean {
  if (later.length === 0) return false;
  const ranges = rangesOf(earlier);
  return later.every((port) => {
    const [wanted] = rangesOf([port]);
    if (wanted === undefined) return earlier.includes(port);
    return ranges.some(({ first, last }) => first <= wanted.first && wanted.last <= last);
  });
}

interface PeersRule {
  readonly peers: readonly unknown[];
  readonly ports: readonly unknown[];
}

/** Kubernetes' rules: peers and ports are alternatives, none means any. */
export function peersCover(earlier: PeersRule, later: PeersRule): boolean {
  return listCovers(earlier.peers, later.peers) && listCovers(earlier.ports, later.ports);
}

const listCovers = (earlier: readonly unknown[], later: readonly unknown[]): boolean =>
  earlier.length === 0 || (later.length > 0 && later.every((item) => earlier.some((other) => equal(item, other))));

export function kubernetesRule(rule: {
  readonly from?: readonly unknown[];
  readonly to?: readonly unknown[];
  readonly ports?: readonly KubernetesPolicyPort[];
}): PeersRule {
  // Absent means TCP, which makes two spellings of one port.
  const ports = (rule.ports ?? []).map(({ protocol = "TCP", port, endPort }) => ({ protocol, port, endPort }));
  return { peers: rule.from ?? rule.to ?? [], ports };
}

export const clusterRule = (rule: ClusterPolicyIngressRule | ClusterPolicyEgressRule): PeersRule => ({
  peers: "from" in rule ? rule.from : rule.to,
  ports: rule.protocols ?? [],
});
