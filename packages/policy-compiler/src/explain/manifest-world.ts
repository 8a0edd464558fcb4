/**
 * Manifests as a world: documents become resources that know their file and line, and what a cluster would have made of
 * them is imagined: pods of workloads (at most two each, since policy sees no difference between replicas), their
 * addresses, namespaces and accounts that are only mentioned, endpoint slices of services.
 *
 * Imagined addresses come from the first enabled IP pool of a family among the manifests, else from upstream's default pools:
 * rules that except private networks mean pods as well.
 */
import type { EndpointSlice, KindMap, KindName, Pod, Service } from "@calico-ts/model";
import { BUILT_IN_TIERS, kindNameOf, kinds, podAddresses, prepare } from "@calico-ts/model";
import type { Prefix } from "@calico-ts/net";
import { addressAt, formatAddress, parsePrefix, prefixSize, tryParsePrefix } from "@calico-ts/net";
import type { FieldError, JsonObject, SourcePosition, YamlDocument } from "@calico-ts/schema";
import { fieldErrorBody, isObject } from "@calico-ts/schema";

export interface SourcedResource<K extends KindName = KindName> {
  readonly kind: K;
  readonly resource: KindMap[K];
  /** Where a field of it is written, `spec.ingress[0]`; absent when it did not come from a file. */
  readonly locate?: (path: string) => SourcePosition;
  /** Set on what no file says and no server has: from which workload or reference it was made up. */
  readonly imagined?: string;
}

export type ManifestProblemKind = "not-an-object" | "unknown-kind" | "unknown-field" | "invalid" | "duplicate";

export interface ManifestProblem {
  readonly problem: ManifestProblemKind;
  readonly object: { readonly kind: string; readonly namespace: string; readonly name: string };
  readonly path: string;
  readonly message: string;
  readonly position: SourcePosition;
}

export interface ManifestWorld {
  /** What the files say; `completeWorld` adds what follows from it. */
  readonly resources: readonly SourcedResource[];
  readonly workloads: readonly Workload[];
  readonly problems: readonly ManifestProblem[];
}

/** Something that makes pods. */
export interface Workload {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly replicas: number;
  readonly template: JsonObject;
  readonly locate: (path: string) => SourcePosition;
}

/** Where the pod template stands in each kind. */
const TEMPLATES: Readonly<Record<string, readonly string[]>> = {
  Deployment: ["spec", "template"],
  ReplicaSet: ["spec", "template"],
  StatefulSet: ["spec", "template"],
  DaemonSet: ["spec", "template"],
  ReplicationController: ["spec", "template"],
  Job: ["spec", "template"],
  CronJob: ["spec", "jobTemplate", "spec", "template"],
};

/** Groups whose kinds we all know: what else claims to be of them is a mistake. */
const OUR_GROUPS = ["projectcalico.org/", "crd.projectcalico.org/", "policy.networking.k8s.io/"];

interface Found {
  readonly resources: SourcedResource[];
  readonly workloads: Workload[];
  readonly problems: ManifestProblem[];
  readonly seen: Map<string, SourcePosition>;
}

export function readManifestWorld(documents: Iterable<YamlDocument>): ManifestWorld {
  const found: Found = { resources: [], workloads: [], problems: [], seen: new Map() };
  for (const document of documents) readObject(document.value, (path) => document.position(path), found);
  const { resources, workloads, problems } = found;
  return { resources, workloads, problems };
}

