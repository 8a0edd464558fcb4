/**
 * The things packets come from and go to, from raw resources: who owns an address, which labels count for whom.
 *
 * Labels an endpoint inherits: its namespace's under `pcns.`, its service account's under `pcsa.` (each with the name under
 * `projectcalico.org/name`), in that order, its own first. Host endpoints inherit from the profiles they name.
 */
import type {
  EndpointSlice,
  GlobalNetworkSet,
  HostEndpoint,
  KindMap,
  KindName,
  Namespace,
  NetworkSet,
  Pod,
  Profile,
  ServiceAccount,
} from "@calico-ts/model";
import { isFinished, podAddresses } from "@calico-ts/model";
import type { Family, IpAddress, Prefix } from "@calico-ts/net";
import { prefixOf, protocolNumber, tryParsePrefix } from "@calico-ts/net";

export interface Resources {
  of<K extends KindName>(kind: K): readonly KindMap[K][];
}

export interface Entity {
  readonly id: string;
  readonly kind: "pod" | "host" | "network-set";
  readonly namespace?: string;
  /** Own and inherited. */
  readonly labels: ReadonlyMap<string, string>;
  /** As Kubernetes has them: a pod's own. */
  readonly ownLabels: ReadonlyMap<string, string>;
  readonly nets: readonly Prefix[];
  readonly ports: readonly { readonly name: string; readonly protocol: number; readonly port: number }[];
  readonly profiles: readonly string[];
  readonly node?: string;
}

const NAMESPACE = "projectcalico.org/namespace";
const ACCOUNT = "projectcalico.org/serviceaccount";
const NAME = "projectcalico.org/name";

export class World {
  readonly entities = new Map<string, Entity>();
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly accounts: ReadonlyMap<string, ServiceAccount>;
  readonly profiles: ReadonlyMap<string, Profile>;
  readonly slices: readonly EndpointSlice[];
  /** `family/length` → network → who has it. */
  readonly #byNet = new Map<string, Map<bigint, Entity[]>>();
  readonly #lengths: Record<Family, number[]> = { 4: [], 6: [] };

  constructor(resources: Resources) {
    this.namespaces = new Map(resources.of("Namespace").map((item) => [item.metadata.name, item]));
    this.accounts = new Map(
      resources.of("ServiceAccount").map((item) => [`${item.metadata.namespace}/${item.metadata.name}`, item]),
    );
    this.profiles = new Map(resources.of("Profile").map((item) => [item.metadata.name, item]));
    this.slices = resources.of("EndpointSlice");
    for (const item of resources.of("Pod")) this.#addPod(item);
    for (const item of resources.of("HostEndpoint")) this.#add(this.#host(item));
    for (const item of resources.of("NetworkSet")) this.#add(this.#networkSet(item));
    for (const item of resources.of("GlobalNetworkSet")) this.#add(this.#networkSet(item));
  }

