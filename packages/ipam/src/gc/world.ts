/** What garbage collection looks at, and where it gets it from. Controllers may answer `snapshot` from their caches; `pod` and `node` must ask the datastore. */
import type { DatastoreClient } from "@calico-ts/datastore";
import {
  type BlockAffinity,
  type IPAMBlock,
  type IPAMHandle,
  isFinished,
  type Pod,
  POD_IP_ANNOTATION,
  POD_IPS_ANNOTATION,
} from "@calico-ts/model";
import { formatAddress, tryParseAddress } from "@calico-ts/net";
import { hasCode } from "@calico-ts/std";
import { type IpamConfig, readConfig } from "../settings.ts";
import { listMachines, type Machines } from "./machines.ts";

export interface PodFacts {
  readonly node: string | undefined;
  readonly finished: boolean;
  /** Its addresses are its node's. */
  readonly hostNetwork: boolean;
  /** Everything any source says; empty: CNI has not told yet. */
  readonly addresses: ReadonlySet<string>;
}

export interface GcWorld {
  readonly blocks: readonly IPAMBlock[];
  readonly handles: readonly IPAMHandle[];
  readonly affinities: readonly BlockAffinity[];
  readonly nodes: ReadonlySet<string>;
  /** By `<namespace>/<name>`. */
  readonly pods: ReadonlyMap<string, PodFacts>;
  /** undefined: nothing is known about virtual machines, and their addresses stay. */
  readonly machines?: Machines | undefined;
  readonly config: IpamConfig;
}

export interface GcSource {
  snapshot(): Promise<GcWorld>;
  /** As the datastore has it now. */
  pod(namespace: string, name: string): Promise<PodFacts | undefined>;
  hasNode(name: string): Promise<boolean>;
  /** undefined where there is no KubeVirt. */
  machines(): Promise<Machines | undefined>;
}

export const podKey = (namespace: string, name: string): string => `${namespace}/${name}`;

/**
 * Unlike the compiler, which must pick one, this takes the addresses of all sources together: status may still speak of the
 * last sandbox and annotations already of the next, and an address either of them names is not a leak.
 */
export function podFacts(pod: Pod): PodFacts {
  const annotations = pod.metadata.annotations ?? {};
  const texts = [
    ...(pod.status?.podIPs ?? []).map(({ ip }) => ip),
    pod.status?.podIP,
    ...(annotations[POD_IPS_ANNOTATION] ?? "").split(","),
    annotations[POD_IP_ANNOTATION],
  ];
  const addresses = new Set<string>();
  for (const text of texts) {
    const address = tryParseAddress(text?.split("/", 1)[0]?.trim() ?? "");
    if (address !== undefined) addresses.add(formatAddress(address));
  }
  return {
    node: pod.spec?.nodeName,
    finished: isFinished(pod),
    hostNetwork: pod.spec?.hostNetwork === true,
    addresses,
  };
}

export class DatastoreSource implements GcSource {
  readonly #client: DatastoreClient;

  constructor(client: DatastoreClient) {
    this.#client = client;
  }

  /**
   * Allocations first: a pod that is made while we read has no address we saw. Between the lists anything may change, which is why
   * nothing is done on the strength of one snapshot.
   */
  async snapshot(): Promise<GcWorld> {
    const client = this.#client;
    const [handles, affinities] = await Promise.all([client.list("IPAMHandle"), client.list("BlockAffinity")]);
    const blocks = await client.list("IPAMBlock");
    const [nodes, pods, config] = await Promise.all([client.list("Node"), client.list("Pod"), readConfig(client)]);
    return {
      blocks: blocks.items.filter(({ spec }) => spec.deleted !== true),
      handles: handles.items.filter(({ spec }) => spec.deleted !== true),
      affinities: affinities.items.filter(({ spec }) => !spec.deleted),
      nodes: new Set(nodes.items.map(({ metadata }) => metadata.name)),
      pods: new Map(
        pods.items.map((pod) => [podKey(pod.metadata.namespace ?? "", pod.metadata.name), podFacts(pod)] as const),
      ),
      config,
    };
  }

  machines(): Promise<Machines | undefined> {
    return listMachines(this.#client);
  }

  async pod(namespace: string, name: string): Promise<PodFacts | undefined> {
    try {
      return podFacts(await this.#client.get("Pod", { namespace, name }));
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async hasNode(name: string): Promise<boolean> {
    try {
      await this.#client.get("Node", { name });
      return true;
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return false;
      throw error;
    }
  }
}
