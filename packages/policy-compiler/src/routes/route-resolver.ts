/**
 * The cluster's address plan as routes: for each destination (pool, block, borrowed address, node address, tunnel address)
 * what it is, who owns it, and how packets get there.
 *
 * A destination may have several reasons to exist; the most specific one names the owner (a tunnel address before a node's,
 * before a borrowed address, before the block). Encapsulation comes from the most specific pool around the destination, and
 * for a cross-subnet pool from whether the owner's address is in one of this node's own subnets.
 */
import type { DataplaneMessage, Encapsulation, EncapsulationMode, Pool, Route } from "@calico-ts/dataplane-api";
import type { Family, Prefix } from "@calico-ts/net";
import {
  containsAddress,
  containsPrefix,
  formatAddress,
  formatPrefix,
  hostPrefix,
  parsePrefix,
  tryParsePrefix,
} from "@calico-ts/net";
import { MultiMap } from "@calico-ts/std";
import type { BlockFacts, NodeFacts } from "../intake/facts.ts";

type Reason =
  | { readonly is: "pool" }
  | { readonly is: "block" | "borrowed" | "host" | "tunnel"; readonly node: string };

const OWNER_ORDER = ["tunnel", "host", "borrowed", "block"] as const;
type RouteType = Route["types"][number];

export class RouteResolver {
  readonly #node: string;
  readonly #pools = new Map<string, { readonly prefix: Prefix; readonly pool: Pool }>();
  readonly #nodes = new Map<string, NodeFacts>();
  /** Destination → source (`pool x`, `block y`, `node z`) → why it exists. */
  readonly #reasons = new Map<string, Map<string, Reason>>();
  readonly #destinationsOf = new MultiMap<string, string>();
  readonly #destinationsOfNode = new MultiMap<string, string>();
  readonly #dirty = new Set<string>();

  constructor(node: string) {
    this.#node = node;
  }

  setPool(id: string, pool: Pool | undefined): void {
    const prefix = pool === undefined ? undefined : tryParsePrefix(pool.cidr, "mask");
    const before = this.#pools.get(id)?.prefix;
    if (pool === undefined || prefix === undefined) this.#pools.delete(id);
    else this.#pools.set(id, { prefix, pool });
    this.#setReasons(`pool ${id}`, prefix === undefined ? [] : [[formatPrefix(prefix), { is: "pool" }]]);
    for (const destination of this.#reasons.keys()) {
      const own = parsePrefix(destination);
      if ([before, prefix].some((around) => around !== undefined && containsPrefix(around, own))) {
        this.#dirty.add(destination);
      }
    }
  }

  setBlock(id: string, block: BlockFacts | undefined): void {
    const reasons: [string, Reason][] = [];
    if (block?.node !== undefined) reasons.push([block.cidr, { is: "block", node: block.node }]);
    for (const { address, node } of block?.borrowed ?? []) {
      const prefix = tryParsePrefix(address);
      if (prefix !== undefined) reasons.push([formatPrefix(prefix), { is: "borrowed", node }]);
    }
    this.#setReasons(`block ${id}`, reasons);
  }

  setNode(name: string, facts: NodeFacts | undefined): void {
    if (facts === undefined) this.#nodes.delete(name);
    else this.#nodes.set(name, facts);
    const reasons: [string, Reason][] = [];
    for (const family of [4, 6] as const) {
      const address = facts?.addresses[family]?.address;
      if (address !== undefined) reasons.push([formatPrefix(hostPrefix(address)), { is: "host", node: name }]);
    }
    for (const { address } of facts?.tunnelAddresses ?? []) {
      const prefix = tryParsePrefix(address);
      if (prefix !== undefined) reasons.push([formatPrefix(prefix), { is: "tunnel", node: name }]);
    }
    this.#setReasons(`node ${name}`, reasons);
    // This node's subnets say for every other node whether it is near.
    const affected = name === this.#node ? this.#reasons.keys() : this.#destinationsOfNode.get(name);
    for (const destination of affected) this.#dirty.add(destination);
  }

  flush(emit: (destination: string, message: DataplaneMessage) => void): void {
    for (const destination of this.#dirty) {
      const route = this.#resolve(destination);
      emit(destination, route === undefined ? { kind: "route-remove", destination } : { kind: "route-update", route });
    }
    this.#dirty.clear();
  }

