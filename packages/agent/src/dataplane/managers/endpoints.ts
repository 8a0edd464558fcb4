/**
 * Workload endpoints → what the node needs for each beside policy: a route for every address of the pod through its
 * host interface, also for its floating ones (that is what BGP tells the network), and the interface's sysctls.
 *
 * The interface may come later than the endpoint (the CNI ADD creates it) or go earlier: drivers wait for it. An address that
 * leaves an endpoint, or moves to another interface, has its connections forgotten before its next route is
 * installed. Where two endpoints claim one address, the one whose id sorts first has it.
 */
import type { DataplaneMessage, WorkloadEndpoint } from "@calico-ts/dataplane-api";
import { workloadIdText } from "@calico-ts/dataplane-api";
import type { Family } from "@calico-ts/net";
import { formatPrefix, tryParsePrefix } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";
import type { BandwidthDriver, Limits } from "../bandwidth/bandwidth-driver.ts";
import { tokenBucket } from "../bandwidth/token-bucket.ts";
import type { ConntrackFlusher } from "../conntrack-flusher.ts";
import { type RouteDriver, routeKey, type RouteSpec } from "../routes/route-driver.ts";
import type { SysctlDriver, SysctlValues } from "../sysctl/sysctl-driver.ts";

export interface EndpointManagerOptions {
  readonly routes: RouteDriver;
  readonly sysctls: SysctlDriver;
  readonly bandwidth: BandwidthDriver;
  readonly conntrack: ConntrackFlusher;
  readonly ipv6: boolean;
  readonly allowSpoofing: boolean;
  readonly floatingIps: boolean;
  readonly log: Logger;
  readonly metric: Readonly<Record<Family, number>>;
}

interface Placed {
  readonly endpoint: WorkloadEndpoint;
  readonly routes: readonly RouteSpec[];
}

export class EndpointManager {
  readonly #options: EndpointManagerOptions;
  readonly #endpoints = new Map<string, Placed>();
  /** Destination → endpoint id → the route it would have. */
  readonly #claims = new Map<string, Map<string, RouteSpec>>();
  /** Destination → the route the driver was told last. */
  readonly #placed = new Map<string, RouteSpec>();
  readonly #dirty = new Set<string>();
  /** Interfaces no route may lead to, and how many want it so. */
  readonly #withheld = new Map<string, number>();

  constructor(options: EndpointManagerOptions) {
    this.#options = options;
  }

  receive(message: DataplaneMessage): void {
    if (message.kind === "workload-endpoint-update") {
      const { endpoint } = message;
      this.#tellOfFloating(workloadIdText(message.id), endpoint);
      this.#replace(workloadIdText(message.id), { endpoint, routes: this.#routesOf(endpoint) });
      this.#options.sysctls.want(endpoint.interfaceName, this.#sysctlsOf(endpoint));
      this.#options.bandwidth.want(endpoint.interfaceName, limitsOf(endpoint));
    } else if (message.kind === "workload-endpoint-remove") {
      this.#replace(workloadIdText(message.id), undefined);
    }
  }

  /** Tells the drivers what changed. */
  settle(): void {
    for (const destination of this.#dirty) {
      const before = this.#placed.get(destination);
      const after = this.#chosen(destination);
      if (before !== undefined && before.interfaceName !== after?.interfaceName) {
        this.#options.conntrack.add(destination);
      }
      if (after !== undefined) {
        this.#placed.set(destination, after);
        this.#options.routes.wantOne("local-workload", after);
      } else if (before !== undefined) {
        this.#placed.delete(destination);
        this.#options.routes.unwantOne("local-workload", routeKey(before));
      }
    }
    this.#dirty.clear();
  }

