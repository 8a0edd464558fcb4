/**
 * What people type, read against a world: who is meant, and what can be said before any policy is asked.
 *
 *   NAMESPACE/NAME   a pod, or any pod of the workload or with the label app=NAME
 *   1.2.3.4          an address; when a pod (a floating address counts) or a node of the world has it, that pod or node
 *   svc:NS/NAME      as destination: the backends of a Service, at the port it forwards to
 *   node:NAME        a node, speaking or listening itself
 */
import type { EndpointSlice, Node, Pod, Service } from "@calico-ts/model";
import { FLOATING_IPS_ANNOTATION, isFinished, podAddresses, workloadEndpointFromPod } from "@calico-ts/model";
import type { Family } from "@calico-ts/net";
import { hasPorts, protocolName, protocolNumber, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { Party } from "../oracle/verdict.ts";
import type { SourcedResource } from "./manifest-world.ts";
import { IMAGINED_ADDRESS, ofKind } from "./manifest-world.ts";

export interface Traffic {
  /** IANA protocol number. */
  readonly protocol: number;
  /** Number or name of the destination's port. */
  readonly port?: number | string;
  readonly icmp?: { readonly type: number; readonly code: number };
}

const bad = (message: string): CalicoError => new CalicoError("BAD_INPUT", message);

/** `tcp/80`, `80/tcp`, `udp/dns`, `icmp`, `icmp/8/0`, `132/3868`, `ip/47`. @throws CalicoError BAD_INPUT */
export function parseTraffic(text: string): Traffic {
  const parts = text.split("/");
  const [first = "", second, third] = parts;
  const isReversed =
    parts.length === 2 &&
    /^\d+$/.test(first) &&
    /^[a-z]/i.test(second ?? "") &&
    protocolNumber(second ?? "") !== undefined;
  if (/^\d+$/.test(text)) throw bad(`${JSON.stringify(text)}: a port is tcp/${text}, an IP protocol ip/${text}`);
  const byNumber = first.toLowerCase() === "ip" && /^\d+$/.test(second ?? "");
  const [name, rest] = isReversed ? [second ?? "", first] : byNumber ? [second ?? ""] : [first, second];
  const protocol = protocolNumber(name);
  if (protocol === undefined || parts.length > 3) {
    throw bad(`${JSON.stringify(text)}: write PROTOCOL/PORT, for example tcp/80, udp/53, tcp/http, icmp`);
  }
  if (protocol === 1 || protocol === 58) {
    const [type, code] = [rest ?? (protocol === 1 ? "8" : "128"), third ?? "0"].map(Number);
    if (!isByte(type) || !isByte(code))
      throw bad(`${JSON.stringify(text)}: write icmp, or icmp/TYPE/CODE with numbers up to 255`);
    return { protocol, icmp: { type, code } };
  }
  if (third !== undefined) throw bad(`${JSON.stringify(text)}: ${protocolName(protocol)} has one port`);
  if (!hasPorts(protocol)) return { protocol };
  if (rest === undefined || rest === "")
    throw bad(`${JSON.stringify(text)}: which port? for example ${name.toLowerCase()}/80`);
  if (!/^\d+$/.test(rest)) return { protocol, port: rest };
  const port = Number(rest);
  if (port < 1 || port > 65_535) throw bad(`${JSON.stringify(text)}: ports go from 1 to 65535`);
  return { protocol, port };
}

const isByte = (value: number | undefined): value is number =>
  value !== undefined && Number.isInteger(value) && value >= 0 && value <= 255;

/** One party of the question. */
export interface Resolved {
  /** As shown: `shop/web-1`, `203.0.113.7`, `node n1`. */
  readonly name: string;
  readonly party: Party;
  /** Its pod or what stands for it; several names may lead to one. */
  readonly pod?: Pod;
  readonly families: readonly Family[];
  readonly addresses: readonly string[];
  /** What people should know: it is host-networked, it was imagined … */
  readonly notes: readonly string[];
  /** Of a Service's backend: what the port becomes. */
  readonly port?: number;
  /** Of a Service's backend: what the sender writes on the packet, before kube-proxy rewrites it. */
  readonly frontend?: { readonly addresses: readonly string[]; readonly port: number };
}

/** Policy is not the reason. */
export interface Obstacle {
  readonly code: "no-endpoint" | "no-address" | "finished" | "no-backend" | "no-family" | "no-port";
  readonly text: string;
}

export type Resolution = { readonly ends: readonly Resolved[] } | { readonly obstacle: Obstacle };

const obstacle = (code: Obstacle["code"], text: string): Resolution => ({ obstacle: { code, text } });

/** @throws CalicoError BAD_INPUT for what cannot be meant. */
export function resolve(
  text: string,
  traffic: Traffic | undefined,
  world: readonly SourcedResource[],
  avoid?: string,
): Resolution {
  if (text.startsWith("svc:")) {
    if (traffic === undefined) throw bad(`${text}: a Service does not send; name one of its pods as FROM`);
    return resolveService(splitName(text.slice(4)), traffic, world);
  }
  if (text.startsWith("node:")) return resolveNode(text.slice(5), world);
  if (tryParseAddress(text) !== undefined) return resolveAddress(text, world, traffic);
  return resolvePod(splitName(text), world, avoid);
}

interface Name {
  readonly namespace: string;
  readonly name: string;
}

function splitName(text: string): Name {
  const parts = text.split("/");
  const [namespace = "", name = ""] = parts.length === 1 ? ["default", text] : parts;
  if (parts.length > 2 || namespace === "" || name === "") {
    throw bad(
      `${JSON.stringify(text)}: write NAMESPACE/POD, NAMESPACE/WORKLOAD, svc:NAMESPACE/NAME, node:NAME or an address`,
    );
  }
  return { namespace, name };
}

/** ReplicaSets and Jobs of a workload have its name and a suffix. */
const isOwnedBy = (pod: Pod, name: string): boolean =>
  (pod.metadata.ownerReferences ?? []).some(
    (owner) =>
      owner.name === name || (/^(ReplicaSet|Job)$/.test(owner.kind) && owner.name.replace(/-[a-z0-9]+$/, "") === name),
  );

const MOST_HINTS = 12;

function resolvePod({ namespace, name }: Name, world: readonly SourcedResource[], avoid?: string): Resolution {
  const pods = ofKind(world, "Pod").filter(({ resource }) => resource.metadata.namespace === namespace);
  const exact = pods.find(({ resource }) => resource.metadata.name === name);
  if (exact !== undefined) return podEnd(exact, world);
  const of = (test: (pod: Pod) => boolean): SourcedResource<"Pod">[] =>
    pods.filter(({ resource }) => test(resource)).toSorted((a, b) => rank(b.resource) - rank(a.resource));
  const owned = of((pod) => isOwnedBy(pod, name));
  const candidates = owned.length > 0 ? owned : of(({ metadata }) => metadata.labels?.["app"] === name);
  const chosen = candidates.find(({ resource }) => `${namespace}/${resource.metadata.name}` !== avoid) ?? candidates[0];
  if (chosen !== undefined) return podEnd(chosen, world);
  const names = pods.map(({ resource }) => resource.metadata.name);
  const known = ofKind(world, "Namespace").some(({ resource }) => resource.metadata.name === namespace);
  const hint =
    names.length > 0
      ? `pods there: ${names.slice(0, MOST_HINTS).join(", ")}${names.length > MOST_HINTS ? ` and ${names.length - MOST_HINTS} more` : ""}`
      : known
        ? `namespace ${namespace} has no pods`
        : `there is no namespace ${namespace}`;
  return obstacle("no-endpoint", `There is no pod or workload ${namespace}/${name}; ${hint}.`);
}

/** The better stands for its workload: running, with an address. */
const rank = (pod: Pod): number => (podAddresses(pod).length > 0 ? 2 : 0) + (isFinished(pod) ? 0 : 1);

function podEnd({ resource: pod, imagined }: SourcedResource<"Pod">, world: readonly SourcedResource[]): Resolution {
  const { namespace = "", name } = pod.metadata;
  const full = `${namespace}/${name}`;
  const phase = pod.status?.phase ?? "unknown";
  if (isFinished(pod))
    return obstacle("finished", `Pod ${full} has finished (phase ${phase}): it has no network any more.`);
  const notes =
    imagined === undefined
      ? []
      : imagined === IMAGINED_ADDRESS
        ? [`the address of ${full} is made up: its manifest has none`]
        : [`${full} stands for a pod of ${imagined}; its address is made up`];
  const { nodeName } = pod.spec;
  if (pod.spec.hostNetwork === true) {
    if (nodeName === undefined)
      return obstacle("no-address", `Pod ${full} uses its node's network and is on no node yet.`);
    const node = resolveNode(nodeName, world);
    if ("obstacle" in node) return node;
    const why = `${full} uses the network of node ${nodeName}: policies that select pods do not apply to it, only those of host endpoints`;
    return { ends: node.ends.map((end) => ({ ...end, name: full, notes: [...notes, why, ...end.notes] })) };
  }
  if (nodeName === undefined || nodeName === "") {
    return obstacle(
      "no-address",
      `Pod ${full} is on no node yet (phase ${phase}): the scheduler has not placed it, so it has no network.`,
    );
  }
  const addresses = podAddresses(pod).flatMap((text) => (tryParsePrefix(text) === undefined ? [] : [text]));
  if (addresses.length === 0) {
    return obstacle(
      "no-address",
      `Pod ${full} has no address (phase ${phase}, node ${nodeName}): see its events and the CNI log of that node.`,
    );
  }
  return { ends: [{ name: full, party: { pod: full }, pod, families: familiesOf(addresses), addresses, notes }] };
}

const familiesOf = (addresses: readonly string[]): Family[] =>
  addresses.flatMap((text) => tryParsePrefix(text)?.family ?? []);

/** Where a node is spoken to and, the first of a family, what it speaks from: as calico-node found it, then as Kubernetes knows it. */
export function addressesOfNode(node: Node | undefined): string[] {
  const annotations = node?.metadata.annotations ?? {};
  const found = ["projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address"].flatMap((key) => {
    const [address = ""] = (annotations[key] ?? "").split("/");
    return tryParseAddress(address) === undefined ? [] : [address];
  });
  const internal = (node?.status?.addresses ?? []).flatMap(({ type, address }) =>
    type === "InternalIP" ? [address] : [],
  );
  return [...new Set([...found, ...internal])];
}

function resolveNode(name: string, world: readonly SourcedResource[]): Resolution {
  const node = ofKind(world, "Node").find(({ resource }) => resource.metadata.name === name);
  const addresses = addressesOfNode(node?.resource);
  const hosts = ofKind(world, "HostEndpoint").filter(({ resource }) => resource.spec.node === name);
  const pods = ofKind(world, "Pod").some(({ resource }) => resource.spec.nodeName === name);
  if (node === undefined && hosts.length === 0 && !pods) return obstacle("no-endpoint", `There is no node ${name}.`);
  const all = addresses.length > 0 ? addresses : hosts.flatMap(({ resource }) => resource.spec.expectedIPs ?? []);
  const families: readonly Family[] = all.length > 0 ? familiesOf(all) : [4, 6];
  const notes =
    all.length > 0 ? [] : [`the address of node ${name} is not known here, so rules about it may not match`];
  return { ends: [{ name: `node ${name}`, party: { host: name }, families, addresses: all, notes }] };
}

/** An address somebody has is that somebody: its policies count. */
function resolveAddress(text: string, world: readonly SourcedResource[], traffic?: Traffic): Resolution {
  const wanted = tryParseAddress(text);
  const same = (other: string | undefined): boolean => {
    const address = other === undefined ? undefined : tryParseAddress(other.replace(/\/(32|128)$/, ""));
    return address !== undefined && address.family === wanted?.family && address.value === wanted.value;
  };
  const pod = ofKind(world, "Pod").find(
    ({ resource }) => resource.spec.hostNetwork !== true && !isFinished(resource) && podAddresses(resource).some(same),
  );
  if (pod !== undefined) {
    const found = podEnd(pod, world);
    if ("obstacle" in found) return found;
    const family = wanted?.family ?? 4;
    return {
      ends: found.ends.map((end) => ({
        ...end,
        families: [family],
        notes: [`${text} is pod ${end.name}`, ...end.notes],
      })),
    };
  }
  const floating = ofKind(world, "Pod").find(({ resource }) => floatsTo(resource, world, same));
  if (floating !== undefined) {
    const found = podEnd(floating, world);
    if ("obstacle" in found) return found;
    const port = typeof traffic?.port === "number" ? { frontend: { addresses: [text], port: traffic.port } } : {};
    const note = (end: Resolved): string =>
      `${text} is a floating address of pod ${end.name}: policy sees the pod's own`;
    const families = [wanted?.family ?? 4];
    return { ends: found.ends.map((end) => ({ ...end, ...port, families, notes: [note(end), ...end.notes] })) };
  }
  const node = ofKind(world, "Node").find(({ resource }) =>
    [...addressesOfNode(resource), ...(resource.status?.addresses ?? []).map(({ address }) => address)].some(same),
  );
  if (node !== undefined) {
    const found = resolveNode(node.resource.metadata.name, world);
    if ("obstacle" in found) return found;
    return { ends: found.ends.map((end) => ({ ...end, notes: [`${text} is ${end.name}`, ...end.notes] })) };
  }
  const service = ofKind(world, "Service").find(({ resource }) =>
    [...(resource.spec?.clusterIPs ?? []), resource.spec?.clusterIP].some(same),
  );
  const notes =
    service === undefined
      ? []
      : [
          `${text} is the ClusterIP of Service ${service.resource.metadata.namespace}/${service.resource.metadata.name}: policy sees its backends; ask for svc:${service.resource.metadata.namespace}/${service.resource.metadata.name}`,
        ];
  return {
    ends: [{ name: text, party: { address: text }, families: [wanted?.family ?? 4], addresses: [text], notes }],
  };
}

/** Has the pod such an address, on a node where floating ones are switched on? */
function floatsTo(pod: Pod, world: readonly SourcedResource[], same: (address: string) => boolean): boolean {
  if (pod.metadata.annotations?.[FLOATING_IPS_ANNOTATION] === undefined) return false;
  const endpoint = workloadEndpointFromPod(pod);
  if (endpoint?.floatingAddresses.some(({ external }) => same(external)) !== true) return false;
  const settings = ofKind(world, "FelixConfiguration").map(({ resource }) => resource);
  const [setting] = [`node.${endpoint.node}`, "default"].flatMap(
    (name) => settings.find(({ metadata }) => metadata.name === name)?.spec.floatingIPs ?? [],
  );
  return setting === "Enabled";
}

function resolveService({ namespace, name }: Name, traffic: Traffic, world: readonly SourcedResource[]): Resolution {
  const full = `${namespace}/${name}`;
  const service = ofKind(world, "Service").find(
    ({ resource: { metadata } }) => metadata.namespace === namespace && metadata.name === name,
  )?.resource;
  if (service === undefined) return obstacle("no-endpoint", `There is no Service ${full}.`);
  if (service.spec?.type === "ExternalName") {
    return obstacle(
      "no-backend",
      `Service ${full} is a DNS alias for ${service.spec.externalName ?? "nothing"}: ask for that address.`,
    );
  }
  const port = servicePort(service, traffic);
  if (port === undefined && traffic.port === undefined) {
    const protocol = protocolName(traffic.protocol);
    return obstacle("no-port", `A Service has TCP, UDP and SCTP ports only: ${protocol} to ${full} goes nowhere.`);
  }
  if (port === undefined) {
    const has = (service.spec?.ports ?? []).map((own) => `${own.port}/${own.protocol ?? "TCP"}`).join(", ");
    return obstacle(
      "no-port",
      `Service ${full} has no port ${traffic.port}/${protocolName(traffic.protocol)}; it has ${has === "" ? "none" : has}.`,
    );
  }
  const slices = ofKind(world, "EndpointSlice")
    .map(({ resource }) => resource)
    .filter(
      ({ metadata }) => metadata.namespace === namespace && metadata.labels?.["kubernetes.io/service-name"] === name,
    );
  const backends = slices.flatMap((slice) => backendsOf(slice, port));
  const clusterAddresses = [service.spec?.clusterIP, ...(service.spec?.clusterIPs ?? [])].filter(
    (text) => text !== undefined && tryParseAddress(text) !== undefined,
  );
  const frontend = { addresses: [...new Set(clusterAddresses.flatMap((text) => text ?? []))], port: port.port };
  if (backends.length === 0) {
    return obstacle(
      "no-backend",
      `Service ${full} has no ready backend for port ${port.port}: kube-proxy refuses the connection; look at the pods its selector should match.`,
    );
  }
  const ends = backends.flatMap(({ address, port: number }): Resolved[] => {
    const found = resolveAddress(address, world);
    const note = `Service ${full} port ${port.port} goes to ${address} port ${number}`;
    return "obstacle" in found
      ? []
      : found.ends.map((end) => ({
          ...end,
          port: number,
          frontend,
          notes: [note, ...end.notes.filter((text) => !text.startsWith(`${address} is `))],
        }));
  });
  return { ends };
}

type ServicePort = NonNullable<NonNullable<Service["spec"]>["ports"]>[number];

const servicePort = (service: Service, { protocol, port }: Traffic): ServicePort | undefined =>
  (service.spec?.ports ?? []).find(
    (own) => (own.port === port || own.name === port) && protocolNumber(own.protocol ?? "TCP") === protocol,
  );

function backendsOf(slice: EndpointSlice, port: ServicePort): { readonly address: string; readonly port: number }[] {
  const own = (slice.ports ?? []).find(
    ({ name, protocol }) => (name ?? "") === (port.name ?? "") && (protocol ?? "TCP") === (port.protocol ?? "TCP"),
  );
  if (own?.port === undefined) return [];
  const number = own.port;
  return (slice.endpoints ?? [])
    .filter(({ conditions }) => conditions?.ready !== false)
    .flatMap(({ addresses }) => addresses.slice(0, 1).map((address) => ({ address, port: number })));
}
