/**
 * What the fabric is made of, worked out from a plan before anything is made: namespaces, their cables, addresses, routes.
 *
 * One namespace per switch, router and node, and one for the control plane. A cable is a veth pair whose near end is a port
 * of a switch's bridge. Names of namespaces are decided in `names.ts`; names of links here are what people meet in
 * `ip link`: `eth0` in nodes, `eth0…` in routers, `p1…` at switches.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";
import { addressBytes, containsAddress, formatMac } from "@calico-ts/net";
import { namespaceName } from "../names.ts";
import { originatedAddress } from "../topology/check-bgp.ts";
import type { Leg, Route, TopologyPlan } from "../topology/plan.ts";

export interface FabricLayout {
  readonly switches: readonly SwitchLayout[];
  readonly hosts: readonly HostLayout[];
}

export interface SwitchLayout {
  readonly namespace: string;
  readonly subnet: string;
  readonly mtu: number;
}

/** Anything with an address: node, router, control plane. All of them forward. */
export interface HostLayout {
  readonly kind: "node" | "router" | "control-plane";
  readonly name: string;
  readonly namespace: string;
  readonly cables: readonly CableLayout[];
  /** Addresses it answers at besides those of its cables. */
  readonly loopback: readonly IpAddress[];
  readonly routes: readonly Route[];
}

export interface CableLayout {
  /** Namespace of the switch. */
  readonly to: string;
  readonly switchPort: string;
  readonly link: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly { readonly address: IpAddress; readonly prefixLength: number }[];
}

/** Nodes go by their own names; the rest has a dot in its name, which no node's has. */
export const nodeNamespace = (run: string, node: string): string => namespaceName(run, node);
export const controlPlaneNamespace = (run: string): string => namespaceName(run, "control.plane");
export const routerNamespace = (run: string, router: string): string => namespaceName(run, `router.${router}`);
export const switchNamespace = (run: string, subnet: string): string => namespaceName(run, `switch.${subnet}`);

export function layOutFabric(run: string, plan: TopologyPlan): FabricLayout {
  const switches = plan.subnets.map((subnet) => ({
    namespace: switchNamespace(run, subnet.name),
    subnet: subnet.name,
    mtu: subnet.mtu,
  }));
  const ports = new Map<string, number>();
  const cable = (leg: Leg, index: number): CableLayout => {
    const subnet = plan.subnets.find(({ name }) => name === leg.subnet);
    const port = (ports.get(leg.subnet) ?? 0) + 1;
    ports.set(leg.subnet, port);
    return {
      to: switchNamespace(run, leg.subnet),
      switchPort: `p${port}`,
      link: `eth${index}`,
      mac: macFor(leg.addresses[0], port),
      mtu: subnet?.mtu ?? 1500,
      addresses: leg.addresses.map((address) => ({
        address,
        prefixLength: lengthFor(address, subnet?.prefixes ?? []),
      })),
    };
  };
  const host = (
    kind: HostLayout["kind"],
    name: string,
    namespace: string,
    part: {
      readonly legs: readonly Leg[];
      readonly routes: readonly Route[];
      readonly bgp?: { readonly originate: readonly Prefix[] } | undefined;
    },
  ): HostLayout => ({
    kind,
    name,
    namespace,
    cables: part.legs.map(cable),
    loopback: (part.bgp?.originate ?? []).flatMap((prefix) => originatedAddress(prefix) ?? []),
    routes: part.routes,
  });
  const { controlPlane } = plan;
  return {
    switches,
    hosts: [
      host("control-plane", "control-plane", controlPlaneNamespace(run), {
        legs: [controlPlane],
        routes: controlPlane.routes,
      }),
      ...plan.routers.map((router) => host("router", router.name, routerNamespace(run, router.name), router)),
      ...plan.nodes.map((node) =>
        host("node", node.name, nodeNamespace(run, node.name), { legs: [node], routes: node.routes }),
      ),
    ],
  };
}

/** The same address has the same MAC in every run, so captures can be compared. Locally administered. */
function macFor(address: IpAddress | undefined, port: number): string {
  const bytes = address === undefined ? new Uint8Array(4) : addressBytes(address).slice(-4);
  const mac = Uint8Array.of(0x02, address?.family === 6 ? port & 0xff : 0xca, ...bytes);
  return formatMac(mac);
}

const lengthFor = (address: IpAddress, prefixes: readonly Prefix[]): number =>
  prefixes.find((prefix) => containsAddress(prefix, address))?.length ?? (address.family === 4 ? 32 : 128);
