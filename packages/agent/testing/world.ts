/** Resources of a small cluster, as the API server would hold them, and ways to put them into a datastore. */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { KindMap, KindName } from "@calico-ts/model";
import { hasCode } from "@calico-ts/std";

export interface Entry {
  readonly kind: KindName;
  readonly resource: Readonly<Record<string, unknown>> & {
    readonly metadata: {
      readonly name: string;
      readonly namespace?: string;
      readonly uid?: string;
      readonly labels?: Readonly<Record<string, string>>;
      readonly annotations?: Readonly<Record<string, string>>;
    };
  };
}

const CNI = "cni.projectcalico.org/";

/** `n<number>` at 192.168.0.<number>, with a VXLAN tunnel address at the start of its block. */
export const node = (number: number): Entry => ({
  kind: "Node",
  resource: {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: `n${number}`,
      labels: { "kubernetes.io/hostname": `n${number}` },
      annotations: {
        "projectcalico.org/IPv4Address": `192.168.0.${number}/24`,
        "projectcalico.org/IPv4VXLANTunnelAddr": `10.65.${number}.1`,
      },
    },
    spec: {},
    status: { addresses: [{ type: "InternalIP", address: `192.168.0.${number}` }] },
  },
});

export const pool = (modes: { readonly vxlanMode?: string; readonly ipipMode?: string } = {}): Entry => ({
  kind: "IPPool",
  resource: {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "pool" },
    spec: { cidr: "10.65.0.0/16", blockSize: 26, natOutgoing: false, ...modes },
  },
});

/** The block 10.65.<number>.0/26 of node n<number>. */
export const block = (number: number): Entry => ({
  kind: "IPAMBlock",
  resource: {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMBlock",
    metadata: { name: `10-65-${number}-0-26` },
    spec: {
      cidr: `10.65.${number}.0/26`,
      affinity: `host:n${number}`,
      allocations: Array.from({ length: 64 }, () => null),
      unallocated: Array.from({ length: 64 }, (_, at) => at),
      attributes: [],
      strictAffinity: false,
    },
  },
});

export const namespace = (name: string, labels: Readonly<Record<string, string>> = {}): Entry => ({
  kind: "Namespace",
  resource: {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels: { "kubernetes.io/metadata.name": name, ...labels } },
    spec: {},
    status: {},
  },
});

export interface PodSpec {
  readonly name: string;
  readonly node: string;
  readonly address?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly uid?: string;
}

/** In namespace `default`; with an address, as CNI has recorded it. */
export const pod = (spec: PodSpec): Entry => ({
  kind: "Pod",
  resource: {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: spec.name,
      namespace: "default",
      ...(spec.uid === undefined ? {} : { uid: spec.uid }),
      labels: { app: spec.name, ...spec.labels },
      annotations:
        spec.address === undefined
          ? {}
          : {
              [`${CNI}podIP`]: `${spec.address}/32`,
              [`${CNI}podIPs`]: `${spec.address}/32`,
              [`${CNI}containerID`]: `c-${spec.name}`,
            },
    },
    spec: { nodeName: spec.node, containers: [{ name: "main", ports: [{ name: "web", containerPort: 8080 }] }] },
    status: { phase: "Running" },
  },
});

/** Pods labelled `app: <to>` are reachable from pods with the labels only. */
export const allowOnly = (name: string, to: string, from: Readonly<Record<string, string>> | undefined): Entry => ({
  kind: "KubernetesNetworkPolicy",
  resource: {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace: "default" },
    spec: {
      podSelector: { matchLabels: { app: to } },
      policyTypes: ["Ingress"],
      ingress: from === undefined ? [] : [{ from: [{ podSelector: { matchLabels: from } }] }],
    },
  },
});

export const felixConfiguration = (name: string, spec: Readonly<Record<string, unknown>>): Entry => ({
  kind: "FelixConfiguration",
  resource: { apiVersion: "projectcalico.org/v3", kind: "FelixConfiguration", metadata: { name }, spec },
});

export async function put(client: DatastoreClient, ...entries: readonly Entry[]): Promise<void> {
  for (const { kind, resource } of entries) {
    const wanted = resource as unknown as KindMap[typeof kind];
    try {
      await client.create(kind, wanted);
    } catch (error) {
      if (!hasCode(error, "ALREADY_EXISTS")) throw error;
      const { name, namespace: space } = resource.metadata;
      const have = await client.get(kind, { name, ...(space === undefined ? {} : { namespace: space }) });
      const { resourceVersion, uid } = have.metadata;
      await client.update(kind, {
        ...wanted,
        metadata: { ...resource.metadata, resourceVersion, uid },
      } as unknown as KindMap[typeof kind]);
    }
  }
}

export async function remove(client: DatastoreClient, ...entries: readonly Entry[]): Promise<void> {
  for (const { kind, resource } of entries) {
    const { name, namespace: space } = resource.metadata;
    await client.delete(kind, { name, ...(space === undefined ? {} : { namespace: space }) });
  }
}
