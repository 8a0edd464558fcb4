/** Finds the situation `default-pools.ts` decides on, and creates what it says. */
import type { DatastoreClient } from "@calico-ts/datastore";
import { prefixOf } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import { parse } from "yaml";
import { hostInterfaces } from "./autodetect/host.ts";
import { defaultPools } from "./default-pools.ts";
import { createIfMissing } from "./initialise.ts";
import type { NodeSettings } from "./settings.ts";

export interface CreatePoolsOptions {
  readonly client: DatastoreClient;
  readonly settings: NodeSettings;
  readonly randomBytes: (count: number) => Uint8Array;
  readonly log: Logger;
}

export async function createDefaultPools(options: CreatePoolsOptions, hasIpv6: boolean): Promise<void> {
  const { client, settings, log } = options;
  const existing = await client.list("IPPool");
  const pools = defaultPools({
    settings,
    existingCidrs: existing.items.map((pool) => pool.spec.cidr),
    hostSubnets: hostInterfaces().flatMap((one) =>
      one.addresses.map(({ address, length }) => prefixOf(address, length)),
    ),
    kubeadmPodSubnets: settings.pool4Cidr === "" || settings.pool6Cidr === "" ? await kubeadmPodSubnets(client) : [],
    hasIpv6,
    randomGlobalId: options.randomBytes(5),
  });
  for (const { name, spec } of pools) {
    const created = await createIfMissing(client, "IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name },
      spec: { ...spec, allowedUses: ["Workload", "Tunnel"] },
    });
    if (created) log.info("startup.pool_created", { name, cidr: spec.cidr });
  }
}

/** `networking.podSubnet` of kubeadm's own record of the cluster; none on clusters that kubeadm did not make. */
async function kubeadmPodSubnets(client: DatastoreClient): Promise<string[]> {
  try {
    const map = await client.get("ConfigMap", { namespace: "kube-system", name: "kubeadm-config" });
    const text = map.data?.["ClusterConfiguration"];
    if (text === undefined) return [];
    const config = parse(text) as { readonly networking?: { readonly podSubnet?: unknown } } | null;
    const subnets = config?.networking?.podSubnet;
    return typeof subnets === "string" ? subnets.split(",").map((subnet) => subnet.trim()) : [];
  } catch (error) {
    if (hasCode(error, "NOT_FOUND") || hasCode(error, "FORBIDDEN")) return [];
    throw error;
  }
}
