/**
 * The BGP part of a topology: from whom each router is to speak with, to sessions with addresses on both ends, and to the
 * BGPPeers by which nodes expect them. Pure.
 *
 * Sessions between routers are written at one end and appear at both. Each session carries one family, that of its
 * addresses, as Calico's own sessions do.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";
import {
  addressAt,
  formatPrefix,
  overlaps,
  parseAddress,
  sameAddress,
  tryParseAddress,
  tryParsePrefix,
} from "@calico-ts/net";
import type { Selector } from "@calico-ts/selector";
import { parseSelector } from "@calico-ts/selector";
import { errorText } from "@calico-ts/std";
import type { FieldPath } from "../problems.ts";
import type { ClusterBgpPlan, Leg, NodePeerPlan, SessionPlan, SpeakerPlan, SubnetPlan } from "./plan.ts";
import type { TopologyFile, TopologyRouter } from "./topology-schema.ts";

/** Upstream's default. */
const DEFAULT_AS = 64_512;
export const ZONE_LABEL = "topology.kubernetes.io/zone";

export interface BgpNode extends Leg {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly as: number | undefined;
}

export interface BgpInput {
  readonly file: TopologyFile;
  readonly subnets: readonly SubnetPlan[];
  readonly routers: readonly { readonly name: string; readonly legs: readonly Leg[] }[];
  readonly nodes: readonly BgpNode[];
}

export interface BgpResult {
  readonly cluster: ClusterBgpPlan | undefined;
  /** By router's name. */
  readonly speakers: ReadonlyMap<string, SpeakerPlan>;
}

type Refuse = (path: FieldPath, message: string) => void;
type Bgp = NonNullable<TopologyRouter["bgp"]>;
type Neighbour = Bgp["neighbours"][number];

interface Speaker {
  readonly name: string;
  readonly index: number;
  readonly bgp: Bgp;
  readonly legs: readonly Leg[];
  readonly sessions: SessionPlan[];
}

/** Problems go to `refuse`; the result is whole when there were none. */
export function planBgp(input: BgpInput, refuse: Refuse): BgpResult {
  const { file } = input;
  const cluster = file.cluster?.bgp;
  const as = cluster?.as ?? DEFAULT_AS;
  for (const [index, node] of file.nodes.entries()) checkNode(node, ["nodes", index], { cluster, refuse });
  const speakers = input.routers.flatMap(({ name, legs }, index): Speaker[] => {
    const bgp = file.routers?.[index]?.bgp;
    return bgp === undefined ? [] : [{ name, index, bgp, legs, sessions: [] }];
  });
  const peers: NodePeerPlan[] = [];
  for (const speaker of speakers) {
    for (const [at, neighbour] of speaker.bgp.neighbours.entries()) {
      const path: FieldPath = ["routers", speaker.index, "bgp", "neighbours", at];
      const context = { path, refuse, input, speakers, peers, as };
      if (!checkNeighbour(speaker, neighbour, context)) continue;
      if (neighbour.router === undefined) joinNodes(speaker, neighbour, context);
      else joinRouter(speaker, neighbour, context);
    }
  }
  const plans = speakers.map((speaker): [string, SpeakerPlan] => [speaker.name, assemble(speaker, input, refuse)]);
  return {
    cluster: cluster === undefined ? undefined : { as, mesh: cluster.mesh ?? true, peers },
    speakers: new Map(plans),
  };
}

interface Context {
  readonly path: FieldPath;
  readonly refuse: Refuse;
  readonly input: BgpInput;
  readonly speakers: readonly Speaker[];
  readonly peers: NodePeerPlan[];
  readonly as: number;
}

function checkNode(
  node: TopologyFile["nodes"][number],
  path: FieldPath,
  { cluster, refuse }: { readonly cluster: unknown; readonly refuse: Refuse },
): void {
  for (const field of ["as", "clusterId"] as const) {
    if (node[field] !== undefined && cluster === undefined)
      refuse([...path, field], "nodes speak no BGP; add bgp: {} to cluster");
  }
  if (node.clusterId !== undefined) readIpv4(node.clusterId, [...path, "clusterId"], refuse);
}

