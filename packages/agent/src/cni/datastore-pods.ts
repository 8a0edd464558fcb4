/**
 * Pod records through the datastore: what ADD reads of a pod, and the annotations upstream keeps its endpoint in (inventory §1.5, §6.1).
 *
 * A hundred pods that start together are a hundred patches, and little else: a pod that the watch has shown is not asked for again, and one answer about
 * a namespace serves everybody who asked before the question went out. The watch's copy may lag, but it is of the very pod (uid) that the runtime
 * names, and the patch, which goes to that uid only, answers with the pod as it is: if it asks for something else by then, the ADD is undone and tried again.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { Namespace, Pod } from "@calico-ts/model";
import type { IpAddress } from "@calico-ts/net";
import { addressBits, formatAddress } from "@calico-ts/net";
import { CalicoError, hasCode } from "@calico-ts/std";
import { isLauncher, machineOf } from "./machines.ts";
import type { PodRecord, PodRecords } from "./ports.ts";
import type { PodName } from "./request.ts";

const POD_IP = "cni.projectcalico.org/podIP";
const POD_IPS = "cni.projectcalico.org/podIPs";
const CONTAINER_ID = "cni.projectcalico.org/containerID";

const ASKED_OF_CNI = "cni.projectcalico.org/";
const WRITTEN: readonly string[] = [POD_IP, POD_IPS, CONTAINER_ID];

export interface DatastorePodsOptions {
  readonly client: DatastoreClient;
  readonly node: string;
  /** The pod as the watch has shown it last. */
  readonly known?: (pod: PodName) => Pod | undefined;
}

export class DatastorePods implements PodRecords {
  readonly #client: DatastoreClient;
  readonly #node: string;
  readonly #known: (pod: PodName) => Pod | undefined;
  /** Questions that have not gone out yet. */
  readonly #namespaces = new Map<string, Promise<Namespace>>();
  readonly #asking = new Map<string, Promise<Namespace>>();

  constructor({ client, node, known = () => undefined }: DatastorePodsOptions) {
    this.#client = client;
    this.#node = node;
    this.#known = known;
  }

  async nodePodCidrs(): Promise<readonly string[]> {
    const { spec } = await this.#client.get("Node", { name: this.#node });
    return spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR]);
  }

  async get({ namespace, name }: PodName, uid: string | undefined): Promise<PodRecord> {
    const known = uid === undefined ? undefined : this.#known({ namespace, name });
    const [pod, space] = await Promise.all([
      known?.metadata.uid === uid && known !== undefined ? known : this.#client.get("Pod", { namespace, name }),
      this.#namespace(namespace),
    ]);
    const machine = isLauncher({ namespace, name }) ? await machineOf(this.#client, pod) : undefined;
    return {
      machine,
      uid: pod.metadata.uid ?? "",
      annotations: pod.metadata.annotations ?? {},
      namespaceAnnotations: space.metadata.annotations ?? {},
      namespaceLabels: space.metadata.labels ?? {},
    };
  }

  async record(
    { namespace, name }: PodName,
    read: PodRecord,
    endpoint: { readonly containerId: string; readonly addresses: readonly IpAddress[] },
  ): Promise<void> {
    const cidrs = endpoint.addresses.map((address) => `${formatAddress(address)}/${addressBits(address.family)}`);
    const annotations = { [CONTAINER_ID]: endpoint.containerId, [POD_IP]: cidrs[0] ?? "", [POD_IPS]: cidrs.join(",") };
    const change = { metadata: { uid: read.uid, annotations } };
    const { metadata } = await this.#client.patch("Pod", { namespace, name }, change, { status: true });
    if (asked(metadata.annotations ?? {}) === asked(read.annotations)) return;
    throw new CalicoError("CONFLICT", `the annotations of pod ${namespace}/${name} changed while it was connected`);
  }

  async forget({ namespace, name }: PodName, containerId: string): Promise<void> {
    try {
      const pod = await this.#client.get("Pod", { namespace, name });
      if (pod.metadata.annotations?.[CONTAINER_ID] !== containerId) return;
      const annotations = { [POD_IP]: "", [POD_IPS]: "" };
      await this.#client.patch(
        "Pod",
        { namespace, name },
        { metadata: { uid: pod.metadata.uid, annotations } },
        { status: true },
      );
    } catch (error) {
      // The pod, or the pod of that uid, is gone: nothing left to say about it.
      if (!hasCode(error, "NOT_FOUND") && !hasCode(error, "CONFLICT")) throw error;
    }
  }

  /** An answer to a question asked after the call: at most one is under way per namespace, and one waits for everybody who comes meanwhile. */
  #namespace(name: string): Promise<Namespace> {
    const waiting = this.#namespaces.get(name);
    if (waiting !== undefined) return waiting;
    const before = this.#asking.get(name) ?? Promise.resolve();
    const ask = async (): Promise<Namespace> => {
      this.#namespaces.delete(name);
      const asking = this.#client.get("Namespace", { name });
      this.#asking.set(name, asking);
      try {
        return await asking;
      } finally {
        if (this.#asking.get(name) === asking) this.#asking.delete(name);
      }
    };
    const answer = before.then(ask, ask);
    this.#namespaces.set(name, answer);
    return answer;
  }
}

/** What a pod wants of CNI, in comparable form. */
const asked = (annotations: Readonly<Record<string, string>>): string =>
  JSON.stringify(
    Object.entries(annotations)
      .filter(([key]) => key.startsWith(ASKED_OF_CNI) && !WRITTEN.includes(key))
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
