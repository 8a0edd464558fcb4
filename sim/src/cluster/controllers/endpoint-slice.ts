/**
 * EndpointSlices and the older Endpoints of a Service with a selector. Pure.
 *
 * One group of slices per address family and per resolved port list (a named target port may mean different numbers in different
 * pods), at most 100 endpoints each. Names are made from the service's uid and the group, so the same world gives the same slices,
 * and a change touches one slice.
 *
 * Conditions (discovery.k8s.io/v1): serving = the pod is ready; terminating = it is being deleted; ready = serving and not
 * terminating, or always when the Service publishes not-ready addresses.
 */
import { sha256Hex } from "@calico-ts/std";
import { tryParseAddress } from "@calico-ts/net";
import type { Action } from "../kube/actions.ts";
import {
  type EndpointAddress,
  type Endpoints,
  type EndpointSlice,
  isPodFinished,
  isPodReady,
  isTerminating,
  type Pod,
  type Service,
  type ServicePort,
  type SliceEndpoint,
  type SlicePort,
  uidOf,
} from "../kube/objects.ts";
import { ownerReference, stableJson } from "./pod-template.ts";

export interface ServiceWorld {
  readonly service: Service;
  /** Pods its selector matches. */
  readonly pods: readonly Pod[];
  /** Slices of this Service that we manage. */
  readonly slices: readonly EndpointSlice[];
  readonly endpoints: Endpoints | undefined;
  /** topology.kubernetes.io/zone by node name. */
  readonly zones: ReadonlyMap<string, string>;
}

export const MANAGED_BY = "endpointslice.kubernetes.io/managed-by";
export const SERVICE_NAME = "kubernetes.io/service-name";
export const MANAGER = "endpointslice-controller.k8s.io";
const MAX_ENDPOINTS = 100;
const HEADLESS = "service.kubernetes.io/headless";

export function reconcileService(world: ServiceWorld): readonly Action[] {
  const { service } = world;
  // Without a selector somebody else keeps the endpoints; an ExternalName has none.
  if (service.spec.selector === undefined || service.spec.type === "ExternalName" || isTerminating(service)) return [];
  const members = world.pods.filter((pod) => !isPodFinished(pod) && addressesOf(pod).length > 0);
  members.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  return [...sliceActions(world, members), ...endpointsActions(world, members)];
}

function sliceActions(world: ServiceWorld, members: readonly Pod[]): readonly Action[] {
  const wanted = new Map(wantedSlices(world, members).map((slice) => [slice.metadata.name, slice]));
  const actions: Action[] = [];
  for (const slice of world.slices) {
    const want = wanted.get(slice.metadata.name);
    wanted.delete(slice.metadata.name);
    if (want === undefined) {
      if (!isTerminating(slice)) actions.push({ do: "delete", kind: "EndpointSlice", object: slice });
    } else if (sliceContent(want) !== sliceContent(slice)) {
      const patch = {
        metadata: { labels: want.metadata.labels },
        endpoints: want.endpoints ?? [],
        ports: want.ports ?? [],
      };
      actions.push({ do: "patch", kind: "EndpointSlice", name: slice.metadata, patch });
    }
  }
  const creations: readonly Action[] = [...wanted.values()].map((object) => ({
    do: "create",
    kind: "EndpointSlice",
    object,
  }));
  // New places before old ones go, so that a proxy never sees the service empty in between.
  return [...creations, ...actions];
}

const sliceContent = (slice: EndpointSlice): string =>
  stableJson([slice.endpoints ?? [], slice.ports ?? [], slice.metadata.labels ?? {}]);

interface Group {
  readonly ports: readonly SlicePort[];
  readonly endpoints: SliceEndpoint[];
}

function wantedSlices(world: ServiceWorld, members: readonly Pod[]): readonly EndpointSlice[] {
  const { service } = world;
  const slices: EndpointSlice[] = [];
  for (const family of familiesOf(service)) {
    const groups = new Map<string, Group>();
    for (const pod of members) {
      const address = addressesOf(pod).find((each) => familyOf(each) === family);
      if (address === undefined) continue;
      const ports = resolvePorts(service, pod);
      const groupKey = stableJson(ports);
      const group = groups.get(groupKey) ?? { ports, endpoints: [] };
      group.endpoints.push(endpointOf(world, pod, address));
      groups.set(groupKey, group);
    }
    if (groups.size === 0) groups.set("[]", { ports: [], endpoints: [] });
    for (const [groupKey, group] of groups) {
      for (let at = 0; at === 0 || at < group.endpoints.length; at += MAX_ENDPOINTS) {
        const identity = [uidOf(service), family, groupKey, at].join("\0");
        slices.push(
          sliceOf(service, family, { ...group, endpoints: group.endpoints.slice(at, at + MAX_ENDPOINTS) }, identity),
        );
      }
    }
  }
  return slices;
}