  /** Everybody who has the address, directly or inside a prefix. */
  owners(address: IpAddress): Entity[] {
    return this.#lengths[address.family].flatMap(
      (length) => this.#byNet.get(`${address.family}/${length}`)?.get(prefixOf(address, length).value) ?? [],
    );
  }

  #add(entity: Entity): void {
    this.entities.set(entity.id, entity);
    for (const net of entity.nets) {
      const key = `${net.family}/${net.length}`;
      let table = this.#byNet.get(key);
      if (table === undefined) {
        table = new Map();
        this.#byNet.set(key, table);
        this.#lengths[net.family].push(net.length);
      }
      const owners = table.get(net.value) ?? [];
      if (!owners.includes(entity)) owners.push(entity);
      table.set(net.value, owners);
    }
  }

  #addPod(pod: Pod): void {
    const { spec, metadata } = pod;
    if (spec.hostNetwork === true || spec.nodeName === undefined || spec.nodeName === "") return;
    const namespace = metadata.namespace ?? "";
    const account = spec.serviceAccountName ?? "";
    const own = new Map(Object.entries(metadata.labels ?? {}));
    const calico = new Map([...own, [NAMESPACE, namespace], ["projectcalico.org/orchestrator", "k8s"]]);
    if (account !== "" && account.length < 63) calico.set(ACCOUNT, account);
    const containers = [...spec.containers, ...(spec.initContainers ?? [])];
    this.#add({
      id: `${namespace}/${metadata.name}`,
      kind: "pod",
      namespace,
      ownLabels: own,
      labels: inherit(calico, [this.#namespaceLabels(namespace), this.#accountLabels(namespace, account)]),
      nets: isFinished(pod) ? [] : podAddresses(pod).flatMap((text) => tryParsePrefix(text) ?? []),
      ports: containers
        .flatMap((container) => container.ports ?? [])
        .flatMap((port) => named(port.name, port.protocol ?? "TCP", port.containerPort)),
      profiles: [`kns.${namespace}`, ...(account === "" ? [] : [`ksa.${namespace}.${account}`])],
      node: spec.nodeName,
    });
  }

  #host({ metadata, spec }: HostEndpoint): Entity {
    const own = new Map(Object.entries(metadata.labels ?? {}));
    const profiles = spec.profiles ?? [];
    return {
      id: `host-endpoint/${metadata.name}`,
      kind: "host",
      ownLabels: own,
      labels: inherit(
        own,
        profiles.map((name) => this.#profileLabels(name)),
      ),
      nets: (spec.expectedIPs ?? []).flatMap((text) => tryParsePrefix(text) ?? []),
      ports: (spec.ports ?? []).flatMap((port) => named(port.name, port.protocol, port.port)),
      profiles,
      ...(spec.node === undefined ? {} : { node: spec.node }),
    };
  }

  #networkSet(set: NetworkSet | GlobalNetworkSet): Entity {
    const own = new Map(Object.entries(set.metadata.labels ?? {}));
    const namespace = set.kind === "NetworkSet" ? (set.metadata.namespace ?? "") : undefined;
    const labels = namespace === undefined ? own : new Map([...own, [NAMESPACE, namespace]]);
    return {
      id: `${set.kind}/${namespace ?? ""}/${set.metadata.name}`,
      kind: "network-set",
      ...(namespace === undefined ? {} : { namespace }),
      ownLabels: own,
      labels: inherit(labels, namespace === undefined ? [] : [this.#namespaceLabels(namespace)]),
      // Stored objects may hold anything.
      nets: (Array.isArray(set.spec.nets) ? set.spec.nets : []).flatMap(
        (text: string) => tryParsePrefix(text, "mask") ?? [],
      ),
      ports: [],
      profiles: [],
    };
  }

  #namespaceLabels(name: string): [string, string][] {
    const found = this.namespaces.get(name);
    return found === undefined ? [] : prefixed("pcns.", { ...found.metadata.labels, [NAME]: name });
  }

  #accountLabels(namespace: string, name: string): [string, string][] {
    const found = this.accounts.get(`${namespace}/${name}`);
    return found === undefined ? [] : prefixed("pcsa.", { ...found.metadata.labels, [NAME]: name });
  }

  #profileLabels(name: string): [string, string][] {
    if (name.startsWith("kns.")) return this.#namespaceLabels(name.slice(4));
    const account = /^ksa\.([^.]+)\.(.+)$/.exec(name);
    if (account !== null) return this.#accountLabels(account[1] ?? "", account[2] ?? "");
    return Object.entries(this.profiles.get(name)?.spec.labelsToApply ?? {});
  }
}

const prefixed = (prefix: string, labels: Readonly<Record<string, string>>): [string, string][] =>
  Object.entries(labels).map(([key, value]) => [prefix + key, value]);

function inherit(
  own: ReadonlyMap<string, string>,
  parents: readonly (readonly [string, string][])[],
): Map<string, string> {
  const labels = new Map<string, string>();
  for (const parent of parents.toReversed()) for (const [key, value] of parent) labels.set(key, value);
  for (const [key, value] of own) labels.set(key, value);
  return labels;
}

function named(name: string | undefined, protocol: string | number, port: number): Entity["ports"] {
  const number = protocolNumber(protocol);
  return name === undefined || name === "" || number === undefined ? [] : [{ name, protocol: number, port }];
}
