/**
 * START HERE for `explain`. From a world and a question to an answer somebody woken at night can use: the verdict, the rule
 * that decided with its file and line, and the walk with each candidate and why it did or did not match.
 *
 * The oracle decides and traces; here names are resolved, causes that are no policy are told, and rules get their places.
 * Limits: routes, tunnels, reverse-path filters and kube-proxy are not part of the model (`live/` asks kernels about them); a node has
 * one interface to the rest of the world, `eth0` or the one its host endpoint names.
 */
import type { PolicyId } from "@calico-ts/dataplane-api";
import type { KindName, Pod } from "@calico-ts/model";
import { hostInterfaceName } from "@calico-ts/model";
import type { Family } from "@calico-ts/net";
import { protocolName } from "@calico-ts/net";
import type { SourcePosition } from "@calico-ts/schema";
import { ConfigMerge } from "../config/config-merge.ts";
import type { Oracle } from "../oracle/oracle.ts";
import { createOracle } from "../oracle/oracle.ts";
import type { DirectionTrace, Trace } from "../oracle/trace.ts";
import type { Decision, Direction, Query } from "../oracle/verdict.ts";
import { policyRuleComment, profileRuleComment, tierDefaultComment } from "../ruleset/provenance.ts";
import type { SourcedResource } from "./manifest-world.ts";
import { ofKind } from "./manifest-world.ts";
import type { Obstacle, Resolved, Traffic } from "./question.ts";
import { addressesOfNode, parseTraffic, resolve } from "./question.ts";
import type { StagedPolicy, Trial } from "./staged.ts";
import { tryStaged } from "./staged.ts";
import { decisionText, objectText } from "./words.ts";

/** Of these `explain` wants all there are. */
export const EXPLAIN_KINDS = [
  "ClusterNetworkPolicy",
  "EndpointSlice",
  "FelixConfiguration",
  "GlobalNetworkPolicy",
  "GlobalNetworkSet",
  "HostEndpoint",
  "KubernetesNetworkPolicy",
  "Namespace",
  "NetworkPolicy",
  "NetworkSet",
  "Node",
  "Pod",
  "Profile",
  "Service",
  "ServiceAccount",
  "StagedGlobalNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
  "StagedNetworkPolicy",
  "Tier",
] as const satisfies readonly KindName[];

export interface Question {
  readonly from: string;
  readonly to: string;
  /** `tcp/80`. */
  readonly traffic: string;
}

/** The rule or default that decided, as an operator finds it again. */
export interface DecidedBy {
  readonly by: Decision["by"] | "same-pod";
  /** One sentence. */
  readonly text: string;
  readonly direction?: Direction;
  readonly tier?: string;
  readonly object?: { readonly kind: string; readonly namespace: string; readonly name: string };
  /** Of the rule in its list, from 0. */
  readonly index?: number;
  readonly source?: SourcePosition;
  /** Of a tier's default: the policies that select the endpoint and allow nothing of this. */
  readonly isolatedBy?: readonly IsolatingPolicy[];
  /** The comment of the kernel's rule. */
  readonly provenance?: string;
}

export interface IsolatingPolicy {
  readonly object: { readonly kind: string; readonly namespace: string; readonly name: string };
  readonly source?: SourcePosition;
}

/** An end of a path as kernels know it. */
export interface ExplainedEnd {
  /** All that are known; the path's own is `sourceAddress` or `destinationAddress`. */
  readonly addresses: readonly string[];
  /** Where it is; absent for what is outside the cluster. */
  readonly node?: string;
  /** `namespace/name`; absent: the node itself, or an address. */
  readonly pod?: string;
  /** The pod's interface on its node. */
  readonly interface?: string;
  /** Of a pod: its node's. */
  readonly nodeAddresses?: readonly string[];
}

