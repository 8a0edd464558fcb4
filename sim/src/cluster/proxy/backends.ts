/**
 * What a Service means on one node: where it listens and who answers. Pure; addresses of one family at a time.
 *
 * Endpoints that are ready; if none is, those that still serve while they terminate (KEP-1669). "Local" traffic policies keep
 * endpoints of this node only.
 */
import { formatAddress, type Family, type IpAddress, tryParseAddress } from "@calico-ts/net";
import {
  type EndpointSlice,
  keyOf,
  type Protocol,
  type Service,
  type ServicePort,
  type SliceEndpoint,
} from "../kube/objects.ts";

export interface Backend {
  readonly address: IpAddress;
  readonly port: number;
}

export interface ServiceFront {
  /** `namespace/name:port/protocol`, unique. */
  readonly id: string;
  readonly protocol: Protocol;
  readonly port: number;
  readonly clusterIPs: readonly IpAddress[];
  /** externalIPs and load-balancer addresses. */
  readonly externalIPs: readonly IpAddress[];
  readonly nodePort: number | undefined;
  /** The same client always gets the same backend. */
  readonly sticky: boolean;
  /** For traffic to cluster addresses; those of this node alone under internalTrafficPolicy: Local. */
  readonly internal: readonly Backend[];
  readonly internalLocal: boolean;
  /** Of the whole cluster, whatever the policy: for the node's own traffic to external addresses. */
  readonly all: readonly Backend[];
  readonly external: readonly Backend[];
  readonly externalLocal: boolean;
}

export interface FrontWorld {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
  readonly node: string;
  readonly family: Family;
}

export function serviceFronts({ service, slices, node, family }: FrontWorld): readonly ServiceFront[] {
  const { spec } = service;
  if (spec.type === "ExternalName") return [];
  const of = (texts: readonly (string | undefined)[]): readonly IpAddress[] =>
    texts
      .map((text) => tryParseAddress(text ?? ""))
      .filter((address) => address !== undefined && address.family === family) as IpAddress[];
  const clusterIPs = of(spec.clusterIPs ?? [spec.clusterIP]);
  if (clusterIPs.length === 0) return [];
  const externalIPs = of([
    ...(spec.externalIPs ?? []),
    ...(service.status?.loadBalancer?.ingress ?? []).map((each) => each.ip),
  ]);
  const addressType = family === 4 ? "IPv4" : "IPv6";
  const mine = slices.filter((slice) => slice.addressType === addressType);
  const internalLocal = spec.internalTrafficPolicy === "Local";
  const externalLocal = spec.externalTrafficPolicy === "Local";
  return (spec.ports ?? []).map((port) => {
    const endpoints = endpointsFor(port, mine);
    const all = usable(endpoints);
    const local =
      internalLocal || externalLocal ? usable(endpoints.filter((each) => each.endpoint.nodeName === node)) : [];
    return {
      id: `${keyOf(service)}:${port.port}/${port.protocol ?? "TCP"}`,
      protocol: port.protocol ?? "TCP",
      port: port.port,
      clusterIPs,
      externalIPs,
      nodePort: port.nodePort === 0 ? undefined : port.nodePort,
      sticky: spec.sessionAffinity === "ClientIP",
      internal: internalLocal ? local : all,
      internalLocal,
      all,
      external: externalLocal ? local : all,
      externalLocal,
    };
  });
}

interface Candidate {
  readonly endpoint: SliceEndpoint;
  readonly port: number;
}

function endpointsFor(port: ServicePort, slices: readonly EndpointSlice[]): readonly Candidate[] {
  const found: Candidate[] = [];
  for (const slice of slices) {
    for (const each of slice.ports ?? []) {
      if ((each.name ?? "") !== (port.name ?? "") || (each.protocol ?? "TCP") !== (port.protocol ?? "TCP")) continue;
      if (each.port === undefined) continue;
      for (const endpoint of slice.endpoints ?? []) found.push({ endpoint, port: each.port });
    }
  }
  return found;
}

function usable(candidates: readonly Candidate[]): readonly Backend[] {
  // An absent condition means true, except terminating (discovery.k8s.io/v1).
  const ready = candidates.filter(({ endpoint }) => endpoint.conditions?.ready !== false);
  const serving = candidates.filter(
    ({ endpoint }) => endpoint.conditions?.serving === true && endpoint.conditions.terminating === true,
  );
  const backends = new Map<string, Backend>();
  for (const { endpoint, port } of ready.length > 0 ? ready : serving) {
    const address = tryParseAddress(endpoint.addresses[0] ?? "");
    if (address !== undefined) backends.set(backendKey({ address, port }), { address, port });
  }
  // Sorted, so that a sticky choice does not depend on the order of slices.
  return [...backends].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, backend]) => backend);
}

export const backendKey = ({ address, port }: Backend): string =>
  address.family === 4 ? `${formatAddress(address)}:${port}` : `[${formatAddress(address)}]:${port}`;
