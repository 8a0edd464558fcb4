/**
 * What besides policy stops a packet, asked of the kernels it passes: interfaces that are not there or that the agent does not
 * know, missing routes on the way and back, reverse-path filters, connection tracking. Reads only.
 *
 * A kernel is whatever answers like `Kernel` of `@calico-ts/linux`. Nodes whose kernel is not at hand are left out: on a real
 * cluster that is every node but this one.
 */
import type { IpAddress } from "@calico-ts/net";
import { formatAddress, protocolNumber, sameAddress, tryParseAddress } from "@calico-ts/net";
import type { Link, LinkAddress, NftElement, NftRule, NftTable, Route, RouteQuery } from "@calico-ts/netlink";
import { addressKey, concatKey, interfaceKey, sameBytes } from "@calico-ts/netlink";
import { groupElementKey } from "../../render/nft/moves.ts";
import { CALICO_TABLE } from "../../render/nft/policy-renderer.ts";
import { SETS } from "../../ruleset/names.ts";
import type { ExplainedEnd, ExplainedPath } from "../explain.ts";

export interface RoadKernel {
  readonly links: { get(nameOrIndex: string | number): Link | undefined };
  readonly addresses: { list(): readonly LinkAddress[] };
  readonly routes: {
    lookup(query: RouteQuery): { readonly route: Route } | { readonly route?: undefined; readonly errnoName: string };
  };
  readonly sysctl: { get(key: string): string | undefined };
  readonly conntrack: { list(filter: { readonly address: IpAddress }): readonly Connection[] };
  readonly nft: {
    listElements(table: NftTable, set: string): Promise<readonly NftElement[]>;
    listRules(table: NftTable): Promise<readonly { readonly chain: string; readonly rule: NftRule }[]>;
  };
}

interface Connection {
  readonly protocol: number;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly replySource: IpAddress;
  readonly status: number;
  readonly tcpState?: number;
}

export interface RoadNode {
  readonly kernel: RoadKernel;
  /** The kernel's view from inside the pod behind an interface; undefined when it cannot be entered. `done` closes it. */
  openPod(link: Link): { readonly kernel: RoadKernel; readonly done: () => void } | undefined;
}

export type RoadCode =
  | "unknown-interface"
  | "no-route"
  | "no-forwarding"
  | "reverse-path"
  | "invalid-state"
  | "connection-table-full";

export interface RoadFinding {
  readonly code: RoadCode;
  readonly node: string;
  /** False: it has happened to packets of this kind, not necessarily to this flow. */
  readonly certain: boolean;
  readonly text: string;
  /** What to do. */
  readonly fix: string;
}

/** Connections the node knows that fit the question and are in one state. */
export interface RoadConnections {
  readonly node: string;
  /** The senders'. */
  readonly ports: readonly number[];
  /** TCP's, as the kernel calls it. */
  readonly state?: string;
  /** The node has seen an answer. */
  readonly answered: boolean;
}

export interface Road {
  /** Nodes that were asked. */
  readonly nodes: readonly string[];
  readonly findings: readonly RoadFinding[];
  readonly connections: readonly RoadConnections[];
}

type Found = Omit<RoadFinding, "node" | "certain">;

interface Flow {
  readonly path: ExplainedPath;
  readonly source: IpAddress;
  readonly destination: IpAddress;
}

/** The roads of several paths (backends of a Service) as one: what is found on more than one of them is told once. */
export async function examineRoads(
  paths: readonly ExplainedPath[],
  nodes: ReadonlyMap<string, RoadNode>,
): Promise<Road> {
  const roads: Road[] = [];
  for (const path of paths) roads.push(await examineRoad(path, nodes));
  const once = <T>(list: readonly T[]): T[] => [...new Map(list.map((each) => [JSON.stringify(each), each])).values()];
  return {
    nodes: once(roads.flatMap((road) => road.nodes)),
    findings: once(roads.flatMap(({ findings }) => findings)),
    connections: folded(roads.flatMap(({ connections }) => connections)),
  };
}