export interface ExplainedPath {
  readonly from: string;
  readonly to: string;
  readonly source: ExplainedEnd;
  readonly destination: ExplainedEnd;
  /** When a Service was asked for: what the sender writes on the packet. */
  readonly frontend?: { readonly addresses: readonly string[]; readonly port: number };
  readonly sourceAddress: string;
  readonly destinationAddress: string;
  readonly protocol: string;
  readonly port?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  readonly verdict: "allowed" | "denied";
  readonly decision: DecidedBy;
  readonly walk: readonly ExplainedDirection[];
  /** With the staged policies that select an end put in force; absent when none does. */
  readonly staged?: StagedOutcome;
  readonly notes: readonly string[];
}

/** What staged policies would make of it. */
export interface StagedOutcome {
  readonly verdict: "allowed" | "denied";
  /** `object` is the staged policy where one decides. */
  readonly decision: DecidedBy;
  readonly policies: readonly StagedPolicy[];
}

export interface ExplainedDirection extends DirectionTrace {
  readonly decidedBy: DecidedBy;
}

export interface Explanation {
  readonly question: Question;
  /** `mixed`: the backends of a Service differ. `undecided`: policy was not asked, `obstacle` says why. */
  readonly verdict: "allowed" | "denied" | "mixed" | "undecided";
  readonly obstacle?: Obstacle;
  /** One, or one for each backend of a Service. */
  readonly paths: readonly ExplainedPath[];
  /** `Kind/namespace/name` → where it is written. */
  readonly sources: Readonly<Record<string, SourcePosition>>;
}

/** @throws CalicoError BAD_INPUT for a question nobody can read. */
export function explain(world: readonly SourcedResource[], question: Question): Explanation {
  const traffic = parseTraffic(question.traffic);
  const places = new Places(world);
  const undecided = (found: Obstacle): Explanation => ({
    question,
    verdict: "undecided",
    obstacle: found,
    paths: [],
    sources: {},
  });
  const from = resolve(question.from, undefined, world);
  if ("obstacle" in from) return undecided(from.obstacle);
  const [source] = from.ends;
  if (source === undefined) return undecided({ code: "no-endpoint", text: `There is no ${question.from}.` });
  const to = resolve(question.to, traffic, world, question.from === source.name ? undefined : source.name);
  if ("obstacle" in to) return undecided(to.obstacle);
  const oracle = createOracle(world, { config: configOf(world), hosts: hostsOf(world) });
  const trial = openTrial(world);
  const paths: ExplainedPath[] = [];
  for (const destination of to.ends) {
    const flow = { source, destination, traffic, world };
    const path = explainPath(flow, oracle, places);
    if ("code" in path) return undecided(path);
    const staged = trial === undefined ? undefined : stagedOutcome(flow, path, trial);
    paths.push(staged === undefined ? path : { ...path, staged });
  }
  const verdicts = new Set(paths.map(({ verdict }) => verdict));
  const [verdict] = verdicts;
  return {
    question,
    verdict: verdict === undefined ? "undecided" : verdicts.size > 1 ? "mixed" : verdict,
    paths,
    sources: places.mentioned(paths),
  };
}

interface Flow {
  readonly source: Resolved;
  readonly destination: Resolved;
  readonly traffic: Traffic;
  readonly world: readonly SourcedResource[];
}

