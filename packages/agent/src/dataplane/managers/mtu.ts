/**
 * How large a pod's packets may be: the smallest MTU of the node's outward interfaces, less what the encapsulations in use add. The MTU that a parameter sets for
 * a tunnel counts as it is, even above that: who sets it knows through which interface the tunnel goes. The result goes to `<host root>/var/lib/calico/mtu`, where the CNI plugin finds it.
 *
 * Overheads: IPIP one IPv4 header (20); VXLAN outer Ethernet, IP, UDP and VXLAN headers (50 over IPv4, 70 over IPv6).
 */
import type { Family } from "@calico-ts/net";
import type { AgentConfig } from "../../config/params.ts";

export interface EncapsulationsInUse {
  readonly ipip: boolean;
  readonly vxlan: boolean;
  readonly vxlanV6: boolean;
}

const OVERHEAD = { ipip: { 4: 20, 6: 40 }, vxlan: { 4: 50, 6: 70 } } as const;
/** IPv4's least MTU for links that carry IPv6 too (RFC 8200 section 5); below it nothing would work. */
const LEAST_MTU = 1280;

export const tunnelMtu = (hostMtu: number, encapsulation: "ipip" | "vxlan", family: Family): number =>
  Math.max(LEAST_MTU, hostMtu - OVERHEAD[encapsulation][family]);

/** Smallest MTU among interfaces whose names match; undefined when none does. */
export function detectHostMtu(
  links: Iterable<{ readonly name: string; readonly mtu: number }>,
  pattern: RegExp,
): number | undefined {
  let smallest: number | undefined;
  for (const { name, mtu } of links) {
    if (pattern.test(name) && (smallest === undefined || mtu < smallest)) smallest = mtu;
  }
  return smallest;
}

export function podMtu(
  hostMtu: number,
  inUse: EncapsulationsInUse,
  config: Pick<AgentConfig, "ipipMTU" | "vxlanMTU" | "vxlanMTUV6">,
): number {
  const candidates: number[] = [];
  if (inUse.ipip) candidates.push(config.ipipMTU || tunnelMtu(hostMtu, "ipip", 4));
  if (inUse.vxlan) candidates.push(config.vxlanMTU || tunnelMtu(hostMtu, "vxlan", 4));
  if (inUse.vxlanV6) candidates.push(config.vxlanMTUV6 || tunnelMtu(hostMtu, "vxlan", 6));
  return candidates.length === 0 ? hostMtu : Math.min(...candidates);
}
