/**
 * kube-proxy's rules as nf_tables values: what a node's table holds for one Service, and what it holds for none. Pure.
 *
 * ```
 * nat prerouting, output  ─▶ services ─┬─ daddr . proto . dport ─▶ map service-ips ───┬▶ service-…  ─▶ endpoint-… : dnat
 *                                      └─ to this node: proto . dport ─▶ node-ports ──┴▶ external-… ─▶ (mark) service-…
 * nat postrouting         ─▶ marked packets are masqueraded
 * filter input/forward/output ─▶ map no-endpoints, no-endpoint-ports ─▶ reject or drop
 * ```
 *
 * A packet is marked when its answer must come back through this node: external traffic that may go to another node, and a pod that
 * reaches itself through its Service. The mark is kube-proxy's (bit 14); Calico's use the upper half.
 * A service is chosen by two hash lookups; its backend by one rule per backend, for the first packet of a connection only.
 */
import { type Family, hostPrefix, type IpAddress, PROTOCOL_NUMBERS } from "@calico-ts/net";
import {
  addressKey,
  addressType,
  concatKey,
  dnat,
  drop,
  FIELDS,
  goto,
  hostUint32,
  jump,
  masquerade,
  matchAddressType,
  matchCtState,
  matchMark,
  matchSourceAddress,
  matchDestinationAddress,
  type NftChain,
  type NftCommand,
  type NftElement,
  type NftExpr,
  type NftRule,
  type NftSet,
  type NftTable,
  portKey,
  protocolKey,
  rule,
  setMark,
  verdictElement,
  verdictMap,
} from "@calico-ts/netlink";
import { sha256Hex } from "@calico-ts/std";
import { type Backend, backendKey, type ServiceFront } from "./backends.ts";

export const MASQUERADE_MARK = 0x4000;
const TABLE_NAME = "kube-proxy-sim";
const SERVICES = "services";
const WITHOUT_ENDPOINTS = "services-without-endpoints";
const REJECT = "reject-all";
const DROP = "drop-all";

/** Of all maps the key decides the chain. */
export type MapName = "service-ips" | "node-ports" | "no-endpoints" | "no-endpoint-ports";

export function proxyTable(family: Family): NftTable {
  return { family: family === 4 ? "ip" : "ip6", name: TABLE_NAME };
}

export function proxyMap(name: MapName, family: Family): NftSet {
  const ports = name === "node-ports" || name === "no-endpoint-ports";
  return {
    name,
    keyTypes: ports ? ["inet_proto", "inet_service"] : [addressType(family), "inet_proto", "inet_service"],
    mapTo: "verdict",
  };
}

/** Chains are compared by a signature and rendered only when they differ: most of a Service stays as it was. */
export interface ChainSpec {
  readonly signature: string;
  readonly rules: () => readonly NftRule[];
}

/** What one Service contributes to the table. Names of chains and keys of elements are its own. */
export interface Contribution {
  readonly chains: ReadonlyMap<string, ChainSpec>;
  /** Key: map name and element key in hex. */
  readonly elements: ReadonlyMap<string, { readonly map: MapName; readonly element: NftElement }>;
  /** UDP backends: flows to them must be forgotten when they go, since UDP has no end of its own. */
  readonly udpBackends: ReadonlyMap<string, IpAddress>;
  /** Addresses that answer over UDP. */
  readonly udpFronts: ReadonlyMap<string, IpAddress>;
}

export const EMPTY: Contribution = {
  chains: new Map(),
  elements: new Map(),
  udpBackends: new Map(),
  udpFronts: new Map(),
};

export function contribution(fronts: readonly ServiceFront[], family: Family): Contribution {
  const build = new Builder(family);
  for (const front of fronts) build.add(front);
  return build;
}

class Builder implements Contribution {
  readonly chains = new Map<string, ChainSpec>();
  readonly elements = new Map<string, { readonly map: MapName; readonly element: NftElement }>();
  readonly udpBackends = new Map<string, IpAddress>();
  readonly udpFronts = new Map<string, IpAddress>();
  readonly #family: Family;

