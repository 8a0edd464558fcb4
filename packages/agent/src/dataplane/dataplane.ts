/**
 * START HERE for the dataplane: messages in, kernel out. Builds drivers and managers, binds them to the phases of a
 * pass, and turns kernel notifications and refresh timers into passes.
 *
 *   messages ─▶ renderer ───────────────▶ TableDriver ─────┐
 *            │                         └▶ LinkGroups ───────┤
 *            ├▶ EndpointManager ─────────▶ RouteDriver ─────┤
 *            │                         ├▶ BandwidthDriver ──┤
 *            │                         └▶ SysctlDriver ─────┼─▶ phases, in order ─▶ kernel
 *            └▶ ClusterRouteManager ─────▶ RouteDriver ─────┤                          │
 *                                      └▶ Tunnel-, NeighbourDriver                     │
 *   every driver ◀── "this may not be as you left it" ◀── notifications, refresh ◀─────┘
 */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import { policyIdText, workloadIdText } from "@calico-ts/dataplane-api";
import type { Kernel } from "@calico-ts/linux";
import { LinkGroups, NftPolicyRenderer } from "@calico-ts/policy-compiler";
import type { Clock, Logger } from "@calico-ts/runtime";
import { errorText } from "@calico-ts/std";
import { TaskGroup } from "@calico-ts/runtime";
import type { AgentConfig } from "../config/params.ts";
import { ApplyLoop, type PassReport } from "./apply-loop.ts";
import { BandwidthDriver } from "./bandwidth/bandwidth-driver.ts";
import { ConntrackFlusher } from "./conntrack-flusher.ts";
import { PeeringAddresses } from "./links/peering-addresses.ts";
import { TunnelDriver } from "./links/tunnel-driver.ts";
import { ClusterRouteManager } from "./managers/cluster-routes.ts";
import { EndpointManager } from "./managers/endpoints.ts";
import { HostInterfaces } from "./managers/host-interfaces.ts";
import { MtuReporter } from "./managers/mtu-reporter.ts";
import { NeighbourDriver } from "./neighbours/neighbour-driver.ts";
import { TableDriver } from "./nft/table-driver.ts";
import { NodeKernel } from "./node-kernel.ts";
import { KernelObserver } from "./observer.ts";
import { isWorkloadInterface, VXLAN_DEVICE } from "./ownership.ts";
import type { PhaseName } from "./phases.ts";
import { APPLY_PHASES } from "./phases.ts";
import { RouteDriver } from "./routes/route-driver.ts";
import { SysctlDriver } from "./sysctl/sysctl-driver.ts";

export interface DataplaneOptions {
  readonly kernel: Kernel;
  readonly node: string;
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly log: Logger;
  /** Where the MTU for CNI is written. */
  readonly mtuFile: string;
  readonly onPass?: (report: PassReport) => void;
  /** How long a stranger's route through a workload interface is left alone. */
  readonly routeGraceMs?: number;
}

export class Dataplane implements AsyncDisposable {
  readonly #options: DataplaneOptions;
  readonly #loop: ApplyLoop;
  readonly #tasks = new TaskGroup();
  readonly #watch: Disposable;
  readonly #renderer = new NftPolicyRenderer();
  readonly #passWaiters = new Set<() => void>();
  readonly #policies = new Set<string>();
  /** Messages are numbered: an endpoint is in force when a committed transaction includes the last message about it. */
  readonly #endpointMessages = new Map<string, number>();
  #received = 0;
  #committed = 0;
  #inForce = false;
  #wakesAt = Number.POSITIVE_INFINITY;
  readonly linkGroups: LinkGroups;
  readonly table: TableDriver;
  readonly routes: RouteDriver;
  readonly neighbours: NeighbourDriver;
  readonly tunnels: TunnelDriver;
  readonly peeringAddresses: PeeringAddresses;
  readonly sysctls: SysctlDriver;
  readonly bandwidth: BandwidthDriver;
  readonly conntrack: ConntrackFlusher;
  readonly endpoints: EndpointManager;
  readonly clusterRoutes: ClusterRouteManager;
  readonly mtu: MtuReporter;
  readonly hostInterfaces: HostInterfaces;

