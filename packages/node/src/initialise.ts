/**
 * What must exist in the datastore before a node can work, created by whichever node comes first: the built-in tiers, ClusterInformation
 * and the default configurations (inventory §9.2). Everything is create-if-missing: two nodes starting together agree.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { KindMap, KindName } from "@calico-ts/model";
import { hasCode } from "@calico-ts/std";

export interface InitialiseOptions {
  readonly client: DatastoreClient;
  readonly version: string;
  /** What this node adds to clusterType: `k8s`, and what CLUSTER_TYPE says. */
  readonly clusterTypes: readonly string[];
  readonly newGuid: () => string;
}

export async function initialiseDatastore(options: InitialiseOptions): Promise<void> {
  const { client } = options;
  for (const [name, order, defaultAction] of BUILT_IN_TIERS) {
    await createIfMissing(client, "Tier", {
      apiVersion: "projectcalico.org/v3",
      kind: "Tier",
      metadata: { name },
      spec: { order, defaultAction },
    });
  }
  await ensureClusterInformation(options);
  await createIfMissing(client, "FelixConfiguration", {
    apiVersion: "projectcalico.org/v3",
    kind: "FelixConfiguration",
    metadata: { name: "default" },
    spec: { logSeverityScreen: "Info", reportingInterval: "0s" },
  });
}

/** Orders and actions are pinned by the CRD's rules too (inventory §1.3). */
const BUILT_IN_TIERS = [
  ["kube-admin", 1_000, "Pass"],
  ["default", 1_000_000, "Deny"],
  ["kube-baseline", 10_000_000, "Pass"],
] as const;

async function ensureClusterInformation(options: InitialiseOptions): Promise<void> {
  const { client, version, clusterTypes } = options;
  const created = await createIfMissing(client, "ClusterInformation", {
    apiVersion: "projectcalico.org/v3",
    kind: "ClusterInformation",
    metadata: { name: "default" },
    spec: {
      clusterGUID: options.newGuid(),
      clusterType: [...new Set(clusterTypes)].join(","),
      calicoVersion: version,
      datastoreReady: true,
      variant: "Calico",
    },
  });
  if (created) return;
  const found = await client.get("ClusterInformation", { name: "default" });
  const types = [
    ...new Set([...(found.spec.clusterType ?? "").split(",").filter((type) => type !== ""), ...clusterTypes]),
  ].join(",");
  if (types === found.spec.clusterType && found.spec.calicoVersion === version) return;
  try {
    await client.update("ClusterInformation", {
      ...found,
      spec: { ...found.spec, clusterType: types, calicoVersion: version },
    });
  } catch (error) {
    // Another node that starts now writes the same.
    if (!hasCode(error, "CONFLICT")) throw error;
  }
}

/** True when this call made it. */
export async function createIfMissing<K extends KindName>(
  client: DatastoreClient,
  kind: K,
  resource: KindMap[K],
): Promise<boolean> {
  try {
    await client.get(kind, { name: resource.metadata.name ?? "" });
    return false;
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
  }
  try {
    await client.create(kind, resource);
    return true;
  } catch (error) {
    if (hasCode(error, "ALREADY_EXISTS")) return false;
    throw error;
  }
}