  constructor(family: Family) {
    this.#family = family;
  }

  add(front: ServiceFront): void {
    const toBackends = this.#balance(front, "service", front.internal);
    for (const address of front.clusterIPs)
      this.#front(front, { address, chain: toBackends, none: front.internalLocal ? DROP : REJECT });
    const outside = front.nodePort !== undefined || front.externalIPs.length > 0 ? this.#external(front) : undefined;
    // Local policy: a node without a backend is silent, so that load balancers go elsewhere.
    const none = front.externalLocal && front.all.length > 0 ? DROP : REJECT;
    for (const address of front.externalIPs) this.#front(front, { address, chain: outside, none });
    if (front.nodePort !== undefined) this.#nodePort(front, front.nodePort, { chain: outside, none });
    if (front.protocol !== "UDP") return;
    for (const backend of [...front.all, ...front.external]) this.udpBackends.set(backendKey(backend), backend.address);
    if (front.all.length > 0) for (const address of front.clusterIPs) this.udpFronts.set(front.id, address);
  }

  #front(
    front: ServiceFront,
    where: { readonly address: IpAddress; readonly chain: string | undefined; readonly none: string },
  ): void {
    const key = concatKey(
      addressKey(where.address),
      protocolKey(PROTOCOL_NUMBERS[front.protocol]),
      portKey(front.port),
    );
    this.#element(where.chain === undefined ? "no-endpoints" : "service-ips", key, where.chain ?? where.none);
  }

  #nodePort(
    front: ServiceFront,
    port: number,
    where: { readonly chain: string | undefined; readonly none: string },
  ): void {
    const key = concatKey(protocolKey(PROTOCOL_NUMBERS[front.protocol]), portKey(port));
    this.#element(where.chain === undefined ? "no-endpoint-ports" : "node-ports", key, where.chain ?? where.none);
  }

  #element(map: MapName, key: Uint8Array, chain: string): void {
    this.elements.set(`${map} ${Buffer.from(key).toString("hex")}`, {
      map,
      element: verdictElement(key, { kind: "goto", chain }),
    });
  }

  /** A chain that picks a backend; undefined without any. */
  #balance(front: ServiceFront, kind: "service" | "all" | "node", backends: readonly Backend[]): string | undefined {
    if (backends.length === 0) return undefined;
    const name = chainName(kind, front.id);
    const endpoints = backends.map((backend) => this.#endpoint(front, backend));
    const family = this.#family;
    this.chains.set(name, {
      signature: `${front.sticky ? "sticky" : "random"} ${endpoints.join(" ")}`,
      rules: () =>
        endpoints.map((endpoint, at) =>
          rule([...pick(front, { at, of: endpoints.length, family }), ...goto(endpoint)]),
        ),
    });
    return name;
  }

  #endpoint(front: ServiceFront, backend: Backend): string {
    const name = `endpoint-${shortHash(front.id)}-${backendKey(backend)}`;
    this.chains.set(name, {
      signature: "",
      rules: () => [
        rule(
          [...matchSourceAddress(hostPrefix(backend.address)), ...setMark(MASQUERADE_MARK, MASQUERADE_MARK)],
          "hairpin",
        ),
        rule(dnat(backend)),
      ],
    });
    return name;
  }

  /** For node ports and external addresses. */
  #external(front: ServiceFront): string | undefined {
    const everywhere = front.internalLocal ? this.#balance(front, "all", front.all) : chainIfAny(front, front.internal);
    if (everywhere === undefined) return undefined;
    const name = chainName("external", front.id);
    const marked = setMark(MASQUERADE_MARK, MASQUERADE_MARK);
    if (!front.externalLocal) {
      this.chains.set(name, { signature: everywhere, rules: () => [rule(marked), rule(goto(everywhere))] });
      return name;
    }
    const here = this.#balance(front, "node", front.external);
    const ownTraffic = matchAddressType("saddr", "local");
    this.chains.set(name, {
      signature: `${everywhere} ${here ?? "none"}`,
      rules: () => [
        // The node itself may reach every backend; nobody could route its answer wrongly.
        rule([...ownTraffic, ...marked]),
        rule([...ownTraffic, ...goto(everywhere)]),
        rule(here === undefined ? drop() : goto(here)),
      ],
    });
    return name;
  }
}