/** `nodes` by name. */
export async function examineRoad(path: ExplainedPath, nodes: ReadonlyMap<string, RoadNode>): Promise<Road> {
  const source = tryParseAddress(path.sourceAddress) ?? tryParseAddress(path.source.addresses[0] ?? "");
  const destination = tryParseAddress(path.destinationAddress) ?? tryParseAddress(path.destination.addresses[0] ?? "");
  const nothing = { nodes: [], findings: [], connections: [] };
  if (source === undefined || destination === undefined || path.decision.by === "same-pod") return nothing;
  const flow = { path, source, destination };
  const asked = [...new Set([path.source.node, path.destination.node])].flatMap((name) => {
    const node = name === undefined ? undefined : nodes.get(name);
    return node === undefined || name === undefined ? [] : [{ name, node }];
  });
  const findings: RoadFinding[] = [];
  const connections: RoadConnections[] = [];
  let leaves: Link | undefined;
  for (const { name, node } of asked) {
    const add = (found: readonly Found[], certain = true): void =>
      void findings.push(...found.map((each) => ({ ...each, node: name, certain })));
    if (path.source.node === name) {
      const sent = await sending(name, node, flow);
      add(sent.found);
      leaves = sent.out;
    }
    if (path.destination.node === name) add(await receiving(name, node, { ...flow, leaves }));
    add(trackingFull(name, node.kernel));
    add(await invalidPackets(name, node.kernel), false);
    connections.push(...known(name, node.kernel, flow));
  }
  return { nodes: asked.map(({ name }) => name), findings, connections: folded(connections) };
}

/** Why the kernel says no, in words. @see lookupRoute */
const REFUSALS: Readonly<Record<string, string>> = {
  ENETUNREACH: "there is no route",
  EHOSTUNREACH: "the route is `unreachable`, or no neighbour answers for it",
  EINVAL: "the route is a `blackhole`",
  EACCES: "the route is `prohibit`",
};

const named = (name: string, address: IpAddress): string => {
  const text = formatAddress(address);
  return name === text ? name : `${name} (${text})`;
};

const why = (errnoName: string): string => REFUSALS[errnoName] ?? `the kernel refuses (${errnoName})`;

const GROUP_FIX =
  "A running agent sets it back at once: see its log and health on that node, and who else sets groups of links (ip link set … group).";

/** The pod's interface on its node, and whether the agent has it among those it decides about. */
async function ownInterface(
  name: string,
  { kernel }: RoadNode,
  end: ExplainedEnd,
): Promise<{ readonly link?: Link; readonly found: Found[] }> {
  const { interface: own = "", pod = "" } = end;
  const link = kernel.links.get(own);
  if (link === undefined) {
    const text = `node ${name} has no interface ${own}, which would be pod ${pod}'s`;
    const fix = `The pod was never connected, or its interface was removed: see the CNI log of the node, and delete the pod so that it is made again.`;
    return { found: [{ code: "unknown-interface", text, fix }] };
  }
  if (!link.up || !link.carrier) {
    const which = link.up
      ? `the end of ${own} inside pod ${pod} is switched off`
      : `${own} of pod ${pod} is switched off`;
    const fix = link.up
      ? "Switch it on inside the pod, or delete the pod."
      : `ip link set ${own} up; the agent does so too when it runs.`;
    return { link, found: [{ code: "unknown-interface", text: `${which} on node ${name}`, fix }] };
  }
  const elements = await kernel.nft.listElements(CALICO_TABLE, SETS.workloadGroups).catch(() => undefined);
  const fix = "See the agent's log and health on that node: it has not been told of the pod yet, or does not run.";
  if (elements === undefined) {
    const text = `node ${name} has no policy table of ours (inet calico): no agent has run there`;
    return { link, found: [{ code: "unknown-interface", text, fix }] };
  }
  if (elements.some(({ key }) => sameBytes(key, groupElementKey(own, link.group)))) return { link, found: [] };
  if (elements.some(({ key }) => sameBytes(key.subarray(0, 16), interfaceKey(own)))) {
    const text = `interface ${own} of pod ${pod} on node ${name} has group ${link.group}, which the agent did not give it: its packets are dropped`;
    return { link, found: [{ code: "unknown-interface", text, fix: GROUP_FIX }] };
  }
  const text = `the agent of node ${name} does not know interface ${own} of pod ${pod}: what no policy decides about is dropped`;
  return { link, found: [{ code: "unknown-interface", text, fix }] };
}

