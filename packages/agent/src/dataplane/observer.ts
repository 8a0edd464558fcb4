/**
 * Kernel notifications → which driver should look again. Our own changes come back here too: rule transactions carry our port id,
 * routes are compared with what the driver believes, links and addresses lead to a reading that finds nothing to do.
 */
import type { KernelEvent } from "@calico-ts/linux";
import { addressBits } from "@calico-ts/net";
import type { BandwidthDriver } from "./bandwidth/bandwidth-driver.ts";
import type { PeeringAddresses } from "./links/peering-addresses.ts";
import type { TunnelDriver } from "./links/tunnel-driver.ts";
import type { ClusterRouteManager } from "./managers/cluster-routes.ts";
import type { HostInterfaces } from "./managers/host-interfaces.ts";
import type { NeighbourDriver } from "./neighbours/neighbour-driver.ts";
import type { TableDriver } from "./nft/table-driver.ts";
import type { LinkGroups } from "@calico-ts/policy-compiler";
import type { NodeKernel } from "./node-kernel.ts";
import { isOurTable, isTunnelDevice, isVxlanDevice, isWorkloadInterface } from "./ownership.ts";
import type { RouteDriver } from "./routes/route-driver.ts";
import type { SysctlDriver } from "./sysctl/sysctl-driver.ts";

export interface Observed {
  readonly table: TableDriver;
  readonly routes: RouteDriver;
  readonly neighbours: NeighbourDriver;
  readonly tunnels: TunnelDriver;
  readonly peeringAddresses: PeeringAddresses;
  readonly sysctls: SysctlDriver;
  readonly bandwidth: BandwidthDriver;
  readonly linkGroups: LinkGroups;
  readonly clusterRoutes: ClusterRouteManager;
  readonly hostInterfaces: HostInterfaces;
}

export interface ObserverOptions {
  readonly dataplane: Observed;
  readonly kernel: NodeKernel;
  readonly workloadPrefixes: readonly string[];
  readonly nftPortId: number;
}

export class KernelObserver {
  readonly #options: ObserverOptions;

  constructor(options: ObserverOptions) {
    this.#options = options;
  }

  /** True when a pass is due. */
  note(event: KernelEvent): boolean {
    const { dataplane, kernel, nftPortId } = this.#options;
    switch (event.kind) {
      case "link":
        return this.#noteLink(event);
      case "address": {
        const name = kernel.nameOf(event.address.link);
        // Most are link-local addresses of pods' interfaces, which the kernel makes.
        if (name !== undefined && this.#isWorkload(name)) {
          const { address, prefixLength } = event.address;
          if (prefixLength < addressBits(address.family)) return false;
          if (!event.gone) dataplane.peeringAddresses.markForResync();
          else if (dataplane.peeringAddresses.touched(name)) dataplane.routes.markForResync();
          else return false;
          return true;
        }
        if (name !== undefined) dataplane.tunnels.touched(name);
        dataplane.clusterRoutes.touched();
        dataplane.hostInterfaces.touched();
        // Removing an address takes routes with it of which nobody is told.
        if (event.gone) dataplane.routes.markForResync();
        return true;
      }
      case "route": {
        const route = kernel.routeOf(event.route);
        return route !== undefined && dataplane.routes.seen(route, event.gone);
      }
      case "neighbour":
        if (!isVxlanDevice(kernel.nameOf(event.neighbour.link) ?? "")) return false;
        dataplane.neighbours.markForResync();
        return true;
      case "nftables":
        if (event.portId === nftPortId || !event.tables.some(isOurTable)) return false;
        dataplane.table.markForResync(`changed by ${event.process?.name ?? "another program"}`);
        return true;
      case "overrun":
        kernel.relistLinks();
        dataplane.table.markForResync("notifications were lost");
        dataplane.routes.markForResync();
        dataplane.neighbours.markForResync();
        dataplane.tunnels.markForResync();
        dataplane.peeringAddresses.markForResync();
        dataplane.sysctls.markForResync();
        dataplane.bandwidth.markForResync();
        dataplane.linkGroups.markForResync();
        dataplane.clusterRoutes.touched();
        dataplane.hostInterfaces.touched();
        return true;
    }
  }

  #noteLink(event: Extract<KernelEvent, { kind: "link" }>): boolean {
    const { dataplane, kernel } = this.#options;
    const { gone, link } = event;
    const before = kernel.noteLink(event);
    const regroup = dataplane.linkGroups.noted(link, gone);
    const wasUp = before?.up === true;
    if (!gone && before !== undefined && wasUp === link.up && before.name === link.name && before.mtu === link.mtu) {
      if (!isTunnelDevice(link.name)) return regroup; // statistics, carrier, master: nothing of ours depends on them
    }
    if (wasUp && (gone || !link.up)) dataplane.routes.interfaceDown(before?.name ?? link.name);
    if (before === undefined || before.name !== link.name || (!wasUp && link.up)) {
      dataplane.sysctls.touched(link.name);
      if (this.#isWorkload(link.name)) dataplane.peeringAddresses.touched(link.name);
      dataplane.bandwidth.touched(link.name);
    }
    if (gone) dataplane.bandwidth.touched(link.name); // a helper that somebody took away
    if (!this.#isWorkload(link.name) || (before !== undefined && !this.#isWorkload(before.name)))
      dataplane.hostInterfaces.touched();
    if (this.#isWorkload(link.name)) return true;
    dataplane.tunnels.touched(link.name);
    if (isVxlanDevice(link.name)) dataplane.neighbours.markForResync();
    if (isTunnelDevice(link.name)) dataplane.routes.markForResync();
    dataplane.clusterRoutes.touched();
    return true;
  }

  #isWorkload(name: string): boolean {
    return isWorkloadInterface(name, this.#options.workloadPrefixes);
  }
}
