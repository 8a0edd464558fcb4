/** How peers and routes are written for people. */
import type { AttributesReport, RouteReport } from "@calico-ts/bgp";
import { formatTable } from "../table.ts";

/** BIRD switches to dates then. */
const CLOCK_TIME_MS = 20 * 3_600_000;
const TYPES: readonly (readonly [RegExp, string])[] = [
  [/^Mesh_/, "node-to-node mesh"],
  [/^Global_/, "global"],
  [/^Node_/, "node specific"],
  [/^Local_Workload_/, "local workload"],
];

/** From the session's name, which says why it exists. */
export const peerType = (name: string): string => TYPES.find(([pattern]) => pattern.test(name))?.[1] ?? "unknown";

/** The time of day within the last 20 hours, the date before that, both UTC. */
export function sinceText(iso: string, now: number): string {
  const at = Date.parse(iso);
  return now - at < CLOCK_TIME_MS ? iso.slice(11, 19) : iso.slice(0, 10);
}

export function routesTable(routes: readonly RouteReport[]): string {
  const rows = routes.map((route) => {
    const { attributes, peer, prefix } = route;
    return [
      prefix,
      attributes.nextHop ?? "",
      peer,
      attributes.asPath ?? "",
      String(attributes.localPref ?? ""),
      communitiesOf(attributes),
      remarks(route),
    ];
  });
  return formatTable(["PREFIX", "NEXT HOP", "FROM", "AS PATH", "LOCAL PREF", "COMMUNITIES", "REMARKS"], rows);
}

const communitiesOf = ({
  communities = [],
  largeCommunities = [],
  extendedCommunities = [],
}: AttributesReport): string => [...communities, ...largeCommunities, ...extendedCommunities].join(" ");

/** Empty for a route that was not found but configured, or heard from a peer. */
export const foundText = (own: RouteReport["own"]): string =>
  own?.found === true ? `found in the kernel${own.interface === undefined ? "" : ` on ${own.interface}`}` : "";

const remarks = ({ best, own, pathId, rejected, stale }: RouteReport): string =>
  [
    best ? "best" : "",
    foundText(own),
    stale ? "stale" : "",
    rejected === undefined ? "" : `refused: ${rejected}`,
    pathId === undefined ? "" : `path ${pathId}`,
  ]
    .filter((word) => word !== "")
    .join(", ");

/** `next hop 192.0.2.2, AS path 65001 65002, local preference 100`. */
export function attributesText(attributes: AttributesReport): string {
  const { asPath, clusterList, localPref, med, nextHop, origin, originatorId } = attributes;
  const communities = communitiesOf(attributes);
  return [
    nextHop === undefined ? "" : `next hop ${nextHop}`,
    asPath === undefined ? "" : `AS path ${asPath}`,
    localPref === undefined ? "" : `local preference ${localPref}`,
    med === undefined ? "" : `MED ${med}`,
    communities === "" ? "" : `communities ${communities}`,
    originatorId === undefined ? "" : `originator ${originatorId}`,
    clusterList === undefined ? "" : `clusters ${clusterList.join(" ")}`,
    origin === undefined || origin === "igp" ? "" : `origin ${origin}`,
  ]
    .filter((part) => part !== "")
    .join(", ");
}
