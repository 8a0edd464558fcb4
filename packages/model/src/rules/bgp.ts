/** Rules about BGP settings, peers and filters. */
import { isLinkLocal, tryParseAddress } from "@calico-ts/net";
import type { Family, IpAddress } from "@calico-ts/net";
import type { FieldError } from "@calico-ts/schema";
import { forbidden, invalid } from "@calico-ts/schema";
import type { BGPConfiguration, BGPFilter, BGPFilterRule, BGPPeer } from "../resources/bgp.ts";
import {
  addressErrors,
  bgpInterfaceErrors,
  durationErrors,
  each,
  filled,
  given,
  interfaceWildcardErrors,
  netErrors,
  selectorErrors,
  when,
} from "./fields.ts";

export function bgpConfigurationErrors({ metadata, spec }: BGPConfiguration): FieldError[] {
  const names = new Set((spec.communities ?? []).map(({ name }) => name));
  const nets = (list: BGPConfiguration["spec"]["serviceClusterIPs"], path: string): FieldError[] =>
    each(list, path, ({ cidr }, at) => filled(cidr, (text) => netErrors(text, `${at}.cidr`)));
  const clusterOnly = (field: "nodeMeshPassword" | "nodeMeshMaxRestartTime"): FieldError[] =>
    when(metadata.name !== "default" && spec[field] !== undefined, () =>
      forbidden(`spec.${field}`, "belongs to the configuration of the cluster, named default"),
    );
  return [
    ...nets(spec.serviceClusterIPs, "spec.serviceClusterIPs"),
    ...nets(spec.serviceExternalIPs, "spec.serviceExternalIPs"),
    ...nets(spec.serviceLoadBalancerIPs, "spec.serviceLoadBalancerIPs"),
    ...each(spec.communities, "spec.communities", ({ name, value }, at) => [
      ...filled(value, (text) => when(!isCommunity(text), () => invalid(`${at}.value`, text, COMMUNITY_FORM))),
      ...filled(name, (text) => when(isCommunity(text), () => invalid(`${at}.name`, text, "looks like a community"))),
    ]),
    ...each(spec.prefixAdvertisements, "spec.prefixAdvertisements", ({ cidr, communities }, at) => [
      ...filled(cidr, (text) => netErrors(text, `${at}.cidr`)),
      ...each(communities, `${at}.communities`, (text, path) =>
        when(!names.has(text) && !isCommunity(text), () =>
          invalid(path, text, "neither a community nor the name of one in spec.communities"),
        ),
      ),
    ]),
    ...clusterOnly("nodeMeshPassword"),
    ...clusterOnly("nodeMeshMaxRestartTime"),
    ...durationErrors(spec.nodeMeshMaxRestartTime, "spec.nodeMeshMaxRestartTime"),
    ...each(spec.ignoredInterfaces, "spec.ignoredInterfaces", interfaceWildcardErrors),
    ...filled(spec.localWorkloadPeeringIPV4, (text) => addressErrors(text, "spec.localWorkloadPeeringIPV4", 4)),
    ...filled(spec.localWorkloadPeeringIPV6, (text) => addressErrors(text, "spec.localWorkloadPeeringIPV6", 6)),
  ];
}

const COMMUNITY_FORM = "not a community: aa:nn with numbers up to 65535, or aa:nn:mm with numbers up to 4294967295";

/** RFC 1997 (two numbers of 16 bits) or RFC 8092 (three of 32). */
function isCommunity(text: string): boolean {
  const parts = text.split(":");
  const limit = parts.length === 2 ? 65_535 : 4_294_967_295;
  return (
    (parts.length === 2 || parts.length === 3) &&
    parts.every((part) => /^\d{1,10}$/.test(part) && Number(part) <= limit)
  );
}

export function bgpPeerErrors({ spec }: BGPPeer): FieldError[] {
  const peer = spec.peerIP === undefined || spec.peerIP === "" ? undefined : peerAddress(spec.peerIP);
  return [
    ...filled(spec.peerIP, (text) =>
      when(peer === undefined, () =>
        invalid("spec.peerIP", text, "not address, address:port, [address]:port or link-local address%interface"),
      ),
    ),
    ...selectorErrors(spec.nodeSelector, "spec.nodeSelector"),
    ...selectorErrors(spec.peerSelector, "spec.peerSelector"),
    ...selectorErrors(spec.localWorkloadSelector, "spec.localWorkloadSelector"),
    ...durationErrors(spec.maxRestartTime, "spec.maxRestartTime"),
    ...durationErrors(spec.keepaliveTime, "spec.keepaliveTime"),
    ...given(spec.ttlSecurity, (hops) =>
      when(hops < 0 || hops > 255, () => invalid("spec.ttlSecurity", hops, "hops are 0 to 255")),
    ),
    ...given(spec.numAllowedLocalASNumbers, (count) =>
      when(count < 0, () => invalid("spec.numAllowedLocalASNumbers", count, "a count is not negative")),
    ),
    ...filled(spec.reachableBy, (text) => addressErrors(text, "spec.reachableBy", peer?.family)),
  ];
}

/** `address`, `address:port` or `[address]:port`; a link-local address takes the interface along (`fe80::1%eth0`). */
export function peerAddress(text: string): IpAddress | undefined {
  const plain = zonedAddress(text);
  if (plain !== undefined) return plain;
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  return match === null || port < 1 || port > 65_535 ? undefined : zonedAddress(match[1] ?? match[2] ?? "");
}

/** A zone is for link-local addresses, and those need one to be reached (RFC 4007). */
function zonedAddress(text: string): IpAddress | undefined {
  const [host = "", zone, ...more] = text.split("%");
  const address = tryParseAddress(host);
  if (address === undefined || zone === undefined) return address;
  return isLinkLocal(address) && more.length === 0 && /^[a-zA-Z0-9_.-]{1,15}$/.test(zone) ? address : undefined;
}

export function bgpFilterErrors({ spec }: BGPFilter): FieldError[] {
  const lists = { exportV4: 4, importV4: 4, exportV6: 6, importV6: 6 } as const;
  return (["exportV4", "importV4", "exportV6", "importV6"] as const).flatMap((name) =>
    each(spec[name], `spec.${name}`, (rule, at) => filterRuleErrors(rule, at, lists[name])),
  );
}

function filterRuleErrors(rule: BGPFilterRule, path: string, family: Family): FieldError[] {
  const { min = 0, max = family === 4 ? 32 : 128 } = rule.prefixLength ?? {};
  return [
    ...filled(rule.cidr, (text) => netErrors(text, `${path}.cidr`, family)),
    ...when(min > max, () => invalid(`${path}.prefixLength`, "object", "min is above max")),
    ...bgpInterfaceErrors(rule.interface, `${path}.interface`),
  ];
}