function explainPath(
  { source, destination, traffic, world }: Flow,
  oracle: Oracle,
  places: Places,
): ExplainedPath | Obstacle {
  const families: readonly Family[] = source.families.filter((family) => destination.families.includes(family));
  const wanted: Family | undefined = traffic.protocol === 58 ? 6 : traffic.protocol === 1 ? 4 : undefined;
  const family = wanted === undefined ? families[0] : families.find((each) => each === wanted);
  if (family === undefined) {
    const what = wanted === undefined ? "an address family in common" : `IPv${wanted} addresses on both sides`;
    return {
      code: "no-family",
      text: `${source.name} and ${destination.name} do not have ${what}: there is no packet to judge.`,
    };
  }
  const port = destination.port ?? portNumber(traffic, destination);
  if (typeof port === "string") {
    return {
      code: "no-port",
      text: `${destination.name} has no ${protocolName(traffic.protocol)} port named ${port}.`,
    };
  }
  const query: Query = {
    from: source.party,
    to: destination.party,
    protocol: traffic.protocol,
    family,
    ...(port === undefined ? {} : { destinationPort: port }),
    ...(traffic.icmp === undefined ? {} : { icmp: traffic.icmp }),
  };
  const trace = oracle.trace(query);
  const isSame = "pod" in source.party && "pod" in destination.party && source.party.pod === destination.party.pod;
  const base = {
    from: source.name,
    to: destination.name,
    source: endOf(source, world),
    destination: endOf(destination, world),
    ...(destination.frontend === undefined ? {} : { frontend: destination.frontend }),
    sourceAddress: shownAddress(source, trace.source.address),
    destinationAddress: shownAddress(destination, trace.destination.address),
    protocol: protocolName(traffic.protocol),
    ...(port === undefined ? {} : { port }),
    ...(traffic.icmp === undefined ? {} : { icmp: traffic.icmp }),
    notes: [...new Set([...source.notes, ...destination.notes, ...namesakes(traffic, destination)])],
  };
  if (isSame) {
    const text = "A pod to itself: the packet does not leave the pod, so no policy sees it.";
    return { ...base, verdict: "allowed", decision: { by: "same-pod", text }, walk: [] };
  }
  return {
    ...base,
    verdict: trace.allowed ? "allowed" : "denied",
    decision: places.decidedBy(trace.decision, lastWalk(trace)),
    walk: trace.walk.map((walk) => ({ ...walk, decidedBy: places.decidedBy(walk.decision, walk) })),
  };
}

interface OpenTrial extends Trial {
  readonly oracle: Oracle;
  readonly places: Places;
}

function openTrial(now: readonly SourcedResource[]): OpenTrial | undefined {
  const trial = tryStaged(now);
  if (trial === undefined) return undefined;
  const { world } = trial;
  const oracle = createOracle(world, { config: configOf(world), hosts: hostsOf(world) });
  return { ...trial, oracle, places: new Places(world) };
}

function stagedOutcome(flow: Flow, now: ExplainedPath, trial: OpenTrial): StagedOutcome | undefined {
  const { staged, oracle, places } = trial;
  const then = explainPath(flow, oracle, places);
  if ("code" in then) return undefined;
  // Those in force now that would go, and those that would be there.
  const met = [...now.walk, ...then.walk].flatMap(({ tiers }) =>
    tiers.flatMap(({ policies }) => policies.map(({ policy }) => placeKey(resourceOf(policy)))),
  );
  const policies = [...new Set(met)].flatMap((key) => staged.get(key) ?? []);
  if (policies.length === 0) return undefined;
  return { verdict: then.verdict, decision: asStaged(then.decision, staged), policies };
}

/** In the words of who wrote it: the policy that decides is still a staged one. */
function asStaged(decision: DecidedBy, staged: Trial["staged"]): DecidedBy {
  const { object } = decision;
  const policy = object === undefined ? undefined : staged.get(placeKey(object));
  if (object === undefined || policy === undefined) return decision;
  const { kind, namespace, name } = policy;
  const { provenance: _, ...rest } = decision;
  return {
    ...rest,
    object: { kind, namespace, name },
    text: decision.text.replace(objectText(object), objectText(policy)),
  };
}

/** Addresses a node's tunnels have: what it sends into one carries them. */
const TUNNEL_ADDRESSES = [
  "projectcalico.org/IPv4VXLANTunnelAddr",
  "projectcalico.org/IPv6VXLANTunnelAddr",
  "projectcalico.org/IPv4IPIPTunnelAddr",
];