async function sending(
  name: string,
  node: RoadNode,
  flow: Flow,
): Promise<{ readonly found: Found[]; readonly out?: Link }> {
  const { kernel } = node;
  const { source, destination, path } = flow;
  const found: Found[] = [];
  let input: Link | undefined;
  if (path.source.pod !== undefined) {
    const own = await ownInterface(name, node, path.source);
    found.push(...own.found);
    if (own.link === undefined) return { found };
    input = own.link;
    found.push(...insidePod(node, own.link, { pod: path.source.pod, own: source, other: destination }));
    found.push(...(await allowedSource(name, kernel, { link: own.link, source, pod: path.source.pod })));
  }
  const answer = kernel.routes.lookup({ destination });
  if (answer.route === undefined) {
    const text = `node ${name} cannot send to ${formatAddress(destination)}: ${why(answer.errnoName)}`;
    return { found: [...found, { code: "no-route", text, fix: routeFix(answer.errnoName, path) }] };
  }
  const out = answer.route.link === undefined ? undefined : kernel.links.get(answer.route.link);
  if (input === undefined) return out === undefined ? { found } : { found, out };
  if (answer.route.type === "unicast") found.push(...forwarding(name, kernel, destination));
  found.push(...reversePath(name, kernel, { source, input, from: `pod ${path.source.pod}` }));
  return out === undefined ? { found } : { found, out };
}

function routeFix(errnoName: string, { destination }: ExplainedPath): string {
  if (errnoName === "EINVAL") {
    return "The address is of a block of this node that no pod has any more: ask for the pod's address again, or look at `calicoctl ipam explain`.";
  }
  return destination.node === undefined
    ? "Give the node a default route or one to that network."
    : `See whether the agent of this node runs and knows node ${destination.node}'s block (blockaffinities), and that both nodes are in one pool's encapsulation or have BGP between them.`;
}

interface PodView {
  readonly pod: string;
  readonly own: IpAddress;
  readonly other: IpAddress;
}

/** From inside: does it have its address, and a way to the other side? */
function insidePod(node: RoadNode, link: Link, { pod, own, other }: PodView): Found[] {
  const opened = node.openPod(link);
  if (opened === undefined) return [];
  try {
    const { kernel } = opened;
    if (!kernel.addresses.list().some(({ address }) => sameAddress(address, own))) {
      const text = `pod ${pod} does not have the address ${formatAddress(own)} inside`;
      return [
        {
          code: "no-route",
          text,
          fix: "Something in the pod changed its address: delete the pod so that it is made again.",
        },
      ];
    }
    const answer = kernel.routes.lookup({ destination: other, source: own });
    if (answer.route !== undefined) return [];
    const text = `pod ${pod} cannot send to ${formatAddress(other)}: ${why(answer.errnoName)} inside the pod`;
    const fix =
      "A pod has a default route through 169.254.1.1 (fe80:: of its interface on IPv6): something in the pod removed it; delete the pod so that it is made again.";
    return [{ code: "no-route", text, fix }];
  } finally {
    opened.done();
  }
}

/** The rules let a pod send from its own addresses only. */
async function allowedSource(
  name: string,
  kernel: RoadKernel,
  { link, source, pod }: { readonly link: Link; readonly source: IpAddress; readonly pod: string },
): Promise<Found[]> {
  const sets = [SETS.workloadSources(source.family), SETS.workloadSourceNets(source.family)];
  const lists = await Promise.all(sets.map((set) => kernel.nft.listElements(CALICO_TABLE, set).catch(() => undefined)));
  if (lists.includes(undefined)) return [];
  const own = lists
    .flatMap((list) => list ?? [])
    .filter(({ key }) => sameBytes(key.subarray(0, 16), interfaceKey(link.name)));
  const exact = concatKey(interfaceKey(link.name), addressKey(source));
  if (own.length === 0 || own.some(({ key, keyEnd }) => keyEnd !== undefined || sameBytes(key, exact))) return [];
  const text = `node ${name} takes packets of ${link.name} only from pod ${pod}'s own addresses, and ${formatAddress(source)} is not one that its agent knows: the reverse-path check drops them`;
  const fix =
    "The pod's address has changed or the agent is behind: see its log; a pod may send from other addresses with the annotation cni.projectcalico.org/allowedSourcePrefixes.";
  return [{ code: "reverse-path", text, fix }];
}