  /** No route leads to the interface until this is disposed. Takes effect with the next `settle`. */
  withhold(interfaceName: string): Disposable {
    const count = (by: number): void => {
      this.#withheld.set(interfaceName, (this.#withheld.get(interfaceName) ?? 0) + by);
      if (this.#withheld.get(interfaceName) === 0) this.#withheld.delete(interfaceName);
      for (const [id, { endpoint }] of this.#endpoints) {
        if (endpoint.interfaceName === interfaceName) this.#replace(id, { endpoint, routes: this.#routesOf(endpoint) });
      }
    };
    count(1);
    return { [Symbol.dispose]: () => count(-1) };
  }

  /** What the kernel must hold for this endpoint; undefined when there is no such endpoint. */
  routesFor(id: string): readonly RouteSpec[] | undefined {
    return this.#endpoints.get(id)?.routes;
  }

  get(id: string): WorkloadEndpoint | undefined {
    return this.#endpoints.get(id)?.endpoint;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  #replace(id: string, next: Placed | undefined): void {
    const before = this.#endpoints.get(id);
    if (next === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, next);
    for (const { destination } of before?.routes ?? []) {
      const claims = this.#claims.get(destination);
      claims?.delete(id);
      if (claims?.size === 0) this.#claims.delete(destination);
      this.#dirty.add(destination);
    }
    for (const route of next?.routes ?? []) {
      const claims = this.#claims.get(route.destination) ?? new Map<string, RouteSpec>();
      claims.set(id, route);
      this.#claims.set(route.destination, claims);
      this.#dirty.add(route.destination);
    }
    const released = before?.endpoint.interfaceName;
    if (released !== undefined && released !== next?.endpoint.interfaceName) this.#releaseInterface(released);
  }

  #chosen(destination: string): RouteSpec | undefined {
    const claims = this.#claims.get(destination);
    const id = claims === undefined ? undefined : [...claims.keys()].toSorted()[0];
    return id === undefined ? undefined : claims?.get(id);
  }

  #routesOf(endpoint: WorkloadEndpoint): readonly RouteSpec[] {
    if (!endpoint.active || this.#withheld.has(endpoint.interfaceName)) return [];
    const floating = this.#options.floatingIps ? (endpoint.floatingAddresses ?? []) : [];
    const texts = new Set([...endpoint.addresses, ...floating.map(({ external }) => hostText(external))]);
    return [...texts].flatMap((text): RouteSpec[] => {
      const prefix = tryParsePrefix(text, "mask");
      if (prefix === undefined || (prefix.family === 6 && !this.#options.ipv6)) return [];
      return [
        {
          destination: formatPrefix(prefix),
          metric: this.#options.metric[prefix.family],
          type: "unicast",
          interfaceName: endpoint.interfaceName,
          scope: "link",
        },
      ];
    });
  }

  /** Once, when it asks. */
  #tellOfFloating(id: string, { floatingAddresses = [] }: WorkloadEndpoint): void {
    const asked = this.#endpoints.get(id)?.endpoint.floatingAddresses ?? [];
    if (this.#options.floatingIps || floatingAddresses.length === 0 || asked.length > 0) return;
    this.#options.log.warning("floating_ips.disabled", {
      endpoint: id,
      hint: "the annotation floatingIPs does nothing while floatingIPs of FelixConfiguration is Disabled",
    });
  }

  #sysctlsOf(endpoint: WorkloadEndpoint): SysctlValues {
    const { interfaceName, allowedSourcePrefixes } = endpoint;
    const mayleave = this.#options.allowSpoofing && allowedSourcePrefixes.length > 0;
    return workloadSysctls(interfaceName, { strictReversePath: !mayleave, ipv6: this.#options.ipv6 });
  }

  #releaseInterface(name: string): void {
    for (const { endpoint } of this.#endpoints.values()) if (endpoint.interfaceName === name) return;
    this.#options.sysctls.want(name, undefined);
    this.#options.bandwidth.want(name, undefined);
  }
}

const hostText = (address: string): string => `${address}/${address.includes(":") ? 128 : 32}`;

const limitsOf = ({ ingressBandwidth, egressBandwidth }: WorkloadEndpoint): Limits => ({
  ...(ingressBandwidth !== undefined && { ingress: tokenBucket(ingressBandwidth) }),
  ...(egressBandwidth !== undefined && { egress: tokenBucket(egressBandwidth) }),
});

/**
 * The host end of a pod's veth: it answers ARP and NDP for everything (the pod's gateway 169.254.1.1 exists nowhere), without
 * delay, forwards, takes no router advertisements, and lets no packet in whose source would not be routed back.
 */
export function workloadSysctls(
  name: string,
  options: { readonly strictReversePath: boolean; readonly ipv6: boolean },
): SysctlValues {
  const v4 = `net/ipv4/conf/${name}`;
  const v6 = `net/ipv6/conf/${name}`;
  return {
    [`${v4}/route_localnet`]: "1",
    [`net/ipv4/neigh/${name}/proxy_delay`]: "0",
    [`${v4}/proxy_arp`]: "1",
    [`${v4}/forwarding`]: "1",
    [`${v4}/rp_filter`]: options.strictReversePath ? "1" : "0",
    ...(options.ipv6 ? { [`${v6}/accept_ra`]: "0", [`${v6}/proxy_ndp`]: "1", [`${v6}/forwarding`]: "1" } : {}),
  };
}
