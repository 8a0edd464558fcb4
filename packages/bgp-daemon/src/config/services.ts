/**
 * Service addresses this node tells its peers. Prefixes of the configuration are told by every node, since every node can serve what is in them. Single addresses are
 * told in addition where that makes a difference: with `externalTrafficPolicy: Local` only nodes with a ready backend can serve them; single addresses of the
 * configuration, and all load-balancer addresses when they are not to be aggregated, are told while a Service has them.
 */
import type { BGPConfiguration, EndpointSlice, Service } from "@calico-ts/model";
import {
  addressBits,
  containsPrefix,
  formatPrefix,
  hostPrefix,
  type Prefix,
  tryParseAddress,
  tryParsePrefix,
} from "@calico-ts/net";

/** A node with this label set to "true" is no place for traffic from outside (Kubernetes' well-known label). */
export const EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers";
const SERVICE_NAME_LABEL = "kubernetes.io/service-name";
const ADVERTISED_TYPES: ReadonlySet<string> = new Set(["ClusterIP", "NodePort", "LoadBalancer"]);

export interface ServiceInput {
  readonly configuration: BGPConfiguration["spec"];
  /** Prefixes with commas between, in place of `serviceClusterIPs`. */
  readonly clusterOverride: string | undefined;
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  /** The node's name in slices. */
  readonly node: string;
  readonly excluded: boolean;
}

export interface ServiceRoutes {
  /** Announced by this node, each once. */
  readonly routes: readonly Prefix[];
  /** Those of them that are prefixes of the configuration. */
  readonly prefixes: readonly Prefix[];
  /** All of the configuration: routes to them are not programmed, since every node serves them itself. */
  readonly ranges: readonly Prefix[];
  /** Load-balancer and external ones: a reflector passes on what is in them. */
  readonly reflected: readonly Prefix[];
}

interface Ranges {
  readonly cluster: readonly Prefix[];
  readonly external: readonly Prefix[];
  readonly loadBalancer: readonly Prefix[];
}

const isSingle = (prefix: Prefix): boolean => prefix.length === addressBits(prefix.family);

export function serviceRoutes(input: ServiceInput): ServiceRoutes {
  const ranges = rangesOf(input);
  const { cluster, external, loadBalancer } = ranges;
  const aggregate = input.configuration.serviceLoadBalancerAggregation !== "Disabled";
  const wide = (prefixes: readonly Prefix[]): Prefix[] => prefixes.filter((prefix) => !isSingle(prefix));
  const prefixes = [...cluster, ...wide(external), ...(aggregate ? wide(loadBalancer) : [])];
  const all = [...cluster, ...external, ...loadBalancer];
  const reflected = [...loadBalancer, ...external];
  if (input.excluded || all.length === 0) return { routes: [], prefixes: [], ranges: all, reflected };
  const singles = advertisedSingles(input, ranges, aggregate);
  return { routes: distinct([...prefixes, ...singles]), prefixes, ranges: all, reflected };
}

function rangesOf({ configuration, clusterOverride }: ServiceInput): Ranges {
  const parse = (list: readonly { readonly cidr?: string | undefined }[] | undefined): Prefix[] =>
    (list ?? []).flatMap(({ cidr }) => (cidr === undefined ? [] : (tryParsePrefix(cidr, "mask") ?? [])));
  const override =
    clusterOverride === undefined || clusterOverride.trim() === ""
      ? undefined
      : clusterOverride.split(",").map((cidr) => ({ cidr: cidr.trim() }));
  return {
    cluster: parse(override ?? configuration.serviceClusterIPs),
    external: parse(configuration.serviceExternalIPs),
    loadBalancer: parse(configuration.serviceLoadBalancerIPs),
  };
}

function advertisedSingles(input: ServiceInput, ranges: Ranges, aggregate: boolean): Prefix[] {
  const backends = backendsOf(input);
  return input.services.flatMap((service) => {
    const { type = "ClusterIP", clusterIP = "", externalTrafficPolicy: policy } = service.spec ?? {};
    if (!ADVERTISED_TYPES.has(type) || clusterIP === "" || clusterIP === "None") return [];
    const { here, anywhere } = backends.get(keyOf(service)) ?? NO_BACKENDS;
    const { cluster, external, loadBalancer } = addressesOf(service, ranges);
    if (policy === "Local") {
      return [...cluster, ...external, ...loadBalancer].filter(({ family }) => here.has(family));
    }
    if (policy !== "Cluster") return [];
    const single =
      (list: readonly Prefix[]) =>
      (address: Prefix): boolean =>
        list.some((range) => isSingle(range) && containsPrefix(range, address));
    const balanced = type !== "LoadBalancer" ? [] : loadBalancer;
    return [
      ...external.filter(single(ranges.external)),
      ...balanced.filter(
        (address) => single(ranges.loadBalancer)(address) || (!aggregate && anywhere.has(address.family)),
      ),
    ];
  });
}

/** A Service's addresses that are within the configured ranges. */
function addressesOf({ spec, status }: Service, ranges: Ranges): Ranges {
  const within = (texts: readonly (string | undefined)[], allowed: readonly Prefix[]): Prefix[] =>
    texts.flatMap((text) => {
      const address = tryParseAddress(text ?? "");
      if (address === undefined) return [];
      const prefix = hostPrefix(address);
      return allowed.some((range) => containsPrefix(range, prefix)) ? [prefix] : [];
    });
  const everything = [4, 6].map((family): Prefix => ({ family: family === 4 ? 4 : 6, value: 0n, length: 0 }));
  return {
    // Upstream tells any cluster address once it tells some prefix of them.
    cluster: ranges.cluster.length === 0 ? [] : within(spec?.clusterIPs ?? [spec?.clusterIP], everything),
    external: within(spec?.externalIPs ?? [], ranges.external),
    loadBalancer: within(
      (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip),
      ranges.loadBalancer,
    ),
  };
}

interface Backends {
  /** Families with a ready backend on this node, and on any. */
  readonly here: Set<number>;
  readonly anywhere: Set<number>;
}

const NO_BACKENDS: Backends = { here: new Set(), anywhere: new Set() };

function backendsOf({ slices, node }: ServiceInput): Map<string, Backends> {
  const found = new Map<string, Backends>();
  for (const { metadata, addressType, endpoints } of slices) {
    const name = metadata.labels?.[SERVICE_NAME_LABEL];
    const family = addressType === "IPv4" ? 4 : addressType === "IPv6" ? 6 : undefined;
    if (name === undefined || family === undefined) continue;
    const key = `${metadata.namespace ?? ""}/${name}`;
    const backends = found.get(key) ?? { here: new Set(), anywhere: new Set() };
    found.set(key, backends);
    for (const { conditions, nodeName } of endpoints ?? []) {
      // Absent means ready (EndpointSlice's API).
      if (conditions?.ready === false) continue;
      backends.anywhere.add(family);
      if (nodeName === node) backends.here.add(family);
    }
  }
  return found;
}

const keyOf = ({ metadata }: Service): string => `${metadata.namespace ?? ""}/${metadata.name}`;

const distinct = (prefixes: readonly Prefix[]): Prefix[] => [
  ...new Map(prefixes.map((prefix) => [formatPrefix(prefix), prefix])).values(),
];
