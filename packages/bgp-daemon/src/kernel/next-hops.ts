/**
 * How the kernel would reach a BGP next hop: the longest match among routes that are not ours. A next hop behind a gateway is replaced by the gateway, which is what
 * the kernel needs to be told (RFC 4271 section 5.1.3, recursive lookup; one level, as routes of others are already resolved). Answers are remembered, so that a
 * change in the kernel can be told apart from one that matters.
 */
import { addressKey, type AddressKey } from "@calico-ts/bgp";
import { formatAddress, type IpAddress, isLinkLocal, sameAddress } from "@calico-ts/net";
import type { NextHop, Route } from "@calico-ts/netlink";
import type { KernelView } from "./kernel-view.ts";
import type { HostRoute } from "./terms.ts";

/** Next hops not worth forgetting. */
const FEW = 10_000;

export interface Resolution {
  /** One object per next hop, shared by all routes that use it. */
  readonly hops: readonly NextHop[];
  /** Metric of the route that leads there, for the decision process. */
  readonly metric: number;
}

export class NextHopTable {
  readonly #view: Pick<KernelView, "lookup">;
  readonly #known = new Map<AddressKey, { readonly address: IpAddress; readonly found: Resolution | undefined }>();
  #hostRoutes: readonly HostRoute[] = [];
  /** How many answers are kept; undefined: to be found out. */
  #limit: number | undefined;

  constructor(view: Pick<KernelView, "lookup">) {
    this.#view = view;
  }

  /** Addresses that are reached through a gateway of their own. `refresh` has to follow. */
  setHostRoutes(routes: readonly HostRoute[]): void {
    this.#hostRoutes = routes;
  }

  /** Undefined: there is no way, or the kernel could not use it. */
  resolve(address: IpAddress): Resolution | undefined {
    const key = addressKey(address);
    const known = this.#known.get(key);
    if (known !== undefined) return known.found;
    const found = this.#find(address);
    this.#known.set(key, { address, found });
    return found;
  }

  /**
   * Looks again at every next hop that was asked for. True when an answer is another one now: then all are forgotten, and whoever depends on them asks again. So are
   * twice as many as were in use after that, since most of them nobody needs any more.
   */
  refresh(): boolean {
    this.#limit ??= Math.max(FEW, 2 * this.#known.size);
    let changed = this.#known.size > this.#limit;
    for (const { address, found } of this.#known.values()) changed ||= textOf(this.#find(address)) !== textOf(found);
    if (!changed) return false;
    this.#known.clear();
    this.#limit = undefined;
    return true;
  }

  /** Does an answer lead through the link? */
  uses(link: number): boolean {
    for (const { found } of this.#known.values())
      if (found?.hops.some((hop) => hop.link === link) === true) return true;
    return false;
  }

  #find(address: IpAddress): Resolution | undefined {
    if (isLinkLocal(address)) return ON_LINK;
    const own = this.#hostRoutes.find(({ destination }) => sameAddress(destination, address));
    const route = this.#view.lookup(own?.gateway ?? address);
    if (route === undefined || route.type !== "unicast") return undefined;
    const hops = hopsOf(route, own?.gateway ?? address);
    return hops.length === 0 ? undefined : { hops, metric: route.metric ?? 0 };
  }
}

/** Reached on the link of the session that it came from; which one that is, the exporter knows. */
const ON_LINK: Resolution = { hops: [], metric: 0 };

function hopsOf({ gateway, link, onlink, nextHops }: Route, address: IpAddress): NextHop[] {
  const one = (hop: Omit<NextHop, "weight">, weight: number): NextHop[] =>
    hop.link === undefined
      ? []
      : [{ link: hop.link, weight, gateway: hop.gateway ?? address, ...(hop.onlink === true && { onlink: true }) }];
  const several = nextHops?.flatMap((hop) => one(hop, nextHops.length === 1 ? 1 : hop.weight));
  if (several !== undefined) return several;
  return one(
    {
      ...(gateway !== undefined && { gateway }),
      ...(link !== undefined && { link }),
      ...(onlink === true && { onlink }),
    },
    1,
  );
}

export const hopText = ({ gateway, link, weight, onlink }: NextHop): string =>
  `${gateway === undefined ? "" : formatAddress(gateway)}@${link ?? 0}*${weight}${onlink === true ? "!" : ""}`;

const textOf = (resolution: Resolution | undefined): string =>
  resolution === undefined ? "" : `${resolution.hops.map(hopText).join(" ")} ${resolution.metric}`;