const chainIfAny = (front: ServiceFront, backends: readonly Backend[]): string | undefined =>
  backends.length === 0 ? undefined : chainName("service", front.id);

const shortHash = (text: string): string => sha256Hex(text).slice(0, 10);

const chainName = (kind: string, id: string): string =>
  `${kind}-${shortHash(id)}-${id.replace(/[^A-Za-z0-9/.:-]/g, "_").slice(0, 90)}`;

interface Choice {
  readonly at: number;
  readonly of: number;
  readonly family: Family;
}

/** Matches for the right share of connections: the n-th of the rest by chance, or those whose client address hashes to it. */
function pick(front: ServiceFront, { at, of, family }: Choice): readonly NftExpr[] {
  if (at === of - 1) return [];
  if (!front.sticky) {
    return [
      { kind: "numgen", mode: "random", modulus: of - at, dreg: 1 },
      { kind: "cmp", op: "eq", sreg: 1, data: hostUint32(0) },
    ];
  }
  const client = FIELDS[family === 4 ? "ip saddr" : "ip6 saddr"];
  return [
    client.load(2),
    { kind: "hash", sreg: 2, length: client.length, modulus: of, seed: 0x5eed, dreg: 1 },
    { kind: "cmp", op: "eq", sreg: 1, data: hostUint32(at) },
  ];
}

const LOOPBACK: Readonly<Record<Family, { readonly family: Family; readonly value: bigint; readonly length: number }>> =
  {
    4: { family: 4, value: 0x7f00_0000n, length: 8 },
    6: { family: 6, value: 1n, length: 128 },
  };

/** In an `ip` or `ip6` table only the family's own code works: the kernel takes the abstract one (icmpx) and then drops silently. */
const PORT_UNREACHABLE: Readonly<Record<Family, NftExpr>> = {
  4: { kind: "reject", type: "icmp", code: 3 },
  6: { kind: "reject", type: "icmp", code: 4 },
};

/** The part of the table that does not depend on Services: created once, with everything before it removed. */
export function tableSkeleton(family: Family): readonly NftCommand[] {
  const table = proxyTable(family);
  const destination = family === 4 ? "ip daddr" : "ip6 daddr";
  const toNode = [...matchAddressType("daddr", "local"), ...matchDestinationAddress(LOOPBACK[family], { not: true })];
  const chains: readonly { readonly chain: NftChain; readonly rules: readonly NftRule[] }[] = [
    { chain: { name: REJECT }, rules: [rule([PORT_UNREACHABLE[family]])] },
    { chain: { name: DROP }, rules: [rule(drop())] },
    {
      chain: { name: SERVICES },
      rules: [
        rule(verdictMap("service-ips", [destination, "l4proto", "th dport"])),
        rule([...toNode, ...verdictMap("node-ports", ["l4proto", "th dport"])]),
      ],
    },
    {
      chain: { name: WITHOUT_ENDPOINTS },
      rules: [
        rule(verdictMap("no-endpoints", [destination, "l4proto", "th dport"])),
        rule([...toNode, ...verdictMap("no-endpoint-ports", ["l4proto", "th dport"])]),
      ],
    },
    natHook("nat-prerouting", "prerouting", rule(jump(SERVICES))),
    natHook("nat-output", "output", rule(jump(SERVICES))),
    {
      chain: { name: "nat-postrouting", base: { type: "nat", hook: "postrouting", priority: 100, policy: "accept" } },
      rules: [rule([...matchMark(MASQUERADE_MARK, MASQUERADE_MARK), ...masquerade({ fullyRandom: true })])],
    },
    ...(["input", "forward", "output"] as const).map((hook) => ({
      chain: {
        name: `filter-${hook}`,
        base: { type: "filter" as const, hook, priority: -110, policy: "accept" as const },
      },
      rules: [rule([...matchCtState(["new"]), ...jump(WITHOUT_ENDPOINTS)])],
    })),
  ];
  const maps: readonly MapName[] = ["service-ips", "node-ports", "no-endpoints", "no-endpoint-ports"];
  return [
    { do: "delete-table", table, ifExists: true },
    { do: "add-table", table },
    ...maps.map((name): NftCommand => ({ do: "add-set", table, set: proxyMap(name, family) })),
    ...chains.map(({ chain }): NftCommand => ({ do: "add-chain", table, chain })),
    ...chains.flatMap(({ chain, rules }) =>
      rules.map((each): NftCommand => ({ do: "add-rule", table, chain: chain.name, rule: each })),
    ),
  ];
}