function readObject(value: unknown, locate: (path: string) => SourcePosition, found: Found): void {
  const metadata = isObject(value) && isObject(value["metadata"]) ? value["metadata"] : {};
  const textOf = (field: unknown): string => (typeof field === "string" ? field : "");
  const kind = isObject(value) ? textOf(value["kind"]) : "";
  const name = textOf(metadata["name"]);
  const given = textOf(metadata["namespace"]);
  const report = (problem: ManifestProblemKind, path: string, message: string, namespace = given): void => {
    found.problems.push({ problem, object: { kind, namespace, name }, path, message, position: locate(path) });
  };
  if (!isObject(value)) return report("not-an-object", "", "expected a mapping with apiVersion, kind and metadata");
  const apiVersion = textOf(value["apiVersion"]);
  if (apiVersion === "" || kind === "") {
    return report("not-an-object", "", "apiVersion or kind is missing: this is no Kubernetes object");
  }
  if (kind.endsWith("List") && Array.isArray(value["items"])) {
    for (const [index, item] of value["items"].entries()) {
      readObject(item, (path) => locate(join(`items[${index}]`, path)), found);
    }
    return;
  }
  const key = kindNameOf({ apiVersion, kind });
  const namespaced = key === undefined ? true : kinds[key].namespaced;
  const namespace = namespaced ? (given === "" ? "default" : given) : "";
  const identity = [apiVersion, kind, namespace, name].join(" ");
  const first = found.seen.get(identity);
  if (first !== undefined) {
    return report(
      "duplicate",
      "metadata.name",
      `a second ${kind} of this name; the first is at ${first.file}:${first.line}`,
    );
  }
  found.seen.set(identity, locate(""));
  if (key === undefined) {
    const workload = readWorkload(value, { kind, namespace, name }, locate);
    if (workload !== undefined) found.workloads.push(workload);
    else if (OUR_GROUPS.some((group) => apiVersion.startsWith(group)) || kind === "NetworkPolicy") {
      report("unknown-kind", "kind", unknownKind(apiVersion, kind));
    }
    return;
  }
  readKnown(key, namespaced ? { ...value, metadata: { ...metadata, namespace } } : value, { locate, found, report });
}

const join = (head: string, path: string): string =>
  path === "" ? head : path.startsWith("[") ? head + path : `${head}.${path}`;

function unknownKind(apiVersion: string, kind: string): string {
  const known = Object.values(kinds).flatMap((info) => (info.kind === kind ? [info.apiVersion] : []));
  const hint = known.length === 0 ? "" : `; write apiVersion: ${known.toSorted().join(" or ")}`;
  return `there is no kind ${kind} in ${apiVersion}${hint}`;
}

interface Reading {
  readonly locate: (path: string) => SourcePosition;
  readonly found: Found;
  readonly report: (problem: ManifestProblemKind, path: string, message: string, namespace?: string) => void;
}

function readKnown(kind: KindName, value: JsonObject, { locate, found, report }: Reading): void {
  const prepared = prepare(kind, value);
  if (!prepared.ok) {
    for (const error of prepared.errors) report("invalid", error.path, errorWords(error));
    return;
  }
  // Of Kubernetes' own kinds the schemas name what we read; only policies are known to the last field.
  const strict = kinds[kind].storage !== "builtin" || kind === "KubernetesNetworkPolicy";
  const unknown = strict ? [...prepared.unknownFields, ...unknownPolicyFields(kind, value)] : [];
  for (const path of new Set(unknown)) {
    report("unknown-field", path, `${kinds[kind].kind} has no field ${path}: an API server drops it silently`);
  }
  found.resources.push(withPolicyTypes({ kind, resource: prepared.resource, locate }));
}

/** As an API server fills them in when they are left out. */
export function withPolicyTypes(item: SourcedResource): SourcedResource {
  if (!isOf(item, "KubernetesNetworkPolicy")) return item;
  const { spec = {} } = item.resource;
  if ((spec.policyTypes ?? []).length > 0) return item;
  const policyTypes = (spec.egress ?? []).length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
  return { ...item, resource: { ...item.resource, spec: { ...spec, policyTypes } } };
}

const errorWords = (error: FieldError): string => fieldErrorBody(error);

const POLICY_FIELDS = ["podSelector", "ingress", "egress", "policyTypes"];

function unknownPolicyFields(kind: KindName, { spec }: JsonObject): string[] {
  if (kind !== "KubernetesNetworkPolicy" || !isObject(spec)) return [];
  return Object.keys(spec).flatMap((field) => (POLICY_FIELDS.includes(field) ? [] : [`spec.${field}`]));
}

function readWorkload(
  value: JsonObject,
  { kind, namespace, name }: { readonly kind: string; readonly namespace: string; readonly name: string },
  locate: (path: string) => SourcePosition,
): Workload | undefined {
  const path = TEMPLATES[kind];
  if (path === undefined || name === "") return undefined;
  let template: unknown = value;
  for (const step of path) template = isObject(template) ? template[step] : undefined;
  if (!isObject(template)) return undefined;
  const spec = isObject(value["spec"]) ? value["spec"] : {};
  const given = spec["replicas"];
  const replicas = kind === "DaemonSet" ? 2 : typeof given === "number" ? given : 1;
  return { kind, namespace, name, replicas, template, locate: (field) => locate(join(path.join("."), field)) };
}

