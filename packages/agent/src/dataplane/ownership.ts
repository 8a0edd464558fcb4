/**
 * "Is this object mine?", answered for a kernel this process has never seen (design §3). Pure, and the only
 * thing that allows a driver to change or delete something it did not make itself.
 *
 * | object             | ours when                                                              |
 * |--------------------|------------------------------------------------------------------------|
 * | nftables           | everything in table `inet calico`, and in its stand-in                 |
 * | route (main table) | protocol 80; or through a workload interface, put by neither kernel nor BGP |
 * | link               | its name is one of the tunnel devices                                  |
 * | group of a link    | on a workload interface that has an endpoint; or a number of ours      |
 * | address            | on a tunnel device, global scope                                       |
 * | address            | of full length on a workload interface: /32 with scope link, /128 with nodad |
 * | FDB entry          | on a VXLAN device of ours, with a destination                          |
 * | neighbour          | permanent, on a VXLAN device of ours                                   |
 * | sysctl             | never removed, only set: on workload interfaces and the forwarding pair |
 */
import type { NftTable } from "@calico-ts/netlink";

/** rtm_protocol of every route we install (design §3). */
export const ROUTE_PROTOCOL = 80;
/** RTPROT_KERNEL of linux/rtnetlink.h: link-local and connected prefixes the kernel keeps by itself. */
const PROTOCOL_KERNEL = 2;
/** RTPROT_BIRD: the BGP daemon's (decision 0008), also where a pod is its next hop. */
const PROTOCOL_BGP = 12;

export const TABLE: NftTable = { family: "inet", name: "calico" };

/** There for a moment only: holds the same rules while the table itself is built anew. */
export const STAND_IN: NftTable = { family: "inet", name: "calico-stand-in" };

export const VXLAN_DEVICE = { 4: "vxlan.calico", 6: "vxlan-v6.calico" } as const;
export const IPIP_DEVICE = "tunl0";

const TUNNEL_DEVICES: ReadonlySet<string> = new Set([VXLAN_DEVICE[4], VXLAN_DEVICE[6], IPIP_DEVICE]);

export const isOurTable = (table: NftTable): boolean => table.family === TABLE.family && table.name === TABLE.name;

/** By name; `tunl0` comes with the kernel's module, so we configure it but never delete it. */
export const isTunnelDevice = (name: string): boolean => TUNNEL_DEVICES.has(name);

export const isVxlanDevice = (name: string): boolean => name === VXLAN_DEVICE[4] || name === VXLAN_DEVICE[6];

/** `prefixes`: the parameter interfacePrefix, split at commas. */
export const isWorkloadInterface = (name: string, prefixes: readonly string[]): boolean =>
  prefixes.some((prefix) => name.startsWith(prefix));

export interface RouteMark {
  readonly protocol: number;
  readonly interfaceName?: string;
}

export interface RouteOwnership {
  readonly workloadPrefixes: readonly string[];
  /** The parameter removeExternalRoutes: routes others put through workload interfaces are taken for leftovers. */
  readonly removeExternal: boolean;
}

export function isOurRoute(route: RouteMark, ownership: RouteOwnership): boolean {
  if (route.protocol === ROUTE_PROTOCOL) return true;
  if (!ownership.removeExternal || route.interfaceName === undefined) return false;
  if (route.protocol === PROTOCOL_KERNEL || route.protocol === PROTOCOL_BGP) return false;
  return isWorkloadInterface(route.interfaceName, ownership.workloadPrefixes);
}

export const isOurFdbEntry = (entry: { readonly interfaceName: string; readonly destination?: string }): boolean =>
  isVxlanDevice(entry.interfaceName) && entry.destination !== undefined;

export const isOurNeighbour = (entry: { readonly interfaceName: string; readonly permanent: boolean }): boolean =>
  isVxlanDevice(entry.interfaceName) && entry.permanent;
