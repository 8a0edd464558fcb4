/** Our own daemon at a station of the lab, as tests want it. */
import { type BgpSpeaker, explainPrefix, formatAsPath, type PeerConfig } from "@calico-ts/bgp";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import type { BgpDaemon, DaemonConfig } from "../src/daemon.ts";
import type { ConnectTo } from "../src/session/connections.ts";
import { ip, type Station } from "./lab.ts";

export const ROUTER_AS = 4_200_000_002;
export const OUR_AS = 4_200_000_001;
const FAST = { connectRetrySeconds: 1, idleHoldMinSeconds: 1, idleHoldMaxSeconds: 2 };

/** A peer of ours, by its address, and the way to it. */
export interface Peering extends Partial<Omit<PeerConfig, "address">> {
  readonly to: string;
  readonly way?: Partial<Omit<ConnectTo, "address">>;
}

export interface Ours {
  readonly as?: number;
  readonly peers: readonly Peering[];
  readonly routes?: DaemonConfig["routes"];
  readonly clusterId?: number;
  /** Absent: port 179 of everything. */
  readonly listen?: DaemonConfig["listen"];
}

/** Sessions to the peers of a station, quick to retry, over both families unless said otherwise. */
export function configOf(
  { number, address, address6 }: Station,
  { as = OUR_AS, peers, routes = [], clusterId, listen }: Ours,
): DaemonConfig {
  return {
    speaker: {
      as,
      routerId: 0xc0000200 + number,
      maxPaths: 8,
      ...(clusterId !== undefined && { clusterId }),
      peers: peers.map(({ to, way: _way, ...change }) => ({
        name: to,
        address: parseAddress(to),
        remoteAs: ROUTER_AS,
        families: ["ipv4-unicast", "ipv6-unicast"],
        nextHopSelf: { ipv4: parseAddress(address), ipv6: parseAddress(address6) },
        extendedMessages: true,
        timers: FAST,
        ...change,
      })),
    },
    listen: listen ?? [
      { address: parseAddress("0.0.0.0"), port: 179 },
      { address: parseAddress("::"), port: 179 },
    ],
    reach: new Map(peers.map(({ to, name, way }) => [name ?? to, { address: parseAddress(to), port: 179, ...way }])),
    routes,
    notProgrammed: [],
    routeMetric: 1024,
  };
}

export const isUp = ({ speaker }: BgpDaemon, peer: string): boolean => speaker.peers.get(peer)?.upSide !== undefined;

/** AS paths of the routes to a prefix that import policy let in. */
export const pathsTo = (speaker: BgpSpeaker, prefix: string): string[] =>
  (explainPrefix(speaker, parsePrefix(prefix))?.routes ?? [])
    .filter((one) => one.verdict !== "rejected")
    .map((one) => formatAsPath(one.attributes.asPath ?? []))
    .toSorted();

export const route = (
  prefix: string,
  attributes: DaemonConfig["routes"][number]["attributes"] = {},
): DaemonConfig["routes"][number] => ({
  prefix: parsePrefix(prefix),
  attributes,
});

/** A counter of TcpExt in the kernel of a station. */
export const counter = ({ name: netns }: Station, name: string): number => {
  const [names = "", values = ""] = ip("netns", "exec", netns, "grep", "^TcpExt:", "/proc/net/netstat").split("\n");
  return Number(values.split(" ")[names.split(" ").indexOf(name)]);
};
