/**
 * The kernel as our drivers speak of it: interfaces by name and addresses as text, over the `Kernel` of @calico-ts/linux (indexes and
 * numbers). Keeps the list of links, fed by notifications, so that looking up a name costs nothing; everything else is
 * asked when it is needed.
 */
import type { Kernel, KernelEvent } from "@calico-ts/linux";
import type { Family } from "@calico-ts/net";
import { addressBits, formatAddress, formatPrefix, parseAddress, parsePrefix, tryParseAddress } from "@calico-ts/net";
import type { Link, LinkAddress, Neighbour, Route, RouteSpec as NetlinkRouteSpec } from "@calico-ts/netlink";
import type { ConntrackKernel } from "./conntrack-flusher.ts";
import type { HeldAddress, PeeringAddress, PeeringAddressKernel } from "./links/peering-addresses.ts";
import type { KernelTunnel, TunnelKernel, TunnelSpec, VxlanParameters } from "./links/tunnel-driver.ts";
import type { KernelNeighbour, NeighbourKernel, NeighbourSpec } from "./neighbours/neighbour-driver.ts";
import { isWorkloadInterface } from "./ownership.ts";
import type { KernelRoute, RouteKernel, RouteSpec } from "./routes/route-driver.ts";
import type { SysctlKernel } from "./sysctl/sysctl-driver.ts";

const MAIN_TABLE = 254;
const SCOPE_LINK = 253;
const NUD_PERMANENT = 0x80;
const IFA_F_NODAD = 0x02;
const FAMILIES: readonly Family[] = [4, 6];

