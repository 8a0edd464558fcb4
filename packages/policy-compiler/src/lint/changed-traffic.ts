/**
 * Which traffic between the pods that are there is decided otherwise after a change: every group of like pods to every port that a pod
 * declares, and from and to the rest of the world, asked of the oracle before and after.
 *
 * Pods are alike when they have the same namespace, labels, account and ports: of each group one speaks for all. What the groups of
 * a large cluster would take too long to compare is said, not left out in silence.
 */
import { protocolName, protocolNumber } from "@calico-ts/net";
import { configOf, hostsOf } from "../explain/explain.ts";
import type { SourcedResource } from "../explain/manifest-world.ts";
import { ofKind } from "../explain/manifest-world.ts";
import { decisionText } from "../explain/words.ts";
import type { Oracle } from "../oracle/oracle.ts";
import { createOracle } from "../oracle/oracle.ts";
import type { Query } from "../oracle/verdict.ts";
import type { Entity } from "../oracle/world.ts";
import { World } from "../oracle/world.ts";
import type { Finding } from "./finding.ts";
import { LINT_RULES } from "./finding.ts";
import type { KindMap, KindName } from "@calico-ts/model";

const OUTSIDE = { 4: "192.0.2.1", 6: "2001:db8::1" } as const; // RFC 5737, RFC 3849
const MOST_QUESTIONS = 50_000;
const MOST_TOLD = 20;

interface Flow {
  readonly text: string;
  readonly query: Query;
}

export function changedTraffic(before: readonly SourcedResource[], after: readonly SourcedResource[]): Finding[] {
  const entities = podsOf(before);
  const still = new Set(podsOf(after).map(({ id }) => id));
  const ports = declaredPorts(before);
  const groups = groupsOf(
    entities.flatMap((one) => (still.has(one.id) ? [{ one, ports: ports.get(one.id) ?? NO_PORTS }] : [])),
  );
  const asked = flowsOf(groups).take(MOST_QUESTIONS).toArray();
  const all = countOf(groups);
  const [old, fresh] = [before, after].map((world) =>
    createOracle(world, { config: configOf(world), hosts: hostsOf(world) }),
  );
  if (old === undefined || fresh === undefined) return [];
  const changed = asked.flatMap((flow) => {
    const [was, is] = [old, fresh].map((oracle) => oracle.verdict(flow.query).allowed);
    return was === is ? [] : [{ flow, allowed: is === true }];
  });
  const told = changed
    .slice(0, MOST_TOLD)
    .map(({ flow, allowed }) => changeFinding(flow, allowed, { oracle: fresh, after }));
  const rest = changed.length - told.length;
  return [
    ...told,
    ...(rest > 0 ? [note(`${rest} more flows between groups of pods change`)] : []),
    ...(asked.length === MOST_QUESTIONS && all > asked.length
      ? [note(`only ${asked.length} of about ${all} flows between groups of pods were compared`)]
      : []),
  ];
}

function podsOf(resources: readonly SourcedResource[]): Entity[] {
  const world = new World({
    of: <K extends KindName>(kind: K): KindMap[K][] => ofKind(resources, kind).map(({ resource }) => resource),
  });
  return [...world.entities.values()].filter(({ kind, nets }) => kind === "pod" && nets.length > 0);
}

interface Port {
  readonly protocol: number;
  readonly port: number;
}

interface Listener {
  readonly one: Entity;
  readonly ports: readonly Port[];
}

interface Group extends Listener {
  readonly others: number;
}

/** Of pods that declare none. */
const NO_PORTS: readonly Port[] = [{ protocol: 6, port: 80 }];

/** By the id of the pod; with a name or without. */
function declaredPorts(world: readonly SourcedResource[]): ReadonlyMap<string, readonly Port[]> {
  const byPod = new Map<string, readonly Port[]>();
  for (const { resource } of ofKind(world, "Pod")) {
    const { metadata, spec } = resource;
    const declared = spec.containers.flatMap(({ ports = [] }) => ports);
    const ports = declared.flatMap(({ containerPort: port, protocol: name = "TCP" }) => {
      const protocol = protocolNumber(name);
      return protocol === undefined ? [] : [{ protocol, port }];
    });
    if (ports.length > 0) byPod.set(`${metadata.namespace}/${metadata.name}`, ports);
  }
  return byPod;
}

