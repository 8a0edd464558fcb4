/**
 * Which source address a packet arrives with. What leaves the pools with NAT outgoing for no address of a pool comes from the node: from
 * `natOutgoingAddress` where it is set, else from the node's own. Worked out from the resources alone.
 */
import type { Family, Prefix } from "@calico-ts/net";
import { containsAddress, parseAddress, tryParsePrefix } from "@calico-ts/net";
import { NODE_ADDRESS } from "./lab/plan.ts";
import type { RigPacket } from "./packets/packet.ts";
import { destinationOf, sourceOf } from "./packets/packet.ts";
import type { World } from "./world.ts";
import { configOf, updatesOf } from "./world.ts";

interface Pool {
  readonly prefix: Prefix;
  readonly natOutgoing: boolean;
  /** Its addresses are somebody's in the cluster. */
  readonly inside: boolean;
}

export class OutgoingNat {
  readonly #pools: readonly Pool[];
  readonly #address: string | undefined;

  constructor(world: World) {
    this.#address = configOf(world)["natOutgoingAddress"];
    this.#pools = updatesOf(world).flatMap((update): Pool[] => {
      if (update.kind !== "IPPool" || update.resource === undefined) return [];
      const { cidr, natOutgoing = false, allowedUses = [] } = update.resource.spec;
      const prefix = tryParsePrefix(cidr, "mask");
      const inside = allowedUses.length === 0 || allowedUses.some((use) => use !== "LoadBalancer");
      return prefix === undefined ? [] : [{ prefix, natOutgoing, inside }];
    });
  }

  /** Of a packet that connection tracking knows and that arrives. */
  sourceOf(packet: RigPacket): string {
    const source = sourceOf(packet);
    if ("node" in packet.to || !this.#isIn(source, ({ natOutgoing }) => natOutgoing)) return source;
    if (this.#isIn(destinationOf(packet), ({ inside }) => inside)) return source;
    return this.#of(packet.family);
  }

  #of(family: Family): string {
    return family === 4 && this.#address !== undefined ? this.#address : NODE_ADDRESS[family];
  }

  #isIn(text: string, which: (pool: Pool) => boolean): boolean {
    const address = parseAddress(text);
    return this.#pools.some((pool) => which(pool) && containsAddress(pool.prefix, address));
  }
}
