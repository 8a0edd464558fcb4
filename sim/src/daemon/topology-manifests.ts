/** What a topology says about the product, in the product's own kinds. */
import { formatPrefix } from "@calico-ts/net";
import type { JsonObject } from "@calico-ts/schema";
import type { Manifest } from "../manifests/manifest-files.ts";
import { formatAddress } from "@calico-ts/net";
import type { PoolPlan, TopologyPlan } from "../topology/plan.ts";

const API_VERSION = "projectcalico.org/v3";

export function topologyManifests({ pools, bgp, resources }: TopologyPlan): Manifest[] {
  const manifests = pools.map((pool) => manifest("IPPool", pool.name, poolSpec(pool)));
  if (bgp !== undefined) {
    manifests.push(
      manifest("BGPConfiguration", "default", { asNumber: bgp.as, nodeToNodeMeshEnabled: bgp.mesh }),
      ...bgp.peers.map(({ name, nodeSelector, address, as }) =>
        manifest("BGPPeer", name, { nodeSelector, peerIP: formatAddress(address), asNumber: as }),
      ),
    );
  }
  const written = new Set(resources.map(({ kind, name }) => `${kind} ${name}`));
  return [...manifests.filter(({ kind, name }) => !written.has(`${kind} ${name}`)), ...resources];
}

function poolSpec(pool: PoolPlan): JsonObject {
  const when = pool.mode === "crossSubnet" ? "CrossSubnet" : "Always";
  return {
    cidr: formatPrefix(pool.cidr),
    blockSize: pool.blockSize,
    ipipMode: pool.encapsulation === "ipip" ? when : "Never",
    vxlanMode: pool.encapsulation === "vxlan" ? when : "Never",
    natOutgoing: pool.natOutgoing,
    nodeSelector: pool.nodeSelector,
    disabled: pool.disabled,
  };
}

function manifest(kind: string, name: string, spec: JsonObject): Manifest {
  return {
    apiVersion: API_VERSION,
    kind,
    namespace: undefined,
    name,
    object: { apiVersion: API_VERSION, kind, metadata: { name }, spec },
    locate: (field, message) => ({
      file: `the topology's ${kind} ${name}`,
      ...(field === undefined ? {} : { field }),
      message,
    }),
  };
}