export class NodeKernel
  implements RouteKernel, NeighbourKernel, TunnelKernel, PeeringAddressKernel, SysctlKernel, ConntrackKernel
{
  readonly #kernel: Kernel;
  readonly #links = new Map<number, Link>();
  readonly #indexes = new Map<string, number>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.relistLinks();
  }

  relistLinks(): void {
    this.#links.clear();
    this.#indexes.clear();
    for (const link of this.#kernel.links.list()) this.#remember(link);
  }

  /** Keeps the list of links current; every link event goes through here first. Returns what was known before. */
  noteLink(event: Extract<KernelEvent, { kind: "link" }>): Link | undefined {
    const before = this.#links.get(event.link.index);
    if (before !== undefined) {
      this.#links.delete(before.index);
      if (this.#indexes.get(before.name) === before.index) this.#indexes.delete(before.name);
    }
    if (!event.gone) this.#remember(event.link);
    return before;
  }

  links(): IterableIterator<Link> {
    return this.#links.values();
  }

  nameOf(index: number): string | undefined {
    return this.#links.get(index)?.name;
  }

  isUp(interfaceName: string): boolean {
    const index = this.#indexes.get(interfaceName);
    return index !== undefined && this.#links.get(index)?.up === true;
  }

  /** The interface that has the address. */
  interfaceWith(address: string): { readonly name: string; readonly mtu: number } | undefined {
    const wanted = tryParseAddress(address);
    if (wanted === undefined) return undefined;
    const found = this.#kernel.addresses
      .list({ family: wanted.family })
      .find((held) => held.address.value === wanted.value);
    const link = found === undefined ? undefined : this.#links.get(found.link);
    return link === undefined ? undefined : { name: link.name, mtu: link.mtu };
  }

  /** Every interface with its addresses as text. */
  interfaceAddresses(): ReadonlyMap<string, readonly string[]> {
    const addresses = Map.groupBy(this.#kernel.addresses.list(), (held) => held.link);
    const of = (index: number): readonly string[] =>
      (addresses.get(index) ?? []).map((held) => formatAddress(held.address));
    return new Map(Array.from(this.#links.values(), ({ index, name }) => [name, of(index)] as const));
  }

  listRoutes(): readonly KernelRoute[] {
    const routes = FAMILIES.flatMap((family) => this.#kernel.routes.list({ family, table: MAIN_TABLE }));
    // A link so new that its notification is still on the way: whose route it is depends on its name.
    if (routes.some(({ link }) => link !== undefined && !this.#links.has(link))) this.relistLinks();
    return routes.map((route) => this.route(route));
  }

  /** A route of a notification, or undefined when it is in a table that is not ours to look at. */
  routeOf(route: Route): KernelRoute | undefined {
    return route.table === MAIN_TABLE ? this.route(route) : undefined;
  }

  addRoute(route: RouteSpec & { readonly protocol: number }): void {
    this.#kernel.routes.add(this.#routeSpec(route));
  }

  replaceRoute(route: RouteSpec & { readonly protocol: number }): void {
    this.#kernel.routes.replace(this.#routeSpec(route));
  }

  deleteRoute(route: KernelRoute): void {
    // Without interface and gateway: the kernel would not match a route whose next hops are several.
    const { protocol } = route;
    const link = route.interfaceName === undefined ? undefined : this.#indexes.get(route.interfaceName);
    this.#kernel.routes.delete({
      destination: parsePrefix(route.destination),
      type: route.type as Route["type"],
      table: MAIN_TABLE,
      metric: route.metric,
      protocol,
      ...(link === undefined || route.type !== "unicast" ? {} : { link }),
    });
  }

  listNeighbours(interfaceName: string): readonly KernelNeighbour[] {
    const link = this.#indexes.get(interfaceName);
    if (link === undefined) return [];
    const entries = [
      ...this.#kernel.neighbours.list({ kind: "neighbour", link }),
      ...this.#kernel.neighbours.list({ kind: "fdb", link }),
    ];
    return entries.map((entry) => neighbour(entry, interfaceName));
  }

  putNeighbour(entry: NeighbourSpec): void {
    const link = this.#indexOf(entry.interfaceName);
    const { mac } = entry;
    if (entry.kind === "fdb") {
      this.#kernel.neighbours.replace({ kind: "fdb", link, mac, destination: parseAddress(entry.destination) });
    } else {
      const address = parseAddress(entry.address);
      this.#kernel.neighbours.replace({ kind: "neighbour", link, address, mac, state: NUD_PERMANENT });
    }
  }

  deleteNeighbour(entry: NeighbourSpec): void {
    const link = this.#indexes.get(entry.interfaceName);
    if (link === undefined) return;
    if (entry.kind === "fdb") {
      const destination = parseAddress(entry.destination);
      this.#kernel.neighbours.delete({ kind: "fdb", link, mac: entry.mac, destination });
    } else {
      this.#kernel.neighbours.delete({ kind: "neighbour", link, address: parseAddress(entry.address) });
    }
  }

  getTunnel(name: string): KernelTunnel | undefined {
    const link = this.#kernel.links.get(name);
    if (link === undefined) return undefined;
    const vxlan = this.#vxlanOf(link);
    return {
      name,
      up: link.up,
      mtu: link.mtu,
      ...(link.mac === undefined ? {} : { mac: link.mac }),
      ...(vxlan === undefined ? {} : { vxlan }),
      addresses: this.#globalAddresses(link.index).map((held) => formatAddress(held.address)),
    };
  }

  createTunnel(spec: TunnelSpec): void {
    const { name, mtu, mac, vxlan } = spec;
    const common = { name, mtu, ...(mac === undefined ? {} : { mac }) };
    const created =
      vxlan === undefined
        ? this.#kernel.links.create({ kind: "ipip", ...common })
        : this.#kernel.links.create({
            kind: "vxlan",
            ...common,
            id: vxlan.vni,
            port: vxlan.port,
            local: parseAddress(vxlan.local),
            underlay: this.#indexOf(vxlan.underlay),
            learning: false,
          });
    // Known at once: what follows in this pass must not wait for the notification.
    if (created !== undefined) this.#remember(created);
  }

  deleteLink(name: string): void {
    this.#kernel.links.delete(name);
    const index = this.#indexes.get(name);
    if (index !== undefined) this.#links.delete(index);
    this.#indexes.delete(name);
  }

  setLink(name: string, change: { readonly mtu?: number; readonly mac?: string; readonly up?: boolean }): void {
    this.#kernel.links.set(name, change);
    const link = this.#kernel.links.get(name);
    if (link !== undefined) this.#remember(link);
  }

  /** As the kernel has it now. */
  readLink(name: string): Link | undefined {
    return this.#kernel.links.get(name);
  }

  setGroup(index: number, group: number): void {
    this.#kernel.links.set(index, { group });
    const link = this.#links.get(index);
    if (link !== undefined) this.#remember({ ...link, group });
  }

  addTunnelAddress(name: string, address: string): void {
    const parsed = parseAddress(address);
    const prefixLength = addressBits(parsed.family);
    this.#kernel.addresses.replace({ link: this.#indexOf(name), address: parsed, prefixLength, noDad: true });
  }

  removeTunnelAddress(name: string, address: string): void {
    const link = this.#indexOf(name);
    for (const held of this.#globalAddresses(link)) {
      if (formatAddress(held.address) !== address) continue;
      this.#kernel.addresses.delete({ link, address: held.address, prefixLength: held.prefixLength });
    }
  }

  fullLengthAddresses(prefixes: readonly string[]): readonly HeldAddress[] {
    return this.#kernel.addresses.list().flatMap(({ address, flags, link, prefixLength, scope }) => {
      const { family } = address;
      const interfaceName = this.nameOf(link) ?? "";
      if (prefixLength < addressBits(family) || !isWorkloadInterface(interfaceName, prefixes)) return [];
      const ours = family === 4 ? scope === SCOPE_LINK : scope === 0 && (flags & IFA_F_NODAD) !== 0;
      return [{ interfaceName, family, address: formatAddress(address), ours }];
    });
  }

  addPeeringAddress({ address: text, family, interfaceName }: PeeringAddress): boolean {
    const link = this.#indexes.get(interfaceName);
    if (link === undefined) return false;
    const address = parseAddress(text);
    // The kernel works out IPv6 scopes by itself.
    const rest = family === 4 ? { scope: SCOPE_LINK } : { noDad: true };
    this.#kernel.addresses.replace({ link, address, prefixLength: addressBits(family), ...rest });
    return true;
  }

  removePeeringAddress({ address, family, interfaceName }: PeeringAddress): void {
    const link = this.#indexes.get(interfaceName);
    if (link === undefined) return;
    this.#kernel.addresses.delete({ link, address: parseAddress(address), prefixLength: addressBits(family) });
  }

  getSysctl(key: string): string | undefined {
    return this.#kernel.sysctl.get(key);
  }

  setSysctl(key: string, value: string): void {
    this.#kernel.sysctl.set(key, value);
  }

  flushConntrack(addresses: readonly string[]): void {
    this.#kernel.conntrack.forget(addresses.map(parseAddress));
  }

  route(route: Route): KernelRoute {
    const single = route.nextHops?.length === 1 ? route.nextHops[0] : undefined;
    const link = route.link ?? single?.link;
    const gateway = route.gateway ?? single?.gateway;
    const interfaceName = link === undefined ? undefined : this.#links.get(link)?.name;
    return {
      destination: formatPrefix(route.destination),
      metric: route.metric ?? 0,
      type: route.type,
      protocol: route.protocol,
      scope: route.scope === SCOPE_LINK ? "link" : route.scope === 0 ? "global" : String(route.scope),
      ...(interfaceName === undefined ? {} : { interfaceName }),
      ...(gateway === undefined ? {} : { gateway: formatAddress(gateway) }),
      ...((route.onlink ?? single?.onlink) === true ? { onlink: true } : {}),
      ...((route.nextHops?.length ?? 0) > 1 ? { multipath: true } : {}),
    };
  }

  #routeSpec(route: RouteSpec & { readonly protocol: number }): NetlinkRouteSpec {
    const { destination, gateway, interfaceName, metric, onlink, protocol, type } = route;
    return {
      destination: parsePrefix(destination),
      type,
      table: MAIN_TABLE,
      protocol,
      metric,
      scope: route.scope === "link" && !destination.includes(":") ? SCOPE_LINK : 0,
      ...(gateway === undefined ? {} : { gateway: parseAddress(gateway) }),
      ...(interfaceName === undefined ? {} : { link: this.#indexOf(interfaceName) }),
      ...(onlink === true ? { onlink } : {}),
    };
  }

  #vxlanOf(link: Link): VxlanParameters | undefined {
    if (link.info.kind !== "vxlan" || link.info.learning === true) return undefined;
    const { id, local, port, underlay } = link.info;
    return {
      vni: id,
      port: port ?? 0,
      local: local === undefined ? "" : formatAddress(local),
      underlay: (underlay === undefined ? undefined : this.nameOf(underlay)) ?? "",
    };
  }

  #globalAddresses(link: number): readonly LinkAddress[] {
    return this.#kernel.addresses.list({ link }).filter((held) => held.link === link && held.scope === 0);
  }

  #remember(link: Link): void {
    this.#links.set(link.index, link);
    this.#indexes.set(link.name, link.index);
  }

  /** 0 is nobody's index: the kernel refuses it by name, which is what a vanished interface deserves. */
  #indexOf(name: string): number {
    return this.#indexes.get(name) ?? 0;
  }
}

function neighbour(entry: Neighbour, interfaceName: string): KernelNeighbour {
  if (entry.kind === "fdb") {
    const { destination, mac } = entry;
    return {
      kind: "fdb",
      interfaceName,
      mac,
      ...(destination === undefined ? {} : { destination: formatAddress(destination) }),
    };
  }
  return {
    kind: "neighbour",
    interfaceName,
    address: formatAddress(entry.address),
    permanent: (entry.state & NUD_PERMANENT) !== 0,
    ...(entry.mac === undefined ? {} : { mac: entry.mac }),
  };
}