function natHook(
  name: string,
  hook: "prerouting" | "output",
  first: NftRule,
): { readonly chain: NftChain; readonly rules: readonly NftRule[] } {
  return { chain: { name, base: { type: "nat", hook, priority: -100, policy: "accept" } }, rules: [first] };
}

/** One transaction from what the table holds of some Services to what it should hold. */
export function updateCommands(
  family: Family,
  changes: readonly { readonly before: Contribution; readonly after: Contribution }[],
): readonly NftCommand[] {
  const table = proxyTable(family);
  const dropElements = new Map<MapName, NftElement[]>();
  const addElements = new Map<MapName, NftElement[]>();
  const commands: { newChains: NftCommand[]; rules: NftCommand[]; flushed: NftCommand[]; gone: NftCommand[] } = {
    newChains: [],
    rules: [],
    flushed: [],
    gone: [],
  };
  for (const { before, after } of changes) {
    for (const [key, { map, element }] of before.elements) {
      if (!sameElement(after.elements.get(key)?.element, element)) push(dropElements, map, element);
    }
    for (const [key, { map, element }] of after.elements) {
      if (!sameElement(before.elements.get(key)?.element, element)) push(addElements, map, element);
    }
    for (const [chain, spec] of after.chains) {
      const known = before.chains.get(chain);
      if (known?.signature === spec.signature) continue;
      if (known === undefined) commands.newChains.push({ do: "add-chain", table, chain: { name: chain } });
      else commands.rules.push({ do: "flush-chain", table, chain });
      for (const each of spec.rules()) commands.rules.push({ do: "add-rule", table, chain, rule: each });
    }
    for (const chain of before.chains.keys()) {
      if (after.chains.has(chain)) continue;
      commands.flushed.push({ do: "flush-chain", table, chain });
      commands.gone.push({ do: "delete-chain", table, chain });
    }
  }
  const elementCommands = (
    what: "add-elements" | "delete-elements",
    from: ReadonlyMap<MapName, NftElement[]>,
  ): NftCommand[] => [...from].map(([map, elements]) => ({ do: what, table, set: proxyMap(map, family), elements }));
  return [
    ...elementCommands("delete-elements", dropElements),
    ...commands.newChains,
    ...commands.rules,
    ...elementCommands("add-elements", addElements),
    ...commands.flushed,
    ...commands.gone,
  ];
}

function push(into: Map<MapName, NftElement[]>, map: MapName, element: NftElement): void {
  const list = into.get(map);
  if (list === undefined) into.set(map, [element]);
  else list.push(element);
}

/** Keys are equal already: do they lead to the same chain? */
const sameElement = (a: NftElement | undefined, b: NftElement): boolean =>
  a !== undefined && JSON.stringify(a.value) === JSON.stringify(b.value);
