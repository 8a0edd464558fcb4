/**
 * START HERE. What should happen to a packet, worked out from the resources themselves. Written from the semantics
 * (inventory §1.3, §2.6, §10), sharing no code with the calculation graph's translation or with any renderer: where they
 * disagree, one of them is wrong. Selectors are parsed by `@calico-ts/selector`; everything about them is decided here.
 *
 * A packet passes one node or two. Passing a node it is, in this order: judged untracked, by the state of its connection, before destination NAT, then as
 * input, forwarded or output. A pod's egress and ingress policies are part of forwarding (or of input, followed by
 * DefaultEndpointToHostAction and nothing else); a host endpoint's normal policies are about input and output, its applyOnForward ones stand
 * around the pods'. The node to its own pods is not policed.
 */
import type { HostEndpoint, KindMap, KindName } from "@calico-ts/model";
import type { Family, IpAddress } from "@calico-ts/net";
import { formatAddress, prefixAddress, tryParseAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { EndpointWalks } from "./endpoint-walks.ts";
import type { HostFacts } from "./host-side.ts";
import { endpointOf, Failsafes, hostAddress, isDiscovery } from "./host-side.ts";
import type { PacketView } from "./packet-view.ts";
import { Sides } from "./packet-view.ts";
import type { DirectionTrace, EndTrace, Trace } from "./trace.ts";
import type { Decision, Direction, DirectionVerdict, Form, Party, Query, Verdict } from "./verdict.ts";
import type { Entity, Resources } from "./world.ts";
import { World } from "./world.ts";

export interface OracleResource {
  readonly kind: KindName;
  readonly resource: KindMap[KindName] | undefined;
}

export interface OracleOptions {
  /** FelixConfiguration values; absent ones have their defaults. */
  readonly config?: Readonly<Record<string, string>>;
  /** Nodes by name, for host endpoints: without an entry a node has an uplink `eth0` and no address. */
  readonly hosts?: Readonly<Record<string, HostFacts>>;
}

export interface Oracle {
  verdict(query: Query): Verdict;
  /** The verdict with every policy, rule and condition on the way: for people, one packet at a time. */
  trace(query: Query): Trace;
}

/** The world as it is: one entry per resource. */
export function createOracle(world: Iterable<OracleResource>, options: OracleOptions = {}): Oracle {
  return new PolicyOracle(byKind(world), options);
}

function byKind(world: Iterable<OracleResource>): Resources {
  const lists = new Map<KindName, KindMap[KindName][]>();
  for (const { kind, resource } of world) {
    if (resource === undefined) continue;
    const list = lists.get(kind);
    if (list === undefined) lists.set(kind, [resource]);
    else list.push(resource);
  }
  return { of: <K extends KindName>(kind: K) => (lists.get(kind) ?? []) as KindMap[K][] };
}

/** Where a packet comes from or goes to, as the node it passes sees it. */
type End = { readonly is: "pod"; readonly pod: Entity } | { readonly is: "local" } | { readonly is: "uplink" };

interface Passage {
  readonly node: string;
  readonly from: End;
  readonly to: End;
}

/** Thrown away with the query: what has been walked, and the first thing that said no. */
class Judgement {
  readonly state: Query["state"];
  readonly walk: DirectionVerdict[] = [];
  decision: Decision = { by: "not-policed" };
  denied = false;

  constructor(state: Query["state"]) {
    this.state = state;
  }

  /** False: it is over. */
  add(verdict: DirectionVerdict | undefined): boolean {
    if (verdict === undefined) return true;
    this.walk.push(verdict);
    this.decision = verdict.decision;
    this.denied = !verdict.allowed;
    return verdict.allowed;
  }

  say(allowed: boolean, decision: Decision): boolean {
    this.decision = decision;
    this.denied = !allowed;
    return allowed;
  }
}

/** No host endpoint can name or expect it. */
const WORKLOAD_INTERFACE = { interfaceName: "(workload)", addresses: [] };
const DEFAULT_HOST: HostFacts = { uplink: "eth0", addresses: [] };

class PolicyOracle implements Oracle {
  readonly #world: World;
  readonly #config: Readonly<Record<string, string>>;
  readonly #hosts: Readonly<Record<string, HostFacts>>;
  readonly #hostEndpoints: readonly HostEndpoint[];
  readonly #failsafes: Failsafes;
  readonly #walks: EndpointWalks;
  readonly #sides: Sides;

  constructor(resources: Resources, options: OracleOptions) {
    this.#world = new World(resources);
    this.#config = options.config ?? {};
    this.#hosts = options.hosts ?? {};
    this.#hostEndpoints = resources.of("HostEndpoint");
    this.#failsafes = new Failsafes(this.#config);
    this.#walks = new EndpointWalks(resources, this.#world);
    this.#sides = new Sides(this.#world, this.#walks.selectors);
  }

  verdict(query: Query): Verdict {
    const passages = this.#passages(query);
    const packet = this.#packet(query);
    const judgement = new Judgement(query.state);
    passages.every((passage) => this.#pass(passage, packet, judgement));
    return { allowed: !judgement.denied, decision: judgement.decision, walk: judgement.walk };
  }

  trace(query: Query): Trace {
    const { allowed, decision, walk } = this.verdict(query);
    const packet = this.#packet(query);
    const walked = walk.flatMap((verdict) => {
      const entity = this.#world.entities.get(verdict.endpoint);
      return entity === undefined ? [] : [this.#walks.trace(entity, verdict, packet, true)];
    });
    // What a pod's own policies would have said, had the packet come to them.
    const ends = [
      ["from", "egress"],
      ["to", "ingress"],
    ] as const;
    const unreached = allowed
      ? []
      : ends.flatMap(([side, direction]) => this.#unreached(query[side], direction, { packet, walked }));
    const source = endTrace(packet.source);
    return { allowed, decision, walk: [...walked, ...unreached], source, destination: endTrace(packet.destination) };
  }

  #unreached(
    party: Party,
    direction: Direction,
    { packet, walked }: { readonly packet: PacketView; readonly walked: readonly DirectionTrace[] },
  ): DirectionTrace[] {
    const { end } = this.#end(party);
    if (end.is !== "pod") return [];
    const isWalked = walked.some(({ endpoint, direction: each }) => endpoint === end.pod.id && each === direction);
    const verdict = isWalked ? undefined : this.#walks.walk(end.pod, direction, "normal", packet);
    return verdict === undefined ? [] : [this.#walks.trace(end.pod, verdict, packet, false)];
  }

  /** Connections that exist are allowed; packets that fit none are dropped where anything is policed. undefined: the state decides nothing. */
  #stateDecision(state: Query["state"], passage: Passage): "established" | "invalid" | undefined {
    if (state === "established") return state;
    if (state !== "invalid" || this.#config["disableConntrackInvalidCheck"] === "true") return undefined;
    return this.#isPoliced(passage) ? state : undefined;
  }

  #isPoliced({ node, from, to }: Passage): boolean {
    if (from.is === "pod" || to.is === "pod") return true;
    return this.#hostEndpoint(node, from) !== undefined || this.#hostEndpoint(node, to) !== undefined;
  }

  #passages(query: Query): Passage[] {
    const from = this.#end(query.from);
    const to = this.#end(query.to);
    if (from.node !== undefined && from.node === to.node) {
      // The node to its own pods is not policed, nor is the node to itself.
      return from.end.is === "local" ? [] : [{ node: from.node, from: from.end, to: to.end }];
    }
    const first = from.node === undefined ? [] : [{ node: from.node, from: from.end, to: UPLINK }];
    const last = to.node === undefined ? [] : [{ node: to.node, from: UPLINK, to: to.end }];
    return [...first, ...last];
  }

  #end(party: Party): { readonly node: string | undefined; readonly end: End } {
    if ("host" in party) return { node: party.host, end: { is: "local" } };
    if ("address" in party) return { node: undefined, end: UPLINK };
    const pod = this.#world.entities.get(party.pod);
    if (pod?.kind !== "pod") {
      throw new CalicoError("NOT_FOUND", `there is no pod ${party.pod} with a network of its own`);
    }
    return { node: pod.node, end: { is: "pod", pod } };
  }

  #pass(passage: Passage, packet: PacketView, judgement: Judgement): boolean {
    const { from, to } = passage;
    const incoming = this.#hostEndpoint(passage.node, from);
    const outgoing = this.#hostEndpoint(passage.node, to);
    // An untracked or preDNAT Allow spares the packet normal policy of the host, and the applyOnForward policy of where it came in.
    let spared = false;
    const early = (entity: Entity | undefined, direction: Direction, form: Form): boolean => {
      if (entity === undefined || spared || isDiscovery(packet, "uplink")) return true;
      if (this.#failsafes.allow(packet, direction, form === "untracked")) return true;
      const verdict = this.#walks.walk(entity, direction, form, packet);
      spared = verdict?.allowed ?? false;
      return judgement.add(verdict);
    };
    if (from.is === "uplink" && !early(incoming, "ingress", "untracked")) return false;
    if (from.is === "local" && !early(outgoing, "egress", "untracked")) return false;
    // Untracked policy comes before connections are looked up: what it allows has no state, good or bad.
    const state = spared ? undefined : this.#stateDecision(judgement.state, passage);
    if (state !== undefined) return judgement.say(state === "established", { by: "connection-state", state });
    const tunnel = from.is === "pod" ? this.#encapsulated(packet) : undefined;
    if (tunnel !== undefined) return judgement.say(false, tunnel);
    if (from.is !== "local" && !early(incoming, "ingress", "pre-dnat")) return false;

    if (from.is === "local") return spared || this.#normal(outgoing, "egress", packet, judgement);
    if (to.is !== "local") {
      return this.#forward(passage, { incoming: spared ? undefined : incoming, outgoing }, packet, judgement);
    }
    if (from.is === "pod") {
      if (isDiscovery(packet, "pod")) return judgement.say(true, { by: "neighbour-discovery" });
      if (!judgement.add(this.#walks.walk(from.pod, "egress", "normal", packet))) return false;
      const configured = (this.#config["defaultEndpointToHostAction"] ?? "").toLowerCase();
      const action = configured === "accept" || configured === "return" ? configured : "drop";
      return judgement.say(action !== "drop", { by: "endpoint-to-host", action });
    }
    return spared || this.#normal(incoming, "ingress", packet, judgement);
  }

  #forward(
    { from, to }: Passage,
    hosts: { readonly incoming: Entity | undefined; readonly outgoing: Entity | undefined },
    packet: PacketView,
    judgement: Judgement,
  ): boolean {
    const walk = (entity: Entity | undefined, direction: Direction, form: Form): boolean =>
      entity === undefined || judgement.add(this.#walks.walk(entity, direction, form, packet));
    return (
      walk(hosts.incoming, "ingress", "forward") &&
      walk(from.is === "pod" ? from.pod : undefined, "egress", "normal") &&
      walk(to.is === "pod" ? to.pod : undefined, "ingress", "normal") &&
      walk(hosts.outgoing, "egress", "forward")
    );
  }

  #normal(entity: Entity | undefined, direction: Direction, packet: PacketView, judgement: Judgement): boolean {
    if (entity === undefined) return true;
    if (isDiscovery(packet, "uplink")) return judgement.say(true, { by: "neighbour-discovery" });
    if (this.#failsafes.allow(packet, direction, false)) return judgement.say(true, { by: "failsafe", direction });
    return judgement.add(this.#walks.walk(entity, direction, "normal", packet));
  }

  /** Pods' interfaces have the endpoint for all interfaces, if there is one. */
  #hostEndpoint(node: string, end: End): Entity | undefined {
    if (end.is === "local") return undefined;
    const { uplink, addresses } = this.#hosts[node] ?? DEFAULT_HOST;
    const place = end.is === "uplink" ? { interfaceName: uplink, addresses } : WORKLOAD_INTERFACE;
    return endpointOf(this.#world, this.#hostEndpoints, { node, ...place });
  }

  #encapsulated(packet: PacketView): Decision | undefined {
    const port = Number(this.#config["vxlanPort"] ?? 4789);
    const vxlan = packet.protocol === 17 && packet.destinationPort === port;
    if (vxlan && this.#config["allowVXLANPacketsFromWorkloads"] !== "true")
      return { by: "encapsulation", what: "vxlan" };
    const ipip = packet.protocol === 4;
    if (ipip && this.#config["allowIPIPPacketsFromWorkloads"] !== "true") return { by: "encapsulation", what: "ipip" };
    return undefined;
  }

  #packet(query: Query): PacketView {
    const family = familyOf(query);
    return {
      family,
      protocol: query.protocol,
      sourcePort: query.sourcePort,
      destinationPort: query.destinationPort,
      icmp: query.icmp,
      source: this.#sides.of(this.#address(query.from, family)),
      destination: this.#sides.of(this.#address(query.to, family)),
    };
  }

  #address(party: Party, family: Family): IpAddress {
    if ("address" in party) {
      const address = tryParseAddress(party.address);
      if (address?.family !== family)
        throw new CalicoError("BAD_INPUT", `${party.address} is not an IPv${family} address`);
      return address;
    }
    if ("host" in party) return hostAddress(this.#hosts[party.host], family);
    const net = this.#world.entities.get(party.pod)?.nets.find((prefix) => prefix.family === family);
    if (net === undefined) throw new CalicoError("BAD_INPUT", `${party.pod} has no IPv${family} address`);
    return prefixAddress(net);
  }
}

const endTrace = ({ address, owners }: PacketView["source"]): EndTrace => ({
  address: formatAddress(address),
  owners: owners.map(({ id }) => id),
});

const UPLINK: End = { is: "uplink" };

function familyOf(query: Query): Family {
  for (const party of [query.from, query.to]) {
    const address = "address" in party ? tryParseAddress(party.address) : undefined;
    if (address !== undefined) return address.family;
  }
  return query.family ?? 4;
}
