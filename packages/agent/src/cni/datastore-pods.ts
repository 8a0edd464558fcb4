/** Pod records through the datastore: what ADD reads of a pod, and the annotations upstream keeps its endpoint in (inventory §1.5, §6.1). */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { IpAddress } from "@calico-ts/net";
import { addressBits, formatAddress } from "@calico-ts/net";
import { hasCode } from "@calico-ts/std";
import type { PodRecord, PodRecords } from "./ports.ts";
import type { PodName } from "./request.ts";

const POD_IP = "cni.projectcalico.org/podIP";
const POD_IPS = "cni.projectcalico.org/podIPs";
const CONTAINER_ID = "cni.projectcalico.org/containerID";

export class DatastorePods implements PodRecords {
  readonly #client: DatastoreClient;

  readonly #node: string;

  constructor(client: DatastoreClient, node: string) {
    this.#client = client;
    this.#node = node;
  }

  async nodePodCidrs(): Promise<readonly string[]> {
    const { spec } = await this.#client.get("Node", { name: this.#node });
    return spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR]);
  }

  async get({ namespace, name }: PodName): Promise<PodRecord> {
    const [pod, space] = await Promise.all([
      this.#client.get("Pod", { namespace, name }),
      this.#client.get("Namespace", { name: namespace }),
    ]);
    return {
      uid: pod.metadata.uid ?? "",
      annotations: pod.metadata.annotations ?? {},
      namespaceAnnotations: space.metadata.annotations ?? {},
      namespaceLabels: space.metadata.labels ?? {},
    };
  }

  async record(
    { namespace, name }: PodName,
    uid: string,
    endpoint: { readonly containerId: string; readonly addresses: readonly IpAddress[] },
  ): Promise<void> {
    const cidrs = endpoint.addresses.map((address) => `${formatAddress(address)}/${addressBits(address.family)}`);
    const annotations = { [CONTAINER_ID]: endpoint.containerId, [POD_IP]: cidrs[0] ?? "", [POD_IPS]: cidrs.join(",") };
    await this.#client.patch("Pod", { namespace, name }, { metadata: { uid, annotations } }, { status: true });
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
}
