/**
 * Kubernetes NetworkPolicy and ClusterNetworkPolicy. Their selectors ask whoever counts as a pod for the labels that count for it, own and
 * inherited, as all other selectors do (inventory §1.5, §10.2): `projectcalico.org/name` selects a namespace by its name here too.
 */
import type {
  ClusterNetworkPolicy,
  KubernetesNetworkPolicy,
  KubernetesPolicyPort,
  LabelSelector,
} from "@calico-ts/model";
import { containsAddress, formatPrefix, parsePrefix, protocolName } from "@calico-ts/net";
import { CalicoError, errorText } from "@calico-ts/std";
import { portText, sideText } from "./criteria.ts";
import type { EntityTest } from "./label-terms.ts";
import { kubernetesTest } from "./label-terms.ts";
import type { Criterion, Demand, Needs, OraclePolicy, OracleRule, SelectorNumbers } from "./oracle-policy.ts";
import { unreadable } from "./oracle-policy.ts";
import type { PacketView, Side } from "./packet-view.ts";

interface Context {
  readonly selectors: SelectorNumbers;
}

const NAMESPACE = "projectcalico.org/namespace";
const isPod: EntityTest = ({ labels }) => labels.get("projectcalico.org/orchestrator") === "k8s";

type Direction = "ingress" | "egress";

/** Who is on the other side. `owner`: whose named ports count. */
interface Peer {
  readonly matches: (side: Side) => boolean;
  /** Of the selector that decides; undefined: not by a selector. */
  readonly selector?: number;
  readonly owner: EntityTest;
  readonly text: () => string;
  /** Labels it asks about. */
  readonly labels: readonly string[];
}

const ANYBODY: Peer = { matches: () => true, owner: () => true, text: () => "anybody", labels: [] };

export function kubernetesPolicy(policy: KubernetesNetworkPolicy, context: Context): OraclePolicy {
  const { metadata } = policy;
  const spec = policy.spec ?? {};
  const namespace = metadata.namespace ?? "";
  // A selector nobody can read isolates the whole namespace.
  const selected = kubernetesTest(spec.podSelector) ?? ((): boolean => true);
  const given = (Array.isArray(spec.policyTypes) ? spec.policyTypes : []).filter(
    (type) => type === "Ingress" || type === "Egress",
  );
  const types = given.length === 0 ? ["Ingress"] : given;
  const rules = (
    direction: Direction,
    side: "from" | "to",
    list: readonly KubernetesRule[] | undefined,
  ): OracleRule[] =>
    // What is no list has no rules: they only allow.
    (Array.isArray(list) ? list : []).map((rule: KubernetesRule, index) =>
      allowing(index, () => {
        const peers = listOf(rule[side]);
        const readPeers = peers.length === 0 ? [ANYBODY] : peers.map((peer) => readPeer(peer, namespace, context));
        return peersRule({ action: "allow", index, direction }, readPeers, portTests(listOf(rule.ports)));
      }),
    );
  return {
    id: { kind: "KubernetesNetworkPolicy", namespace, name: metadata.name },
    tier: "default",
    order: 1000,
    applies: (entity) => isPod(entity) && entity.labels.get(NAMESPACE) === namespace && selected(entity.labels),
    subject: `namespace ${namespace}, ${selectorText("pods", spec.podSelector)}`,
    ingress: types.includes("Ingress") ? rules("ingress", "from", spec.ingress) : undefined,
    egress: types.includes("Egress") ? rules("egress", "to", spec.egress) : undefined,
    use: "normal",
    onForward: false,
  };
}

interface KubernetesRule {
  readonly from?: readonly PeerLike[];
  readonly to?: readonly PeerLike[];
  readonly ports?: readonly KubernetesPolicyPort[];
}

/** Stored objects may hold anything. @throws CalicoError BAD_INPUT */
function listOf<T>(value: readonly T[] | undefined | null): readonly T[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new CalicoError("BAD_INPUT", "not a list");
  return value;
}

function allowing(index: number, read: () => OracleRule): OracleRule {
  try {
    return read();
  } catch (error) {
    return unreadable("allow", index, errorText(error));
  }
}

