/**
 * The way to other nodes' pods: routes, VTEPs and tunnel devices from the cluster's address plan.
 *
 * For a destination that another node owns (a block, or a single address borrowed from one):
 *   - un-encapsulated, or cross-subnet with the node in our own subnet: via the node's address on our node interface;
 *   - VXLAN: via the VTEP's tunnel address on the VXLAN device, whose neighbour and FDB entries name the node;
 *   - IPIP: via the node's address on `tunl0`.
 * A block of our own is a blackhole (its pods have host routes), whoever tells others of it: what is sent to an address nobody has must not
 * leave again.
 *
 * VXLAN routes are always ours to program; IPIP and un-encapsulated ones only as `programClusterRoutes` says, since BGP may do it.
 * Addresses owned by nodes in other subnets are never routed without encapsulation: the router between would not know them.
 */
import type { DataplaneMessage, HostAddresses, Pool, Route, Vtep } from "@calico-ts/dataplane-api";
import type { Family } from "@calico-ts/net";
import { addressBits, containsPrefix, formatPrefix, tryParsePrefix } from "@calico-ts/net";
import type { AgentConfig } from "../../config/params.ts";
import type { TunnelDriver, TunnelSpec } from "../links/tunnel-driver.ts";
import type { NeighbourDriver, NeighbourSpec } from "../neighbours/neighbour-driver.ts";
import { IPIP_DEVICE, VXLAN_DEVICE } from "../ownership.ts";
import type { RouteClass, RouteDriver, RouteSpec } from "../routes/route-driver.ts";
import { ROUTE_CLASSES } from "../routes/route-driver.ts";
import type { EncapsulationsInUse } from "./mtu.ts";
import { tunnelMtu } from "./mtu.ts";

export interface ClusterRouteOptions {
  readonly node: string;
  readonly config: AgentConfig;
  readonly routes: RouteDriver;
  readonly neighbours: NeighbourDriver;
  readonly tunnels: TunnelDriver;
  /** The interface that has one of the node's addresses, and its MTU. */
  readonly interfaceWith: (address: string) => { readonly name: string; readonly mtu: number } | undefined;
  /** Smallest MTU of the node's outward interfaces. */
  readonly hostMtu: () => number | undefined;
}

const FAMILIES: readonly Family[] = [4, 6];

export class ClusterRouteManager {
  readonly #options: ClusterRouteOptions;
  readonly #routes = new Map<string, Route>();
  readonly #vteps = new Map<string, Vtep>();
  readonly #pools = new Map<string, Pool>();
  readonly #hosts = new Map<string, HostAddresses>();
  #dirty = true;

  constructor(options: ClusterRouteOptions) {
    this.#options = options;
  }

  receive(message: DataplaneMessage): void {
    switch (message.kind) {
      case "route-update":
        this.#routes.set(message.route.destination, message.route);
        break;
      case "route-remove":
        this.#routes.delete(message.destination);
        break;
      case "vtep-update":
        this.#vteps.set(vtepKey(message.vtep), message.vtep);
        break;
      case "vtep-remove":
        this.#vteps.delete(vtepKey(message));
        break;
      case "pool-update":
        this.#pools.set(message.id, message.pool);
        break;
      case "pool-remove":
        this.#pools.delete(message.id);
        break;
      case "host-update":
        this.#hosts.set(message.node, message.addresses);
        break;
      case "host-remove":
        this.#hosts.delete(message.node);
        break;
      default:
        return;
    }
    this.#dirty = true;
  }

  /** Addresses or links of the node changed. */
  touched(): void {
    this.#dirty = true;
  }

  get isDirty(): boolean {
    return this.#dirty;
  }

  settle(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    const byClass = new Map<RouteClass, RouteSpec[]>(ROUTE_CLASSES.map((name) => [name, []]));
    for (const family of this.#options.config.ipv6Support ? FAMILIES : ([4] as const)) {
      const uplink = this.#uplink(family);
      const vxlanDevice = this.#settleVxlan(family, uplink);
      if (family === 4) this.#settleIpip(uplink);
      for (const route of this.#routes.values()) {
        const placed = this.#place(route, { family, uplink, vxlanDevice });
        if (placed !== undefined) byClass.get(placed.routeClass)?.push(placed.spec);
      }
    }
    for (const [name, specs] of byClass) if (name !== "local-workload") this.#options.routes.want(name, specs);
  }