function groupsOf(pods: readonly Listener[]): Group[] {
  const alike = Map.groupBy(pods, ({ one, ports }) =>
    // Named ports are what rules with names match; the others are what is asked.
    JSON.stringify([
      one.namespace,
      [...one.ownLabels].map((pair) => pair.join("=")).toSorted(),
      one.profiles,
      one.ports,
      ports,
    ]),
  );
  return [...alike.values()].flatMap(([first, ...rest]) =>
    first === undefined ? [] : [{ ...first, others: rest.length }],
  );
}

const countOf = (groups: readonly Group[]): number =>
  groups.reduce((sum, { ports }) => sum + ports.length * groups.length + 1, 0);

/** One after the other: of a large cluster only the first are made. */
function* flowsOf(groups: readonly Group[]): Generator<Flow, undefined> {
  const name = ({ one, others }: Group): string => (others === 0 ? one.id : `${one.id} (and ${others} like it)`);
  const familyOf = ({ one }: Group): 4 | 6 => one.nets[0]?.family ?? 4;
  for (const to of groups) {
    const family = familyOf(to);
    const outside = OUTSIDE[family];
    for (const { protocol, port } of to.ports) {
      const base = { protocol, sourcePort: 50_000, destinationPort: port, family, to: { pod: to.one.id } };
      const words = `${name(to)} ${protocolName(protocol)}/${port}`;
      for (const from of groups) {
        if (from === to || !from.one.nets.some((net) => net.family === family)) continue;
        yield { text: `${name(from)} → ${words}`, query: { ...base, from: { pod: from.one.id } } };
      }
      yield { text: `outside (${outside}) → ${words}`, query: { ...base, from: { address: outside } } };
    }
    const away = { protocol: 6, sourcePort: 50_000, destinationPort: 443, family, to: { address: outside } };
    yield { text: `${name(to)} → outside (${outside}) TCP/443`, query: { ...away, from: { pod: to.one.id } } };
  }
}

interface Afterwards {
  readonly oracle: Oracle;
  readonly after: readonly SourcedResource[];
}

function changeFinding({ text, query }: Flow, allowed: boolean, { oracle, after }: Afterwards): Finding {
  const trace = oracle.trace(query);
  const walk = trace.walk.filter(({ reached }) => reached).at(-1);
  const { decision } = trace;
  const object =
    decision.by === "rule"
      ? { kind: resourceKind(decision.policy.kind), namespace: decision.policy.namespace, name: decision.policy.name }
      : decision.by === "tier-default"
        ? { kind: "Tier", namespace: "", name: decision.tier }
        : NOTHING;
  const path = decision.by === "rule" ? `spec.${decision.direction}[${decision.index}]` : "metadata.name";
  const item = after.find(
    ({ resource: { kind, metadata } }) =>
      kind === object.kind && (metadata.namespace ?? "") === object.namespace && metadata.name === object.name,
  );
  const position = item?.locate?.(path);
  return {
    rule: "changes-traffic",
    severity: allowed ? "note" : "warning",
    object,
    ...(position === undefined ? {} : { position }),
    change: "new",
    message: `${text} is ${allowed ? "allowed, and was denied" : "denied, and was allowed"}. ${decisionText(decision, walk)}`,
    why: LINT_RULES["changes-traffic"].why,
    fix: "Nothing, if this is meant.",
  };
}

/** As manifests have it. */
const resourceKind = (kind: string): string =>
  kind === "KubernetesNetworkPolicy"
    ? "NetworkPolicy"
    : kind === "KubernetesClusterNetworkPolicy"
      ? "ClusterNetworkPolicy"
      : kind;

const NOTHING = { kind: "", namespace: "", name: "" };

const note = (message: string): Finding => ({
  rule: "changes-traffic",
  severity: "note",
  object: NOTHING,
  message,
  why: LINT_RULES["changes-traffic"].why,
  fix: "Apply in smaller steps to see all of it.",
});
