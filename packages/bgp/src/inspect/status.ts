/**
 * What a daemon tells about itself over its status socket: one JSON line each way. Requests, answers, and how routes are written in them: everything an operator
 * reads as text, numbers as numbers, nothing that JSON cannot hold.
 */
import type { IpAddress } from "@calico-ts/net";
import { formatAddress } from "@calico-ts/net";
import type { ErrorCode } from "@calico-ts/std";
import { formatAsPath } from "../wire/attributes/as-path.ts";
import type { Origin, PathAttributes } from "../wire/attributes/values.ts";
import { formatCommunity, formatLargeCommunity } from "../wire/attributes/values.ts";
import type { RoutedFamily } from "../wire/family.ts";
import type { PeerStatus } from "./peers.ts";
import type { RouteView } from "./routes.ts";
import type { Explanation } from "./why-best.ts";

export interface AttributesReport {
  readonly origin?: Origin;
  /** `65001 65002 {65003 65004}`; absent for a route of our own AS. */
  readonly asPath?: string;
  readonly nextHop?: string;
  readonly med?: number;
  readonly localPref?: number;
  readonly communities?: readonly string[];
  readonly largeCommunities?: readonly string[];
  /** RFC 4360: 16 hex digits each. */
  readonly extendedCommunities?: readonly string[];
  readonly originatorId?: string;
  readonly clusterList?: readonly string[];
}

export interface RouteReport extends Omit<RouteView, "attributes" | "peer"> {
  /** "local": our own. */
  readonly peer: string;
  readonly attributes: AttributesReport;
}

export interface PeerReport extends Omit<PeerStatus, "since" | "peerRouterId"> {
  /** ISO 8601: when it last came up or went down, or was configured. */
  readonly since: string;
  readonly peerRouterId?: string;
  /** Routes of the peer that import policy refused, and the reason given most often. */
  readonly refused?: { readonly routes: number; readonly reason: string };
}

type RouteOf = Explanation["routes"][number];
type ToldTo = Explanation["told"][number];

export interface ExplanationReport extends Omit<Explanation, "routes" | "told"> {
  readonly routes: readonly (Omit<RouteOf, "attributes"> & { readonly attributes: AttributesReport })[];
  readonly told: readonly (Omit<ToldTo, "attributes"> & { readonly attributes?: AttributesReport })[];
  /** Routes of the kernel's main table for exactly this prefix, whoever put them there: `via 192.0.2.2 dev eth0 proto 12 metric 1024`. */
  readonly kernel: readonly string[];
}

export interface DaemonReport {
  readonly node: string;
  readonly version: string;
  readonly startedAt: string;
  readonly reconfiguredAt: string | undefined;
  readonly as: number | undefined;
  readonly routerId: string | undefined;
  /** Back from a restart and still gathering what the peers know (RFC 4724): no route is chosen yet. */
  readonly restarting: boolean;
  /** What of the configuration is not in force, and why. */
  readonly problems: readonly string[];
}

export interface ReadinessReport {
  readonly ready: boolean;
  /** Why not; or what is amiss although it is ready. */
  readonly detail: string;
}

export type StatusRequest =
  | { readonly command: "status" }
  | { readonly command: "peers" }
  | { readonly command: "routes"; readonly family?: RoutedFamily }
  | { readonly command: "received" | "advertised"; readonly peer: string; readonly family?: RoutedFamily }
  /** A prefix, or an address: then the route that packets to it take. */
  | { readonly command: "explain"; readonly destination: string }
  /** `strict`: every session counts and the restart must be over; otherwise one established session is enough. */
  | { readonly command: "readiness"; readonly family: 4 | 6; readonly strict: boolean };

export type StatusCommand = StatusRequest["command"];

export interface StatusResults {
  readonly status: DaemonReport;
  readonly peers: readonly PeerReport[];
  readonly routes: readonly RouteReport[];
  readonly received: readonly RouteReport[];
  readonly advertised: readonly RouteReport[];
  /** Null: nobody told us of it. */
  readonly explain: ExplanationReport | null;
  readonly readiness: ReadinessReport;
}

export type StatusReply<C extends StatusCommand = StatusCommand> =
  | { readonly ok: true; readonly result: StatusResults[C] }
  | { readonly ok: false; readonly error: { readonly code: ErrorCode; readonly message: string } };

export const formatRouterId = (id: number): string =>
  formatAddress({ family: 4, value: BigInt(id) } satisfies IpAddress);

export function attributesReport(attributes: PathAttributes): AttributesReport {
  const { origin, asPath, nextHop, med, localPref, originatorId, clusterList } = attributes;
  const { communities = [], largeCommunities = [], extendedCommunities = [] } = attributes;
  return {
    ...(origin !== undefined && { origin }),
    ...(asPath !== undefined && asPath.length > 0 && { asPath: formatAsPath(asPath) }),
    ...(nextHop !== undefined && { nextHop: formatAddress(nextHop) }),
    ...(med !== undefined && { med }),
    ...(localPref !== undefined && { localPref }),
    ...(communities.length > 0 && { communities: communities.map(formatCommunity) }),
    ...(largeCommunities.length > 0 && { largeCommunities: largeCommunities.map(formatLargeCommunity) }),
    ...(extendedCommunities.length > 0 && { extendedCommunities }),
    ...(originatorId !== undefined && { originatorId: formatRouterId(originatorId) }),
    ...(clusterList !== undefined && { clusterList: clusterList.map(formatRouterId) }),
  };
}

export const routeReport = ({ attributes, peer = "local", ...view }: RouteView): RouteReport => ({
  ...view,
  peer,
  attributes: attributesReport(attributes),
});

export const explanationReport = (
  { routes, told, ...explanation }: Explanation,
  kernel: readonly string[],
): ExplanationReport => ({
  ...explanation,
  kernel,
  routes: routes.map(({ attributes, ...route }) => ({ ...route, attributes: attributesReport(attributes) })),
  told: told.map(({ attributes, ...one }) => ({
    ...one,
    ...(attributes !== undefined && { attributes: attributesReport(attributes) }),
  })),
});