function endOf({ party, pod, addresses }: Resolved, world: readonly SourcedResource[]): ExplainedEnd {
  const plain = addresses.map((text) => text.replace(/\/(32|128)$/, ""));
  if ("address" in party) return { addresses: [party.address] };
  if ("host" in party) {
    const node = ofKind(world, "Node").find(({ resource }) => resource.metadata.name === party.host)?.resource;
    const annotations = node?.metadata.annotations ?? {};
    return { addresses: [...plain, ...TUNNEL_ADDRESSES.flatMap((key) => annotations[key] ?? [])], node: party.host };
  }
  const prefix = (configOf(world)["interfacePrefix"] ?? "cali").split(",")[0];
  return {
    addresses: plain,
    pod: party.pod,
    ...(pod?.spec.nodeName === undefined ? {} : { node: pod.spec.nodeName }),
    nodeAddresses: nodeAddresses(world, pod?.spec.nodeName),
    interface: hostInterfaceName(pod?.metadata.namespace ?? "", pod?.metadata.name ?? "", prefix),
  };
}

const nodeAddresses = (world: readonly SourcedResource[], name: string | undefined): string[] =>
  addressesOfNode(ofKind(world, "Node").find(({ resource }) => resource.metadata.name === name)?.resource);

/** The oracle speaks of an address even where there is none. */
const shownAddress = ({ addresses }: Resolved, address: string): string =>
  addresses.length === 0 ? "address unknown" : address;

const lastWalk = (trace: Trace): DirectionTrace | undefined => trace.walk.filter(({ reached }) => reached).at(-1);

/** The number; the name when nobody has a port of that name. */
const portNumber = (traffic: Traffic, { pod }: Resolved): number | string | undefined =>
  portsNamed(traffic, pod)[0] ?? traffic.port;

function portsNamed({ port, protocol }: Traffic, pod: Pod | undefined): number[] {
  const containers = [...(pod?.spec.containers ?? []), ...(pod?.spec.initContainers ?? [])];
  const own = containers
    .flatMap(({ ports }) => ports ?? [])
    .filter((each) => each.name === port && (each.protocol ?? "TCP").toUpperCase() === protocolName(protocol));
  return [...new Set(own.map(({ containerPort }) => containerPort))];
}

/** Several containers may use one name. */
function namesakes(traffic: Traffic, { name, pod, port }: Resolved): string[] {
  const [first, ...others] = port === undefined ? portsNamed(traffic, pod) : [];
  return others.length === 0
    ? []
    : [`${name} has more ports named ${traffic.port}: this is about ${first}, not ${others.join(", ")}`];
}

/** FelixConfiguration of a node; of none, what its cluster-wide part says. */
export function configOf(world: readonly SourcedResource[], node?: string): Readonly<Record<string, string>> {
  const merge = new ConfigMerge(node ?? "", {});
  for (const { resource } of ofKind(world, "FelixConfiguration")) {
    const { name } = resource.metadata;
    if (name === "default" || node !== undefined) merge.setResource(name, resource);
  }
  const own = ofKind(world, "Node").find(({ resource }) => resource.metadata.name === node);
  merge.setNodeLabels(new Map(Object.entries(own?.resource.metadata.labels ?? {})));
  return merge.merged(() => undefined);
}

/** Nodes as the oracle wants them: the interface a host endpoint names is the way out. */
export function hostsOf(
  world: readonly SourcedResource[],
): Record<string, { uplink: string; addresses: readonly string[] }> {
  const endpoints = ofKind(world, "HostEndpoint").map(({ resource }) => resource.spec);
  const nodes = ofKind(world, "Node").map(({ resource }) => resource);
  const names = new Set([
    ...nodes.map(({ metadata }) => metadata.name),
    ...endpoints.flatMap(({ node }) => node ?? []),
  ]);
  return Object.fromEntries(
    [...names].map((name) => {
      const own = endpoints.filter(({ node }) => node === name);
      const named = own.find(({ interfaceName = "" }) => interfaceName !== "" && interfaceName !== "*");
      const known = addressesOfNode(nodes.find(({ metadata }) => metadata.name === name));
      const addresses = known.length > 0 ? known : own.flatMap(({ expectedIPs }) => expectedIPs ?? []);
      return [name, { uplink: named?.interfaceName ?? "eth0", addresses }];
    }),
  );
}

/** Where things are written. */
class Places {
  readonly #byId = new Map<string, SourcedResource>();