  #setReasons(source: string, reasons: readonly (readonly [string, Reason])[]): void {
    for (const destination of this.#destinationsOf.get(source)) {
      const all = this.#reasons.get(destination);
      const reason = all?.get(source);
      all?.delete(source);
      if (all?.size === 0) this.#reasons.delete(destination);
      if (reason !== undefined && reason.is !== "pool") this.#forget(reason.node, destination);
      this.#dirty.add(destination);
    }
    this.#destinationsOf.deleteKey(source);
    for (const [destination, reason] of reasons) {
      const all = this.#reasons.get(destination) ?? new Map<string, Reason>();
      all.set(source, reason);
      this.#reasons.set(destination, all);
      this.#destinationsOf.add(source, destination);
      if (reason.is !== "pool") this.#destinationsOfNode.add(reason.node, destination);
      this.#dirty.add(destination);
    }
  }

  #forget(node: string, destination: string): void {
    const stillThere = [...(this.#reasons.get(destination)?.values() ?? [])].some(
      (reason) => reason.is !== "pool" && reason.node === node,
    );
    if (!stillThere) this.#destinationsOfNode.delete(node, destination);
  }

  #resolve(destination: string): Route | undefined {
    const reasons = [...(this.#reasons.get(destination)?.values() ?? [])];
    if (reasons.length === 0) return undefined;
    const prefix = parsePrefix(destination);
    const node = owner(reasons);
    const pool = this.#poolAround(prefix);
    const facts = node === undefined ? undefined : this.#nodes.get(node);
    const address = facts?.addresses[prefix.family]?.address;
    const sameSubnet = node !== undefined && this.#isNear(prefix.family, facts);
    return {
      destination,
      types: routeTypes(reasons, this.#node),
      ...encapsulation(pool, sameSubnet),
      natOutgoing: pool?.natOutgoing ?? false,
      ...(node === undefined ? {} : { node }),
      ...(address === undefined ? {} : { nodeAddress: formatAddress(address) }),
      sameSubnet,
      borrowed: reasons.some((reason) => reason.is === "borrowed"),
    };
  }

  #poolAround(prefix: Prefix): Pool | undefined {
    let best: { readonly prefix: Prefix; readonly pool: Pool } | undefined;
    for (const candidate of this.#pools.values()) {
      if (!containsPrefix(candidate.prefix, prefix)) continue;
      if (best === undefined || candidate.prefix.length > best.prefix.length) best = candidate;
    }
    return best?.pool;
  }

  #isNear(family: Family, facts: NodeFacts | undefined): boolean {
    const subnet = this.#nodes.get(this.#node)?.addresses[family]?.subnet;
    const address = facts?.addresses[family]?.address;
    return subnet !== undefined && address !== undefined && containsAddress(subnet, address);
  }
}

/** Two sources may name different owners for a moment; the lowest name wins, so that arrival order does not show. */
function owner(reasons: readonly Reason[]): string | undefined {
  for (const is of OWNER_ORDER) {
    const nodes = reasons.flatMap((reason) => (reason.is === is ? [reason.node] : []));
    const [first] = nodes.toSorted();
    if (first !== undefined) return first;
  }
  return undefined;
}

const TYPE_ORDER: readonly RouteType[] = [
  "cidr-info",
  "remote-workload",
  "local-workload",
  "remote-host",
  "local-host",
  "remote-tunnel",
  "local-tunnel",
];

function routeTypes(reasons: readonly Reason[], self: string): RouteType[] {
  const types = new Set<RouteType>(
    reasons.map((reason): RouteType => {
      if (reason.is === "pool") return "cidr-info";
      const where = reason.node === self ? "local" : "remote";
      if (reason.is === "host") return `${where}-host`;
      return reason.is === "tunnel" ? `${where}-tunnel` : `${where}-workload`;
    }),
  );
  return TYPE_ORDER.filter((type) => types.has(type));
}

function encapsulation(
  pool: Pool | undefined,
  sameSubnet: boolean,
): { encapsulation: Encapsulation; mode: EncapsulationMode } {
  const [via, mode]: readonly [Encapsulation, EncapsulationMode] =
    pool === undefined
      ? ["none", "never"]
      : pool.vxlan === "never"
        ? pool.ipip === "never"
          ? ["none", "never"]
          : ["ipip", pool.ipip]
        : ["vxlan", pool.vxlan];
  return { encapsulation: mode === "cross-subnet" && sameSubnet ? "none" : via, mode };
}
