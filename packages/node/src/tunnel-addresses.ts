/**
 * Which tunnel addresses this node needs, and whether those it has will do. Pure; `allocate-tunnel-addresses.ts` acts on it.
 *
 * A node needs an address for an encapsulation while an enabled pool that uses it, allows tunnels and selects the node exists. An address
 * outside those pools is given back and another is taken. Where the only such pools are disabled, an address in one of them is kept: pods that
 * have theirs from it still talk through the tunnel.
 */
import type { Prefix } from "@calico-ts/net";
import { containsAddress, tryParseAddress } from "@calico-ts/net";

export type Tunnel = "ipip" | "vxlan" | "vxlan-v6";

export interface TunnelPool {
  readonly cidr: Prefix;
  readonly disabled: boolean;
  readonly ipip: boolean;
  readonly vxlan: boolean;
  readonly allowsTunnels: boolean;
  readonly selectsNode: boolean;
}

export type TunnelDecision =
  /** `pools`: where to take another one from, should it turn out not to be ours; none: nowhere. */
  | { readonly tunnel: Tunnel; readonly do: "keep"; readonly address: string; readonly pools: readonly Prefix[] }
  | {
      readonly tunnel: Tunnel;
      readonly do: "assign";
      readonly pools: readonly Prefix[];
      readonly release: string | undefined;
    }
  | { readonly tunnel: Tunnel; readonly do: "remove"; readonly release: string | undefined };

/** How each kind is recorded: upstream's annotations, IPAM handles and attribute values. */
export const TUNNELS: Readonly<
  Record<Tunnel, { readonly annotation: string; readonly handle: string; readonly attribute: string }>
> = {
  ipip: {
    annotation: "projectcalico.org/IPv4IPIPTunnelAddr",
    handle: "ipip-tunnel-addr",
    attribute: "ipipTunnelAddress",
  },
  vxlan: {
    annotation: "projectcalico.org/IPv4VXLANTunnelAddr",
    handle: "vxlan-tunnel-addr",
    attribute: "vxlanTunnelAddress",
  },
  "vxlan-v6": {
    annotation: "projectcalico.org/IPv6VXLANTunnelAddr",
    handle: "vxlan-v6-tunnel-addr",
    attribute: "vxlanV6TunnelAddress",
  },
};

export function decideTunnels(
  pools: readonly TunnelPool[],
  annotations: Readonly<Record<string, string>>,
): TunnelDecision[] {
  return (["ipip", "vxlan", "vxlan-v6"] as const).map((tunnel) => {
    const suitable = pools.filter((pool) => isFor(pool, tunnel));
    const wanted = suitable.filter(({ disabled }) => !disabled).map(({ cidr }) => cidr);
    const current = annotations[TUNNELS[tunnel].annotation];
    const address = current === undefined ? undefined : tryParseAddress(current);
    const good = wanted.length === 0 ? suitable.map(({ cidr }) => cidr) : wanted;
    if (current !== undefined && address !== undefined && good.some((cidr) => containsAddress(cidr, address))) {
      return { tunnel, do: "keep", address: current, pools: wanted };
    }
    if (wanted.length === 0) return { tunnel, do: "remove", release: current };
    return { tunnel, do: "assign", pools: wanted, release: current };
  });
}

function isFor(pool: TunnelPool, tunnel: Tunnel): boolean {
  if (!pool.allowsTunnels || !pool.selectsNode) return false;
  switch (tunnel) {
    case "ipip":
      return pool.ipip && pool.cidr.family === 4;
    case "vxlan":
      return pool.vxlan && pool.cidr.family === 4;
    case "vxlan-v6":
      return pool.vxlan && pool.cidr.family === 6;
  }
}