  constructor(world: readonly SourcedResource[]) {
    for (const item of world) {
      const { namespace = "", name } = item.resource.metadata;
      this.#byId.set(placeKey({ kind: item.kind, namespace, name }), item);
    }
  }

  decidedBy(decision: Decision, walk: DirectionTrace | undefined): DecidedBy {
    const text = decisionText(decision, walk);
    const base = { by: decision.by, text, ...("direction" in decision ? { direction: decision.direction } : {}) };
    switch (decision.by) {
      case "rule": {
        const { policy, direction, index } = decision;
        const tier = walk?.tiers.find(({ policies }) => policies.some((each) => each.policy === policy))?.tier;
        const source = this.#locate(resourceOf(policy), `spec.${direction}[${index}]`);
        return {
          ...base,
          ...(tier === undefined ? {} : { tier }),
          object: { kind: policy.kind, namespace: policy.namespace, name: policy.name },
          index,
          ...(source === undefined ? {} : { source }),
          provenance: policyRuleComment(policy, direction, index),
        };
      }
      case "tier-default": {
        const { tier, direction } = decision;
        const source = this.#locate({ kind: "Tier", namespace: "", name: tier }, "spec.defaultAction");
        const policies = walk?.tiers.find((each) => each.tier === tier)?.policies ?? [];
        const isolatedBy = policies.map(({ policy }): IsolatingPolicy => {
          const place = this.#locate(resourceOf(policy), "metadata.name");
          const object = { kind: policy.kind, namespace: policy.namespace, name: policy.name };
          return place === undefined ? { object } : { object, source: place };
        });
        const object = { kind: "Tier", namespace: "", name: tier };
        return {
          ...base,
          tier,
          object,
          isolatedBy,
          ...(source === undefined ? {} : { source }),
          provenance: tierDefaultComment(tier, direction),
        };
      }
      case "profile": {
        const { profile, direction, index } = decision;
        const source = this.#locate({ kind: "Profile", namespace: "", name: profile }, `spec.${direction}[${index}]`);
        return {
          ...base,
          object: { kind: "Profile", namespace: "", name: profile },
          index,
          ...(source === undefined ? {} : { source }),
          provenance: profileRuleComment(profile, direction, index),
        };
      }
      default:
        return base;
    }
  }

  mentioned(paths: readonly ExplainedPath[]): Record<string, SourcePosition> {
    const ids = paths.flatMap(({ walk }) =>
      walk.flatMap(({ tiers, bystanders }) => [
        ...tiers.flatMap(({ policies }) =>
          policies.flatMap(({ policy, rules }) => [
            { policy, path: "metadata.name", key: placeKey(policy) },
            ...["ingress", "egress"].flatMap((direction) =>
              rules.map(({ index }) => ({
                policy,
                path: `spec.${direction}[${index}]`,
                key: `${placeKey(policy)} ${direction} ${index}`,
              })),
            ),
          ]),
        ),
        ...bystanders.map(({ policy }) => ({ policy, path: "metadata.name", key: placeKey(policy) })),
      ]),
    );
    const sources: Record<string, SourcePosition> = {};
    for (const { policy, path, key } of ids) {
      const source = key in sources ? undefined : this.#locate(resourceOf(policy), path);
      if (source !== undefined) sources[key] = source;
    }
    return sources;
  }

  #locate(
    id: { readonly kind: string; readonly namespace: string; readonly name: string },
    path: string,
  ): SourcePosition | undefined {
    return this.#byId.get(placeKey(id))?.locate?.(path);
  }
}

export const placeKey = ({
  kind,
  namespace,
  name,
}: {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}): string => (namespace === "" ? `${kind}/${name}` : `${kind}/${namespace}/${name}`);

/** Policies of Kubernetes' cluster scope have another name in the kernel than in the datastore. */
const resourceOf = ({ kind, namespace, name }: PolicyId): { kind: string; namespace: string; name: string } => ({
  kind: kind === "KubernetesClusterNetworkPolicy" ? "ClusterNetworkPolicy" : kind,
  namespace,
  name,
});