  /** Which encapsulations this node takes part in: they decide the MTU of pods. */
  encapsulations(): EncapsulationsInUse {
    const { vxlanEnabled, ipipEnabled, ipv6Support } = this.#options.config;
    const wants = (family: Family, mode: (pool: Pool) => string): boolean =>
      [...this.#pools.values()].some((pool) => familyOf(pool.cidr) === family && mode(pool) !== "never");
    return {
      ipip: ipipEnabled ?? wants(4, (pool) => pool.ipip),
      vxlan: vxlanEnabled ?? wants(4, (pool) => pool.vxlan),
      vxlanV6: ipv6Support && vxlanEnabled !== false && wants(6, (pool) => pool.vxlan),
    };
  }

  /** MTU of the interface with the node's address: what counts when no interface matches the pattern. */
  uplinkMtu(): number | undefined {
    const { ipv4, ipv6 } = this.#hosts.get(this.#options.node) ?? {};
    const address = ipv4 ?? ipv6;
    return address === undefined ? undefined : this.#options.interfaceWith(address)?.mtu;
  }

  get hostCount(): number {
    return this.#hosts.size;
  }

  #uplink(family: Family): Uplink | undefined {
    const addresses = this.#hosts.get(this.#options.node);
    const address = family === 4 ? addresses?.ipv4 : addresses?.ipv6;
    const found = address === undefined ? undefined : this.#options.interfaceWith(address);
    if (address === undefined || found === undefined) return undefined;
    return { address, interfaceName: found.name, mtu: this.#options.hostMtu() ?? found.mtu };
  }

  /** The device's name when it is wanted. */
  #settleVxlan(family: Family, uplink: Uplink | undefined): string | undefined {
    const { config, neighbours, node, tunnels } = this.#options;
    const device = VXLAN_DEVICE[family];
    const inUse = family === 4 ? this.encapsulations().vxlan : this.encapsulations().vxlanV6;
    const own = this.#vteps.get(vtepKey({ node, family }));
    if (!inUse || own === undefined || uplink === undefined) {
      tunnels.want(device, undefined);
      neighbours.want(device, []);
      return undefined;
    }
    const spec: TunnelSpec = {
      name: device,
      mtu: (family === 4 ? config.vxlanMTU : config.vxlanMTUV6) || tunnelMtu(uplink.mtu, "vxlan", family),
      address: own.tunnelAddress,
      mac: own.mac.toLowerCase(),
      vxlan: {
        vni: config.vxlanVNI,
        port: config.vxlanPort,
        local: uplink.address,
        underlay: uplink.interfaceName,
      },
    };
    tunnels.want(device, spec);
    const entries: NeighbourSpec[] = [];
    for (const vtep of this.#vteps.values()) {
      if (vtep.family !== family || vtep.node === node) continue;
      const mac = vtep.mac.toLowerCase();
      entries.push({ kind: "neighbour", interfaceName: device, address: vtep.tunnelAddress, mac });
      entries.push({ kind: "fdb", interfaceName: device, mac, destination: vtep.nodeAddress });
    }
    neighbours.want(device, entries);
    return device;
  }