function checkNeighbour(speaker: Speaker, neighbour: Neighbour, { path, refuse, input }: Context): boolean {
  const problems: [FieldPath, string][] = [];
  if ((neighbour.nodes === undefined) === (neighbour.router === undefined))
    problems.push([path, "needs either nodes or router"]);
  else if (neighbour.nodes !== undefined && input.file.cluster?.bgp === undefined)
    problems.push([[...path, "nodes"], "nodes speak no BGP; add bgp: {} to cluster"]);
  if (neighbour.password !== undefined && neighbour.nodes !== undefined) {
    const remedy = "nodes take passwords from Secrets; write the BGPPeer in resources and leave this neighbour out";
    problems.push([[...path, "password"], `goes with router; ${remedy}`]);
  }
  if (neighbour.subnet !== undefined && !speaker.legs.some(({ subnet }) => subnet === neighbour.subnet)) {
    const own = speaker.legs.map(({ subnet }) => subnet).join(", ");
    problems.push([[...path, "subnet"], `router ${speaker.name} is not in it; it is in: ${own}`]);
  }
  for (const [at, message] of problems) refuse(at, message);
  return problems.length === 0;
}

const legsOf = (speaker: Speaker, neighbour: Neighbour): readonly Leg[] =>
  speaker.legs.filter(({ subnet }) => neighbour.subnet === undefined || subnet === neighbour.subnet);

function joinNodes(speaker: Speaker, neighbour: Neighbour, context: Context): void {
  const { input, path, refuse, peers, as } = context;
  const text = neighbour.nodes ?? "";
  const selector = readSelector(text, [...path, "nodes"], refuse);
  if (selector === undefined) return;
  let found = 0;
  for (const leg of legsOf(speaker, neighbour)) {
    // The same words that the BGPPeer's selector has, so both ends agree on who is meant.
    const chosen = input.nodes.filter(
      (node) =>
        node.subnet === leg.subnet &&
        node.labels[ZONE_LABEL] === leg.subnet &&
        selector.matches(new Map(Object.entries(node.labels))),
    );
    found += chosen.length;
    const ownAs = speaker.bgp.as;
    for (const local of chosen.length === 0 ? [] : leg.addresses) {
      const zone = `${ZONE_LABEL} == ${JSON.stringify(leg.subnet)}`;
      peers.push({
        name: peerName(`${speaker.name}.${leg.subnet}.ipv${local.family}`, peers),
        nodeSelector: selector.canonical === "all()" ? zone : `${zone} && (${selector.canonical})`,
        address: local,
        as: ownAs,
      });
      for (const node of chosen) {
        const remote = addressOf(node, local.family);
        if (remote === undefined) continue;
        const remoteAs = node.as ?? as;
        const client = speaker.bgp.clusterId !== undefined && remoteAs === ownAs;
        speaker.sessions.push({ with: "node", name: node.name, local, remote, remoteAs, client, password: undefined });
      }
    }
  }
  if (found === 0)
    refuse(
      [...path, "nodes"],
      `selects no node in ${legsOf(speaker, neighbour)
        .map(({ subnet }) => subnet)
        .join(", ")}`,
    );
}

/** A second selection of nodes in one subnet needs a name of its own. */
function peerName(name: string, taken: readonly NodePeerPlan[]): string {
  const used = new Set(taken.map((peer) => peer.name));
  let unique = name;
  for (let count = 2; used.has(unique); count++) unique = `${name}.${count}`;
  return unique;
}

