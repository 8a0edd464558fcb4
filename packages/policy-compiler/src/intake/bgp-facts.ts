/** What policy and routing on this node need to know of BGP. */
import type { BgpSettings } from "@calico-ts/dataplane-api";
import type { BGPConfiguration } from "@calico-ts/model";
import { comparePrefixes, formatPrefix, tryParsePrefix } from "@calico-ts/net";

const SERVICE_FIELDS = ["serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs"] as const;

/** undefined: nothing that concerns a dataplane. A prefix that is none is left out and said. */
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
  return servicePrefixes.length === 0 ? undefined : { servicePrefixes };
}
