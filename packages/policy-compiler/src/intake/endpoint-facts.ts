/** Endpoints, network sets, profiles, tiers and services as facts. */
import type {
  BandwidthLimit,
  FloatingAddress,
  PacketLimit,
  WorkloadEndpoint as LocalWorkload,
} from "@calico-ts/dataplane-api";
import type {
  DirectionLimits,
  EndpointSlice,
  GlobalNetworkSet,
  HostEndpoint,
  NetworkSet,
  Profile,
  Tier,
  WorkloadEndpoint,
} from "@calico-ts/model";
import { DSCP_ANNOTATION, dscpProblem, namespaceProfileName, parseDscp } from "@calico-ts/model";
import { formatAddress, formatPrefix, protocolNumber, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { NAMESPACE_LABEL } from "@calico-ts/selector";
import { errorText } from "@calico-ts/std";
import type { SliceFacts } from "../ipsets/service-index.ts";
import type { EndpointFacts, MemberFacts, NamedPort, ProfileFacts, RuleFacts, TierFacts } from "./facts.ts";
import { denyAll, translateRule } from "./policy-facts.ts";

export function workloadFacts(endpoint: WorkloadEndpoint, node: string): EndpointFacts {
  const member: MemberFacts = {
    labels: new Map(Object.entries(endpoint.labels)),
    profiles: endpoint.profiles,
    nets: endpoint.addresses,
    ports: endpoint.ports.flatMap((port) => namedPort(port.name, port.protocol, port.port)),
  };
  if (endpoint.node !== node) return { member };
  const { orchestrator, workload, interfaceName, addresses, allowedSourcePrefixes } = endpoint;
  return {
    member,
    local: {
      kind: "workload",
      id: { orchestrator, workload, endpoint: endpoint.endpoint },
      endpoint: {
        active: true,
        interfaceName,
        addresses,
        allowedSourcePrefixes,
        ...bandwidth("ingressBandwidth", endpoint.qos?.ingress),
        ...bandwidth("egressBandwidth", endpoint.qos?.egress),
        ...controls(endpoint),
      },
    },
  };
}

/** The part of a direction's limits that shapers keep. */
function bandwidth<K extends string>(
  key: K,
  limits: DirectionLimits | undefined,
): { readonly [P in K]?: BandwidthLimit } {
  if (limits?.bandwidth === undefined || limits.burst === undefined) return {};
  const { bandwidth, burst, peakRate, minBurst } = limits;
  const limit: BandwidthLimit = {
    bandwidth,
    burst,
    ...(peakRate !== undefined && { peakRate }),
    ...(minBurst !== undefined && { minBurst }),
  };
  return { [key]: limit } as { readonly [P in K]?: BandwidthLimit };
}

type Controls = Pick<
  LocalWorkload,
  "ingressPackets" | "egressPackets" | "ingressConnections" | "egressConnections" | "dscp" | "floatingAddresses"
>;

/** What rules keep for the endpoint besides policy. */
function controls({ qos, floatingAddresses }: WorkloadEndpoint): Controls {
  const packets = ({ packetRate, packetBurst }: DirectionLimits): PacketLimit | undefined =>
    packetRate === undefined || packetBurst === undefined ? undefined : { rate: packetRate, burst: packetBurst };
  const ingressPackets = qos && packets(qos.ingress);
  const egressPackets = qos && packets(qos.egress);
  const ingressConnections = qos?.ingress.maxConnections;
  const egressConnections = qos?.egress.maxConnections;
  const floating = floatingAddresses.flatMap(({ external, internal }): FloatingAddress[] => {
    const address = tryParseAddress(external);
    return address === undefined ? [] : [{ external: formatAddress(address), internal }];
  });
  return {
    ...(ingressPackets !== undefined && { ingressPackets }),
    ...(egressPackets !== undefined && { egressPackets }),
    ...(ingressConnections !== undefined && { ingressConnections }),
    ...(egressConnections !== undefined && { egressConnections }),
    ...(qos?.dscp !== undefined && { dscp: qos.dscp }),
    ...(floating.length > 0 && { floatingAddresses: floating }),
  };
}

export function hostEndpointFacts(resource: HostEndpoint, node: string, problems: string[]): EndpointFacts {
  const { metadata, spec } = resource;
  const addresses = (spec.expectedIPs ?? []).flatMap((text) => tryParsePrefix(text) ?? []).map(formatPrefix);
  const member: MemberFacts = {
    labels: new Map(Object.entries(metadata.labels ?? {})),
    profiles: spec.profiles ?? [],
    nets: addresses,
    ports: (spec.ports ?? []).flatMap((port) => namedPort(port.name, port.protocol, port.port)),
  };
  if (spec.node !== node) return { member };
  // Of the annotations for pods this one counts for hosts too.
  const text = metadata.annotations?.[DSCP_ANNOTATION];
  const dscp = text === undefined ? undefined : parseDscp(text);
  if (text !== undefined && dscp === undefined) problems.push(dscpProblem(text));
  return {
    member,
    local: {
      kind: "host",
      name: metadata.name,
      endpoint: {
        interfaceName: spec.interfaceName ?? "",
        expectedAddresses: addresses.map((prefix) => prefix.slice(0, prefix.indexOf("/"))),
        ...(dscp !== undefined && { dscp }),
      },
    },
  };
}

/** A NetworkSet has its namespace's label and inherits the namespace's labels, like a pod. */
export function networkSetFacts(resource: NetworkSet | GlobalNetworkSet): MemberFacts {
  const labels = new Map(Object.entries(resource.metadata.labels ?? {}));
  const namespace = resource.kind === "NetworkSet" ? (resource.metadata.namespace ?? "") : "";
  if (namespace !== "") labels.set(NAMESPACE_LABEL, namespace);
  const nets = new Set<string>();
  for (const text of resource.spec.nets ?? []) {
    const prefix = tryParsePrefix(text, "mask");
    if (prefix === undefined) continue;
    const canonical = formatPrefix(prefix);
    // The text that is there is kept when it says the same: there may be hundreds of thousands.
    nets.add(canonical === text ? text : canonical);
  }
  return {
    labels,
    profiles: namespace === "" ? [] : [namespaceProfileName(namespace)],
    nets: [...nets],
    ports: [],
  };
}

function namedPort(name: string, protocol: string | number, port: number): NamedPort[] {
  const number = protocolNumber(protocol);
  return name === "" || number === undefined ? [] : [{ name, protocol: number, port }];
}

export function profileFacts(profile: Profile, problems: string[]): ProfileFacts {
  const { spec } = profile;
  const rules = (list: NonNullable<Profile["spec"]["ingress"]>, direction: string): RuleFacts[] =>
    list.flatMap((rule, index) => {
      try {
        return [translateRule({ ...rule, index }, "")];
      } catch (error) {
        problems.push(`${direction} rule ${index} is not understood: ${errorText(error)}`);
        return rule.action === "Allow" || rule.action === "Log" ? [] : [denyAll(index)];
      }
    });
  return {
    labels: new Map(Object.entries(spec.labelsToApply ?? {})),
    ingress: rules(spec.ingress ?? [], "ingress"),
    egress: rules(spec.egress ?? [], "egress"),
  };
}

export const tierFacts = ({ spec }: Tier): TierFacts => ({
  ...(spec.order === undefined ? {} : { order: spec.order }),
  defaultAction: spec.defaultAction === "Pass" ? "pass" : "deny",
});

const SERVICE_NAME_LABEL = "kubernetes.io/service-name";

/** undefined: the slice belongs to no Service, or has names instead of addresses. */
export function sliceFacts(slice: EndpointSlice): SliceFacts | undefined {
  const name = slice.metadata.labels?.[SERVICE_NAME_LABEL];
  if (name === undefined || name === "" || slice.addressType === "FQDN") return undefined;
  const addresses = (slice.endpoints ?? [])
    .flatMap((endpoint) => endpoint.addresses)
    .flatMap((text) => tryParseAddress(text) ?? [])
    .map(formatAddress);
  return {
    service: `${slice.metadata.namespace ?? ""}/${name}`,
    addresses,
    ports: (slice.ports ?? []).flatMap(({ port, protocol }) => {
      const number = protocolNumber(protocol ?? "TCP");
      return port === undefined || number === undefined ? [] : [{ protocol: number, port }];
    }),
  };
}