  #settleIpip(uplink: Uplink | undefined): void {
    const { config, tunnels } = this.#options;
    // By its pool's mode: the way to ourselves is near, so in a cross-subnet pool it needs no encapsulation.
    const own = [...this.#routes.values()].find(
      ({ types, destination }) => types.includes("local-tunnel") && this.#isIpip(destination),
    );
    const address = own === undefined ? undefined : tryParsePrefix(own.destination);
    if (!this.encapsulations().ipip || own === undefined || address?.family !== 4 || uplink === undefined) {
      tunnels.want(IPIP_DEVICE, undefined);
      return;
    }
    tunnels.want(IPIP_DEVICE, {
      name: IPIP_DEVICE,
      mtu: config.ipipMTU || tunnelMtu(uplink.mtu, "ipip", 4),
      address: own.destination.replace(/\/.*$/, ""),
    });
  }

  #isIpip(destination: string): boolean {
    const prefix = tryParsePrefix(destination, "mask");
    return [...this.#pools.values()].some(({ cidr, ipip }) => {
      const range = ipip === "never" ? undefined : tryParsePrefix(cidr, "mask");
      return prefix !== undefined && range !== undefined && containsPrefix(range, prefix);
    });
  }

  #place(route: Route, world: RouteWorld): { readonly routeClass: RouteClass; readonly spec: RouteSpec } | undefined {
    const prefix = tryParsePrefix(route.destination, "mask");
    if (prefix === undefined || prefix.family !== world.family) return undefined;
    const { config } = this.#options;
    const common = {
      destination: formatPrefix(prefix),
      metric: prefix.family === 4 ? config.ipv4NormalRoutePriority : config.ipv6NormalRoutePriority,
      scope: "global",
    } as const;
    if (route.types.includes("local-workload")) {
      if (prefix.length === addressBits(prefix.family)) return undefined;
      return { routeClass: "blackhole", spec: { ...common, type: "blackhole" } };
    }
    if (!this.#mayProgram(route)) return undefined;
    if (!route.types.includes("remote-workload") && !route.types.includes("remote-tunnel")) return undefined;
    const way = this.#wayTo(route, world);
    if (way === undefined) return undefined;
    const { routeClass, gateway, interfaceName } = way;
    return { routeClass, spec: { ...common, type: "unicast", gateway, interfaceName, onlink: true } };
  }

  #wayTo(route: Route, { family, uplink, vxlanDevice }: RouteWorld): Way | undefined {
    const { encapsulation, mode, nodeAddress: gateway, sameSubnet } = route;
    const direct = encapsulation === "none" || (mode === "cross-subnet" && sameSubnet);
    if (direct) {
      if (!sameSubnet || gateway === undefined || uplink === undefined) return undefined;
      const routeClass = mode === "cross-subnet" ? "same-subnet" : "no-encapsulation";
      return { routeClass, gateway, interfaceName: uplink.interfaceName };
    }
    if (encapsulation === "ipip") {
      return gateway === undefined || family !== 4
        ? undefined
        : { routeClass: "ipip", gateway, interfaceName: IPIP_DEVICE };
    }
    const vtep = route.node === undefined ? undefined : this.#vteps.get(vtepKey({ node: route.node, family }));
    if (vtep === undefined || vxlanDevice === undefined) return undefined;
    return { routeClass: "vxlan", gateway: vtep.tunnelAddress, interfaceName: vxlanDevice };
  }

  #mayProgram({ destination, encapsulation, mode }: Route): boolean {
    const allowed = this.#options.config.programClusterRoutes;
    // The near half of a cross-subnet pool is un-encapsulated, and whose its far half is.
    const isNear = mode === "cross-subnet" && encapsulation === "none";
    switch (isNear ? (this.#isIpip(destination) ? "ipip" : "vxlan") : encapsulation) {
      case "vxlan":
        return true;
      case "ipip":
        return allowed === "Enabled" || allowed === "EnabledIPIPOnly";
      case "none":
        return allowed === "Enabled" || allowed === "EnabledNoEncapOnly";
    }
  }
}

interface Uplink {
  readonly address: string;
  readonly interfaceName: string;
  readonly mtu: number;
}

interface RouteWorld {
  readonly family: Family;
  readonly uplink: Uplink | undefined;
  readonly vxlanDevice: string | undefined;
}

interface Way {
  readonly routeClass: RouteClass;
  readonly gateway: string;
  readonly interfaceName: string;
}

const vtepKey = (vtep: { readonly node: string; readonly family: Family }): string => `${vtep.family}/${vtep.node}`;
const familyOf = (cidr: string): Family => (cidr.includes(":") ? 6 : 4);
