/** Reachability of next hops, as told from outside (RFC 4271 section 9.1.2.1). Without a resolver every next hop is reachable at distance 0. */
import type { IpAddress } from "@calico-ts/net";
import type { AttributeSet } from "./attribute-set.ts";
import type { AddressKey } from "./prefix-map.ts";

/** The distance to the address, or undefined when there is no way. */
export type NextHopResolver = (address: IpAddress) => number | undefined;

/** The interface through which the address is reached; undefined: that is not known. */
export type InterfaceResolver = (address: IpAddress) => string | undefined;

/** Answers that are remembered. Real tables have a few next hops; who tells ever new ones is not to fill the memory with them. */
export const REMEMBERED_HOPS = 65_536;

export class NextHops {
  #resolve: NextHopResolver | undefined;
  #interfaceOf: InterfaceResolver | undefined;
  readonly #known = new Map<AddressKey, number | undefined>();

  /** Forgets what was resolved; decisions have to be made again. */
  setResolver(resolve: NextHopResolver | undefined, interfaceOf?: InterfaceResolver): void {
    this.#resolve = resolve;
    this.#interfaceOf = interfaceOf;
    this.#known.clear();
  }

  interfaceOf({ attributes }: AttributeSet): string | undefined {
    return attributes.nextHop === undefined ? undefined : this.#interfaceOf?.(attributes.nextHop);
  }

  metric(set: AttributeSet): number | undefined {
    const { nextHop } = set;
    if (this.#resolve === undefined || nextHop === undefined) return 0;
    if (this.#known.has(nextHop)) return this.#known.get(nextHop);
    const address = set.attributes.nextHop;
    const metric = address === undefined ? undefined : this.#resolve(address);
    if (this.#known.size >= REMEMBERED_HOPS) this.#known.clear();
    this.#known.set(nextHop, metric);
    return metric;
  }
}