/** In `imagined`: all but the address is written. */
export const IMAGINED_ADDRESS = "address";

const MOST_REPLICAS = 2;
const IMAGINED_NODE = "node-1";

/** Adds the built-in tiers, and when the world came from files, what a cluster would have added. */
export function completeWorld(
  resources: readonly SourcedResource[],
  options: { readonly workloads?: readonly Workload[]; readonly imagine: boolean },
): SourcedResource[] {
  const world = [...resources];
  const tiers = new Set(ofKind(world, "Tier").map(({ resource }) => resource.metadata.name));
  for (const { name, order, defaultAction } of BUILT_IN_TIERS) {
    if (tiers.has(name)) continue;
    const prepared = prepare("Tier", { metadata: { name }, spec: { order, defaultAction } });
    if (prepared.ok) world.push({ kind: "Tier", resource: prepared.resource, imagined: "built in" });
  }
  if (!options.imagine) return world;
  const addresses = new Addresses(world);
  const given = ofKind(world, "Pod");
  const real = world.map((item) => {
    if (!isOf(item, "Pod")) return item;
    const resource = addresses.complete(item.resource);
    const made = podAddresses(resource).length > podAddresses(item.resource).length;
    return made ? { ...item, resource, imagined: IMAGINED_ADDRESS } : { ...item, resource };
  });
  const owners = new Set(
    given.flatMap(({ resource }) =>
      (resource.metadata.ownerReferences ?? []).map(({ name }) => `${resource.metadata.namespace}/${name}`),
    ),
  );
  const pods = (options.workloads ?? [])
    .filter(({ namespace, name }) => !owners.has(`${namespace}/${name}`))
    .flatMap((workload) => imaginePods(workload, addresses));
  const withPods = [...real, ...pods];
  const named = [...withPods, ...imagineScopes(withPods)].map(labelNamespace);
  return [...named, ...imagineSlices(named)];
}

export function isOf<K extends KindName>(item: SourcedResource, kind: K): item is SourcedResource<K> {
  return item.kind === kind;
}

export const ofKind = <K extends KindName>(world: readonly SourcedResource[], kind: K): SourcedResource<K>[] =>
  world.filter((item) => isOf(item, kind));

const DEFAULT_POOLS = { 4: "192.168.0.0/16", 6: "fd80:24e2:f998:72d6::/64" } as const;

class Addresses {
  readonly #pools: readonly Prefix[];
  #last = 0n;

