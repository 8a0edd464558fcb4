/**
 * Static routes of a fabric: which neighbour leads to which subnet.
 *
 * Subnets and routers form a graph; a breadth-first walk from a subnet gives the router to take towards each other one.
 * Ties go to the router written first, so the result depends on the file alone. Everything that is no subnet's goes to the
 * control plane (default routes), whose namespace has no way out.
 */
import type { IpAddress } from "@calico-ts/net";
import type { Leg, Route, SubnetPlan } from "./plan.ts";

interface RouterLegs {
  readonly name: string;
  readonly legs: readonly Leg[];
}

/** For each subnet that can be reached from `start`: the first router on the way. */
function firstHops(start: string, routers: readonly RouterLegs[]): ReadonlyMap<string, RouterLegs> {
  const via = new Map<string, RouterLegs>();
  let frontier = [start];
  while (frontier.length > 0) {
    const next: string[] = [];
    for (const subnet of frontier) {
      for (const router of routers) {
        if (!router.legs.some((leg) => leg.subnet === subnet)) continue;
        for (const leg of router.legs) {
          if (leg.subnet === start || via.has(leg.subnet)) continue;
          via.set(leg.subnet, subnet === start ? router : (via.get(subnet) ?? router));
          next.push(leg.subnet);
        }
      }
    }
    frontier = next;
  }
  return via;
}

const addressIn = (leg: Leg | undefined, family: 4 | 6): IpAddress | undefined =>
  leg?.addresses.find((address) => address.family === family);

/** Names of the subnets that `from` cannot reach. */
export function unreachableSubnets(
  from: string,
  subnets: readonly string[],
  routers: readonly { readonly subnets: readonly string[] }[],
): string[] {
  const seen = new Set([from]);
  for (let grown = true; grown; ) {
    grown = false;
    for (const router of routers) {
      if (!router.subnets.some((subnet) => seen.has(subnet))) continue;
      for (const subnet of router.subnets) {
        if (seen.has(subnet)) continue;
        seen.add(subnet);
        grown = true;
      }
    }
  }
  return subnets.filter((subnet) => !seen.has(subnet));
}

interface Fabric {
  readonly subnets: readonly SubnetPlan[];
  readonly routers: readonly RouterLegs[];
  readonly controlPlane: Leg;
}

/** Routes of something that stands in these subnets. */
export function routesFrom(
  legs: readonly Leg[],
  self: "endpoint" | "router" | "control-plane",
  fabric: Fabric,
): Route[] {
  const own = new Set(legs.map((leg) => leg.subnet));
  const routes: Route[] = [];
  for (const family of [4, 6] as const) {
    const nextHop = (target: string): IpAddress | undefined => {
      for (const leg of legs) {
        const router = firstHops(leg.subnet, fabric.routers).get(target);
        const address = addressIn(
          router?.legs.find(({ subnet }) => subnet === leg.subnet),
          family,
        );
        if (address !== undefined && !legs.some((mine) => mine.addresses.includes(address))) return address;
      }
      return undefined;
    };
    if (self !== "endpoint") {
      for (const subnet of fabric.subnets) {
        if (own.has(subnet.name)) continue;
        const to = subnet.prefixes.find((prefix) => prefix.family === family);
        const via = nextHop(subnet.name);
        if (to !== undefined && via !== undefined) routes.push({ to, family, via });
      }
    }
    if (self === "control-plane") continue;
    // A node's one gateway is a router of its subnet where there is one: routers know every subnet.
    const towards = own.has(fabric.controlPlane.subnet)
      ? self === "endpoint"
        ? localRouter(legs[0], fabric, family)
        : addressIn(fabric.controlPlane, family)
      : nextHop(fabric.controlPlane.subnet);
    const via = towards ?? addressIn(fabric.controlPlane, family);
    if (via !== undefined) routes.push({ to: undefined, family, via });
  }
  return routes;
}

function localRouter(leg: Leg | undefined, fabric: Fabric, family: 4 | 6): IpAddress | undefined {
  for (const router of fabric.routers) {
    if (router.legs.length < 2) continue; // leads nowhere: a route reflector
    const address = addressIn(
      router.legs.find(({ subnet }) => subnet === leg?.subnet),
      family,
    );
    if (address !== undefined) return address;
  }
  return undefined;
}