function joinRouter(speaker: Speaker, neighbour: Neighbour, { path, refuse, speakers }: Context): void {
  const at = [...path, "router"];
  const other = speakers.find(({ name }) => name === neighbour.router);
  if (other === undefined || other === speaker) {
    const others = speakers.filter((each) => each !== speaker).map(({ name }) => name);
    return refuse(
      at,
      `there is no other router ${JSON.stringify(neighbour.router)} with bgp; there are: ${others.join(", ") || "none"}`,
    );
  }
  let joined = 0;
  for (const leg of legsOf(speaker, neighbour)) {
    const far = other.legs.find(({ subnet }) => subnet === leg.subnet);
    for (const local of leg.addresses) {
      const remote = addressOf(far, local.family);
      if (remote === undefined) continue;
      joined++;
      if (speaker.sessions.some((known) => sameAddress(known.local, local) && sameAddress(known.remote, remote))) {
        return refuse(at, `has this session already: written at ${other.name}, or twice here; write it once`);
      }
      const { password } = neighbour;
      const inside = speaker.bgp.as === other.bgp.as;
      const end = (of: Speaker, toAs: number, ends: Pick<SessionPlan, "name" | "local" | "remote">): void => {
        // Two reflectors of one AS are no clients of each other.
        const client =
          inside && of.bgp.clusterId !== undefined && (of === speaker ? other : speaker).bgp.clusterId === undefined;
        of.sessions.push({ with: "router", ...ends, remoteAs: toAs, client, password });
      };
      end(speaker, other.bgp.as, { name: other.name, local, remote });
      end(other, speaker.bgp.as, { name: speaker.name, local: remote, remote: local });
    }
  }
  if (joined === 0)
    refuse(
      at,
      `routers ${speaker.name} and ${other.name} share no subnet${neighbour.subnet === undefined ? "" : ` ${neighbour.subnet}`}`,
    );
}

function assemble(speaker: Speaker, input: BgpInput, refuse: Refuse): SpeakerPlan {
  const path: FieldPath = ["routers", speaker.index, "bgp"];
  const { bgp, sessions } = speaker;
  if (bgp.speaker === "gobgp" && sessions.some(({ remoteAs }) => remoteAs !== bgp.as)) {
    refuse(
      [...path, "speaker"],
      "gobgp programs no routes, so it can only be a route reflector among neighbours of its own AS; choose bird, frr or calico-ts",
    );
  }
  const originate = (bgp.originate ?? []).flatMap((text, index) =>
    readOriginated(text, { path: [...path, "originate", index], input, refuse }),
  );
  const [first] = speaker.legs.flatMap(({ addresses }) => addresses.filter(({ family }) => family === 4));
  return {
    kind: bgp.speaker,
    as: bgp.as,
    // Where there is no IPv4: numbers nobody else has (documentation range, RFC 5737).
    routerId: first ?? parseAddress(`192.0.2.${speaker.index + 1}`),
    clusterId: bgp.clusterId === undefined ? undefined : readIpv4(bgp.clusterId, [...path, "clusterId"], refuse),
    sessions,
    originate,
  };
}

function readOriginated(
  text: string,
  { path, input, refuse }: { readonly path: FieldPath; readonly input: BgpInput; readonly refuse: Refuse },
): Prefix[] {
  const prefix = tryParsePrefix(text);
  if (prefix === undefined) {
    refuse(path, `${JSON.stringify(text)} is no prefix; write it like 203.0.113.0/24`);
    return [];
  }
  const taken = input.subnets.find(
    ({ prefixes }) => prefix.length > 0 && prefixes.some((own) => overlaps(own, prefix)),
  );
  if (taken !== undefined) refuse(path, `${formatPrefix(prefix)} overlaps subnet ${taken.name}, which is connected`);
  return [prefix];
}

/** Where a router answers for a prefix it originates; nowhere for a default route. */
export const originatedAddress = (prefix: Prefix): IpAddress | undefined =>
  prefix.length === 0 ? undefined : addressAt(prefix, prefix.length >= (prefix.family === 4 ? 31 : 127) ? 0n : 1n);

const addressOf = (leg: Leg | undefined, family: 4 | 6): IpAddress | undefined =>
  leg?.addresses.find((address) => address.family === family);

function readSelector(text: string, path: FieldPath, refuse: Refuse): Selector | undefined {
  try {
    return parseSelector(text === "all" ? "all()" : text);
  } catch (error) {
    refuse(path, `${JSON.stringify(text)} is no selector: ${errorText(error).split("\n")[0] ?? ""}`);
    return undefined;
  }
}

function readIpv4(text: string, path: FieldPath, refuse: Refuse): IpAddress | undefined {
  const address = tryParseAddress(text);
  if (address?.family === 4) return address;
  refuse(path, `${JSON.stringify(text)} is no IPv4 address`);
  return undefined;
}
