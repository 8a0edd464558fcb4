/**
 * The veth pair of a pod: made in one go over netlink, and found again without memory.
 *
 * The container id is the alias of the host side, so a DEL for an old sandbox cannot take down the interface of the pod's new one:
 * both have the same name, `cali` and a hash of the pod's name. Values are upstream's (inventory §6.1): host MAC ee:ee:ee:ee:ee:ee,
 * default route through 169.254.1.1 or the host's link-local address, one /32 or /128 per address. The gateway's MAC is a permanent
 * neighbour in the pod, so that the first packet waits for no ARP and a node without a default route answers too.
 */
import { closeSync, fstatSync, openSync, statSync } from "node:fs";
import type { Kernel } from "@calico-ts/linux";
import type { Link, Route } from "@calico-ts/netlink";
import { openKernel } from "@calico-ts/linux";
import type { IpAddress, Prefix } from "@calico-ts/net";
import { addressBits, formatAddress, formatPrefix, hostPrefix, parseAddress } from "@calico-ts/net";
import { CalicoError, sha1Hex } from "@calico-ts/std";
import { CniFailure, INVALID_ENVIRONMENT, KERNEL_REFUSED } from "./cni-failure.ts";
import type { PodEnd, PodLinks } from "./ports.ts";
import { DEFAULT_ROUTES } from "./request.ts";

export const HOST_MAC = "ee:ee:ee:ee:ee:ee";
const GATEWAY_V4 = parseAddress("169.254.1.1");
/** The EUI-64 link-local address of HOST_MAC (RFC 4291 appendix A). */
const GATEWAY_V6 = parseAddress("fe80::ecee:eeff:feee:eeee");
const PERMANENT = 0x80;
const SCOPE_LINK = 253;
/** Design §3: routes of ours carry protocol 80. */
const ROUTE_PROTOCOL = 80;
/** The default of ipv4NormalRoutePriority and ipv6NormalRoutePriority. With another one the agent adds its own route and takes this away. */
const ROUTE_METRIC = 1024;

export interface PodLinkSpec {
  readonly hostInterface: string;
  readonly podInterface: string;
  readonly containerId: string;
  readonly netns: string;
  readonly mtu: number;
  /** Absent: 1. */
  readonly queues?: number | undefined;
  readonly addresses: readonly IpAddress[];
  /** Where the pod's packets may go; absent or empty: everywhere. */
  readonly routes?: readonly Prefix[] | undefined;
  readonly allowIpForwarding: boolean;
  /** False: no routes on the host, for the target of a live migration. */
  readonly routed?: boolean | undefined;
  /** Of the pod's side; absent: the kernel's choice. */
  readonly mac?: string | undefined;
}

/** Host side name of a pod's interface: `cali` and 11 hex digits of SHA-1 over `<namespace>.<pod>` (upstream's scheme). */
export const podInterfaceName = (namespace: string, pod: string): string =>
  `cali${sha1Hex(`${namespace}.${pod}`).slice(0, 11)}`;

/** The pod's routes of a family. */
function routesOf({ routes = [] }: PodLinkSpec, family: 4 | 6): readonly Prefix[] {
  return (routes.length === 0 ? DEFAULT_ROUTES : routes).filter((route) => route.family === family);
}

/**
 * Creates the pair, configures the pod's side and the routes to it. A host interface of that name from an earlier sandbox is replaced.
 * On failure nothing is left. Returns the pod side's MAC.
 * @throws CniFailure 4 (no such namespace, interface already there) or 102 (the kernel refused a step)
 */
export function createPodLink(host: Kernel, spec: PodLinkSpec): string {
  const namespaceFd = openNamespace(spec.netns);
  const queues = { txQueues: spec.queues ?? 1, rxQueues: spec.queues ?? 1 };
  try {
    using pod = openPodKernel(spec.netns);
    if (pod.links.get(spec.podInterface) !== undefined) {
      throw new CniFailure(
        INVALID_ENVIRONMENT,
        `CNI_IFNAME: there is already an interface ${spec.podInterface} in ${spec.netns}`,
      );
    }
    step("replace the host interface", () => host.links.delete(spec.hostInterface));
    step("create the veth pair", () =>
      host.links.create({
        kind: "veth",
        name: spec.hostInterface,
        mac: HOST_MAC,
        mtu: spec.mtu,
        ...queues,
        peer: {
          name: spec.podInterface,
          mtu: spec.mtu,
          namespaceFd,
          ...queues,
          ...(spec.mac === undefined ? {} : { mac: spec.mac }),
        },
      }),
    );
    try {
      step("name the owner", () => host.links.set(spec.hostInterface, { alias: spec.containerId }));
      configureHostSide(host, spec);
      return configurePodSide(pod, spec);
    } catch (error) {
      host.links.delete(spec.hostInterface);
      throw error;
    }
  } finally {
    closeSync(namespaceFd);
  }
}

/** The node's kernel as the CNI service sees it. */
export class KernelPodLinks implements PodLinks {
  readonly #host: Kernel;

