/**
 * Packet rates and connection limits of pods. What is over the rate is dropped, whatever its connection; a TCP connection over the
 * limit is answered with a reset. Both come before policy, and between the policies of two pods of one node: what the sender's policy
 * drops does not use up the receiver's allowance. What the node itself sends to its pods is not limited, as it is not policed.
 *
 * An endpoint has one chain per direction, entered from every hook by the interface's element in a map, so that all its packets
 * meet the same counters. Counters belong to the chain's rules: they start anew when the limits change, and with nothing else.
 */
import type { PacketLimit, WorkloadEndpoint } from "@calico-ts/dataplane-api";
import type { ChainStore } from "./chain-store.ts";
import { safeName } from "./names.ts";
import type { Direction } from "./provenance.ts";
import { fit } from "./provenance.ts";
import type { SetStore } from "./set-store.ts";
import { OwnedSets } from "./set-store.ts";
import type { Attachment, Chain, ChainRule, SetElement } from "./values.ts";
import { COUNT, DROP } from "./values.ts";

const TCP = 6;

interface Road {
  readonly direction: Direction;
  readonly interface: "in" | "out";
  readonly map: string;
  /** First part of the endpoints' chains. */
  readonly head: string;
  readonly attached: readonly { readonly name: string; readonly attach: Attachment }[];
}

const ROADS: readonly Road[] = [
  {
    direction: "egress",
    interface: "in",
    map: "limits-from-workload",
    head: "limits-out",
    attached: [
      { name: "limits-input-from-workload", attach: "input-limits" },
      { name: "limits-forward-from-workload", attach: "forward-limits-from-workload" },
    ],
  },
  {
    direction: "ingress",
    interface: "out",
    map: "limits-to-workload",
    head: "limits-in",
    attached: [{ name: "limits-forward-to-workload", attach: "forward-limits-to-workload" }],
  },
];

interface Limits {
  readonly packets: PacketLimit | undefined;
  readonly connections: number | undefined;
}

export class TrafficLimits {
  readonly #chains: ChainStore;
  readonly #sets: OwnedSets;
  /** Per road: interface → its chain. */
  readonly #byRoad = new Map(ROADS.map((road) => [road, new Map<string, Chain>()]));
  #dirty = false;

  constructor(chains: ChainStore, sets: SetStore) {
    this.#chains = chains;
    this.#sets = new OwnedSets(sets);
  }

  /** undefined: the interface has no endpoint. `id` is for comments. */
  set(name: string, id: string, endpoint: WorkloadEndpoint | undefined): void {
    for (const [road, chains] of this.#byRoad) {
      const chain = endpoint && endpointChain(road, name, { id, endpoint });
      if (chain === undefined && !chains.delete(name)) continue;
      if (chain !== undefined) chains.set(name, chain);
      this.#chains.put(`limits ${road.head} ${name}`, chain === undefined ? [] : [chain]);
      this.#dirty = true;
    }
  }

  settle(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    const used = [...this.#byRoad].filter(([, chains]) => chains.size > 0);
    this.#chains.put(
      "limits",
      used.flatMap(([road]) => entrances(road)),
    );
    this.#sets.replace(
      used.map(([road, chains]) => ({
        declaration: { name: road.map, key: ["interface"], ranges: false, chains: true },
        elements: new Map(
          Array.from(chains, ([name, chain]): [string, SetElement] => [name, { key: [name], chain: chain.name }]),
        ),
      })),
    );
  }
}

const entrances = (road: Road): Chain[] =>
  road.attached.map((place) => ({
    ...place,
    rules: [
      {
        matches: [],
        actions: [{ kind: "dispatch", map: road.map, fields: [{ kind: "interface", direction: road.interface }] }],
      },
    ],
  }));

/** undefined: nothing is limited. */
function endpointChain(
  { direction, head }: Road,
  name: string,
  { id, endpoint }: { readonly id: string; readonly endpoint: WorkloadEndpoint },
): Chain | undefined {
  const { packets, connections } = limitsOf(endpoint, direction);
  const rules: ChainRule[] = [];
  if (packets !== undefined) {
    rules.push({
      matches: [{ kind: "over-packet-rate", perSecond: packets.rate, burst: packets.burst }],
      actions: [COUNT, DROP],
      comment: fit(`packet rate of ${id}`, ` ${direction}`),
    });
  }
  if (connections !== undefined) {
    rules.push({
      matches: [
        { kind: "protocol", protocol: TCP },
        { kind: "conntrack", states: ["new"] },
        { kind: "over-connections", count: connections },
      ],
      actions: [COUNT, { kind: "tcp-reset" }],
      comment: fit(`connection limit of ${id}`, ` ${direction}`),
    });
  }
  return rules.length === 0 ? undefined : { name: safeName(head, name), rules };
}

const limitsOf = (endpoint: WorkloadEndpoint, direction: Direction): Limits =>
  direction === "ingress"
    ? { packets: endpoint.ingressPackets, connections: endpoint.ingressConnections }
    : { packets: endpoint.egressPackets, connections: endpoint.egressConnections };