function forwarding(name: string, kernel: RoadKernel, { family }: IpAddress): Found[] {
  const key = family === 4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding";
  if (kernel.sysctl.get(key) !== "0") return [];
  const text = `node ${name} does not forward IPv${family} packets (${key} is 0)`;
  return [{ code: "no-forwarding", text, fix: `sysctl -w ${key}=1; the agent does so when it starts.` }];
}

interface Arrival {
  readonly source: IpAddress;
  readonly input: Link;
  readonly from: string;
}

/** rp_filter: the larger of `all` and the interface's; 1 wants the way back through the same interface, 2 any way back. */
function reversePath(name: string, kernel: RoadKernel, { source, input, from }: Arrival): Found[] {
  const setting = (which: string): number => Number(kernel.sysctl.get(`net/ipv4/conf/${which}/rp_filter`) ?? 0);
  const mode = source.family === 4 ? Math.max(setting("all"), setting(input.name)) : 0;
  const back = kernel.routes.lookup({ destination: source });
  const arriving = `packets of ${named(from, source)} come in by ${input.name} on node ${name}`;
  if (back.route === undefined) {
    const code = mode === 0 ? "no-route" : "reverse-path";
    const text = `${arriving}, and there is no way back to it: ${why(back.errnoName)}`;
    return [
      {
        code,
        text,
        fix: "Without a route back neither the packet nor the answer gets through: see whether the agent runs and what `ip route get` says.",
      },
    ];
  }
  if (mode !== 1 || back.route.link === input.index) return [];
  const link = back.route.link === undefined ? undefined : kernel.links.get(back.route.link);
  const through = link === undefined ? `a route of type ${back.route.type}` : link.name;
  const text = `${arriving}, but the way back is through ${through}: the reverse-path filter (rp_filter=1) drops them`;
  const fix = `Make the route to ${formatAddress(source)} lead through ${input.name}, or set net.ipv4.conf.${input.name}.rp_filter to 2 if the two ways are meant.`;
  return [{ code: "reverse-path", text, fix }];
}

async function receiving(
  name: string,
  node: RoadNode,
  flow: Flow & { readonly leaves: Link | undefined },
): Promise<Found[]> {
  const { kernel } = node;
  const { path, source, destination, leaves } = flow;
  const found: Found[] = [];
  const remote = path.source.node !== name;
  if (path.destination.pod !== undefined) {
    const { pod } = path.destination;
    const own = await ownInterface(name, node, path.destination);
    found.push(...own.found);
    if (own.link === undefined) return found;
    const answer = kernel.routes.lookup({ destination });
    const fix =
      "The agent makes that route: see its log; a route of somebody else's may be in its place (`ip route get`).";
    if (answer.route === undefined) {
      const text = `node ${name} has no route to its own pod ${pod} (${formatAddress(destination)}): ${why(answer.errnoName)}`;
      found.push({ code: "no-route", text, fix });
    } else if (answer.route.link !== own.link.index) {
      const to =
        answer.route.link === undefined ? answer.route.type : (kernel.links.get(answer.route.link)?.name ?? "");
      const text = `on node ${name} the route to pod ${pod} (${formatAddress(destination)}) leads to ${to} instead of ${own.link.name}`;
      found.push({ code: "no-route", text, fix });
    }
    if (remote) found.push(...forwarding(name, kernel, destination));
    found.push(...insidePod(node, own.link, { pod, own: destination, other: source }));
  }
  const input = remote ? arrival(kernel, path, leaves) : undefined;
  if (input !== undefined) return [...found, ...reversePath(name, kernel, { source, input, from: path.from })];
  const back = remote ? kernel.routes.lookup({ destination: source }) : undefined;
  if (back === undefined || back.route !== undefined) return found;
  const text = `node ${name} cannot answer ${named(path.from, source)}: ${why(back.errnoName)}`;
  return [
    ...found,
    { code: "no-route", text, fix: "Give the node a route to it, or see why the agent has made none." },
  ];
}

