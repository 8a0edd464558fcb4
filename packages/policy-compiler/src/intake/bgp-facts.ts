/** What policy and routing on this node need to know of BGP. */
import type { BgpSettings } from "@calico-ts/dataplane-api";
import type { BGPConfiguration, BGPPeer } from "@calico-ts/model";
import type { Family } from "@calico-ts/net";
import { comparePrefixes, formatAddress, formatPrefix, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import type { Selector } from "@calico-ts/selector";
import { parseSelector } from "@calico-ts/selector";

const SERVICE_FIELDS = ["serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs"] as const;
const PEERING_FIELDS = [
  [4, "localWorkloadPeeringIPV4"],
  [6, "localWorkloadPeeringIPV6"],
] as const;

/** undefined: nothing that concerns a dataplane. What cannot be read is left out and said. */
export function bgpSettings({ spec }: BGPConfiguration, problems: string[]): BgpSettings | undefined {
  const prefixes = SERVICE_FIELDS.flatMap((field) =>
    (spec[field] ?? []).flatMap(({ cidr }, index) => {
      if (cidr === undefined || cidr === "") return [];
      const prefix = tryParsePrefix(cidr, "mask");
      if (prefix === undefined) problems.push(`spec.${field}[${index}].cidr "${cidr}" is not a prefix; it is ignored`);
      return prefix ?? [];
    }),
  );
  const servicePrefixes = [...new Set(prefixes.toSorted(comparePrefixes).map(formatPrefix))];
  const peeringAddresses: Partial<Record<Family, string>> = {};
  for (const [family, field] of PEERING_FIELDS) {
    const text = spec[field] ?? "";
    if (text === "") continue;
    const address = tryParseAddress(text);
    if (address?.family === family) peeringAddresses[family] = formatAddress(address);
    else problems.push(`spec.${field} "${text}" is not an IPv${family} address; pods have none to peer with`);
  }
  if (servicePrefixes.length === 0 && Object.keys(peeringAddresses).length === 0) return undefined;
  return { servicePrefixes, peeringAddresses };
}

/** A BGPPeer that makes pods peers of their nodes. */
export interface PodPeerFacts {
  /** A node's name; absent: as `nodes` says. */
  readonly node?: string;
  readonly nodes: Selector;
  readonly workloads: Selector;
}

/** undefined: it is about no pods. @throws SelectorError for selectors nobody can read */
export function podPeerFacts({ spec }: BGPPeer): PodPeerFacts | undefined {
  const { localWorkloadSelector = "", node = "", nodeSelector = "" } = spec;
  if (localWorkloadSelector === "") return undefined;
  return {
    ...(node === "" ? {} : { node }),
    nodes: parseSelector(nodeSelector),
    workloads: parseSelector(localWorkloadSelector),
  };
}