function sliceOf(service: Service, addressType: string, group: Group, identity: string): EndpointSlice {
  const { name, namespace } = service.metadata;
  return {
    metadata: {
      name: `${name.slice(0, 54)}-${sha256Hex(identity).slice(0, 8)}`,
      ...(namespace === undefined ? {} : { namespace }),
      labels: {
        ...service.metadata.labels,
        [SERVICE_NAME]: name,
        [MANAGED_BY]: MANAGER,
        ...(service.spec.clusterIP === "None" ? { [HEADLESS]: "" } : {}),
      },
      ownerReferences: [ownerReference("v1", "Service", service)],
    },
    addressType,
    endpoints: group.endpoints,
    ports: group.ports,
  };
}

function endpointOf(world: ServiceWorld, pod: Pod, address: string): SliceEndpoint {
  const serving = isPodReady(pod);
  const terminating = isTerminating(pod);
  const ready = world.service.spec.publishNotReadyAddresses === true || (serving && !terminating);
  const zone = world.zones.get(pod.spec.nodeName ?? "");
  const { hostname, subdomain } = pod.spec;
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    ...(hostname !== undefined && hostname !== "" && subdomain === world.service.metadata.name ? { hostname } : {}),
    ...(pod.spec.nodeName === undefined ? {} : { nodeName: pod.spec.nodeName }),
    ...(zone === undefined ? {} : { zone }),
    targetRef: referenceTo(pod),
  };
}

function referenceTo(pod: Pod): NonNullable<SliceEndpoint["targetRef"]> {
  const { name, namespace, uid } = pod.metadata;
  return {
    kind: "Pod",
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
  };
}

/** Ports whose named target the pod does not have are left out for that pod. */
export function resolvePorts(service: Service, pod: Pod): readonly SlicePort[] {
  const ports: SlicePort[] = [];
  for (const port of service.spec.ports ?? []) {
    const number = targetPort(port, pod);
    if (number === undefined) continue;
    ports.push({
      name: port.name ?? "",
      port: number,
      protocol: port.protocol ?? "TCP",
      ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol }),
    });
  }
  return ports;
}

function targetPort(port: ServicePort, pod: Pod): number | undefined {
  const target = port.targetPort ?? port.port;
  if (typeof target === "number") return target === 0 ? port.port : target;
  if (target === "") return port.port;
  if (/^\d+$/.test(target)) return Number(target);
  for (const container of pod.spec.containers) {
    for (const each of container.ports ?? []) {
      if (each.name === target && (each.protocol ?? "TCP") === (port.protocol ?? "TCP")) return each.containerPort;
    }
  }
  return undefined;
}

function addressesOf(pod: Pod): readonly string[] {
  const all = (pod.status?.podIPs ?? []).map((each) => each.ip);
  return all.length > 0 ? all : pod.status?.podIP === undefined || pod.status.podIP === "" ? [] : [pod.status.podIP];
}

function familyOf(address: string): string | undefined {
  const parsed = tryParseAddress(address);
  return parsed === undefined ? undefined : parsed.family === 4 ? "IPv4" : "IPv6";
}

function familiesOf(service: Service): readonly string[] {
  if (service.spec.ipFamilies !== undefined && service.spec.ipFamilies.length > 0) return service.spec.ipFamilies;
  const families = (service.spec.clusterIPs ?? []).map(familyOf).filter((family) => family !== undefined);
  return families.length > 0 ? families : ["IPv4"];
}

function endpointsActions(world: ServiceWorld, members: readonly Pod[]): readonly Action[] {
  const { service, endpoints } = world;
  const family = familiesOf(service)[0];
  const groups = new Map<
    string,
    { ports: readonly SlicePort[]; ready: EndpointAddress[]; notReady: EndpointAddress[] }
  >();
  for (const pod of members) {
    const publish = service.spec.publishNotReadyAddresses === true;
    if (isTerminating(pod) && !publish) continue;
    const ip = addressesOf(pod).find((each) => familyOf(each) === family);
    if (ip === undefined) continue;
    const ports = resolvePorts(service, pod);
    const group = groups.get(stableJson(ports)) ?? { ports, ready: [], notReady: [] };
    groups.set(stableJson(ports), group);
    const address = {
      ip,
      ...(pod.spec.nodeName === undefined ? {} : { nodeName: pod.spec.nodeName }),
      targetRef: referenceTo(pod),
    };
    (publish || isPodReady(pod) ? group.ready : group.notReady).push(address);
  }
  const subsets = [...groups.values()].map(({ ports, ready, notReady }) => ({
    ...(ready.length === 0 ? {} : { addresses: ready }),
    ...(notReady.length === 0 ? {} : { notReadyAddresses: notReady }),
    // A single unnamed port has no name here, where a slice has an empty one.
    ...(ports.length === 0
      ? {}
      : { ports: ports.map(({ name, ...rest }) => (name === "" ? rest : { name, ...rest })) }),
  }));
  const labels = { ...service.metadata.labels, "endpoints.kubernetes.io/managed-by": "endpoint-controller" };
  if (endpoints === undefined) {
    const { name, namespace } = service.metadata;
    const metadata = { name, ...(namespace === undefined ? {} : { namespace }), labels };
    return [{ do: "create", kind: "Endpoints", object: { metadata, subsets } as Endpoints }];
  }
  if (stableJson(endpoints.subsets ?? []) === stableJson(subsets)) return [];
  return [{ do: "patch", kind: "Endpoints", name: endpoints.metadata, patch: { metadata: { labels }, subsets } }];
}
