/**
 * A node's kernel as the drivers see it, in memory. Small but real: refuses what the kernel refuses (a taken destination, a missing or
 * downed interface, an unknown device), drops an interface's routes when it goes down, and keeps a list of what was written.
 */
import { CalicoError } from "@calico-ts/std";
import type { ConntrackKernel } from "../src/dataplane/conntrack-flusher.ts";
import type { KernelTunnel, TunnelKernel, TunnelSpec } from "../src/dataplane/links/tunnel-driver.ts";
import type { KernelNeighbour, NeighbourKernel, NeighbourSpec } from "../src/dataplane/neighbours/neighbour-driver.ts";
import { type KernelRoute, type RouteKernel, type RouteSpec, routeKey } from "../src/dataplane/routes/route-driver.ts";
import type { SysctlKernel } from "../src/dataplane/sysctl/sysctl-driver.ts";

export class FakeNodeKernel implements RouteKernel, NeighbourKernel, TunnelKernel, SysctlKernel, ConntrackKernel {
  readonly routes = new Map<string, KernelRoute>();
  readonly neighbours = new Map<string, KernelNeighbour>();
  readonly tunnels = new Map<string, KernelTunnel>();
  readonly up = new Set<string>();
  readonly sysctls = new Map<string, string>();
  readonly flows = new Map<string, number>();
  /** What changed, in order. */
  readonly log: string[] = [];
  /** Device names this kernel cannot make. */
  readonly unsupported = new Set<string>();

  listRoutes(): readonly KernelRoute[] {
    return [...this.routes.values()];
  }

  addRoute(route: RouteSpec & { readonly protocol: number }): void {
    if (this.routes.has(routeKey(route))) throw refused("EEXIST", "add route");
    this.#put(route, "add");
  }

  replaceRoute(route: RouteSpec & { readonly protocol: number }): void {
    this.#put(route, "replace");
  }

  deleteRoute(route: KernelRoute): void {
    const have = this.routes.get(routeKey(route));
    if (have === undefined || have.protocol !== route.protocol) throw refused("ESRCH", "delete route");
    this.routes.delete(routeKey(route));
    this.log.push(`delete ${routeKey(route)}`);
  }

  isUp(interfaceName: string): boolean {
    return this.up.has(interfaceName);
  }

  setDown(interfaceName: string): void {
    this.up.delete(interfaceName);
    for (const [key, route] of this.routes) if (route.interfaceName === interfaceName) this.routes.delete(key);
  }

  listNeighbours(interfaceName: string): readonly KernelNeighbour[] {
    return [...this.neighbours.values()].filter((entry) => entry.interfaceName === interfaceName);
  }

  putNeighbour(entry: NeighbourSpec): void {
    if (!this.up.has(entry.interfaceName)) throw refused("ENETDOWN", "put neighbour");
    const value: KernelNeighbour = entry.kind === "fdb" ? entry : { ...entry, permanent: true };
    this.neighbours.set(neighbourKey(value), value);
    this.log.push(`put ${neighbourKey(value)}`);
  }

  deleteNeighbour(entry: NeighbourSpec): void {
    this.neighbours.delete(neighbourKey(entry));
    this.log.push(`delete ${neighbourKey(entry)}`);
  }

  getTunnel(name: string): KernelTunnel | undefined {
    return this.tunnels.get(name);
  }

  createTunnel(spec: TunnelSpec): void {
    if (this.unsupported.has(spec.name)) throw refused("EOPNOTSUPP", `create ${spec.name}`);
    if (this.tunnels.has(spec.name)) throw refused("EEXIST", `create ${spec.name}`);
    const { mac, mtu, name, vxlan } = spec;
    this.tunnels.set(name, {
      name,
      up: false,
      mtu,
      addresses: [],
      ...(mac === undefined ? {} : { mac }),
      ...(vxlan === undefined ? {} : { vxlan }),
    });
    this.log.push(`create ${name}`);
  }

  deleteLink(name: string): void {
    if (name === "tunl0") throw refused("EOPNOTSUPP", "delete tunl0");
    this.tunnels.delete(name);
    this.setDown(name);
    this.log.push(`delete ${name}`);
  }

  setLink(name: string, change: { readonly mtu?: number; readonly mac?: string; readonly up?: boolean }): void {
    this.#changeTunnel(name, change);
    if (change.up === true) this.up.add(name);
    if (change.up === false) this.setDown(name);
    this.log.push(`set ${name} ${JSON.stringify(change)}`);
  }

  addTunnelAddress(name: string, address: string): void {
    this.#changeTunnel(name, { addresses: [...(this.tunnels.get(name)?.addresses ?? []), address] });
  }

  removeTunnelAddress(name: string, address: string): void {
    const held = this.tunnels.get(name)?.addresses ?? [];
    this.#changeTunnel(name, { addresses: held.filter((one) => one !== address) });
  }

  getSysctl(key: string): string | undefined {
    return this.sysctls.get(key);
  }

  setSysctl(key: string, value: string): void {
    if (!this.sysctls.has(key)) throw refused("ENOENT", `set ${key}`);
    this.sysctls.set(key, value);
    this.log.push(`sysctl ${key}=${value}`);
  }

  flushConntrack(addresses: readonly string[]): void {
    for (const address of addresses) this.flows.delete(address);
    this.log.push(`flush ${addresses.join(" ")}`);
  }

  #put(route: RouteSpec & { readonly protocol: number }, how: string): void {
    if (route.interfaceName !== undefined && !this.up.has(route.interfaceName)) throw refused("ENODEV", "put route");
    this.routes.set(routeKey(route), { ...route });
    this.log.push(`${how} ${routeKey(route)}`);
  }

  #changeTunnel(name: string, change: Partial<KernelTunnel>): void {
    const have = this.tunnels.get(name);
    if (have === undefined) throw refused("ENODEV", `change ${name}`);
    this.tunnels.set(name, { ...have, ...change });
  }
}

export function refused(errnoName: string, operation: string): CalicoError {
  return new CalicoError("KERNEL", `${operation}: ${errnoName}`, { detail: { errno: 1, errnoName, operation } });
}

const neighbourKey = (entry: NeighbourSpec | KernelNeighbour): string =>
  entry.kind === "fdb"
    ? `fdb ${entry.interfaceName} ${entry.mac}`
    : `neighbour ${entry.interfaceName} ${entry.address}`;
