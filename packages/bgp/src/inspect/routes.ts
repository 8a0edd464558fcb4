/** Tables for people: the best routes, what a peer sent, and what a peer was told. Sorted by prefix. */
import { formatAddress, formatPrefix } from "@calico-ts/net";
import type { OwnRouteFacts } from "../rib/attribute-set.ts";
import { comparePrefixKeys, prefixOfKey } from "../rib/prefix-map.ts";
import type { Destination } from "../rib/route.ts";
import { routesOf } from "../rib/route.ts";
import type { BgpSpeaker } from "../speaker.ts";
import type { PathAttributes } from "../wire/attributes/values.ts";
import type { RoutedFamily } from "../wire/family.ts";

export interface RouteView {
  readonly prefix: string;
  /** Undefined: our own. */
  readonly peer: string | undefined;
  readonly attributes: PathAttributes;
  readonly best: boolean;
  readonly stale: boolean;
  /** Why import policy refused it; `attributes` are as received then. */
  readonly rejected?: string;
  readonly pathId?: number;
  /** Of our own: where it was found; absent: it was configured. */
  readonly own?: OwnRouteFacts;
}

export function showBestRoutes(speaker: BgpSpeaker, family: RoutedFamily): RouteView[] {
  return collect(speaker, family, ({ best, bestSet }) =>
    best === undefined || bestSet === undefined
      ? []
      : [
          {
            peer: best.source.peer,
            attributes: bestSet.attributes,
            best: true,
            stale: best.stale !== 0,
            ...(best.source.kind === "local" && bestSet.facts !== undefined && { own: bestSet.facts }),
          },
        ],
  );
}

/** A route that may be used, and whether it is: the best, or as good as it. */
export interface UsableRoute {
  readonly prefix: string;
  readonly peer: string | undefined;
  readonly nextHop: string | undefined;
  /** Of a route of our own. */
  readonly own: OwnRouteFacts | undefined;
  readonly used: boolean;
}

/** Every route that import policy accepted, the best of each destination first. */
export function showUsableRoutes(speaker: BgpSpeaker, family: RoutedFamily): UsableRoute[] {
  return collect(speaker, family, (destination) => {
    const { best, equal = [] } = destination;
    const accepted = routesOf(destination).filter((route) => route.accepted !== undefined);
    return accepted
      .toSorted((a, b) => Number(b === best) - Number(a === best))
      .map((route) => {
        const nextHop = route.accepted?.attributes.nextHop;
        return {
          peer: route.source.peer,
          nextHop: nextHop === undefined ? undefined : formatAddress(nextHop),
          own: route.source.kind === "local" ? route.received.facts : undefined,
          used: route === best || equal.some((one) => one.route === route),
        };
      });
  });
}

/** The Adj-RIB-In of a peer, refused routes included. */
export function showReceivedRoutes(speaker: BgpSpeaker, peer: string, family: RoutedFamily): RouteView[] {
  return collect(speaker, family, (destination) =>
    routesOf(destination)
      .filter((route) => route.source.peer === peer)
      .map((route) => ({
        peer,
        attributes: (route.accepted ?? route.received).attributes,
        best: destination.best === route,
        stale: route.stale !== 0,
        ...(route.rejected !== undefined && { rejected: route.rejected }),
        ...(route.pathId !== 0 && { pathId: route.pathId }),
      })),
  );
}

/** The Adj-RIB-Out of a peer; `peer` of each view is where the route came from. */
export function showAdvertisedRoutes(speaker: BgpSpeaker, peer: string, family: RoutedFamily): RouteView[] {
  const routing = speaker.peers.get(peer)?.routing;
  const group = routing?.groups.find((one) => one.terms.family === family);
  if (routing === undefined || group === undefined) return [];
  return collect(speaker, family, (destination) =>
    group.advertised(routing.source, destination).map(({ set, source, pathId }) => ({
      peer: source.peer,
      attributes: set.attributes,
      best: destination.best?.source === source,
      stale: false,
      ...(pathId !== 0 && { pathId }),
    })),
  );
}

function collect<V extends object>(
  speaker: BgpSpeaker,
  family: RoutedFamily,
  views: (destination: Destination) => readonly V[],
): (V & { readonly prefix: string })[] {
  const table = speaker.routing.tables.get(family);
  const destinations = table === undefined ? [] : [...table.destinations()];
  return destinations.toSorted(comparePrefixKeys).flatMap((destination) => {
    const found = views(destination);
    if (found.length === 0) return [];
    const prefix = formatPrefix(prefixOfKey(destination));
    return found.map((view) => ({ prefix, ...view }));
  });
}