  constructor(host: Kernel) {
    this.#host = host;
  }

  create(spec: PodLinkSpec): string {
    return createPodLink(this.#host, spec);
  }

  delete(hostInterface: string, containerId: string, netns?: string): boolean {
    return deletePodLink(this.#host, hostInterface, containerId, netns);
  }

  async remove(hostInterface: string, containerId: string, netns?: string): Promise<boolean> {
    const link = ownLink(this.#host, hostInterface, containerId, netns);
    return link !== undefined && this.#host.links.remove(link.index);
  }

  check(spec: PodLinkSpec): string[] {
    return checkPodLink(this.#host, spec);
  }

  list(): { readonly hostInterface: string; readonly containerId: string }[] {
    return this.#host.links
      .list({ kind: "veth" })
      .flatMap(({ name, alias }) =>
        name.startsWith("cali") && alias !== undefined ? [{ hostInterface: name, containerId: alias }] : [],
      );
  }

  podEnd(hostInterface: string, containerId: string, netns: string): PodEnd | undefined {
    const link = this.#host.links.get(hostInterface);
    if (link === undefined || (link.alias !== undefined && link.alias !== containerId)) return undefined;
    return endIn(link, netns);
  }
}

/**
 * True when an interface was there and belonged to this container. One without an owner's name, whose maker died between making and naming it (or
 * was upstream's plugin), belongs to the container whose namespace holds its other end.
 */
export function deletePodLink(host: Kernel, hostInterface: string, containerId: string, netns = ""): boolean {
  const link = ownLink(host, hostInterface, containerId, netns);
  return link !== undefined && host.links.delete(link.index);
}

function ownLink(host: Kernel, hostInterface: string, containerId: string, netns = ""): Link | undefined {
  const link = host.links.get(hostInterface);
  if (link === undefined) return undefined;
  const ours = link.alias === undefined ? endIn(link, netns) !== undefined : link.alias === containerId;
  return ours ? link : undefined;
}

/** The other end of a pair, if it is in that namespace. */
function endIn(link: Link, netns: string): PodEnd | undefined {
  if (link.link === undefined || netns === "") return undefined;
  try {
    using pod = openKernel({ netns });
    const end = pod.links.get(link.link);
    // The same index may be another link in a namespace that is not the pair's.
    if (end?.mac === undefined || end.link !== link.index || end.info.kind !== "veth") return undefined;
    return { name: end.name, mac: end.mac };
  } catch {
    return undefined;
  }
}

/** What differs from what ADD made; empty when all is there. `mac` is compared where it is given. */
export function checkPodLink(host: Kernel, spec: PodLinkSpec): string[] {
  const hostLink = host.links.get(spec.hostInterface);
  if (hostLink === undefined) return [`the host interface ${spec.hostInterface} is gone`];
  const problems: string[] = [];
  if (hostLink.alias !== spec.containerId)
    problems.push(`${spec.hostInterface} belongs to another sandbox (${hostLink.alias ?? "?"})`);
  if (!hostLink.up) problems.push(`${spec.hostInterface} is down`);
  for (const address of spec.routed === false ? [] : spec.addresses) {
    const routes = host.routes.list({ family: address.family, link: hostLink.index });
    if (!leadsTo(routes, hostPrefix(address)))
      problems.push(`no route to ${formatAddress(address)} through ${spec.hostInterface}`);
  }
  return [...problems, ...checkPodSide(hostLink, spec)];
}

function checkPodSide(hostLink: Link, spec: PodLinkSpec): string[] {
  const { netns, podInterface } = spec;
  let opened: Kernel;
  try {
    opened = openKernel({ netns });
  } catch {
    return [`the namespace ${netns} cannot be entered`];
  }
  using pod = opened;
  const link = pod.links.get(podInterface);
  if (link === undefined) return [`the interface ${podInterface} is gone from ${netns}`];
  const problems: string[] = [];
  if (link.link !== hostLink.index) problems.push(`${podInterface} is not the other end of ${spec.hostInterface}`);
  if (!link.up) problems.push(`${podInterface} is down`);
  if (spec.mac !== undefined && link.mac !== spec.mac)
    problems.push(`${podInterface} has MAC ${link.mac ?? "none"}, not ${spec.mac}`);
  const held = pod.addresses.list({ link: link.index });
  for (const address of spec.addresses) {
    const { family, value } = address;
    if (!held.some((one) => one.address.family === family && one.address.value === value))
      problems.push(`${podInterface} lost the address ${formatAddress(address)}`);
    const routes = pod.routes.list({ family });
    for (const route of routesOf(spec, family)) {
      if (!leadsTo(routes, route)) problems.push(`the pod has no route to ${formatPrefix(route)}`);
    }
  }
  return problems;
}

const leadsTo = (routes: readonly Route[], { value, length }: Prefix): boolean =>
  routes.some(({ destination }) => destination.value === value && destination.length === length);

function configureHostSide(host: Kernel, spec: PodLinkSpec): void {
  const name = spec.hostInterface;
  for (const [key, value] of hostSysctls(name, spec.addresses)) step(`set ${key}`, () => host.sysctl.set(key, value));
  step(`switch ${name} on`, () => host.links.set(name, { up: true }));
  const link = host.links.get(name);
  if (link === undefined) throw new CniFailure(KERNEL_REFUSED, `${name} vanished while it was set up`);
  for (const address of spec.routed === false ? [] : spec.addresses) {
    step("add the route to the pod", () =>
      host.routes.replace({
        destination: hostPrefix(address),
        link: link.index,
        scope: SCOPE_LINK,
        protocol: ROUTE_PROTOCOL,
        metric: ROUTE_METRIC,
      }),
    );
  }
}

/** Upstream's settings of a workload interface (inventory §2.6), in an order in which each takes effect. */
function hostSysctls(name: string, addresses: readonly IpAddress[]): [string, string][] {
  const v4: [string, string][] = [
    [`net/ipv4/conf/${name}/rp_filter`, "1"],
    [`net/ipv4/conf/${name}/route_localnet`, "1"],
    [`net/ipv4/neigh/${name}/proxy_delay`, "0"],
    [`net/ipv4/conf/${name}/proxy_arp`, "1"],
    [`net/ipv4/conf/${name}/forwarding`, "1"],
  ];
  const v6: [string, string][] = [
    [`net/ipv6/conf/${name}/disable_ipv6`, "0"],
    [`net/ipv6/conf/${name}/accept_dad`, "0"],
    [`net/ipv6/conf/${name}/accept_ra`, "0"],
    [`net/ipv6/conf/${name}/proxy_ndp`, "1"],
    [`net/ipv6/conf/${name}/forwarding`, "1"],
  ];
  const has = (family: 4 | 6): boolean => addresses.some((address) => address.family === family);
  return [...(has(4) ? v4 : []), ...(has(6) ? v6 : [])];
}

function configurePodSide(pod: Kernel, spec: PodLinkSpec): string {
  const name = spec.podInterface;
  if (spec.addresses.some((address) => address.family === 6)) {
    step("allow IPv6 in the pod", () => pod.sysctl.set(`net/ipv6/conf/${name}/disable_ipv6`, "0"));
    step("switch off duplicate address detection", () => pod.sysctl.set(`net/ipv6/conf/${name}/accept_dad`, "0"));
  }
  step("switch lo on", () => pod.links.set("lo", { up: true }));
  step(`switch ${name} on`, () => pod.links.set(name, { up: true }));
  const link = pod.links.get(name);
  if (link?.mac === undefined) throw new CniFailure(KERNEL_REFUSED, `${name} vanished while it was set up`);
  for (const address of spec.addresses) {
    const gateway = address.family === 4 ? GATEWAY_V4 : GATEWAY_V6;
    step("add the pod's address", () =>
      pod.addresses.replace({ link: link.index, address, prefixLength: addressBits(address.family), noDad: true }),
    );
    step("add the gateway's neighbour", () =>
      pod.neighbours.replace({
        kind: "neighbour",
        link: link.index,
        address: gateway,
        mac: HOST_MAC,
        state: PERMANENT,
      }),
    );
    if (address.family === 4) {
      step("add the route to the gateway", () =>
        pod.routes.replace({ destination: hostPrefix(gateway), link: link.index, scope: SCOPE_LINK }),
      );
    }
    for (const destination of routesOf(spec, address.family)) {
      step(`add the route to ${formatPrefix(destination)}`, () =>
        pod.routes.replace({ destination, gateway, link: link.index }),
      );
    }
  }
  step("set forwarding in the pod", () => pod.sysctl.set("net/ipv4/ip_forward", spec.allowIpForwarding ? "1" : "0"));
  return link.mac;
}

/** Of the namespace's file, to be closed. Never the node's own: the pod's routes would become the node's. */
function openNamespace(path: string): number {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    throw badNamespace(`the pod's network namespace ${path} cannot be opened`, error);
  }
  const [given, own] = [fstatSync(fd), statSync("/proc/thread-self/ns/net")];
  if (given.ino !== own.ino || given.dev !== own.dev) return fd;
  closeSync(fd);
  throw badNamespace(`${path} is the node's own network namespace, not a pod's`);
}

function openPodKernel(netns: string): Kernel {
  try {
    return openKernel({ netns });
  } catch (error) {
    throw badNamespace(`${netns} is not a network namespace that can be entered`, error);
  }
}

const badNamespace = (why: string, error?: unknown): CniFailure =>
  new CniFailure(INVALID_ENVIRONMENT, `CNI_NETNS: ${why}`, error instanceof Error ? error.message : undefined);

/** Names the step in what the runtime shows to the operator. */
function step<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof CalicoError)) throw error;
    throw new CniFailure(KERNEL_REFUSED, `cannot ${what}: ${error.message}`);
  }
}