  constructor(options: DataplaneOptions) {
    this.#options = options;
    const { clock, config, kernel: raw, log, node } = options;
    const kernel = new NodeKernel(raw);
    const workloadPrefixes = config.interfacePrefix.split(",");

    this.linkGroups = linkGroups(kernel, workloadPrefixes, log.child("rules"));
    this.table = new TableDriver({
      kernel: raw.nft,
      source: this.#renderer,
      setGroups: (groups) => this.linkGroups.apply(groups),
      log: log.child("rules"),
    });
    this.routes = new RouteDriver({
      kernel,
      ownership: { workloadPrefixes, removeExternal: config.removeExternalRoutes },
      log: log.child("routes"),
      now: () => clock.monotonic(),
      wakeAfter: (ms) => this.#wakeAfter(ms),
      onWithdrawn: (destination) => this.conntrack.add(destination),
      ...(options.routeGraceMs === undefined ? {} : { graceMs: options.routeGraceMs }),
    });
    this.neighbours = new NeighbourDriver({
      kernel,
      devices: Object.values(VXLAN_DEVICE),
      log: log.child("neighbours"),
    });
    this.tunnels = new TunnelDriver({ kernel, log: log.child("tunnels") });
    this.peeringAddresses = new PeeringAddresses({
      kernel,
      workloadPrefixes,
      ipv6: config.ipv6Support,
      log: log.child("peering"),
      onRemoved: () => this.routes.markForResync(),
    });
    this.sysctls = new SysctlDriver({ kernel, log: log.child("sysctls") });
    this.bandwidth = new BandwidthDriver({ kernel: raw, log: log.child("bandwidth") });
    this.conntrack = new ConntrackFlusher({ kernel, log: log.child("conntrack") });

    this.endpoints = new EndpointManager({
      routes: this.routes,
      sysctls: this.sysctls,
      bandwidth: this.bandwidth,
      conntrack: this.conntrack,
      ipv6: config.ipv6Support,
      allowSpoofing: config.workloadSourceSpoofing === "Any",
      floatingIps: config.floatingIPs === "Enabled",
      log: log.child("endpoints"),
      metric: { 4: config.ipv4NormalRoutePriority, 6: config.ipv6NormalRoutePriority },
    });
    this.mtu = new MtuReporter({
      config,
      links: () => kernel.links(),
      inUse: () => this.clusterRoutes.encapsulations(),
      nodeMtu: () => this.clusterRoutes.uplinkMtu(),
      file: options.mtuFile,
      log: log.child("mtu"),
    });
    this.hostInterfaces = new HostInterfaces({
      read: () => kernel.interfaceAddresses(),
      tell: (interfaces) => this.#renderer.setHostInterfaces(interfaces),
      workloadPrefixes,
      exclude: config.interfaceExclude,
    });
    this.clusterRoutes = new ClusterRouteManager({
      node,
      config,
      routes: this.routes,
      neighbours: this.neighbours,
      tunnels: this.tunnels,
      interfaceWith: (address) => kernel.interfaceWith(address),
      hostMtu: () => this.mtu.hostMtu(),
    });
    if (config.ipForwarding === "Enabled") {
      const v6 = config.ipv6Support ? { "net/ipv6/conf/all/forwarding": "1" } : {};
      this.sysctls.want("node", { "net/ipv4/ip_forward": "1", ...v6 });
    }

    this.#loop = new ApplyLoop({
      order: APPLY_PHASES,
      steps: this.#steps(),
      clock,
      log,
      onPass: (report) => this.#afterPass(report),
    });
    this.#watch = this.#watchKernel(kernel, workloadPrefixes);
    this.#refresh(config.nftablesRefreshInterval, () => this.table.markForResync("refresh"));
    this.#refresh(config.routeRefreshInterval, () => this.routes.markForResync());
    this.#refresh(config.interfaceRefreshInterval, () => {
      kernel.relistLinks();
      this.#lookAtInterfaces();
    });
  }

  /** Cheap; the kernel hears of it in the next pass. */
  receive(message: DataplaneMessage): void {
    if (message.kind === "policy-update") this.#policies.add(policyIdText(message.id));
    if (message.kind === "policy-remove") this.#policies.delete(policyIdText(message.id));
    this.#received++;
    if (message.kind === "workload-endpoint-update") {
      this.#endpointMessages.set(workloadIdText(message.id), this.#received);
    } else if (message.kind === "workload-endpoint-remove") {
      this.#endpointMessages.delete(workloadIdText(message.id));
    }
    this.#renderer.receive(message);
    this.endpoints.receive(message);
    this.peeringAddresses.receive(message);
    this.clusterRoutes.receive(message);
    this.#loop.mark();
  }

  /** The first complete snapshot has been received: changes may begin. */
  open(): void {
    this.#loop.open();
  }

  get isOpen(): boolean {
    return this.#loop.isOpen;
  }

  get passes(): number {
    return this.#loop.passes;
  }

  /** Policies that apply to endpoints of this node. */
  get policyCount(): number {
    return this.#policies.size;
  }

  /** True while a pass waits for the kernel. */
  get busy(): boolean {
    return this.#loop.busy;
  }

  failures(): ReadonlyMap<PhaseName, unknown> {
    return this.#loop.failures();
  }

  whenIdle(): Promise<void> {
    return this.#loop.whenIdle();
  }

  /** True when policy and routes of the endpoint, as last received, are in the kernel. */
  isProgrammed(endpointId: string): boolean {
    const routes = this.endpoints.routesFor(endpointId);
    const message = this.#endpointMessages.get(endpointId);
    if (routes === undefined || message === undefined || message > this.#committed) return false;
    const { interfaceName = "" } = this.endpoints.get(endpointId) ?? {};
    if (!this.linkGroups.isSet(interfaceName)) return false;
    return this.#options.config.routeSyncDisabled || this.routes.hasAll(routes);
  }

  /** No route leads to a pod's interface until this is disposed. */
  withholdRoutes(interfaceName: string): Disposable {
    const withheld = this.endpoints.withhold(interfaceName);
    this.#loop.mark();
    return {
      [Symbol.dispose]: () => {
        withheld[Symbol.dispose]();
        this.#loop.mark();
      },
    };
  }

  /** Calls back after every pass, until disposed. */
  afterEachPass(callback: () => void): Disposable {
    this.#passWaiters.add(callback);
    return { [Symbol.dispose]: () => this.#passWaiters.delete(callback) };
  }

  async dump(): Promise<unknown> {
    return {
      rules: await this.table.dump(),
      groups: this.linkGroups.dump(),
      routes: this.routes.dump(),
      tunnels: this.tunnels.dump(),
      neighbours: this.neighbours.dump(),
      peeringAddresses: this.peeringAddresses.dump(),
      sysctls: this.sysctls.dump(),
      bandwidth: this.bandwidth.dump(),
      mtu: this.mtu.dump(),
      hostInterfaces: this.hostInterfaces.dump(),
      conntrack: { pending: this.conntrack.pending },
      failures: Object.fromEntries([...this.failures()].map(([phase, error]) => [phase, errorText(error)])),
      passes: this.passes,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch[Symbol.dispose]();
    await this.#tasks[Symbol.asyncDispose]();
    await this.#loop[Symbol.asyncDispose]();
  }

  #steps(): Readonly<Record<PhaseName, () => Promise<void> | void>> {
    const routesManaged = !this.#options.config.routeSyncDisabled;
    const ifManaged = (step: () => void): void => {
      if (routesManaged) step();
    };
    return {
      settle: () => {
        this.endpoints.settle();
        if (this.clusterRoutes.isDirty) this.mtu.touched(); // links, addresses or hosts changed
        this.clusterRoutes.settle();
      },
      links: () => this.tunnels.apply(),
      rules: async () => {
        const upTo = this.#received;
        this.hostInterfaces.settle(); // here, so that rules without it are never committed
        await this.table.apply();
        this.#committed = upTo;
      },
      sysctls: () => this.sysctls.apply(),
      bandwidth: () => this.bandwidth.apply(),
      "peering-addresses": () => this.peeringAddresses.apply(),
      "withdraw-routes": () => ifManaged(() => this.routes.withdraw()),
      conntrack: () => this.conntrack.apply(),
      "workload-routes": () => ifManaged(() => this.routes.install("workload")),
      neighbours: () => this.neighbours.apply(),
      "cluster-routes": () => ifManaged(() => this.routes.install("cluster")),
      "mtu-file": () => this.mtu.write(),
    };
  }

  #afterPass(report: PassReport): void {
    if (!this.#inForce && report.failed.size === 0) {
      this.#inForce = true;
      const { endpoints, routes } = this;
      this.#options.log.info("dataplane.in_force", {
        endpoints: endpoints.size,
        routes: routes.size,
        passes: this.passes,
      });
    }
    this.#options.onPass?.(report);
    for (const callback of this.#passWaiters) callback();
  }

  #watchKernel(kernel: NodeKernel, workloadPrefixes: readonly string[]): Disposable {
    const { kernel: raw } = this.#options;
    const observer = new KernelObserver({ dataplane: this, kernel, workloadPrefixes, nftPortId: raw.nft.portId });
    return raw.watch(["link", "address", "route", "neighbour", "nftables"], (event) => {
      if (observer.note(event)) this.#loop.mark();
    });
  }

  /** Nobody tells of everything that changes on them. */
  #lookAtInterfaces(): void {
    this.tunnels.markForResync();
    this.peeringAddresses.markForResync();
    this.neighbours.markForResync();
    this.sysctls.markForResync();
    this.bandwidth.markForResync();
    this.linkGroups.markForResync();
    this.clusterRoutes.touched();
    this.hostInterfaces.touched();
  }

  #refresh(seconds: number, mark: () => void): void {
    if (seconds <= 0) return; // 0 switches a refresh off
    this.#tasks.start(async (signal) => {
      for (;;) {
        await this.#options.clock.sleep(seconds * 1000, signal);
        mark();
        this.#loop.mark();
      }
    });
  }

  /** Another pass in so many milliseconds, or earlier; many requests are one timer. */
  #wakeAfter(ms: number): void {
    const { clock } = this.#options;
    const at = clock.monotonic() + ms;
    if (at >= this.#wakesAt) return;
    this.#wakesAt = at;
    this.#tasks.start(async (signal) => {
      await clock.sleep(ms, signal);
      if (this.#wakesAt === at) this.#wakesAt = Number.POSITIVE_INFINITY;
      this.#loop.mark();
    });
  }
}

const linkGroups = (kernel: NodeKernel, workloadPrefixes: readonly string[], log: Logger): LinkGroups =>
  new LinkGroups({
    kernel: {
      list: () => kernel.links(),
      get: (name) => kernel.readLink(name),
      setGroup: (index, group) => kernel.setGroup(index, group),
    },
    isWorkload: (name) => isWorkloadInterface(name, workloadPrefixes),
    onRepair: (repair) => log.warning("rules.group_repair", { ...repair }),
  });