  constructor(world: readonly SourcedResource[]) {
    const given = ofKind(world, "IPPool")
      .filter(({ resource }) => resource.spec.disabled !== true)
      .flatMap(({ resource }) => tryParsePrefix(resource.spec.cidr) ?? []);
    this.#pools = ([4, 6] as const).map(
      (family) => given.find((pool) => pool.family === family) ?? parsePrefix(DEFAULT_POOLS[family]),
    );
  }

  /** Status and node as a scheduler and a network would have filled them in. */
  complete(pod: Pod): Pod {
    const nodeName = pod.spec.nodeName ?? IMAGINED_NODE;
    const spec = { ...pod.spec, nodeName, serviceAccountName: pod.spec.serviceAccountName ?? "default" };
    if (pod.spec.hostNetwork === true || podAddresses(pod).length > 0) return { ...pod, spec };
    this.#last++;
    const podIPs = this.#pools
      .filter((pool) => this.#last < prefixSize(pool))
      .map((pool) => ({ ip: formatAddress(addressAt(pool, this.#last)) }));
    return { ...pod, spec, status: { ...pod.status, phase: pod.status?.phase ?? "Running", podIPs } };
  }
}

function imaginePods(workload: Workload, addresses: Addresses): SourcedResource<"Pod">[] {
  const { kind, namespace, name, template, replicas } = workload;
  const metadata = isObject(template["metadata"]) ? template["metadata"] : {};
  const count = Math.min(Math.max(replicas, 1), MOST_REPLICAS);
  return Array.from({ length: count }, (_, index) => index + 1).flatMap((number) => {
    const prepared = prepare("Pod", {
      metadata: {
        ...metadata,
        name: `${name}-${number}`,
        namespace,
        ownerReferences: [{ apiVersion: "apps/v1", kind, name, uid: "imagined", controller: true }],
      },
      spec: template["spec"],
    });
    if (!prepared.ok) return [];
    const imagined = `${kind} ${namespace}/${name}`;
    return [
      { kind: "Pod", resource: addresses.complete(prepared.resource), locate: workload.locate, imagined } as const,
    ];
  });
}

/** Namespaces and service accounts that something is in or names. */
function imagineScopes(world: readonly SourcedResource[]): SourcedResource[] {
  const namespaces = new Set(ofKind(world, "Namespace").map(({ resource }) => resource.metadata.name));
  const accounts = new Set(
    ofKind(world, "ServiceAccount").map(({ resource }) => `${resource.metadata.namespace}/${resource.metadata.name}`),
  );
  const made: SourcedResource[] = [];
  const need = (kind: "Namespace" | "ServiceAccount", metadata: JsonObject, imagined: string): void => {
    const prepared = prepare(kind, { metadata });
    if (prepared.ok) made.push({ kind, resource: prepared.resource, imagined });
  };
  for (const item of world) {
    const { namespace } = item.resource.metadata;
    if (namespace === undefined || namespace === "") continue;
    if (!namespaces.has(namespace)) need("Namespace", { name: namespace }, "mentioned only");
    namespaces.add(namespace);
    const account = isOf(item, "Pod") ? (item.resource.spec.serviceAccountName ?? "default") : "default";
    if (!accounts.has(`${namespace}/${account}`))
      need("ServiceAccount", { namespace, name: account }, "mentioned only");
    accounts.add(`${namespace}/${account}`);
  }
  return made;
}

/** Every API server puts this label on namespaces. */
function labelNamespace(item: SourcedResource): SourcedResource {
  if (!isOf(item, "Namespace")) return item;
  const { metadata } = item.resource;
  const labels = { "kubernetes.io/metadata.name": metadata.name, ...metadata.labels };
  return { ...item, resource: { ...item.resource, metadata: { ...metadata, labels } } };
}

function imagineSlices(world: readonly SourcedResource[]): SourcedResource[] {
  const served = new Set(
    ofKind(world, "EndpointSlice").map(
      ({ resource: { metadata } }) => `${metadata.namespace}/${metadata.labels?.["kubernetes.io/service-name"] ?? ""}`,
    ),
  );
  const pods = ofKind(world, "Pod").map(({ resource }) => resource);
  return ofKind(world, "Service").flatMap(({ resource: service }) => {
    const { namespace = "", name } = service.metadata;
    const selector = Object.entries(service.spec?.selector ?? {});
    if (selector.length === 0 || served.has(`${namespace}/${name}`)) return [];
    const backends = pods.filter(
      ({ metadata }) =>
        metadata.namespace === namespace && selector.every(([key, value]) => metadata.labels?.[key] === value),
    );
    return backends.flatMap((pod, index) => {
      const slice = sliceOf(service, pod, index);
      return slice === undefined ? [] : [slice];
    });
  });
}

/** One slice for each pod: named target ports may differ from pod to pod. */
function sliceOf(service: Service, pod: Pod, index: number): SourcedResource<"EndpointSlice"> | undefined {
  const { namespace = "", name } = service.metadata;
  // As a prefix of one address.
  const address = podAddresses(pod)[0]?.replace(/\/\d+$/, "");
  if (address === undefined) return undefined;
  const containers = pod.spec.containers.flatMap(({ ports }) => ports ?? []);
  const ports = (service.spec?.ports ?? []).flatMap(({ name: portName, protocol = "TCP", port, targetPort }) => {
    const number =
      typeof targetPort === "string"
        ? containers.find((own) => own.name === targetPort && (own.protocol ?? "TCP") === protocol)?.containerPort
        : (targetPort ?? port);
    return number === undefined
      ? []
      : [{ ...(portName === undefined ? {} : { name: portName }), protocol, port: number }];
  });
  const resource: EndpointSlice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { namespace, name: `${name}-${index}`, labels: { "kubernetes.io/service-name": name } },
    addressType: address.includes(":") ? "IPv6" : "IPv4",
    endpoints: [
      {
        addresses: [address],
        conditions: { ready: true },
        targetRef: { kind: "Pod", namespace, name: pod.metadata.name },
      },
    ],
    ports,
  };
  return { kind: "EndpointSlice", resource, imagined: `Service ${namespace}/${name}` };
}