/** What leaves through a tunnel arrives by the tunnel of the same name; other packets by the link with the node's address. */
function arrival(kernel: RoadKernel, { destination }: ExplainedPath, leaves: Link | undefined): Link | undefined {
  const tunnel = leaves !== undefined && ["vxlan", "ipip"].includes(leaves.info.kind) ? leaves.name : undefined;
  if (tunnel !== undefined) return kernel.links.get(tunnel);
  if (leaves === undefined) return undefined;
  const nodeAddresses = destination.pod === undefined ? destination.addresses : (destination.nodeAddresses ?? []);
  const own = kernel.addresses.list().find(({ address }) => nodeAddresses.includes(formatAddress(address)));
  return own === undefined ? undefined : kernel.links.get(own.link);
}

function trackingFull(name: string, kernel: RoadKernel): Found[] {
  const [count, max] = ["count", "max"].map((what) => Number(kernel.sysctl.get(`net.netfilter.nf_conntrack_${what}`)));
  if (count === undefined || max === undefined || !(max > 0) || count < max) return [];
  const text = `node ${name} tracks ${count} connections, which is all it may: new ones are dropped`;
  return [
    { code: "connection-table-full", text, fix: "Raise net.netfilter.nf_conntrack_max, and see who opens so many." },
  ];
}

/** Its rule's comment; see `ruleset/walk.ts`. */
const INVALID = "invalid connection state";

async function invalidPackets(name: string, kernel: RoadKernel): Promise<Found[]> {
  const rules = await kernel.nft.listRules(CALICO_TABLE).catch(() => []);
  let packets = 0n;
  for (const { rule } of rules) {
    if (rule.comment !== INVALID) continue;
    for (const expr of rule.exprs) if (expr.kind === "counter") packets += expr.packets ?? 0n;
  }
  if (packets === 0n) return [];
  const text = `node ${name} has dropped ${packets} packet${packets === 1n ? "" : "s"} in an invalid connection state: they belong to no connection it has seen begin, or lie outside its window`;
  const fix =
    "If the number grows while you try, that is the reason: --watch shows the packets. Usual causes are answers that take another way back and connections older than this node's table.";
  return [{ code: "invalid-state", text, fix }];
}

const TCP_STATES = [
  "none",
  "SYN_SENT",
  "SYN_RECV",
  "ESTABLISHED",
  "FIN_WAIT",
  "CLOSE_WAIT",
  "LAST_ACK",
  "TIME_WAIT",
  "CLOSE",
  "SYN_SENT2",
];
/** IPS_SEEN_REPLY (linux/netfilter/nf_conntrack_common.h). */
const SEEN_REPLY = 2;

function known(name: string, kernel: RoadKernel, { path, source, destination }: Flow): RoadConnections[] {
  const fits = ({ protocol, ...connection }: Connection): boolean =>
    protocol === protocolNumber(path.protocol) &&
    sameAddress(connection.source, source) &&
    (sameAddress(connection.destination, destination) || sameAddress(connection.replySource, destination)) &&
    (path.port === undefined ||
      connection.destinationPort === path.port ||
      connection.destinationPort === path.frontend?.port);
  return kernel.conntrack
    .list({ address: source })
    .filter(fits)
    .map(({ status, tcpState, sourcePort }) => ({
      node: name,
      ports: sourcePort === undefined ? [] : [sourcePort],
      ...(tcpState === undefined ? {} : { state: TCP_STATES[tcpState] ?? String(tcpState) }),
      answered: (status & SEEN_REPLY) !== 0,
    }));
}

/** One for each node and state. */
function folded(list: readonly RoadConnections[]): RoadConnections[] {
  const alike = Map.groupBy(list, ({ ports: _ports, ...rest }) => JSON.stringify(rest));
  return [...alike.values()].flatMap((group) => {
    const ports = new Set(group.flatMap((each) => each.ports));
    return group.slice(0, 1).map((first) => ({ ...first, ports: [...ports].toSorted((a, b) => a - b) }));
  });
}