/** `pods with app=web, tier in (a, b)` */
function selectorText(what: string, selector: LabelSelector | undefined): string {
  const parts = [
    ...Object.entries(selector?.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`),
    ...(selector?.matchExpressions ?? []).map(
      ({ key, operator, values }) => `${key} ${operator}${values === undefined ? "" : ` (${values.join(", ")})`}`,
    ),
  ];
  return parts.length === 0 ? `all ${what}` : `${what} with ${parts.join(" and ")}`;
}

const selectorLabels = (selector: LabelSelector | undefined, prefix = ""): string[] =>
  [...Object.keys(selector?.matchLabels ?? {}), ...(selector?.matchExpressions ?? []).map(({ key }) => key)].map(
    (label) => prefix + label,
  );

interface PeerLike {
  readonly podSelector?: LabelSelector;
  readonly namespaceSelector?: LabelSelector;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}

function readPeer(peer: PeerLike, namespace: string, context: Context): Peer {
  const { ipBlock } = peer;
  if (ipBlock !== undefined) {
    const inside = parsePrefix(ipBlock.cidr, "mask");
    const except = (ipBlock.except ?? []).map((text) => parsePrefix(text, "mask"));
    return {
      matches: ({ address }) =>
        containsAddress(inside, address) && !except.some((prefix) => containsAddress(prefix, address)),
      owner: () => true,
      text: () => ipBlock.cidr + (except.length === 0 ? "" : ` except ${(ipBlock.except ?? []).join(", ")}`),
      labels: [],
    };
  }
  const own: Place = {
    test: (entity) => entity.labels.get(NAMESPACE) === namespace,
    text: () => `namespace ${namespace}`,
    labels: [],
  };
  const where = peer.namespaceSelector === undefined ? own : namespaceTest(peer.namespaceSelector);
  return podPeer(peer.podSelector, where, `${namespace} ${JSON.stringify(peer)}`, context);
}

/** Which namespaces. */
interface Place {
  readonly test: EntityTest;
  readonly text: () => string;
  readonly labels: readonly string[];
}

function podPeer(selector: LabelSelector | undefined, where: Place, key: string, context: Context): Peer {
  const selected = kubernetesTest(selector);
  if (selected === undefined) throw new CalicoError("BAD_INPUT", "a pod selector cannot be read");
  const owner: EntityTest = (entity) => isPod(entity) && where.test(entity) && selected(entity.labels);
  const numbered = context.selectors.number(`pods ${key}`, owner, podDemand(selector));
  return {
    matches: (side) => numbered.selects(side),
    selector: numbered.number,
    owner,
    text: () => `${selectorText("pods", selector)} in ${where.text()}`,
    labels: [...selectorLabels(selector), ...where.labels],
  };
}

function podDemand(selector: LabelSelector | undefined): Demand | undefined {
  const [label, value] = Object.entries(selector?.matchLabels ?? {})[0] ?? [];
  return label === undefined || value === undefined ? undefined : { label, values: [value] };
}

/** What a pod inherits from its namespace is asked. Absent: nothing is; empty: whether it has a namespace. */
function namespaceTest(selector: LabelSelector | undefined): Place {
  const selected = kubernetesTest(selector, "pcns.");
  if (selected === undefined) throw new CalicoError("BAD_INPUT", "a namespace selector cannot be read");
  const demandsNothing = selector !== undefined && selectorLabels(selector).length === 0;
  const test: EntityTest = ({ labels }) => (demandsNothing ? labels.has(NAMESPACE) : selected(labels));
  return { test, text: () => selectorText("namespaces", selector), labels: selectorLabels(selector, "pcns.") };
}

/** Does the packet go to such a port, with named ports looked up among these owners? */
interface PortTest {
  readonly test: (packet: PacketView, owner: EntityTest) => boolean;
  readonly text: string;
}

const PROTOCOLS: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

function portTests(ports: readonly KubernetesPolicyPort[]): PortTest[] {
  return ports.map(({ protocol: name, port, endPort }) => {
    const protocol = PROTOCOLS[(name === undefined || name === "" ? "TCP" : name).toUpperCase()];
    if (protocol === undefined) throw new CalicoError("BAD_INPUT", `no ports in protocol ${name}`);
    if (port === undefined) return protocolTest(protocol);
    if (typeof port === "number") return rangeTest(protocol, port, endPort ?? port);
    if (endPort !== undefined) throw new CalicoError("BAD_INPUT", "endPort without a number");
    if (port === "") throw new CalicoError("BAD_INPUT", "empty port name");
    if (/^\d+$/.test(port)) return rangeTest(protocol, Number(port), Number(port));
    return namedTest(protocol, port);
  });
}

function rangeTest(protocol: number, first: number, last: number): PortTest {
  if (!(first >= 1 && last <= 65_535 && first <= last)) throw new CalicoError("BAD_INPUT", "not a range of ports");
  return {
    test: ({ protocol: seen, destinationPort }) =>
      seen === protocol && destinationPort !== undefined && destinationPort >= first && destinationPort <= last,
    text: `${first === last ? first : `${first}-${last}`}/${protocolName(protocol)}`,
  };
}

const protocolTest = (protocol: number): PortTest => ({
  test: (packet) => packet.protocol === protocol,
  text: protocolName(protocol),
});

function namedTest(protocol: number, name: string): PortTest {
  return {
    test: ({ protocol: seen, destinationPort, destination }, owner) =>
      seen === protocol &&
      destination.owners.some(
        (entity) =>
          owner(entity) &&
          entity.ports.some(
            (port) => port.name === name && port.protocol === protocol && port.port === destinationPort,
          ),
      ),
    text: `${name}/${protocolName(protocol)}`,
  };
}

interface RulePlace {
  readonly action: OracleRule["action"];
  readonly index: number;
  readonly direction: Direction;
}

/** One of the peers, and one of the ports with it. Named ports of a destination are those of pods the same peer selects. */
function peersRule(place: RulePlace, peers: readonly Peer[], ports: readonly PortTest[]): OracleRule {
  const { action, index, direction } = place;
  const side = direction === "ingress" ? "source" : "destination";
  const matches = (packet: PacketView): boolean =>
    peers.some((peer) => {
      if (!peer.matches(packet[side])) return false;
      const owner = direction === "ingress" ? ANYBODY.owner : peer.owner;
      return ports.length === 0 || ports.some(({ test }) => test(packet, owner));
    });
  const isPort = (packet: PacketView): boolean => {
    const reached = peers.filter((peer) => peer.matches(packet[side]));
    // When no peer matches, the ports are judged by themselves.
    const owners =
      direction === "ingress" || reached.length === 0 ? [ANYBODY.owner] : reached.map(({ owner }) => owner);
    return owners.some((owner) => ports.some(({ test }) => test(packet, owner)));
  };
  const labels = [...new Set(peers.flatMap((peer) => peer.labels))];
  const peerCriterion: Criterion = {
    field: direction === "ingress" ? "from" : "to",
    test: (packet) => peers.some((peer) => peer.matches(packet[side])),
    wanted: () => peers.map((peer) => peer.text()).join(" or "),
    seen: (packet) => sideText(packet[side], labels),
  };
  const portsCriterion: Criterion = {
    field: "ports",
    test: isPort,
    wanted: () => ports.map(({ text }) => text).join(", "),
    seen: (packet) => portText(packet, "destination"),
  };
  const criteria = ports.length === 0 ? [peerCriterion] : [peerCriterion, portsCriterion];
  const needs = needsOf(peers, side);
  return { action, index, matches, criteria, ...(needs === undefined ? {} : { needs }) };
}

function needsOf(peers: readonly Peer[], side: Needs["side"]): Needs | undefined {
  const selectors = peers.flatMap(({ selector }) => selector ?? []);
  return selectors.length < peers.length ? undefined : { side, anyOf: selectors };
}

type ClusterRule =
  | NonNullable<ClusterNetworkPolicy["spec"]["egress"]>[number]
  | NonNullable<ClusterNetworkPolicy["spec"]["ingress"]>[number];
type ClusterPeer = Extract<ClusterRule, { to: unknown }>["to"][number];

/** undefined: without a tier or a subject there is no policy. */
export function clusterPolicy(policy: ClusterNetworkPolicy, context: Context): OraclePolicy | undefined {
  const { metadata, spec } = policy;
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- stored objects may hold anything
  const tier = spec?.tier === "Admin" ? "kube-admin" : spec?.tier === "Baseline" ? "kube-baseline" : undefined;
  if (tier === undefined) return undefined;
  let subject: Peer;
  try {
    subject = clusterPeer(spec.subject, "ingress", context);
  } catch {
    return undefined;
  }
  const rules = (direction: Direction, list: readonly ClusterRule[]): OracleRule[] | undefined =>
    !Array.isArray(list)
      ? [unreadable("deny", 0, `${direction} is not a list`)]
      : list.length === 0
        ? undefined
        : list.map((rule: ClusterRule, index) => clusterRule(rule, index, direction, context));
  return {
    id: { kind: "KubernetesClusterNetworkPolicy", namespace: "", name: metadata.name },
    tier,
    order: spec.priority,
    applies: subject.owner,
    subject: subject.text(),
    ingress: rules("ingress", spec.ingress ?? []),
    egress: rules("egress", spec.egress ?? []),
    use: "normal",
    onForward: false,
  };
}

const CLUSTER_ACTIONS: Readonly<Record<string, OracleRule["action"]>> = { Accept: "allow", Deny: "deny", Pass: "pass" };

/** These policies deny: only an Accept that nobody can read may be left out. */
function clusterRule(rule: ClusterRule, index: number, direction: Direction, context: Context): OracleRule {
  try {
    const action = CLUSTER_ACTIONS[rule.action];
    const list = listOf<ClusterPeer>("to" in rule ? rule.to : rule.from);
    if (action === undefined || list.length === 0) throw new CalicoError("BAD_INPUT", "no action or no peers");
    const peers = list.map((peer) => clusterPeer(peer, direction, context));
    return peersRule({ action, index, direction }, peers, clusterPorts(listOf(rule.protocols)));
  } catch (error) {
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- stored objects may hold anything
    return unreadable(rule?.action === "Accept" ? "allow" : "deny", index, errorText(error));
  }
}

function clusterPeer(peer: ClusterPeer, direction: Direction, context: Context): Peer {
  const key = `cluster ${JSON.stringify(peer)}`;
  if (peer.namespaces !== undefined) {
    return podPeer(undefined, namespaceTest(peer.namespaces), key, context);
  }
  if (peer.pods !== undefined) {
    return podPeer(peer.pods.podSelector, namespaceTest(peer.pods.namespaceSelector), key, context);
  }
  if (peer.networks !== undefined && peer.networks.length > 0 && direction === "egress") {
    const prefixes = peer.networks.map((text) => parsePrefix(text, "mask"));
    return {
      matches: ({ address }) => prefixes.some((prefix) => containsAddress(prefix, address)),
      owner: () => true,
      text: () => prefixes.map((prefix) => formatPrefix(prefix)).join(", "),
      labels: [],
    };
  }
  throw new CalicoError("BAD_INPUT", "unknown peer");
}

type ClusterProtocol = NonNullable<ClusterRule["protocols"]>[number];

function clusterPorts(protocols: readonly ClusterProtocol[]): PortTest[] {
  return protocols.flatMap((entry) => {
    const name = entry.destinationNamedPort;
    if (name !== undefined) return Object.values(PROTOCOLS).map((protocol) => namedTest(protocol, name));
    const transports = [
      [6, entry.tcp],
      [17, entry.udp],
      [132, entry.sctp],
    ] as const;
    const [protocol, transport] = transports.find(([, given]) => given !== undefined) ?? [];
    if (protocol === undefined || transport === undefined) throw new CalicoError("BAD_INPUT", "unknown protocol entry");
    const { destinationPort: port } = transport;
    if (port === undefined) return [protocolTest(protocol)];
    if (port.number !== undefined) return [rangeTest(protocol, port.number, port.number)];
    if (port.range !== undefined) return [rangeTest(protocol, port.range.start, port.range.end)];
    throw new CalicoError("BAD_INPUT", "a destination port without a number");
  });
}
