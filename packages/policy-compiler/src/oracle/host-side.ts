/** A node's own side: which host endpoint an interface has, and the ports that stay open whatever policies say. */
import { containsAddress, protocolNumber, sameAddress, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import type { HostEndpoint } from "@calico-ts/model";
import type { PacketView } from "./packet-view.ts";
import type { Direction } from "./verdict.ts";
import type { Entity, World } from "./world.ts";

/** A node as the packets of a query meet it: one interface to the rest of the world. */
export interface HostFacts {
  readonly uplink: string;
  /** The uplink's; the first of a family is what the node speaks from. */
  readonly addresses: readonly string[];
}

/** The endpoint of an interface by name, else by address, else the one for all; the first by name of several. */
export function endpointOf(
  world: World,
  endpoints: readonly HostEndpoint[],
  place: { readonly node: string; readonly interfaceName: string; readonly addresses: readonly string[] },
): Entity | undefined {
  const own = endpoints
    .filter(({ spec }) => spec.node === place.node)
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const found =
    own.find(({ spec }) => spec.interfaceName === place.interfaceName) ??
    own.find(
      ({ spec }) =>
        (spec.interfaceName ?? "") === "" && (spec.expectedIPs ?? []).some((ip) => isAmong(ip, place.addresses)),
    ) ??
    own.find(({ spec }) => spec.interfaceName === "*");
  return found === undefined ? undefined : world.entities.get(`host-endpoint/${found.metadata.name}`);
}

/** One address may be written in many ways. */
function isAmong(text: string, addresses: readonly string[]): boolean {
  const wanted = tryParseAddress(text);
  return addresses.some((each) => {
    const own = tryParseAddress(each);
    return own !== undefined && wanted !== undefined && sameAddress(own, wanted);
  });
}

const INBOUND = "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";
const OUTBOUND = "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";

interface OpenPort {
  readonly protocol: number;
  readonly port: number;
  readonly net: string | undefined;
}

export class Failsafes {
  readonly #inbound: readonly OpenPort[];
  readonly #outbound: readonly OpenPort[];

  constructor(config: Readonly<Record<string, string>>) {
    const { failsafeInboundHostPorts: inbound = "", failsafeOutboundHostPorts: outbound = "" } = config;
    this.#inbound = openPorts(inbound === "" ? INBOUND : inbound);
    this.#outbound = openPorts(outbound === "" ? OUTBOUND : outbound);
  }

  /** `untracked`: answers count as well, which are known by the port they come from. */
  allow(packet: PacketView, direction: Direction, untracked: boolean): boolean {
    const inward = direction === "ingress";
    const peer = inward ? packet.source.address : packet.destination.address;
    const open = (ports: readonly OpenPort[], port: number | undefined): boolean =>
      ports.some(
        ({ protocol, port: number, net }) =>
          protocol === packet.protocol && number === port && (net === undefined || isInside(net, peer)),
      );
    const [own, other] = inward ? [this.#inbound, this.#outbound] : [this.#outbound, this.#inbound];
    return open(own, packet.destinationPort) || (untracked && open(other, packet.sourcePort));
  }
}

function isInside(net: string, address: PacketView["source"]["address"]): boolean {
  const prefix = tryParsePrefix(net, "mask");
  return prefix !== undefined && containsAddress(prefix, address);
}

function openPorts(text: string): OpenPort[] {
  return text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "")
    .flatMap((item) => {
      // A bare port is one of TCP.
      const protocol = protocolNumber(item.includes(":") ? item.slice(0, item.indexOf(":")) : "TCP");
      const port = Number(item.slice(item.lastIndexOf(":") + 1));
      const middle = item.slice(item.indexOf(":") + 1, Math.max(item.lastIndexOf(":"), item.indexOf(":") + 1));
      if (protocol === undefined || !Number.isInteger(port)) return [];
      return [{ protocol, port, net: middle === "" ? undefined : middle.replace(/^\[|\]$/g, "") }];
    });
}

const ICMP6 = 58;
/** From a pod: what it asks and answers; from others also what routers say of themselves, and MLDv2's reports. */
const DISCOVERY: Readonly<Record<"pod" | "uplink", ReadonlySet<number>>> = {
  pod: new Set([130, 131, 132, 133, 135, 136]),
  uplink: new Set([130, 131, 132, 133, 134, 135, 136, 143]),
};

/** ICMPv6 without which nobody has a neighbour (RFC 2710, RFC 3810, RFC 4861). */
export const isDiscovery = ({ protocol, icmp, family }: PacketView, peer: "pod" | "uplink"): boolean =>
  family === 6 && protocol === ICMP6 && icmp !== undefined && DISCOVERY[peer].has(icmp.type);

/** What a node speaks from. */
export const hostAddress = (host: HostFacts | undefined, family: 4 | 6): PacketView["source"]["address"] =>
  host?.addresses.map((text) => tryParseAddress(text)).find((address) => address?.family === family) ?? {
    family,
    value: 0n,
  };
